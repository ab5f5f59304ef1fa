//! Replies to commands as messages.
//!
//! The responses of all methods have the same two fields, `error` (1) and `result` (2), and a reply of a batch has the result in
//! the field of its method: so a result is encoded once, and the fields around it here.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tidings_api::reply::{BroadcastResponse, ClientJson, ConnectionJson, PublicationJson, PublishResult};
use tidings_api::{ApiError, CommandMethod, CommandReply, CommandResult};
use tidings_grpc::frame;
use tidings_grpc::messages::api;

use crate::rpc::tag;

/// The field of an error in a response, and that of a result.
const ERROR: u32 = 1;
const RESULT: u32 = 2;
/// The field of an error in a reply of a batch.
const REPLY_ERROR: u32 = 2;
/// The field of the replies in the response to a batch.
const REPLIES: u32 = 1;

/// Encodes the response to one command, with its prefix ([`frame`]).
pub fn encode_response(reply: &CommandReply) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_with(&mut out, |out| match reply {
        Ok(result) => field(RESULT, &encode_result(result), out),
        Err(error) => field(ERROR, &self::error(error).encode_to_vec(), out),
    });
    out
}

/// Encodes the reply to a command of a batch. `method` is `None` for a command that is none.
pub fn encode_reply(method: Option<CommandMethod>, reply: &CommandReply) -> Vec<u8> {
    let mut out = Vec::new();
    match (reply, method) {
        (Ok(result), Some(method)) => field(tag(method), &encode_result(result), &mut out),
        (Ok(_), None) => {}
        (Err(error), _) => field(REPLY_ERROR, &self::error(error).encode_to_vec(), &mut out),
    }
    out
}

/// Joins the replies of a batch to its response.
#[derive(Debug, Default)]
pub struct BatchWriter(Vec<u8>);

impl BatchWriter {
    /// Adds a reply ([`encode_reply`]).
    pub fn add(&mut self, reply: &[u8]) {
        field(REPLIES, reply, &mut self.0);
    }

    /// The response, with its prefix ([`frame`]).
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(frame::PREFIX + self.0.len());
        frame::write_with(&mut out, |out| out.extend_from_slice(&self.0));
        out
    }
}

/// Appends a field with a message.
fn field(tag: u32, message: &[u8], out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(message.len() as u64, out);
    out.extend_from_slice(message);
}

fn error(error: &ApiError) -> api::Error {
    api::Error { code: error.code.into(), message: error.message.clone().into_owned() }
}

/// A number in a field of 32 bits.
fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn encode_result(result: &CommandResult) -> Vec<u8> {
    match result {
        CommandResult::Published(published) => publish(published).encode_to_vec(),
        CommandResult::Broadcast { responses } => {
            let responses = responses.iter().map(|response| match response {
                BroadcastResponse::Result(result) => {
                    api::PublishResponse { result: Some(publish(result)), error: None }
                }
                BroadcastResponse::Error(error) => {
                    api::PublishResponse { result: None, error: Some(self::error(error)) }
                }
            });
            api::BroadcastResult { responses: responses.collect() }.encode_to_vec()
        }
        CommandResult::Presence { presence } => {
            let presence = presence.iter().map(|(id, client)| (id.clone(), self::client(client)));
            api::PresenceResult { presence: presence.collect() }.encode_to_vec()
        }
        CommandResult::PresenceStats { num_clients, num_users } => {
            api::PresenceStatsResult { num_clients: short(*num_clients), num_users: short(*num_users) }
                .encode_to_vec()
        }
        CommandResult::History { publications, offset, epoch } => {
            let publications = publications.iter().map(publication).collect();
            api::HistoryResult { publications, offset: *offset, epoch: epoch.clone() }.encode_to_vec()
        }
        CommandResult::MapChanged(changed) => api::MapChangeResult {
            offset: changed.offset,
            epoch: changed.epoch.clone(),
            suppressed: changed.suppressed,
            suppress_reason: changed.suppress_reason.to_owned(),
        }
        .encode_to_vec(),
        CommandResult::MapEntries { entries, offset, epoch, cursor } => {
            let entries = entries.iter().map(|entry| api::MapEntry {
                key: entry.key.clone(),
                data: entry.data.as_ref().map(|data| data.bytes.clone()).unwrap_or_default(),
                offset: entry.offset,
                score: entry.score,
                removed: entry.removed,
                tags: entry.tags.clone().unwrap_or_default(),
                info: entry.info.as_ref().map(client),
            });
            let entries = entries.collect();
            api::MapEntriesResult { entries, offset: *offset, epoch: epoch.clone(), cursor: cursor.clone() }
                .encode_to_vec()
        }
        CommandResult::MapStats { num_keys } => {
            api::MapStatsResult { num_keys: *num_keys as u64 }.encode_to_vec()
        }
        CommandResult::Channels { channels } => {
            let channels = channels.iter().map(|(name, channel)| {
                (name.clone(), api::ChannelInfo { num_clients: short(channel.num_clients) })
            });
            api::ChannelsResult { channels: channels.collect() }.encode_to_vec()
        }
        CommandResult::Info { nodes } => {
            let nodes = nodes.iter().map(|node| api::NodeResult {
                uid: node.uid.clone(),
                name: node.name.clone(),
                version: node.version.clone(),
                num_clients: short(node.num_clients),
                num_users: short(node.num_users),
                num_channels: short(node.num_channels),
                uptime: short(node.uptime),
                num_subs: short(node.num_subs),
            });
            api::InfoResult { nodes: nodes.collect() }.encode_to_vec()
        }
        CommandResult::Connections { connections, cursor } => {
            let connections = connections.iter().map(|(id, found)| (id.clone(), connection(found)));
            api::ConnectionsResult { connections: connections.collect(), cursor: cursor.clone() }
                .encode_to_vec()
        }
        CommandResult::Reloaded(report) => api::ReloadResult {
            changed: report.changed.clone(),
            restart_required: report.restart_required.clone(),
            warnings: report.warnings.clone(),
            hash: report.hash.clone(),
        }
        .encode_to_vec(),
        CommandResult::Done {} => Vec::new(),
    }
}

fn publish(result: &PublishResult) -> api::PublishResult {
    let PublishResult { offset, epoch } = result;
    api::PublishResult { offset: offset.unwrap_or_default(), epoch: epoch.clone().unwrap_or_default() }
}

fn client(client: &ClientJson) -> api::ClientInfo {
    let ClientJson { client, user, conn_info, chan_info } = client;
    let [conn_info, chan_info] =
        [conn_info, chan_info].map(|info| info.as_ref().map(|info| info.bytes.clone()).unwrap_or_default());
    api::ClientInfo { user: user.clone(), client: client.clone(), conn_info, chan_info }
}

fn publication(publication: &PublicationJson) -> api::Publication {
    let PublicationJson { data, offset, tags, info } = publication;
    api::Publication {
        data: data.bytes.clone(),
        info: info.as_ref().map(client),
        offset: *offset,
        tags: tags.clone().unwrap_or_default(),
    }
}

fn connection(connection: &ConnectionJson) -> api::ConnectionInfo {
    api::ConnectionInfo {
        transport: connection.transport.clone(),
        protocol: connection.protocol.clone(),
        user: connection.user.clone(),
        address: connection.address.clone().unwrap_or_default(),
        since: connection.since,
        queued_bytes: connection.queued_bytes,
        num_subs: connection.num_subs,
        labels: connection.labels.clone(),
        node: connection.node.clone(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidings_grpc::MessageEncoding;
    use tidings_wire::code;

    use super::*;

    fn single(framed: Vec<u8>) -> Bytes {
        frame::single(framed.into(), MessageEncoding::Identity, 1 << 20).expect("one message")
    }

    fn response<M: Message + Default>(reply: &CommandReply) -> M {
        let message = single(encode_response(reply));
        M::decode(message).expect("a message")
    }

    #[test]
    fn a_response_has_a_result_or_an_error() {
        let result = PublishResult { offset: Some(7), epoch: Some("e".to_owned()) };
        let sent: api::PublishResponse = response(&Ok(CommandResult::Published(result)));
        let expected = api::PublishResult { offset: 7, epoch: "e".to_owned() };
        assert_eq!(sent, api::PublishResponse { error: None, result: Some(expected) });
        let sent: api::PublishResponse = response(&Err(code::UNKNOWN_CHANNEL.into()));
        let error = sent.error.expect("an error");
        assert_eq!((error.code, sent.result), (102, None));
        let sent: api::UnsubscribeResponse = response(&Ok(CommandResult::Done {}));
        assert_eq!(sent.result, Some(api::UnsubscribeResult {}));
    }

    #[test]
    fn the_replies_of_a_batch_are_in_the_fields_of_their_methods() {
        let mut batch = BatchWriter::default();
        let stats = CommandResult::PresenceStats { num_clients: 5_000_000_000, num_users: 2 };
        batch.add(&encode_reply(Some(CommandMethod::PresenceStats), &Ok(stats)));
        batch.add(&encode_reply(Some(CommandMethod::Reload), &Err(code::NOT_AVAILABLE.into())));
        batch.add(&encode_reply(None, &Err(code::METHOD_NOT_FOUND.into())));
        batch.add(&encode_reply(Some(CommandMethod::MapStats), &Ok(CommandResult::MapStats { num_keys: 3 })));
        let message = single(batch.finish());
        let replies = api::BatchResponse::decode(message).expect("a message").replies;
        let stats = replies[0].presence_stats.as_ref().expect("a result");
        assert_eq!((stats.num_clients, stats.num_users), (u32::MAX, 2));
        let codes: Vec<_> =
            replies.iter().map(|reply| reply.error.as_ref().map(|error| error.code)).collect();
        assert_eq!(codes, [None, Some(108), Some(104), None]);
        assert_eq!(replies[3].map_stats, Some(api::MapStatsResult { num_keys: 3 }));
    }
}
