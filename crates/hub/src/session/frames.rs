//! From a WebSocket's bytes to messages (RFC 6455), and from messages to commands.

use tidings_wire::ws::{self, CloseCode, Event, Kind, Opcode, ProtocolError, Reader, Role, Rules};

use super::Dialect;
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
            let read = if self.sessions[slot as usize].dialect.is_deflated() {
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
                            fx.send(slot, |out| ws::frame(Opcode::Pong, &payload, out));
                        }
                        Event::Pong(_) => {}
                        Event::Close(close) => {
                            let code = close.code().unwrap_or(CloseCode::NORMAL);
                            self.end(slot, &Ending::Frame(code, String::new()), fx);
                            break Why::End;
                        }
                    }
                }
                Err(error) => {
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
            Why::End => {}
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

    /// Whether messages of this kind are commands here.
    fn takes(&self, slot: u32, kind: Kind) -> bool {
        match self.sessions[slot as usize].dialect {
            Dialect::WsProtobuf | Dialect::WsProtobufDeflate => kind == Kind::Binary,
            _ => kind == Kind::Text,
        }
    }
}

/// What a peer is told whose message is binary where text is spoken, or the other way round.
const WRONG_KIND: &str = "JSON comes in text messages, Protobuf in binary ones";
