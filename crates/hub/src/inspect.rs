//! Sessions as operators see them. Nothing here changes a session.

use tidings_wire::Labels;

use crate::access::Identity;
use crate::hub::Hub;
use crate::index::Slot;
use crate::protocols::{Peer as _, Protocols};
use crate::session::SessionId;

/// The state of one session, without its subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSummary<'a> {
    /// The id of the session.
    pub id: SessionId,
    /// The user; empty for an anonymous client.
    pub user: &'a str,
    /// The label of its protocol and transport in metrics.
    pub protocol: &'static str,
    /// The identity that determines the rights.
    pub identity: Identity,
    /// The number of subscriptions.
    pub subscriptions: usize,
    /// The labels, by name.
    pub labels: &'a [(String, String)],
}

impl<P: Protocols> Hub<P> {
    /// The session in `slot`; `None` if the slot is empty.
    pub fn summary(&self, slot: Slot) -> Option<SessionSummary<'_>> {
        let session = self.sessions.get(slot.index())?;
        Some(SessionSummary {
            id: SessionId { slot, generation: session.generation },
            user: session.user_state().map(|state| &*state.user).unwrap_or_default(),
            protocol: session.peer.name(),
            identity: session.identity,
            subscriptions: session.subscriptions().len(),
            labels: session
                .user_state()
                .and_then(|state| state.labels.as_deref())
                .map(Labels::as_slice)
                .unwrap_or_default(),
        })
    }

    /// The names of at most `limit` topics of the session in `slot`.
    pub fn topic_names(&self, slot: Slot, limit: usize) -> Vec<String> {
        let Some(session) = self.sessions.get(slot.index()) else { return Vec::new() };
        let names = session.subscriptions().iter().filter_map(|subscription| {
            Some(self.topics.get(subscription.topic)?.topic().as_str().to_owned())
        });
        names.take(limit).collect()
    }
}
