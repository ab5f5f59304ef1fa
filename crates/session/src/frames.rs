//! From a WebSocket's bytes to messages (RFC 6455), and from messages to commands.

use tidings_hub::{CloseReason, Effects, Slot};
use tidings_wire::ws::{self, CloseCode, Event, Opcode, ProtocolError, Reader, Role, Rules};

use crate::Hub;
use crate::context::Context;
use crate::input::{Step, Why};

/// A message that has begun, or whose commands are not all done.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    reader: Reader,
    message: Vec<u8>,
    /// Commands of the message that are done, in bytes.
    done: usize,
    /// The message is whole.
    whole: bool,
    /// Further input is discarded: the client has sent its Close frame, or bytes that are no frame.
    ended: bool,
}

impl Frames {
    /// Bytes that are kept.
    pub(crate) fn len(&self) -> usize {
        self.message.len()
    }

    /// Whether commands wait in it.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    fn is_idle(&self) -> bool {
        self.message.is_empty() && self.reader.is_idle()
    }

    fn clear(&mut self) {
        self.message.clear();
        self.done = 0;
        self.whole = false;
    }
}

/// Whether the Close frame of an ended session's client is still to come (RFC 6455 §7.1.1: the connection is closed
/// when both sides have sent theirs).
pub fn awaits_close(hub: &Hub, slot: Slot) -> bool {
    hub.get_session(slot).is_some_and(|session| {
        let frames = session.peek_state().and_then(|state| state.frames.as_ref());
        session.peer.link.is_websocket() && !frames.is_some_and(|frames| frames.ended)
    })
}

/// Searches input after the end of a session for that frame; bytes before it are discarded.
/// Gives whether there is nothing more to wait for.
pub fn closing_input(hub: &mut Hub, slot: Slot, bytes: &[u8], fx: &mut Effects) -> bool {
    Context::new(hub, slot, fx).closing_input(bytes)
}

impl Context<'_> {
    /// Carries out the commands in a WebSocket's bytes. What has begun and not ended is kept with the session; a
    /// session in between has nothing, and reads through the hub's own.
    pub(crate) fn run_frames(&mut self, bytes: &[u8]) -> Step {
        let own = self.session_mut().existing_state().and_then(|more| more.frames.take());
        self.hub.protocols.kept -= own.as_ref().map_or(0, |frames| frames.len());
        let mut frames = own.or_else(|| self.hub.protocols.frames.take()).unwrap_or_default();
        let mut used = 0;
        let why = loop {
            if frames.whole {
                let (done, why) =
                    (self.link().protocol().module().message)(self, &frames.message[frames.done..]);
                match why {
                    Why::Partial => frames.clear(),
                    Why::Hold => {
                        frames.done += done;
                        break Why::Hold;
                    }
                    Why::End => break Why::End,
                }
            }
            if used == bytes.len() {
                break Why::Partial;
            }
            let max_message = self.hub.settings().max_message as u64;
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
                        Event::Partial => break Why::Partial,
                        Event::Message(kind) if self.link().accepts(kind) => frames.whole = true,
                        Event::Message(_) => {
                            self.hub.count_error();
                            self.end(&CloseReason::Transport(CloseCode::UNSUPPORTED.0, WRONG_KIND.into()));
                            break Why::End;
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
                            break Why::End;
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
                    break Why::End;
                }
            }
        };
        match why {
            Why::End => {
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
        // What a message was made of is in its own buffer now.
        Step { used: if why == Why::End { bytes.len() } else { used }, why }
    }

    /// See [`closing_input`].
    fn closing_input(&mut self, bytes: &[u8]) -> bool {
        if !awaits_close(self.hub, self.slot) {
            return true;
        }
        let deflated = self.link().framing().is_deflated();
        let rules = Rules { role: Role::Server, max_message: self.hub.settings().max_message as u64 };
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
        frames.ended |= self.hub.protocols.kept + frames.len() > self.hub.settings().input_limit;
        if frames.ended {
            frames.clear();
        }
        self.hub.protocols.kept += frames.len();
        let ended = frames.ended;
        self.session_mut().state().frames = Some(frames);
        ended
    }
}

/// The reason for a binary message where text is expected, or the other way round.
const WRONG_KIND: &str = "JSON comes in text messages, Protobuf in binary ones";
