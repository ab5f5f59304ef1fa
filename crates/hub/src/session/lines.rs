//! Lines: plain ones and those of the client protocol, and what telnet puts between them.
//!
//! Invariants:
//! - Of the beginning of a line no more is kept than the limit and one byte.
//! - A control sequence of telnet is no part of a line, and is kept as a state, without its bytes.
//! - A `\r` ends a plain line at once; the `\n` behind it is skipped whenever it comes.

use tidings_wire::Framing;
use tidings_wire::line::{self, Scan};
use tidings_wire::plain::telnet::Telnet;

use super::feed::{Step, Why};
use super::{Direction, Flag, Protocol};
use crate::effects::Effects;
use crate::ending::Ending;
use crate::hub::{Act, Flow, Hub};

impl Hub {
    /// Takes the control sequences of telnet out of what came, and answers them.
    pub(super) fn telnet_input(
        &mut self,
        slot: u32,
        mut telnet: Telnet,
        bytes: &[u8],
        fx: &mut Effects,
    ) -> Flow {
        let (mut text, mut answers) = (Vec::with_capacity(bytes.len()), Vec::new());
        let read = telnet.read(bytes, &mut text, &mut answers);
        self.sessions[slot as usize].more().telnet = telnet;
        if !answers.is_empty() && self.charge_input(slot, answers.len()) {
            fx.send(slot, |out| out.extend_from_slice(&answers));
        }
        let flow = self.commands_input(slot, &text, fx);
        if let Err(error) = read {
            self.errors += 1;
            self.end(slot, &Ending::Protocol(error.to_string()), fx);
            return Flow::Ended;
        }
        flow
    }

    /// The peer sends no more: what it has sent of a last line, without an ending, is that line.
    pub(crate) fn end_last_line(&mut self, slot: u32, fx: &mut Effects) {
        let session = &mut self.sessions[slot as usize];
        let link = session.link;
        let of_lines = link.framing() == Framing::Line && link.direction() == Direction::TwoWay;
        if of_lines && session.existing_more().is_some_and(|more| !more.inbox.is_empty()) {
            self.input(slot, b"\n", fx);
        }
    }

    /// Longest line of a session: the line port's limit, or none where requests bring the lines and are limited
    /// themselves.
    pub(super) fn line_limit(&self, slot: u32) -> usize {
        match self.sessions[slot as usize].link.direction() {
            Direction::TwoWay => self.settings.max_line,
            Direction::Emulated | Direction::OneWay => usize::MAX,
        }
    }

    pub(super) fn run_lines(
        &mut self,
        slot: u32,
        bytes: &[u8],
        mut searched: usize,
        fx: &mut Effects,
    ) -> Step {
        let max = self.line_limit(slot);
        let session = &mut self.sessions[slot as usize];
        let plain = session.link.protocol() == Protocol::Plain;
        let next = if plain { line::next_plain } else { line::next };
        let mut used = 0;
        if plain && !bytes.is_empty() && session.flags.set(Flag::Returned, false) {
            used = line::begins_behind_return(bytes);
        }
        loop {
            match next(&bytes[used..], std::mem::take(&mut searched), max) {
                Scan::Line { line, used: length } => {
                    let act = if plain {
                        self.plain_line(slot, line, fx)
                    } else if line.trim_ascii().is_empty() {
                        // Blank lines keep connections alive and mean nothing.
                        self.charge_input(slot, length);
                        Act::Next
                    } else {
                        self.client_message(slot, line, fx)
                    };
                    match act {
                        Act::Next => {
                            used += length;
                            if plain && used == bytes.len() && bytes[used - 1] == b'\r' {
                                self.sessions[slot as usize].flags.set(Flag::Returned, true);
                            }
                        }
                        Act::Hold => return Step { used, why: Why::Hold },
                        Act::End => return Step { used: bytes.len(), why: Why::End },
                    }
                }
                Scan::Partial => return Step { used, why: Why::Partial },
                Scan::TooLong => {
                    self.errors += 1;
                    let words = format!("line longer than {max} bytes");
                    if self.sessions[slot as usize].link.is_client() {
                        self.tell_too_big(slot, &words, fx);
                    }
                    self.end(slot, &Ending::Protocol(words), fx);
                    return Step { used: bytes.len(), why: Why::End };
                }
            }
        }
    }
}
