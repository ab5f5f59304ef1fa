//! Lines, in any protocol.
//!
//! Invariants:
//! - Of an incomplete line, at most one byte more than the limit is kept.

use tidings_hub::{CloseReason, Progress};
use tidings_wire::Framing;
use tidings_wire::line::Scan;

use crate::consumed::{Consumed, StopReason};
use crate::context::Context;
use crate::link::Direction;

impl Context<'_> {
    /// The peer sends no more: an incomplete last line counts as complete.
    pub(crate) fn end_last_line(&mut self) {
        let link = self.link();
        let of_lines = link.framing() == Framing::Line && link.direction() == Direction::TwoWay;
        if of_lines && self.session().peek_state().is_some_and(|state| !state.input_buffer.is_empty()) {
            self.input(b"\n");
        }
    }

    /// Longest line of a session: the limit of the line port, or none for emulated sessions, because their HTTP requests
    /// have a limit.
    pub(crate) fn line_limit(&self) -> usize {
        match self.link().direction() {
            Direction::TwoWay => self.hub.protocols.settings.max_line,
            Direction::Emulated | Direction::OneWay => usize::MAX,
        }
    }

    /// Executes the commands in lines; the first `searched` bytes contain no line break. `command` gets a line, and its
    /// length with the line break.
    pub(crate) fn run_lines(
        &mut self,
        bytes: &[u8],
        mut searched: usize,
        next: fn(&[u8], usize, usize) -> Scan<'_>,
        mut command: impl FnMut(&mut Self, &[u8], usize) -> Progress,
    ) -> Consumed {
        let max = self.line_limit();
        let mut used = 0;
        loop {
            match next(&bytes[used..], std::mem::take(&mut searched), max) {
                Scan::Line { line, used: length } => match command(self, line, length) {
                    Progress::Next => used += length,
                    Progress::Hold => return Consumed { used, stop: StopReason::Hold },
                    Progress::End => return Consumed { used: bytes.len(), stop: StopReason::End },
                },
                Scan::Partial => return Consumed { used, stop: StopReason::Partial },
                Scan::TooLong => {
                    self.hub.count_error();
                    let words = format!("line longer than {max} bytes");
                    (self.link().protocol().module().too_long)(self, &words);
                    self.end(&CloseReason::Protocol(words));
                    return Consumed { used: bytes.len(), stop: StopReason::End };
                }
            }
        }
    }
}
