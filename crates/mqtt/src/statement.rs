//! Which normative statement a violation breaks, in each version. Where the text has a rule without a number, the statement
//! about malformed packets and protocol violations in general is named.

use crate::error::Violation;
use crate::property_id::PropertyId;
use crate::types::{PacketType, Side};

/// The statement of MQTT 3.1.1.
pub(crate) const fn of_v3(violation: Violation, packet: Option<PacketType>) -> &'static str {
    match violation {
        Violation::Flags(_) => match packet {
            Some(PacketType::PubRel) => "MQTT-3.6.1-1",
            Some(PacketType::Subscribe) => "MQTT-3.8.1-1",
            Some(PacketType::Unsubscribe) => "MQTT-3.10.1-1",
            Some(PacketType::Disconnect) => "MQTT-3.14.1-1",
            _ => "MQTT-2.2.2-2",
        },
        Violation::TooLarge { .. } => "MQTT-4.8.0-2",
        Violation::NotConnect => "MQTT-3.1.0-1",
        Violation::SecondConnect => "MQTT-3.1.0-2",
        Violation::ProtocolName => "MQTT-3.1.2-1",
        Violation::ProtocolLevel(_) => "MQTT-3.1.2-2",
        Violation::ReservedConnectFlag => "MQTT-3.1.2-3",
        Violation::WillQos => "MQTT-3.1.2-14",
        Violation::QosWithoutWill => "MQTT-3.1.2-13",
        Violation::RetainWithoutWill => "MQTT-3.1.2-15",
        Violation::PasswordWithoutUserName => "MQTT-3.1.2-22",
        Violation::NotUtf8 => "MQTT-1.5.3-1",
        Violation::Nul => "MQTT-1.5.3-2",
        Violation::PacketIdZero => "MQTT-2.3.1-1",
        Violation::Qos => "MQTT-3.3.1-4",
        Violation::DupWithoutQos => "MQTT-3.3.1-2",
        Violation::EmptyTopic => "MQTT-4.7.3-1",
        Violation::WildcardInTopic => match packet {
            Some(PacketType::Publish) => "MQTT-3.3.2-2",
            _ => "MQTT-4.7.1-1",
        },
        Violation::NoFilter => match packet {
            Some(PacketType::Unsubscribe) => "MQTT-3.10.3-2",
            _ => "MQTT-3.8.3-3",
        },
        Violation::SubscriptionOptions | Violation::SubscriptionQos => "MQTT-3.8.3-4",
        Violation::SessionPresent => "MQTT-3.2.2-4",
        Violation::ReasonCode(_) => match packet {
            Some(PacketType::ConnAck) => "MQTT-3.2.2-6",
            _ => "MQTT-3.9.3-2",
        },
        Violation::NoReasonCode => "MQTT-3.8.4-5",
        Violation::Truncated | Violation::Trailing if matches!(packet, Some(PacketType::Connect)) => {
            "MQTT-3.1.4-1"
        }
        _ => "MQTT-4.8.0-1",
    }
}

/// The statement of MQTT 5.0.
pub(crate) const fn of_v5(violation: Violation, packet: Option<PacketType>) -> &'static str {
    match violation {
        Violation::Flags(_) => match packet {
            Some(PacketType::PubRel) => "MQTT-3.6.1-1",
            Some(PacketType::Subscribe) => "MQTT-3.8.1-1",
            Some(PacketType::Unsubscribe) => "MQTT-3.10.1-1",
            Some(PacketType::Disconnect) => "MQTT-3.14.1-1",
            Some(PacketType::Auth) => "MQTT-3.15.1-1",
            _ => "MQTT-2.1.3-1",
        },
        Violation::LengthNotShortest => "MQTT-1.5.5-1",
        Violation::TooLarge { receiver: Side::Client, .. } => "MQTT-3.1.2-24",
        Violation::TooLarge { receiver: Side::Server, .. } => "MQTT-3.2.2-15",
        Violation::NotConnect => "MQTT-3.1.0-1",
        Violation::SecondConnect => "MQTT-3.1.0-2",
        Violation::ProtocolName => "MQTT-3.1.2-1",
        Violation::ProtocolLevel(_) => "MQTT-3.1.2-2",
        Violation::ReservedConnectFlag => "MQTT-3.1.2-3",
        Violation::WillQos => "MQTT-3.1.2-12",
        Violation::QosWithoutWill => "MQTT-3.1.2-11",
        Violation::RetainWithoutWill => "MQTT-3.1.2-13",
        Violation::NotUtf8 => "MQTT-1.5.4-1",
        Violation::Nul => "MQTT-1.5.4-2",
        Violation::PacketIdZero => "MQTT-2.2.1-3",
        Violation::Qos => "MQTT-3.3.1-4",
        Violation::DupWithoutQos => "MQTT-3.3.1-2",
        Violation::EmptyTopic => "MQTT-4.7.3-1",
        Violation::WildcardInTopic => match packet {
            Some(PacketType::Publish) => "MQTT-3.3.2-2",
            _ => "MQTT-4.7.0-1",
        },
        Violation::ResponseTopic => "MQTT-3.3.2-14",
        Violation::NoFilter => match packet {
            Some(PacketType::Unsubscribe) => "MQTT-3.10.3-2",
            _ => "MQTT-3.8.3-2",
        },
        Violation::SubscriptionOptions => "MQTT-3.8.3-5",
        Violation::NoLocalShared => "MQTT-3.8.3-4",
        Violation::ConnAckFlags => "MQTT-3.2.2-1",
        Violation::SessionPresent => "MQTT-3.2.2-6",
        Violation::ReasonCode(_) => match packet {
            Some(PacketType::ConnAck) => "MQTT-3.2.2-8",
            Some(PacketType::PubAck) => "MQTT-3.4.2-1",
            Some(PacketType::PubRec) => "MQTT-3.5.2-1",
            Some(PacketType::PubRel) => "MQTT-3.6.2-1",
            Some(PacketType::PubComp) => "MQTT-3.7.2-1",
            Some(PacketType::SubAck) => "MQTT-3.9.3-2",
            Some(PacketType::UnsubAck) => "MQTT-3.11.3-2",
            Some(PacketType::Disconnect) => "MQTT-3.14.2-1",
            _ => "MQTT-3.15.2-1",
        },
        Violation::NoReasonCode => match packet {
            Some(PacketType::UnsubAck) => "MQTT-3.11.3-2",
            _ => "MQTT-3.8.4-6",
        },
        Violation::PropertyValue(PropertyId::TopicAlias) => "MQTT-3.3.2-8",
        Violation::SubscriptionIdentifier => "MQTT-3.3.4-6",
        Violation::SessionExpiryInterval => "MQTT-3.14.2-2",
        Violation::NoAuthenticationMethod if matches!(packet, Some(PacketType::Auth)) => "MQTT-4.12.0-5",
        Violation::Truncated | Violation::Trailing if matches!(packet, Some(PacketType::Connect)) => {
            "MQTT-3.1.4-1"
        }
        _ => "MQTT-4.13.1-1",
    }
}
