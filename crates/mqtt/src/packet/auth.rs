//! `DISCONNECT` (MQTT 3.1.1 and 5.0 §3.14) and `AUTH` (5.0 §3.15).

use super::ack::{read_reason, write_reason};
use crate::error::{EncodeError, Violation};
use crate::properties::Properties;
use crate::property_id::PropertyId;
use crate::read::Reader;
use crate::reason::ReasonCode;
use crate::types::{PacketType, Side, Version};

/// `DISCONNECT`. In 3.1.1 only a client sends it, and it has no fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// The reason; [`ReasonCode::Success`] for a normal end.
    pub reason: ReasonCode,
    /// The properties.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    pub(super) fn read(from: &mut Reader<'a>, receiver: Side, version: Version) -> Result<Self, Violation> {
        let (reason, properties) = match version {
            Version::V3 => (ReasonCode::Success, Properties::NONE),
            Version::V5 => read_reason(PacketType::Disconnect, from, receiver)?,
        };
        Ok(Self { reason, properties })
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match version {
            Version::V3 => Ok(()),
            Version::V5 => write_reason(PacketType::Disconnect, self.reason, &self.properties, out),
        }
    }
}

/// `AUTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// The step.
    pub reason: ReasonCode,
    /// The properties, with the authentication method, except in an `AUTH` of success without a body.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    pub(super) fn read(from: &mut Reader<'a>, receiver: Side) -> Result<Self, Violation> {
        let is_short = from.is_empty();
        let (reason, properties) = read_reason(PacketType::Auth, from, receiver)?;
        if !is_short && properties.get(PropertyId::AuthenticationMethod).is_none() {
            return Err(Violation::NoAuthenticationMethod);
        }
        Ok(Self { reason, properties })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write_reason(PacketType::Auth, self.reason, &self.properties, out)
    }
}
