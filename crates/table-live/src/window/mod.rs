//! The rows of a sorted or filtered view near one of its pages, which are updated row by row.
//!
//! Of each other row only its segment is known: a range of keys, four bits for each place. So an update computes one key for each
//! changed row and compares it with a few bounds, and a view of a million rows takes half a mebibyte. When rows are added
//! before the page, or removed, other rows move into it; they are read from the next segment.
//!
//! Invariants:
//! - The rows of one segment are in memory with their keys, and no others.
//! - The number of rows before the first one is exact, so positions are those of the whole view.

mod near;
mod segments;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidings_table::{Control, Error, Overlay, Query, Reading, RowKeys, View};

use crate::budget::{Budget, Share};
use crate::ordered::OrderedLines;
use crate::view::{next_check, with_place};
use near::{CACHED_BYTES, RowCache};
use segments::{Division, Segments};

pub use near::NearRows;

/// The bytes of a row besides its key: pointer, length and allocation of the key, its line, and the entry of its place.
const ROW_BYTES: usize = 64;
/// The bytes of a row of a segment that is read, besides its key: its place and line (4 each), the key with its line in two lists
/// (24 each), the place in the key, and the allocation of the key.
const READ_BYTES: usize = 80;
/// The lines of an overlay that are copied at a time, to find replaced rows.
const BLOCK: u64 = 1 << 12;
/// The lines that are read from an order at a time.
const STEP: u64 = 1 << 16;
/// The rows that are read from the next segment at a time, in margins.
const READ_MARGINS: u64 = 8;
/// The most rows of a segment from which rows are read: their keys are computed, in some tenths of a second.
const MOST_READ: u64 = 1 << 18;
/// The most segments from which one update reads.
const READS: usize = 4;

/// The rows of a query near a page, with their sort keys. Each key ends with the place of its row.
pub struct WindowView {
    query: Query,
    reading: Arc<Reading>,
    keys: RowKeys,
    rows: OrderedLines<Box<[u8]>>,
    /// The number of the part of each place in `rows`.
    parts: HashMap<u32, u32>,
    /// The segments of all rows; those of one are in `rows`.
    segments: Segments,
    /// The number of lines of the file that were considered; [`u64::MAX`]: the rows must be computed again.
    applied: u64,
    /// The number of lines at which the types of the columns are determined again.
    check_at: u64,
    /// The rows on each side of the page that were kept at first. At most twice as many are kept, and as many as are read from
    /// a segment after that happened.
    margin: u64,
    has_read: bool,
    key_bytes: usize,
    share: Share,
    cache: Arc<Mutex<RowCache>>,
}

impl WindowView {
    /// The rows at the positions `page_at(total)` of a view with `total` rows, and `margin` rows before and after them. `whole`:
    /// the view, computed from the rows of `overlay` ([`Reading::view_of`]). `None` without memory, or if not all of the rows
    /// near the page are found again: a row is longer than what is examined of it, or the type of a column has changed.
    ///
    /// # Errors
    /// As [`Reading::view`].
    pub fn build(
        whole: &View,
        overlay: &Overlay,
        budget: &Budget,
        margin: u64,
        page_at: impl FnOnce(u64) -> Range<u64>,
        control: Control<'_>,
    ) -> Result<Option<Self>, Error> {
        let (reading, query, total) = (whole.reading(), whole.query(), whole.total());
        let page = page_at(total);
        let near = page.start.min(total).saturating_sub(margin)..page.end.saturating_add(margin).min(total);
        let mut share = budget.view_share();
        let rows = (near.end - near.start) as usize;
        let places = places_of(overlay);
        if !share.try_set(Segments::bytes_for(places) + rows * ROW_BYTES + CACHED_BYTES) {
            return Ok(None);
        }
        let division = Division::around(&near, total, READ_MARGINS * margin);
        let mut segments = Segments::new(&division, places);
        // The rows in memory, and the first row of each segment, for its least key.
        let (mut lines, mut firsts) = (Vec::new(), HashMap::new());
        let mut at = 0;
        for start in (0..total).step_by(STEP as usize) {
            control.check()?;
            for (line, position) in whole.lines(start..start + STEP)?.into_iter().zip(start..) {
                while division.starts.get(at + 1).is_some_and(|next| *next <= position) {
                    at += 1;
                }
                let is_first = at > 0 && position == division.starts[at];
                if is_first {
                    firsts.insert(line, at);
                }
                if is_first || near.contains(&position) {
                    lines.push(line);
                }
                if let Some(place) = overlay.place(line) {
                    segments.place(place, at);
                }
            }
        }
        lines.sort_unstable();
        // The values of filters were checked for the whole view.
        let keys = reading.row_keys(query, false, control)?;
        let (mut found, mut key_bytes, mut count) = (Vec::new(), 0, 0);
        keys.select(Some(&lines), control, |line, key| {
            let Some(place) = overlay.place(line) else { return Ok(()) };
            count += 1;
            let full = with_place(key, place);
            let first = firsts.get(&line).copied();
            if let Some(segment) = first {
                segments.set_least(segment, &full);
            }
            if first.is_none_or(|segment| segments.is_near(segment)) {
                key_bytes += key.len();
                found.push((full, line));
            }
            Ok(())
        })?;
        if count != lines.len() {
            return Ok(None);
        }
        found.sort_unstable();
        let rows = OrderedLines::from_sorted(found);
        let mut parts = HashMap::new();
        rows.for_each(|key, part| set_part(&mut parts, key, part));
        let mut window = Self {
            query: query.clone(),
            reading: Arc::clone(reading),
            keys,
            rows,
            parts,
            segments,
            applied: overlay.applied(),
            check_at: next_spread_check(overlay.applied()),
            margin,
            has_read: false,
            key_bytes,
            share,
            cache: Arc::default(),
        };
        Ok(window.reserve().then_some(window))
    }

    /// Whether [`Self::refresh`] finds the rows at these positions of a view with so many rows, as long as few rows change.
    pub fn can_follow(&self, reading: &Arc<Reading>, positions: impl FnOnce(u64) -> Range<u64>) -> bool {
        let is_followed = match reading.overlay() {
            Some(overlay) if Arc::ptr_eq(&self.reading, reading) => {
                overlay.superseded_since(self.applied).is_some()
            }
            Some(overlay) => overlay.moved_from(&self.reading).is_some_and(|moved| {
                let last = self.reading.overlay();
                last.is_some_and(|last| {
                    last.applied() == moved.ends().0 && last.superseded_since(self.applied).is_some()
                })
            }),
            None => false,
        };
        is_followed && self.can_read(&positions(self.total()))
    }

    /// Whether the rows at these positions are in memory, or at the beginning of the next segment.
    fn can_read(&self, positions: &Range<u64>) -> bool {
        let from = self.segments.before();
        let (start, end) = (positions.start, positions.end.min(self.total()));
        let missing = [from.saturating_sub(start), end.saturating_sub(from + self.rows.len() as u64)];
        start >= end
            || missing.into_iter().zip([true, false]).all(|(missing, is_before)| {
                missing == 0
                    || missing <= READ_MARGINS * self.margin
                        && self.segments.next(is_before).is_some_and(|rows| rows <= MOST_READ)
            })
    }

    /// The current rows near the page, of `reading`, which is the reading of the view or that of a file that has replaced it.
    /// `None`: they must be computed again.
    ///
    /// # Errors
    /// As [`Reading::view`]. Afterwards they must be computed again.
    pub fn refresh(
        &mut self,
        reading: &Arc<Reading>,
        positions: impl FnOnce(u64) -> Range<u64>,
        control: Control<'_>,
    ) -> Result<Option<NearRows>, Error> {
        if !Arc::ptr_eq(&self.reading, reading) && !self.move_to(reading, control)? {
            self.applied = u64::MAX;
            return Ok(None);
        }
        let Some(overlay) = reading.overlay() else { return Ok(None) };
        if overlay.applied() != self.applied && !self.follow(&overlay, control)? {
            return Ok(None);
        }
        let positions = positions(self.total());
        for _ in 0..READS {
            if self.near().covers(&positions) {
                break;
            }
            let is_before = positions.start < self.segments.before();
            let applied = std::mem::replace(&mut self.applied, u64::MAX);
            if !self.read_next(is_before, &overlay, control)? {
                return Ok(None);
            }
            self.applied = applied;
        }
        let read = if self.has_read { READ_MARGINS * self.margin } else { 0 };
        self.trim(&positions, 4 * self.margin + read);
        if !self.reserve() {
            self.trim(&positions, 2 * self.margin);
            if !self.reserve() {
                self.applied = u64::MAX;
                return Ok(None);
            }
        }
        let near = self.near();
        Ok(near.covers(&positions).then_some(near))
    }

    fn total(&self) -> u64 {
        self.segments.before() + self.rows.len() as u64 + self.segments.after()
    }

    fn near(&self) -> NearRows {
        let view = View::of_lines(&self.reading, &self.query, self.rows.order());
        let cache = Arc::clone(&self.cache);
        NearRows { view: Arc::new(view), from: self.segments.before(), total: self.total(), cache }
    }

    /// Applies the changes of the overlay. Returns false when all rows must be examined.
    fn follow(&mut self, overlay: &Overlay, control: Control<'_>) -> Result<bool, Error> {
        let from = std::mem::replace(&mut self.applied, u64::MAX);
        let Some(superseded) = overlay.superseded_since(from) else { return Ok(false) };
        if overlay.applied() >= self.check_at {
            let keys = self.reading.row_keys(&self.query, false, control)?;
            if !keys.has_same_types(&self.keys) {
                return Ok(false);
            }
            self.check_at = next_spread_check(overlay.applied());
        }
        let Self { keys, rows, parts, segments, key_bytes, .. } = self;
        for (line, place) in superseded {
            if segments.remove(place) == Some(true) {
                let part = parts.remove(&place);
                let removed = part
                    .and_then(|part| rows.remove_line(part, line, |key, part| set_part(parts, key, part)));
                let Some(key) = removed else { return Ok(false) };
                *key_bytes -= key.len() - size_of::<u32>();
            }
        }
        let fresh: Vec<u32> =
            (from as u32..overlay.applied() as u32).filter(|line| overlay.place(*line).is_some()).collect();
        let mut full = Vec::new();
        keys.select(Some(&fresh), control, |line, key| {
            let Some(place) = overlay.place(line) else { return Ok(()) };
            full.clear();
            full.extend_from_slice(key);
            full.extend_from_slice(&place.to_be_bytes());
            if segments.add(&full, place) {
                *key_bytes += key.len();
                rows.insert(full.as_slice().into(), line, |key, part| set_part(parts, key, part));
            }
            Ok(())
        })?;
        self.applied = overlay.applied();
        Ok(true)
    }

    /// Reads the rows of the next segment that are next to those in memory. Returns false when all rows must be examined.
    fn read_next(&mut self, is_before: bool, overlay: &Overlay, control: Control<'_>) -> Result<bool, Error> {
        let Some(count) = self.segments.next(is_before).filter(|rows| *rows <= MOST_READ) else {
            return Ok(false);
        };
        // The places, lines and keys of the whole segment are temporarily in memory. The lengths of the keys are estimated by those
        // of the rows in memory, and reserved when they are longer.
        let step = (READ_MARGINS * self.margin) as usize;
        let rows = count as usize;
        let fixed = self.bytes() + rows * READ_BYTES + rows.min(step) * ROW_BYTES + 4 * BLOCK as usize;
        let mut reserved = rows * self.key_bytes.div_ceil(self.rows.len().max(1));
        if !self.share.try_set(fixed + reserved) {
            return Ok(false);
        }
        let Some(lines) = lines_of(&self.segments.next_places(is_before), overlay) else { return Ok(false) };
        let mut found = Vec::with_capacity(lines.len());
        let (share, mut read, mut is_reserved) = (&mut self.share, 0, true);
        self.keys.select(Some(&lines), control, |line, key| {
            let Some(place) = overlay.place(line).filter(|_| is_reserved) else { return Ok(()) };
            read += key.len();
            if read > reserved {
                reserved = read + read / 8;
                is_reserved = share.try_set(fixed + reserved);
            }
            if is_reserved {
                found.push((with_place(key, place), line));
            }
            Ok(())
        })?;
        if found.len() as u64 != count || lines.len() as u64 != count {
            return Ok(false);
        }
        found.sort_unstable();
        let taken = found.len().min(step);
        let keys: Vec<_> = found.iter().filter_map(|(key, _)| Some((&**key, place_of(key)?))).collect();
        self.segments.move_in(is_before, &keys, taken, 2 * step);
        let rest = if is_before { 0..found.len() - taken } else { taken..found.len() };
        found.drain(rest);
        for (key, line) in found {
            self.key_bytes += key.len() - size_of::<u32>();
            self.rows.insert(key, line, |key, part| set_part(&mut self.parts, key, part));
        }
        self.has_read = true;
        Ok(true)
    }

    /// Continues with the reading of the file that has replaced that of the view. Returns false when all rows must be
    /// examined.
    fn move_to(&mut self, reading: &Arc<Reading>, control: Control<'_>) -> Result<bool, Error> {
        let overlay = reading.overlay();
        let moved = overlay.as_ref().and_then(|overlay| overlay.moved_from(&self.reading));
        let (Some(moved), Some(last)) = (moved, self.reading.overlay()) else { return Ok(false) };
        let (end, begin) = moved.ends();
        if last.applied() != end || (self.applied != end && !self.follow(&last, control)?) {
            return Ok(false);
        }
        let keys = reading.row_keys(&self.query, false, control)?;
        if !keys.has_same_types(&self.keys) {
            return Ok(false);
        }
        self.rows.move_to(moved);
        let mut parts = HashMap::new();
        self.rows.for_each(|key, part| set_part(&mut parts, key, part));
        self.parts = parts;
        self.segments.move_to(begin, |place| moved.line(place));
        (self.keys, self.reading, self.applied) = (keys, Arc::clone(reading), begin);
        self.cache = Arc::default();
        self.check_at = next_spread_check(begin);
        Ok(self.reserve())
    }

    /// Removes rows far from these positions when there are more than `most` besides them.
    fn trim(&mut self, positions: &Range<u64>, most: u64) {
        let most = (most + positions.end.saturating_sub(positions.start)) as usize;
        while self.rows.len() > most && self.rows.parts() > 1 {
            let from = self.segments.before();
            let end = from + self.rows.len() as u64;
            let (first, last) = (positions.start.saturating_sub(from), end.saturating_sub(positions.end));
            let is_first = first > last;
            if self.rows.end_len(is_first) as u64 > first.max(last) {
                return;
            }
            let removed = self.rows.remove_end(is_first);
            let keys: Vec<_> = removed.iter().filter_map(|key| Some((&**key, place_of(key)?))).collect();
            let Some((first, _)) = self.rows.ends() else { return };
            self.segments.move_out(is_first, &keys, first, 4 * READ_MARGINS * self.margin);
            for (key, place) in keys {
                self.key_bytes -= key.len() - size_of::<u32>();
                self.parts.remove(&place);
            }
        }
    }

    /// The bytes of the rows and their segments.
    fn bytes(&self) -> usize {
        self.segments.bytes() + self.rows.len() * ROW_BYTES + self.key_bytes + CACHED_BYTES
    }

    /// Reserves the memory of the rows.
    fn reserve(&mut self) -> bool {
        self.share.try_set(self.bytes())
    }
}

impl fmt::Debug for WindowView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowView")
            .field("query", &self.query)
            .field("before", &self.segments.before())
            .field("after", &self.segments.after())
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

/// The number of lines at which the types of the columns are determined again, which takes some milliseconds: spread, so that
/// the views of a table do not do so in the same round.
fn next_spread_check(applied: u64) -> u64 {
    static CHECKS: AtomicU64 = AtomicU64::new(0);
    let spread = CHECKS.fetch_add(1, Ordering::Relaxed).wrapping_mul(7_919) % 1_024;
    next_check(applied) + applied / 8 * spread / 1_024
}

/// The place at the end of a key.
fn place_of(key: &[u8]) -> Option<u32> {
    key.split_last_chunk().map(|(_, place)| u32::from_be_bytes(*place))
}

fn set_part(parts: &mut HashMap<u32, u32>, key: &[u8], part: u32) {
    if let Some(place) = place_of(key) {
        parts.insert(place, part);
    }
}

/// The number of places up to that of the last row.
fn places_of(overlay: &Overlay) -> u64 {
    let last = overlay.rows().checked_sub(1).and_then(|last| overlay.lines(last..last + 1).first().copied());
    last.and_then(|line| overlay.place(line)).map_or(0, |place| u64::from(place) + 1)
}

/// The lines of the rows at these places, ascending. `places`: ascending, and those of rows; otherwise `None`.
fn lines_of(places: &[u32], overlay: &Overlay) -> Option<Vec<u32>> {
    let known = |line: u32| overlay.place(line);
    // A part of the lines of all rows, which are in the order of their places, and the position of the first line after it.
    let (mut block, mut next) = (Vec::new(), 0);
    let mut lines = Vec::with_capacity(places.len());
    for place in places {
        // A row that was never replaced is the line of its place.
        if known(*place) == Some(*place) {
            lines.push(*place);
            continue;
        }
        let is_before = |line: u32| known(line).is_some_and(|known| known < *place);
        if block.last().is_none_or(|last| is_before(*last)) {
            let mut end = overlay.rows();
            while next < end {
                let middle = next + (end - next) / 2;
                match overlay.lines(middle..middle + 1).first() {
                    Some(line) if is_before(*line) => next = middle + 1,
                    _ => end = middle,
                }
            }
            let from = next;
            next = (from + BLOCK).min(overlay.rows());
            block = overlay.lines(from..next);
        }
        let at = block.partition_point(|line| is_before(*line));
        lines.push(*block.get(at).filter(|line| known(**line) == Some(*place))?);
    }
    lines.sort_unstable();
    Some(lines)
}
