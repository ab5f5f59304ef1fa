//! Lines that end in `\n` or `\r\n`: the framing that plain lines, JSON lines and RESP's inline commands share.
//!
//! Invariant: a caller that keeps what is [`Scan::Partial`] never keeps more than `max` + 1 bytes.

use memchr::memchr;

/// What stands at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan<'a> {
    /// A whole line.
    Line {
        /// The line without its ending.
        line: &'a [u8],
        /// How many bytes it takes with its ending.
        used: usize,
    },
    /// The start of a line that may still be short enough.
    Partial,
    /// A line that is longer than allowed, whether or not its ending has come.
    TooLong,
}

/// Finds the line at the start of `buf`.
///
/// `searched` is how many leading bytes of `buf` are known to hold no `\n`, so that nothing is searched twice
/// when a line comes in pieces. `max` is the longest line in bytes, without its ending.
pub fn next(buf: &[u8], searched: usize, max: usize) -> Scan<'_> {
    // The longest line that passes ends in \r\n; an ending further on does not change the answer.
    let window = &buf[..buf.len().min(max.saturating_add(2))];
    let searched = searched.min(window.len());
    let Some(found) = memchr(b'\n', &window[searched..]) else {
        // One byte above the limit is still bearable if it is the \r of the ending.
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
    fn too_long_is_said_as_soon_as_it_is_certain() {
        assert_eq!(next(b"abcd", 0, 4), Scan::Partial);
        assert_eq!(next(b"abcd\r", 0, 4), Scan::Partial);
        assert_eq!(next(b"abcde", 0, 4), Scan::TooLong);
        assert_eq!(next(b"abcd\rx", 0, 4), Scan::TooLong);
        assert_eq!(next(b"abcd\r\r", 0, 4), Scan::TooLong);
    }

    /// Reads all lines of `input`, given to the reader in pieces of `sizes`; `None` stands for a line too long.
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

    proptest! {
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
