//! The counts and places of segments are those of a sorted list of keys.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// The places that rows can have.
const PLACES: u32 = 300;

/// All rows: the key of each place, and which keys are in memory.
#[derive(Default)]
struct Model {
    rows: BTreeMap<u32, Vec<u8>>,
    near: BTreeSet<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u32),
    Remove(u32),
    MoveIn(bool, usize),
    MoveOut(bool, usize),
    Compact,
}

fn key(sort: u8, place: u32) -> Vec<u8> {
    [&[sort][..], &place.to_be_bytes()].concat()
}

fn place(key: &[u8]) -> u32 {
    u32::from_be_bytes(*key.last_chunk().unwrap())
}

fn with_places(keys: &[Vec<u8>]) -> Vec<(&[u8], u32)> {
    keys.iter().map(|key| (&**key, place(key))).collect()
}

impl Model {
    fn sorted(&self) -> Vec<Vec<u8>> {
        self.rows.values().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The keys of the segment next to the rows in memory, ascending.
    fn next(&self, segments: &Segments, is_before: bool) -> Vec<Vec<u8>> {
        let keys = segments.next_places(is_before).into_iter().map(|place| self.rows[&place].clone());
        keys.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn check(&self, segments: &Segments) {
        let sorted = self.sorted();
        let (before, after) = (segments.before() as usize, segments.after() as usize);
        assert_eq!(before + self.near.len() + after, sorted.len());
        let near: Vec<_> = self.near.iter().cloned().collect();
        assert_eq!(sorted[before..sorted.len() - after], near, "the rows in memory are next to each other");
        for is_before in [true, false] {
            let next = self.next(segments, is_before);
            assert_eq!(segments.next(is_before).unwrap_or(0), next.len() as u64);
            let end = sorted.len() - after;
            let expected =
                if is_before { &sorted[before - next.len()..before] } else { &sorted[end..end + next.len()] };
            assert_eq!(next, expected, "the next segment touches the rows in memory");
        }
        assert!(segments.all.len() <= MOST);
    }

    fn apply(&mut self, segments: &mut Segments, step: &Step, size: usize) {
        match *step {
            Step::Add(sort, place) => {
                if !self.rows.contains_key(&place) {
                    let key = key(sort, place);
                    if segments.add(&key, place) {
                        self.near.insert(key.clone());
                    }
                    self.rows.insert(place, key);
                }
            }
            Step::Remove(place) => {
                let removed = self.rows.remove(&place).map(|key| self.near.remove(&key));
                assert_eq!(segments.remove(place), removed);
            }
            Step::MoveIn(is_before, count) => {
                let keys = self.next(segments, is_before);
                let count = count.min(keys.len());
                segments.move_in(is_before, &with_places(&keys), count, size);
                let moved = if is_before { &keys[keys.len() - count..] } else { &keys[..count] };
                self.near.extend(moved.iter().cloned());
            }
            Step::MoveOut(is_first, count) => {
                let near: Vec<_> = self.near.iter().cloned().collect();
                let count = count.min(near.len().saturating_sub(1));
                let (moved, first) = if is_first {
                    (&near[..count], near.get(count))
                } else {
                    (&near[near.len() - count..], near.first())
                };
                let Some(first) = first else { return };
                segments.move_out(is_first, &with_places(moved), first, 2 * size as u64);
                moved.iter().for_each(|key| assert!(self.near.remove(key)));
            }
            Step::Compact => {
                let new: BTreeMap<u32, u32> = self.rows.keys().copied().zip(0..).collect();
                segments.move_to(new.len() as u64, |place| new[&place]);
                self.near = self.near.iter().map(|old| key(old[0], new[&place(old)])).collect();
                let rows = std::mem::take(&mut self.rows);
                self.rows =
                    rows.into_iter().map(|(place, old)| (new[&place], key(old[0], new[&place]))).collect();
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..6, 0..PLACES).prop_map(|(sort, place)| Step::Add(sort, place)),
        4 => (0..PLACES).prop_map(Step::Remove),
        3 => (any::<bool>(), 1_usize..6).prop_map(|(is_before, count)| Step::MoveIn(is_before, count)),
        3 => (any::<bool>(), 1_usize..6).prop_map(|(is_first, count)| Step::MoveOut(is_first, count)),
        1 => Just(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn segments_count_the_rows_of_a_sorted_list(
        sorts in prop::collection::vec(0_u8..6, 1..PLACES as usize),
        (from, len, size) in (0.0..1.0, 0_usize..20, 1_usize..5),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let rows = sorts.iter().zip(0..).map(|(sort, place)| (place, key(*sort, place))).collect();
        let mut model = Model { rows, ..Model::default() };
        let sorted = model.sorted();
        let start = (sorted.len() as f64 * from) as usize;
        let near = start..(start + 1 + len).min(sorted.len());
        model.near = sorted[near.clone()].iter().cloned().collect();
        let near = near.start as u64..near.end as u64;
        let division = Division::around(&near, sorted.len() as u64, size as u64);
        let mut segments = Segments::new(&division, sorted.len() as u64);
        for (key, position) in sorted.iter().zip(0..) {
            let at = division.starts.partition_point(|start| *start <= position) - 1;
            if at > 0 && division.starts[at] == position {
                segments.set_least(at, key);
            }
            segments.place(place(key), at);
        }
        model.check(&segments);
        for step in &steps {
            model.apply(&mut segments, step, size);
            model.check(&segments);
        }
    }
}
