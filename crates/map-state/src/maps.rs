//! The maps of a set of channels, and their timers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use tidings_wire::{Channel, Epoch, History, HistoryPage, HistoryQuery, Position, Publication};

use crate::budget::Budget;
use crate::change::{Applied, KeyChange, MapError, MapOptions, Suppression};
use crate::map::{MAP_OVERHEAD, Map};
use crate::state::{StatePage, StateQuery};

/// The maps of a set of channels.
#[derive(Debug)]
pub struct Maps {
    channels: HashMap<Channel, Map>,
    /// The channels whose timers are set, by time and number. The timer of a map is never later than its deadline.
    timers: BTreeMap<(Instant, u64), Channel>,
    budget: Arc<Budget>,
    /// The number of maps that have begun.
    begun: u64,
    /// The number of maps that have ended; their epochs are not used again.
    ended: u64,
    keys: usize,
}

impl Maps {
    /// No maps, with this budget.
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { channels: HashMap::new(), timers: BTreeMap::new(), budget, begun: 0, ended: 0, keys: 0 }
    }

    /// The number of maps that have ended, from which `epoch` of the other methods derives the epoch of a map that begins.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// The number of keys in all maps.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// The number of maps.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Makes a change. The publications for the subscribers of the channel are added to `out` in their order, also if the
    /// change fails; `epoch` is that of a map that begins.
    ///
    /// # Errors
    /// [`MapError`]; the key is as before.
    pub fn apply(
        &mut self,
        channel: &Channel,
        change: KeyChange,
        options: &MapOptions,
        epoch: &Epoch,
        now: Instant,
        out: &mut Vec<Arc<Publication>>,
    ) -> Result<Applied, MapError> {
        change.check()?;
        if !self.channels.contains_key(channel) {
            if change.set.is_none() {
                let position = Position { offset: 0, epoch: epoch.clone() };
                return Ok(Applied::Suppressed(Suppression::KeyNotFound, position));
            }
            if !self.budget.reserve(MAP_OVERHEAD) {
                return Err(MapError::TotalBytes(self.budget.limit()));
            }
            self.begun += 1;
            let position = Position { offset: 0, epoch: epoch.clone() };
            self.channels.insert(channel.clone(), Map::new(self.begun, position, *options, now));
        }
        let Some(map) = self.channels.get_mut(channel) else { return Err(MapError::EmptyKey) };
        let before = map.len();
        let applied = map.apply(channel, change, options, &self.budget, now, out);
        self.keys = self.keys + map.len() - before;
        self.set_timer(channel);
        applied
    }

    /// Reads a page of the state of a channel. `None` if the cursor is invalid.
    pub fn read_state(
        &mut self,
        channel: &Channel,
        query: &StateQuery,
        ordered: bool,
        epoch: &Epoch,
    ) -> Option<StatePage> {
        match self.channels.get_mut(channel) {
            Some(map) => map.read_state(query, ordered),
            None => Some(StatePage::empty(Position { offset: 0, epoch: epoch.clone() })),
        }
    }

    /// Reads a part of the stream of a channel.
    pub fn read_stream(&self, channel: &Channel, query: &HistoryQuery, epoch: &Epoch) -> History {
        if let Some(map) = self.channels.get(channel) {
            return map.read_stream(query);
        }
        let position = Position { offset: 0, epoch: epoch.clone() };
        let is_here = |since: &Position| since.is_in(epoch) && since.offset == 0;
        if query.since.as_ref().is_none_or(is_here) {
            History::Page(HistoryPage { position, publications: Vec::new() })
        } else {
            History::Unrecoverable(position)
        }
    }

    /// The number of keys of a channel.
    pub fn key_count(&self, channel: &Channel) -> usize {
        self.channels.get(channel).map_or(0, Map::len)
    }

    /// Removes the state and the stream of a channel; returns its last position, if it had one. Its next epoch differs.
    pub fn clear(&mut self, channel: &Channel) -> Option<Position> {
        let map = self.channels.remove(channel)?;
        if let Some(at) = map.timer {
            self.timers.remove(&(at, map.id));
        }
        let position = map.position().clone();
        self.keys -= map.len();
        map.release(&self.budget);
        self.ended += 1;
        Some(position)
    }

    /// The time at which [`Maps::expire`] must be called again.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Removes the expired keys of the channel whose timer is the first to be due, and ends its map if it is over. The
    /// publications are added to `out`. `false` if no timer is due.
    pub fn expire(&mut self, now: Instant, out: &mut Vec<Arc<Publication>>) -> bool {
        let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= now) else {
            return false;
        };
        let channel = first.remove();
        let Some(map) = self.channels.get_mut(&channel) else { return true };
        map.timer = None;
        let before = map.len();
        map.expire(&channel, &self.budget, now, out);
        self.keys = self.keys + map.len() - before;
        if map.is_over(now) {
            self.clear(&channel);
        } else {
            self.set_timer(&channel);
        }
        true
    }

    /// Sets the timer of a channel, unless it is set for an earlier time.
    fn set_timer(&mut self, channel: &Channel) {
        let Some(map) = self.channels.get_mut(channel) else { return };
        let deadline = map.deadline();
        if map.timer.is_some_and(|at| at <= deadline) {
            return;
        }
        if let Some(at) = map.timer.replace(deadline) {
            self.timers.remove(&(at, map.id));
        }
        self.timers.insert((deadline, map.id), channel.clone());
    }
}

impl Drop for Maps {
    fn drop(&mut self) {
        for (_, map) in self.channels.drain() {
            map.release(&self.budget);
        }
    }
}
