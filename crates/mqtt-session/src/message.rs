//! A message for one session.

use std::sync::Arc;

use tidings_mqtt::{PacketId, Qos};
use tidings_wire::Publication;

/// Allowance for the memory of a message besides its texts.
const OVERHEAD: usize = 128;

/// A message that waits, or that was sent and is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The publication.
    pub publication: Arc<Publication>,
    /// The quality of service of the delivery.
    pub qos: Qos,
    /// The retain flag of the delivery.
    pub retain: bool,
    /// The identifier of the first subscription that has one; 0 for none.
    pub identifier: u32,
    /// The identifiers of further subscriptions that match.
    pub more_identifiers: Box<[u32]>,
    /// Whether the filter of each of them has wildcards.
    pub is_pattern: bool,
    /// Whether the permission of the client must be checked before the message is sent: the message was added while the client
    /// was not connected.
    pub is_unchecked: bool,
    /// When it was added, in Unix seconds.
    pub received: u64,
}

impl Message {
    /// Bytes that it counts as, with an allowance.
    pub fn cost(&self) -> usize {
        OVERHEAD + self.publication.channel.as_str().len() + self.publication.size()
    }

    /// The rest of its lifetime in seconds at this time; `Err` if it has expired (MQTT-3.3.2-5). `None` for a message that does
    /// not expire.
    pub fn lifetime(&self, now: u64) -> Result<Option<u32>, Expired> {
        let extra = self.publication.extra.as_ref();
        let expiry = extra.and_then(|extra| extra.message.as_ref()).and_then(|message| message.expiry);
        let Some(expiry) = expiry else { return Ok(None) };
        let waited = u32::try_from(now.saturating_sub(self.received)).unwrap_or(u32::MAX);
        expiry.checked_sub(waited).filter(|left| *left > 0).map(Some).ok_or(Expired)
    }
}

/// The lifetime of a message is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

/// A message with QoS 1 or 2 that was sent to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Its packet identifier.
    pub id: PacketId,
    /// The acknowledgement that it waits for.
    pub awaits: Acknowledgement,
    /// The message, to be sent again; `None` after `PUBREC`, and in a session that ends with its connection.
    pub message: Option<Box<Message>>,
}

impl InFlight {
    /// Bytes that its message counts as.
    pub fn cost(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.cost())
    }
}

/// The acknowledgement that a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// `PUBACK`.
    Acknowledge,
    /// `PUBREC`.
    Receive,
    /// `PUBCOMP`.
    Complete,
}
