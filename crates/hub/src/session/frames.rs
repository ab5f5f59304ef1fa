//! From a WebSocket's bytes to messages (RFC 6455), and from messages to commands.

use tidings_wire::client::Encoding;
use tidings_wire::ws::{self, CloseCode, Event, Kind, Opcode, ProtocolError, Reader, Role, Rules};

use super::feed::{Step, Why};
use crate::effects::Effects;
use crate::ending::Ending;
use crate::hub::Hub;

/// A message that has begun, or whose commands are not all done.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    reader: Reader,
    message: Vec<u8>,
    /// Commands of the message that are done, in bytes.
    done: usize,
    /// The message is whole.
    whole: bool,
    /// Nothing that comes means anything: the client has sent its Close frame, or something that is no frame.
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

impl Hub {
    /// Carries out the commands in a WebSocket's bytes. What has begun and not ended is kept with the session; a
    /// session in between has nothing, and reads through the hub's own.
    pub(crate) fn run_frames(&mut self, slot: u32, bytes: &[u8], fx: &mut Effects) -> Step {
        let own = self.sessions[slot as usize].existing_more().and_then(|more| more.frames.take());
        self.kept -= own.as_ref().map_or(0, |frames| frames.len());
        let mut frames = own.or_else(|| self.frames.take()).unwrap_or_default();
        let mut used = 0;
        let why = loop {
            if frames.whole {
                let (done, why) = self.run_messages(slot, &frames.message[frames.done..], fx);
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
            let max_message = self.settings.max_message as u64;
            let rules = Rules { role: Role::Server, max_message };
            let Frames { reader, message, .. } = &mut *frames;
            let read = if self.sessions[slot as usize].link.framing().is_deflated() {
                reader.read_deflated(&bytes[used..], &rules, message, &mut self.inflater)
            } else {
                reader.read(&bytes[used..], &rules, message)
            };
            match read {
                Ok((length, event)) => {
                    used += length;
                    match event {
                        Event::Partial => break Why::Partial,
                        Event::Message(kind) if self.takes(slot, kind) => frames.whole = true,
                        Event::Message(_) => {
                            self.errors += 1;
                            self.end(slot, &Ending::Frame(CloseCode::UNSUPPORTED, WRONG_KIND.into()), fx);
                            break Why::End;
                        }
                        Event::Ping(payload) => {
                            if self.charge_input(slot, payload.len()) {
                                fx.send(slot, |out| ws::frame(Opcode::Pong, &payload, out));
                            }
                        }
                        Event::Pong(_) => {}
                        Event::Close(close) => {
                            frames.ended = true;
                            let code = close.code().unwrap_or(CloseCode::NORMAL);
                            self.end(slot, &Ending::Frame(code, String::new()), fx);
                            break Why::End;
                        }
                    }
                }
                Err(error) => {
                    frames.ended = true;
                    self.errors += 1;
                    if let ProtocolError::TooBig(_) = error {
                        self.tell_too_big(slot, &error.to_string(), fx);
                    }
                    self.end(slot, &Ending::Frame(error.close_code(), error.to_string()), fx);
                    break Why::End;
                }
            }
        };
        match why {
            Why::End => {
                frames.clear();
                self.sessions[slot as usize].more().frames = Some(frames);
                self.closing_input(slot, &bytes[used..]);
            }
            _ if frames.is_idle() => {
                frames.message.shrink_to(1 << 16);
                self.frames = Some(frames);
            }
            _ => {
                self.kept += frames.len();
                self.sessions[slot as usize].more().frames = Some(frames);
            }
        }
        // What a message was made of is in its own buffer now.
        Step { used: if why == Why::End { bytes.len() } else { used }, why }
    }

    /// Whether the Close frame of an ended session's client is still to come (RFC 6455 §7.1.1: the connection is closed
    /// when both sides have sent theirs).
    pub fn awaits_close(&self, slot: u32) -> bool {
        self.sessions.get(slot as usize).is_some_and(|session| {
            let frames = session.peek_more().and_then(|more| more.frames.as_ref());
            session.link.is_websocket() && !frames.is_some_and(|frames| frames.ended)
        })
    }

    /// Looks for that frame in what the client sends after its session has ended; what comes before it is discarded.
    /// Gives whether there is nothing more to wait for.
    pub fn closing_input(&mut self, slot: u32, bytes: &[u8]) -> bool {
        if !self.awaits_close(slot) {
            return true;
        }
        let deflated = self.sessions[slot as usize].link.framing().is_deflated();
        let rules = Rules { role: Role::Server, max_message: self.settings.max_message as u64 };
        let mut frames = self.sessions[slot as usize].more().frames.take().unwrap_or_default();
        self.kept -= frames.len();
        let mut used = 0;
        while used < bytes.len() && !frames.ended {
            let Frames { reader, message, .. } = &mut *frames;
            let read = if deflated {
                reader.read_deflated(&bytes[used..], &rules, message, &mut self.inflater)
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
        frames.ended |= self.kept + frames.len() > self.settings.input_limit;
        if frames.ended {
            frames.clear();
        }
        self.kept += frames.len();
        let ended = frames.ended;
        self.sessions[slot as usize].more().frames = Some(frames);
        ended
    }

    /// Whether messages of this kind are commands here.
    fn takes(&self, slot: u32, kind: Kind) -> bool {
        kind == match self.sessions[slot as usize].link.encoding() {
            Encoding::Json => Kind::Text,
            Encoding::Protobuf => Kind::Binary,
        }
    }
}

/// What a peer is told whose message is binary where text is spoken, or the other way round.
const WRONG_KIND: &str = "JSON comes in text messages, Protobuf in binary ones";
