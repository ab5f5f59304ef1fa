//! The methods, one by one.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use tidings_broker::BrokerError;
use tidings_hub::{Admission, ChannelOverrides, Directive, Failure, NamespaceOptions, Order};
use tidings_wire::channel::RESERVED_PREFIX;
use tidings_wire::client::Encoding;
use tidings_wire::{Channel, Epoch, HistoryQuery, Pattern, Position, code};
use tokio::sync::oneshot;

use super::Services;
use super::answers::{ANSWER, Charge};
use super::blocking;
use super::command::{
    BoolValue, Command, Content, Disconnect, History, Override, Refresh, StreamPosition, Subscribe,
    Unsubscribe,
};
use super::in_flight::{Completed, InFlight, PublishRequest, bytes};
use super::reply::{self, ApiError, Client, Outcome, Publication, Reply, Response};
use tidings_cluster::ClusterError;
use tidings_cluster::ListBudget;

/// The codes that a client may be disconnected with: those of the protocol, and the application's own from 4000 on.
const FAREWELLS: std::ops::RangeInclusive<u32> = 3000..=4999;

/// Carries out one command. The answer to a reading one comes with the room that was taken for it.
pub(super) async fn run(services: &Services, command: Command) -> (Reply, Charge) {
    if !reads(&command) {
        return (carry_out(services, command).await, Charge::default());
    }
    match services.counters.answers.reserve(true).await {
        Ok(charge) => (carry_out(services, command).await, charge),
        Err(refused) => (Err(refused), Charge::default()),
    }
}

/// Whether a command's answer can be large.
pub(super) fn reads(command: &Command) -> bool {
    match command {
        Command::History(request) => request.limit != 0,
        Command::Presence(_) | Command::Channels(_) => true,
        _ => false,
    }
}

/// Carries out a command for whose answer there is room.
pub(super) async fn carry_out(services: &Services, command: Command) -> Reply {
    match command {
        Command::Publish(publish) => {
            let mut in_flight = InFlight::new(services);
            let (channel, content) = publish.split();
            in_flight.publish(&channel, &PublishRequest::new(content)?).await;
            one(&mut in_flight.finish().await.into_iter())
        }
        Command::Broadcast(broadcast) => {
            let (channels, content) = broadcast.split();
            let publication = broadcast_request(&channels, content)?;
            let mut in_flight = InFlight::new(services);
            for channel in &channels {
                in_flight.publish(channel, &publication).await;
            }
            Ok(many(&mut in_flight.finish().await.into_iter(), channels.len()))
        }
        Command::Subscribe(request) => subscribe(services, request).await,
        Command::Unsubscribe(request) => unsubscribe(services, request).await,
        Command::Disconnect(request) => disconnect(services, request).await,
        Command::Refresh(request) => refresh(services, request).await,
        Command::Presence(request) => presence(services, &request.channel).await,
        Command::PresenceStats(request) => presence_stats(services, &request.channel).await,
        Command::History(request) => history(services, request).await,
        Command::HistoryRemove(request) => history_remove(services, &request.channel).await,
        Command::Channels(request) => channels(services, &request.pattern).await,
        Command::BlockUser(request) => blocking::block_user(services, request).await,
        Command::UnblockUser(request) => blocking::unblock_user(services, request).await,
        Command::RevokeToken(request) => blocking::revoke_token(services, request).await,
        Command::InvalidateUserTokens(request) => blocking::invalidate_user_tokens(services, request).await,
        Command::Info(_) => Ok(Outcome::Info { nodes: services.nodes.list() }),
    }
}

/// Counts a command of this method that is about to be carried out.
pub(super) fn count(services: &Services, method: &str) {
    if let Some(at) = Command::METHODS.iter().position(|known| *known == method) {
        services.counters.commands[at].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts the errors of a reply.
pub(super) fn tally(services: &Services, reply: &Reply) {
    let errors = match reply {
        Err(_) => 1,
        Ok(Outcome::Broadcast { responses }) => {
            responses.iter().filter(|response| matches!(response, Response::Error(_))).count()
        }
        Ok(_) => return,
    };
    services.counters.errors.fetch_add(errors as u64, Ordering::Relaxed);
}

/// What a broadcast carries.
///
/// # Errors
/// What is wrong with it as a whole.
pub(super) fn broadcast_request(channels: &[String], content: Content) -> Result<PublishRequest, ApiError> {
    if channels.is_empty() {
        return Err(ApiError::bad("channels is required"));
    }
    PublishRequest::new(content)
}

/// The reply to a publication that has completed.
pub(super) fn one(completed: &mut impl Iterator<Item = Completed>) -> Reply {
    completed.next().unwrap_or_else(|| Err(code::INTERNAL.into())).map(Outcome::Published)
}

/// The reply to a broadcast whose publications have.
pub(super) fn many(completed: &mut impl Iterator<Item = Completed>, channels: usize) -> Outcome {
    let responses = completed.take(channels).map(|completed| match completed {
        Ok(result) => Response::Result(result),
        Err(error) => Response::Error(error),
    });
    Outcome::Broadcast { responses: responses.collect() }
}

/// A channel that a request names, and its options.
///
/// # Errors
/// When it is missing or none, of an unknown namespace, or the server's own.
pub(super) fn known_channel<'a>(
    services: &'a Services,
    name: &str,
) -> Result<(Channel, &'a NamespaceOptions), ApiError> {
    if name.is_empty() {
        return Err(ApiError::bad("channel is required"));
    }
    let channel = Channel::new(name).map_err(ApiError::bad)?;
    if name.starts_with(RESERVED_PREFIX) {
        return Err(code::PERMISSION_DENIED.into());
    }
    let options = services.router.options(&channel).ok_or(code::UNKNOWN_CHANNEL)?;
    Ok((channel, options))
}

/// What a channel's entry in an answer takes besides its name.
const CHANNEL: usize = 24;

/// That an answer is too large as a whole, and what to do.
fn too_large(instead: &str) -> ApiError {
    let message =
        format!("{}: the answer takes more than {ANSWER} bytes; {instead}", code::LIMIT_EXCEEDED.text);
    ApiError { code: code::LIMIT_EXCEEDED.number, message: message.into() }
}

/// That something is not switched on for a channel.
fn switched_off(option: &str) -> ApiError {
    let message = format!("{}: {option} is off for this channel", code::NOT_AVAILABLE.text).into();
    ApiError { code: code::NOT_AVAILABLE.number, message }
}

async fn subscribe(services: &Services, request: Subscribe) -> Reply {
    let Subscribe { user, channel, client, session, info, b64info, data, b64data, .. } = request;
    let (channel, _) = known_channel(services, &channel)?;
    let switch = |value: Option<BoolValue>| value.map(|value| value.value);
    let Override { presence, join_leave, force_push_join_leave, force_positioning, force_recovery } =
        request.overrides;
    let admission = Admission {
        info: bytes(info, &b64info, "b64info")?,
        data: bytes(data, &b64data, "b64data")?,
        expires: time(request.expire_at)?,
        overrides: ChannelOverrides {
            presence: switch(presence),
            join_leave: switch(join_leave),
            force_push_join_leave: switch(force_push_join_leave),
            force_recovery: switch(force_recovery),
            force_positioning: switch(force_positioning),
        },
        token: None,
    };
    let since = request.recover_since.as_ref().map(position);
    order(
        services,
        user,
        client,
        session,
        Order::Subscribe { channel, admission: Box::new(admission), since },
    )
    .await
}

async fn unsubscribe(services: &Services, request: Unsubscribe) -> Reply {
    let Unsubscribe { user, channel, client, session } = request;
    let channel = match &*channel {
        "" => None,
        name => Some(known_channel(services, name)?.0),
    };
    let code::Code { number, text, .. } = code::UNSUBSCRIBED_BY_SERVER;
    order(
        services,
        user,
        client,
        session,
        Order::Unsubscribe { channel, code: number, reason: text.to_owned() },
    )
    .await
}

async fn disconnect(services: &Services, request: Disconnect) -> Reply {
    let Disconnect { user, client, session, whitelist, disconnect } = request;
    let (code, reason) = match disconnect.code {
        0 => (code::FORCE_DISCONNECT.number, code::FORCE_DISCONNECT.text.to_owned()),
        code if FAREWELLS.contains(&code) => (u16::try_from(code).unwrap_or_default(), disconnect.reason),
        other => {
            let (least, most) = FAREWELLS.into_inner();
            let why = format!("disconnect.code must be {least} to {most}, not {other}");
            return Err(ApiError::bad(why));
        }
    };
    order(services, user, client, session, Order::Disconnect { code, reason, except: whitelist }).await
}

async fn refresh(services: &Services, request: Refresh) -> Reply {
    let Refresh { user, client, session, expired, expire_at } = request;
    // Without any of the three it is for the connections of the anonymous user, as in Centrifugo.
    send(services, user, client, session, Order::Refresh { expired, expires: time(expire_at)? }).await
}

/// Sends an order to the sessions it is for; done when it is on its way to every node.
async fn order(services: &Services, user: String, client: String, session: String, order: Order) -> Reply {
    if user.is_empty() && client.is_empty() && session.is_empty() {
        return Err(ApiError::bad("user is required (or client, or session)"));
    }
    send(services, user, client, session, order).await
}

async fn send(services: &Services, user: String, client: String, session: String, order: Order) -> Reply {
    let named = |text: String| Some(text).filter(|text| !text.is_empty());
    let directive = Directive { user, client: named(client), session: named(session), order };
    services.nodes.bus.order(&directive).await?;
    Ok(Outcome::Done {})
}

async fn presence(services: &Services, channel: &str) -> Reply {
    let (channel, options) = known_channel(services, channel)?;
    if !options.presence {
        return Err(switched_off("presence"));
    }
    let broker = services.router.broker();
    services.router.evict_ended(&channel);
    let members =
        asked(|done| broker.presence(&channel, ANSWER, done)).await.map_err(|error| match error {
            BrokerError::LimitExceeded(_) => too_large("ask for presence_stats"),
            other => other.into(),
        })?;
    let clients = members.iter().map(|info| (info.client.clone(), Client::from(info)));
    Ok(Outcome::Presence { presence: clients.collect() })
}

async fn presence_stats(services: &Services, channel: &str) -> Reply {
    let (channel, options) = known_channel(services, channel)?;
    if !options.presence {
        return Err(switched_off("presence"));
    }
    let broker = services.router.broker();
    services.router.evict_ended(&channel);
    let stats = asked(|done| broker.presence_stats(&channel, done)).await?;
    Ok(Outcome::PresenceStats { num_clients: stats.clients, num_users: stats.users })
}

async fn history(services: &Services, request: History) -> Reply {
    let (channel, options) = known_channel(services, &request.channel)?;
    if !options.has_history() {
        return Err(switched_off("history"));
    }
    // Any negative limit is none (in Centrifugo it is -1).
    let limit = usize::try_from(request.limit).ok();
    let since = request.since.as_ref().map(position);
    let query = HistoryQuery { limit, since, reverse: request.reverse, heard: false, max_bytes: ANSWER };
    let (done, read) = oneshot::channel();
    services.router.history(&channel, query, |outcome: Result<_, Failure>| {
        let _ = done.send(outcome);
    });
    let read = read.await.unwrap_or(Err(Failure::Unavailable)).map_err(ApiError::from)?;
    let publications = read.publications().ok_or(code::UNRECOVERABLE_POSITION)?;
    let Position { offset, epoch } = read.position();
    let format = options.publication_data_format;
    // What was read is bounded as it is stored; escapes and base 64 make it longer.
    let count = Encoding::Json.publications_within(publications.iter().map(|p| &**p), format, ANSWER);
    Ok(Outcome::History {
        publications: publications.iter().take(count).map(|p| Publication::new(p, format)).collect(),
        offset: *offset,
        epoch: epoch.as_str().to_owned(),
    })
}

async fn history_remove(services: &Services, channel: &str) -> Reply {
    let (channel, options) = known_channel(services, channel)?;
    if !options.has_history() {
        return Err(switched_off("history"));
    }
    let broker = services.router.broker();
    asked(|done| broker.history_remove(&channel, done)).await?;
    Ok(Outcome::Done {})
}

async fn channels(services: &Services, pattern: &str) -> Reply {
    let pattern = match pattern {
        "" => None,
        glob => Some(Pattern::new(glob).map_err(|e| ApiError::bad(format_args!("pattern: {e}")))?),
    };
    let budget = ListBudget::new(ANSWER, CHANNEL);
    let channels = services.nodes.channels(pattern.as_ref(), budget).await.map_err(|error| match error {
        ClusterError::TooLarge => too_large("ask with a pattern"),
        error => error.into(),
    })?;
    let channels = channels.into_iter().map(|(name, num_clients)| (name, reply::Channel { num_clients }));
    Ok(Outcome::Channels { channels: channels.collect() })
}

/// Asks the broker, and waits for what it says.
async fn asked<T>(ask: impl FnOnce(Box<dyn FnOnce(Result<T, BrokerError>) + Send>)) -> Result<T, BrokerError>
where
    T: Send + 'static,
{
    let (done, answer) = oneshot::channel();
    ask(Box::new(move |outcome| {
        let _ = done.send(outcome);
    }));
    answer.await.unwrap_or(Err(BrokerError::Unavailable))
}

fn position(position: &StreamPosition) -> Position {
    Position { offset: position.offset, epoch: Epoch::from(&*position.epoch) }
}

/// A time in Unix seconds; zero is none.
///
/// # Errors
/// When it is over.
pub(super) fn time(seconds: i64) -> Result<Option<u64>, ApiError> {
    if seconds == 0 {
        return Ok(None);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > now => Ok(Some(seconds)),
        _ => Err(ApiError::bad("expire_at must be a time in the future, in Unix seconds")),
    }
}
