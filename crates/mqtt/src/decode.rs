//! From bytes to packets.

use crate::error::{Error, Violation};
use crate::header::{self, Header, Start};
use crate::packet::Packet;
use crate::types::{PacketType, Side, Version};

/// Decodes the packets that one side of a connection receives.
///
/// It is a value without progress: an incomplete packet costs one read of its fixed header, so input that arrives byte by
/// byte costs no more than its fixed header at each byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder {
    /// The side that decodes.
    pub side: Side,
    /// The version of the connection; `None` before `CONNECT`. A server sets it to [`Connect::version`], a client to the
    /// version of its own `CONNECT`.
    ///
    /// [`Connect::version`]: crate::Connect::version
    pub version: Option<Version>,
    /// The largest packet in bytes, with its fixed header.
    pub max_packet: usize,
}

/// What the beginning of an input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The beginning of a packet that has at least `needed` bytes: its exact size once the fixed header is complete, and never
    /// more than [`Decoder::max_packet`].
    Partial {
        /// Decoding makes progress with so many bytes of input.
        needed: usize,
    },
    /// A packet, and its size in bytes.
    Packet(Packet<'a>, usize),
}

impl Decoder {
    /// Decodes the packet at the start of `bytes`.
    ///
    /// # Errors
    /// When a packet breaks a rule that can be checked without the state of the session. Its first byte and its size are
    /// checked as soon as they arrive. No further input can be decoded.
    pub fn decode<'a>(&self, bytes: &'a [u8]) -> Result<Decoded<'a>, Error> {
        let Some(first) = bytes.first() else { return Ok(Decoded::Partial { needed: 2 }) };
        let error = |packet, violation| Error { violation, packet, version: self.version };
        let packet =
            header::first_byte(*first, self.side).map_err(|(packet, violation)| error(packet, violation))?;
        self.check_order(packet).map_err(|violation| error(Some(packet), violation))?;
        let start = header::read(packet, bytes, self.max_packet, self.side);
        match start.map_err(|violation| error(Some(packet), violation))? {
            Start::Header(header) if header.end <= bytes.len() => self
                .packet(&header, &bytes[header.body..header.end])
                .map(|packet| Decoded::Packet(packet, header.end)),
            Start::Header(header) => Ok(Decoded::Partial { needed: header.end }),
            Start::Partial(needed) => Ok(Decoded::Partial { needed }),
        }
    }

    /// `CONNECT` is the first packet of a client, and only the first; `AUTH` is new in 5.0.
    fn check_order(&self, packet: PacketType) -> Result<(), Violation> {
        match (self.version, packet) {
            (None, PacketType::Connect) => Ok(()),
            (None, _) => Err(Violation::NotConnect),
            (Some(_), PacketType::Connect) => Err(Violation::SecondConnect),
            (Some(Version::V3), PacketType::Auth) => Err(Violation::PacketType(packet as u8)),
            // 3.1.1 has no DISCONNECT from a server (§2.2.1).
            (Some(Version::V3), PacketType::Disconnect) if self.side == Side::Client => {
                Err(Violation::Direction)
            }
            (Some(_), _) => Ok(()),
        }
    }

    fn packet<'a>(&self, header: &Header, body: &'a [u8]) -> Result<Packet<'a>, Error> {
        let mut version = self.version;
        let packet = Packet::read(header, body, self.side, &mut version);
        packet.map_err(|violation| Error { violation, packet: Some(header.packet), version })
    }
}
