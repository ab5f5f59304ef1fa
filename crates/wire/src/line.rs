//! Lines: the framing of plain lines ([`next_plain`]), and that of JSON lines and RESP's inline commands ([`next`]).
//!
//! Both end at `\n` or `\r\n`; a plain line also at a `\r` alone, without waiting for the next byte, which may arrive
//! much later. So the `\n` of a `\r\n` may arrive after its line was handled; the caller skips it
//! ([`begins_behind_return`]).
//!
//! Invariant: a caller that buffers the bytes of [`Scan::Partial`] never buffers more than `max` + 1 bytes.

use memchr::{memchr, memchr2};

/// The result of reading a line at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan<'a> {
    /// A whole line.
    Line {
        /// The line without its ending.
        line: &'a [u8],
        /// Its number of bytes with the ending.
        used: usize,
    },
    /// The start of a line that may still be short enough.
    Partial,
    /// A line that is longer than allowed, with or without its ending.
    TooLong,
}

/// Finds the line at the start of `buf`.
///
/// `searched` is the number of leading bytes of `buf` without a `\n`, so that nothing is searched twice when a line
/// arrives in pieces. `max` is the longest line in bytes, without its
/// ending.
pub fn next(buf: &[u8], searched: usize, max: usize) -> Scan<'_> {
    // The longest accepted line ends in `\r\n`; a later ending does not change the result.
    let window = &buf[..buf.len().min(max.saturating_add(2))];
    let searched = searched.min(window.len());
    let Some(found) = memchr(b'\n', &window[searched..]) else {
        // One byte above the limit is allowed if it is the \r of the ending.
        let content = window.strip_suffix(b"\r").unwrap_or(window);
        return if content.len() > max || window.len() > max.saturating_add(1) {
            Scan::TooLong
        } else {
            Scan::Partial
        };
    };
    let end = searched + found;
    let line = &window[..end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > max { Scan::TooLong } else { Scan::Line { line, used: end + 1 } }
}

/// Finds the plain line at the start of `buf`; otherwise as [`next`]. If its ending is `\r` and the last byte of `buf`,
/// a `\n` that arrives next belongs to it.
pub fn next_plain(buf: &[u8], searched: usize, max: usize) -> Scan<'_> {
    let window = &buf[..buf.len().min(max.saturating_add(1))];
    let searched = searched.min(window.len());
    match memchr2(b'\r', b'\n', &window[searched..]) {
        Some(found) => {
            let end = searched + found;
            let rest = &buf[end + 1..];
            let behind = if buf[end] == b'\r' { begins_behind_return(rest) } else { 0 };
            Scan::Line { line: &window[..end], used: end + 1 + behind }
        }
        None if window.len() > max => Scan::TooLong,
        None => Scan::Partial,
    }
}

/// Number of bytes of `buf` to append to the beginning of a plain line: up to its first line break, or all.
pub fn plain_piece(buf: &[u8]) -> usize {
    memchr2(b'\r', b'\n', buf).map_or(buf.len(), |at| at + 1)
}

/// Number of bytes at the start of `buf`, which follows the `\r` that ended a plain line, that belong to that ending: a
/// `\n`,
/// or the NUL that telnet sends behind a `\r` alone (RFC 854).
pub fn begins_behind_return(buf: &[u8]) -> usize {
    usize::from(matches!(buf.first(), Some(b'\n' | 0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_endings_end_a_line() {
        assert_eq!(next(b"a\r\nb", 0, 9), Scan::Line { line: b"a", used: 3 });
        assert_eq!(next(b"a\nb", 0, 9), Scan::Line { line: b"a", used: 2 });
        assert_eq!(next(b"\n", 0, 9), Scan::Line { line: b"", used: 1 });
        assert_eq!(next(b"a\rb\r\r\n", 0, 9), Scan::Line { line: b"a\rb\r", used: 6 });
        assert_eq!(next(b"a\r", 0, 9), Scan::Partial);
        assert_eq!(next(b"", 0, 0), Scan::Partial);
    }

    #[test]
    fn a_line_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        for ending in ["\n", "\r\n"] {
            let whole = format!("abcd{ending}");
            assert_eq!(next(whole.as_bytes(), 0, 4), Scan::Line { line: b"abcd", used: whole.len() });
            assert_eq!(next(whole.as_bytes(), 0, 3), Scan::TooLong);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_as_early_as_possible() {
        assert_eq!(next(b"abcd", 0, 4), Scan::Partial);
        assert_eq!(next(b"abcd\r", 0, 4), Scan::Partial);
        assert_eq!(next(b"abcde", 0, 4), Scan::TooLong);
        assert_eq!(next(b"abcd\rx", 0, 4), Scan::TooLong);
        assert_eq!(next(b"abcd\r\r", 0, 4), Scan::TooLong);
    }

    #[test]
    fn a_return_alone_ends_a_plain_line_at_once() {
        assert_eq!(next_plain(b"a\r", 0, 9), Scan::Line { line: b"a", used: 2 });
        assert_eq!(next_plain(b"a\rb", 0, 9), Scan::Line { line: b"a", used: 2 });
        assert_eq!(next_plain(b"a\r\nb", 0, 9), Scan::Line { line: b"a", used: 3 });
        assert_eq!(next_plain(b"a\r\0b", 0, 9), Scan::Line { line: b"a", used: 3 });
        assert_eq!(next_plain(b"a\nb", 0, 9), Scan::Line { line: b"a", used: 2 });
        assert_eq!(next_plain(b"a\r\r\n", 0, 9), Scan::Line { line: b"a", used: 2 });
        assert_eq!(next_plain(b"a", 0, 9), Scan::Partial);
        assert_eq!(begins_behind_return(b"\nb"), 1);
        assert_eq!(begins_behind_return(b"b"), 0);
        assert_eq!(begins_behind_return(b""), 0);
    }

    #[test]
    fn a_plain_line_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        for ending in ["\n", "\r\n", "\r"] {
            let whole = format!("abcd{ending}");
            assert_eq!(next_plain(whole.as_bytes(), 0, 4), Scan::Line { line: b"abcd", used: whole.len() });
            assert_eq!(next_plain(whole.as_bytes(), 0, 3), Scan::TooLong);
        }
        assert_eq!(next_plain(b"abcd", 0, 4), Scan::Partial);
        assert_eq!(next_plain(b"abcde", 0, 4), Scan::TooLong);
    }

    /// Reads all lines of `input`, passed to the reader in pieces of `sizes`; `None` represents a line that is too
    /// long.
    fn read(input: &[u8], sizes: &[usize], max: usize) -> (Vec<Option<Vec<u8>>>, usize) {
        let (mut lines, mut kept, mut most) = (Vec::new(), Vec::new(), 0);
        let mut rest = input;
        for size in sizes.iter().copied().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(size.clamp(1, rest.len()));
            let mut searched = kept.len();
            kept.extend_from_slice(piece);
            rest = after;
            loop {
                match next(&kept, searched, max) {
                    Scan::Line { line, used } => {
                        lines.push(Some(line.to_vec()));
                        kept.drain(..used);
                        searched = 0;
                    }
                    Scan::Partial => break,
                    Scan::TooLong => {
                        lines.push(None);
                        return (lines, most);
                    }
                }
            }
            most = most.max(kept.len());
        }
        (lines, most)
    }

    /// As [`read`], for plain lines.
    fn read_plain(input: &[u8], sizes: &[usize], max: usize) -> (Vec<Option<Vec<u8>>>, usize) {
        let (mut lines, mut kept, mut most) = (Vec::new(), Vec::new(), 0);
        let mut rest = input;
        let mut returned = false;
        for size in sizes.iter().copied().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(size.clamp(1, rest.len()));
            let mut searched = kept.len();
            kept.extend_from_slice(piece);
            rest = after;
            loop {
                if returned && !kept.is_empty() {
                    kept.drain(..begins_behind_return(&kept));
                    returned = false;
                }
                match next_plain(&kept, searched, max) {
                    Scan::Line { line, used } => {
                        lines.push(Some(line.to_vec()));
                        returned = kept[used - 1] == b'\r';
                        kept.drain(..used);
                        searched = 0;
                    }
                    Scan::Partial => break,
                    Scan::TooLong => {
                        lines.push(None);
                        return (lines, most);
                    }
                }
            }
            most = most.max(kept.len());
        }
        (lines, most)
    }

    proptest! {
        #[test]
        fn a_plain_line_split_anywhere_reads_the_same(
            input in r"[ab\r\n\x00]{0,60}",
            sizes in prop::collection::vec(1..8_usize, 1..6),
            max in 0..8_usize,
        ) {
            let (whole, _) = read_plain(input.as_bytes(), &[usize::MAX], max);
            let (split, most) = read_plain(input.as_bytes(), &sizes, max);
            prop_assert_eq!(whole, split);
            prop_assert!(most <= max);
        }

        #[test]
        fn a_line_split_anywhere_reads_the_same(
            input in r"[ab\r\n]{0,60}",
            sizes in prop::collection::vec(1..8_usize, 1..6),
            max in 0..8_usize,
        ) {
            let (whole, _) = read(input.as_bytes(), &[usize::MAX], max);
            let (split, most) = read(input.as_bytes(), &sizes, max);
            prop_assert_eq!(whole, split);
            prop_assert!(most <= max + 1);
        }
    }
}
