//! A sorted or filtered view that is updated row by row.
//!
//! Invariant: an update reads the new rows alone. A replaced row is found by its place, without its key: the part of each
//! place is in memory.

use std::fmt;
use std::sync::Arc;

use tidings_table::{Control, Error, Overlay, Query, Reading, RowKeys, View};

use crate::budget::{Budget, Share};
use crate::ordered::OrderedLines;

/// The bytes of a row besides its key: the pointer and the length of the key, the line, and the allocation.
const ROW_BYTES: usize = 36;
/// The bytes of the part of a place.
const PLACE_BYTES: usize = size_of::<u32>();
/// The number of rows after which the memory for further rows is reserved.
const RESERVE_STEP: usize = 4096;

/// The rows of a query with their sort keys. Each key ends with the place of its row.
pub struct LiveView {
    query: Query,
    reading: Arc<Reading>,
    keys: RowKeys,
    rows: OrderedLines<Box<[u8]>>,
    locations: Locations,
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
        let (mut bytes, mut share, mut is_full) = (0, budget.view_share(), false);
        let fixed = overlay.applied() as usize * PLACE_BYTES;
        let selected = keys.select(None, control, |line, key| {
            if let Some(place) = overlay.place(line) {
                bytes += key.len() + ROW_BYTES;
                if found.len().is_multiple_of(RESERVE_STEP) && !share.try_set(fixed + bytes + bytes / 4) {
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
        let rows = OrderedLines::from_sorted(found);
        let mut locations = Locations::with_places(overlay.applied());
        rows.for_each(|key, part| locations.set(key, part));
        if !share.try_set(bytes + locations.bytes()) {
            return Ok(None);
        }
        let check_at = next_check(overlay.applied());
        Ok(Some(Self {
            query: query.clone(),
            reading: Arc::clone(reading),
            keys,
            rows,
            locations,
            applied: overlay.applied(),
            check_at,
            bytes,
            share,
        }))
    }

    /// Whether [`Self::refresh`] examines changed rows alone, as long as no further rows change.
    pub fn can_follow(&self, reading: &Arc<Reading>) -> bool {
        Arc::ptr_eq(&self.reading, reading)
            && reading.overlay().is_some_and(|overlay| overlay.superseded_since(self.applied).is_some())
    }

    /// The view with the current rows of `reading`, which is the reading of the view, or that of a file that has replaced
    /// it. Only changed rows are examined, unless there were too many changes, or a column has another type than before.
    ///
    /// # Errors
    /// As [`Reading::view`]. Afterwards the view must be computed again.
    pub fn refresh(&mut self, reading: &Arc<Reading>, control: Control<'_>) -> Result<View, Error> {
        if let Some(view) = self.update(reading, control)? {
            return Ok(view);
        }
        let budget = self.share.budget().clone();
        // The old rows make room for the new ones.
        (self.rows, self.locations) = (OrderedLines::default(), Locations::default());
        self.share.set(0);
        match Self::build(reading, &self.query, &budget, false, control)? {
            Some(again) => *self = again,
            None => return reading.view(&self.query, control),
        }
        Ok(View::of_lines(reading, &self.query, self.rows.order()))
    }

    /// As [`Self::refresh`], by the changed rows alone; `None`: the view must be computed again.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub fn update(&mut self, reading: &Arc<Reading>, control: Control<'_>) -> Result<Option<View>, Error> {
        let mut is_followed = Arc::ptr_eq(&self.reading, reading) || self.move_to(reading, control)?;
        if is_followed
            && let Some(overlay) = reading.overlay().filter(|overlay| overlay.applied() != self.applied)
        {
            is_followed = self.follow(&overlay, control)?;
        }
        if !is_followed {
            self.applied = u64::MAX;
            return Ok(None);
        }
        Ok(Some(View::of_lines(reading, &self.query, self.rows.order())))
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
        self.locations = Locations::with_places(begin);
        self.rows.for_each(|key, part| self.locations.set(key, part));
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
        let Self { keys, rows, locations, bytes, .. } = self;
        for (line, place) in superseded {
            // Rows that the view does not select, and those that were replaced before the view had them, have no part.
            let Some(part) = locations.take(place) else { continue };
            match rows.remove_line(part, line, |key, part| locations.set(key, part)) {
                Some(key) => *bytes -= key.len() - size_of::<u32>() + ROW_BYTES,
                None => return Ok(false),
            }
        }
        let fresh: Vec<u32> =
            (from as u32..overlay.applied() as u32).filter(|line| overlay.place(*line).is_some()).collect();
        keys.select(Some(&fresh), control, |line, key| {
            if let Some(place) = overlay.place(line) {
                rows.insert(with_place(key, place), line, |key, part| locations.set(key, part));
                *bytes += key.len() + ROW_BYTES;
            }
            Ok(())
        })?;
        self.applied = overlay.applied();
        Ok(self.share.try_set(self.bytes + self.locations.bytes()))
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
pub(crate) const fn next_check(applied: u64) -> u64 {
    applied + applied / 8 + 1024
}

/// The number of the part of each place whose row is in the view.
#[derive(Default)]
struct Locations(Vec<u32>);

/// The row of the place is not in the view.
const NOWHERE: u32 = u32::MAX;

impl Locations {
    /// No rows, with the memory for these places.
    fn with_places(places: u64) -> Self {
        Self(Vec::with_capacity(places as usize))
    }

    /// Sets the part of the place at the end of a key.
    fn set(&mut self, key: &[u8], part: u32) {
        let Some((_, place)) = key.split_last_chunk() else { return };
        let place = u32::from_be_bytes(*place) as usize;
        if place >= self.0.len() {
            if place >= self.0.capacity() {
                self.0.reserve_exact(place + place / 16 + 1_024 - self.0.len());
            }
            self.0.resize(place + 1, NOWHERE);
        }
        self.0[place] = part;
    }

    /// Removes the part of a place.
    fn take(&mut self, place: u32) -> Option<u32> {
        let part = self.0.get_mut(place as usize)?;
        Some(std::mem::replace(part, NOWHERE)).filter(|part| *part != NOWHERE)
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * PLACE_BYTES
    }
}

pub(crate) fn with_place(key: &[u8], place: u32) -> Box<[u8]> {
    let mut all = Vec::with_capacity(key.len() + size_of::<u32>());
    all.extend_from_slice(key);
    all.extend_from_slice(&place.to_be_bytes());
    all.into_boxed_slice()
}
