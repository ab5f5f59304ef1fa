//! From bytes to commands: what a session does with what it is sent, however TCP cut it up.
//!
//! Commands are taken straight from the bytes that were read. Only the beginning of a command whose end has not
//! come is kept, and never more of it than its dialect allows. What is about lines alone is in [`super::lines`].

use tidings_wire::Framing;
use tidings_wire::client::Encoding;
use tidings_wire::line;
use tidings_wire::plain::telnet::Telnet;
use tidings_wire::resp::{Decoded, Decoder, Limits, Version};

use super::{Direction, Flag, Link, Protocol, Session, SessionId};
use crate::effects::{Effect, Effects};
use crate::ending::Ending;
use crate::hub::{Act, Flow, Hub};

/// What a RESP command may take besides one bulk string of the longest size: its name, a channel, the framing.
const RESP_OVERHEAD: usize = 4096;
/// Most arguments of a RESP command.
const RESP_ARGUMENTS: usize = 1024;

/// Frames of commands that may wait for a session whose connection only goes the other way, each of the longest size.
const WAITING: usize = 16;
/// The first byte of a TLS connection: the type of a handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// The comment that a plain event source gets once it is open.
const EVENTS_OPEN: &[u8] = b":ok\n\n";

/// How far the commands in some bytes went.
pub(crate) struct Step {
    /// Bytes that are done with.
    pub(crate) used: usize,
    pub(crate) why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The rest is the beginning of a command.
    Partial,
    /// The next command's turn has not come.
    Hold,
    /// The session has ended.
    End,
}

impl Hub {
    /// Takes in bytes that came from the session's peer (none, after an [`crate::Effect::Resume`]).
    ///
    /// Tells whether to read on. Bytes given to a session that has ended are ignored.
    pub fn input(&mut self, slot: u32, bytes: &[u8], fx: &mut Effects) -> Flow {
        let session = &mut self.sessions[slot as usize];
        if session.flags.has(Flag::Closing) {
            return Flow::Ended;
        }
        if session.link == Link::UNKNOWN {
            let Some(first) = bytes.first() else { return Flow::Read };
            if *first == TLS_HANDSHAKE {
                // A TLS client takes the error for a sign that TLS is not spoken here.
                self.errors += 1;
                self.end(slot, &Ending::Protocol("this port speaks no TLS".to_owned()), fx);
                return Flow::Ended;
            }
            self.meet(slot, *first, fx);
        }
        let session = &mut self.sessions[slot as usize];
        if session.link.protocol() == Protocol::Plain {
            let telnet = session.existing_more().map_or(Telnet::Text, |more| more.telnet);
            if !telnet.passes(bytes) {
                return self.telnet_input(slot, telnet, bytes, fx);
            }
        }
        self.commands_input(slot, bytes, fx)
    }

    pub(super) fn commands_input(&mut self, slot: u32, mut bytes: &[u8], fx: &mut Effects) -> Flow {
        loop {
            let session = &mut self.sessions[slot as usize];
            let kept = session.existing_more().map(|m| m.inbox.take()).filter(|(b, _)| !b.is_empty());
            self.kept -= kept.as_ref().map_or(0, |(bytes, _)| bytes.len());
            let Some((mut held, searched)) = kept else {
                if bytes.is_empty() && !self.has_whole_message(slot) && !self.is_executing(slot) {
                    return self.reading(slot, fx);
                }
                let step = self.run(slot, bytes, 0, fx);
                return self.leave(slot, &step, bytes, fx);
            };
            let piece = self.next_piece(slot, &held, bytes);
            held.extend_from_slice(&bytes[..piece]);
            bytes = &bytes[piece..];
            let step = self.run(slot, &held, searched, fx);
            if step.why == Why::Hold {
                held.extend_from_slice(bytes);
                bytes = &[];
            }
            if step.why == Why::End {
                return Flow::Ended;
            }
            let searched = if step.why == Why::Partial { held.len() - step.used } else { 0 };
            self.kept += held.len() - step.used;
            self.sessions[slot as usize].more().inbox.keep(held, step.used, searched);
            if step.why == Why::Hold || bytes.is_empty() {
                return self.pause_or_read(slot, &step, fx);
            }
        }
    }

    /// Learns from the first byte what the peer speaks.
    fn meet(&mut self, slot: u32, first: u8, fx: &mut Effects) {
        let link = match first {
            b'*' => Link::resp(Version::V2),
            b'{' => {
                let protocol = Protocol::Client { encoding: Encoding::Json };
                Link::new(Framing::Line, protocol, Direction::TwoWay)
            }
            _ => Link::new(Framing::Line, Protocol::Plain, Direction::TwoWay),
        };
        if link.protocol() == Protocol::Plain {
            self.release_held(slot, fx);
        } else {
            // What a plain client is subscribed to by itself, others have to ask for.
            self.sessions[slot as usize].flags.set(Flag::Held, false);
            self.unsubscribe_all(slot, fx);
        }
        self.set_link(slot, link);
        if link.is_client() {
            self.client_opened(slot, fx);
        }
    }

    /// How many of `bytes` to put behind what is kept: for lines up to the next line break, so that the rest is
    /// never copied; never more than shows that the limit is passed.
    fn next_piece(&self, slot: u32, held: &[u8], bytes: &[u8]) -> usize {
        let max = self.line_limit(slot);
        let link = self.sessions[slot as usize].link;
        let (whole, bound) = match link.protocol() {
            Protocol::Resp { .. } => (bytes.len(), max + RESP_OVERHEAD + 1),
            // What is kept of these waits for its turn, and has no limit of its own.
            _ if link.is_websocket() || link.encoding() == Encoding::Protobuf => return bytes.len(),
            Protocol::Plain => (line::plain_piece(bytes), max.saturating_add(1)),
            _ => {
                (bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |i| i + 1), max.saturating_add(2))
            }
        };
        whole.min(bound.saturating_sub(held.len()))
    }

    /// Carries out the commands in `bytes`; the first `searched` bytes hold no line break.
    fn run(&mut self, slot: u32, bytes: &[u8], searched: usize, fx: &mut Effects) -> Step {
        let link = self.sessions[slot as usize].link;
        match (link.protocol(), link.framing()) {
            (Protocol::Resp { .. }, _) => self.run_resp(slot, bytes, fx),
            (_, Framing::WebSocket { .. }) => self.run_frames(slot, bytes, fx),
            (Protocol::Client { encoding: Encoding::Protobuf }, _) => {
                let (used, why) = self.run_messages(slot, bytes, fx);
                Step { used, why }
            }
            _ => self.run_lines(slot, bytes, searched, fx),
        }
    }

    fn run_resp(&mut self, slot: u32, bytes: &[u8], fx: &mut Effects) -> Step {
        let max = self.settings.max_line;
        let limits = Limits { max_bulk: max, max_args: RESP_ARGUMENTS, max_command: max + RESP_OVERHEAD };
        let mut decoder = match self.sessions[slot as usize].existing_more() {
            Some(more) => std::mem::take(&mut more.decoder),
            None => std::mem::take(&mut self.decoder),
        };
        let mut used = 0;
        let why = loop {
            if let Some(why) = self.run_transaction(slot, fx) {
                break why;
            }
            if used == bytes.len() {
                break Why::Partial;
            }
            match decoder.decode(&bytes[used..], &limits) {
                Ok(Decoded::Command { args, used: length }) => {
                    match self.resp_metered(slot, &args[..], length, fx) {
                        Act::Next => used += length,
                        Act::Hold => break Why::Hold,
                        Act::End => break Why::End,
                    }
                }
                Ok(Decoded::Nothing { used: length }) => {
                    self.charge_input(slot, length);
                    used += length;
                }
                Ok(Decoded::Partial) => {
                    self.sessions[slot as usize].more().decoder = std::mem::take(&mut decoder);
                    break Why::Partial;
                }
                Err(error) => {
                    self.errors += 1;
                    self.end(slot, &Ending::Protocol(error.to_string()), fx);
                    break Why::End;
                }
            }
        };
        self.decoder = Decoder::default();
        if why == Why::End {
            used = bytes.len();
        }
        Step { used, why }
    }

    /// Keeps what was not used of bytes that were not kept before.
    fn leave(&mut self, slot: u32, step: &Step, bytes: &[u8], fx: &mut Effects) -> Flow {
        let rest = &bytes[step.used..];
        match step.why {
            Why::End => return Flow::Ended,
            Why::Partial => self.sessions[slot as usize].keep(rest, rest.len()),
            Why::Hold => self.sessions[slot as usize].keep(rest, 0),
        }
        self.kept += rest.len();
        self.pause_or_read(slot, step, fx)
    }

    fn pause_or_read(&mut self, slot: u32, step: &Step, fx: &mut Effects) -> Flow {
        let keeps = self.sessions[slot as usize].existing_more().is_some_and(|m| !m.inbox.is_empty());
        if keeps && self.kept > self.settings.input_limit {
            self.errors += 1;
            self.end(slot, &Ending::Overloaded, fx);
            return Flow::Ended;
        }
        if step.why == Why::Hold {
            self.sessions[slot as usize].flags.set(Flag::Stopped, true);
            return Flow::Stop;
        }
        self.reading(slot, fx)
    }

    fn reading(&mut self, slot: u32, fx: &mut Effects) -> Flow {
        let session: &mut Session = &mut self.sessions[slot as usize];
        if session.flags.has(Flag::Closing) {
            return Flow::Ended;
        }
        if session.flags.has(Flag::Finishing) && !session.is_awaiting() {
            self.end(slot, &Ending::Done, fx);
            return Flow::Ended;
        }
        if !session.is_awaiting() {
            session.settle();
            self.events_are_open(slot, fx);
        }
        Flow::Read
    }

    /// A message of a WebSocket whose commands are not all done.
    fn has_whole_message(&mut self, slot: u32) -> bool {
        let more = self.sessions[slot as usize].existing_more();
        more.and_then(|more| more.frames.as_ref()).is_some_and(|frames| frames.is_whole())
    }

    /// Takes in one frame of commands for a session whose connection only goes the other way.
    pub fn commands(&mut self, id: SessionId, commands: &[u8], fx: &mut Effects) -> Flow {
        let slot = id.slot;
        // A one-way session has a secret too, but takes no commands.
        if !self.is_current(id) || self.is_closing(slot) || !self.sessions[slot as usize].link.is_emulated() {
            return Flow::Ended;
        }
        let session = &mut self.sessions[slot as usize];
        let kept = session.existing_more().map_or(0, |more| more.inbox.len());
        if kept > WAITING * self.settings.max_message {
            // The requests that bring them cannot be made to wait.
            self.errors += 1;
            self.end(slot, &Ending::Overloaded, fx);
            return Flow::Ended;
        }
        let mut frame = commands.to_vec();
        if session.link.encoding() == Encoding::Json && !frame.ends_with(b"\n") {
            frame.push(b'\n');
        }
        self.input(slot, &frame, fx)
    }

    /// Tells a plain event source, once, that everything it asked for is there.
    pub(crate) fn events_are_open(&mut self, slot: u32, fx: &mut Effects) {
        let session = &mut self.sessions[slot as usize];
        if session.link.is_events()
            && session.flags.has(Flag::Connected)
            && !session.flags.has(Flag::Closing)
            && !session.flags.set(Flag::Spoke, true)
        {
            fx.send(slot, |out| out.extend_from_slice(EVENTS_OPEN));
            fx.push(Effect::Opened(slot));
        }
    }
}
