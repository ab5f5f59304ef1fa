//! The search for sessions that the broker has for this node, and whose connections have ended.
//!
//! The end of a connection is not repeated for ever, and the broker may carry out a request whose response is lost. Such a session
//! would never expire.
//!
//! Invariants:
//! - A session is closed if two searches in succession find it without its connection: the end of the connection is repeated
//!   meanwhile, with the expiry that its client has chosen.
//! - Each renewal reads one page. The number of sessions that were found is bounded; further ones are found later.

use std::collections::HashSet;

use bytes::Bytes;
use tidings_mqtt_session::CloseSession;

use super::{State, calls};

/// Most sessions that one search finds.
const MAX_FOUND: usize = 10_000;

/// The state of the search.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// Where the next page begins; empty at the begin.
    cursor: Bytes,
    /// The ids of connections that the search before found, and those that this one has found.
    before: HashSet<String>,
    found: HashSet<String>,
}

impl Strays {
    /// The cursor of the next page.
    pub(super) fn cursor(&self) -> Bytes {
        self.cursor.clone()
    }

    /// A session has no connection here; returns whether that is so since the search before.
    fn find(&mut self, client: &str) -> bool {
        if self.before.remove(client) {
            return true;
        }
        if self.found.len() < MAX_FOUND {
            self.found.insert(client.to_owned());
        }
        false
    }

    /// The next page begins here.
    fn continue_at(&mut self, cursor: Bytes) {
        let is_end = cursor.is_empty() || &cursor[..] == b"0";
        if is_end {
            self.before = std::mem::take(&mut self.found);
        }
        self.cursor = cursor;
    }
}

impl State {
    /// The sessions of a page that have no connection for certain.
    pub(super) fn find_strays(&mut self, answer: &[Bytes]) -> Vec<CloseSession> {
        let Self { strays, connections, .. } = self;
        let mut sessions = calls::own_sessions(answer);
        sessions.retain(|session| !connections.contains_key(&session.client) && strays.find(&session.client));
        strays.continue_at(answer.get(9).cloned().unwrap_or_default());
        sessions
    }
}
