//! A sorted or filtered view that is updated row by row.

use std::fmt;
use std::sync::Arc;

use tidings_table::{Control, Error, Overlay, Query, Reading, RowKeys, View};

use crate::budget::{Budget, Share};
use crate::ordered::OrderedLines;

/// The bytes of a row besides its key: the pointer and the length of the key, the line, and the allocation.
const ROW_BYTES: usize = 36;
/// The number of rows after which the memory for further rows is reserved.
const RESERVE_STEP: usize = 4096;

/// The rows of a query with their sort keys. Each key ends with the place of its row.
pub struct LiveView {
    query: Query,
    reading: Arc<Reading>,
    keys: RowKeys,
    rows: OrderedLines<Box<[u8]>>,
    /// The number of lines of the file that were considered; [`u64::MAX`]: the rows must be computed again.
    applied: u64,
    /// The number of lines at which the types of the columns are determined again.
    check_at: u64,
    bytes: usize,
    share: Share,
}

impl LiveView {
    /// Computes the rows of a query, on the threads of the current rayon pool; `None` when the memory does not suffice,
    /// or the reading has no key. `strictly`: as for [`Reading::row_keys`].
    ///
    /// # Errors
    /// As [`Reading::view`].
    pub fn build(
        reading: &Arc<Reading>,
        query: &Query,
        budget: &Budget,
        strictly: bool,
        control: Control<'_>,
    ) -> Result<Option<Self>, Error> {
        let Some(overlay) = reading.overlay().filter(|_| !query.header_is_row) else { return Ok(None) };
        let keys = reading.row_keys(query, strictly, control)?;
        let mut found: Vec<(Box<[u8]>, u32)> = Vec::new();
        let (mut bytes, mut share, mut is_full) = (0, budget.share(), false);
        let selected = keys.select(None, control, |line, key| {
            if let Some(place) = overlay.place(line) {
                bytes += key.len() + ROW_BYTES;
                if found.len().is_multiple_of(RESERVE_STEP) && !share.try_set(bytes + bytes / 4) {
                    is_full = true;
                    return Err(Error::Cancelled);
                }
                found.push((with_place(key, place), line));
            }
            Ok(())
        });
        if is_full {
            return Ok(None);
        }
        selected?;
        found.sort_unstable();
        share.set(bytes);
        let check_at = next_check(overlay.applied());
        Ok(Some(Self {
            query: query.clone(),
            reading: Arc::clone(reading),
            keys,
            rows: OrderedLines::from_sorted(found),
            applied: overlay.applied(),
            check_at,
            bytes,
            share,
        }))
    }

    /// The view with the current rows of `reading`, which is the reading of the view, or that of a file that has replaced
    /// it. Only changed rows are examined, unless there were too many changes, or a column has another type than before.
    ///
    /// # Errors
    /// As [`Reading::view`]. Afterwards the view must be computed again.
    pub fn refresh(&mut self, reading: &Arc<Reading>, control: Control<'_>) -> Result<View, Error> {
        let mut is_followed = Arc::ptr_eq(&self.reading, reading) || self.move_to(reading, control)?;
        if is_followed
            && let Some(overlay) = reading.overlay().filter(|overlay| overlay.applied() != self.applied)
        {
            is_followed = self.follow(&overlay, control)?;
        }
        if !is_followed {
            let budget = self.share.budget().clone();
            // The old rows make room for the new ones.
            self.rows = OrderedLines::default();
            self.share.set(0);
            self.applied = u64::MAX;
            match Self::build(reading, &self.query, &budget, false, control)? {
                Some(again) => *self = again,
                None => return reading.view(&self.query, control),
            }
        }
        Ok(View::of_lines(reading, &self.query, self.rows.order()))
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
        self.rows.update(|key, line| {
            // The places ascend as before.
            if let Some((_, place)) = key.split_last_chunk_mut() {
                *place = moved.line(u32::from_be_bytes(*place)).to_be_bytes();
            }
            *line = moved.line(*line);
        });
        (self.keys, self.reading, self.applied) = (keys, Arc::clone(reading), begin);
        self.check_at = next_check(begin);
        Ok(true)
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
            self.check_at = next_check(overlay.applied());
        }
        let mut superseded: Vec<(u32, u32)> = superseded.collect();
        superseded.sort_unstable();
        let lines: Vec<u32> = superseded.iter().map(|(line, _)| *line).collect();
        let Self { keys, rows, bytes, .. } = self;
        keys.select(Some(&lines), control, |line, key| {
            let place = lines.binary_search(&line).map(|at| superseded[at].1);
            if let Ok(place) = place
                && rows.remove(&with_place(key, place)).is_some()
            {
                *bytes -= key.len() + ROW_BYTES;
            }
            Ok(())
        })?;
        let fresh: Vec<u32> =
            (from as u32..overlay.applied() as u32).filter(|line| overlay.place(*line).is_some()).collect();
        keys.select(Some(&fresh), control, |line, key| {
            if let Some(place) = overlay.place(line) {
                rows.insert(with_place(key, place), line);
                *bytes += key.len() + ROW_BYTES;
            }
            Ok(())
        })?;
        self.applied = overlay.applied();
        Ok(self.share.try_set(self.bytes))
    }
}

impl fmt::Debug for LiveView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveView")
            .field("query", &self.query)
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

/// The types of columns are determined again when the file has grown by an eighth.
const fn next_check(applied: u64) -> u64 {
    applied + applied / 8 + 1024
}

fn with_place(key: &[u8], place: u32) -> Box<[u8]> {
    let mut all = Vec::with_capacity(key.len() + size_of::<u32>());
    all.extend_from_slice(key);
    all.extend_from_slice(&place.to_be_bytes());
    all.into_boxed_slice()
}
