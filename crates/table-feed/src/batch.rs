//! Publications as one change of the table: the newest object of each key.

use std::collections::{HashMap, HashSet};

use bytes::{BufMut as _, Bytes, BytesMut};

use tidings_table_service::KeyMemory;

use crate::object::{KeyHash, KeyHasher, NotARow, read_key};

/// The most bytes of one change. A larger single object is one change.
const MAX_BYTES: usize = 4 << 20;

/// The keys of the rows of the table.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) hasher: KeyHasher,
    pub(crate) known: HashSet<KeyHash>,
    /// Their memory; `None` in tests: any.
    memory: Option<KeyMemory>,
    /// The keys of the stored rows do not fit into memory.
    pub(crate) is_full: bool,
}

/// The bytes of a set of so many keys: a power of two of places, of which seven in eight are used.
fn set_bytes(keys: usize) -> usize {
    if keys == 0 { 0 } else { (keys * 8 / 7 + 1).next_power_of_two() * (size_of::<KeyHash>() + 1) }
}

impl Keys {
    /// No keys, which take this memory.
    pub(crate) fn new(memory: KeyMemory) -> Self {
        Self { memory: Some(memory), ..Self::default() }
    }

    /// Reserves the memory for this many more keys. Returns false without it: it is that of the known keys then.
    pub(crate) fn reserve(&mut self, more: usize) -> bool {
        let known = self.known.len();
        let Some(memory) = &mut self.memory else { return true };
        let has_room = memory.try_set(set_bytes(known + more));
        if !has_room {
            memory.try_set(set_bytes(known));
        }
        has_room
    }

    /// Adds the key of a stored row. Without memory for it, all keys are forgotten.
    pub(crate) fn add_stored(&mut self, cells: &[&str]) {
        if self.is_full {
            return;
        }
        if self.known.len() == self.known.capacity() && !self.reserve(1) {
            (self.known, self.is_full) = (HashSet::default(), true);
            self.reserve(0);
            return;
        }
        self.add(cells);
    }

    /// Adds the key of a row.
    pub(crate) fn add(&mut self, cells: &[&str]) {
        self.known.insert(self.hasher.hash(cells));
    }
}

/// Objects of different keys, in the order of their publication.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    objects: Vec<(KeyHash, Box<[u8]>)>,
}

/// The numbers of publications that are no rows, and of objects that a newer one with the same key replaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) no_object: u64,
    pub(crate) no_key: u64,
    /// Rows with a new key, above the most rows.
    pub(crate) full: u64,
    pub(crate) replaced: u64,
}

impl Batch {
    /// The newest object of each key. Objects with a new key are skipped when the table has `max_rows` rows.
    pub(crate) fn collect(
        bodies: impl IntoIterator<Item = Box<[u8]>>,
        key: &[String],
        keys: &Keys,
        max_rows: usize,
    ) -> (Self, Skipped) {
        let mut skipped = Skipped::default();
        let mut newest: HashMap<KeyHash, (usize, Box<[u8]>)> = HashMap::new();
        let mut new_keys = 0;
        for (at, body) in bodies.into_iter().enumerate() {
            let hash = match read_key(&body, key) {
                Ok(cells) => keys.hasher.hash(&cells),
                Err(NotARow::NoObject) => {
                    skipped.no_object += 1;
                    continue;
                }
                Err(NotARow::NoKey) => {
                    skipped.no_key += 1;
                    continue;
                }
            };
            if !keys.known.contains(&hash) && !newest.contains_key(&hash) {
                if keys.known.len() + new_keys >= max_rows {
                    skipped.full += 1;
                    continue;
                }
                new_keys += 1;
            }
            skipped.replaced += u64::from(newest.insert(hash, (at, body)).is_some());
        }
        let mut ordered: Vec<_> = newest.into_iter().collect();
        ordered.sort_unstable_by_key(|(_, (at, _))| *at);
        let objects = ordered.into_iter().map(|(hash, (_, body))| (hash, body)).collect();
        (Self { objects }, skipped)
    }

    /// The number of objects.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// The keys of the objects.
    pub(crate) fn keys(&self) -> impl Iterator<Item = KeyHash> {
        self.objects.iter().map(|(hash, _)| *hash)
    }

    /// The objects, one a line.
    pub(crate) fn lines(&self) -> Bytes {
        let mut lines = BytesMut::new();
        for (_, body) in &self.objects {
            lines.extend_from_slice(body);
            lines.put_u8(b'\n');
        }
        lines.freeze()
    }

    /// Parts of at most [`MAX_BYTES`] bytes.
    pub(crate) fn parts(self) -> Vec<Self> {
        let mut parts: Vec<Self> = Vec::new();
        let mut bytes = 0;
        for object in self.objects {
            bytes += object.1.len() + 1;
            match parts.last_mut().filter(|_| bytes <= MAX_BYTES) {
                Some(part) => part.objects.push(object),
                None => {
                    bytes = object.1.len() + 1;
                    parts.push(Self { objects: vec![object] });
                }
            }
        }
        parts
    }

    /// Two halves; the batch itself when it has a single object.
    pub(crate) fn halves(mut self) -> Result<[Self; 2], Self> {
        if self.objects.len() < 2 {
            return Err(self);
        }
        let rest = self.objects.split_off(self.objects.len() / 2);
        Ok([self, Self { objects: rest }])
    }
}

#[cfg(test)]
mod tests {
    use tidings_table_live::Budget;

    use super::*;

    fn collect(bodies: &[&str], keys: &Keys, max_rows: usize) -> (String, Skipped) {
        let bodies = bodies.iter().map(|body| body.as_bytes().into());
        let (batch, skipped) = Batch::collect(bodies, &["k".to_owned()], keys, max_rows);
        (String::from_utf8(batch.lines().to_vec()).expect("text"), skipped)
    }

    #[test]
    fn keys_take_memory_of_the_common_budget_and_new_ones_are_refused_when_it_is_full() {
        let budget = Budget::new(100_000);
        let (mut first, mut second) = (Keys::new(budget.share()), Keys::new(budget.share()));
        assert!(first.reserve(3_000) && budget.used() == set_bytes(3_000));
        first.known.extend(0..3_000);
        assert!(!second.reserve(3_000), "the second table has no room");
        assert_eq!(budget.used(), set_bytes(3_000));
        assert!(second.reserve(500));
        second.add(&["a"]);
        assert!(!second.reserve(10_000));
        assert_eq!(budget.used(), set_bytes(3_000) + set_bytes(1), "the known keys keep their memory");
        drop(first);
        assert!(second.reserve(1_000));
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn stored_keys_that_do_not_fit_are_forgotten_before_they_take_memory() {
        let budget = Budget::new(100_000);
        let mut keys = Keys::new(budget.share());
        for key in 0..100_000 {
            keys.add_stored(&[&*key.to_string()]);
            assert!(keys.known.capacity() <= 100_000 / size_of::<KeyHash>() && budget.used() <= 100_000);
        }
        assert!(keys.is_full && keys.known.is_empty());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_newest_object_of_each_key_is_written_in_the_order_of_publication() {
        let bodies =
            [r#"{"k":"a","v":1}"#, r#"{"k":"b","v":2}"#, "no object", r#"{"v":3}"#, r#"{"k":"a","v":4}"#];
        let (lines, skipped) = collect(&bodies, &Keys::default(), 10);
        assert_eq!(lines, "{\"k\":\"b\",\"v\":2}\n{\"k\":\"a\",\"v\":4}\n");
        assert_eq!(skipped, Skipped { no_object: 1, no_key: 1, full: 0, replaced: 1 });
    }

    #[test]
    fn a_full_table_takes_changes_of_its_rows_and_no_new_rows() {
        let mut keys = Keys::default();
        keys.add(&["a"]);
        let bodies = [r#"{"k":"b"}"#, r#"{"k":"c"}"#, r#"{"k":"b","v":1}"#, r#"{"k":"a","v":1}"#];
        let (lines, skipped) = collect(&bodies, &keys, 2);
        assert_eq!(lines, "{\"k\":\"b\",\"v\":1}\n{\"k\":\"a\",\"v\":1}\n");
        assert_eq!(skipped, Skipped { full: 1, replaced: 1, ..Skipped::default() });
    }

    #[test]
    fn a_large_batch_is_written_in_parts() {
        let large = |number: usize| format!("{{\"k\":{number},\"v\":\"{}\"}}", "x".repeat(MAX_BYTES / 3));
        let bodies: Vec<Box<[u8]>> = (0..5).map(|number| large(number).into_bytes().into()).collect();
        let (batch, _) = Batch::collect(bodies, &["k".to_owned()], &Keys::default(), 10);
        let parts = batch.parts();
        assert_eq!(parts.iter().map(Batch::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert!(parts.iter().all(|part| part.lines().len() <= MAX_BYTES));
    }
}
