//! Sessions that the broker stores for all nodes.

use tidings_mqtt::PacketId;

use crate::change::{Connection, SessionKey, Step};
use crate::message::Message;
use crate::state::SessionState;

/// The response to an [`OpenSession`](crate::OpenSession), where the broker stores the sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenedSession {
    /// The broker has a session for the connection.
    pub is_stored: bool,
    /// It is an earlier one, which continues.
    pub is_present: bool,
    /// The serial up to which earlier connections have read messages, which are sent again.
    pub sent: u64,
    /// Its state without the messages that are not received by the client; these are read.
    pub state: SessionState,
}

/// Steps of a session, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSteps {
    /// The number of the request, which its response has.
    pub number: u64,
    /// The session.
    pub key: SessionKey,
    /// The id of the client of its connection.
    pub client: String,
    /// The steps. Those about messages that were sent or dropped have no effect.
    pub steps: Vec<Step>,
    /// The session begins with these steps, and ends with this connection: it has the shared subscriptions of a client whose
    /// session is not kept.
    pub begins: Option<Connection>,
}

/// A request for the messages of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadMessages {
    /// The session.
    pub key: SessionKey,
    /// The id of the client of its connection.
    pub client: String,
    /// The serial behind which to read.
    pub after: u64,
    /// Most messages.
    pub most: usize,
    /// Most bytes, except for the first message.
    pub max_bytes: usize,
}

/// Messages of a session, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<QueuedMessage>,
    /// There are more.
    pub has_more: bool,
    /// Messages that were dropped at a bound since the client was last informed.
    pub dropped: u64,
}

/// A message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Its packet identifier; `None` with QoS 0.
    pub id: Option<PacketId>,
    /// Its number in the order of all messages of the session.
    pub serial: u64,
    /// The message; `None` if it cannot be decoded.
    pub message: Option<Message>,
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseSession {
    /// The session.
    pub key: SessionKey,
    /// The id of the client of the connection.
    pub client: String,
    /// How long the session is kept, in seconds.
    pub expiry: u32,
    /// The highest serial of a message that was sent; `None` if that is not known.
    pub sent: Option<u64>,
}
