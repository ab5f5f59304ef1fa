//! Values of the application: those in responses to requests, and those that it publishes.

use std::sync::Arc;

use tidings_wire::Channel;

use crate::counters::ItemOutcome;
use crate::delivery::{Sink, Subscriber, Value, Values};
use crate::entry::{publication, size};
use crate::polls::Polls;

/// The result of a publication by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Subscribers get it.
    Applied,
    /// No subscriber of this node tracks the key, or the version is not newer.
    Ignored,
    /// It does not fit into the bound of all values.
    Refused,
}

impl<S: Subscriber> Polls<S> {
    /// Applies a value that the application publishes.
    pub fn publish(
        &mut self,
        now: u64,
        channel: &Channel,
        value: Value,
        epoch: &str,
        sink: &mut impl Sink<S>,
    ) -> Published {
        if !self.channels.contains_key(channel) || self.flip(now, channel, epoch, sink) {
            return Published::Ignored;
        }
        let key = value.key.clone();
        let outcome = self.apply(channel, value);
        if let Some(entry) = self.channels.get_mut(channel).and_then(|poll| poll.entries.get_mut(&*key)) {
            entry.is_fresh |= outcome == ItemOutcome::Changed;
        }
        self.schedule(channel);
        match outcome {
            ItemOutcome::Changed | ItemOutcome::Removed => Published::Applied,
            ItemOutcome::Refused => Published::Refused,
            ItemOutcome::Unchanged | ItemOutcome::Unknown => Published::Ignored,
        }
    }

    /// Applies the response to a request; `None` if there is no valid one.
    pub fn respond(&mut self, now: u64, id: u64, values: Option<Values>, sink: &mut impl Sink<S>) {
        let Some((channel, of_cycle)) = self.in_flight.remove(&id) else { return };
        let Some(poll) = self.channels.get_mut(&channel) else { return };
        if of_cycle {
            poll.outstanding = poll.outstanding.saturating_sub(1);
        }
        match values {
            None => poll.on_failure(now),
            Some(Values { epoch, items }) => {
                poll.on_success(now);
                if !self.flip(now, &channel, &epoch, sink) {
                    for item in items {
                        let outcome = self.apply(&channel, item);
                        self.counters.items.add(outcome);
                    }
                }
            }
        }
        self.schedule(&channel);
    }

    /// Ends all subscriptions if the epoch of the versions has changed, so that clients begin again; returns whether it has.
    fn flip(&mut self, now: u64, channel: &Channel, epoch: &str, sink: &mut impl Sink<S>) -> bool {
        let Some(poll) = self.channels.get_mut(channel) else { return false };
        if !poll.options.versioned || poll.epoch == epoch {
            return false;
        }
        poll.epoch = epoch.to_owned();
        let subscribers: Vec<S> = poll.subscribers.keys().copied().collect();
        for subscriber in subscribers {
            self.bytes -= poll.leave(subscriber, now);
            sink.end(channel, subscriber);
        }
        self.counters.add_flip();
        self.schedule(channel);
        true
    }

    /// Sets the value of a key that is tracked, if it is newer.
    fn apply(&mut self, channel: &Channel, value: Value) -> ItemOutcome {
        let Some(poll) = self.channels.get_mut(channel) else { return ItemOutcome::Unknown };
        let keeps_previous = poll.deltas > 0;
        let Some((key, _)) = poll.entries.get_key_value(&*value.key) else { return ItemOutcome::Unknown };
        let key = Arc::clone(key);
        let Some(entry) = poll.entries.get_mut(&key).filter(|entry| entry.removed.is_none()) else {
            return ItemOutcome::Unknown;
        };
        if value.removed {
            let version = value.version.max(entry.version);
            entry.removed = Some(publication(channel, &key, version, None));
            poll.undelivered.insert(key);
            poll.retries_at = 0;
            return ItemOutcome::Removed;
        }
        let Some(body) = value.data else { return ItemOutcome::Unchanged };
        let is_newer =
            if poll.options.versioned { value.version > entry.version } else { !entry.has_body(&body) };
        if !is_newer {
            return ItemOutcome::Unchanged;
        }
        let before = entry.size();
        let kept =
            if keeps_previous { entry.current.as_ref().map_or(0, |old| size(old.body.len())) } else { 0 };
        let total = self.bytes - before + size(body.len()) + kept;
        if total > self.limits.bytes {
            return ItemOutcome::Refused;
        }
        self.bytes = total;
        let version = if poll.options.versioned {
            value.version
        } else {
            self.version += 1;
            self.version
        };
        let current = entry.current.replace(publication(channel, &key, version, Some(body)));
        entry.previous = current.filter(|_| keeps_previous).map(|current| (entry.version, current));
        entry.version = version;
        poll.undelivered.insert(key);
        poll.retries_at = 0;
        ItemOutcome::Changed
    }
}
