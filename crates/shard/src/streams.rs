//! Publications of streams: each is for one subscription, and is written when its client reads fast enough.
//!
//! Invariants:
//! - Publications of a stream are not queued behind more than [`BACKLOG`] bytes. Until the client has read these, they wait here, and
//!   their permit is not released, so the stream is not read meanwhile.
//! - At most one delivery of each stream waits, because a stream has one permit.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidings_hub::{SessionId, Slot, StreamId};
use tidings_wire::code;
use tidings_wire::{Channel, Publication};

use crate::fanout::Recipients;
use crate::shard::{BACKLOG, Shard};

/// Publications of a stream for its subscription.
#[derive(Debug)]
pub struct StreamDelivery {
    /// The channel.
    pub channel: Channel,
    /// The session.
    pub session: SessionId,
    /// The stream; publications of another one are discarded.
    pub stream: StreamId,
    /// The publications; none at the end of the stream, which ends the subscription so that the client subscribes again.
    pub publications: Vec<Arc<Publication>>,
    /// Dropped when the connection has taken the publications, or they are discarded.
    pub permit: Box<dyn Any + Send>,
}

/// The deliveries that wait for their clients.
pub(crate) type HeldDeliveries = HashMap<Slot, VecDeque<StreamDelivery>>;

impl Shard {
    /// Delivers the publications of a stream, or keeps them while the client has much to read.
    pub(crate) fn deliver_stream(&mut self, delivery: StreamDelivery) {
        let slot = delivery.session.slot;
        if self.hub.streamed_topic(delivery.session, &delivery.channel, delivery.stream).is_none() {
            return;
        }
        if self.held_deliveries.contains_key(&slot) || self.is_behind(slot) {
            let held = self.held_deliveries.entry(slot).or_default();
            // At most one of each stream waits, and streams that have ended leave none.
            held.retain(|held| self.hub.streamed_topic(held.session, &held.channel, held.stream).is_some());
            held.push_back(delivery);
        } else {
            self.send_stream(&delivery);
        }
    }

    /// Whether the client has to read more than [`BACKLOG`] bytes.
    fn is_behind(&self, slot: Slot) -> bool {
        let conn = self.conns.get(slot.index()).and_then(Option::as_ref);
        conn.and_then(|conn| conn.queue.as_ref()).is_some_and(|queue| queue.cost() > BACKLOG)
    }

    fn send_stream(&mut self, delivery: &StreamDelivery) {
        let StreamDelivery { channel, session, stream, publications, permit: _ } = delivery;
        let Some(key) = self.hub.streamed_topic(*session, channel, *stream) else { return };
        if publications.is_empty() {
            let end = (code::INSUFFICIENT_STATE.number, code::INSUFFICIENT_STATE.text);
            self.hub.end_streamed(*session, channel, *stream, end, &mut self.fx);
            return self.apply_effects();
        }
        let mut passing = publications.clone();
        self.hub.retain_passing(key, session.slot, &mut passing);
        if let Some(form) = self.hub.subscriber_form(*session, key) {
            self.fan_out_all(key, form, &Recipients::One(session.slot), &passing, None);
        }
    }

    /// Continues with the deliveries that wait for the client of a connection, as far as it has read.
    pub(crate) fn send_held_streams(&mut self, slot: Slot) {
        while !self.is_behind(slot) {
            let Some(held) = self.held_deliveries.get_mut(&slot) else { return };
            let Some(delivery) = held.pop_front() else { break };
            if held.is_empty() {
                self.held_deliveries.remove(&slot);
            }
            self.send_stream(&delivery);
        }
    }

    /// Discards the deliveries that wait for the client of a connection.
    pub(crate) fn drop_held_streams(&mut self, slot: Slot) {
        if !self.held_deliveries.is_empty() {
            self.held_deliveries.remove(&slot);
        }
    }
}
