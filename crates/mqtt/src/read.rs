//! The data representations of MQTT (5.0 §1.5), read from the body of one packet.

use crate::error::Violation;
use crate::types::PacketId;

/// The rest of a packet's body. A failed read leaves it in an unspecified place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    /// All bytes that are left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Fails when bytes are left.
    pub(crate) const fn end(&self) -> Result<(), Violation> {
        if self.rest.is_empty() { Ok(()) } else { Err(Violation::Trailing) }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Violation> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Violation> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn packet_id(&mut self) -> Result<PacketId, Violation> {
        PacketId::new(self.u16()?).ok_or(Violation::PacketIdZero)
    }

    /// Binary data: a length of two bytes, and so many bytes.
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// A UTF-8 encoded string. Surrogates are no UTF-8, and U+FEFF is a character like others (§1.5.4).
    pub(crate) fn string(&mut self) -> Result<&'a str, Violation> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| Violation::NotUtf8)?;
        if bytes.contains(&0) { Err(Violation::Nul) } else { Ok(text) }
    }

    /// A variable byte integer in its shortest form.
    pub(crate) fn varint(&mut self) -> Result<u32, Violation> {
        match varint(self.rest) {
            Varint::Number { value, length, is_shortest: true } => {
                self.rest = &self.rest[length..];
                Ok(value)
            }
            Varint::Number { .. } => Err(Violation::LengthNotShortest),
            Varint::Partial => Err(Violation::Truncated),
            Varint::Invalid => Err(Violation::Length),
        }
    }
}

/// The result of reading a variable byte integer.
pub(crate) enum Varint {
    /// A number, the bytes it takes, and whether a shorter form exists.
    Number { value: u32, length: usize, is_shortest: bool },
    /// The beginning of a number.
    Partial,
    /// More than four bytes.
    Invalid,
}

/// Reads the variable byte integer at the start of `bytes` (5.0 §1.5.5).
pub(crate) fn varint(bytes: &[u8]) -> Varint {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Varint::Number { value, length: at + 1, is_shortest: at == 0 || *byte != 0 };
        }
    }
    if bytes.len() < 4 { Varint::Partial } else { Varint::Invalid }
}
