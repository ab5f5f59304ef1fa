//! Gives the contents of cells piece by piece, whatever their length.

use std::ops::ControlFlow;

use memchr::{memchr2, memchr3};

use super::{Mark, State, Syntax, is_break};

/// What a [`Reader`] comes upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A piece of the current cell, without quotes and escapes; a cell may come in many or none.
    Content(&'a [u8]),
    /// The current cell ends, another one of the row follows.
    Cell,
    /// The current cell and its row end.
    Row,
}

/// Reads delimited text that arrives in pieces.
///
/// It holds no text: a cell of any length passes through. Rows and cells come out the same however the text
/// was cut.
#[derive(Clone, Debug)]
pub struct Reader {
    syntax: Syntax,
    state: State,
}

impl Reader {
    /// A reader that stands at the start of a row.
    pub const fn new(syntax: Syntax) -> Self {
        Self { syntax, state: State::RowStart }
    }

    /// Reads `bytes` and hands what they hold to `sink`, until they end or `sink` breaks; gives how many bytes
    /// were read.
    ///
    /// After a break, reading goes on with the byte after the one that was read last. A break is obeyed at
    /// [`Event::Cell`] and [`Event::Row`]; at [`Event::Content`] it is not looked at.
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

    /// Ends the text: a row without a line break at its end is a row too.
    pub fn finish(&mut self, mut sink: impl FnMut(Event<'_>) -> ControlFlow<()>) {
        if self.state != State::RowStart {
            if matches!(self.state, State::Escaped | State::PlainEscaped) {
                let _ = sink(Event::Content(self.syntax.escape.as_slice()));
            }
            let _ = sink(Event::Row);
        }
        self.state = State::RowStart;
    }

    /// Hands out the content that starts with the byte at `at`, which led from `before` to the state now;
    /// gives the position after it.
    fn content(
        &mut self,
        bytes: &[u8],
        at: usize,
        before: State,
        sink: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> usize {
        let Syntax { delimiter, quote, escape, escapes_everywhere, .. } = self.syntax;
        let starts_at = match (before, self.state) {
            // A quote that opens, or that may close; an escape.
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
                    // It escapes nothing, so it is content itself.
                    let _ = sink(Event::Content(escape.as_slice()));
                }
                at
            }
            // The second of two quotes is content, as is any other byte.
            _ => at,
        };
        // The byte at `at` is dealt with; what follows is content up to the next byte that may end it.
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
