//! `CONNECT` (MQTT 3.1.1 §3.1, 5.0 §3.1).

use super::publish::check_topic;
use crate::error::{EncodeError, Violation};
use crate::properties::Properties;
use crate::property_id::Place;
use crate::read::Reader;
use crate::types::{PacketType, Qos, Sensitive, Side, Version};
use crate::write;

const NAME: &[u8] = b"MQTT";
/// The protocol name of MQTT 3.1, whose level is 3.
const OLD_NAME: &[u8] = b"MQIsdp";

const RESERVED: u8 = 1;
const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS: u8 = 3;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER_NAME: u8 = 1 << 7;

/// `CONNECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that the client speaks.
    pub version: Version,
    /// Whether an earlier session is discarded. In 3.1.1, "clean session": the session also ends with the connection.
    pub clean_start: bool,
    /// The keep-alive time in seconds; 0 means none.
    pub keep_alive: u16,
    /// The client identifier; empty if the server is to assign one.
    pub client_id: &'a str,
    /// The will.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub user_name: Option<&'a str>,
    /// The password. In 3.1.1 only with a user name.
    pub password: Option<Sensitive<'a>>,
    /// The properties.
    pub properties: Properties<'a>,
}

/// A will: the message that the server publishes when the connection ends without `DISCONNECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Its topic name.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its quality of service.
    pub qos: Qos,
    /// Whether it is a retained message.
    pub retain: bool,
    /// Its properties, with the delay.
    pub properties: Properties<'a>,
}

impl<'a> Connect<'a> {
    pub(super) fn read(from: &mut Reader<'a>, version: &mut Option<Version>) -> Result<Self, Violation> {
        let name = from.binary()?;
        if name != NAME && name != OLD_NAME {
            return Err(Violation::ProtocolName);
        }
        let level = from.u8()?;
        let known = Version::from_level(level).filter(|_| name == NAME);
        let known = known.ok_or(Violation::ProtocolLevel(level))?;
        *version = Some(known);
        let flags = from.u8()?;
        let will_qos = check_flags(flags, known)?;
        let keep_alive = from.u16()?;
        let properties = match known {
            Version::V3 => Properties::NONE,
            Version::V5 => Properties::read(from, Place::Packet(PacketType::Connect), Side::Server)?,
        };
        let client_id = from.string()?;
        let will = if flags & WILL == 0 {
            None
        } else {
            let properties = match known {
                Version::V3 => Properties::NONE,
                Version::V5 => Properties::read(from, Place::Will, Side::Server)?,
            };
            let topic = from.string()?;
            check_topic(topic)?;
            let payload = from.binary()?;
            Some(Will { topic, payload, qos: will_qos, retain: flags & WILL_RETAIN != 0, properties })
        };
        let user_name = if flags & USER_NAME == 0 { None } else { Some(from.string()?) };
        let password = if flags & PASSWORD == 0 { None } else { Some(Sensitive(from.binary()?)) };
        let clean_start = flags & CLEAN_START != 0;
        Ok(Self { version: known, clean_start, keep_alive, client_id, will, user_name, password, properties })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::binary(NAME, out)?;
        let mut flags = if self.clean_start { CLEAN_START } else { 0 };
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << WILL_QOS | if will.retain { WILL_RETAIN } else { 0 };
        }
        flags |= self.user_name.map_or(0, |_| USER_NAME) | self.password.map_or(0, |_| PASSWORD);
        out.extend_from_slice(&[self.version.level(), flags]);
        out.extend_from_slice(&self.keep_alive.to_be_bytes());
        let has_properties = self.version == Version::V5;
        if has_properties {
            self.properties.write(Place::Packet(PacketType::Connect), out)?;
        }
        write::string(self.client_id, out)?;
        if let Some(will) = &self.will {
            if has_properties {
                will.properties.write(Place::Will, out)?;
            }
            write::string(will.topic, out)?;
            write::binary(will.payload, out)?;
        }
        if let Some(name) = self.user_name {
            write::string(name, out)?;
        }
        self.password.map_or(Ok(()), |password| write::binary(password.0, out))
    }
}

/// Checks the connect flags; returns the QoS of the will.
fn check_flags(flags: u8, version: Version) -> Result<Qos, Violation> {
    if flags & RESERVED != 0 {
        return Err(Violation::ReservedConnectFlag);
    }
    let qos = flags >> WILL_QOS & 3;
    if flags & WILL == 0 {
        if qos != 0 {
            return Err(Violation::QosWithoutWill);
        }
        if flags & WILL_RETAIN != 0 {
            return Err(Violation::RetainWithoutWill);
        }
    }
    if version == Version::V3 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(Violation::PasswordWithoutUserName);
    }
    Qos::from_number(qos).ok_or(Violation::WillQos)
}
