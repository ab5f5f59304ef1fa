//! `CONNACK` (MQTT 3.1.1 §3.2, 5.0 §3.2).

use crate::error::{EncodeError, Violation};
use crate::properties::Properties;
use crate::property_id::Place;
use crate::read::Reader;
use crate::reason::ReasonCode;
use crate::types::{PacketType, Side, Version};

/// `CONNACK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server has a session of the client; `false` with an error.
    pub session_present: bool,
    /// The result. 3.1.1 has only those with a [return code](ReasonCode::return_code).
    pub reason: ReasonCode,
    /// The properties.
    pub properties: Properties<'a>,
}

impl<'a> ConnAck<'a> {
    pub(super) fn read(from: &mut Reader<'a>, version: Version) -> Result<Self, Violation> {
        let flags = from.u8()?;
        if flags > 1 {
            return Err(Violation::ConnAckFlags);
        }
        let code = from.u8()?;
        let reason = match version {
            Version::V3 => ReasonCode::from_return_code(code),
            Version::V5 => ReasonCode::from_number(code).filter(|code| code.is_in(PacketType::ConnAck)),
        };
        let reason = reason.ok_or(Violation::ReasonCode(code))?;
        let session_present = flags == 1;
        if session_present && reason != ReasonCode::Success {
            return Err(Violation::SessionPresent);
        }
        let properties = match version {
            Version::V3 => Properties::NONE,
            Version::V5 => Properties::read(from, Place::Packet(PacketType::ConnAck), Side::Client)?,
        };
        Ok(Self { session_present, reason, properties })
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let session_present = self.session_present && self.reason == ReasonCode::Success;
        out.push(u8::from(session_present));
        match version {
            Version::V3 => {
                out.push(self.reason.return_code().ok_or(EncodeError::NoReturnCode(self.reason))?);
                Ok(())
            }
            Version::V5 => {
                out.push(self.reason.number());
                self.properties.write(Place::Packet(PacketType::ConnAck), out)
            }
        }
    }
}
