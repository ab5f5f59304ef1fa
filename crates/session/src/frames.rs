//! WebSocket: from bytes to messages (RFC 6455), and from messages to commands.

use tidings_hub::{CloseReason, Slot};
use tidings_wire::ws::{self, CloseCode, Event, Opcode, ProtocolError, Role, Rules};

use crate::Hub;
use crate::consumed::{Consumed, StopReason};
use crate::context::Context;
use crate::frame_state::Frames;
use crate::messages::Effects;

/// Whether an ended session is a WebSocket, and its client has not sent a Close frame yet. The connection is closed when
/// both sides have sent one (RFC 6455 §7.1.1).
pub fn awaits_close(hub: &Hub, slot: Slot) -> bool {
    hub.get_session(slot).is_some_and(|session| {
        let frames = session.peek_state().and_then(|state| state.frames.as_ref());
        session.peer.link.is_websocket() && !frames.is_some_and(|frames| frames.ended)
    })
}

/// Reads the input of an ended session up to the client's Close frame, and discards it. Returns whether the connection
/// can be closed.
pub fn closing_input(hub: &mut Hub, slot: Slot, bytes: &[u8], fx: &mut Effects) -> bool {
    Context::new(hub, slot, fx).closing_input(bytes)
}

impl Context<'_> {
    /// Decodes frames and executes the commands in their messages. A partial message is stored in the session. A session
    /// without a partial message uses the frame reader that all sessions share, so it needs no memory of its own.
    pub(crate) fn run_frames(&mut self, bytes: &[u8]) -> Consumed {
        let own = self.session_mut().existing_state().and_then(|state| state.frames.take());
        self.hub.protocols.kept -= own.as_ref().map_or(0, |frames| frames.len());
        let mut frames = own.or_else(|| self.hub.protocols.frames.take()).unwrap_or_default();
        let mut used = 0;
        let stop = loop {
            if frames.complete {
                let (done, stop) =
                    (self.link().protocol().module().message)(self, &frames.message[frames.consumed..]);
                match stop {
                    StopReason::Partial => frames.clear(),
                    StopReason::Hold => {
                        frames.consumed += done;
                        break StopReason::Hold;
                    }
                    StopReason::End => break StopReason::End,
                }
            }
            if used == bytes.len() {
                break StopReason::Partial;
            }
            let max_message = self.hub.protocols.settings.max_message as u64;
            let rules = Rules { role: Role::Server, max_message };
            let Frames { reader, message, .. } = &mut *frames;
            let read = if self.link().framing().is_deflated() {
                reader.read_deflated(&bytes[used..], &rules, message, &mut self.hub.protocols.inflater)
            } else {
                reader.read(&bytes[used..], &rules, message)
            };
            match read {
                Ok((length, event)) => {
                    used += length;
                    match event {
                        Event::Partial => break StopReason::Partial,
                        Event::Message(kind) if self.link().accepts(kind) => frames.complete = true,
                        Event::Message(_) => {
                            self.hub.count_error();
                            self.end(&CloseReason::Transport(CloseCode::UNSUPPORTED.0, WRONG_KIND.into()));
                            break StopReason::End;
                        }
                        Event::Ping(payload) => {
                            if self.charge_input(payload.len()) {
                                self.send(|out| ws::frame(Opcode::Pong, &payload, out));
                            }
                        }
                        Event::Pong(_) => {}
                        Event::Close(close) => {
                            frames.ended = true;
                            let code = close.code().unwrap_or(CloseCode::NORMAL);
                            self.end(&CloseReason::Transport(code.0, String::new()));
                            break StopReason::End;
                        }
                    }
                }
                Err(error) => {
                    frames.ended = true;
                    self.hub.count_error();
                    if let ProtocolError::TooBig(_) = error {
                        (self.link().protocol().module().too_long)(self, &error.to_string());
                    }
                    self.end(&CloseReason::Transport(error.close_code().0, error.to_string()));
                    break StopReason::End;
                }
            }
        };
        match stop {
            StopReason::End => {
                frames.clear();
                self.session_mut().state().frames = Some(frames);
                self.closing_input(&bytes[used..]);
            }
            _ if frames.is_idle() => {
                frames.message.shrink_to(1 << 16);
                self.hub.protocols.frames = Some(frames);
            }
            _ => {
                self.hub.protocols.kept += frames.len();
                self.session_mut().state().frames = Some(frames);
            }
        }
        // The bytes of a message have been copied to its own buffer.
        Consumed { used: if stop == StopReason::End { bytes.len() } else { used }, stop }
    }

    /// Implements [`closing_input`].
    fn closing_input(&mut self, bytes: &[u8]) -> bool {
        if !awaits_close(self.hub, self.slot) {
            return true;
        }
        let deflated = self.link().framing().is_deflated();
        let rules = Rules { role: Role::Server, max_message: self.hub.protocols.settings.max_message as u64 };
        let mut frames = self.session_mut().state().frames.take().unwrap_or_default();
        self.hub.protocols.kept -= frames.len();
        let mut used = 0;
        while used < bytes.len() && !frames.ended {
            let Frames { reader, message, .. } = &mut *frames;
            let read = if deflated {
                reader.read_deflated(&bytes[used..], &rules, message, &mut self.hub.protocols.inflater)
            } else {
                reader.read(&bytes[used..], &rules, message)
            };
            match read {
                Ok((length, Event::Message(_))) => {
                    used += length;
                    frames.clear();
                }
                Ok((_, Event::Close(_))) | Err(_) => frames.ended = true,
                Ok((length, _)) => used += length,
            }
        }
        frames.ended |= self.hub.protocols.kept + frames.len() > self.hub.protocols.settings.input_limit;
        if frames.ended {
            frames.clear();
        }
        self.hub.protocols.kept += frames.len();
        let ended = frames.ended;
        self.session_mut().state().frames = Some(frames);
        ended
    }
}

/// The reason of a close because of a binary message instead of a text message, or vice versa.
const WRONG_KIND: &str = "JSON comes in text messages, Protobuf in binary ones";
