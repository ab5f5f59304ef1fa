//! What a node keeps about wills, to repeat changes that the broker did not confirm.

use std::collections::HashMap;

use bytes::Bytes;
use tidings_mqtt_session::{SessionKey, WillMessage};

/// Most wills that are stored again, and most ends of connections that are repeated, with one renewal.
const REPEATED_AT_ONCE: usize = 1_000;
/// Most refused connections whose wills the broker may have; further connections with a will are refused without a request.
pub(super) const MAX_REFUSED: usize = 10_000;

/// The wills by the id of their connection.
#[derive(Debug, Default)]
pub(super) struct State {
    connections: HashMap<String, Connection>,
    /// The number of connections that are refused.
    refused: usize,
    begun: HashMap<String, (WillMessage, Begun)>,
    /// Whether the last claim returned as many wills as it may, so that another claim follows when these are published.
    has_more: bool,
}

/// A connection of this node with a will.
#[derive(Debug)]
struct Connection {
    key: SessionKey,
    /// Empty after the end of the connection, because it is not stored again.
    will: Bytes,
    /// Whether the broker has the will, as far as this node knows.
    is_stored: bool,
    /// The connection has ended, and the broker did not confirm that.
    closed: Option<Closed>,
    /// The broker did not confirm the will, so the connection was refused.
    is_refused: bool,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    /// Whether the will is published.
    pub(super) is_published: bool,
    /// For how many seconds the session is kept.
    pub(super) expiry: u32,
}

/// The state of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It is in progress.
    Publishing,
    /// It has failed, and is tried again.
    Failed,
    /// The broker has not confirmed its end.
    Published,
}

/// What is repeated.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Connections that have ended.
    pub(super) closed: Vec<(String, SessionKey, Closed)>,
    /// Connections whose wills the broker may not have any more.
    pub(super) unstored: Vec<(String, SessionKey, Bytes)>,
    /// Publications that have failed.
    pub(super) failed: Vec<(String, WillMessage)>,
    /// Publications whose end is not confirmed.
    pub(super) published: Vec<String>,
}

impl State {
    /// Adds a connection whose will is sent to the broker. Returns whether there is room for it.
    pub(super) fn open(&mut self, connection: String, key: SessionKey, will: Bytes) -> bool {
        if self.refused >= MAX_REFUSED {
            return false;
        }
        self.remove(&connection);
        let opened = Connection { key, will, is_stored: true, closed: None, is_refused: false };
        self.connections.insert(connection, opened);
        true
    }

    pub(super) fn close(&mut self, connection: &str, closed: Closed) {
        if let Some(known) = self.connections.get_mut(connection) {
            known.closed = Some(closed);
            known.will = Bytes::new();
        }
    }

    /// The broker did not confirm the will of a new connection, which is refused: the will is discarded there.
    pub(super) fn refuse(&mut self, connection: &str) {
        self.close(connection, Closed { is_published: false, expiry: 0 });
        if let Some(known) = self.connections.get_mut(connection)
            && !std::mem::replace(&mut known.is_refused, true)
        {
            self.refused += 1;
        }
    }

    pub(super) fn remove(&mut self, connection: &str) {
        if self.connections.remove(connection).is_some_and(|known| known.is_refused) {
            self.refused -= 1;
        }
    }

    /// Other nodes may have claimed the wills of this node.
    pub(super) fn set_unstored(&mut self) {
        self.connections.values_mut().for_each(|connection| connection.is_stored = false);
    }

    pub(super) fn set_stored(&mut self, connection: &str) {
        if let Some(known) = self.connections.get_mut(connection) {
            known.is_stored = true;
        }
    }

    /// Begins a publication; returns whether it is not in progress already.
    pub(super) fn begin(&mut self, connection: &str, will: &WillMessage) -> bool {
        if self.begun.contains_key(connection) {
            return false;
        }
        self.begun.insert(connection.to_owned(), (will.clone(), Begun::Publishing));
        true
    }

    pub(super) fn set_begun(&mut self, connection: &str, state: Begun) {
        if let Some((_, begun)) = self.begun.get_mut(connection) {
            *begun = state;
        }
    }

    /// Sets whether more wills may follow those of a claim.
    pub(super) fn set_more(&mut self, has_more: bool) {
        self.has_more = has_more;
    }

    /// Ends a publication; returns whether it was the last one of a claim after which another claim follows.
    pub(super) fn end(&mut self, connection: &str) -> bool {
        self.begun.remove(connection);
        self.begun.is_empty() && std::mem::take(&mut self.has_more)
    }

    /// The number of connections, and the bytes of their wills.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.connections.len(), self.connections.values().map(|connection| connection.will.len()).sum())
    }

    /// What is repeated now. The publications among it are in progress again.
    pub(super) fn repeats(&mut self) -> Repeats {
        let mut repeats = Repeats::default();
        for (id, connection) in &self.connections {
            let Connection { key, will, is_stored, closed, is_refused: _ } = connection;
            if let Some(closed) = closed {
                if repeats.closed.len() < REPEATED_AT_ONCE {
                    repeats.closed.push((id.clone(), key.clone(), *closed));
                }
            } else if !is_stored && repeats.unstored.len() < REPEATED_AT_ONCE {
                repeats.unstored.push((id.clone(), key.clone(), will.clone()));
            }
        }
        for (id, (will, begun)) in &mut self.begun {
            match begun {
                Begun::Publishing => {}
                Begun::Failed => {
                    *begun = Begun::Publishing;
                    repeats.failed.push((id.clone(), will.clone()));
                }
                Begun::Published => repeats.published.push(id.clone()),
            }
        }
        repeats
    }
}

#[cfg(test)]
mod tests {
    use tidings_wire::Channel;

    use super::*;

    fn will() -> WillMessage {
        WillMessage { channel: Channel::new("gone").unwrap(), body: "bye".into(), extra: None, delay: 0 }
    }

    #[test]
    fn what_the_broker_did_not_confirm_is_repeated() {
        let mut state = State::default();
        for connection in ["a", "b"] {
            assert!(state.open(connection.to_owned(), connection.into(), "will".into()));
        }
        let repeats = state.repeats();
        assert!(repeats.closed.is_empty() && repeats.unstored.is_empty(), "{repeats:?}");
        let closed = Closed { is_published: true, expiry: 9 };
        state.close("a", closed);
        state.set_unstored();
        for _ in 0..2 {
            let repeats = state.repeats();
            assert_eq!(repeats.closed, [("a".to_owned(), "a".into(), closed)]);
            assert_eq!(repeats.unstored, [("b".to_owned(), "b".into(), "will".into())]);
        }
        state.remove("a");
        state.set_stored("b");
        let repeats = state.repeats();
        assert!(repeats.closed.is_empty() && repeats.unstored.is_empty(), "{repeats:?}");
    }

    #[test]
    fn a_will_is_published_once_and_again_only_after_a_failure() {
        let mut state = State::default();
        assert!(state.begin("a", &will()));
        assert!(!state.begin("a", &will()), "the broker passes it again until its end is confirmed");
        assert!(state.repeats().failed.is_empty());
        state.set_begun("a", Begun::Failed);
        assert_eq!(state.repeats().failed, [("a".to_owned(), will())]);
        assert!(state.repeats().failed.is_empty(), "it is in progress again");
        state.set_begun("a", Begun::Published);
        assert_eq!(state.repeats().published, ["a"]);
        assert!(!state.begin("a", &will()));
        state.end("a");
        assert!(state.repeats().published.is_empty());
    }
}
