//! Which sessions can be moved to another node without losing a publication.

use tidings_wire::code;

use crate::close::CloseReason;
use crate::hub::Hub;
use crate::index::Slot;
use crate::protocols::{Peer as _, Protocols};
use crate::session::Flag;
use crate::topics::TopicEntry;

impl<P: Protocols> Hub<P> {
    /// Whether the client of a session connects again after [`CloseReason::moved`] and loses nothing: its protocol
    /// recovers, each of its subscriptions is recoverable and live, and no command is in progress.
    pub fn is_movable(&self, slot: Slot) -> bool {
        let Some(session) = self.sessions.get(slot.index()) else { return false };
        let flags = session.flags;
        flags.has(Flag::Connected)
            && ![Flag::Closing, Flag::Finishing, Flag::Stopped].into_iter().any(|flag| flags.has(flag))
            && session.peer.recovers()
            && !session.has_pending()
            && session.subscriptions().iter().all(|subscription| {
                let entry = self.topics.get(subscription.topic);
                subscription.is_recoverable() && entry.is_some_and(TopicEntry::is_live)
            })
    }

    /// The generation of the latest session. Sessions that are opened later have later generations.
    pub fn latest_generation(&self) -> u32 {
        self.next_generation
    }
}

impl CloseReason {
    /// The client should connect again, to a node with fewer connections.
    pub fn moved() -> Self {
        let text = format!("{}: connections are rebalanced", code::FORCE_RECONNECT.text);
        Self::Code(code::FORCE_RECONNECT.number, text)
    }
}
