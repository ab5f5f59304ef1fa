//! One map: its state and its stream, which change together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_wire::{Channel, Extra, History, HistoryQuery, MapKey, Position, Publication};

use crate::EXPIRY_BATCH;
use crate::budget::Budget;
use crate::change::{Applied, KeyChange, KeyMode, MapError, MapOptions, SetKey, Suppression};
use crate::state::{Entry, State, StatePage, StateQuery};
use crate::stream::Stream;

/// Memory of a map besides its keys and its stream.
pub(crate) const MAP_OVERHEAD: usize = 1024;

/// One map.
#[derive(Debug)]
pub(crate) struct Map {
    /// The number of the map in its [`Maps`](crate::Maps).
    pub(crate) id: u64,
    /// The time for which the timer of the map is set.
    pub(crate) timer: Option<Instant>,
    position: Position,
    options: MapOptions,
    state: State,
    stream: Stream,
    /// The end of the position, once the map is empty.
    until: Instant,
}

impl Map {
    pub(crate) fn new(id: u64, position: Position, options: MapOptions, now: Instant) -> Self {
        let until = later(now, options.meta_ttl);
        Self { id, timer: None, position, options, state: State::default(), stream: Stream::default(), until }
    }

    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    pub(crate) fn len(&self) -> usize {
        self.state.len()
    }

    /// The time of the next step of [`Self::expire`].
    pub(crate) fn deadline(&self) -> Instant {
        let next = [self.state.next_expiry(), self.stream.next_expiry()].into_iter().flatten().min();
        next.unwrap_or_else(|| if self.state.len() == 0 { self.until } else { later(self.until, NEVER) })
    }

    /// Whether its position has ended.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.state.len() == 0 && self.stream.is_empty() && self.until <= now
    }

    /// Makes a change; expired keys are removed before. The publications are added to `out`.
    pub(crate) fn apply(
        &mut self,
        channel: &Channel,
        change: KeyChange,
        options: &MapOptions,
        budget: &Budget,
        now: Instant,
        out: &mut Vec<Arc<Publication>>,
    ) -> Result<Applied, MapError> {
        self.options = *options;
        self.state.set_ordered(options.ordered);
        self.expire(channel, budget, now, out);
        let is_expired = |entry: &Entry| entry.expires.is_some_and(|at| at <= now);
        if self.state.get(&change.key).is_some_and(is_expired) {
            self.remove(channel, &change.key, Vec::new(), None, budget, now, out);
        }
        let KeyChange { key, set, tags, info } = change;
        let held = self.state.get(&key);
        let Some(set) = set else {
            if held.is_none() {
                return Ok(self.suppressed(Suppression::KeyNotFound));
            }
            let publication = self.remove(channel, &key, tags, info, budget, now, out);
            return Ok(Applied::Changed(publication));
        };
        let newer = |held: &Entry| match (&set.version, &held.version) {
            (Some(new), Some(old)) => new.epoch != old.epoch || new.number > old.number,
            _ => true,
        };
        let expires = options.key_ttl.map(|ttl| later(now, ttl));
        match (held, set.mode) {
            (Some(held), KeyMode::IfChanged) if held.has(&set.body, info.as_ref()) => {
                self.state.renew(&key, expires);
                return Ok(self.suppressed(Suppression::KeyExists));
            }
            (Some(_), KeyMode::IfNew) => return Ok(self.suppressed(Suppression::KeyExists)),
            (None, KeyMode::IfExists) => return Ok(self.suppressed(Suppression::KeyNotFound)),
            (Some(held), _) if !newer(held) => return Ok(self.suppressed(Suppression::Version)),
            (None, _) if self.state.len() >= options.keys => return Err(MapError::Keys(options.keys)),
            _ => {}
        }
        let SetKey { body, stream_body, score, version, .. } = set;
        let extra = Extra {
            info,
            tags,
            map: Some(Box::new(MapKey { key: key.clone(), ..MapKey::default() })),
            ..Extra::default()
        };
        let mut publication = Publication::new(channel.clone(), body);
        publication.extra = Some(Box::new(extra));
        let (cost, before) = (Entry::cost(&publication, &key, version.as_ref()), self.state.cost(&key));
        if self.state.bytes() - before + cost > options.bytes {
            return Err(MapError::ChannelBytes(options.bytes));
        }
        let more = cost.saturating_sub(before);
        while !budget.reserve(more) {
            // Subscribers that must read the state again are better than a value that is refused.
            if !self.stream.drop_oldest(budget) {
                return Err(MapError::TotalBytes(budget.limit()));
            }
        }
        budget.release(before.saturating_sub(cost));
        publication.position = Some(self.next_position(now));
        let publication = Arc::new(publication);
        let entry = Entry { publication: Arc::clone(&publication), score, expires, version };
        self.state.insert(&key, entry);
        let shown = match stream_body {
            None => publication,
            Some(body) => Arc::new(Publication { body, ..Publication::clone(&publication) }),
        };
        self.push(&shown, budget, now, out);
        Ok(Applied::Changed(shown))
    }

    fn suppressed(&self, why: Suppression) -> Applied {
        Applied::Suppressed(why, self.position.clone())
    }

    /// Removes a key that exists.
    #[expect(clippy::too_many_arguments, reason = "the parts of one change")]
    fn remove(
        &mut self,
        channel: &Channel,
        key: &str,
        tags: Vec<(String, String)>,
        info: Option<tidings_wire::ClientInfo>,
        budget: &Budget,
        now: Instant,
        out: &mut Vec<Arc<Publication>>,
    ) -> Arc<Publication> {
        budget.release(self.state.cost(key));
        let removed = self.state.remove(key);
        let old_tags = || removed.and_then(|e| Some(e.publication.extra.as_ref()?.tags.clone()));
        let tags = if tags.is_empty() { old_tags().unwrap_or_default() } else { tags };
        let map = Some(Box::new(MapKey { key: key.into(), removed: true, version: 0 }));
        let mut publication = Publication::new(channel.clone(), Bytes::new());
        publication.extra = Some(Box::new(Extra { info, tags, map, ..Extra::default() }));
        publication.position = Some(self.next_position(now));
        let publication = Arc::new(publication);
        self.push(&publication, budget, now, out);
        publication
    }

    fn next_position(&mut self, now: Instant) -> Position {
        self.position.offset += 1;
        self.until = later(now, self.options.meta_ttl);
        self.position.clone()
    }

    fn push(
        &mut self,
        publication: &Arc<Publication>,
        budget: &Budget,
        now: Instant,
        out: &mut Vec<Arc<Publication>>,
    ) {
        let MapOptions { stream_size, stream_ttl, bytes, .. } = self.options;
        self.stream.append(publication, (stream_size, stream_ttl, bytes), budget, now);
        out.push(Arc::clone(publication));
    }

    /// Removes expired keys, at most [`EXPIRY_BATCH`], and drops expired publications of the stream.
    pub(crate) fn expire(
        &mut self,
        channel: &Channel,
        budget: &Budget,
        now: Instant,
        out: &mut Vec<Arc<Publication>>,
    ) {
        for _ in 0..EXPIRY_BATCH {
            let Some(key) = self.state.expired(now) else { break };
            self.remove(channel, &key, Vec::new(), None, budget, now, out);
        }
        self.stream.expire(budget, now);
    }

    /// Reads a page of the state. `None` if the cursor is invalid.
    pub(crate) fn read_state(&mut self, query: &StateQuery, ordered: bool) -> Option<StatePage> {
        self.state.set_ordered(ordered);
        self.state.read(query, self.position.clone())
    }

    /// Reads a part of the stream.
    pub(crate) fn read_stream(&self, query: &HistoryQuery) -> History {
        self.stream.read(query, self.position.clone())
    }

    /// Releases everything.
    pub(crate) fn release(mut self, budget: &Budget) {
        self.stream.clear(budget);
        budget.release(self.state.bytes() + MAP_OVERHEAD);
    }
}

/// The longest time: thirty years.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// `now` plus `time`, at most thirty years.
pub(crate) fn later(now: Instant, time: Duration) -> Instant {
    now + time.min(NEVER)
}
