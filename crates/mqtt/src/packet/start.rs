//! The start of `SUBSCRIBE`, `SUBACK`, `UNSUBSCRIBE` and `UNSUBACK`: the packet identifier, and in 5.0 the properties.

use crate::error::{EncodeError, Violation};
use crate::properties::Properties;
use crate::property_id::Place;
use crate::read::Reader;
use crate::types::{PacketId, PacketType, Side, Version};

/// Reads the start of a packet that `side` receives.
pub(super) fn read_start<'a>(
    packet: PacketType,
    side: Side,
    from: &mut Reader<'a>,
    version: Version,
) -> Result<(PacketId, Properties<'a>), Violation> {
    let packet_id = from.packet_id()?;
    let properties = match version {
        Version::V3 => Properties::NONE,
        Version::V5 => Properties::read(from, Place::Packet(packet), side)?,
    };
    Ok((packet_id, properties))
}

/// Writes the start of a packet.
pub(super) fn write_start(
    packet: PacketType,
    packet_id: PacketId,
    properties: &Properties<'_>,
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    match version {
        Version::V3 => Ok(()),
        Version::V5 => properties.write(Place::Packet(packet), out),
    }
}
