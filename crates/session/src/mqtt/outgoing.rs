//! Messages with QoS 1 and 2 to a client: those that it has not acknowledged, and those that wait for that.

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_mqtt::{PacketId, Qos};
use tidings_mqtt_session::{Acknowledgement, InFlight, Message, MessageQueue};
use tidings_wire::Publication;

/// A message for the client. `shared` is its packet for QoS 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery<'a> {
    pub(super) publication: &'a Arc<Publication>,
    pub(super) shared: &'a [u8],
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// The first subscription identifier; 0 for none.
    pub(super) identifier: u32,
    pub(super) more_identifiers: &'a [u32],
    pub(super) is_pattern: bool,
}

impl Delivery<'_> {
    /// The message, to be sent later; `now` in Unix seconds.
    pub(super) fn to_message(self, now: u64) -> Message {
        let Self { publication, qos, retain, identifier, more_identifiers, is_pattern, .. } = self;
        Message {
            publication: Arc::clone(publication),
            qos,
            retain,
            identifier,
            more_identifiers: more_identifiers.into(),
            is_pattern,
            is_unchecked: false,
            received: now,
        }
    }
}

/// The messages with QoS 1 and 2 to a client.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Messages that were sent on this connection and are not acknowledged, oldest first.
    in_flight: VecDeque<InFlight>,
    /// Messages that were sent on an earlier connection and not on this one, oldest first.
    resend: VecDeque<InFlight>,
    /// Messages that wait until the client has acknowledged others.
    pub(super) waiting: MessageQueue,
    /// Bytes of the messages of `in_flight` and `resend` that are stored.
    bytes: usize,
    /// Messages that were dropped at a bound.
    pub(super) dropped: u64,
}

impl Outgoing {
    /// With the messages of an earlier connection.
    pub(super) fn resume(in_flight: VecDeque<InFlight>, waiting: MessageQueue) -> Self {
        let bytes = in_flight.iter().map(InFlight::cost).sum();
        Self { resend: in_flight, waiting, bytes, ..Self::default() }
    }

    /// The messages that were sent, and those that were not.
    pub(super) fn into_parts(self) -> (VecDeque<InFlight>, MessageQueue, u64) {
        let Self { mut in_flight, resend, waiting, dropped, .. } = self;
        in_flight.extend(resend);
        (in_flight, waiting, dropped)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.resend.is_empty() && self.waiting.is_empty()
    }

    /// Number of messages that were sent on this connection and are not acknowledged.
    pub(super) fn sent(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether messages wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.resend.is_empty() || !self.waiting.is_empty()
    }

    /// Whether a further message may be sent: the client has acknowledged all but `most`, and those that are stored have at most
    /// `max_bytes`.
    pub(super) fn may_send(&self, most: usize, max_bytes: usize) -> bool {
        self.in_flight.len() < most && (self.bytes < max_bytes || self.in_flight.is_empty())
    }

    /// Bytes for messages that wait, of `max_bytes` for all.
    pub(super) fn room(&self, max_bytes: usize) -> usize {
        max_bytes.saturating_sub(self.bytes)
    }

    /// Whether a message has this packet identifier.
    pub(super) fn has(&self, id: PacketId) -> bool {
        self.in_flight.iter().chain(&self.resend).any(|message| message.id == id)
    }

    /// A message is sent.
    pub(super) fn begin(&mut self, id: PacketId, awaits: Acknowledgement, message: Option<Box<Message>>) {
        let message = InFlight { id, awaits, message };
        self.bytes += message.cost();
        self.in_flight.push_back(message);
    }

    /// The last message that was sent.
    pub(super) fn last(&self) -> Option<&InFlight> {
        self.in_flight.back()
    }

    /// A message was not sent.
    pub(super) fn cancel(&mut self, id: PacketId) {
        if let Some(at) = self.in_flight.iter().position(|message| message.id == id) {
            self.remove(at);
        }
    }

    /// The next message to be sent again.
    pub(super) fn next_resend(&mut self) -> Option<InFlight> {
        let message = self.resend.pop_front()?;
        self.bytes -= message.cost();
        Some(message)
    }

    /// The client has acknowledged a message; returns whether it awaited this.
    pub(super) fn end(&mut self, id: PacketId, awaits: Acknowledgement) -> bool {
        let is_awaited = |message: &InFlight| message.id == id && message.awaits == awaits;
        let at = self.in_flight.iter().position(is_awaited);
        at.is_some_and(|at| self.remove(at))
    }

    fn remove(&mut self, at: usize) -> bool {
        let removed = self.in_flight.remove(at);
        self.bytes -= removed.as_ref().map_or(0, InFlight::cost);
        removed.is_some()
    }

    /// The client has received a message with QoS 2, whose packet is not needed any more; returns whether it awaited this,
    /// perhaps again.
    pub(super) fn release(&mut self, id: PacketId) -> bool {
        let message = self.in_flight.iter_mut().find(|message| message.id == id);
        let Some(message) = message.filter(|message| message.awaits != Acknowledgement::Acknowledge) else {
            return false;
        };
        self.bytes -= message.cost();
        (message.awaits, message.message) = (Acknowledgement::Complete, None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_ends_the_message_that_awaits_it() {
        let mut outgoing = Outgoing::default();
        let id = |number| PacketId::new(number).unwrap();
        outgoing.begin(id(1), Acknowledgement::Acknowledge, None);
        outgoing.begin(id(2), Acknowledgement::Receive, None);
        assert!(!outgoing.end(id(1), Acknowledgement::Complete));
        assert!(!outgoing.release(id(1)));
        assert!(outgoing.end(id(1), Acknowledgement::Acknowledge));
        assert!(!outgoing.end(id(1), Acknowledgement::Acknowledge));
        assert!(!outgoing.end(id(2), Acknowledgement::Complete), "it was not received yet");
        assert!(outgoing.release(id(2)) && outgoing.release(id(2)));
        assert!(outgoing.end(id(2), Acknowledgement::Complete));
        assert!(outgoing.is_empty());
    }
}
