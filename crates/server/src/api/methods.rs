//! Runs the commands of the API, one function for each method.

use std::sync::atomic::Ordering;

use tidings_api::command::{
    Disconnect, History, PublishFields, Refresh, StreamPosition, Subscribe, Unsubscribe,
};
use tidings_api::reply::{BroadcastResponse, ChannelJson, ClientJson, PublicationJson};
use tidings_api::{ApiError, Command, CommandReply, CommandResult};
use tidings_broker::BrokerError;
use tidings_hub::{Admission, Failure, SessionAction, SessionCommand};
use tidings_wire::client::Encoding;
use tidings_wire::{Epoch, HistoryQuery, Pattern, Position, code};
use tokio::sync::oneshot;

use super::Services;
use super::arguments::{check_channel, expiry_time};
use super::audit::{AuditedCommand, Caller};
use super::blocklist;
use super::connections;
use super::in_flight::{Completed, InFlight, PublishRequest, bytes};
use crate::router::{BrokerOperation, BrokerRequest};
use tidings_api::response_budget::{MAX_RESPONSE, Reservation};
use tidings_api::shared_poll::SharedPollPublish;
use tidings_cluster::ClusterError;
use tidings_cluster::ListBudget;
use tidings_shared_poll::Published;

/// Codes with which the API may disconnect a client: those of the protocol, and from 4000 those of the application.
const DISCONNECT_CODES: std::ops::RangeInclusive<u32> = 3000..=4999;

/// Runs one command. Returns the reply, and the memory that was reserved for it.
pub(super) async fn run(
    services: &Services,
    caller: &Caller,
    command: Command,
) -> (CommandReply, Reservation) {
    if !has_large_reply(&command) {
        return (execute(services, caller, command).await, Reservation::default());
    }
    match services.counters.responses.reserve(true).await {
        Ok(reserved) => (execute(services, caller, command).await, reserved),
        Err(error) => (Err(error), Reservation::default()),
    }
}

/// Whether the reply to a command can be large, so that memory must be reserved for it.
pub(super) fn has_large_reply(command: &Command) -> bool {
    match command {
        Command::History(request) => request.limit != 0,
        Command::MapReadState(request) => request.limit != 0,
        Command::MapReadStream(request) => request.limit != 0,
        Command::Presence(_) | Command::Channels(_) | Command::Connections(_) => true,
        _ => false,
    }
}

/// Runs one command, and records it in the audit log. Memory for a large reply must have been reserved.
pub(super) async fn execute(services: &Services, caller: &Caller, command: Command) -> CommandReply {
    let audited = AuditedCommand::from_command(services, &command);
    let timer = services.counters.durations.start(command.method().scope().into());
    let reply = dispatch(services, caller, command).await;
    drop(timer);
    if let Some(audited) = audited {
        audited.record(services, caller, &reply);
    }
    reply
}

async fn dispatch(services: &Services, caller: &Caller, command: Command) -> CommandReply {
    match command {
        Command::Publish(publish) => {
            let mut in_flight = InFlight::new(services);
            let (channel, fields) = publish.split();
            in_flight.publish(&channel, &PublishRequest::new(fields)?).await;
            publish_reply(&mut in_flight.finish().await.into_iter())
        }
        Command::Broadcast(broadcast) => {
            let (channels, fields) = broadcast.split();
            let publication = broadcast_request(&channels, fields)?;
            let mut in_flight = InFlight::new(services);
            for channel in &channels {
                in_flight.publish(channel, &publication).await;
            }
            Ok(broadcast_result(&mut in_flight.finish().await.into_iter(), channels.len()))
        }
        Command::Subscribe(request) => subscribe(services, request).await,
        Command::Unsubscribe(request) => unsubscribe(services, request).await,
        Command::Disconnect(request) => disconnect(services, request).await,
        Command::Refresh(request) => refresh(services, request).await,
        Command::Presence(request) => presence(services, &request.channel).await,
        Command::PresenceStats(request) => presence_stats(services, &request.channel).await,
        Command::History(request) => history(services, request).await,
        Command::HistoryRemove(request) => history_remove(services, &request.channel).await,
        Command::MapPublish(_)
        | Command::MapRemove(_)
        | Command::MapReadState(_)
        | Command::MapReadStream(_)
        | Command::MapStats(_)
        | Command::MapClear(_) => {
            let check = |name: &str| check_channel(services, name);
            tidings_map_api::run(&services.router.maps(), command, check, MAX_RESPONSE).await
        }
        Command::SharedPollPublish(request) => shared_poll_publish(services, request).await,
        Command::Channels(request) => channels(services, &request.pattern).await,
        Command::BlockUser(request) => blocklist::block_user(services, request).await,
        Command::UnblockUser(request) => blocklist::unblock_user(services, request).await,
        Command::RevokeToken(request) => blocklist::revoke_token(services, request).await,
        Command::InvalidateUserTokens(request) => blocklist::invalidate_user_tokens(services, request).await,
        Command::Connections(request) => connections::list(services, request).await,
        Command::Reload(_) => match services.reload("api", Some(caller)).await {
            Ok(report) => Ok(CommandResult::Reloaded(report)),
            Err(error) => Err(error.into()),
        },
        Command::Info(_) => Ok(CommandResult::Info { nodes: services.nodes.list() }),
    }
}

/// Counts the errors of a reply.
pub(super) fn count_errors(services: &Services, reply: &CommandReply) {
    let errors = match reply {
        Err(_) => 1,
        Ok(CommandResult::Broadcast { responses }) => {
            responses.iter().filter(|response| matches!(response, BroadcastResponse::Error(_))).count()
        }
        Ok(_) => return,
    };
    services.counters.errors.fetch_add(errors as u64, Ordering::Relaxed);
}

/// Validates a broadcast.
///
/// # Errors
/// The first invalid field. Channel names are checked one by one, when they are published to.
pub(super) fn broadcast_request(
    channels: &[String],
    fields: PublishFields,
) -> Result<PublishRequest, ApiError> {
    if channels.is_empty() {
        return Err(ApiError::bad_request("channels is required"));
    }
    PublishRequest::new(fields)
}

/// The reply to `publish`, from the next publication that has completed.
pub(super) fn publish_reply(completed: &mut impl Iterator<Item = Completed>) -> CommandReply {
    completed.next().unwrap_or_else(|| Err(code::INTERNAL.into())).map(CommandResult::Published)
}

/// The result of `broadcast`, from the next publications that have completed, one for each channel.
pub(super) fn broadcast_result(
    completed: &mut impl Iterator<Item = Completed>,
    channels: usize,
) -> CommandResult {
    let responses = completed.take(channels).map(|completed| match completed {
        Ok(result) => BroadcastResponse::Result(result),
        Err(error) => BroadcastResponse::Error(error),
    });
    CommandResult::Broadcast { responses: responses.collect() }
}

/// Bytes of a channel in a response besides its name.
const CHANNEL_OVERHEAD: usize = 24;

/// The error of a response that would be too large, with an alternative.
fn response_too_large(instead: &str) -> ApiError {
    let message =
        format!("{}: the answer takes more than {MAX_RESPONSE} bytes; {instead}", code::LIMIT_EXCEEDED.text);
    ApiError { code: code::LIMIT_EXCEEDED.number, message: message.into() }
}

/// The error of an option that is off for a channel.
fn option_is_off(option: &str) -> ApiError {
    let message = format!("{}: {option} is off for this channel", code::NOT_AVAILABLE.text).into();
    ApiError { code: code::NOT_AVAILABLE.number, message }
}

async fn subscribe(services: &Services, request: Subscribe) -> CommandReply {
    let Subscribe { user, channel, client, session, info, b64info, data, b64data, .. } = request;
    let (channel, _) = check_channel(services, &channel)?;
    let admission = Admission {
        info: bytes(info, &b64info, "b64info")?,
        data: bytes(data, &b64data, "b64data")?,
        expires: expiry_time(request.expire_at)?,
        overrides: request.overrides,
        ..Admission::default()
    };
    let since = request.recover_since.as_ref().map(position);
    command_sessions(
        services,
        user,
        client,
        session,
        SessionAction::Subscribe { channel, admission: Box::new(admission), since },
    )
    .await
}

async fn unsubscribe(services: &Services, request: Unsubscribe) -> CommandReply {
    let Unsubscribe { user, channel, client, session } = request;
    let channel = match &*channel {
        "" => None,
        name => Some(check_channel(services, name)?.0),
    };
    let code::Code { number, text, .. } = code::UNSUBSCRIBED_BY_SERVER;
    command_sessions(
        services,
        user,
        client,
        session,
        SessionAction::Unsubscribe { channel, code: number, reason: text.to_owned() },
    )
    .await
}

async fn disconnect(services: &Services, request: Disconnect) -> CommandReply {
    let Disconnect { user, client, session, whitelist, disconnect } = request;
    let (code, reason) = match disconnect.code {
        0 => (code::FORCE_DISCONNECT.number, code::FORCE_DISCONNECT.text.to_owned()),
        code if DISCONNECT_CODES.contains(&code) => {
            (u16::try_from(code).unwrap_or_default(), disconnect.reason)
        }
        other => {
            let (least, most) = DISCONNECT_CODES.into_inner();
            let reason = format!("disconnect.code must be {least} to {most}, not {other}");
            return Err(ApiError::bad_request(reason));
        }
    };
    command_sessions(
        services,
        user,
        client,
        session,
        SessionAction::Disconnect { code, reason, except: whitelist },
    )
    .await
}

async fn refresh(services: &Services, request: Refresh) -> CommandReply {
    let Refresh { user, client, session, expired, expire_at, has_info } = request;
    if has_info {
        return Err(ApiError::not_available("info"));
    }
    // Without user, client and session the command is for the connections of the anonymous user, as in Centrifugo.
    send_session_command(
        services,
        user,
        client,
        session,
        SessionAction::Refresh { expired, expires: expiry_time(expire_at)? },
    )
    .await
}

/// Sends a command to the sessions of a user, a client or a secret, one of which is required. Returns when a node has
/// received it.
async fn command_sessions(
    services: &Services,
    user: String,
    client: String,
    session: String,
    action: SessionAction,
) -> CommandReply {
    if user.is_empty() && client.is_empty() && session.is_empty() {
        return Err(ApiError::bad_request("user is required (or client, or session)"));
    }
    send_session_command(services, user, client, session, action).await
}

async fn send_session_command(
    services: &Services,
    user: String,
    client: String,
    session: String,
    action: SessionAction,
) -> CommandReply {
    let non_empty = |text: String| Some(text).filter(|text| !text.is_empty());
    let command = SessionCommand { user, client: non_empty(client), session: non_empty(session), action };
    services.nodes.bus.send_session_command(&command).await?;
    Ok(CommandResult::Done {})
}

/// Passes a value of a shared poll to its subscribers: on this node, or with `publish_enabled` on all of them.
async fn shared_poll_publish(services: &Services, request: SharedPollPublish) -> CommandReply {
    let (channel, options) = check_channel(services, &request.channel)?;
    let publication = tidings_shared_poll::publication(channel, &options, request)?;
    if options.shared_poll.is_some_and(|poll| poll.publishes_to_all) {
        services.nodes.bus.publish_value(publication).await?;
    } else if services.polls.publish(publication).await == Published::Refused {
        let message = format!(
            "{}: the values of shared polls take too much memory (shared_poll.max_total)",
            code::LIMIT_EXCEEDED.text
        );
        return Err(ApiError { code: code::LIMIT_EXCEEDED.number, message: message.into() });
    }
    Ok(CommandResult::Done {})
}

async fn presence(services: &Services, channel: &str) -> CommandReply {
    let (channel, options) = check_channel(services, channel)?;
    if !options.presence {
        return Err(option_is_off("presence"));
    }
    let broker = services.router.broker();
    services.router.evict_ended(&channel);
    let begun = services.router.broker_request(BrokerOperation::Presence, &channel);
    let members = request(begun, |done| broker.presence(&channel, MAX_RESPONSE, done)).await;
    let members = members.map_err(|error| match error {
        BrokerError::LimitExceeded(_) => response_too_large("ask for presence_stats"),
        other => other.into(),
    })?;
    let clients = members.iter().map(|info| (info.client.clone(), ClientJson::from(info)));
    Ok(CommandResult::Presence { presence: clients.collect() })
}

async fn presence_stats(services: &Services, channel: &str) -> CommandReply {
    let (channel, options) = check_channel(services, channel)?;
    if !options.presence {
        return Err(option_is_off("presence"));
    }
    let broker = services.router.broker();
    services.router.evict_ended(&channel);
    let begun = services.router.broker_request(BrokerOperation::PresenceStats, &channel);
    let stats = request(begun, |done| broker.presence_stats(&channel, done)).await?;
    Ok(CommandResult::PresenceStats { num_clients: stats.clients, num_users: stats.users })
}

async fn history(services: &Services, request: History) -> CommandReply {
    let (channel, options) = check_channel(services, &request.channel)?;
    if !options.has_history() || options.map.is_some() {
        return Err(option_is_off("history"));
    }
    // A negative limit means no limit (Centrifugo uses -1).
    let limit = usize::try_from(request.limit).ok();
    let since = request.since.as_ref().map(position);
    let query = HistoryQuery {
        limit,
        since,
        reverse: request.reverse,
        for_subscriber: false,
        max_bytes: MAX_RESPONSE,
    };
    let (done, page) = oneshot::channel();
    services.router.history(&channel, query, |outcome: Result<_, Failure>| {
        let _ = done.send(outcome);
    });
    let page = page.await.unwrap_or(Err(Failure::Unavailable)).map_err(ApiError::from)?;
    let publications = page.publications().ok_or(code::UNRECOVERABLE_POSITION)?;
    let Position { offset, epoch } = page.position();
    let format = options.publication_data_format;
    // The broker bounds the stored bytes; escapes and base64 make the response longer.
    let count = Encoding::Json.publications_within(publications.iter().map(|p| &**p), format, MAX_RESPONSE);
    Ok(CommandResult::History {
        publications: publications.iter().take(count).map(|p| PublicationJson::new(p, format)).collect(),
        offset: *offset,
        epoch: epoch.as_str().to_owned(),
    })
}

async fn history_remove(services: &Services, channel: &str) -> CommandReply {
    let (channel, options) = check_channel(services, channel)?;
    if !options.has_history() || options.map.is_some() {
        return Err(option_is_off("history"));
    }
    let broker = services.router.broker();
    let begun = services.router.broker_request(BrokerOperation::HistoryRemove, &channel);
    request(begun, |done| broker.history_remove(&channel, done)).await?;
    Ok(CommandResult::Done {})
}

async fn channels(services: &Services, pattern: &str) -> CommandReply {
    let pattern = match pattern {
        "" => None,
        glob => Some(Pattern::new(glob).map_err(|e| ApiError::bad_request(format_args!("pattern: {e}")))?),
    };
    let budget = ListBudget::new(MAX_RESPONSE, CHANNEL_OVERHEAD);
    let channels = services.nodes.channels(pattern.as_ref(), budget).await.map_err(|error| match error {
        ClusterError::TooLarge => response_too_large("ask with a pattern"),
        error => error.into(),
    })?;
    let channels = channels.into_iter().map(|(name, num_clients)| (name, ChannelJson { num_clients }));
    Ok(CommandResult::Channels { channels: channels.collect() })
}

/// Sends a request to the broker and waits for the response, which completes it.
async fn request<T>(
    request: BrokerRequest,
    send: impl FnOnce(Box<dyn FnOnce(Result<T, BrokerError>) + Send>),
) -> Result<T, BrokerError>
where
    T: Send + 'static,
{
    let (done, response) = oneshot::channel();
    send(Box::new(move |outcome| {
        let _ = done.send(outcome);
    }));
    let outcome = response.await.unwrap_or(Err(BrokerError::Unavailable));
    request.complete(&outcome);
    outcome
}

fn position(position: &StreamPosition) -> Position {
    Position { offset: position.offset, epoch: Epoch::from(&*position.epoch) }
}
