//! The segment of each row: the rows in memory, or others before or after them.
//!
//! Segments are ranges of keys, in order. Each has a number, four bits of which are stored for each place, so that a segment can
//! be read without those next to it. The segments next to the rows in memory are the smallest ones.
//!
//! Invariants:
//! - There are at most [`MOST`] segments, one of which is that of the rows in memory.
//! - A segment has the keys from its least one up to the least one of the next segment. The first segment has no least key.
//! - The number of rows of each segment is exact.

#[cfg(test)]
mod tests;

use std::ops::Range;

/// The most segments: the numbers of four bits without 0.
pub(super) const MOST: usize = 15;
/// The most segments on each side of the rows in memory, when they are divided first.
const ON_A_SIDE: usize = (MOST - 1) / 2;
/// No row has this place.
const ABSENT: u8 = 0;

/// A range of keys.
#[derive(Debug)]
struct Segment {
    number: u8,
    rows: u64,
    /// Empty for the first segment.
    least: Box<[u8]>,
}

/// All segments of a view.
pub(super) struct Segments {
    numbers: Numbers,
    all: Vec<Segment>,
    /// The position in `all` of the rows in memory.
    near: usize,
}

/// The positions at which the segments of a view begin.
pub(super) struct Division {
    /// Ascending, and 0 first.
    pub starts: Vec<u64>,
    near: usize,
    total: u64,
}

impl Division {
    /// Of a view with `total` rows, of which those at the positions `near` are in memory. `step`: the rows of the segments next
    /// to them; each further one has twice as many.
    pub(super) fn around(near: &Range<u64>, total: u64, step: u64) -> Self {
        let (mut starts, mut at, mut size) = (vec![near.start], near.start, step.max(1));
        while at > 0 {
            at = if starts.len() == ON_A_SIDE { 0 } else { at.saturating_sub(size) };
            starts.push(at);
            size *= 2;
        }
        starts.reverse();
        let position = starts.len() - 1;
        (at, size) = (near.end, step.max(1));
        while at < total && starts.len() - position <= ON_A_SIDE {
            starts.push(at);
            at = at.saturating_add(size);
            size *= 2;
        }
        Self { starts, near: position, total }
    }
}

impl Segments {
    /// Segments without keys yet ([`Self::set_least`]) and with the memory for these places.
    pub(super) fn new(division: &Division, places: u64) -> Self {
        let ends = division.starts[1..].iter().chain([&division.total]);
        let all = division.starts.iter().zip(ends).zip(1..);
        let all =
            all.map(|((start, end), number)| Segment { number, rows: end - start, least: Box::default() });
        Self { numbers: Numbers::with_places(places), all: all.collect(), near: division.near }
    }

    /// Sets the segment of a place, by the position of the segment, without counting it.
    pub(super) fn place(&mut self, place: u32, segment: usize) {
        self.numbers.set(place, self.all[segment].number);
    }

    /// Sets the least key of a segment, by its position.
    pub(super) fn set_least(&mut self, segment: usize, key: &[u8]) {
        self.all[segment].least = key.into();
    }

    /// Whether the segment at this position has the rows in memory.
    pub(super) const fn is_near(&self, segment: usize) -> bool {
        segment == self.near
    }

    /// Adds a row. Returns whether it belongs to the rows in memory.
    pub(super) fn add(&mut self, key: &[u8], place: u32) -> bool {
        let at = self.all.partition_point(|segment| *segment.least <= *key).saturating_sub(1);
        let segment = &mut self.all[at];
        segment.rows += 1;
        self.numbers.set(place, segment.number);
        at == self.near
    }

    /// Removes the row of a place. Returns whether it was in memory; `None`: the view has no such row.
    pub(super) fn remove(&mut self, place: u32) -> Option<bool> {
        let number = self.numbers.take(place);
        let at = self.all.iter().position(|segment| segment.number == number)?;
        self.all[at].rows -= 1;
        Some(at == self.near)
    }

    /// The number of rows before those in memory.
    pub(super) fn before(&self) -> u64 {
        self.all[..self.near].iter().map(|segment| segment.rows).sum()
    }

    /// The number of rows after those in memory.
    pub(super) fn after(&self) -> u64 {
        self.all[self.near + 1..].iter().map(|segment| segment.rows).sum()
    }

    /// The number of rows of the segment before, or after, those in memory; `None`: there is none.
    pub(super) fn next(&self, is_before: bool) -> Option<u64> {
        Some(self.all[self.next_at(is_before)?].rows)
    }

    /// The places of the rows of that segment, ascending.
    pub(super) fn next_places(&self, is_before: bool) -> Vec<u32> {
        let Some(at) = self.next_at(is_before) else { return Vec::new() };
        let (number, mut places) = (self.all[at].number, Vec::with_capacity(self.all[at].rows as usize));
        self.numbers.for_each(|place, found| {
            if found == number {
                places.push(place);
            }
        });
        places
    }

    fn next_at(&self, is_before: bool) -> Option<usize> {
        let at = if is_before { self.near.checked_sub(1) } else { Some(self.near + 1) };
        at.filter(|at| *at < self.all.len())
    }

    /// Moves the first rows in memory out of it, or the last ones. `keys`: those of the rows, ascending, with their places.
    /// `first`: the first key that stays. The rows join the next segment, unless it has `most` rows.
    pub(super) fn move_out(&mut self, is_first: bool, keys: &[(&[u8], u32)], first: &[u8], most: u64) {
        let Some((least, _)) = keys.first() else { return };
        self.all[self.near].rows -= keys.len() as u64;
        if self.next(is_first).is_none_or(|rows| rows >= most) {
            let number = self.unused();
            let at = if is_first { self.near } else { self.near + 1 };
            // The new segment has the range of those before it, which begins where they did.
            let least = if is_first { std::mem::take(&mut self.all[at].least) } else { Box::from(*least) };
            self.all.insert(at, Segment { number, rows: 0, least });
            self.near += usize::from(is_first);
        } else if !is_first {
            self.all[self.near + 1].least = Box::from(*least);
        }
        if is_first {
            self.all[self.near].least = Box::from(first);
        }
        if let Some(at) = self.next_at(is_first) {
            self.all[at].rows += keys.len() as u64;
            keys.iter().for_each(|(_, place)| self.numbers.set(*place, self.all[at].number));
        }
    }

    /// Moves rows of the next segment to those in memory. `keys`: those of all rows of the segment, ascending, with their places.
    /// `count`: the number of rows to move, at least one if the segment has rows. When many rows stay, those next to the moved
    /// ones, `step` of them, become a segment of their own.
    pub(super) fn move_in(&mut self, is_before: bool, keys: &[(&[u8], u32)], count: usize, step: usize) {
        let Some(mut at) = self.next_at(is_before) else { return };
        let stay = keys.len().saturating_sub(count);
        let near = self.all[self.near].number;
        let moved = if is_before { &keys[stay..] } else { &keys[..keys.len() - stay] };
        moved.iter().for_each(|(_, place)| self.numbers.set(*place, near));
        self.all[self.near].rows += moved.len() as u64;
        self.all[at].rows -= moved.len() as u64;
        if stay == 0 {
            // The rows in memory get the whole range, and no key is between two segments.
            let removed = self.all.remove(at);
            self.near -= usize::from(is_before);
            if is_before {
                self.all[self.near].least = removed.least;
            }
            return;
        }
        match is_before {
            true => self.all[self.near].least = Box::from(keys[stay].0),
            false => self.all[at].least = Box::from(keys[count].0),
        }
        if stay < 3 * step {
            return;
        }
        let number = self.unused();
        // Segments at the ends may have been joined.
        let Some(found) = self.next_at(is_before) else { return };
        at = found;
        self.all[at].rows -= step as u64;
        let split = if is_before { stay - step..stay } else { count..count + step };
        keys[split.clone()].iter().for_each(|(_, place)| self.numbers.set(*place, number));
        let rows = step as u64;
        match is_before {
            true => {
                let least = Box::from(keys[split.start].0);
                self.all.insert(at + 1, Segment { number, rows, least });
                self.near += 1;
            }
            false => {
                let least = std::mem::replace(&mut self.all[at].least, Box::from(keys[split.end].0));
                self.all.insert(at, Segment { number, rows, least });
            }
        }
    }

    /// A number that no segment has. Joins the two segments at the end of the side with the most segments, when all are in use.
    fn unused(&mut self) -> u8 {
        if self.all.len() >= MOST {
            let after = self.all.len() - 1 - self.near;
            // The outer one joins the inner one.
            let (outer, inner) =
                if self.near > after { (0, 1) } else { (self.all.len() - 1, self.all.len() - 2) };
            let (from, to) = (self.all[outer].number, self.all[inner].number);
            self.numbers.replace(from, to);
            self.all[inner].rows += self.all[outer].rows;
            if outer == 0 {
                self.all[inner].least = Box::default();
                self.near -= 1;
            }
            self.all.remove(outer);
        }
        let is_unused = |number: &u8| self.all.iter().all(|segment| segment.number != *number);
        (1..=MOST as u8).find(is_unused).unwrap_or(ABSENT)
    }

    /// Changes the places to those of the file that has replaced that of the rows: `moved(place)` for the place of a row. Their
    /// order stays. `end`: a place after all of them.
    pub(super) fn move_to(&mut self, end: u64, moved: impl Fn(u32) -> u32) {
        // The row of the least key may have been removed. Among rows with the same sort key only the place decides, so the place
        // of the next existing row is an equivalent bound.
        for segment in &mut self.all {
            if let Some(place) = segment.least.last_chunk_mut() {
                let next = self.numbers.next(u32::from_be_bytes(*place));
                *place = next.map_or(end as u32, &moved).to_be_bytes();
            }
        }
        let mut numbers = Numbers::with_places(end);
        self.numbers.for_each(|place, number| numbers.set(moved(place), number));
        self.numbers = numbers;
    }

    /// The bytes of memory of segments with these places.
    pub(super) const fn bytes_for(places: u64) -> usize {
        Numbers::bytes_for(places)
    }

    /// The bytes of memory, without the keys.
    pub(super) fn bytes(&self) -> usize {
        self.numbers.0.capacity()
    }
}

/// The number of the segment of each place, two in a byte.
struct Numbers(Vec<u8>);

impl Numbers {
    const fn bytes_for(places: u64) -> usize {
        places as usize / 2 + 1
    }

    fn with_places(places: u64) -> Self {
        Self(Vec::with_capacity(Self::bytes_for(places)))
    }

    fn set(&mut self, place: u32, number: u8) {
        let (at, shift) = (place as usize / 2, place % 2 * 4);
        if at >= self.0.len() {
            if at >= self.0.capacity() {
                self.0.reserve_exact(at + at / 16 + 1_024 - self.0.len());
            }
            self.0.resize(at + 1, 0);
        }
        self.0[at] = self.0[at] & !(15 << shift) | number << shift;
    }

    /// Removes the row of a place. Returns its segment.
    fn take(&mut self, place: u32) -> u8 {
        let shift = place % 2 * 4;
        let Some(byte) = self.0.get_mut(place as usize / 2) else { return ABSENT };
        let number = *byte >> shift & 15;
        *byte &= !(15 << shift);
        number
    }

    /// Calls `each` with all places that have a row, ascending, and their segments.
    fn for_each(&self, mut each: impl FnMut(u32, u8)) {
        for (byte, at) in self.0.iter().zip(0_u32..) {
            if *byte == 0 {
                continue;
            }
            for (part, number) in [byte & 15, byte >> 4].into_iter().enumerate() {
                if number != ABSENT {
                    each(at * 2 + part as u32, number);
                }
            }
        }
    }

    /// The first place with a row that is not before this one.
    fn next(&self, place: u32) -> Option<u32> {
        let number = |place: u32| self.0.get(place as usize / 2).map(|byte| *byte >> (place % 2 * 4) & 15);
        if number(place)? != ABSENT {
            return Some(place);
        }
        let rest = self.0.get(place as usize / 2 + 1..)?;
        if place.is_multiple_of(2) && number(place + 1)? != ABSENT {
            return Some(place + 1);
        }
        let next = (place / 2 + 1 + rest.iter().position(|byte| *byte != 0)? as u32) * 2;
        Some(if number(next)? == ABSENT { next + 1 } else { next })
    }

    /// Moves all rows of a segment to another one.
    fn replace(&mut self, from: u8, to: u8) {
        for byte in &mut self.0 {
            let [low, high] = [*byte & 15, *byte >> 4].map(|number| if number == from { to } else { number });
            *byte = high << 4 | low;
        }
    }
}
