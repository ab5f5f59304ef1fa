//! Replies of the server.

use std::borrow::Cow;

use super::push::{ClientInfo, Publication, Push};
use super::value::{Data, List, Map};
use crate::code::Code;

/// One message of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The command's id; 0 for [`Outcome::Push`] and [`Outcome::Ping`], which answer none.
    pub id: u32,
    /// The content.
    pub outcome: Outcome<'a>,
}

/// The content of a message of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The command failed.
    Error(Error<'a>),
    /// Something happened.
    Push(Push<'a>),
    /// Connected.
    Connect(Connect<'a>),
    /// Subscribed.
    Subscribe(Subscribe<'a>),
    /// Unsubscribed.
    Unsubscribe,
    /// Published.
    Publish,
    /// The subscribers of a channel.
    Presence(Presence<'a>),
    /// The number of subscribers.
    PresenceStats(PresenceStats),
    /// A page of a history.
    History(History<'a>),
    /// The reply to the client's ping (`ping` on the wire).
    Pong,
    /// The backend's answer.
    Rpc(Rpc<'a>),
    /// The connection's new token was accepted.
    Refresh(Refresh<'a>),
    /// A subscription's new token was accepted.
    SubRefresh(SubRefresh),
    /// The empty message: the server's ping, which a client answers with the empty command.
    Ping,
    /// A reply that this version does not support.
    #[default]
    Unknown,
}

impl Outcome<'_> {
    /// Its name on the wire; empty for [`Self::Ping`] and [`Self::Unknown`], which have no name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::Push(_) => "push",
            Self::Connect(_) => "connect",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Publish => "publish",
            Self::Presence(_) => "presence",
            Self::PresenceStats(_) => "presence_stats",
            Self::History(_) => "history",
            Self::Pong => "ping",
            Self::Rpc(_) => "rpc",
            Self::Refresh(_) => "refresh",
            Self::SubRefresh(_) => "sub_refresh",
            Self::Ping | Self::Unknown => "",
        }
    }
}

/// The reason why a command failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Error<'a> {
    /// A number of [`crate::code`], or of a backend's own.
    pub code: u32,
    /// A description.
    pub message: Cow<'a, str>,
    /// Whether the same command may succeed later.
    pub temporary: bool,
}

impl<'a> Error<'a> {
    /// An error of the table, with a more precise message.
    pub fn new(code: Code, message: impl Into<Cow<'a, str>>) -> Self {
        Self { code: code.number.into(), message: message.into(), temporary: code.temporary }
    }
}

impl From<Code> for Error<'_> {
    fn from(code: Code) -> Self {
        Self::new(code, code.text)
    }
}

/// The reply to `connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The public id of this connection.
    pub client: Cow<'a, str>,
    /// The version of the server.
    pub version: Cow<'a, str>,
    /// Whether the connection ends unless its token is renewed.
    pub expires: bool,
    /// Seconds until then.
    pub ttl: u32,
    /// Data of the application.
    pub data: Option<Data<'a>>,
    /// Server-side subscriptions, by channel.
    pub subs: Map<'a, Subscribe<'a>>,
    /// The interval of the server's pings, in seconds; 0 without pings.
    pub ping: u32,
    /// Whether the client must answer pings.
    pub pong: bool,
    /// The connection's secret, for [`super::request::Emulation`].
    pub session: Cow<'a, str>,
    /// The node of the connection, for [`super::request::Emulation`].
    pub node: Cow<'a, str>,
    /// The server's time in milliseconds since 1970; 0 if absent.
    pub time: i64,
}

/// The reply to `subscribe`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Whether the subscription ends unless its token is renewed.
    pub expires: bool,
    /// Seconds until then.
    pub ttl: u32,
    /// Whether missed publications can be recovered from the position below.
    pub recoverable: bool,
    /// The epoch of `offset`.
    pub epoch: Cow<'a, str>,
    /// Publications since the client's position, oldest first.
    pub publications: List<'a, Publication<'a>>,
    /// Whether these are all of them.
    pub recovered: bool,
    /// The channel's newest publication (with `publications`: the last of those).
    pub offset: u64,
    /// Whether the server checks that no publication is missed.
    pub positioned: bool,
    /// Data of the application.
    pub data: Option<Data<'a>>,
    /// Whether the client requested recovery.
    pub was_recovering: bool,
    /// Whether publications are encoded as a difference to the previous one.
    pub delta: bool,
    /// The kind of the subscription, as requested (`type` on the wire).
    pub kind: i32,
    /// The step of the subscription to a map that this reply answers: 2 is a page of the state, 0 is live.
    pub phase: i32,
    /// The cursor of the next page of the state; empty after the last one.
    pub cursor: Cow<'a, str>,
    /// A page of the state of a map.
    pub state: List<'a, Publication<'a>>,
}

/// The subscribers of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence<'a> {
    /// By the public id of their connections.
    pub presence: Map<'a, ClientInfo<'a>>,
}

/// The number of subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Connections.
    pub num_clients: u32,
    /// Different users.
    pub num_users: u32,
}

/// A page of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History<'a> {
    /// In the requested order.
    pub publications: List<'a, Publication<'a>>,
    /// The epoch of the history.
    pub epoch: Cow<'a, str>,
    /// The channel's newest publication.
    pub offset: u64,
}

/// The backend's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rpc<'a> {
    /// Its data.
    pub data: Option<Data<'a>>,
}

/// The connection's new token was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refresh<'a> {
    /// The public id of this connection.
    pub client: Cow<'a, str>,
    /// The version of the server.
    pub version: Cow<'a, str>,
    /// Whether this token ends too.
    pub expires: bool,
    /// Seconds until then.
    pub ttl: u32,
}

/// A subscription's new token was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubRefresh {
    /// Whether this token ends too.
    pub expires: bool,
    /// Seconds until then.
    pub ttl: u32,
}
