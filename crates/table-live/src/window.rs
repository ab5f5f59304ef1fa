//! The rows of a sorted or filtered view near one of its pages, which are updated row by row.
//!
//! Of the other rows only the side is known: before or after these rows, two bits for each place. So an update computes one
//! key for each changed row and compares it with two bounds, and a view of a million rows takes half a mebibyte.
//!
//! Invariants:
//! - The rows between the bounds are in memory with their keys, and no others.
//! - The number of rows before the first one is exact, so positions are those of the whole view.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidings_table::{Control, Error, LineOrder, Overlay, Page, Query, Reading, Row, RowKeys, View};

use crate::budget::{Budget, Share};
use crate::ordered::OrderedLines;
use crate::view::{next_check, with_place};

/// The bytes of a row besides its key: pointer, length and allocation of the key, its line, and the entry of its place.
const ROW_BYTES: usize = 64;
/// The most bytes of cached rows, and the most columns of their table.
const CACHED_BYTES: usize = 64 << 10;
const CACHED_COLUMNS: u64 = 100;
/// The lines that are read from an order at a time.
const STEP: u64 = 1 << 16;

/// Rows near a page.
#[derive(Clone, Debug)]
pub struct NearRows {
    /// The rows.
    pub view: Arc<View>,
    /// The position of the first of them in the whole view.
    pub from: u64,
    /// The number of rows of the whole view.
    pub total: u64,
    cache: Arc<Mutex<RowCache>>,
}

/// The rows of the last page, by their lines, which do not change: a page after changes reads the changed rows alone.
#[derive(Debug, Default)]
struct RowCache {
    columns: Range<usize>,
    rows: HashMap<u32, Row>,
}

impl NearRows {
    /// Up to `count` rows from this position of the whole view on, which must be among these rows, with the cells of these
    /// columns.
    ///
    /// # Errors
    /// As [`View::window`].
    pub fn window(&self, from: u64, count: usize, columns: Range<usize>) -> Result<Page, Error> {
        let reading = self.view.reading();
        let start = from.saturating_sub(self.from);
        // The number of rows of a read decides how much of a wide row is shown.
        if reading.summary().widest > CACHED_COLUMNS {
            return Ok(Page { from, total: self.total, ..self.view.window(start, count, columns)? });
        }
        let lines = self.view.lines(start..start + count.min(reading.limits().page_rows) as u64)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = std::mem::take(&mut cache.rows);
        if cache.columns != columns {
            known.clear();
        }
        let missing: Vec<u32> = lines.iter().copied().filter(|line| !known.contains_key(line)).collect();
        let order = LineOrder::new(vec![Arc::new(missing.clone())]);
        let read = View::of_lines(reading, self.view.query(), order);
        let read = read.window(0, missing.len(), columns.clone())?;
        known.extend(missing.into_iter().zip(read.rows));
        let rows: Vec<Row> = lines.iter().filter_map(|line| known.get(line).cloned()).collect();
        let bytes =
            |row: &Row| row.cells.iter().map(|cell| cell.text.len() + size_of_val(cell)).sum::<usize>();
        if rows.iter().map(bytes).sum::<usize>() <= CACHED_BYTES {
            let shown: HashSet<u32> = lines.into_iter().collect();
            known.retain(|line, _| shown.contains(line));
            *cache = RowCache { columns, rows: known };
        }
        Ok(Page { from, total: self.total, rows })
    }

    /// Whether these are all rows of the view at these positions.
    pub fn covers(&self, positions: &Range<u64>) -> bool {
        let end = positions.end.min(self.total);
        positions.start >= end || (positions.start >= self.from && end <= self.from + self.view.total())
    }
}

/// The rows of a query near a page, with their sort keys. Each key ends with the place of its row.
pub struct WindowView {
    query: Query,
    reading: Arc<Reading>,
    keys: RowKeys,
    rows: OrderedLines<Box<[u8]>>,
    /// The number of the part of each place in `rows`.
    parts: HashMap<u32, u32>,
    sides: Sides,
    /// The least key of `rows`, if there are rows before them; the greatest one, if there are rows after them.
    bounds: [Option<Box<[u8]>>; 2],
    /// The numbers of rows before and after.
    others: [u64; 2],
    /// The number of lines of the file that were considered; [`u64::MAX`]: the rows must be computed again.
    applied: u64,
    /// The number of lines at which the types of the columns are determined again.
    check_at: u64,
    /// The rows on each side of the page that were kept at first. At most twice as many are kept.
    margin: u64,
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
        if !share.try_set(Sides::bytes_for(overlay.applied()) + rows * ROW_BYTES + CACHED_BYTES) {
            return Ok(None);
        }
        let mut sides = Sides::with_places(overlay.applied());
        let mut lines = Vec::new();
        for start in (0..total).step_by(STEP as usize) {
            control.check()?;
            for (line, position) in whole.lines(start..start + STEP)?.into_iter().zip(start..) {
                let Some(place) = overlay.place(line) else { continue };
                let side = if position < near.start {
                    Side::Before
                } else if position >= near.end {
                    Side::After
                } else {
                    lines.push(line);
                    Side::Near
                };
                sides.set(place, side);
            }
        }
        lines.sort_unstable();
        // The values of filters were checked for the whole view.
        let keys = reading.row_keys(query, false, control)?;
        let (mut found, mut key_bytes) = (Vec::new(), 0);
        keys.select(Some(&lines), control, |line, key| {
            if let Some(place) = overlay.place(line) {
                key_bytes += key.len();
                found.push((with_place(key, place), line));
            }
            Ok(())
        })?;
        if found.len() != lines.len() {
            return Ok(None);
        }
        found.sort_unstable();
        let bound = |is_set: bool, row: Option<&(Box<[u8]>, u32)>| {
            if is_set { row.map(|(key, _)| key.clone()) } else { None }
        };
        let bounds = [bound(near.start > 0, found.first()), bound(near.end < total, found.last())];
        let rows = OrderedLines::from_sorted(found);
        let mut parts = HashMap::new();
        rows.for_each(|key, part| set_part(&mut parts, key, part));
        let mut window = Self {
            query: query.clone(),
            reading: Arc::clone(reading),
            keys,
            rows,
            parts,
            sides,
            bounds,
            others: [near.start, total - near.end],
            applied: overlay.applied(),
            check_at: next_spread_check(overlay.applied()),
            margin,
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
        is_followed && self.near().covers(&positions(self.total()))
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
        self.trim(&positions);
        let near = self.near();
        Ok(near.covers(&positions).then_some(near))
    }

    fn total(&self) -> u64 {
        self.others[0] + self.rows.len() as u64 + self.others[1]
    }

    fn near(&self) -> NearRows {
        let view = View::of_lines(&self.reading, &self.query, self.rows.order());
        let cache = Arc::clone(&self.cache);
        NearRows { view: Arc::new(view), from: self.others[0], total: self.total(), cache }
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
        let Self { keys, rows, parts, sides, bounds: [least, greatest], others, key_bytes, .. } = self;
        for (line, place) in superseded {
            match sides.take(place) {
                Side::Absent => {}
                Side::Before => others[0] -= 1,
                Side::After => others[1] -= 1,
                Side::Near => {
                    let part = parts.remove(&place);
                    let removed = part.and_then(|part| {
                        rows.remove_line(part, line, |key, part| set_part(parts, key, part))
                    });
                    let Some(key) = removed else { return Ok(false) };
                    *key_bytes -= key.len() - size_of::<u32>();
                }
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
            let side = if least.as_ref().is_some_and(|least| full[..] < least[..]) {
                others[0] += 1;
                Side::Before
            } else if greatest.as_ref().is_some_and(|greatest| full[..] > greatest[..]) {
                others[1] += 1;
                Side::After
            } else {
                *key_bytes += key.len();
                rows.insert(full.as_slice().into(), line, |key, part| set_part(parts, key, part));
                Side::Near
            };
            sides.set(place, side);
            Ok(())
        })?;
        let has_memory = self.reserve();
        if has_memory {
            self.applied = overlay.applied();
        }
        Ok(has_memory)
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
        // The rows of the bounds may not exist any more. No row is between them and the next one.
        let Some((first, last)) = self.rows.ends() else { return Ok(false) };
        for (bound, key) in self.bounds.iter_mut().zip([first, last]) {
            if let Some(bound) = bound {
                bound.clone_from(key);
            }
        }
        let mut parts = HashMap::new();
        self.rows.for_each(|key, part| set_part(&mut parts, key, part));
        let mut sides = Sides::with_places(begin);
        self.sides.for_each(|place, side| sides.set(moved.line(place), side));
        (self.parts, self.sides) = (parts, sides);
        (self.keys, self.reading, self.applied) = (keys, Arc::clone(reading), begin);
        self.cache = Arc::default();
        self.check_at = next_spread_check(begin);
        Ok(self.reserve())
    }

    /// Forgets rows far from these positions when there are too many.
    fn trim(&mut self, positions: &Range<u64>) {
        let most = (4 * self.margin + positions.end.saturating_sub(positions.start)) as usize;
        while self.rows.len() > most && self.rows.parts() > 1 {
            let end = self.others[0] + self.rows.len() as u64;
            let is_first = positions.start.saturating_sub(self.others[0]) > end.saturating_sub(positions.end);
            let removed = self.rows.remove_end(is_first);
            self.others[usize::from(!is_first)] += removed.len() as u64;
            for key in &removed {
                self.key_bytes -= key.len() - size_of::<u32>();
                if let Some(place) = place_of(key) {
                    self.parts.remove(&place);
                    self.sides.set(place, if is_first { Side::Before } else { Side::After });
                }
            }
            let Some((first, last)) = self.rows.ends() else { return };
            self.bounds[usize::from(!is_first)] = Some(if is_first { first.clone() } else { last.clone() });
        }
    }

    /// Reserves the memory of the rows.
    fn reserve(&mut self) -> bool {
        let rows = self.rows.len() * ROW_BYTES + self.key_bytes;
        self.share.try_set(self.sides.bytes() + rows + CACHED_BYTES)
    }
}

impl fmt::Debug for WindowView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowView")
            .field("query", &self.query)
            .field("others", &self.others)
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

/// Where the row of a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Not in the view.
    Absent,
    /// Before the rows in memory.
    Before,
    /// Among them.
    Near,
    /// After them.
    After,
}

/// The side of each place, four in a byte.
#[derive(Default)]
struct Sides(Vec<u8>);

impl Sides {
    const ALL: [Side; 4] = [Side::Absent, Side::Before, Side::Near, Side::After];

    const fn bytes_for(places: u64) -> usize {
        places as usize / 4 + 1
    }

    /// No rows, with the memory for these places.
    fn with_places(places: u64) -> Self {
        Self(Vec::with_capacity(Self::bytes_for(places)))
    }

    fn set(&mut self, place: u32, side: Side) {
        let (at, shift) = (place as usize / 4, place % 4 * 2);
        if at >= self.0.len() {
            if at >= self.0.capacity() {
                self.0.reserve_exact(at + at / 16 + 1_024 - self.0.len());
            }
            self.0.resize(at + 1, 0);
        }
        self.0[at] = self.0[at] & !(3 << shift) | (side as u8) << shift;
    }

    /// Removes the row of a place. Returns where it was.
    fn take(&mut self, place: u32) -> Side {
        let (at, shift) = (place as usize / 4, place % 4 * 2);
        let Some(byte) = self.0.get_mut(at) else { return Side::Absent };
        let side = Self::ALL[usize::from(*byte >> shift & 3)];
        *byte &= !(3 << shift);
        side
    }

    /// Calls `each` with all places that have a row.
    fn for_each(&self, mut each: impl FnMut(u32, Side)) {
        for (byte, at) in self.0.iter().zip(0_u32..) {
            for part in 0..4 {
                match Self::ALL[usize::from(*byte >> (2 * part) & 3)] {
                    Side::Absent => {}
                    side => each(at * 4 + part, side),
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        self.0.capacity()
    }
}
