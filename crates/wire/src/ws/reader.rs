//! From bytes to messages.

use std::fmt;
use std::ops::Deref;

use super::deflate::{self, Inflater};
use super::utf8::Utf8;
use super::{Close, CloseCode, Kind, MAX_CONTROL, Opcode, ProtocolError, Role, mask};

/// What may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// On which end one is.
    pub role: Role,
    /// Longest message in bytes.
    pub max_message: u64,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All of the input is used, and nothing is whole yet.
    Partial,
    /// A message is complete. The buffer contains it; take it out before the next read.
    Message(Kind),
    /// To be answered with a pong of the same payload.
    Ping(Control),
    /// An answer to a ping, or a sign of life.
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

/// Longest header of a frame: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// Reads messages from bytes that come in any pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// The header of the frame that is being read, as far as it has come.
    header: [u8; MAX_HEADER],
    have: u8,
    /// Whether all of the header has come, and the payload is next.
    in_payload: bool,
    /// Bytes of the control frame's payload at the end of the buffer.
    control: u8,
    /// The message that has begun and not ended.
    message: Option<Kind>,
    /// That message is compressed.
    compressed: bool,
    utf8: Utf8,
    /// Bytes of the frame's payload that have come.
    frame: u64,
    /// Bytes of the message that have come, in all of its frames.
    total: u64,
}

impl Reader {
    /// Whether nothing has begun that is not ended.
    pub fn is_idle(&self) -> bool {
        self.have == 0 && self.message.is_none()
    }

    /// The kind of the message that has begun and is not complete.
    pub fn begun(&self) -> Option<Kind> {
        self.message
    }

    /// How many bytes at the end of the buffer are not the message's, but of a control frame inside of it.
    pub fn own(&self) -> usize {
        self.control.into()
    }

    /// Reads `input`, which follows the bytes read before, up to the next event; returns the number of bytes used.
    /// ¶ `buffer` contains the message so far. It is empty when a message begins, only this function appends to it
    /// during the message, and it has the whole message at the event. (A caller that handles a long message in pieces
    /// may remove bytes from its front at [`Event::Partial`]: those that [`Reader::own`] does not count.)
    ///
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

    /// As [`Reader::read`], on a connection with [`deflate`]: a compressed message is kept compressed until it is complete, and
    /// then replaced by its decompressed form by `inflater`. The limit applies to the decompressed message; the compressed one may
    /// be a quarter longer, since incompressible data grows.
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

    /// Tells whether all of the header has come.
    fn read_header(&mut self, rest: &mut &[u8], rules: &Rules, deflate: bool) -> Result<bool, ProtocolError> {
        loop {
            let needed = self.header_len();
            let have = usize::from(self.have);
            let (taken, after) = rest.split_at((needed - have).min(rest.len()));
            self.header[have..have + taken.len()].copy_from_slice(taken);
            self.have += taken.len() as u8;
            *rest = after;
            let (before, have) = (have, usize::from(self.have));
            if before < 1 && have >= 1 {
                self.check_first(deflate)?;
            }
            if before < 2 && have >= 2 {
                self.check_second(rules)?;
            }
            if have < needed {
                return Ok(false);
            }
            // The second byte shows whether there is more.
            if have == self.header_len() {
                self.check_length(rules)?;
                return Ok(true);
            }
        }
    }

    fn check_first(&mut self, deflate: bool) -> Result<(), ProtocolError> {
        let first = self.header[0];
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
            (control, _) if control.is_control() && !self.is_final() => Err(ProtocolError::SplitControl),
            _ => Ok(()),
        }
    }

    fn check_second(&self, rules: &Rules) -> Result<(), ProtocolError> {
        match (rules.role, self.header[1] & 0x80 != 0) {
            (Role::Server, false) => return Err(ProtocolError::Unmasked),
            (Role::Client, true) => return Err(ProtocolError::Masked),
            _ => {}
        }
        if self.is_control() && usize::from(self.header[1] & 0x7F) > MAX_CONTROL {
            return Err(ProtocolError::LongControl);
        }
        Ok(())
    }

    fn check_length(&mut self, rules: &Rules) -> Result<(), ProtocolError> {
        let length = self.length();
        match self.header[1] & 0x7F {
            126 if length < 126 => return Err(ProtocolError::PaddedLength),
            127 if length < 1 << 16 => return Err(ProtocolError::PaddedLength),
            127 if length >> 63 != 0 => return Err(ProtocolError::NegativeLength),
            _ => {}
        }
        if self.is_control() {
            return Ok(());
        }
        let begun = match self.opcode() {
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
            _ => None,
        };
        if begun.is_some() {
            self.message = begun;
            self.compressed = self.header[0] & deflate::COMPRESSED != 0;
        }
        let max = rules.max_message;
        let longest = if self.compressed { deflate::longest_packed(max) } else { max };
        if self.total.saturating_add(length) > longest {
            return Err(ProtocolError::TooBig(max));
        }
        Ok(())
    }

    /// Tells whether all of the payload has come.
    fn read_payload(&mut self, rest: &mut &[u8], buffer: &mut Vec<u8>) -> Result<bool, ProtocolError> {
        let missing = self.length() - self.frame;
        let (taken, after) =
            rest.split_at(usize::try_from(missing).map_or(rest.len(), |m| m.min(rest.len())));
        *rest = after;
        let start = buffer.len();
        buffer.extend_from_slice(taken);
        let new = &mut buffer[start..];
        if let Some(key) = self.mask() {
            mask(new, key, self.frame);
        }
        self.frame += taken.len() as u64;
        if self.is_control() {
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
        let (opcode, is_final) = (self.opcode(), self.is_final());
        self.have = 0;
        self.in_payload = false;
        self.header = [0; MAX_HEADER];
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
            inflater.unpack(buffer, rules.max_message)?;
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

    fn is_final(&self) -> bool {
        self.header[0] & 0x80 != 0
    }

    /// The frame's opcode; its number is already checked.
    fn opcode(&self) -> Opcode {
        Opcode::new(self.header[0] & 0x0F).unwrap_or(Opcode::Continuation)
    }

    fn is_control(&self) -> bool {
        self.header[0] & 0x08 != 0
    }

    /// Length of the header in bytes, as far as the available bytes show it.
    fn header_len(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        self.mask_at() + if self.header[1] & 0x80 != 0 { 4 } else { 0 }
    }

    /// Where the mask stands in the header.
    fn mask_at(&self) -> usize {
        match self.header[1] & 0x7F {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn mask(&self) -> Option<[u8; 4]> {
        let masked = self.header[1] & 0x80 != 0;
        self.header[self.mask_at()..].first_chunk().copied().filter(|_| masked)
    }

    /// Bytes of the payload.
    fn length(&self) -> u64 {
        let [_, second, rest @ ..] = &self.header;
        match (second & 0x7F, rest) {
            (126, [a, b, ..]) => u16::from_be_bytes([*a, *b]).into(),
            (127, [a, b, c, d, e, f, g, h, ..]) => u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
            (short, _) => short.into(),
        }
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
mod tests {
    use super::*;
    use crate::ws::{Header, close, frame, masked_frame};

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    const SERVER: Rules = Rules { role: Role::Server, max_message: 1000 };
    const CLIENT: Rules = Rules { role: Role::Client, max_message: 1000 };

    /// What a session sees.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Seen {
        Message(Kind, Vec<u8>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
        Close(Option<u16>, String),
        /// Broken, after so many bytes.
        Broken(ProtocolError),
    }

    /// Everything in `bytes`, which come in pieces of `size`.
    fn seen(bytes: &[u8], rules: &Rules, size: usize) -> Vec<Seen> {
        let (mut reader, mut buffer, mut all) = (Reader::default(), Vec::new(), Vec::new());
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let (used, event) = match reader.read(piece, rules, &mut buffer) {
                    Ok(read) => read,
                    Err(error) => {
                        all.push(Seen::Broken(error));
                        return all;
                    }
                };
                piece = &piece[used..];
                all.push(match event {
                    Event::Partial => {
                        assert!(piece.is_empty());
                        continue;
                    }
                    Event::Message(kind) => Seen::Message(kind, std::mem::take(&mut buffer)),
                    Event::Ping(payload) => Seen::Ping(payload.to_vec()),
                    Event::Pong(payload) => Seen::Pong(payload.to_vec()),
                    Event::Close(close) => {
                        all.push(Seen::Close(close.code().map(|code| code.0), close.reason().to_owned()));
                        return all;
                    }
                });
            }
            assert!(buffer.len() as u64 <= rules.max_message + MAX_CONTROL as u64);
            assert!(!reader.is_idle() || (reader == Reader::default() && buffer.is_empty()));
        }
        all
    }

    fn text(text: &str) -> Seen {
        Seen::Message(Kind::Text, text.as_bytes().to_vec())
    }

    /// A frame of a client.
    fn part(is_final: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Header { is_final, opcode, mask: Some(KEY), length: payload.len() as u64 }.write(&mut out);
        let start = out.len();
        out.extend_from_slice(payload);
        mask(&mut out[start..], KEY, 0);
        out
    }

    #[test]
    fn the_examples_of_the_rfc_read_as_there() {
        // §5.7.
        let single = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let fragments = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
        let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(seen(&single, &CLIENT, 9), [text("Hello")]);
        assert_eq!(seen(&masked, &SERVER, 99), [text("Hello")]);
        assert_eq!(seen(&fragments, &CLIENT, 9), [text("Hello")]);
        assert_eq!(seen(&ping, &CLIENT, 9), [Seen::Ping(b"Hello".to_vec())]);
        assert_eq!(seen(&pong, &SERVER, 99), [Seen::Pong(b"Hello".to_vec())]);
        let wide = Rules { max_message: 1 << 20, ..CLIENT };
        for (header, length) in
            [(&[0x82, 0x7E, 0x01, 0x00][..], 256), (&[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0], 65536)]
        {
            let bytes = [header, &vec![7; length]].concat();
            assert_eq!(seen(&bytes, &wide, bytes.len()), [Seen::Message(Kind::Binary, vec![7; length])]);
            let mut written = Vec::new();
            frame(Opcode::Binary, &vec![7; length], &mut written);
            assert_eq!(written, bytes);
        }
        for (opcode, bytes) in [(Opcode::Text, single), (Opcode::Ping, ping)] {
            let mut written = Vec::new();
            frame(opcode, b"Hello", &mut written);
            assert_eq!(written, bytes);
        }
        for (opcode, bytes) in [(Opcode::Text, masked), (Opcode::Pong, pong)] {
            let mut written = Vec::new();
            masked_frame(opcode, b"Hello", KEY, &mut written);
            assert_eq!(written, bytes);
        }
    }

    #[test]
    fn control_frames_between_the_pieces_of_a_message_are_seen_when_they_come() {
        let bytes = [
            part(false, Opcode::Text, b"a\xC3"),
            part(true, Opcode::Ping, &[7; 125]),
            part(false, Opcode::Continuation, b""),
            part(true, Opcode::Pong, b""),
            part(true, Opcode::Continuation, b"\xA9b"),
            part(true, Opcode::Binary, b"\xFF"),
            part(true, Opcode::Text, b""),
            part(true, Opcode::Close, b"\x03\xE8bye \xC3\xA9"),
            part(true, Opcode::Text, b"not read any more"),
        ]
        .concat();
        let expected = [
            Seen::Ping(vec![7; 125]),
            Seen::Pong(vec![]),
            text("aéb"),
            Seen::Message(Kind::Binary, vec![0xFF]),
            text(""),
            Seen::Close(Some(1000), "bye é".to_owned()),
        ];
        for size in 1..=bytes.len() {
            assert_eq!(seen(&bytes, &SERVER, size), expected, "in pieces of {size}");
        }
        assert_eq!(seen(&part(true, Opcode::Close, b""), &SERVER, 9), [Seen::Close(None, String::new())]);
    }

    #[test]
    fn a_message_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        for (first, second, passes) in
            [(1000, 0, true), (400, 600, true), (1001, 0, false), (400, 601, false)]
        {
            let bytes = [
                part(false, Opcode::Binary, &vec![1; first]),
                part(true, Opcode::Continuation, &vec![1; second]),
            ]
            .concat();
            let expected = if passes {
                Seen::Message(Kind::Binary, vec![1; 1000])
            } else {
                Seen::Broken(ProtocolError::TooBig(1000))
            };
            assert_eq!(seen(&bytes, &SERVER, 7), [expected]);
        }
        // Before a single byte of it has come.
        let huge = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4];
        assert_eq!(seen(&huge, &SERVER, 1), [Seen::Broken(ProtocolError::TooBig(1000))]);
    }

    #[test]
    fn what_breaks_the_protocol_is_told_with_the_first_byte_that_shows_it() {
        use ProtocolError as E;
        for (bytes, rules, expected, code) in [
            (&[0xC1][..], SERVER, E::ReservedBits, 1002),
            (&[0x91], CLIENT, E::ReservedBits, 1002),
            (&[0x83], SERVER, E::UnknownOpcode(3), 1002),
            (&[0x8B], SERVER, E::UnknownOpcode(11), 1002),
            (&[0x81, 0x00], SERVER, E::Unmasked, 1002),
            (&[0x81, 0x80], CLIENT, E::Masked, 1002),
            (&[0x09], SERVER, E::SplitControl, 1002),
            (&[0x89, 0xFE], SERVER, E::LongControl, 1002),
            (&[0x88, 0x7F], CLIENT, E::LongControl, 1002),
            (&[0x80], SERVER, E::Continuation, 1002),
            (&[0x01, 0x00, 0x01], CLIENT, E::Nested, 1002),
            (&[0x01, 0x00, 0x82], CLIENT, E::Nested, 1002),
            (&[0x82, 0x7E, 0, 125], CLIENT, E::PaddedLength, 1002),
            (&[0x82, 0x7F, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], CLIENT, E::PaddedLength, 1002),
            (&[0x82, 0x7F, 0x80, 0, 0, 0, 0, 0, 0, 0], CLIENT, E::NegativeLength, 1002),
            (&[0x88, 1, 3], CLIENT, E::HalfCode, 1002),
            (&[0x88, 2, 3, 0xED], CLIENT, E::CloseCode(1005), 1002),
            (&[0x88, 3, 3, 0xE8, 0xFF], CLIENT, E::NotUtf8, 1007),
            (&[0x81, 9, b'a', 0xFF], CLIENT, E::NotUtf8, 1007),
            (&[0x81, 9, 0xED, 0xA0], CLIENT, E::NotUtf8, 1007),
            (&[0x81, 1, 0xC3], CLIENT, E::NotUtf8, 1007),
            (&[0x01, 1, 0xC3, 0x80, 1, 0x28], CLIENT, E::NotUtf8, 1007),
            (&[0x82, 0x7E, 0x03, 0xE9], CLIENT, E::TooBig(1000), 1009),
        ] {
            for size in [1, 2, bytes.len()] {
                assert_eq!(seen(bytes, &rules, size), [Seen::Broken(expected)], "{bytes:x?}");
            }
            assert_eq!(seen(&bytes[..bytes.len() - 1], &rules, 1), [], "{bytes:x?}");
            assert_eq!(expected.close_code().0, code);
        }
    }

    #[test]
    fn a_close_frame_says_why_in_words_that_fit() {
        let read = |code, reason: &str| {
            let mut bytes = Vec::new();
            close(code, reason, &mut bytes);
            seen(&bytes, &CLIENT, bytes.len())
        };
        assert_eq!(read(CloseCode::TOO_BIG, "too big"), [Seen::Close(Some(1009), "too big".to_owned())]);
        assert_eq!(read(CloseCode(4404), ""), [Seen::Close(Some(4404), String::new())]);
        assert_eq!(read(CloseCode::NORMAL, &"é".repeat(99)), [Seen::Close(Some(1000), "é".repeat(61))]);
        assert_eq!(read(CloseCode(1006), "never sent"), [Seen::Close(None, String::new())]);
    }

    #[test]
    fn a_long_message_can_be_taken_in_pieces() {
        let payload: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let bytes = [
            part(false, Opcode::Binary, &payload[..2000]),
            part(true, Opcode::Ping, b"still there?"),
            part(true, Opcode::Continuation, &payload[2000..]),
        ]
        .concat();
        let rules = Rules { max_message: 5000, ..SERVER };
        for size in [1, 13, 64] {
            let (mut reader, mut buffer, mut taken, mut pings) =
                (Reader::default(), Vec::new(), Vec::new(), 0);
            let mut ended = false;
            for mut piece in bytes.chunks(size) {
                while !piece.is_empty() {
                    let (used, event) = reader.read(piece, &rules, &mut buffer).unwrap();
                    piece = &piece[used..];
                    pings += u32::from(matches!(event, Event::Ping(_)));
                    ended |= matches!(event, Event::Message(_));
                    let whole = buffer.len() - reader.own();
                    taken.extend(buffer.drain(..whole));
                    assert!(reader.begun().is_some() != ended || taken.is_empty());
                }
            }
            assert!(ended && pings == 1 && taken == payload);
        }
    }

    #[test]
    fn a_reader_is_small() {
        assert!(size_of::<Reader>() <= 40, "{}", size_of::<Reader>());
    }
}
