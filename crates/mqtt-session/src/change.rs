//! The values that shards and the store of sessions exchange.

use std::sync::Arc;

use bytes::Bytes;
use tidings_mqtt::PacketId;
use tidings_wire::{Channel, Extra, Publication, Topic};

use crate::message::{InFlight, Message};
use crate::shared::{CloseSession, MessagePage, OpenedSession, ReadMessages, StoreSteps};
use crate::state::{Options, SessionState, StoredSubscription};

/// The owner of a session and its client id. Sessions of different users do not collide.
pub type SessionKey = Box<str>;

/// A connection of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// The index of its shard.
    pub shard: u32,
    /// The index of its slot on the shard.
    pub slot: u32,
    /// The generation of the slot.
    pub generation: u32,
}

/// A request of a session to the stores of the node.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Read the retained messages that match a topic filter, at most this many bytes.
    Retained(Box<str>, usize),
    /// The session of a client that connects.
    OpenSession(Box<OpenSession>),
    /// Join the group of a shared subscription.
    JoinGroup(Box<JoinGroup>),
    /// A client connects to a server whose broker stores the wills.
    OpenWill(Box<OpenWill>),
    /// Steps of a session that the broker stores.
    StoreSteps(Box<StoreSteps>),
    /// Read the messages of such a session.
    ReadMessages(Box<ReadMessages>),
}

/// The response to a [`Request`].
#[derive(Debug, PartialEq, Eq)]
pub enum Response {
    /// The retained messages, ordered by topic.
    Retained(Vec<Arc<Publication>>),
    /// The state of an earlier session that continues; `None` for a new session.
    Session(Option<Box<SessionState>>),
    /// The session is a member of the group.
    Joined,
    /// The will is stored, and the publication of an earlier one has begun.
    WillOpened,
    /// The session at the broker.
    Opened(Box<OpenedSession>),
    /// The broker has the steps.
    Stored(u64),
    /// Messages of the session.
    Messages(Box<MessagePage>),
}

/// A client connects: the request for its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// The session.
    pub key: SessionKey,
    /// The new connection.
    pub connection: Connection,
    /// The id of the client of that connection, to exclude its own publications.
    pub client: String,
    /// How long the session outlives the connection, in seconds.
    pub expiry: u32,
    /// An earlier session is discarded.
    pub clean_start: bool,
    /// The session outlives the connection.
    pub is_kept: bool,
}

/// A change of a session by its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// The connection has ended. Its shard still has publications of the session, and requests a message behind them.
    Parking(Box<Parking>),
    /// The state of a session that was parking, complete.
    Parked {
        /// The session.
        key: SessionKey,
        /// The connection that has ended.
        connection: Connection,
        /// The state, without subscriptions.
        state: Box<SessionState>,
    },
    /// The session has ended with this connection; without one, because a client has discarded it.
    Ended {
        /// The session.
        key: SessionKey,
        /// The connection that has ended.
        connection: Option<Connection>,
    },
    /// A connection leaves the group of a shared subscription.
    Left(Connection, SharedFilter),
    /// A publication for a member of a group whose connection has ended.
    Undelivered(Connection, SharedDelivery),
    /// Steps of a session with a connection, for a store with files.
    Steps(Connection, Vec<Step>),
    /// The will of a connection, for a store with files; `None` when it is published or discarded. The end of the connection's
    /// session, or its parking, has the same effect.
    Will(Connection, Option<Box<WillMessage>>),
    /// A connection whose will the broker stores has ended.
    CloseWill(CloseWill),
    /// Steps of a session that the broker stores, whose outcome the connection does not wait for.
    StoreSteps(Box<StoreSteps>),
    /// A connection whose session the broker stores has ended.
    CloseSession(Box<CloseSession>),
}

/// A client connects: its will for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenWill {
    /// The owner and the client id.
    pub key: SessionKey,
    /// The id of the connection, unique in the deployment.
    pub client: String,
    /// The will, if it has one. Its delay is at most the time for which the session is kept.
    pub will: Option<WillMessage>,
    /// The client continues its session.
    pub continues: bool,
}

/// A connection with a will at the broker has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseWill {
    /// The owner and the client id.
    pub key: SessionKey,
    /// The id of the connection.
    pub client: String,
    /// Whether the will is published. Otherwise it is discarded.
    pub is_published: bool,
    /// For how many seconds the session is kept: the will waits no longer.
    pub expiry: u32,
}

/// A step of a session with a connection. A store with files has it before the client can observe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A subscription is made, or its options are replaced.
    Subscribed(StoredSubscription),
    /// The subscription with this filter has ended.
    Unsubscribed(Box<str>),
    /// A message waits that no publication of a subscribed topic has brought: a retained one.
    Added(Message),
    /// A message is sent.
    Sent(InFlight),
    /// A publication is not sent to the client.
    Dropped(Arc<Publication>),
    /// The client has received a message with QoS 2.
    Released(PacketId),
    /// A message has ended: with its acknowledgement, or because it may not be sent again.
    Ended(PacketId),
    /// A message of the client with QoS 2 is published.
    Received(u16),
    /// The client has released a message with QoS 2 of its own.
    Completed(u16),
}

impl Step {
    /// Whether the topics of the session may change.
    pub fn changes_topics(&self) -> bool {
        matches!(self, Self::Subscribed(_) | Self::Unsubscribed(_))
    }
}

/// The filter of a shared subscription, and the topic that has its publications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedFilter {
    /// The filter, with its name: `$share/NAME/FILTER`.
    pub filter: Box<str>,
    /// The topic.
    pub topic: Topic,
}

/// A connection joins the group of a shared subscription, or changes its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroup {
    /// The connection.
    pub connection: Connection,
    /// The filter.
    pub shared: SharedFilter,
    /// The options of the subscription.
    pub options: Options,
}

/// A publication for one member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedDelivery {
    /// The filter of the group.
    pub shared: SharedFilter,
    /// The publication.
    pub publication: Arc<Publication>,
}

/// A session whose connection has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parking {
    /// The session.
    pub key: SessionKey,
    /// The connection that has ended.
    pub connection: Connection,
    /// The id of the client of that connection, to exclude its own publications.
    pub client: String,
    /// How long the session is kept, in seconds.
    pub expiry: u32,
    /// Its subscriptions.
    pub subscriptions: Vec<StoredSubscription>,
    /// The will, unless it is published already.
    pub will: Option<WillMessage>,
}

/// A will that is published with the end of the connection; after a delay, or when the session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillMessage {
    /// The channel.
    pub channel: Channel,
    /// The payload.
    pub body: Bytes,
    /// The properties of the message, and the information about the client.
    pub extra: Option<Box<Extra>>,
    /// The delay in seconds.
    pub delay: u32,
}
