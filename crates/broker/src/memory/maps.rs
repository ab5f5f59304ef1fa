//! Maps: their state is in `tidings-map-state`, in the stripe of their channel.
//!
//! A change, its position and its delivery are one step under the lock of the stripe. Keys expire by a task
//! ([`Memory::run_key_expiry`]) that sleeps until the earliest timer of all stripes.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidings_map_state::{Applied, Budget, MapError, StatePage, StateQuery, Suppression};
use tidings_wire::{Channel, Epoch, History, HistoryQuery, Position, Publication, Topic};
use tokio::sync::Notify;

use super::Memory;
use super::idempotency::result_cost;
use super::stripe::Stripe;
use crate::{BrokerError, Gap, MAX_IDEMPOTENCY_KEY, MapChange, Published, lock};

/// No timer is set.
const NEVER: u64 = u64::MAX;

/// Counters of maps since the start.
#[derive(Debug, Default)]
pub struct MapCounters {
    /// Keys that were set or removed, without expired ones.
    pub changes: AtomicU64,
    /// Keys that have expired.
    pub expired: AtomicU64,
    /// Changes that were refused because of a limit.
    pub refused: AtomicU64,
}

/// The state that the maps of all stripes share.
pub(super) struct SharedMaps {
    pub(super) budget: Arc<Budget>,
    counters: MapCounters,
    /// The earliest timer, in milliseconds since the start of the broker; [`NEVER`] without one.
    next: AtomicU64,
    earlier: Notify,
}

impl SharedMaps {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            budget: Arc::new(Budget::new(limit)),
            counters: MapCounters::default(),
            next: AtomicU64::new(NEVER),
            earlier: Notify::new(),
        }
    }
}

impl Memory {
    /// Counters of maps, for the metrics.
    pub fn map_counters(&self) -> &MapCounters {
        &self.maps.counters
    }

    /// The bytes of all maps.
    pub fn map_bytes(&self) -> u64 {
        self.maps.budget.used()
    }

    /// The numbers of maps and of their keys.
    pub fn map_counts(&self) -> (usize, usize) {
        self.stripes.iter().fold((0, 0), |(maps, keys), stripe| {
            let stripe = lock(stripe);
            (maps + stripe.maps.len(), keys + stripe.maps.keys())
        })
    }

    /// The epoch of a map that begins. A keyed digest, as that of a history.
    fn map_epoch(&self, stripe: &Stripe, channel: &Channel) -> Epoch {
        let digest = self.epochs.hash_one((channel, "map", stripe.maps.ended()));
        Epoch::from(format!("{digest:016x}").as_str())
    }

    pub(super) fn change_map(&self, channel: &Channel, change: MapChange) -> Result<Applied, BrokerError> {
        let MapChange { change, options, idempotency_key } = change;
        let key = idempotency_key.filter(|key| !key.is_empty()).map(|key| (channel.clone(), key));
        if key.as_ref().is_some_and(|key| key.1.len() > MAX_IDEMPOTENCY_KEY) {
            let why = format!("idempotency key longer than {MAX_IDEMPOTENCY_KEY} bytes");
            return Err(BrokerError::Invalid(why));
        }
        let (patterns, now) = (self.patterns(), Instant::now());
        self.sweep(now);
        let mut stripe = lock(self.stripe(channel));
        if let Some(key) = &key {
            if let Some(Published { position: Some(position), .. }) =
                stripe.results.get(key, now, &self.budget)
            {
                return Ok(Applied::Suppressed(Suppression::Idempotency, position));
            }
            if !self.budget.reserve(result_cost(key)) {
                return Err(BrokerError::Overloaded);
            }
        }
        let epoch = self.map_epoch(&stripe, channel);
        let mut publications = Vec::new();
        let applied = stripe.maps.apply(channel, change, &options, &epoch, now, &mut publications);
        let own = usize::from(matches!(applied, Ok(Applied::Changed(_))));
        let counters = &self.maps.counters;
        counters.changes.fetch_add(own as u64, Ordering::Relaxed);
        counters.expired.fetch_add((publications.len() - own) as u64, Ordering::Relaxed);
        for publication in &publications {
            self.deliver(&mut stripe, &patterns, publication);
        }
        self.set_timer(&stripe);
        match (key, &applied) {
            (Some(key), Ok(Applied::Changed(publication))) => {
                let position = publication.position.clone();
                stripe.results.store(key, Published { position, ..Published::default() }, now);
            }
            (Some(key), _) => self.budget.release(result_cost(&key)),
            (None, _) => {}
        }
        applied.map_err(|error| match error {
            MapError::EmptyKey | MapError::KeyTooLong(_) => BrokerError::Invalid(error.to_string()),
            MapError::Keys(_) | MapError::ChannelBytes(_) | MapError::TotalBytes(_) => {
                counters.refused.fetch_add(1, Ordering::Relaxed);
                BrokerError::Full(error.to_string())
            }
        })
    }

    pub(super) fn read_map_state(
        &self,
        channel: &Channel,
        query: &StateQuery,
        ordered: bool,
    ) -> Result<StatePage, BrokerError> {
        let mut stripe = lock(self.stripe(channel));
        let epoch = self.map_epoch(&stripe, channel);
        let page = stripe.maps.read_state(channel, query, ordered, &epoch);
        page.ok_or_else(|| BrokerError::Invalid("the cursor is not one of this map".to_owned()))
    }

    pub(super) fn read_map_stream(&self, channel: &Channel, query: &HistoryQuery) -> History {
        let stripe = lock(self.stripe(channel));
        let epoch = self.map_epoch(&stripe, channel);
        stripe.maps.read_stream(channel, query, &epoch)
    }

    pub(super) fn clear_map(&self, channel: &Channel) {
        let mut stripe = lock(self.stripe(channel));
        let Some(last) = stripe.maps.clear(channel) else { return };
        if stripe.subscribed.contains(channel) {
            let next = Position { offset: 0, epoch: self.map_epoch(&stripe, channel) };
            self.sink.gap(&Topic::Channel(channel.clone()), &Gap { last, next: Some(next) });
        }
    }

    /// Wakes the task that expires keys, if the timer of the stripe is the earliest one.
    fn set_timer(&self, stripe: &Stripe) {
        let Some(at) = stripe.maps.next_timer() else { return };
        // Rounded up, so that the timer is due when the task wakes.
        let at = u64::try_from(at.saturating_duration_since(self.started).as_micros().div_ceil(1000));
        let at = at.unwrap_or(NEVER - 1);
        if self.maps.next.fetch_min(at, Ordering::AcqRel) > at {
            self.maps.earlier.notify_one();
        }
    }

    /// Removes the keys that have expired, and delivers the removals.
    pub fn expire_keys(&self, now: Instant) {
        self.maps.next.store(NEVER, Ordering::Release);
        let patterns = self.patterns();
        let mut publications: Vec<Arc<Publication>> = Vec::new();
        for stripe in &self.stripes {
            // Publishers get the lock between two steps.
            loop {
                let mut stripe = lock(stripe);
                let is_due = stripe.maps.expire(now, &mut publications);
                self.maps.counters.expired.fetch_add(publications.len() as u64, Ordering::Relaxed);
                for publication in publications.drain(..) {
                    self.deliver(&mut stripe, &patterns, &publication);
                }
                if !is_due {
                    self.set_timer(&stripe);
                    break;
                }
            }
        }
    }

    /// Expires keys when they are due. Never ends.
    pub async fn run_key_expiry(&self) {
        loop {
            let wait = match self.maps.next.load(Ordering::Acquire) {
                NEVER => None,
                at => {
                    Some((self.started + Duration::from_millis(at)).saturating_duration_since(Instant::now()))
                }
            };
            match wait {
                None => self.maps.earlier.notified().await,
                Some(Duration::ZERO) => self.expire_keys(Instant::now()),
                Some(wait) => {
                    let _ = tokio::time::timeout(wait, self.maps.earlier.notified()).await;
                }
            }
        }
    }
}
