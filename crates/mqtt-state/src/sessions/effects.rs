//! The bounds of the store, and what its caller does after a change.

use tidings_mqtt::Qos;
use tidings_mqtt_session::{Connection, SessionState, SharedDelivery, WillMessage};
use tidings_wire::Topic;

/// The bounds of [`Sessions`](super::Sessions), and the properties of their deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Most sessions, with and without a connection.
    pub sessions: usize,
    /// Most bytes of the messages of one session.
    pub queue_bytes: usize,
    /// Most bytes of the messages of all sessions without a connection.
    pub total_bytes: usize,
    /// The quality of service of publications of other protocols.
    pub default_qos: Qos,
}

/// The response to an [`OpenSession`](tidings_mqtt_session::OpenSession).
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new session begins.
    New,
    /// The session continues with this state.
    Resumed(Box<SessionState>),
    /// There are as many sessions as the limit.
    Full(usize),
    /// A later connection has requested the session.
    Replaced,
}

/// What the caller does after a change, in the order of the fields.
#[derive(Debug)]
pub struct SessionEffects<W> {
    /// Topics whose publications the store gets from now on.
    pub joined: Vec<Topic>,
    /// Responses to requests. The shard of a session that continues gets the publications of its topics from now on.
    pub responses: Vec<(W, Connection, Outcome)>,
    /// Topics whose publications the store does not get any more.
    pub released: Vec<Topic>,
    /// Wills to publish.
    pub wills: Vec<WillMessage>,
    /// Publications for members of groups.
    pub shared: Vec<(Connection, SharedDelivery)>,
}

impl SessionLimits {
    /// With the bytes of a session bounded by what the others leave, which have `others` bytes.
    pub(super) fn with_room(self, others: usize) -> Self {
        let room = self.total_bytes.saturating_sub(others);
        Self { queue_bytes: self.queue_bytes.min(room), ..self }
    }
}

impl<W> Default for SessionEffects<W> {
    fn default() -> Self {
        Self {
            joined: Vec::new(),
            responses: Vec::new(),
            released: Vec::new(),
            wills: Vec::new(),
            shared: Vec::new(),
        }
    }
}
