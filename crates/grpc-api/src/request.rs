//! Messages of requests as commands.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use tidings_api::command::{self, MAX_CHANNELS, MAX_COMMANDS, PublishFields};
use tidings_api::map::{self, KeyModeField};
use tidings_api::shared_poll::SharedPollPublish;
use tidings_api::{Batch, BatchItem, Command, CommandMethod};
use tidings_grpc::messages::api;
use tidings_grpc::{Code, Status, fields};
use tidings_wire::grant::ChannelOverrides;

use crate::rpc::tag;

/// The field of the commands in a batch.
const COMMANDS: u32 = 1;
/// The field of the channels in a broadcast.
const CHANNELS: u32 = 1;

/// `BatchRequest` without its commands.
#[derive(Clone, PartialEq, Message)]
struct BatchOptions {
    #[prost(bool, tag = "2")]
    parallel: bool,
}

/// The command in the message of a request.
///
/// # Errors
/// [`Code::InvalidArgument`] for a message that cannot be decoded, or has a value that the command cannot have.
pub fn command(method: CommandMethod, message: Bytes) -> Result<Command, Status> {
    Ok(match method {
        CommandMethod::Publish => publish(decode(message)?),
        CommandMethod::Broadcast => {
            count_channels(message.clone(), &mut 0)?;
            broadcast(decode(message)?)
        }
        CommandMethod::Subscribe => subscribe(decode(message)?),
        CommandMethod::Unsubscribe => unsubscribe(decode(message)?),
        CommandMethod::Disconnect => disconnect(decode(message)?),
        CommandMethod::Refresh => refresh(decode(message)?),
        CommandMethod::Presence => presence(decode(message)?),
        CommandMethod::PresenceStats => presence_stats(decode(message)?),
        CommandMethod::History => history(decode(message)?),
        CommandMethod::HistoryRemove => history_remove(decode(message)?),
        CommandMethod::MapPublish => map_publish(decode(message)?)?,
        CommandMethod::MapRemove => map_remove(decode(message)?),
        CommandMethod::MapReadState => map_read_state(decode(message)?),
        CommandMethod::MapReadStream => map_read_stream(decode(message)?),
        CommandMethod::MapStats => map_stats(decode(message)?),
        CommandMethod::MapClear => map_clear(decode(message)?),
        CommandMethod::SharedPollPublish => shared_poll_publish(decode(message)?),
        CommandMethod::Channels => channels(decode(message)?),
        CommandMethod::Info => info(decode(message)?),
        CommandMethod::Connections => connections(decode(message)?)?,
        CommandMethod::BlockUser => block_user(decode(message)?),
        CommandMethod::UnblockUser => unblock_user(decode(message)?),
        CommandMethod::RevokeToken => revoke_token(decode(message)?),
        CommandMethod::InvalidateUserTokens => invalidate_user_tokens(decode(message)?),
        CommandMethod::Reload => reload(decode(message)?),
    })
}

/// The commands in the message of `Batch`.
///
/// # Errors
/// [`Code::InvalidArgument`] as [`command()`], and for more than [`MAX_COMMANDS`].
pub fn batch(message: Bytes) -> Result<Batch, Status> {
    let BatchOptions { parallel } = decode(message.clone())?;
    let mut commands = Vec::new();
    // One at a time: an empty command is two bytes here, and kilobytes when it is decoded.
    fields::visit(message, COMMANDS, |command| {
        if commands.len() == MAX_COMMANDS {
            return Err(invalid(format!("more than {MAX_COMMANDS} commands")));
        }
        check_channels(&command)?;
        commands.push(item(decode(command)?)?);
        Ok(())
    })?;
    Ok(Batch { commands, parallel: Some(parallel) })
}

/// Rejects a command of a batch with more than [`MAX_CHANNELS`] channels of a broadcast before it is decoded.
fn check_channels(command: &Bytes) -> Result<(), Status> {
    let mut channels = 0;
    fields::visit(command.clone(), tag(CommandMethod::Broadcast), |broadcast| {
        count_channels(broadcast, &mut channels)
    })
}

/// Counts the channels of a broadcast.
///
/// # Errors
/// [`Code::InvalidArgument`] above [`MAX_CHANNELS`].
fn count_channels(broadcast: Bytes, channels: &mut usize) -> Result<(), Status> {
    fields::visit(broadcast, CHANNELS, |_| {
        *channels += 1;
        if *channels > MAX_CHANNELS {
            Err(invalid(format!("more than {MAX_CHANNELS} channels")))
        } else {
            Ok(())
        }
    })
}

/// A command of a batch.
fn item(command: api::Command) -> Result<BatchItem, Status> {
    let commands = [
        command.publish.map(publish).map(Ok),
        command.broadcast.map(broadcast).map(Ok),
        command.subscribe.map(subscribe).map(Ok),
        command.unsubscribe.map(unsubscribe).map(Ok),
        command.disconnect.map(disconnect).map(Ok),
        command.presence.map(presence).map(Ok),
        command.presence_stats.map(presence_stats).map(Ok),
        command.history.map(history).map(Ok),
        command.history_remove.map(history_remove).map(Ok),
        command.info.map(info).map(Ok),
        command.refresh.map(refresh).map(Ok),
        command.channels.map(channels).map(Ok),
        command.connections.map(connections),
        command.block_user.map(block_user).map(Ok),
        command.unblock_user.map(unblock_user).map(Ok),
        command.revoke_token.map(revoke_token).map(Ok),
        command.invalidate_user_tokens.map(invalidate_user_tokens).map(Ok),
        command.map_publish.map(map_publish),
        command.map_remove.map(map_remove).map(Ok),
        command.map_read_state.map(map_read_state).map(Ok),
        command.map_read_stream.map(map_read_stream).map(Ok),
        command.map_stats.map(map_stats).map(Ok),
        command.map_clear.map(map_clear).map(Ok),
        command.shared_poll_publish.map(shared_poll_publish).map(Ok),
        command.reload.map(reload).map(Ok),
    ];
    let mut commands = commands.into_iter().flatten();
    match (commands.next(), commands.next()) {
        (None, _) => Ok(BatchItem::Unknown),
        (Some(command), None) => command.map(BatchItem::Command),
        (Some(_), Some(_)) => Ok(BatchItem::Several),
    }
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| invalid(format!("the message cannot be decoded: {error}")))
}

fn invalid(reason: impl Into<String>) -> Status {
    Status::new(Code::InvalidArgument, reason)
}

/// The bytes of a field in base64, or `None` without any. `encoded` takes precedence.
fn base64(bytes: &[u8], encoded: String) -> Option<String> {
    match (encoded.is_empty(), bytes.is_empty()) {
        (false, _) => Some(encoded),
        (true, false) => Some(STANDARD.encode(bytes)),
        (true, true) => None,
    }
}

fn publish(request: api::PublishRequest) -> Command {
    let fields = PublishFields {
        data: None,
        b64data: base64(&request.data, request.b64data),
        skip_history: request.skip_history,
        tags: request.tags,
        delta: request.delta,
        idempotency_key: request.idempotency_key,
        version: request.version,
    };
    Command::Publish(command::Publish::new(request.channel, fields))
}

fn broadcast(request: api::BroadcastRequest) -> Command {
    let fields = PublishFields {
        data: None,
        b64data: base64(&request.data, request.b64data),
        skip_history: request.skip_history,
        tags: request.tags,
        delta: request.delta,
        idempotency_key: request.idempotency_key,
        version: request.version,
    };
    Command::Broadcast(command::Broadcast::new(request.channels, fields))
}

fn position(position: api::StreamPosition) -> command::StreamPosition {
    command::StreamPosition { offset: position.offset, epoch: position.epoch }
}

fn subscribe(request: api::SubscribeRequest) -> Command {
    let overrides = request.r#override.unwrap_or_default();
    let value = |value: Option<api::BoolValue>| value.map(|value| value.value);
    Command::Subscribe(command::Subscribe {
        user: request.user,
        channel: request.channel,
        client: request.client,
        session: request.session,
        info: None,
        b64info: base64(&request.info, request.b64info).unwrap_or_default(),
        data: None,
        b64data: base64(&request.data, request.b64data).unwrap_or_default(),
        expire_at: request.expire_at,
        recover_since: request.recover_since.map(position),
        overrides: ChannelOverrides {
            presence: value(overrides.presence),
            join_leave: value(overrides.join_leave),
            force_push_join_leave: value(overrides.force_push_join_leave),
            force_recovery: value(overrides.force_recovery),
            force_positioning: value(overrides.force_positioning),
        },
    })
}

fn unsubscribe(request: api::UnsubscribeRequest) -> Command {
    let api::UnsubscribeRequest { channel, user, client, session } = request;
    Command::Unsubscribe(command::Unsubscribe { user, channel, client, session })
}

fn disconnect(request: api::DisconnectRequest) -> Command {
    let api::DisconnectRequest { user, disconnect, client, whitelist, session } = request;
    let api::Disconnect { code, reason } = disconnect.unwrap_or_default();
    let disconnect = command::DisconnectReason { code, reason };
    Command::Disconnect(command::Disconnect { user, client, session, whitelist, disconnect })
}

fn refresh(request: api::RefreshRequest) -> Command {
    let api::RefreshRequest { user, client, expired, expire_at, info, session } = request;
    let has_info = !info.is_empty();
    Command::Refresh(command::Refresh { user, client, session, expired, expire_at, has_info })
}

fn presence(request: api::PresenceRequest) -> Command {
    Command::Presence(command::Presence { channel: request.channel })
}

fn presence_stats(request: api::PresenceStatsRequest) -> Command {
    Command::PresenceStats(command::PresenceStats { channel: request.channel })
}

fn history(request: api::HistoryRequest) -> Command {
    let api::HistoryRequest { channel, limit, since, reverse } = request;
    let since = since.map(position);
    Command::History(command::History { channel, limit: limit.into(), since, reverse })
}

fn history_remove(request: api::HistoryRemoveRequest) -> Command {
    Command::HistoryRemove(command::HistoryRemove { channel: request.channel })
}

fn map_publish(request: api::MapPublishRequest) -> Result<Command, Status> {
    let key_mode = match &*request.key_mode {
        "" => KeyModeField::Always,
        "if_new" => KeyModeField::IfNew,
        "if_exists" => KeyModeField::IfExists,
        _ => return Err(invalid("key_mode must be empty, if_new or if_exists")),
    };
    Ok(Command::MapPublish(map::MapPublish {
        channel: request.channel,
        key: request.key,
        data: None,
        b64data: base64(&request.data, request.b64data),
        stream_data: None,
        b64stream_data: base64(&request.stream_data, request.b64stream_data).unwrap_or_default(),
        tags: request.tags,
        score: request.score,
        key_mode,
        idempotency_key: request.idempotency_key,
        version: request.version,
        version_epoch: request.version_epoch,
    }))
}

fn map_remove(request: api::MapRemoveRequest) -> Command {
    let api::MapRemoveRequest { channel, key, tags, idempotency_key } = request;
    Command::MapRemove(map::MapRemove { channel, key, tags, idempotency_key })
}

fn map_read_state(request: api::MapReadStateRequest) -> Command {
    let api::MapReadStateRequest { channel, cursor, limit, key, asc, revision_offset, revision_epoch } =
        request;
    Command::MapReadState(map::MapReadState {
        channel,
        cursor,
        limit,
        key,
        asc,
        revision_offset,
        revision_epoch,
    })
}

fn map_read_stream(request: api::MapReadStreamRequest) -> Command {
    let api::MapReadStreamRequest { channel, since_offset, since_epoch, limit, reverse } = request;
    Command::MapReadStream(map::MapReadStream { channel, since_offset, since_epoch, limit, reverse })
}

fn map_stats(request: api::MapStatsRequest) -> Command {
    Command::MapStats(map::MapStats { channel: request.channel })
}

fn map_clear(request: api::MapClearRequest) -> Command {
    Command::MapClear(map::MapClear { channel: request.channel })
}

fn shared_poll_publish(request: api::SharedPollPublishRequest) -> Command {
    let api::SharedPollPublishRequest { channel, key, data, b64data, version, epoch } = request;
    let b64data = base64(&data, b64data);
    Command::SharedPollPublish(SharedPollPublish { channel, key, data: None, b64data, version, epoch })
}

fn channels(request: api::ChannelsRequest) -> Command {
    Command::Channels(command::Channels { pattern: request.pattern })
}

fn info(_: api::InfoRequest) -> Command {
    Command::Info(command::Info {})
}

fn connections(request: api::ConnectionsRequest) -> Result<Command, Status> {
    let api::ConnectionsRequest { user, expression, client, channel, label_filter, limit, cursor } = request;
    let label_filter = match &*label_filter {
        "" => None,
        json => Some(serde_json::from_str(json).map_err(|_| invalid("label_filter is no JSON object"))?),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let request = command::Connections { user, client, channel, label_filter, limit, cursor, expression };
    Ok(Command::Connections(request))
}

fn block_user(request: api::BlockUserRequest) -> Command {
    let api::BlockUserRequest { expire_at, user } = request;
    Command::BlockUser(command::BlockUser { user, expire_at })
}

fn unblock_user(request: api::UnblockUserRequest) -> Command {
    Command::UnblockUser(command::UnblockUser { user: request.user })
}

fn revoke_token(request: api::RevokeTokenRequest) -> Command {
    let api::RevokeTokenRequest { expire_at, uid } = request;
    Command::RevokeToken(command::RevokeToken { jti: uid, expire_at })
}

fn invalidate_user_tokens(request: api::InvalidateUserTokensRequest) -> Command {
    let api::InvalidateUserTokensRequest { expire_at, user, issued_before, channel } = request;
    Command::InvalidateUserTokens(command::InvalidateUserTokens { user, issued_before, expire_at, channel })
}

fn reload(_: api::ReloadRequest) -> Command {
    Command::Reload(command::Reload {})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason<T>(outcome: Result<T, Status>) -> (Code, String) {
        let Err(Status { code, message }) = outcome else { panic!("the request was accepted") };
        (code, message)
    }

    /// A field 1 without bytes: an empty command of a batch, or the empty name of a channel in a broadcast.
    fn empty_fields(count: usize) -> Bytes {
        [0x0a_u8, 0].repeat(count).into()
    }

    #[test]
    fn a_batch_with_too_many_commands_is_refused_before_they_are_decoded() {
        let accepted = batch(empty_fields(MAX_COMMANDS)).expect("as many as a request may have");
        assert_eq!(accepted.commands.len(), MAX_COMMANDS);
        let too_many = (Code::InvalidArgument, format!("more than {MAX_COMMANDS} commands"));
        // The command beyond the limit cannot be decoded: that is not noticed.
        let message = [&empty_fields(MAX_COMMANDS)[..], b"\x0a\x01\xff"].concat();
        assert_eq!(reason(batch(message.into())), too_many);
        assert_eq!(reason(batch(empty_fields(2_000_000))), too_many);
    }

    #[test]
    fn a_broadcast_with_too_many_channels_is_refused_before_they_are_decoded() {
        let too_many = (Code::InvalidArgument, format!("more than {MAX_CHANNELS} channels"));
        // A name that is not UTF-8 follows, which is not noticed.
        let broadcast = [&empty_fields(MAX_CHANNELS)[..], b"\x0a\x01\xff"].concat();
        assert_eq!(reason(command(CommandMethod::Broadcast, broadcast.clone().into())), too_many);
        // In a batch, also when the fields of one broadcast are in two parts.
        let parts = broadcast.split_at(10);
        let in_batch = api::BatchRequest::default().encode_to_vec();
        let field = |tag: u32, bytes: &[u8]| {
            let mut out = Vec::new();
            prost::encoding::bytes::encode(tag, &bytes.to_vec(), &mut out);
            out
        };
        let whole = [field(5, parts.0), field(5, parts.1)].concat();
        let message = [in_batch, field(COMMANDS, &whole)].concat();
        assert_eq!(reason(batch(message.into())), too_many);
    }

    #[test]
    fn a_batch_has_its_commands_in_their_order_and_its_mode() {
        let publish = |channel: &str| api::Command {
            publish: Some(api::PublishRequest {
                channel: channel.to_owned(),
                ..api::PublishRequest::default()
            }),
            ..api::Command::default()
        };
        let request = api::BatchRequest { commands: vec![publish("a"), publish("b")], parallel: true };
        let batch = batch(request.encode_to_vec().into()).expect("a batch");
        let channels = batch.commands.into_iter().map(|item| match item {
            BatchItem::Command(Command::Publish(publish)) => publish.channel,
            other => panic!("{other:?}"),
        });
        assert_eq!(channels.collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(batch.parallel, Some(true));
    }
}
