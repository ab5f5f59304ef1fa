//! The current rows of a file in which later lines replace or remove earlier ones.
//!
//! The file is the log of all changes: it only grows. An [`Overlay`] states which of its lines are rows now, and in
//! which order.
//!
//! Invariants:
//! - An overlay does not change. A new one shares the unchanged parts of the one before.
//! - The place of a row is the line at which its key occurred first. A row that is replaced keeps its place.
//! - Lines after [`Overlay::applied`] are not rows yet: readers see a batch of changes completely or not at all.

use std::ops::Range;
use std::sync::{Arc, Weak};

use crate::order::RowOrder;
use crate::reading::Reading;

/// The number of lines of one shared part of the places.
const PART: usize = 1024;

/// The place of a line that was replaced or removed.
const SUPERSEDED: u32 = u32::MAX;
/// The place of a line that removes a row, and is no row itself.
const REMOVAL: u32 = u32::MAX - 1;

/// The place of each line of a file, in shared parts: a clone copies pointers, and a change copies one part.
#[derive(Clone, Debug, Default)]
pub struct Places {
    parts: Vec<Arc<Vec<u32>>>,
    lines: u64,
}

impl Places {
    /// The number of lines.
    pub const fn len(&self) -> u64 {
        self.lines
    }

    /// Whether there are no lines.
    pub const fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Adds the next line with this place; `None`: it removes a row, and is no row itself.
    pub fn push(&mut self, place: Option<u32>) {
        if self.lines.is_multiple_of(PART as u64) {
            self.parts.push(Arc::new(Vec::with_capacity(PART)));
        }
        if let Some(last) = self.parts.last_mut() {
            Arc::make_mut(last).push(place.unwrap_or(REMOVAL));
        }
        self.lines += 1;
    }

    /// Marks an existing line as replaced or removed.
    pub fn supersede(&mut self, line: u32) {
        if let Some(part) = self.parts.get_mut(line as usize / PART) {
            Arc::make_mut(part)[line as usize % PART] = SUPERSEDED;
        }
    }

    /// The place of a line; `None` when it is no current row.
    pub fn place(&self, line: u32) -> Option<u32> {
        self.raw(line).filter(|place| *place < REMOVAL)
    }

    /// Their bytes in memory.
    pub const fn bytes(&self) -> usize {
        self.parts.len() * (PART * size_of::<u32>() + size_of::<Arc<Vec<u32>>>())
    }

    /// The places in a file that contains the rows `first` of this one, in their order and after a header if there is one
    /// (`has_header`), and then the lines from `from` on. `moved`: the new numbers of the lines.
    #[must_use]
    pub fn moved(
        &self,
        moved: &MovedLines,
        has_header: bool,
        first: impl Iterator<Item = u32>,
        from: u64,
    ) -> Self {
        let mut places = Self::default();
        if has_header {
            places.push(Some(0));
        }
        for old in first.chain(from as u32..self.lines as u32) {
            let line = places.lines as u32;
            match self.raw(old) {
                None | Some(REMOVAL) => places.push(None),
                Some(SUPERSEDED) => {
                    places.push(Some(0));
                    places.supersede(line);
                }
                Some(place) => places.push(Some(moved.line(place))),
            }
        }
        places
    }

    fn raw(&self, line: u32) -> Option<u32> {
        self.parts.get(line as usize / PART)?.get(line as usize % PART).copied()
    }
}

/// Lines in some order, in shared parts.
#[derive(Clone, Debug, Default)]
pub struct LineOrder {
    parts: Vec<Arc<Vec<u32>>>,
    /// The number of lines up to the end of each part.
    ends: Vec<u64>,
}

impl LineOrder {
    /// The lines of these parts, one after the other.
    pub fn new(parts: Vec<Arc<Vec<u32>>>) -> Self {
        let mut end = 0;
        let ends = parts.iter().map(|part| {
            end += part.len() as u64;
            end
        });
        Self { ends: ends.collect(), parts }
    }

    /// The number of lines.
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lines at these positions, which must exist.
    pub(crate) fn get(&self, positions: Range<u64>) -> Vec<u32> {
        let mut lines = Vec::with_capacity((positions.end - positions.start) as usize);
        let (mut at, mut part) = (positions.start, self.ends.partition_point(|end| *end <= positions.start));
        while at < positions.end {
            let start = part.checked_sub(1).map_or(0, |before| self.ends[before]);
            let end = self.ends[part].min(positions.end);
            lines.extend_from_slice(&self.parts[part][(at - start) as usize..(end - start) as usize]);
            (at, part) = (end, part + 1);
        }
        lines
    }
}

/// Lines that were replaced or removed by one batch of changes, with their places.
#[derive(Debug)]
pub struct Superseded {
    /// The number of lines before the batch.
    pub from: u64,
    /// Each line and its place.
    pub lines: Vec<(u32, u32)>,
}

/// The numbers that the lines of a file have in the file that replaced it, which contains the rows of the old one at some
/// moment, and then the lines that were appended since.
#[derive(Debug)]
pub struct MovedLines {
    /// The reading of the replaced file.
    from: Weak<Reading>,
    /// The new number of each line that was a row then, and of its place.
    numbers: Vec<u32>,
    /// The number of lines that later lines have moved by.
    shift: u32,
    /// The number of lines of both files when one replaced the other.
    ends: (u64, u64),
}

impl MovedLines {
    /// The lines of a file that contains the rows of `overlay`, which belong to `from`, and then the lines that were
    /// appended to `from` since. `end`: the number of lines of `from`.
    pub fn new(from: &Arc<Reading>, overlay: &Overlay, end: u64) -> Self {
        let applied = overlay.applied();
        let first = from.first_line().min(applied);
        let mut numbers = vec![u32::MAX; applied as usize];
        for (line, number) in overlay.lines(0..overlay.rows()).into_iter().zip(first as u32..) {
            let place = overlay.place(line).unwrap_or(line);
            (numbers[line as usize], numbers[place as usize]) = (number, number);
        }
        let shift = applied - overlay.rows() - first;
        Self { from: Arc::downgrade(from), numbers, shift: shift as u32, ends: (end, end - shift) }
    }

    /// The new number of a current line, or of its place.
    pub fn line(&self, old: u32) -> u32 {
        self.numbers.get(old as usize).copied().unwrap_or_else(|| old.saturating_sub(self.shift))
    }

    /// Whether views of the replaced file may exist.
    pub fn is_in_use(&self) -> bool {
        self.from.strong_count() > 0
    }

    /// The number of lines of the replaced file, and of the new one at the beginning.
    pub const fn ends(&self) -> (u64, u64) {
        self.ends
    }

    /// The bytes in memory.
    pub const fn bytes(&self) -> usize {
        self.numbers.capacity() * size_of::<u32>()
    }
}

/// The current rows. See the module.
#[derive(Debug)]
pub struct Overlay {
    places: Places,
    /// The rows in the order of their places: without and with the header as a row.
    orders: [Arc<RowOrder>; 2],
    recent: Vec<Arc<Superseded>>,
    moved: Option<Arc<MovedLines>>,
}

impl Overlay {
    /// The rows with these places; `order`: their lines in the order of the places. `recent`: the last batches of
    /// changes, without gaps.
    pub fn new(places: Places, order: LineOrder, recent: Vec<Arc<Superseded>>) -> Self {
        let order = Arc::new(order);
        let ordered = |with_header| Arc::new(RowOrder::live(Arc::clone(&order), with_header));
        Self { places, orders: [ordered(false), ordered(true)], recent, moved: None }
    }

    /// The same rows. `moved`: the numbers of the lines of the file that this one has replaced.
    #[must_use]
    pub fn with_moved(self, moved: Option<Arc<MovedLines>>) -> Self {
        Self { moved, ..self }
    }

    /// The new numbers of the lines of this reading, if the file has replaced that of the reading.
    pub fn moved_from(&self, reading: &Arc<Reading>) -> Option<&Arc<MovedLines>> {
        self.moved.as_ref().filter(|moved| std::ptr::eq(moved.from.as_ptr(), Arc::as_ptr(reading)))
    }

    /// The lines of the rows at these positions, which must exist.
    pub fn lines(&self, positions: Range<u64>) -> Vec<u32> {
        self.orders[0].get(positions).unwrap_or_default()
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.orders[0].len()
    }

    /// The number of lines of the file that were considered.
    pub const fn applied(&self) -> u64 {
        self.places.len()
    }

    /// The place of a line; `None` when it is no current row.
    pub fn place(&self, line: u32) -> Option<u32> {
        self.places.place(line)
    }

    /// The lines that were replaced or removed since the first `applied` lines of the file were considered, with their
    /// places; `None` when that is too long ago.
    pub fn superseded_since(&self, applied: u64) -> Option<impl Iterator<Item = (u32, u32)> + '_> {
        let first = self.recent.iter().position(|batch| batch.from == applied);
        let first = first.or_else(|| (applied == self.applied()).then_some(self.recent.len()))?;
        let lines = self.recent[first..].iter().flat_map(|batch| batch.lines.iter().copied());
        Some(lines.filter(move |(line, _)| u64::from(*line) < applied))
    }

    /// Whether a line has the cells of a row, now or earlier.
    pub(crate) fn is_row(&self, line: u64) -> bool {
        self.places.raw(line as u32).is_some_and(|place| place != REMOVAL)
    }

    pub(crate) const fn order(&self, with_header: bool) -> &Arc<RowOrder> {
        &self.orders[with_header as usize]
    }
}
