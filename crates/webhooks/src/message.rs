//! Messages about webhooks between nodes, as JSON.

use std::mem;

use serde::{Deserialize, Serialize};

use crate::change::Change;

/// Most bytes of the changes in one message, about.
const MAX_CHANGES: usize = 512 << 10;
/// Bytes of a change in a message besides its texts.
const OVERHEAD: usize = 32;

/// A message to all nodes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// From the observing node, at least once in a second.
    Changes {
        /// The number of this message, counted without gaps.
        sequence: u64,
        /// The changes since the message before.
        changes: Vec<Change>,
    },
    /// From the observing node: a part of the state of all channels.
    State {
        /// The number of the last message with changes that the state contains.
        sequence: u64,
        /// Whether this is the first part.
        is_first: bool,
        /// Whether this is the last part.
        is_last: bool,
        /// The changes that lead to this part of the state.
        changes: Vec<Change>,
    },
    /// The users of these channels may have changed on the sender.
    Touched(Vec<String>),
    /// The sender has no state, or has missed a message.
    StateRequest {},
}

impl Message {
    /// The messages with the state that is made by `changes`.
    pub(crate) fn state(sequence: u64, changes: Vec<Change>) -> Vec<Self> {
        let mut parts = split(changes);
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let last = parts.len() - 1;
        let part = |(at, changes)| Self::State { sequence, is_first: at == 0, is_last: at == last, changes };
        parts.into_iter().enumerate().map(part).collect()
    }

    /// The encoded message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text keys and plain values")
    }
}

/// Divides changes into parts that fit into messages.
pub(crate) fn split(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for change in changes {
        let size = change.size() + OVERHEAD;
        if bytes + size > MAX_CHANGES && !part.is_empty() {
            parts.push(mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.push(change);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_divided_into_messages_of_bounded_size() {
        let changes: Vec<_> = (0..20_000).map(|i| Change::Occupied(format!("{i:0100}"))).collect();
        let messages = Message::state(7, changes.clone());
        assert!(messages.len() > 3);
        let mut all = Vec::new();
        for (at, message) in messages.iter().enumerate() {
            assert!(message.encode().len() < 2 * MAX_CHANGES);
            let Message::State { sequence: 7, is_first, is_last, changes } = message else {
                panic!("{message:?}")
            };
            assert_eq!((*is_first, *is_last), (at == 0, at == messages.len() - 1));
            all.extend(changes.iter().cloned());
        }
        assert_eq!(all, changes);
        let empty = Message::state(7, Vec::new());
        assert_eq!(
            empty,
            [Message::State { sequence: 7, is_first: true, is_last: true, changes: Vec::new() }]
        );
    }

    #[test]
    fn messages_survive_their_encoding() {
        let messages = [
            Message::Changes { sequence: 1, changes: vec![Change::Joined("a".into(), "ann".into())] },
            Message::Touched(vec!["a".into()]),
            Message::StateRequest {},
        ];
        for message in messages {
            assert_eq!(serde_json::from_slice::<Message>(&message.encode()).unwrap(), message);
        }
    }
}
