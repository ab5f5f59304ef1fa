//! The fixed header (MQTT 5.0 §2.1): type, flags and length of a packet.

use crate::error::Violation;
use crate::read::{Varint, varint};
use crate::types::{PacketType, Side};

/// A complete fixed header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) packet: PacketType,
    /// The lower four bits of the first byte.
    pub(crate) flags: u8,
    /// The start of the body.
    pub(crate) body: usize,
    /// The end of the packet.
    pub(crate) end: usize,
    /// Whether the remaining length is in its shortest form, which 5.0 requires.
    pub(crate) is_shortest: bool,
}

/// The start of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// The packet has at least so many bytes.
    Partial(usize),
    Header(Header),
}

/// Checks the first byte: the type of the packet, and its flags.
pub(crate) fn first_byte(byte: u8, receiver: Side) -> Result<PacketType, (Option<PacketType>, Violation)> {
    let (number, flags) = (byte >> 4, byte & 0x0F);
    let Some(packet) = PacketType::from_number(number) else {
        return Err((None, Violation::PacketType(number)));
    };
    if packet != PacketType::Publish && flags != packet.flags() {
        return Err((Some(packet), Violation::Flags(flags)));
    }
    if !packet.is_received_by(receiver) {
        return Err((Some(packet), Violation::Direction));
    }
    Ok(packet)
}

/// Reads the length of a packet of this type.
pub(crate) fn read(
    packet: PacketType,
    bytes: &[u8],
    limit: usize,
    receiver: Side,
) -> Result<Start, Violation> {
    match varint(bytes.get(1..).unwrap_or_default()) {
        Varint::Number { value, length, is_shortest } => {
            let body = 1 + length;
            let end = body + value as usize;
            if end > limit {
                return Err(Violation::TooLarge { size: end, limit, receiver });
            }
            Ok(Start::Header(Header { packet, flags: bytes[0] & 0x0F, body, end, is_shortest }))
        }
        Varint::Partial => Ok(Start::Partial(bytes.len().max(1) + 1)),
        Varint::Invalid => Err(Violation::Length),
    }
}
