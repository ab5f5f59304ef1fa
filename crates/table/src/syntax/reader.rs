//! Reads the contents of cells incrementally, whatever their length.

use std::ops::ControlFlow;

use memchr::{memchr2, memchr3};

use super::{Mark, State, Syntax, is_break};

/// An event of a [`Reader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A part of the current cell, without quotes and escapes. A cell may have many parts or none.
    Content(&'a [u8]),
    /// The current cell ends, and another one of the row follows.
    Cell,
    /// The current cell and its row end.
    Row,
}

/// Reads delimited text that arrives in pieces.
///
/// It holds no text: cells may have any length. Rows and cells do not depend on how the text is split.
#[derive(Clone, Debug)]
pub struct Reader {
    syntax: Syntax,
    state: State,
}

impl Reader {
    /// A reader at the start of a row.
    pub const fn new(syntax: Syntax) -> Self {
        Self { syntax, state: State::RowStart }
    }

    /// Reads `bytes` and passes events to `sink`, until the bytes end or `sink` breaks. Returns the number of bytes
    /// read.
    ///
    /// After a break, reading continues with the next byte. A break is honored at [`Event::Cell`] and [`Event::Row`],
    /// and ignored at [`Event::Content`].
    pub fn feed(&mut self, bytes: &[u8], mut sink: impl FnMut(Event<'_>) -> ControlFlow<()>) -> usize {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let before = self.state;
            let (state, mark) = before.after(byte, &self.syntax);
            self.state = state;
            let flow = match mark {
                Mark::Cell => sink(Event::Cell),
                Mark::Break if before == State::RowStart => ControlFlow::Continue(()),
                Mark::Break => sink(Event::Row),
                Mark::None => {
                    at = self.content(bytes, at, before, &mut sink);
                    continue;
                }
            };
            at += 1;
            if flow.is_break() {
                break;
            }
        }
        at
    }

    /// Ends the text: a row without a line break counts.
    pub fn finish(&mut self, mut sink: impl FnMut(Event<'_>) -> ControlFlow<()>) {
        if self.state != State::RowStart {
            if matches!(self.state, State::Escaped | State::PlainEscaped) {
                let _ = sink(Event::Content(self.syntax.escape.as_slice()));
            }
            let _ = sink(Event::Row);
        }
        self.state = State::RowStart;
    }

    /// Passes the content that starts with the byte at `at`, where the state changed from `before` to the current one.
    /// Returns the position after it.
    fn content(
        &mut self,
        bytes: &[u8],
        at: usize,
        before: State,
        sink: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> usize {
        let Syntax { delimiter, quote, escape, escapes_everywhere, .. } = self.syntax;
        let starts_at = match (before, self.state) {
            // A quote that opens or may close; an escape.
            (State::RowStart | State::CellStart | State::Spaces, State::Quoted) => at + 1,
            (
                _,
                State::Closed | State::Escaped | State::PlainEscaped | State::Spaces | State::ClosedSpaces,
            ) => {
                return at + 1;
            }
            (State::PlainEscaped, _) => {
                if !self.syntax.is_escaped(bytes[at]) {
                    let _ = sink(Event::Content(escape.as_slice()));
                }
                at
            }
            (State::Escaped, _) => {
                if Some(bytes[at]) != quote && Some(bytes[at]) != escape {
                    // The escape escapes nothing, so it is content.
                    let _ = sink(Event::Content(escape.as_slice()));
                }
                at
            }
            // The second of two quotes is content, as is any other byte.
            _ => at,
        };
        // The byte at `at` is content or consumed; the following bytes are content up to the next byte that may end it.
        let rest = &bytes[at + 1..];
        let found = if self.state == State::Quoted {
            let quote = quote.expect("quoted text has a quote");
            memchr2(quote, escape.unwrap_or(quote), rest)
        } else if escapes_everywhere {
            rest.iter().position(|byte| *byte == delimiter || is_break(*byte) || Some(*byte) == escape)
        } else {
            memchr3(delimiter, b'\n', b'\r', rest)
        };
        let end = at + 1 + found.unwrap_or(rest.len());
        debug_assert!(
            self.state == State::Quoted
                || before == State::PlainEscaped
                || !bytes[starts_at..end].iter().any(|byte| is_break(*byte))
        );
        if starts_at < end {
            let _ = sink(Event::Content(&bytes[starts_at..end]));
        }
        end
    }
}
