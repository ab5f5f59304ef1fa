//! Commands of clients, and their requests.

use std::borrow::Cow;

use super::opaque::RawMessage;
use super::value::{Data, List, Map};

/// One command of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command<'a> {
    /// The id of its reply; 0 without a reply, as for [`Request::Pong`] and [`Request::Send`].
    pub id: u32,
    /// The request.
    pub request: Request<'a>,
}

/// The request of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Request<'a> {
    /// The first command of a connection.
    Connect(Connect<'a>),
    /// Subscribe to a channel.
    Subscribe(Subscribe<'a>),
    /// End a subscription.
    Unsubscribe(Unsubscribe<'a>),
    /// Publish into a channel.
    Publish(Publish<'a>),
    /// The subscribers of a channel.
    Presence(Presence<'a>),
    /// The number of subscribers of a channel.
    PresenceStats(PresenceStats<'a>),
    /// The history of a channel.
    History(History<'a>),
    /// Requests an empty reply.
    Ping,
    /// A message to the backend that has no reply.
    Send(Send<'a>),
    /// An `rpc` call to the backend.
    Rpc(Rpc<'a>),
    /// A new token for the connection.
    Refresh(Refresh<'a>),
    /// A new token for a subscription, or a change of its keys.
    SubRefresh(SubRefresh<'a>),
    /// The empty command: answers the server's ping.
    Pong,
    /// A command that the protocol does not have.
    #[default]
    Unknown,
}

impl Request<'_> {
    /// The name of the method on the wire; empty for [`Self::Pong`] and [`Self::Unknown`], which have no name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Publish(_) => "publish",
            Self::Presence(_) => "presence",
            Self::PresenceStats(_) => "presence_stats",
            Self::History(_) => "history",
            Self::Ping => "ping",
            Self::Send(_) => "send",
            Self::Rpc(_) => "rpc",
            Self::Refresh(_) => "refresh",
            Self::SubRefresh(_) => "sub_refresh",
            Self::Pong | Self::Unknown => "",
        }
    }
}

/// The fields of `connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The token; empty if absent.
    pub token: Cow<'a, str>,
    /// Data of the application.
    pub data: Option<Data<'a>>,
    /// Positions of earlier server-side subscriptions, by channel.
    pub subs: Map<'a, Subscribe<'a>>,
    /// The name of the client's software, for logs.
    pub name: Cow<'a, str>,
    /// The version of the client's software.
    pub version: Cow<'a, str>,
    /// Emulated HTTP headers, for platforms that cannot set them.
    pub headers: Map<'a, Cow<'a, str>>,
    /// Features of the connection that the client supports, one bit each.
    pub flag: i64,
}

/// A requested subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The channel; empty inside of [`Connect::subs`].
    pub channel: Cow<'a, str>,
    /// The subscription token; empty if there is none.
    pub token: Cow<'a, str>,
    /// Whether to send the publications since the position below.
    pub recover: bool,
    /// The epoch of `offset`.
    pub epoch: Cow<'a, str>,
    /// The last publication that the client has received.
    pub offset: u64,
    /// Data of the application.
    pub data: Option<Data<'a>>,
    /// Whether the server is to check that no publication is missed.
    pub positioned: bool,
    /// Whether the client intends to recover later.
    pub recoverable: bool,
    /// Whether to push joins and leaves of other clients.
    pub join_leave: bool,
    /// The format of publications as differences to the one before; empty for none.
    pub delta: Cow<'a, str>,
    /// The filter of publications by their tags, a message `FilterNode`.
    pub tf: Option<RawMessage<'a>>,
    /// Features of the subscription that the client supports, one bit each.
    pub flag: i64,
    /// The kind of the subscription (`type` on the wire): 0 of a stream, 1 of a map, 2 and 3 of presence as a map, 4 of a
    /// shared poll.
    pub kind: i32,
    /// The step of the subscription to a map: 2 reads its state, 1 continues from the position above, 0 is live.
    pub phase: i32,
    /// The cursor of the page of the state before.
    pub cursor: Cow<'a, str>,
    /// Most keys of a page of the state; 0 for the default.
    pub limit: i32,
    /// Whether an ordered state begins with the lowest score.
    pub asc: bool,
}

/// The end of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
}

/// A publication by a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
    /// Its body; `None` where the client left it out, which JSON's `null` is not.
    pub data: Option<Data<'a>>,
    /// The kind of the channel (`type` on the wire): 0 of a stream, 1 of a map.
    pub kind: i32,
    /// The key of a map that is set or removed.
    pub key: Cow<'a, str>,
    /// Whether the key is removed.
    pub removed: bool,
}

/// A query for the clients subscribed to a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
}

/// A query for their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
}

/// A query for a channel's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
    /// Most publications; 0 for the position alone, below 0 for all.
    pub limit: i32,
    /// After this position (before it, in reverse).
    pub since: Option<StreamPosition<'a>>,
    /// From the newest to the oldest.
    pub reverse: bool,
}

/// A place in a channel's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPosition<'a> {
    /// The offset, counted from 1.
    pub offset: u64,
    /// The epoch of the history.
    pub epoch: Cow<'a, str>,
}

/// A message to the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Send<'a> {
    /// The data.
    pub data: Option<Data<'a>>,
}

/// An `rpc` call to the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rpc<'a> {
    /// The data of the call.
    pub data: Option<Data<'a>>,
    /// The method; may be empty.
    pub method: Cow<'a, str>,
}

/// A new token for the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refresh<'a> {
    /// The token.
    pub token: Cow<'a, str>,
}

/// A new token for a subscription, or a change of the keys that a subscription to a shared poll tracks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubRefresh<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
    /// The token.
    pub token: Cow<'a, str>,
    /// The action (`type` on the wire): 0 renews by the token, 1 tracks keys, 2 ends the tracking of keys.
    pub kind: i32,
    /// The keys to track.
    pub track: List<'a, TrackBatch<'a>>,
    /// The keys that are not tracked any more, after those of `track` are.
    pub untrack: List<'a, Cow<'a, str>>,
}

/// Keys that are tracked with one signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackBatch<'a> {
    /// The signature of the keys, in their order.
    pub signature: Cow<'a, str>,
    /// The keys.
    pub items: List<'a, KeyedItem<'a>>,
}

/// A key that is tracked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyedItem<'a> {
    /// The key.
    pub key: Cow<'a, str>,
    /// The version of its value that the client has; 0 for none.
    pub version: u64,
}

/// The body of a POST to `/emulation`: further commands for a connection with a separate transport for replies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emulation<'a> {
    /// The node that has the connection ([`super::reply::Connect::node`]).
    pub node: Cow<'a, str>,
    /// The connection's secret ([`super::reply::Connect::session`]).
    pub session: Cow<'a, str>,
    /// The commands, as one frame of [`super::Encoding::messages`]. (In JSON a string that holds them.)
    pub data: Option<Data<'a>>,
}
