//! From bytes to commands: what a session does with what it is sent, however TCP cut it up.
//!
//! Commands are taken straight from the bytes that were read. Only the beginning of a command whose end has not
//! come is kept, and never more of it than its protocol allows.

use tidings_hub::{CloseReason, Effects, Event, Flag, Flow, SessionId, Slot};
use tidings_wire::Framing;
use tidings_wire::client::Encoding;
use tidings_wire::plain::telnet::Telnet;
use tidings_wire::resp::Version;

use crate::Hub;
use crate::context::Context;
use crate::link::{Direction, Link, Protocol};
use crate::state::PeerFlag;

/// Frames of commands that may wait for a session whose connection only goes the other way, each of the longest size.
const WAITING: usize = 16;
/// The first byte of a TLS connection: the type of a handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Takes in bytes that came from the peer of the session in `slot` (none, after an
/// [`Effect::Resume`](tidings_hub::Effect::Resume)).
///
/// Gives whether to read on. Bytes given to a session that has ended are ignored.
pub fn input(hub: &mut Hub, slot: Slot, bytes: &[u8], fx: &mut Effects) -> Flow {
    Context::new(hub, slot, fx).input(bytes)
}

/// The peer sends no more: the session ends as soon as every response is written.
pub fn finish(hub: &mut Hub, slot: Slot, fx: &mut Effects) {
    Context::new(hub, slot, fx).end_last_line();
    hub.finish(slot, fx);
}

/// Takes in one frame of commands for a session whose connection only goes the other way.
pub fn commands(hub: &mut Hub, id: SessionId, commands: &[u8], fx: &mut Effects) -> Flow {
    let slot = id.slot;
    // A one-way session has a secret too, but takes no commands.
    if !hub.is_current(id) || hub.is_closing(slot) || !hub.session(slot).peer.link.is_emulated() {
        return Flow::Ended;
    }
    let session = hub.session(slot);
    let kept = session.peek_state().map_or(0, |state| state.inbox.len());
    let encoding = session.peer.link.encoding();
    if kept > WAITING * hub.settings().max_message {
        // The requests that bring them cannot be made to wait.
        hub.count_error();
        hub.end(slot, &CloseReason::Overloaded, fx);
        return Flow::Ended;
    }
    let mut frame = commands.to_vec();
    if encoding == Encoding::Json && !frame.ends_with(b"\n") {
        frame.push(b'\n');
    }
    input(hub, slot, &frame, fx)
}

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

impl Context<'_> {
    /// See [`input()`].
    pub(crate) fn input(&mut self, bytes: &[u8]) -> Flow {
        if self.is_closing() {
            return Flow::Ended;
        }
        if self.link() == Link::UNKNOWN {
            let Some(first) = bytes.first() else { return Flow::Read };
            if *first == TLS_HANDSHAKE {
                // A TLS client takes the error for a sign that TLS is not spoken here.
                self.hub.count_error();
                self.end(&CloseReason::Protocol("this port speaks no TLS".to_owned()));
                return Flow::Ended;
            }
            self.meet(*first);
        }
        if self.link().protocol() == Protocol::Plain {
            let telnet = self.session().peek_state().map_or(Telnet::Text, |state| state.telnet);
            if !telnet.passes(bytes) {
                return self.telnet_input(telnet, bytes);
            }
        }
        self.commands_input(bytes)
    }

    pub(crate) fn commands_input(&mut self, mut bytes: &[u8]) -> Flow {
        loop {
            let session = self.session_mut();
            let kept = session.existing_state().map(|m| m.inbox.take()).filter(|(b, _)| !b.is_empty());
            self.hub.protocols.kept -= kept.as_ref().map_or(0, |(bytes, _)| bytes.len());
            let Some((mut held, searched)) = kept else {
                if bytes.is_empty() && !self.has_whole_message() && !self.is_executing() {
                    return self.reading();
                }
                let step = self.run(bytes, 0);
                return self.leave(&step, bytes);
            };
            let piece = self.next_piece(held.len(), bytes);
            held.extend_from_slice(&bytes[..piece]);
            bytes = &bytes[piece..];
            let step = self.run(&held, searched);
            if step.why == Why::Hold {
                held.extend_from_slice(bytes);
                bytes = &[];
            }
            if step.why == Why::End {
                return Flow::Ended;
            }
            let searched = if step.why == Why::Partial { held.len() - step.used } else { 0 };
            self.hub.protocols.kept += held.len() - step.used;
            self.session_mut().state().inbox.keep(held, step.used, searched);
            if step.why == Why::Hold || bytes.is_empty() {
                return self.pause_or_read(&step);
            }
        }
    }

    /// The first byte decides the protocol.
    fn meet(&mut self, first: u8) {
        let link = match first {
            b'*' => Link::resp(Version::V2),
            b'{' => {
                let protocol = Protocol::Client { encoding: Encoding::Json };
                Link::new(Framing::Line, protocol, Direction::TwoWay)
            }
            _ => Link::new(Framing::Line, Protocol::Plain, Direction::TwoWay),
        };
        if link.protocol() == Protocol::Plain {
            self.release_held();
        } else {
            // Automatic subscriptions are for plain lines alone.
            self.set(PeerFlag::Held, false);
            self.hub.unsubscribe_all(self.slot, self.fx);
        }
        self.set_link(link);
        if link.is_client() {
            self.client_opened();
        }
    }

    /// How many of `bytes` to append to the `held` ones, so that little is copied and the limit is noticed.
    fn next_piece(&self, held: usize, bytes: &[u8]) -> usize {
        let link = self.link();
        // What is kept of a WebSocket waits for its turn, and has no limit of its own.
        if link.is_websocket() {
            bytes.len()
        } else {
            (link.protocol().module().next_piece)(self, held, bytes)
        }
    }

    /// Carries out the commands in `bytes`; the first `searched` bytes hold no line break.
    fn run(&mut self, bytes: &[u8], searched: usize) -> Step {
        let link = self.link();
        if link.is_websocket() {
            self.run_frames(bytes)
        } else {
            (link.protocol().module().run)(self, bytes, searched)
        }
    }

    /// Keeps what was not used of bytes that were not kept before.
    fn leave(&mut self, step: &Step, bytes: &[u8]) -> Flow {
        let rest = &bytes[step.used..];
        match step.why {
            Why::End => return Flow::Ended,
            _ if rest.is_empty() => {}
            Why::Partial => self.session_mut().state().keep(rest, rest.len()),
            Why::Hold => self.session_mut().state().keep(rest, 0),
        }
        self.hub.protocols.kept += rest.len();
        self.pause_or_read(step)
    }

    fn pause_or_read(&mut self, step: &Step) -> Flow {
        let keeps = self.session_mut().existing_state().is_some_and(|m| !m.inbox.is_empty());
        if keeps && self.hub.protocols.kept > self.hub.settings().input_limit {
            self.hub.count_error();
            self.end(&CloseReason::Overloaded);
            return Flow::Ended;
        }
        if step.why == Why::Hold {
            self.session_mut().flags.set(Flag::Stopped, true);
            return Flow::Stop;
        }
        self.reading()
    }

    fn reading(&mut self) -> Flow {
        let session = self.session_mut();
        if session.flags.has(Flag::Closing) {
            return Flow::Ended;
        }
        if session.flags.has(Flag::Finishing) && !session.has_pending() {
            self.end(&CloseReason::Done);
            return Flow::Ended;
        }
        if !session.has_pending() {
            session.settle();
            let event = self.link().protocol().module().event;
            event(self, Event::Idle);
        }
        Flow::Read
    }

    /// A message of a WebSocket whose commands are not all done.
    fn has_whole_message(&mut self) -> bool {
        let more = self.session_mut().existing_state();
        more.and_then(|more| more.frames.as_ref()).is_some_and(|frames| frames.is_whole())
    }
}
