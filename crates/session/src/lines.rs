//! Lines, of whatever protocol.
//!
//! Invariants:
//! - Of the beginning of a line no more is kept than the limit and one byte.

use tidings_hub::{CloseReason, Progress};
use tidings_wire::Framing;
use tidings_wire::line::Scan;

use crate::context::Context;
use crate::input::{Step, Why};
use crate::link::Direction;

impl Context<'_> {
    /// The peer sends no more: what it has sent of a last line, without an ending, is that line.
    pub(crate) fn end_last_line(&mut self) {
        let link = self.link();
        let of_lines = link.framing() == Framing::Line && link.direction() == Direction::TwoWay;
        if of_lines && self.session().peek_state().is_some_and(|state| !state.inbox.is_empty()) {
            self.input(b"\n");
        }
    }

    /// Longest line of a session: the line port's limit, or none where requests bring the lines and are limited
    /// themselves.
    pub(crate) fn line_limit(&self) -> usize {
        match self.link().direction() {
            Direction::TwoWay => self.hub.settings().max_line,
            Direction::Emulated | Direction::OneWay => usize::MAX,
        }
    }

    /// Carries out the commands in lines; the first `searched` bytes of them hold no line break. `command` is given a line
    /// and how many bytes it takes with its ending.
    pub(crate) fn run_lines(
        &mut self,
        bytes: &[u8],
        mut searched: usize,
        next: fn(&[u8], usize, usize) -> Scan<'_>,
        mut command: impl FnMut(&mut Self, &[u8], usize) -> Progress,
    ) -> Step {
        let max = self.line_limit();
        let mut used = 0;
        loop {
            match next(&bytes[used..], std::mem::take(&mut searched), max) {
                Scan::Line { line, used: length } => match command(self, line, length) {
                    Progress::Next => used += length,
                    Progress::Hold => return Step { used, why: Why::Hold },
                    Progress::End => return Step { used: bytes.len(), why: Why::End },
                },
                Scan::Partial => return Step { used, why: Why::Partial },
                Scan::TooLong => {
                    self.hub.count_error();
                    let words = format!("line longer than {max} bytes");
                    (self.link().protocol().module().too_long)(self, &words);
                    self.end(&CloseReason::Protocol(words));
                    return Step { used: bytes.len(), why: Why::End };
                }
            }
        }
    }
}
