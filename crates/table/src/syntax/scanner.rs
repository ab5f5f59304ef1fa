//! Finds the ends of cells and rows, 64 bytes at a time.

use super::group::{Classes, GROUP, classify, parity};
use super::{Mark, State, Syntax, is_break};

/// The ends in up to 64 bytes: bit `i` stands for byte `i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Delimiters between two cells.
    pub(crate) cells: u64,
    /// The first line break after each row. An empty line has none.
    pub(crate) rows: u64,
}

/// A position in the grammar that advances over text.
#[derive(Clone, Debug)]
pub(crate) struct Scanner {
    syntax: Syntax,
    state: State,
    /// Whether there was content between a closing quote and the end of its cell.
    sloppy: bool,
}

impl Scanner {
    /// A scanner at the start of a row.
    pub(crate) const fn new(syntax: Syntax) -> Self {
        Self { syntax, state: State::RowStart, sloppy: false }
    }

    /// Whether the text so far ends within a row.
    pub(crate) fn is_in_row(&self) -> bool {
        self.state != State::RowStart
    }

    /// Whether the text so far ends within quotes.
    pub(crate) fn is_in_quotes(&self) -> bool {
        matches!(self.state, State::Quoted | State::Escaped)
    }

    /// Whether there was a cell such as `"a"b`, with content that is not contiguous in the text.
    pub(crate) const fn is_sloppy(&self) -> bool {
        self.sloppy
    }

    /// Scans `bytes`, and passes the marks of each group and the position of its first byte to `sink`.
    #[inline]
    pub(crate) fn scan(&mut self, bytes: &[u8], mut sink: impl FnMut(usize, Marks)) {
        let (groups, rest) = bytes.as_chunks::<GROUP>();
        if self.is_slow() {
            for (i, piece) in bytes.chunks(GROUP).enumerate() {
                let marks = match piece.first_chunk::<GROUP>() {
                    Some(group) => self.group(group),
                    None => self.walk(piece),
                };
                sink(i * GROUP, marks);
            }
            return;
        }
        // Between two groups without quotes, the state follows from the last byte, and only the start of a row is
        // relevant.
        let mut row_start = self.outside_quotes();
        for (i, group) in groups.iter().enumerate() {
            let classes = classify(group, self.syntax.delimiter, self.syntax.quote);
            let marks = match &mut row_start {
                Some(row_start) if classes.quotes == 0 => {
                    let empty = classes.breaks << 1 | u64::from(*row_start);
                    *row_start = classes.breaks >> (GROUP - 1) != 0;
                    Marks { cells: classes.delimiters, rows: classes.breaks & !empty }
                }
                _ => {
                    if row_start.is_some() && i > 0 {
                        self.state = self.state_after(&groups[i - 1]);
                    }
                    let marks = self.marks(group, &classes);
                    row_start = self.outside_quotes();
                    marks
                }
            };
            sink(i * GROUP, marks);
        }
        if let Some(last) = groups.last()
            && row_start.is_some()
        {
            self.state = self.state_after(last);
        }
        if !rest.is_empty() {
            sink(bytes.len() - rest.len(), self.walk(rest));
        }
    }

    /// Advances over `rows` rows, or to the end of `bytes`. Returns the number of bytes, and subtracts the passed rows
    /// from `rows`. Stops at the start of the row after the last one.
    pub(crate) fn skip(&mut self, bytes: &[u8], rows: &mut u64) -> usize {
        let mut at = 0;
        while *rows > 0 && at < bytes.len() {
            let rest = &bytes[at..];
            let (length, marks) = match rest.first_chunk::<GROUP>() {
                Some(group) => (GROUP, self.group(group)),
                None => (rest.len(), self.walk(rest)),
            };
            let found = u64::from(marks.rows.count_ones());
            if found >= *rows {
                let before = (1..*rows).fold(marks.rows, |marks, _| marks & (marks - 1));
                *rows = 0;
                self.state = State::RowStart;
                return at + before.trailing_zeros() as usize + 1;
            }
            *rows -= found;
            at += length;
        }
        at
    }

    /// The marks of one group: from its classes if that is unambiguous, otherwise byte by byte.
    #[inline]
    pub(crate) fn group(&mut self, group: &[u8; GROUP]) -> Marks {
        if self.is_slow() && (self.syntax.skips_spaces || self.has_escape(group)) {
            return self.walk(group);
        }
        let classes = classify(group, self.syntax.delimiter, self.syntax.quote);
        self.marks(group, &classes)
    }

    /// Whether other bytes than quotes and delimiters have a meaning outside quotes.
    const fn is_slow(&self) -> bool {
        self.syntax.escapes_everywhere || self.syntax.skips_spaces
    }

    /// Whether a group contains an escape or follows one.
    fn has_escape(&self, group: &[u8; GROUP]) -> bool {
        let escape = self.syntax.escape.unwrap_or_default();
        self.state == State::PlainEscaped || memchr::memchr(escape, group).is_some()
    }

    fn marks(&mut self, group: &[u8; GROUP], classes: &Classes) -> Marks {
        let is_quoted = self.is_in_quotes();
        if classes.quotes == 0 && !is_quoted {
            self.sloppy |= self.state == State::Closed && (classes.delimiters | classes.breaks) & 1 == 0;
            return self.unquoted(group, classes, u64::MAX, false);
        }
        if self.syntax.escape.is_some() {
            return self.walk(group);
        }
        // Toggling at every quote is correct if each opening quote is at the start of a cell or after a closing one (a
        // doubled quote closes and opens).
        let inside = parity(classes.quotes) ^ if is_quoted { u64::MAX } else { 0 };
        let (opens, closes) = (classes.quotes & inside, classes.quotes & !inside);
        let ends = (classes.delimiters | classes.breaks) & !inside;
        let may_open = (ends | closes) << 1 | u64::from(self.state != State::Plain);
        if opens & !may_open != 0 {
            return self.walk(group);
        }
        let closed = closes << 1 | u64::from(self.state == State::Closed);
        self.sloppy |= closed & !(ends | opens) != 0;
        self.unquoted(group, classes, !inside, closes >> (GROUP - 1) != 0)
    }

    /// The marks of a group in which the bytes at the bits of `outside` are outside quotes. `closes`: its last byte is
    /// a closing quote.
    #[inline]
    fn unquoted(&mut self, group: &[u8; GROUP], classes: &Classes, outside: u64, closes: bool) -> Marks {
        let breaks = classes.breaks & outside;
        let empty = breaks << 1 | u64::from(self.state == State::RowStart);
        self.state = if outside >> (GROUP - 1) == 0 {
            State::Quoted
        } else if closes {
            State::Closed
        } else {
            self.state_after(group)
        };
        Marks { cells: classes.delimiters & outside, rows: breaks & !empty }
    }

    /// Whether a row starts here, outside quotes; `None` within quotes or after a closing quote.
    const fn outside_quotes(&self) -> Option<bool> {
        match self.state {
            State::RowStart => Some(true),
            State::CellStart | State::Plain | State::PlainEscaped | State::Spaces => Some(false),
            State::Quoted | State::Escaped | State::Closed | State::ClosedSpaces => None,
        }
    }

    /// The state after a group whose last byte is outside quotes and closes none.
    const fn state_after(&self, group: &[u8; GROUP]) -> State {
        let last = group[GROUP - 1];
        if last == self.syntax.delimiter {
            State::CellStart
        } else if is_break(last) {
            State::RowStart
        } else {
            State::Plain
        }
    }

    /// The marks of up to 64 bytes, by the grammar.
    #[inline(never)]
    pub(crate) fn walk(&mut self, bytes: &[u8]) -> Marks {
        let mut marks = Marks::default();
        for (i, byte) in bytes.iter().enumerate() {
            let (state, mark) = self.state.after(*byte, &self.syntax);
            match mark {
                Mark::Cell => marks.cells |= 1 << i,
                Mark::Break if self.state != State::RowStart => marks.rows |= 1 << i,
                Mark::Break | Mark::None => {}
            }
            let is_closed = matches!(self.state, State::Closed | State::ClosedSpaces);
            self.sloppy |= is_closed && matches!(state, State::Plain | State::PlainEscaped);
            self.state = state;
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn groups_and_single_bytes_find_the_same_ends(
            text in r#"([ab,"\\]{0,6}[\r\n,"]){0,80}"#,
            escape in any::<bool>(),
            cut in 0..8_usize,
            everywhere in any::<bool>(),
        ) {
            let syntax = Syntax::new(b',', Some(b'"'), escape.then_some(b'\\')).unwrap();
            let syntax = syntax.escaping_everywhere(everywhere);
            let [mut by_run, mut by_group, mut by_byte] = [(); 3].map(|()| Scanner::new(syntax));
            let groups = text.as_bytes().as_chunks::<GROUP>().0;
            let mut marks = Vec::new();
            for group in groups {
                marks.push(by_byte.walk(group));
                prop_assert_eq!(Some(&by_group.group(group)), marks.last());
                prop_assert_eq!(by_group.state, by_byte.state);
                prop_assert_eq!(by_group.sloppy, by_byte.sloppy);
            }
            let (first, second) = groups.split_at(cut.min(groups.len()));
            let mut found = Vec::new();
            by_run.scan(first.as_flattened(), |_, marks| found.push(marks));
            by_run.scan(second.as_flattened(), |_, marks| found.push(marks));
            prop_assert_eq!(found, marks);
            prop_assert_eq!(by_run.state, by_byte.state);
            prop_assert_eq!(by_run.sloppy, by_byte.sloppy);
        }
    }
}
