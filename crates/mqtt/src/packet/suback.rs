//! `SUBACK` and `UNSUBACK` (MQTT 3.1.1 and 5.0 §3.9, §3.11).

use std::fmt;

use super::start::{read_start, write_start};
use crate::error::{EncodeError, Violation};
use crate::properties::Properties;
use crate::read::Reader;
use crate::reason::ReasonCode;
use crate::types::{PacketId, PacketType, Side, Version};

/// The return code of 3.1.1 for a refused subscription.
const FAILURE: u8 = 0x80;

/// Reason codes, one for each topic filter of the request, in its order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReasonCodes<'a> {
    bytes: &'a [u8],
}

impl<'a> ReasonCodes<'a> {
    /// No codes: those of `UNSUBACK` in 3.1.1.
    pub const NONE: Self = Self { bytes: &[] };

    /// Codes from their numbers on the wire; `None` if a number is no code.
    pub fn from_numbers(bytes: &'a [u8]) -> Option<Self> {
        bytes.iter().all(|byte| ReasonCode::from_number(*byte).is_some()).then_some(Self { bytes })
    }

    /// The codes in their order.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        self.bytes.iter().filter_map(|byte| ReasonCode::from_number(*byte))
    }

    /// How many codes there are.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn read(packet: PacketType, from: &mut Reader<'a>, version: Version) -> Result<Self, Violation> {
        let bytes = from.rest();
        if bytes.is_empty() {
            return Err(Violation::NoReasonCode);
        }
        let is_allowed = |byte: u8| match version {
            Version::V3 => byte <= 2 || byte == FAILURE,
            Version::V5 => ReasonCode::from_number(byte).is_some_and(|code| code.is_in(packet)),
        };
        match bytes.iter().find(|byte| !is_allowed(**byte)) {
            Some(code) => Err(Violation::ReasonCode(*code)),
            None => Ok(Self { bytes }),
        }
    }
}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// `SUBACK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The packet identifier of the `SUBSCRIBE`.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// The granted QoS of each subscription, or an error. In 3.1.1 all errors are 0x80.
    pub reasons: ReasonCodes<'a>,
}

impl<'a> SubAck<'a> {
    pub(super) fn read(from: &mut Reader<'a>, version: Version) -> Result<Self, Violation> {
        let (packet_id, properties) = read_start(PacketType::SubAck, Side::Client, from, version)?;
        let reasons = ReasonCodes::read(PacketType::SubAck, from, version)?;
        Ok(Self { packet_id, properties, reasons })
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        debug_assert!(self.reasons.iter().all(|reason| reason.is_in(PacketType::SubAck)), "{self:?}");
        write_start(PacketType::SubAck, self.packet_id, &self.properties, version, out)?;
        match version {
            Version::V3 => out.extend(self.reasons.bytes.iter().map(|code| (*code).min(FAILURE))),
            Version::V5 => out.extend_from_slice(self.reasons.bytes),
        }
        Ok(())
    }
}

/// `UNSUBACK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The packet identifier of the `UNSUBSCRIBE`.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// The result for each topic filter. 3.1.1 has none.
    pub reasons: ReasonCodes<'a>,
}

impl<'a> UnsubAck<'a> {
    pub(super) fn read(from: &mut Reader<'a>, version: Version) -> Result<Self, Violation> {
        let (packet_id, properties) = read_start(PacketType::UnsubAck, Side::Client, from, version)?;
        let reasons = match version {
            Version::V3 => ReasonCodes::NONE,
            Version::V5 => ReasonCodes::read(PacketType::UnsubAck, from, version)?,
        };
        Ok(Self { packet_id, properties, reasons })
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        debug_assert!(self.reasons.iter().all(|reason| reason.is_in(PacketType::UnsubAck)), "{self:?}");
        write_start(PacketType::UnsubAck, self.packet_id, &self.properties, version, out)?;
        if version == Version::V5 {
            out.extend_from_slice(self.reasons.bytes);
        }
        Ok(())
    }
}
