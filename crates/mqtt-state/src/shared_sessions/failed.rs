//! Requests that the broker did not confirm, and that no client waits for.
//!
//! Invariants:
//! - The number of entries is bounded. Of further acknowledgements the messages are sent again when their client returns.
//! - A request that is repeated changes nothing if it was carried out before, or if the session has another connection.

use std::collections::{HashMap, VecDeque};

use tidings_mqtt_session::{CloseSession, SessionKey, Step, StoreSteps};

/// Most acknowledgements, and most requests for sessions, that are kept.
pub(super) const MAX_FAILED: usize = 10_000;
/// Most requests of each kind that are repeated with one renewal.
pub(super) const REPEATED_AT_ONCE: usize = 1_000;

/// What has failed.
#[derive(Debug, Default)]
pub(super) struct Failed {
    /// Acknowledgements, by session and connection.
    acknowledgements: HashMap<(SessionKey, String), Vec<Step>>,
    /// Their number.
    count: usize,
    /// Ends of connections.
    closes: VecDeque<CloseSession>,
    /// Ends of connections that were refused, because the broker did not confirm their session.
    opens: VecDeque<CloseSession>,
}

impl Failed {
    /// Keeps the acknowledgements among the steps of a request.
    pub(super) fn add_acknowledgements(&mut self, request: StoreSteps) {
        let StoreSteps { key, client, steps, .. } = request;
        let is_acknowledgement = |step: &Step| matches!(step, Step::Ended(_) | Step::Released(_));
        let room = MAX_FAILED - self.count;
        let steps: Vec<_> = steps.into_iter().filter(is_acknowledgement).take(room).collect();
        if !steps.is_empty() {
            self.count += steps.len();
            self.acknowledgements.entry((key, client)).or_default().extend(steps);
        }
    }

    /// Keeps the end of a connection, of which there are `most` at most.
    pub(super) fn add_close(&mut self, request: CloseSession, most: usize) {
        if self.closes.len() < most {
            self.closes.push_back(request);
        }
    }

    /// Keeps a request for a session.
    pub(super) fn add_open(&mut self, request: CloseSession) {
        if self.opens.len() < MAX_FAILED {
            self.opens.push_back(request);
        }
    }

    /// The requests that are repeated now: acknowledgements, and ends of connections.
    pub(super) fn take(&mut self) -> (Vec<StoreSteps>, Vec<CloseSession>) {
        let sessions: Vec<_> = self.acknowledgements.keys().take(REPEATED_AT_ONCE).cloned().collect();
        let mut acknowledgements = Vec::with_capacity(sessions.len());
        for session in sessions {
            let steps = self.acknowledgements.remove(&session).unwrap_or_default();
            self.count -= steps.len();
            let (key, client) = session;
            acknowledgements.push(StoreSteps { number: 0, key, client, steps, begins: None });
        }
        let mut closes = Vec::new();
        for requests in [&mut self.closes, &mut self.opens] {
            closes.extend(requests.drain(..requests.len().min(REPEATED_AT_ONCE)));
        }
        (acknowledgements, closes)
    }

    /// The number of acknowledgements, of ends of connections, and of requests for sessions.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.count, self.closes.len(), self.opens.len())
    }
}
