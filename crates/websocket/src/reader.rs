//! Decoding of frames into messages.

use std::fmt;
use std::ops::Deref;

use crate::deflate::{self, Inflater};
use crate::header::FrameHeader;
use crate::utf8::Utf8;
use crate::{Close, CloseCode, Kind, MAX_CONTROL, Opcode, ProtocolError, Role, mask};

/// The limits and the role of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The own side of the connection.
    pub role: Role,
    /// Longest message in bytes.
    pub max_message: u64,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All of the input is used, and no message is complete yet.
    Partial,
    /// A message is complete. The buffer contains it; take it out before the next read.
    Message(Kind),
    /// A ping, to be answered with a pong of the same payload.
    Ping(Control),
    /// An answer to a ping, or an unsolicited heartbeat.
    Pong(Control),
    /// A Close frame, to be answered with the same code. Bytes after it must not be read.
    Close(Close),
}

/// A control frame's payload: at most [`MAX_CONTROL`] bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Control {
    bytes: [u8; MAX_CONTROL],
    length: u8,
}

impl Deref for Control {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

/// Reads messages from bytes in pieces of any size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// The header of the current frame.
    header: FrameHeader,
    /// Whether the header is complete, and the payload is next.
    in_payload: bool,
    /// Bytes of the control frame's payload at the end of the buffer.
    control: u8,
    /// The kind of the current message.
    message: Option<Kind>,
    /// Whether that message is compressed.
    compressed: bool,
    utf8: Utf8,
    /// Received bytes of the frame's payload.
    frame: u64,
    /// Received bytes of the message, in all of its frames.
    total: u64,
}

impl Reader {
    /// Whether no frame and no message has begun.
    pub fn is_idle(&self) -> bool {
        self.header.is_empty() && self.message.is_none()
    }

    /// The kind of the current incomplete message.
    pub fn begun(&self) -> Option<Kind> {
        self.message
    }

    /// Bytes at the end of the buffer that belong to a control frame inside the message.
    pub fn own(&self) -> usize {
        self.control.into()
    }

    /// Reads `input`, which follows the bytes read before, up to the next event; returns the number of bytes used.
    ///
    /// `buffer` contains the message so far. It is empty when a message begins, only this function appends to it during
    /// the message, and it has the whole message at the event. (A caller that handles a long message in pieces may
    /// remove bytes from its front at [`Event::Partial`]: those that [`Reader::own`] does not count.)
    /// # Errors
    /// [`ProtocolError`] as soon as the bytes show it.
    pub fn read(
        &mut self,
        input: &[u8],
        rules: &Rules,
        buffer: &mut Vec<u8>,
    ) -> Result<(usize, Event), ProtocolError> {
        self.read_some(input, rules, buffer, None)
    }

    /// As [`Reader::read`], on a connection with [`deflate`]: a compressed message is kept compressed until it is
    /// complete, and then replaced by its decompressed form by `inflater`. The limit applies to the decompressed
    /// message; the compressed one may be a quarter longer, since incompressible data grows.
    ///
    /// A compressed message cannot be taken in pieces.
    ///
    /// # Errors
    /// [`ProtocolError`] as soon as the bytes show it; an error inside a compressed message, when it is complete.
    pub fn read_deflated(
        &mut self,
        input: &[u8],
        rules: &Rules,
        buffer: &mut Vec<u8>,
        inflater: &mut Inflater,
    ) -> Result<(usize, Event), ProtocolError> {
        self.read_some(input, rules, buffer, Some(inflater))
    }

    fn read_some(
        &mut self,
        input: &[u8],
        rules: &Rules,
        buffer: &mut Vec<u8>,
        mut inflater: Option<&mut Inflater>,
    ) -> Result<(usize, Event), ProtocolError> {
        let mut rest = input;
        loop {
            if !self.in_payload {
                if !self.read_header(&mut rest, rules, inflater.is_some())? {
                    return Ok((input.len(), Event::Partial));
                }
                self.in_payload = true;
                self.frame = 0;
            }
            if !self.read_payload(&mut rest, buffer)? {
                return Ok((input.len(), Event::Partial));
            }
            if let Some(event) = self.end_frame(rules, buffer, inflater.as_deref_mut())? {
                return Ok((input.len() - rest.len(), event));
            }
        }
    }

    /// Returns whether the header is complete.
    fn read_header(&mut self, rest: &mut &[u8], rules: &Rules, deflate: bool) -> Result<bool, ProtocolError> {
        loop {
            let (needed, before) = (self.header.len(), self.header.have());
            self.header.fill(rest);
            let have = self.header.have();
            if before < 1 && have >= 1 {
                self.check_first(deflate)?;
            }
            if before < 2 && have >= 2 {
                self.check_second(rules)?;
            }
            if have < needed {
                return Ok(false);
            }
            // The second byte determines whether there is more.
            if have == self.header.len() {
                self.check_length(rules)?;
                return Ok(true);
            }
        }
    }

    fn check_first(&mut self, deflate: bool) -> Result<(), ProtocolError> {
        let first = self.header.first();
        let opcode = first & 0x0F;
        // RFC 7692 §6: the first frame of a message has the bit for all of its frames.
        let may_be_compressed = deflate && matches!(Opcode::new(opcode), Some(Opcode::Text | Opcode::Binary));
        let allowed = if may_be_compressed { deflate::COMPRESSED } else { 0 };
        if first & 0x70 & !allowed != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let opcode = Opcode::new(opcode).ok_or(ProtocolError::UnknownOpcode(opcode))?;
        match (opcode, self.message) {
            (Opcode::Continuation, None) => Err(ProtocolError::Continuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => Err(ProtocolError::Nested),
            (control, _) if control.is_control() && !self.header.is_final() => {
                Err(ProtocolError::SplitControl)
            }
            _ => Ok(()),
        }
    }

    fn check_second(&self, rules: &Rules) -> Result<(), ProtocolError> {
        match (rules.role, self.header.is_masked()) {
            (Role::Server, false) => return Err(ProtocolError::Unmasked),
            (Role::Client, true) => return Err(ProtocolError::Masked),
            _ => {}
        }
        if self.header.is_control() && usize::from(self.header.short_length()) > MAX_CONTROL {
            return Err(ProtocolError::LongControl);
        }
        Ok(())
    }

    fn check_length(&mut self, rules: &Rules) -> Result<(), ProtocolError> {
        let length = self.header.length();
        match self.header.short_length() {
            126 if length < 126 => return Err(ProtocolError::PaddedLength),
            127 if length < 1 << 16 => return Err(ProtocolError::PaddedLength),
            127 if length >> 63 != 0 => return Err(ProtocolError::NegativeLength),
            _ => {}
        }
        if self.header.is_control() {
            return Ok(());
        }
        let begun = match self.header.opcode() {
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
            _ => None,
        };
        if begun.is_some() {
            self.message = begun;
            self.compressed = self.header.first() & deflate::COMPRESSED != 0;
        }
        let max = rules.max_message;
        let longest = if self.compressed { deflate::longest_compressed(max) } else { max };
        if self.total.saturating_add(length) > longest {
            return Err(ProtocolError::TooBig(max));
        }
        Ok(())
    }

    /// Returns whether the payload is complete.
    fn read_payload(&mut self, rest: &mut &[u8], buffer: &mut Vec<u8>) -> Result<bool, ProtocolError> {
        let missing = self.header.length() - self.frame;
        let (taken, after) =
            rest.split_at(usize::try_from(missing).map_or(rest.len(), |m| m.min(rest.len())));
        *rest = after;
        let start = buffer.len();
        buffer.extend_from_slice(taken);
        let new = &mut buffer[start..];
        if let Some(key) = self.header.mask() {
            mask(new, key, self.frame);
        }
        self.frame += taken.len() as u64;
        if self.header.is_control() {
            self.control += taken.len() as u8;
        } else {
            self.total += taken.len() as u64;
            if self.message == Some(Kind::Text) && !self.compressed {
                self.utf8.feed(new).map_err(|_| ProtocolError::NotUtf8)?;
            }
        }
        Ok(taken.len() as u64 == missing)
    }

    fn end_frame(
        &mut self,
        rules: &Rules,
        buffer: &mut Vec<u8>,
        inflater: Option<&mut Inflater>,
    ) -> Result<Option<Event>, ProtocolError> {
        let (opcode, is_final) = (self.header.opcode(), self.header.is_final());
        self.in_payload = false;
        self.header = FrameHeader::default();
        self.frame = 0;
        if opcode.is_control() {
            let control = self.take_control(buffer);
            return Ok(Some(match opcode {
                Opcode::Ping => Event::Ping(control),
                Opcode::Pong => Event::Pong(control),
                _ => Event::Close(checked_close(control)?),
            }));
        }
        if !is_final {
            return Ok(None);
        }
        if !self.utf8.is_whole() {
            return Err(ProtocolError::NotUtf8);
        }
        if self.compressed {
            let inflater = inflater.ok_or(ProtocolError::ReservedBits)?;
            inflater.decompress(buffer, rules.max_message)?;
            if self.message == Some(Kind::Text) && std::str::from_utf8(buffer).is_err() {
                return Err(ProtocolError::NotUtf8);
            }
        }
        let message = self.message.take().map(Event::Message);
        *self = Self::default();
        Ok(message)
    }

    /// Takes the control frame's payload off the end of the buffer.
    fn take_control(&mut self, buffer: &mut Vec<u8>) -> Control {
        let start = buffer.len().saturating_sub(self.own());
        let payload = &buffer[start..];
        let mut control = Control { bytes: [0; MAX_CONTROL], length: payload.len() as u8 };
        control.bytes[..payload.len()].copy_from_slice(payload);
        self.control = 0;
        buffer.truncate(start);
        control
    }
}

fn checked_close(payload: Control) -> Result<Close, ProtocolError> {
    match &payload[..] {
        [] => {}
        [_] => return Err(ProtocolError::HalfCode),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !CloseCode(code).is_allowed() {
                return Err(ProtocolError::CloseCode(code));
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(ProtocolError::NotUtf8);
            }
        }
    }
    Ok(Close(payload))
}

#[cfg(test)]
mod tests;
