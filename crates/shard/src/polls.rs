//! Values of shared polls for some sessions of a shard: encoded once for each wire form, as other publications are.

use std::sync::Arc;

use tidings_hub::{SessionId, Slot};
use tidings_wire::{Form, Publication, Topic};

use crate::deltas;
use crate::fanout::{Recipients, delta_encoding};
use crate::metrics::add;
use crate::shard::Shard;

/// A value of a shared poll for sessions that track its key.
#[derive(Debug)]
pub struct PollDelivery {
    /// The value, with its key and version.
    pub publication: Arc<Publication>,
    /// The value before it, which the sessions of `deltas` have.
    pub base: Option<Arc<Publication>>,
    /// Sessions that get the value in full.
    pub full: Vec<SessionId>,
    /// Sessions that get the difference to `base`.
    pub deltas: Vec<SessionId>,
}

/// Sessions that get the same bytes.
struct PollGroup {
    form: Form,
    /// Whether contents are encoded for a client with deltas.
    has_deltas: bool,
    /// Whether they have the base.
    has_base: bool,
    slots: Vec<Slot>,
}

impl Shard {
    /// Sends a value to its sessions that are still subscribed.
    pub(crate) fn fan_out_poll(&mut self, delivery: PollDelivery) {
        let PollDelivery { publication, base, full, deltas } = delivery;
        let Some(key) = self.hub.topic(&Topic::Channel(publication.channel.clone())) else { return };
        let mut groups: Vec<PollGroup> = Vec::new();
        let all = full.into_iter().map(|id| (id, false)).chain(deltas.into_iter().map(|id| (id, true)));
        for (id, has_base) in all {
            let Some(form) = self.hub.subscriber_form(id, key) else { continue };
            let has_deltas = self.hub.has_deltas(key, id.slot);
            let group = (form, has_deltas, has_base);
            match groups.iter_mut().find(|one| (one.form, one.has_deltas, one.has_base) == group) {
                Some(one) => one.slots.push(id.slot),
                None => groups.push(PollGroup { form, has_deltas, has_base, slots: vec![id.slot] }),
            }
        }
        let publications = [publication];
        for PollGroup { form, has_deltas, has_base, slots } in groups {
            let encoding = delta_encoding(form).filter(|_| has_deltas);
            let contents = encoding.zip(self.hub.entry(key)).map(|(encoding, entry)| {
                deltas::after(base.as_deref().filter(|_| has_base), encoding, entry, &publications)
            });
            for content in contents.iter().flatten() {
                let (whole, sent) = (content.full().len(), content.sent().0.len());
                add(&self.metrics.deltas.plain, (whole * slots.len()) as u64);
                add(&self.metrics.deltas.compressed, (sent * slots.len()) as u64);
            }
            self.fan_out_all(key, form, &Recipients::Listed(&slots), &publications, contents.as_deref());
        }
    }
}
