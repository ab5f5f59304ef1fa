//! The key index, and the current rows of a reading.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use tidings_table::{Control, Error, LineCells, MovedLines, Overlay, Places, Reading, Superseded, View};

use crate::budget::{Budget, Share};
use crate::ordered::OrderedLines;
use crate::removal::removed_key;

/// The most lines of recent batches that a [`LiveView`](crate::LiveView) can follow; after more changes it is computed
/// again.
const RECENT_LINES: usize = 1 << 16;
/// The bytes of an entry of the index in a hash table, with its control byte and free places.
const ENTRY_BYTES: usize = 32;
/// The bytes of a row in the order of places.
const PLACE_BYTES: usize = 12;

/// A hash of 128 bits of the cells of a key, with secret keys: two keys have the same one with a probability that can be
/// neglected, and cannot be constructed.
type KeyHash = [u32; 4];

/// An error of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A column of the key does not exist.
    #[error("the key names the column {name:?}, but the table has no such column; it has {columns}")]
    NoColumn {
        /// The name.
        name: String,
        /// The names that exist, shortened.
        columns: String,
    },
    /// The file has no header.
    #[error("a key names columns, and the file has no header")]
    NoHeader,
    /// The index does not fit into the memory for keys.
    #[error(
        "the keys of this table do not fit into memory: all tables with keys may use {limit} bytes together"
    )]
    Memory {
        /// The limit in bytes.
        limit: usize,
    },
    /// The file could not be read.
    #[error(transparent)]
    Table(#[from] Error),
}

/// The number of changes of some lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The rows with a new key, or without a key.
    pub appended: u64,
    /// The rows that replaced a row.
    pub updated: u64,
    /// The removed rows.
    pub removed: u64,
}

/// The key index and the current rows of one reading.
#[derive(Debug)]
pub struct LiveRows {
    reading: Arc<Reading>,
    columns: Vec<usize>,
    hashers: Arc<[RandomState; 2]>,
    /// The current line of each key.
    index: HashMap<KeyHash, u32>,
    places: Places,
    order: OrderedLines<u32>,
    recent: Vec<Arc<Superseded>>,
    /// The lines of the file that this one has replaced, as long as views of it exist.
    moved: Option<Arc<MovedLines>>,
    share: Share,
}

/// The meaning of a line.
enum Change {
    /// A row without a key.
    Keyless,
    Row(KeyHash),
    Removal(KeyHash),
    /// A removal of a key with another number of cells.
    Void,
}

impl LiveRows {
    /// Reads the keys of all rows of a complete file, and sets the overlay of the reading. `key`: the names of columns.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(
        reading: &Arc<Reading>,
        key: &[String],
        budget: &Budget,
        control: Control<'_>,
    ) -> Result<Self, KeyError> {
        let columns = find_columns(reading, key)?;
        let mut rows = Self {
            reading: Arc::clone(reading),
            columns,
            hashers: Arc::new([RandomState::new(), RandomState::new()]),
            index: HashMap::new(),
            places: Places::default(),
            order: OrderedLines::default(),
            recent: Vec::new(),
            moved: None,
            share: budget.share(),
        };
        if !rows.has_room(reading.summary().rows) {
            return Err(KeyError::Memory { limit: budget.limit() });
        }
        match rows.apply(&[], control) {
            Ok(_) => Ok(rows),
            Err(error) => {
                // A part of the rows must not be shown.
                reading.set_overlay(None);
                Err(error.into())
            }
        }
    }

    /// The reading of the rows. Another one needs other rows.
    pub const fn reading(&self) -> &Arc<Reading> {
        &self.reading
    }

    /// The number of columns of the key.
    pub fn key_len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there is memory for this many more keys. It is reserved for the next [`Self::apply`].
    pub fn has_room(&mut self, rows: u64) -> bool {
        let more = (rows as usize).saturating_mul(ENTRY_BYTES + PLACE_BYTES + size_of::<u32>());
        let bytes = self.bytes().saturating_add(more);
        self.share.try_set(bytes)
    }

    /// Applies the lines that were added to the file, and sets the new overlay of the reading. `ends`: numbers of lines of the
    /// file ([`Reading::file_lines`]) that ascend; the changes between two of them are counted together.
    ///
    /// # Errors
    /// Errors of the disk; the lines before are applied.
    pub fn apply(&mut self, ends: &[u64], control: Control<'_>) -> Result<Vec<Counts>, Error> {
        let (reading, from) = (Arc::clone(&self.reading), self.places.len());
        let mut counts = vec![Counts::default(); ends.len() + 1];
        let mut superseded = Vec::new();
        if from == 0 && reading.dialect().header && reading.file_lines() > 0 {
            // The header has the first place, but is no row.
            self.places.push(Some(0));
        }
        let (hashers, columns) = (Arc::clone(&self.hashers), self.columns.clone());
        let keep = columns.iter().max().map_or(1, |most| most + 1);
        let applied = reading.map_lines(
            self.places.len(),
            keep,
            control,
            |cells| classify(cells, &columns, &hashers),
            |change| {
                let line = self.places.len();
                let group = ends.partition_point(|end| *end <= line);
                self.apply_line(line as u32, change, &mut counts[group], &mut superseded);
                Ok(())
            },
        );
        self.remember(from, superseded);
        self.moved.take_if(|moved| !moved.is_in_use());
        self.show();
        applied?;
        counts.truncate(ends.len().max(1));
        Ok(counts)
    }

    /// The same rows in a file that has replaced that of the reading: it has the rows of `then`, an earlier overlay of the
    /// reading, and then the lines that were appended since, all of which are applied.
    pub(crate) fn move_to(&mut self, reading: &Arc<Reading>, then: &Overlay) {
        let moved = MovedLines::new(&self.reading, then, self.places.len());
        let has_header = reading.dialect().header && then.applied() > 0;
        let first = then.lines(0..then.rows());
        self.places = self.places.moved(&moved, has_header, first.into_iter(), then.applied());
        for line in self.index.values_mut() {
            *line = moved.line(*line);
        }
        self.index.shrink_to_fit();
        self.order.update(|place, line| (*place, *line) = (moved.line(*place), moved.line(*line)));
        self.recent.clear();
        self.reading = Arc::clone(reading);
        // Without memory for the numbers, the views are computed again.
        let bytes = self.bytes() + moved.bytes();
        self.moved = self.share.try_set(bytes).then(|| Arc::new(moved));
        self.show();
    }

    /// Sets the overlay of the reading.
    fn show(&mut self) {
        self.share.set(self.bytes());
        let overlay = Overlay::new(self.places.clone(), self.order.order(), self.recent.clone());
        self.reading.set_overlay(Some(Arc::new(overlay.with_moved(self.moved.clone()))));
    }

    fn apply_line(
        &mut self,
        line: u32,
        change: Change,
        counts: &mut Counts,
        superseded: &mut Vec<(u32, u32)>,
    ) {
        let old = match &change {
            Change::Keyless | Change::Void => None,
            Change::Row(key) => self.index.insert(*key, line),
            Change::Removal(key) => self.index.remove(key),
        };
        let old = old.and_then(|old| Some((old, self.places.place(old)?)));
        if let Some((old, place)) = old {
            self.places.supersede(old);
            superseded.push((old, place));
        }
        match (change, old) {
            (Change::Keyless | Change::Row(_), None) => {
                self.places.push(Some(line));
                self.order.push_last(line, line);
                counts.appended += 1;
            }
            (Change::Keyless | Change::Row(_), Some((_, place))) => {
                self.places.push(Some(place));
                self.order.insert(place, line, |_, _| {});
                counts.updated += 1;
            }
            (Change::Removal(_), Some((_, place))) => {
                self.places.push(None);
                self.order.remove(&place);
                counts.removed += 1;
            }
            (Change::Removal(_) | Change::Void, _) => self.places.push(None),
        }
    }

    /// Keeps the last batches of changes.
    fn remember(&mut self, from: u64, lines: Vec<(u32, u32)>) {
        if self.places.len() == from {
            return;
        }
        self.recent.push(Arc::new(Superseded { from, lines }));
        let mut total = 0;
        let fitting = self.recent.iter().rev().take_while(|batch| {
            total += batch.lines.len() + 1;
            total <= RECENT_LINES
        });
        let dropped = self.recent.len() - fitting.count();
        self.recent.drain(..dropped);
    }

    fn bytes(&self) -> usize {
        let moved = self.moved.as_ref().map_or(0, |moved| moved.bytes());
        self.index.capacity() * ENTRY_BYTES + self.places.bytes() + self.index.len() * PLACE_BYTES + moved
    }
}

/// The positions of the columns with these names.
fn find_columns(reading: &Arc<Reading>, key: &[String]) -> Result<Vec<usize>, KeyError> {
    let header = View::plain(reading, false).header()?.ok_or(KeyError::NoHeader)?;
    let position = |name: &String| {
        header.cells.iter().position(|cell| cell.text == *name).ok_or_else(|| {
            let mut columns: Vec<_> =
                header.cells.iter().take(10).map(|cell| format!("{:?}", cell.text)).collect();
            if header.width > 10 {
                columns.push(format!("{} more", header.width - 10));
            }
            KeyError::NoColumn { name: name.clone(), columns: columns.join(", ") }
        })
    };
    key.iter().map(position).collect()
}

fn classify(mut cells: LineCells<'_>, columns: &[usize], hashers: &[RandomState; 2]) -> Change {
    let mut hashing = hashers.each_ref().map(BuildHasher::build_hasher);
    let mut add = |cell: &[u8]| {
        for hasher in &mut hashing {
            hasher.write_usize(cell.len());
            hasher.write(cell);
        }
    };
    let mut is_empty = true;
    let mut is_void = false;
    let mut is_removal = false;
    if let Some(key) = removed_key(cells.cell(0)) {
        let mut count = 0;
        for cell in key {
            (is_empty, count) = (is_empty && cell.is_empty(), count + 1);
            add(cell);
        }
        (is_removal, is_void) = (true, count != columns.len());
    } else {
        for column in columns {
            let cell = cells.cell(*column);
            is_empty &= cell.is_empty();
            add(cell);
        }
    }
    let hashes = hashing.map(|hasher| hasher.finish());
    let part = |at: usize| [hashes[at] as u32, (hashes[at] >> 32) as u32];
    let ([a, b], [c, d]) = (part(0), part(1));
    match (is_removal, is_empty || is_void) {
        (true, true) => Change::Void,
        (true, false) => Change::Removal([a, b, c, d]),
        (false, true) => Change::Keyless,
        (false, false) => Change::Row([a, b, c, d]),
    }
}
