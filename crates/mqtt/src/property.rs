//! The properties of MQTT 5.0 (§2.2.2.2) with their values.

use std::num::{NonZeroU16, NonZeroU32};

use crate::error::{EncodeError, Violation};
use crate::property_id::PropertyId;
use crate::read::Reader;
use crate::types::{MAX_REMAINING_LENGTH, Sensitive};
use crate::write;

/// A property with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// Whether the payload is UTF-8.
    PayloadFormatIndicator(bool),
    /// The lifetime of the message in seconds.
    MessageExpiryInterval(u32),
    /// The kind of the payload, such as a MIME type.
    ContentType(&'a str),
    /// The topic name for an answer.
    ResponseTopic(&'a str),
    /// Identifies the request of an answer.
    CorrelationData(&'a [u8]),
    /// Identifies a subscription: 1 to 268,435,455.
    SubscriptionIdentifier(u32),
    /// Seconds for which a session outlives its connection; `u32::MAX` means for ever.
    SessionExpiryInterval(u32),
    /// The client identifier that the server assigned.
    AssignedClientIdentifier(&'a str),
    /// The keep-alive time in seconds that the client has to use.
    ServerKeepAlive(u16),
    /// The name of an authentication method.
    AuthenticationMethod(&'a str),
    /// Data of that method.
    AuthenticationData(Sensitive<'a>),
    /// Whether the client accepts reason strings and user properties with errors.
    RequestProblemInformation(bool),
    /// Seconds between the end of the connection and the will.
    WillDelayInterval(u32),
    /// Whether the client requests response information.
    RequestResponseInformation(bool),
    /// The basis of response topics.
    ResponseInformation(&'a str),
    /// Other servers to use.
    ServerReference(&'a str),
    /// An explanation of the reason code, for people.
    ReasonString(&'a str),
    /// The most unacknowledged messages of QoS 1 and 2 that the sender of this property accepts.
    ReceiveMaximum(NonZeroU16),
    /// The highest topic alias that the sender of this property accepts.
    TopicAliasMaximum(u16),
    /// A number in place of the topic name.
    TopicAlias(NonZeroU16),
    /// The highest QoS of the server, if that is not 2: 0 (`false`) or 1 (`true`).
    MaximumQos(bool),
    /// Whether the server supports retained messages.
    RetainAvailable(bool),
    /// A name and a value.
    UserProperty(&'a str, &'a str),
    /// The largest packet that the sender of this property accepts, in bytes.
    MaximumPacketSize(NonZeroU32),
    /// Whether the server supports wildcards in subscriptions.
    WildcardSubscriptionAvailable(bool),
    /// Whether the server supports subscription identifiers.
    SubscriptionIdentifiersAvailable(bool),
    /// Whether the server supports shared subscriptions.
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// Its identifier.
    pub const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(..) => PropertyId::PayloadFormatIndicator,
            Self::MessageExpiryInterval(..) => PropertyId::MessageExpiryInterval,
            Self::ContentType(..) => PropertyId::ContentType,
            Self::ResponseTopic(..) => PropertyId::ResponseTopic,
            Self::CorrelationData(..) => PropertyId::CorrelationData,
            Self::SubscriptionIdentifier(..) => PropertyId::SubscriptionIdentifier,
            Self::SessionExpiryInterval(..) => PropertyId::SessionExpiryInterval,
            Self::AssignedClientIdentifier(..) => PropertyId::AssignedClientIdentifier,
            Self::ServerKeepAlive(..) => PropertyId::ServerKeepAlive,
            Self::AuthenticationMethod(..) => PropertyId::AuthenticationMethod,
            Self::AuthenticationData(..) => PropertyId::AuthenticationData,
            Self::RequestProblemInformation(..) => PropertyId::RequestProblemInformation,
            Self::WillDelayInterval(..) => PropertyId::WillDelayInterval,
            Self::RequestResponseInformation(..) => PropertyId::RequestResponseInformation,
            Self::ResponseInformation(..) => PropertyId::ResponseInformation,
            Self::ServerReference(..) => PropertyId::ServerReference,
            Self::ReasonString(..) => PropertyId::ReasonString,
            Self::ReceiveMaximum(..) => PropertyId::ReceiveMaximum,
            Self::TopicAliasMaximum(..) => PropertyId::TopicAliasMaximum,
            Self::TopicAlias(..) => PropertyId::TopicAlias,
            Self::MaximumQos(..) => PropertyId::MaximumQos,
            Self::RetainAvailable(..) => PropertyId::RetainAvailable,
            Self::UserProperty(..) => PropertyId::UserProperty,
            Self::MaximumPacketSize(..) => PropertyId::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(..) => PropertyId::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifiersAvailable(..) => PropertyId::SubscriptionIdentifiersAvailable,
            Self::SharedSubscriptionAvailable(..) => PropertyId::SharedSubscriptionAvailable,
        }
    }

    /// Reads the value of a property.
    pub(crate) fn read(id: PropertyId, from: &mut Reader<'a>) -> Result<Self, Violation> {
        let wrong = Violation::PropertyValue(id);
        Ok(match id {
            PropertyId::PayloadFormatIndicator => Self::PayloadFormatIndicator(flag(id, from)?),
            PropertyId::MessageExpiryInterval => Self::MessageExpiryInterval(from.u32()?),
            PropertyId::ContentType => Self::ContentType(from.string()?),
            PropertyId::ResponseTopic => Self::ResponseTopic(from.string()?),
            PropertyId::CorrelationData => Self::CorrelationData(from.binary()?),
            PropertyId::SubscriptionIdentifier => Self::SubscriptionIdentifier(identifier(id, from)?),
            PropertyId::SessionExpiryInterval => Self::SessionExpiryInterval(from.u32()?),
            PropertyId::AssignedClientIdentifier => Self::AssignedClientIdentifier(from.string()?),
            PropertyId::ServerKeepAlive => Self::ServerKeepAlive(from.u16()?),
            PropertyId::AuthenticationMethod => Self::AuthenticationMethod(from.string()?),
            PropertyId::AuthenticationData => Self::AuthenticationData(Sensitive(from.binary()?)),
            PropertyId::RequestProblemInformation => Self::RequestProblemInformation(flag(id, from)?),
            PropertyId::WillDelayInterval => Self::WillDelayInterval(from.u32()?),
            PropertyId::RequestResponseInformation => Self::RequestResponseInformation(flag(id, from)?),
            PropertyId::ResponseInformation => Self::ResponseInformation(from.string()?),
            PropertyId::ServerReference => Self::ServerReference(from.string()?),
            PropertyId::ReasonString => Self::ReasonString(from.string()?),
            PropertyId::ReceiveMaximum => Self::ReceiveMaximum(NonZeroU16::new(from.u16()?).ok_or(wrong)?),
            PropertyId::TopicAliasMaximum => Self::TopicAliasMaximum(from.u16()?),
            PropertyId::TopicAlias => Self::TopicAlias(NonZeroU16::new(from.u16()?).ok_or(wrong)?),
            PropertyId::MaximumQos => Self::MaximumQos(flag(id, from)?),
            PropertyId::RetainAvailable => Self::RetainAvailable(flag(id, from)?),
            PropertyId::UserProperty => Self::UserProperty(from.string()?, from.string()?),
            PropertyId::MaximumPacketSize => {
                Self::MaximumPacketSize(NonZeroU32::new(from.u32()?).ok_or(wrong)?)
            }
            PropertyId::WildcardSubscriptionAvailable => Self::WildcardSubscriptionAvailable(flag(id, from)?),
            PropertyId::SubscriptionIdentifiersAvailable => {
                Self::SubscriptionIdentifiersAvailable(flag(id, from)?)
            }
            PropertyId::SharedSubscriptionAvailable => Self::SharedSubscriptionAvailable(flag(id, from)?),
        })
    }

    /// Appends the identifier and the value.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(self.id().number());
        match self {
            Self::PayloadFormatIndicator(flag)
            | Self::RequestProblemInformation(flag)
            | Self::RequestResponseInformation(flag)
            | Self::MaximumQos(flag)
            | Self::RetainAvailable(flag)
            | Self::WildcardSubscriptionAvailable(flag)
            | Self::SubscriptionIdentifiersAvailable(flag)
            | Self::SharedSubscriptionAvailable(flag) => out.push(u8::from(*flag)),
            Self::ServerKeepAlive(number) | Self::TopicAliasMaximum(number) => {
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::ReceiveMaximum(number) | Self::TopicAlias(number) => {
                out.extend_from_slice(&number.get().to_be_bytes());
            }
            Self::MessageExpiryInterval(number)
            | Self::SessionExpiryInterval(number)
            | Self::WillDelayInterval(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::MaximumPacketSize(number) => out.extend_from_slice(&number.get().to_be_bytes()),
            Self::SubscriptionIdentifier(number) => {
                write::varint((*number as usize).min(MAX_REMAINING_LENGTH), out);
            }
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => write::string(text, out)?,
            Self::CorrelationData(bytes) => write::binary(bytes, out)?,
            Self::AuthenticationData(bytes) => write::binary(bytes.0, out)?,
            Self::UserProperty(name, value) => {
                write::string(name, out)?;
                write::string(value, out)?;
            }
        }
        Ok(())
    }
}

fn flag(id: PropertyId, from: &mut Reader<'_>) -> Result<bool, Violation> {
    match from.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Violation::PropertyValue(id)),
    }
}

fn identifier(id: PropertyId, from: &mut Reader<'_>) -> Result<u32, Violation> {
    match from.varint()? {
        0 => Err(Violation::PropertyValue(id)),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authentication_data_is_not_shown() {
        let property = Property::AuthenticationData(Sensitive(b"secret"));
        assert_eq!(format!("{property:?}"), "AuthenticationData([6 bytes])");
    }
}
