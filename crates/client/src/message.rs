//! Messages of a client-protocol connection: those of `tidings_wire::client`, owned.

use std::borrow::Cow;
use std::fmt;

use tidings_wire::body::{DataFormat, write_json};
use tidings_wire::client::reply::{self, Outcome};
use tidings_wire::client::{Data, Encoding, push};

/// Data of an application, such as the body of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The encoded bytes: exact in Protobuf, the text of one JSON value in JSON.
    pub raw: Vec<u8>,
    /// The encoding.
    pub encoding: Encoding,
}

impl Body {
    /// The published bytes. In JSON they are restored from the server's `publication_data_format = "auto"`: the text of
    /// a string, the bytes of `{"b64":"…"}`, any other value unchanged. (A body that is itself a JSON string loses its
    /// quotes; Protobuf preserves it.)
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        if self.encoding == Encoding::Protobuf {
            return (&self.raw[..]).into();
        }
        match serde_json::from_slice::<serde_json::Value>(&self.raw) {
            Ok(serde_json::Value::String(text)) => text.into_bytes().into(),
            Ok(serde_json::Value::Object(object)) if object.len() == 1 => {
                let text = object.get("b64").and_then(serde_json::Value::as_str);
                match text.and_then(base64_decoded) {
                    Some(bytes) => bytes.into(),
                    None => (&self.raw[..]).into(),
                }
            }
            _ => (&self.raw[..]).into(),
        }
    }

    /// A readable form: the text of a JSON string, the bytes in `{"b64":"…"}`, any other JSON on one line, and bytes
    /// that are not JSON unchanged. It is the same on every connection with `publication_data_format =
    /// "auto"`; only Protobuf provides the exact bytes.
    pub fn read(&self) -> Cow<'_, [u8]> {
        // Without a quote it is neither a string nor `{"b64":…}`, so decoding would change nothing.
        let is_plain = || {
            !self.raw.iter().any(|byte| matches!(byte, b'"' | b'\n' | b'\r'))
                && self.raw.trim_ascii().len() == self.raw.len()
        };
        if self.encoding == Encoding::Json || is_plain() {
            return self.bytes();
        }
        let mut raw = Vec::new();
        self.write_json(&mut raw);
        Self { raw, encoding: Encoding::Json }.bytes().into_owned().into()
    }

    /// Appends the body as one JSON value on one line, without surrounding white space.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        write_json(&self.raw, DataFormat::Auto, &mut value);
        out.extend_from_slice(value.trim_ascii());
    }
}

fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// One publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The body.
    pub body: Body,
    /// Its offset in the channel's history, counted from 1; 0 without a history.
    pub offset: u64,
    /// The publishing client, if a client published it.
    pub info: Option<ClientInfo>,
    /// The tags that the publisher set.
    pub tags: Vec<(String, String)>,
}

/// A client, as other clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The user's id; empty for an anonymous one.
    pub user: String,
    /// The public id of the connection.
    pub client: String,
    /// Information of the application about the connection.
    pub conn_info: Option<Body>,
    /// Information of the application about the subscription.
    pub chan_info: Option<Body>,
}

/// A position in a channel's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The offset of the last publication; 0 before the first one.
    pub offset: u64,
    /// The epoch of the history.
    pub epoch: String,
}

/// An error of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// A number of [`tidings_wire::code`], or of the backend.
    pub code: u32,
    /// The text.
    pub message: String,
    /// Whether the same command may succeed later.
    pub temporary: bool,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

/// The reply to `connect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectResult {
    /// The public id of this connection.
    pub client: String,
    /// The version of the server.
    pub version: String,
    /// The interval of the server's pings in seconds; 0 without pings.
    pub ping: u32,
    /// Whether the server requires responses to its pings.
    pub pong: bool,
    /// The seconds until the connection expires unless its token is renewed; `None` for a connection that does not
    /// expire.
    pub ttl: Option<u32>,
    /// Data of the application.
    pub data: Option<Body>,
    /// The subscriptions that the server added, by channel.
    pub subs: Vec<(String, SubscribeResult)>,
}

/// The reply to `subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeResult {
    /// The newest position; `None` for a channel without recovery.
    pub position: Option<Position>,
    /// The publications after the client's position, oldest first.
    pub publications: Vec<Publication>,
    /// Whether the client requested recovery.
    pub was_recovering: bool,
    /// Whether `publications` contains all missed publications.
    pub recovered: bool,
    /// The seconds until the subscription expires unless its token is renewed; `None` for a subscription that does not
    /// expire.
    pub ttl: Option<u32>,
    /// Data of the application.
    pub data: Option<Body>,
}

/// A successful reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The reply to `connect`.
    Connected(Box<ConnectResult>),
    /// The reply to `subscribe`.
    Subscribed(Box<SubscribeResult>),
    /// The reply to `unsubscribe`, `publish` and `ping`.
    Done,
    /// The subscribers, by the public id of their connections.
    Presence(Vec<(String, ClientInfo)>),
    /// The number of subscribers.
    PresenceStats {
        /// Connections.
        clients: u32,
        /// Different users.
        users: u32,
    },
    /// Publications of the history.
    History {
        /// In the requested order.
        publications: Vec<Publication>,
        /// The position of the newest publication.
        position: Position,
    },
    /// The response of the backend.
    Rpc(Option<Body>),
    /// The new token was accepted; its remaining seconds, if they are limited.
    Refreshed(Option<u32>),
}

/// A message of the server that is not a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A publication in a channel.
    Publication(String, Publication),
    /// Another client subscribed to a channel.
    Join(String, Option<ClientInfo>),
    /// The subscription of another client to a channel ended.
    Leave(String, Option<ClientInfo>),
    /// A subscription of this client ended.
    Unsubscribe {
        /// The channel.
        channel: String,
        /// A number of [`tidings_wire::code`]; from 2500 on the client subscribes again.
        code: u32,
        /// The text.
        reason: String,
    },
    /// The server subscribed the client to a channel.
    Subscribe(String, SubscribeResult),
    /// A message of the backend to this connection.
    Message(Option<Body>),
    /// The server is about to close the connection.
    Disconnect {
        /// A number of [`tidings_wire::code`].
        code: u32,
        /// The text.
        reason: String,
    },
    /// A push that this client ignores.
    Other,
}

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The reply to the command with this number.
    Reply(u32, Result<Reply, ServerError>),
    /// A push.
    Push(Push),
    /// The server's ping, or a message that this version does not support.
    Ping,
}

impl Message {
    /// Converts a reply that was read from a connection in `encoding`.
    pub(crate) fn owned(reply: reply::Reply<'_>, encoding: Encoding) -> Self {
        let id = reply.id;
        let answer = match reply.outcome {
            Outcome::Error(error) => {
                let reply::Error { code, message, temporary } = error;
                return Self::Reply(id, Err(ServerError { code, message: message.into_owned(), temporary }));
            }
            Outcome::Push(push) => return Self::Push(Push::owned(push, encoding)),
            Outcome::Ping | Outcome::Unknown => return Self::Ping,
            Outcome::Connect(connect) => Reply::Connected(Box::new(ConnectResult {
                client: connect.client.into_owned(),
                version: connect.version.into_owned(),
                ping: connect.ping,
                pong: connect.pong,
                ttl: connect.expires.then_some(connect.ttl),
                data: body(connect.data.as_ref(), encoding),
                subs: connect
                    .subs
                    .iter()
                    .map(|(channel, sub)| (channel.to_string(), subscribed(sub, encoding)))
                    .collect(),
            })),
            Outcome::Subscribe(sub) => Reply::Subscribed(Box::new(subscribed(&sub, encoding))),
            Outcome::Unsubscribe | Outcome::Publish | Outcome::Pong => Reply::Done,
            Outcome::Presence(presence) => Reply::Presence(
                presence
                    .presence
                    .iter()
                    .map(|(id, client)| (id.to_string(), info(client, encoding)))
                    .collect(),
            ),
            Outcome::PresenceStats(stats) => {
                Reply::PresenceStats { clients: stats.num_clients, users: stats.num_users }
            }
            Outcome::History(history) => Reply::History {
                publications: history.publications.iter().map(|p| publication(p, encoding)).collect(),
                position: Position { offset: history.offset, epoch: history.epoch.into_owned() },
            },
            Outcome::Rpc(rpc) => Reply::Rpc(body(rpc.data.as_ref(), encoding)),
            Outcome::Refresh(refresh) => Reply::Refreshed(refresh.expires.then_some(refresh.ttl)),
            Outcome::SubRefresh(refresh) => Reply::Refreshed(refresh.expires.then_some(refresh.ttl)),
        };
        Self::Reply(id, Ok(answer))
    }
}

impl Push {
    /// Converts a push that was read from a connection in `encoding`.
    pub(crate) fn owned(push: push::Push<'_>, encoding: Encoding) -> Self {
        let channel = push.channel.into_owned();
        match push.event {
            push::Event::Publication(published) => {
                // A publication of a pattern subscription names its own channel.
                let channel =
                    if published.channel.is_empty() { channel } else { published.channel.to_string() };
                Self::Publication(channel, publication(&published, encoding))
            }
            push::Event::Join(join) => Self::Join(channel, join.info.map(|who| info(&who, encoding))),
            push::Event::Leave(leave) => Self::Leave(channel, leave.info.map(|who| info(&who, encoding))),
            push::Event::Unsubscribe(push::Unsubscribe { code, reason }) => {
                Self::Unsubscribe { channel, code, reason: reason.into_owned() }
            }
            push::Event::Subscribe(sub) => {
                let at = Position { offset: sub.offset, epoch: sub.epoch.into_owned() };
                let subscribed = SubscribeResult {
                    position: sub.recoverable.then_some(at),
                    publications: Vec::new(),
                    was_recovering: false,
                    recovered: false,
                    ttl: None,
                    data: body(sub.data.as_ref(), encoding),
                };
                Self::Subscribe(channel, subscribed)
            }
            push::Event::Message(message) => Self::Message(body(message.data.as_ref(), encoding)),
            push::Event::Disconnect(push::Disconnect { code, reason, .. }) => {
                Self::Disconnect { code, reason: reason.into_owned() }
            }
            push::Event::Connect(_) | push::Event::Refresh(_) | push::Event::Unknown => Self::Other,
        }
    }
}

fn body(data: Option<&Data<'_>>, encoding: Encoding) -> Option<Body> {
    data.map(|data| Body { raw: data.bytes.to_vec(), encoding })
}

fn publication(publication: &push::Publication<'_>, encoding: Encoding) -> Publication {
    Publication {
        body: Body { raw: publication.data.bytes.to_vec(), encoding },
        offset: publication.offset,
        info: publication.info.as_ref().map(|who| info(who, encoding)),
        tags: publication.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
    }
}

fn info(info: &push::ClientInfo<'_>, encoding: Encoding) -> ClientInfo {
    ClientInfo {
        user: info.user.to_string(),
        client: info.client.to_string(),
        conn_info: body(info.conn_info.as_ref(), encoding),
        chan_info: body(info.chan_info.as_ref(), encoding),
    }
}

fn subscribed(sub: &reply::Subscribe<'_>, encoding: Encoding) -> SubscribeResult {
    let position = Position { offset: sub.offset, epoch: sub.epoch.to_string() };
    SubscribeResult {
        position: sub.recoverable.then_some(position),
        publications: sub.publications.iter().map(|p| publication(p, encoding)).collect(),
        was_recovering: sub.was_recovering,
        recovered: sub.recovered,
        ttl: sub.expires.then_some(sub.ttl),
        data: body(sub.data.as_ref(), encoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_json_restores_the_published_bytes() {
        let bytes = |raw: &str| Body { raw: raw.into(), encoding: Encoding::Json }.bytes().into_owned();
        assert_eq!(bytes("\"follow\\nme\""), b"follow\nme");
        assert_eq!(bytes("{\"a\": 1.50}"), b"{\"a\": 1.50}");
        assert_eq!(bytes("{\"b64\":\"/wA=\"}"), b"\xff\0");
        assert_eq!(bytes("{\"b64\":\"?\"}"), b"{\"b64\":\"?\"}");
        assert_eq!(bytes("{\"b64\":\"/wA=\",\"a\":1}"), b"{\"b64\":\"/wA=\",\"a\":1}");
        assert_eq!(bytes("42"), b"42");
        let exact = Body { raw: b"\"quoted\"".to_vec(), encoding: Encoding::Protobuf };
        assert_eq!(&exact.bytes()[..], b"\"quoted\"");
        let mut json = Vec::new();
        exact.write_json(&mut json);
        assert_eq!(json, b"\"quoted\"");
    }

    #[test]
    fn a_position_is_returned_only_for_channels_with_recovery() {
        let position = |line: &str| {
            let reply = Encoding::Json.parse_reply(line.as_bytes()).unwrap();
            match Message::owned(reply, Encoding::Json) {
                Message::Reply(1, Ok(Reply::Subscribed(subscribed))) => subscribed.position,
                other => panic!("{other:?}"),
            }
        };
        let at = Some(Position { offset: 7, epoch: "e".to_owned() });
        assert_eq!(position(r#"{"id":1,"subscribe":{"recoverable":true,"epoch":"e","offset":7}}"#), at);
        assert_eq!(position(r#"{"id":1,"subscribe":{"epoch":"e","offset":7}}"#), None);
    }
}
