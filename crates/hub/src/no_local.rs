//! Subscriptions that exclude the session's own publications, and the subscribers of a topic that do not get all publications of a
//! fan-out.
//!
//! Invariants:
//! - A session is in [`Hub::origins`] exactly while it has such a subscription.
//! - A topic without such subscribers costs one comparison more, and one with them a lookup for each publication with an
//!   origin. No cost depends on the number of subscribers.

use std::collections::HashMap;
use std::sync::Arc;

use tidings_wire::{Position, Publication};

use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::protocols::Protocols;
use crate::subscriptions::Subscription;
use crate::topics::{TopicEntry, is_at_or_before};

/// A subscriber that gets only some of the publications of a fan-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialRecipient {
    /// Its slot.
    pub slot: Slot,
    /// It already has the publications up to this position.
    has_until: Option<Position>,
    /// It does not get publications with this origin.
    excluded: Option<u128>,
}

impl PartialRecipient {
    /// Whether it gets the publication.
    pub fn receives(&self, publication: &Publication) -> bool {
        let has = self.has_until.as_ref().is_some_and(|position| is_at_or_before(publication, position));
        let is_own = self.excluded.is_some_and(|id| origin(publication) == Some(id));
        !has && !is_own
    }
}

/// The origin of a publication, if it is a client id of a node: a UUID.
pub(crate) fn origin(publication: &Publication) -> Option<u128> {
    let (mut bits, mut digits) = (0, 0);
    for byte in publication.origin()?.bytes().filter(|byte| *byte != b'-') {
        bits = bits << 4 | u128::from(char::from(byte).to_digit(16)?);
        digits += 1;
    }
    (digits == 32).then_some(bits)
}

impl<P: Protocols> Hub<P> {
    /// Sets whether a subscription of the session excludes publications with the session's client id as their origin.
    pub fn set_no_local(&mut self, slot: Slot, topic: TopicKey, on: bool) {
        let session = &mut self.sessions[slot.index()];
        if !session.set_no_local(topic, on) {
            return;
        }
        let number = session.subscriptions().iter().filter(|s| s.is_no_local()).count();
        if let Some(entry) = self.topics.get_mut(topic) {
            entry.count_no_local(on);
        }
        let id = self.client_id_bits(self.session_id(slot));
        match (on, number) {
            (true, 1) => _ = self.origins.insert(id, slot),
            (false, 0) => _ = self.origins.remove(&id),
            _ => {}
        }
    }

    /// The subscribers of a topic that do not get all publications: those that already have some (`skipping`), and those that
    /// published some and exclude them.
    pub(crate) fn partial_recipients(
        &self,
        key: TopicKey,
        publications: &[Arc<Publication>],
        skipping: Vec<(Slot, Position)>,
    ) -> Vec<PartialRecipient> {
        let has_no_local = self.topics.get(key).is_some_and(TopicEntry::has_no_local);
        if skipping.is_empty() && !has_no_local {
            return Vec::new();
        }
        let skipping = skipping.into_iter().map(|(slot, position)| {
            (slot, PartialRecipient { slot, has_until: Some(position), excluded: None })
        });
        let mut partial: HashMap<Slot, PartialRecipient> = skipping.collect();
        for id in publications.iter().filter(|_| has_no_local).filter_map(|p| origin(p)) {
            let Some(&slot) = self.origins.get(&id) else { continue };
            if self.sessions[slot.index()].subscription(key).is_some_and(Subscription::is_no_local) {
                let recipient = PartialRecipient { slot, has_until: None, excluded: None };
                partial.entry(slot).or_insert(recipient).excluded = Some(id);
            }
        }
        let mut partial: Vec<_> = partial.into_values().collect();
        partial.sort_unstable_by_key(|recipient| recipient.slot);
        partial
    }
}
