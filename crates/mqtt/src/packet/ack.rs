//! The acknowledgements of messages: `PUBACK`, `PUBREC`, `PUBREL`, `PUBCOMP` (MQTT 3.1.1 and 5.0 §3.4 to §3.7).

use crate::error::{EncodeError, Violation};
use crate::properties::Properties;
use crate::property_id::Place;
use crate::read::Reader;
use crate::reason::ReasonCode;
use crate::types::{PacketId, PacketType, Side, Version};

/// An acknowledgement of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The packet identifier of the message.
    pub packet_id: PacketId,
    /// The result. 3.1.1 has only success: it cannot refuse a message.
    pub reason: ReasonCode,
    /// The properties.
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    /// The acknowledgement of success.
    pub const fn success(packet_id: PacketId) -> Self {
        Self { packet_id, reason: ReasonCode::Success, properties: Properties::NONE }
    }

    pub(super) fn read(
        packet: PacketType,
        from: &mut Reader<'a>,
        receiver: Side,
        version: Version,
    ) -> Result<Self, Violation> {
        let packet_id = from.packet_id()?;
        let (reason, properties) = match version {
            Version::V3 => (ReasonCode::Success, Properties::NONE),
            Version::V5 => read_reason(packet, from, receiver)?,
        };
        Ok(Self { packet_id, reason, properties })
    }

    pub(super) fn write(
        &self,
        packet: PacketType,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        match version {
            Version::V3 => Ok(()),
            Version::V5 => write_reason(packet, self.reason, &self.properties, out),
        }
    }
}

/// Reads a reason code and properties at the end of a packet. Both may be absent, or the properties alone.
pub(super) fn read_reason<'a>(
    packet: PacketType,
    from: &mut Reader<'a>,
    receiver: Side,
) -> Result<(ReasonCode, Properties<'a>), Violation> {
    if from.is_empty() {
        return Ok((ReasonCode::Success, Properties::NONE));
    }
    let code = from.u8()?;
    let reason = ReasonCode::from_number(code).filter(|code| code.is_in(packet));
    let reason = reason.ok_or(Violation::ReasonCode(code))?;
    if from.is_empty() {
        return Ok((reason, Properties::NONE));
    }
    Ok((reason, Properties::read(from, Place::Packet(packet), receiver)?))
}

/// Appends a reason code and properties in their shortest form.
pub(super) fn write_reason(
    packet: PacketType,
    reason: ReasonCode,
    properties: &Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    debug_assert!(reason.is_in(packet), "{reason:?} in {packet:?}");
    if reason != ReasonCode::Success || !properties.is_empty() {
        out.push(reason.number());
    }
    if properties.is_empty() { Ok(()) } else { properties.write(Place::Packet(packet), out) }
}
