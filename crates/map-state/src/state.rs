//! The keys of one map with their values, their order and their expiry.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::Instant;

use tidings_wire::{ClientInfo, Position, Publication};

use crate::change::Version;
use crate::cursor::Cursor;

/// Memory of a key besides its texts and its value.
const ENTRY_OVERHEAD: usize = 320;
/// Allowance for a value in a limit of bytes.
const ANSWER_OVERHEAD: usize = 64;

/// A query for a part of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateQuery {
    /// The cursor of the page before; empty for the first page.
    pub cursor: String,
    /// Most keys; zero for the position alone.
    pub limit: usize,
    /// In an ordered map, whether the lowest score is first.
    pub asc: bool,
    /// This key alone.
    pub key: Option<String>,
    /// Most bytes; at least one key is returned.
    pub max_bytes: usize,
}

/// A part of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePage {
    /// The position of the channel.
    pub position: Position,
    /// The values, each as the publication that set it.
    pub entries: Vec<Arc<Publication>>,
    /// The scores of the values.
    pub scores: Vec<i64>,
    /// The cursor of the next page; empty after the last one. A page may have no values and a cursor.
    pub cursor: String,
}

impl StatePage {
    /// The page of a map without keys.
    pub(crate) fn empty(position: Position) -> Self {
        Self { position, entries: Vec::new(), scores: Vec::new(), cursor: String::new() }
    }
}

/// A value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) publication: Arc<Publication>,
    pub(crate) score: i64,
    pub(crate) expires: Option<Instant>,
    pub(crate) version: Option<Version>,
}

impl Entry {
    /// The bytes that a value takes.
    pub(crate) fn cost(publication: &Publication, key: &str, version: Option<&Version>) -> usize {
        publication.size() + 3 * key.len() + version.map_or(0, |v| v.epoch.len()) + ENTRY_OVERHEAD
    }

    /// Whether it has this body and was set by this client.
    pub(crate) fn has(&self, body: &[u8], info: Option<&ClientInfo>) -> bool {
        let held = self.publication.extra.as_ref().and_then(|extra| extra.info.as_ref());
        self.publication.body == body && held == info
    }

    fn own_cost(&self, key: &str) -> usize {
        Self::cost(&self.publication, key, self.version.as_ref())
    }
}

/// The keys of one map.
#[derive(Debug, Default)]
pub(crate) struct State {
    entries: BTreeMap<Arc<str>, Entry>,
    /// The keys by falling score; `None` while the map is not ordered.
    order: Option<BTreeSet<(Reverse<i64>, Arc<str>)>>,
    expiries: BTreeSet<(Instant, Arc<str>)>,
    bytes: usize,
}

impl State {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The bytes that the value of a key takes; zero without the key.
    pub(crate) fn cost(&self, key: &str) -> usize {
        self.entries.get(key).map_or(0, |entry| entry.own_cost(key))
    }

    /// The time at which the next key expires.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// A key that has expired.
    pub(crate) fn expired(&self, now: Instant) -> Option<Arc<str>> {
        self.expiries.first().filter(|(at, _)| *at <= now).map(|(_, key)| Arc::clone(key))
    }

    /// Orders the pages by score, or no longer.
    pub(crate) fn set_ordered(&mut self, ordered: bool) {
        if ordered == self.order.is_some() {
            return;
        }
        let all = || self.entries.iter().map(|(key, entry)| (Reverse(entry.score), Arc::clone(key)));
        self.order = ordered.then(|| all().collect());
    }

    /// Sets a key.
    pub(crate) fn insert(&mut self, key: &str, entry: Entry) {
        self.remove(key);
        let key: Arc<str> = key.into();
        self.bytes += entry.own_cost(&key);
        if let Some(order) = &mut self.order {
            order.insert((Reverse(entry.score), Arc::clone(&key)));
        }
        if let Some(at) = entry.expires {
            self.expiries.insert((at, Arc::clone(&key)));
        }
        self.entries.insert(key, entry);
    }

    /// Sets the time at which a key expires.
    pub(crate) fn renew(&mut self, key: &str, expires: Option<Instant>) {
        let Some((key, _)) = self.entries.get_key_value(key) else { return };
        let key = Arc::clone(key);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let Some(at) = entry.expires {
            self.expiries.remove(&(at, Arc::clone(&key)));
        }
        entry.expires = expires;
        if let Some(at) = expires {
            self.expiries.insert((at, key));
        }
    }

    /// Removes a key; returns its value.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Entry> {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.bytes -= entry.own_cost(&key);
        if let Some(order) = &mut self.order {
            order.remove(&(Reverse(entry.score), Arc::clone(&key)));
        }
        if let Some(at) = entry.expires {
            self.expiries.remove(&(at, key));
        }
        Some(entry)
    }

    /// Reads a page; `position` is that of the channel. `None` if the cursor is invalid.
    pub(crate) fn read(&self, query: &StateQuery, position: Position) -> Option<StatePage> {
        if let Some(key) = &query.key {
            let entry = self.entries.get(key.as_str());
            return Some(StatePage {
                entries: entry.iter().map(|entry| Arc::clone(&entry.publication)).collect(),
                scores: entry.iter().map(|entry| entry.score).collect(),
                ..StatePage::empty(position)
            });
        }
        let after = match query.cursor.as_str() {
            "" => None,
            text => Some(Cursor::parse(text)?),
        };
        let Some(order) = &self.order else {
            let start = match after {
                None => Unbounded,
                Some(Cursor::Key(key)) => Excluded(key),
                Some(Cursor::Score(..)) => return None,
            };
            return Some(self.page(self.entries.range((start, Unbounded)), query, position));
        };
        let place = match after {
            None => None,
            Some(Cursor::Score(score, key)) => Some((Reverse(score), key)),
            Some(Cursor::Key(_)) => return None,
        };
        let entry = |(_, key): &(_, Arc<str>)| self.entries.get_key_value(&**key);
        Some(if query.asc {
            let end = place.map_or(Unbounded, Excluded);
            self.page(order.range((Unbounded, end)).rev().filter_map(entry), query, position)
        } else {
            let start = place.map_or(Unbounded, Excluded);
            self.page(order.range((start, Unbounded)).filter_map(entry), query, position)
        })
    }

    /// The first of these keys, within the limits of the query.
    fn page<'a>(
        &self,
        rest: impl Iterator<Item = (&'a Arc<str>, &'a Entry)>,
        query: &StateQuery,
        position: Position,
    ) -> StatePage {
        let mut page = StatePage::empty(position);
        let (mut bytes, mut last) = (0_usize, None);
        let mut rest = rest.peekable();
        while page.entries.len() < query.limit
            && let Some((key, entry)) = rest.peek()
        {
            bytes = bytes.saturating_add(entry.publication.size() + ANSWER_OVERHEAD);
            if bytes > query.max_bytes && !page.entries.is_empty() {
                break;
            }
            page.entries.push(Arc::clone(&entry.publication));
            page.scores.push(entry.score);
            last = Some((Arc::clone(key), entry.score));
            rest.next();
        }
        if let Some((key, score)) = last
            && rest.peek().is_some()
        {
            let is_ordered = self.order.is_some();
            page.cursor = if is_ordered { Cursor::Score(score, key) } else { Cursor::Key(key) }.text();
        }
        page
    }
}
