//! The objects of one file: which object holds which bytes.
//!
//! S3 cannot append, so a growing file is a chain of objects. The name of an object contains the range of its bytes in
//! the file: `<start>-<end>` is a complete upload or a merged object; `<start>` is an appended batch of rows, and
//! its size gives its end. The bytes at an offset never change, so all objects that contain an offset agree, and of two
//! objects with the same start the longer one is read. The dialect ([`tidings_table::DIALECT`]) is stored beside them
//! and is not part of the file.

use std::ops::Range;

/// Files with more objects are compacted.
const MAX_OBJECTS: usize = 32;
/// Objects of at most this many bytes are always merged with the following ones.
const SMALL_OBJECT: u64 = 1 << 20;

/// The objects of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Sorted by start; of two with the same start the longer one is first.
    objects: Vec<Object>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) name: String,
    /// Their range in the file.
    pub(super) bytes: Range<u64>,
}

/// The name of a merged object, or of a complete upload.
pub(super) fn merged_name(bytes: &Range<u64>) -> String {
    format!("{:020}-{:020}", bytes.start, bytes.end)
}

/// The name of an object that is appended at this offset. There is one name per offset, so of several concurrent
/// appends at an offset only one succeeds.
pub(super) fn appended_name(at: u64) -> String {
    format!("{at:020}")
}

impl Chain {
    /// Creates a chain from names and sizes. Names of other objects are skipped.
    pub(super) fn new(objects: impl IntoIterator<Item = (String, u64)>) -> Self {
        let object = |(name, size): (String, u64)| {
            let (start, end) = match name.split_once('-') {
                Some((start, end)) => (start.parse().ok()?, Some(end.parse::<u64>().ok()?)),
                None => (name.parse::<u64>().ok()?, None),
            };
            let bytes = start..start.checked_add(size)?;
            end.is_none_or(|end| end == bytes.end).then_some(Object { name, bytes })
        };
        let mut objects: Vec<_> = objects.into_iter().filter_map(object).collect();
        objects.sort_by(|a, b| (a.bytes.start, b.bytes.end).cmp(&(b.bytes.start, a.bytes.end)));
        Self { objects }
    }

    /// The objects that make up the file, in order; `None` when no object starts at 0.
    pub(super) fn parts(&self) -> Option<Vec<&Object>> {
        let first = self.objects.first().filter(|first| first.bytes.start == 0)?;
        let mut parts = vec![first];
        let mut end = first.bytes.end;
        for object in &self.objects {
            if object.bytes.start == end && object.bytes.end > end {
                end = object.bytes.end;
                parts.push(object);
            }
        }
        Some(parts)
    }

    /// The length of the file; `None` when it does not exist.
    pub(super) fn end(&self) -> Option<u64> {
        self.parts()?.last().map(|last| last.bytes.end)
    }

    /// Whether the object of this name is part of the file. An object is not part of it when other nodes appended at
    /// the same offset earlier and merged their objects meanwhile.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.parts().is_some_and(|parts| parts.iter().any(|part| part.name == name))
    }

    /// The range to merge into one object, and the names of the objects that it replaces. Only the first `most` bytes
    /// of the file are considered. `None` while the file has few objects.
    ///
    /// An object is merged with the following ones unless it is more than twice as large as they are together. So each
    /// byte is rewritten O(log n) times for a file of n bytes, and the sizes of the remaining objects decrease
    /// geometrically.
    pub(super) fn compaction(&self, most: u64) -> Option<(Range<u64>, Vec<String>)> {
        let mut parts = self.parts()?;
        parts.retain(|part| part.bytes.end <= most);
        if parts.len() <= MAX_OBJECTS {
            return None;
        }
        let end = parts.last()?.bytes.end;
        let mut start = end;
        for part in parts.iter().rev() {
            let (size, after) = (part.bytes.end - part.bytes.start, end - start);
            if start < end && size > SMALL_OBJECT && size > 2 * after {
                break;
            }
            start = part.bytes.start;
        }
        let name = merged_name(&(start..end));
        let inside = |object: &&Object| object.bytes.start >= start && object.bytes.end <= end;
        let replaced: Vec<_> = self.objects.iter().filter(inside).map(|object| object.name.clone()).collect();
        (!replaced.contains(&name)).then_some((start..end, replaced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(objects: &[(&str, u64)]) -> Chain {
        let long = |name: &str| match name.split_once('-') {
            Some((start, end)) => {
                merged_name(&(start.parse().expect("a number")..end.parse().expect("a number")))
            }
            None => name.parse().map_or(name.to_owned(), appended_name),
        };
        Chain::new(objects.iter().map(|(name, size)| (long(name), *size)))
    }

    fn ranges(chain: &Chain) -> Vec<Range<u64>> {
        chain.parts().expect("a file").into_iter().map(|part| part.bytes.clone()).collect()
    }

    #[test]
    fn a_file_is_its_first_object_and_the_appended_ones() {
        let chain = chain(&[("12", 3), ("0-10", 10), ("10", 2), ("lock", 1), ("3-9", 2)]);
        assert_eq!(ranges(&chain), [0..10, 10..12, 12..15]);
        assert_eq!(chain.end(), Some(15));
    }

    #[test]
    fn an_empty_file_exists_and_grows() {
        assert_eq!(chain(&[("0-0", 0)]).end(), Some(0));
        assert_eq!(ranges(&chain(&[("0-0", 0), ("0", 5), ("5", 2)])), [0..5, 5..7]);
        assert_eq!(chain(&[("5", 2)]).end(), None);
        assert_eq!(chain(&[]).end(), None);
    }

    #[test]
    fn a_merged_object_replaces_its_parts() {
        let chain = chain(&[("0-10", 10), ("10", 2), ("12", 3), ("10-15", 5), ("15", 1)]);
        assert_eq!(ranges(&chain), [0..10, 10..15, 15..16]);
        assert!(
            !chain.contains(&appended_name(10))
                && !chain.contains(&appended_name(12))
                && chain.contains(&appended_name(15))
        );
    }

    #[test]
    fn an_append_at_a_merged_offset_is_not_part_of_the_file() {
        // The objects at 10 and 12 are merged and removed, and then a delayed node appends at 12.
        let chain = chain(&[("0-10", 10), ("10-15", 5), ("12", 4)]);
        assert!(!chain.contains(&appended_name(12)));
        assert_eq!(chain.end(), Some(15));
    }

    #[test]
    fn the_number_of_objects_stays_bounded_as_a_file_grows() {
        let (mut objects, mut end, mut written) =
            (vec![(merged_name(&(0..5 << 20)), 5_u64 << 20)], 5_u64 << 20, 0);
        for _ in 0..5_000 {
            objects.push((appended_name(end), 100_000));
            end += 100_000;
            let chain = Chain::new(objects.clone());
            assert_eq!(chain.end(), Some(end));
            assert!(chain.parts().expect("a file").len() <= MAX_OBJECTS + 1);
            if let Some((bytes, replaced)) = chain.compaction(end) {
                written += bytes.end - bytes.start;
                objects.retain(|(name, _)| !replaced.contains(name));
                objects.push((merged_name(&bytes), bytes.end - bytes.start));
            }
        }
        assert!(written < 8 * end, "{written} bytes were rewritten for a file of {end}");
    }
}
