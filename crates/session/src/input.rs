//! Input: splits the bytes of a connection into commands, independent of their fragmentation.
//!
//! Commands are parsed in the read buffer. Only an incomplete command is copied and kept, within the limit of its
//! protocol.

use tidings_hub::{CloseReason, Flag, Flow, SessionId, Slot};
use tidings_wire::Framing;
use tidings_wire::client::Encoding;
use tidings_wire::plain::telnet::Telnet;
use tidings_wire::resp::Version;

use crate::Hub;
use crate::consumed::{Consumed, StopReason};
use crate::context::Context;
use crate::link::{Direction, Link, Protocol};
use crate::messages::{Effects, Event};
use crate::peer::PeerFlag;

/// Most frames of the longest size that may wait for an emulated session.
const MAX_WAITING_FRAMES: usize = 16;
/// The first byte of `CONNECT` of MQTT (MQTT 5.0 §3.1.1).
const MQTT_CONNECT: u8 = 0x10;
/// The first byte of a TLS connection: the type of a handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Processes bytes from the peer of the session in `slot`; no bytes after an
/// [`Effect::Resume`](tidings_hub::Effect::Resume).
///
/// Returns whether to continue reading. Input of a session that has ended is ignored.
pub fn input(hub: &mut Hub, slot: Slot, bytes: &[u8], fx: &mut Effects) -> Flow {
    Context::new(hub, slot, fx).input(bytes)
}

/// The peer sends no more: the session ends when every response is written.
pub fn finish(hub: &mut Hub, slot: Slot, fx: &mut Effects) {
    Context::new(hub, slot, fx).end_last_line();
    hub.finish(slot, fx);
}

/// Processes one frame of commands for an emulated session, which arrives in its own HTTP request.
pub fn commands(hub: &mut Hub, id: SessionId, commands: &[u8], fx: &mut Effects) -> Flow {
    let slot = id.slot;
    // A one-way session also has a secret, but accepts no commands.
    if !hub.is_current(id) || hub.is_closing(slot) || !hub.session(slot).peer.link.is_emulated() {
        return Flow::Ended;
    }
    let session = hub.session(slot);
    let kept = session.peek_state().map_or(0, |state| state.input_buffer.len());
    let encoding = session.peer.link.encoding();
    if kept > MAX_WAITING_FRAMES * hub.protocols.settings.max_message {
        // The HTTP requests cannot be delayed, so there is no backpressure.
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

impl Context<'_> {
    /// See [`input()`].
    pub(crate) fn input(&mut self, bytes: &[u8]) -> Flow {
        if self.is_closing() {
            return Flow::Ended;
        }
        if self.link() == Link::UNKNOWN {
            let Some(first) = bytes.first() else { return Flow::Read };
            if *first == TLS_HANDSHAKE {
                // A TLS client takes the error as a sign that this port does not support TLS.
                self.hub.count_error();
                self.end(&CloseReason::Protocol("this port speaks no TLS".to_owned()));
                return Flow::Ended;
            }
            self.detect_protocol(*first);
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
            let kept = session.existing_state().and_then(|state| state.input_buffer.take());
            self.hub.protocols.kept -= kept.as_ref().map_or(0, |(bytes, _)| bytes.len());
            let Some((mut held, searched)) = kept else {
                if bytes.is_empty() && !self.has_complete_message() && !self.is_executing() {
                    return self.finish_input();
                }
                let consumed = self.run(bytes, 0);
                return self.keep_unused(&consumed, bytes);
            };
            let piece = self.append_limit(held.len(), bytes);
            held.extend_from_slice(&bytes[..piece]);
            bytes = &bytes[piece..];
            let consumed = self.run(&held, searched);
            if consumed.stop == StopReason::Hold {
                held.extend_from_slice(bytes);
                bytes = &[];
            }
            if consumed.stop == StopReason::End {
                return Flow::Ended;
            }
            let searched = if consumed.stop == StopReason::Partial { held.len() - consumed.used } else { 0 };
            self.hub.protocols.kept += held.len() - consumed.used;
            self.session_mut().state().input_buffer.keep(held, consumed.used, searched);
            if consumed.stop == StopReason::Hold || bytes.is_empty() {
                return self.pause_or_continue(&consumed);
            }
        }
    }

    /// Sets the protocol by the first byte.
    fn detect_protocol(&mut self, first: u8) {
        let link = match first {
            b'*' => Link::resp(Version::V2),
            MQTT_CONNECT if self.hub.protocols.settings.mqtt.is_some() => Link::mqtt(Framing::Raw),
            b'{' => {
                let protocol = Protocol::Client { encoding: Encoding::Json };
                Link::new(Framing::Line, protocol, Direction::TwoWay)
            }
            _ => Link::new(Framing::Line, Protocol::Plain, Direction::TwoWay),
        };
        if link.protocol() == Protocol::Plain {
            self.make_auto_subscriptions();
        } else {
            // Automatic subscriptions exist only for plain lines.
            self.set(PeerFlag::AutoSubscribePending, false);
            self.hub.unsubscribe_all(self.slot, self.fx);
        }
        self.set_link(link);
        if link.is_client() {
            self.client_opened();
        } else if link.is_mqtt() {
            (link.protocol().module().begin)(self);
        }
    }

    /// How many of `bytes` to append to the `held` kept bytes: as few as possible, so that little is copied and a
    /// command beyond the limit is detected.
    fn append_limit(&self, held: usize, bytes: &[u8]) -> usize {
        let link = self.link();
        // The kept input of a WebSocket only waits, and has no limit of its own.
        if link.is_websocket() {
            bytes.len()
        } else {
            (link.protocol().module().append_limit)(self, held, bytes)
        }
    }

    /// Executes the commands in `bytes`; the first `searched` bytes contain no line break.
    fn run(&mut self, bytes: &[u8], searched: usize) -> Consumed {
        let link = self.link();
        if link.is_websocket() {
            self.run_frames(bytes)
        } else {
            (link.protocol().module().run)(self, bytes, searched)
        }
    }

    /// Keeps the unused part of bytes that were not kept before.
    fn keep_unused(&mut self, consumed: &Consumed, bytes: &[u8]) -> Flow {
        let rest = &bytes[consumed.used..];
        match consumed.stop {
            StopReason::End => return Flow::Ended,
            _ if rest.is_empty() => {}
            StopReason::Partial => self.session_mut().state().keep(rest, rest.len()),
            StopReason::Hold => self.session_mut().state().keep(rest, 0),
        }
        self.hub.protocols.kept += rest.len();
        self.pause_or_continue(consumed)
    }

    fn pause_or_continue(&mut self, consumed: &Consumed) -> Flow {
        let keeps = self.session_mut().existing_state().is_some_and(|state| state.kept() > 0);
        if keeps && self.hub.protocols.kept > self.hub.protocols.settings.input_limit {
            self.hub.count_error();
            self.end(&CloseReason::Overloaded);
            return Flow::Ended;
        }
        if consumed.stop == StopReason::Hold {
            self.session_mut().flags.set(Flag::Stopped, true);
            return Flow::Stop;
        }
        self.finish_input()
    }

    fn finish_input(&mut self) -> Flow {
        let session = self.session_mut();
        if session.flags.has(Flag::Closing) {
            return Flow::Ended;
        }
        if session.flags.has(Flag::Finishing) && !session.has_pending() {
            self.end(&CloseReason::Done);
            return Flow::Ended;
        }
        if !session.has_pending() {
            session.free_unused_state();
            let event = self.link().protocol().module().event;
            event(self, Event::Idle);
        }
        Flow::Read
    }

    /// Whether a complete WebSocket message has commands that are not executed yet.
    fn has_complete_message(&mut self) -> bool {
        let state = self.session_mut().existing_state();
        state.and_then(|state| state.frames.as_ref()).is_some_and(|frames| frames.is_complete())
    }
}
