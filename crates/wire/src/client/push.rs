//! Pushes: messages of the server that are not replies. Two-way transports wrap one in a [`super::reply::Reply`],
//! one-way transports send it bare.

use std::borrow::Cow;

use super::reply;
use super::value::{Data, Map};
use crate::body::DataFormat;
use crate::publication;

/// A push: an event of a channel or of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push<'a> {
    /// The channel; empty for events of the connection.
    pub channel: Cow<'a, str>,
    /// The event.
    pub event: Event<'a>,
}

/// The event of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Event<'a> {
    /// A publication.
    Publication(Publication<'a>),
    /// A client has subscribed.
    Join(Join<'a>),
    /// A client's subscription has ended.
    Leave(Leave<'a>),
    /// The client's subscription ended; from code 2500 on it subscribes again.
    Unsubscribe(Unsubscribe<'a>),
    /// A message of the backend to this connection.
    Message(Message<'a>),
    /// The server subscribed the client.
    Subscribe(Subscribe<'a>),
    /// Connected, on one-way transports.
    Connect(Connect<'a>),
    /// The connection is about to end.
    Disconnect(Disconnect<'a>),
    /// The connection's time was prolonged.
    Refresh(Refresh),
    /// A push that this version does not support.
    #[default]
    Unknown,
}

impl Event<'_> {
    /// Its name on the wire; empty for [`Self::Unknown`].
    pub fn name(&self) -> &'static str {
        match self {
            Self::Publication(_) => "pub",
            Self::Join(_) => "join",
            Self::Leave(_) => "leave",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Message(_) => "message",
            Self::Subscribe(_) => "subscribe",
            Self::Connect(_) => "connect",
            Self::Disconnect(_) => "disconnect",
            Self::Refresh(_) => "refresh",
            Self::Unknown => "",
        }
    }
}

/// One publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication<'a> {
    /// Its body.
    pub data: Data<'a>,
    /// The publishing client, if a client published it.
    pub info: Option<ClientInfo<'a>>,
    /// Its place in the channel's history, counted from 1; 0 without history.
    pub offset: u64,
    /// Tags of its publisher.
    pub tags: Map<'a, Cow<'a, str>>,
    /// Whether `data` is a difference to the publication before.
    pub delta: bool,
    /// Time of publication in milliseconds since 1970; 0 when unknown.
    pub time: i64,
    /// Its channel, if it is not the subscribed one.
    pub channel: Cow<'a, str>,
    /// The key of a map or a shared poll that it sets or removes.
    pub key: Cow<'a, str>,
    /// Whether the key is removed.
    pub removed: bool,
    /// The version of a key of a shared poll.
    pub version: u64,
}

impl<'a> Publication<'a> {
    /// A publication for its subscribers; JSON shows the body in `format`. Everything is borrowed; memory is allocated
    /// only for the list of the tags, if there are any.
    pub fn new(publication: &'a publication::Publication, format: DataFormat) -> Self {
        let mut new = Self {
            data: Data::new(&publication.body[..], format),
            offset: publication.offset().unwrap_or(0),
            ..Self::default()
        };
        if let Some(extra) = &publication.extra {
            new.info = extra.info.as_ref().map(ClientInfo::from);
            let tags = extra.tags.iter().map(|(name, value)| (name.into(), value.into()));
            new.tags = tags.collect::<Vec<_>>().into();
            if let Some(map) = &extra.map {
                (new.key, new.removed, new.version) = ((&*map.key).into(), map.removed, map.version);
            }
        }
        new
    }
}

/// A client, as visible to other clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    /// The user's id; empty for an anonymous one.
    pub user: Cow<'a, str>,
    /// The public id of the connection.
    pub client: Cow<'a, str>,
    /// Information of the application about the connection.
    pub conn_info: Option<Data<'a>>,
    /// Information of the application about the subscription.
    pub chan_info: Option<Data<'a>>,
}

impl<'a> From<&'a publication::ClientInfo> for ClientInfo<'a> {
    fn from(info: &'a publication::ClientInfo) -> Self {
        Self {
            user: (&info.user).into(),
            client: (&info.client).into(),
            conn_info: info.conn_info.as_deref().map(Data::from),
            chan_info: info.chan_info.as_deref().map(Data::from),
        }
    }
}

/// A client has subscribed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Join<'a> {
    /// The client.
    pub info: Option<ClientInfo<'a>>,
}

/// A client's subscription has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leave<'a> {
    /// The client.
    pub info: Option<ClientInfo<'a>>,
}

/// The client's subscription ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// A number of [`crate::code`].
    pub code: u32,
    /// A description.
    pub reason: Cow<'a, str>,
}

/// The server subscribed the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Whether missed publications can be recovered from the position below.
    pub recoverable: bool,
    /// The epoch of `offset`.
    pub epoch: Cow<'a, str>,
    /// The channel's newest publication.
    pub offset: u64,
    /// Whether the server checks that no publication is missed.
    pub positioned: bool,
    /// Data of the application.
    pub data: Option<Data<'a>>,
}

/// A message of the backend to this connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// The data.
    pub data: Option<Data<'a>>,
}

/// Connected: the same as [`reply::Connect`], as a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// See [`reply::Connect::client`].
    pub client: Cow<'a, str>,
    /// See [`reply::Connect::version`].
    pub version: Cow<'a, str>,
    /// See [`reply::Connect::data`].
    pub data: Option<Data<'a>>,
    /// See [`reply::Connect::subs`].
    pub subs: Map<'a, reply::Subscribe<'a>>,
    /// See [`reply::Connect::expires`].
    pub expires: bool,
    /// See [`reply::Connect::ttl`].
    pub ttl: u32,
    /// See [`reply::Connect::ping`].
    pub ping: u32,
    /// See [`reply::Connect::pong`].
    pub pong: bool,
    /// See [`reply::Connect::session`].
    pub session: Cow<'a, str>,
    /// See [`reply::Connect::node`].
    pub node: Cow<'a, str>,
    /// See [`reply::Connect::time`].
    pub time: i64,
}

impl<'a> From<reply::Connect<'a>> for Connect<'a> {
    fn from(result: reply::Connect<'a>) -> Self {
        let reply::Connect { client, version, expires, ttl, data, subs, ping, pong, session, node, time } =
            result;
        Self { client, version, data, subs, expires, ttl, ping, pong, session, node, time }
    }
}

/// The connection is about to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// A number of [`crate::code`]; SDKs act on it (below 3500: reconnect).
    pub code: u32,
    /// A description.
    pub reason: Cow<'a, str>,
    /// Whether to reconnect, for clients that do not support the codes.
    pub reconnect: bool,
}

/// The connection's time was prolonged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refresh {
    /// Whether the connection ends unless its token is renewed.
    pub expires: bool,
    /// Seconds until then.
    pub ttl: u32,
}
