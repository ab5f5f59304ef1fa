//! The messages of a session that wait.

use std::collections::VecDeque;

use tidings_mqtt::Qos;

use crate::message::Message;

/// Messages that wait, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageQueue {
    /// Messages with QoS 0, and those with QoS 1 and 2, each with its number in the order of all.
    droppable: VecDeque<(u64, Message)>,
    required: VecDeque<(u64, Message)>,
    next: u64,
    bytes: usize,
}

impl MessageQueue {
    /// Number of messages.
    pub fn len(&self) -> usize {
        self.droppable.len() + self.required.len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The messages with QoS 1 and 2, oldest first.
    pub fn required(&self) -> impl ExactSizeIterator<Item = &Message> {
        self.required.iter().map(|(_, message)| message)
    }

    /// Bytes of the messages, with an allowance for each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message. Drops the oldest messages with QoS 0 until all have at most `limit` bytes, then the oldest of the
    /// others; a new message with QoS 0 displaces none of these. A message that has no room without these is dropped alone. Returns
    /// the number of dropped messages.
    pub fn push(&mut self, message: Message, limit: usize) -> u64 {
        let cost = message.cost();
        let excess = (self.bytes + cost).saturating_sub(limit);
        let is_required = message.qos != Qos::AtMostOnce;
        let others = self.required.iter().take(if is_required { usize::MAX } else { 0 });
        let (mut freed, mut dropped) = (0, 0);
        for (_, oldest) in self.droppable.iter().chain(others) {
            if freed >= excess {
                break;
            }
            freed += oldest.cost();
            dropped += 1;
        }
        if freed < excess {
            return 1;
        }
        for _ in 0..dropped {
            let _ = self.droppable.pop_front().or_else(|| self.required.pop_front());
        }
        self.bytes = self.bytes - freed + cost;
        let list = if message.qos == Qos::AtMostOnce { &mut self.droppable } else { &mut self.required };
        list.push_back((self.next, message));
        self.next += 1;
        dropped
    }

    /// Whether a message of this cost can be added without dropping one.
    pub fn has_room(&self, cost: usize, limit: usize) -> bool {
        self.bytes + cost <= limit
    }

    /// Removes the oldest message.
    pub fn pop(&mut self) -> Option<Message> {
        let number = |list: &VecDeque<(u64, Message)>| list.front().map_or(u64::MAX, |(number, _)| *number);
        let is_droppable = number(&self.droppable) < number(&self.required);
        let list = if is_droppable { &mut self.droppable } else { &mut self.required };
        let (_, message) = list.pop_front()?;
        if list.is_empty() {
            list.shrink_to(16);
        }
        self.bytes -= message.cost();
        Some(message)
    }

    /// Adds the messages of a later queue. Returns the number of dropped messages.
    pub fn append(&mut self, mut later: Self, limit: usize) -> u64 {
        let mut dropped = 0;
        while let Some(message) = later.pop() {
            dropped += self.push(message, limit);
        }
        dropped
    }

    /// Drops messages, as [`Self::push`] does, until all have at most `limit` bytes. Returns their number.
    pub fn shrink(&mut self, limit: usize) -> u64 {
        let mut dropped = 0;
        while self.bytes > limit {
            let oldest = self.droppable.pop_front().or_else(|| self.required.pop_front());
            let Some((_, oldest)) = oldest else { break };
            self.bytes -= oldest.cost();
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidings_wire::{Channel, Publication};

    use super::*;

    fn message(body: &str, qos: Qos) -> Message {
        let publication = Publication::new(Channel::new("t").unwrap(), body.to_owned());
        Message {
            publication: Arc::new(publication),
            qos,
            retain: false,
            identifier: 0,
            more_identifiers: Box::default(),
            is_pattern: false,
            is_unchecked: false,
            received: 0,
        }
    }

    fn bodies(queue: &mut MessageQueue) -> String {
        std::iter::from_fn(|| queue.pop())
            .map(|m| String::from_utf8_lossy(&m.publication.body).into_owned())
            .collect()
    }

    #[test]
    fn messages_leave_in_the_order_in_which_they_came() {
        let mut queue = MessageQueue::default();
        for (body, qos) in [("a", 1), ("b", 0), ("c", 2), ("d", 0), ("e", 1)] {
            assert_eq!(queue.push(message(body, Qos::from_number(qos).unwrap()), 10_000), 0);
        }
        let later = queue.clone();
        assert_eq!(queue.append(later, 10_000), 0);
        assert_eq!(bodies(&mut queue), "abcdeabcde");
        assert_eq!((queue.bytes(), queue.len()), (0, 0));
    }

    #[test]
    fn at_the_bound_the_oldest_with_qos_0_are_dropped_and_then_the_oldest() {
        let room = 3 * message("x", Qos::AtMostOnce).cost();
        let mut queue = MessageQueue::default();
        for (body, qos, dropped) in [
            ("a", Qos::AtLeastOnce, 0),
            ("b", Qos::AtMostOnce, 0),
            ("c", Qos::AtLeastOnce, 0),
            ("d", Qos::ExactlyOnce, 1),
            ("e", Qos::AtMostOnce, 1),
            ("f", Qos::AtLeastOnce, 1),
        ] {
            assert_eq!(queue.push(message(body, qos), room), dropped, "{body}");
        }
        assert_eq!(bodies(&mut queue.clone()), "cdf");
        assert_eq!(queue.shrink(room - 1), 1);
        assert_eq!(bodies(&mut queue), "df");
    }

    #[test]
    fn a_message_that_has_no_room_is_dropped_alone() {
        let mut queue = MessageQueue::default();
        let limit = 2 * message("a", Qos::AtMostOnce).cost();
        queue.push(message("a", Qos::AtMostOnce), limit);
        queue.push(message("b", Qos::AtLeastOnce), limit);
        let large = "x".repeat(limit);
        assert_eq!(queue.push(message(&large, Qos::AtLeastOnce), limit), 1);
        assert_eq!(bodies(&mut queue.clone()), "ab");
        // With QoS 0 it displaces those with QoS 0 alone.
        assert_eq!(
            queue.push(message(&large[..message("a", Qos::AtMostOnce).cost()], Qos::AtMostOnce), limit),
            1
        );
        assert_eq!(bodies(&mut queue), "ab");
        assert_eq!((queue.bytes(), queue.len()), (0, 0));
    }
}
