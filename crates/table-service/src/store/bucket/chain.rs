//! A file as objects that follow one another: which object holds which bytes.
//!
//! S3 cannot append, so a file that grows is a chain of objects. Each is named by the bytes of the file that it holds:
//! `<start>-<end>` is a whole file, or what was joined of others; `<start>` is a batch of rows that were appended, and
//! ends where its size says. The bytes at a place of a file never change, so any object that holds a place is as good as
//! any other, and of two that begin at the same place the longer one is taken. Beside them lies how the file is read
//! ([`tidings_table::DIALECT`]), which is no part of it.

use std::ops::Range;

/// More objects than this are joined.
const MANY: usize = 32;
/// Objects of at most this many bytes are always joined with what follows them.
const SMALL: u64 = 1 << 20;

/// The objects of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// By where they begin, the longer first.
    objects: Vec<Object>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) name: String,
    /// The bytes of the file that it holds.
    pub(super) bytes: Range<u64>,
}

/// What an object of joined bytes, or of a whole file, is called.
pub(super) fn joined(bytes: &Range<u64>) -> String {
    format!("{:020}-{:020}", bytes.start, bytes.end)
}

/// What an object is called whose bytes are appended here; there is one such name for each place, so only one of those
/// who append there at once can take it.
pub(super) fn appended(at: u64) -> String {
    format!("{at:020}")
}

impl Chain {
    /// Of names and sizes. What is no part of a file is left out.
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

    /// The objects that make the file, in order; `None` when it has no beginning.
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

    /// How many bytes the file has; `None` when it is not there.
    pub(super) fn end(&self) -> Option<u64> {
        self.parts()?.last().map(|last| last.bytes.end)
    }

    /// Whether the object of this name is one of those that make the file. One that is not was put at a place that
    /// others had written before and joined meanwhile.
    pub(super) fn counts(&self, name: &str) -> bool {
        self.parts().is_some_and(|parts| parts.iter().any(|part| part.name == name))
    }

    /// Which bytes of the first so many are to be joined into one object, and the objects that it replaces; `None`
    /// while there are few.
    ///
    /// An object is joined with what follows it unless it is more than twice as large: so each byte is written again a
    /// few times at most (as the logarithm of the file's size), and the objects that remain get smaller quickly.
    pub(super) fn to_join(&self, most: u64) -> Option<(Range<u64>, Vec<String>)> {
        let mut parts = self.parts()?;
        parts.retain(|part| part.bytes.end <= most);
        if parts.len() <= MANY {
            return None;
        }
        let end = parts.last()?.bytes.end;
        let mut start = end;
        for part in parts.iter().rev() {
            let (size, after) = (part.bytes.end - part.bytes.start, end - start);
            if start < end && size > SMALL && size > 2 * after {
                break;
            }
            start = part.bytes.start;
        }
        let name = joined(&(start..end));
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
            Some((start, end)) => joined(&(start.parse().expect("a number")..end.parse().expect("a number"))),
            None => name.parse().map_or(name.to_owned(), appended),
        };
        Chain::new(objects.iter().map(|(name, size)| (long(name), *size)))
    }

    fn ranges(chain: &Chain) -> Vec<Range<u64>> {
        chain.parts().expect("a file").into_iter().map(|part| part.bytes.clone()).collect()
    }

    #[test]
    fn a_file_is_its_first_object_and_what_was_appended() {
        let chain = chain(&[("12", 3), ("0-10", 10), ("10", 2), ("lock", 1), ("3-9", 2)]);
        assert_eq!(ranges(&chain), [0..10, 10..12, 12..15]);
        assert_eq!(chain.end(), Some(15));
    }

    #[test]
    fn an_empty_file_is_one_and_grows() {
        assert_eq!(chain(&[("0-0", 0)]).end(), Some(0));
        assert_eq!(ranges(&chain(&[("0-0", 0), ("0", 5), ("5", 2)])), [0..5, 5..7]);
        assert_eq!(chain(&[("5", 2)]).end(), None);
        assert_eq!(chain(&[]).end(), None);
    }

    #[test]
    fn what_was_joined_hides_what_it_was_joined_of() {
        let chain = chain(&[("0-10", 10), ("10", 2), ("12", 3), ("10-15", 5), ("15", 1)]);
        assert_eq!(ranges(&chain), [0..10, 10..15, 15..16]);
        assert!(!chain.counts(&appended(10)) && !chain.counts(&appended(12)) && chain.counts(&appended(15)));
    }

    #[test]
    fn what_is_put_where_others_have_joined_meanwhile_does_not_count() {
        // The objects at 10 and 12 are joined and removed, and somebody late writes at 12.
        let chain = chain(&[("0-10", 10), ("10-15", 5), ("12", 4)]);
        assert!(!chain.counts(&appended(12)));
        assert_eq!(chain.end(), Some(15));
    }

    #[test]
    fn a_file_stays_few_objects_however_often_it_grows() {
        let (mut objects, mut end, mut written) =
            (vec![(joined(&(0..5 << 20)), 5_u64 << 20)], 5_u64 << 20, 0);
        for _ in 0..5_000 {
            objects.push((appended(end), 100_000));
            end += 100_000;
            let chain = Chain::new(objects.clone());
            assert_eq!(chain.end(), Some(end));
            assert!(chain.parts().expect("a file").len() <= MANY + 1);
            if let Some((bytes, replaced)) = chain.to_join(end) {
                written += bytes.end - bytes.start;
                objects.retain(|(name, _)| !replaced.contains(name));
                objects.push((joined(&bytes), bytes.end - bytes.start));
            }
        }
        assert!(written < 8 * end, "{written} bytes were written again for a file of {end}");
    }
}
