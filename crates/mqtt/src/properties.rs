//! A list of properties: checked bytes of a packet, or a buffer to which properties are added.

use std::fmt;

use crate::error::{EncodeError, Violation};
use crate::property::Property;
use crate::property_id::{Place, PropertyId};
use crate::read::Reader;
use crate::types::{PacketType, Side};
use crate::write;

/// The properties of a packet or a will, in their order. Packets of 3.1.1 have none.
///
/// It is a slice of the packet whose properties have been checked: each is allowed in its packet, and not repeated more often
/// than the protocol allows.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const NONE: Self = Self { bytes: &[] };

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties in their order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut rest = Reader::new(self.bytes);
        // The bytes have been checked, so an error cannot occur.
        std::iter::from_fn(move || if rest.is_empty() { None } else { next(&mut rest).ok() })
    }

    /// The first property with an identifier.
    pub fn get(&self, id: PropertyId) -> Option<Property<'a>> {
        self.iter().find(|property| property.id() == id)
    }

    /// Checks the properties of a `PUBLISH` that a server sends, without their length.
    ///
    /// # Errors
    /// [`Violation`] as for a received packet.
    pub fn of_publish(bytes: &'a [u8]) -> Result<Self, Violation> {
        Self::checked(bytes, Place::Packet(PacketType::Publish), Side::Client)
    }

    /// The bytes of the list, without its length.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Reads a list with its length.
    pub(crate) fn read(from: &mut Reader<'a>, place: Place, receiver: Side) -> Result<Self, Violation> {
        let length = from.varint()?;
        let bytes = from.bytes(length as usize)?;
        Self::checked(bytes, place, receiver)
    }

    fn checked(bytes: &'a [u8], place: Place, receiver: Side) -> Result<Self, Violation> {
        let mut rest = Reader::new(bytes);
        let mut seen = 0_u64;
        while !rest.is_empty() {
            let property = next(&mut rest)?;
            let id = property.id();
            if !id.is_in(place) {
                return Err(Violation::PropertyNotAllowed(id));
            }
            let bit = 1 << id.number();
            if seen & bit != 0 && !id.is_repeatable(place) {
                return Err(Violation::RepeatedProperty(id));
            }
            seen |= bit;
            check_value(&property, place, receiver)?;
        }
        let has = |id: PropertyId| seen & 1 << id.number() != 0;
        if has(PropertyId::AuthenticationData) && !has(PropertyId::AuthenticationMethod) {
            return Err(Violation::NoAuthenticationMethod);
        }
        Ok(Self { bytes })
    }

    /// Appends the list with its length.
    pub(crate) fn write(&self, place: Place, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        debug_assert!(self.iter().all(|property| property.id().is_in(place)), "{self:?} in {place:?}");
        write::varint(write::checked(self.bytes.len())?, out);
        out.extend_from_slice(self.bytes);
        Ok(())
    }
}

fn next<'a>(from: &mut Reader<'a>) -> Result<Property<'a>, Violation> {
    let number = from.varint()?;
    let id = PropertyId::from_number(number).ok_or(Violation::UnknownProperty(number))?;
    Property::read(id, from)
}

/// Rules about values that depend on the packet or on its sender.
fn check_value(property: &Property<'_>, place: Place, receiver: Side) -> Result<(), Violation> {
    match (property, place, receiver) {
        (Property::ResponseTopic(topic), ..) if topic.is_empty() || topic.contains(['+', '#']) => {
            Err(Violation::ResponseTopic)
        }
        (Property::SubscriptionIdentifier(_), Place::Packet(PacketType::Publish), Side::Server) => {
            Err(Violation::SubscriptionIdentifier)
        }
        (Property::SessionExpiryInterval(_), Place::Packet(PacketType::Disconnect), Side::Client) => {
            Err(Violation::SessionExpiryInterval)
        }
        _ => Ok(()),
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A buffer of properties for a packet to encode.
#[derive(Clone, Debug, Default)]
pub struct PropertiesBuf {
    bytes: Vec<u8>,
}

impl PropertiesBuf {
    /// Adds a property. The caller adds only properties of the packet it encodes.
    ///
    /// # Errors
    /// [`EncodeError`] when a text or its bytes cannot be encoded; the property is not added then.
    pub fn push(&mut self, property: Property<'_>) -> Result<(), EncodeError> {
        let length = self.bytes.len();
        property.write(&mut self.bytes).inspect_err(|_| self.bytes.truncate(length))
    }

    /// Adds all properties of a list.
    pub fn extend(&mut self, properties: &Properties<'_>) {
        self.bytes.extend_from_slice(properties.bytes);
    }

    /// Removes all properties and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The list.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { bytes: &self.bytes }
    }
}
