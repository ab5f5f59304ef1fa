//! Reason codes (MQTT 5.0 §2.4), and which packet types have them.

use crate::types::{PacketType, Qos};

/// The result of an operation. Codes from 0x80 are errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ReasonCode {
    /// The request succeeded; also QoS 0 in `SUBACK`, and a normal end in `DISCONNECT`.
    Success = 0x00,
    /// A subscription with QoS 1.
    GrantedQos1 = 0x01,
    /// A subscription with QoS 2.
    GrantedQos2 = 0x02,
    /// The server is to publish the will.
    DisconnectWithWill = 0x04,
    /// The message has no subscribers.
    NoMatchingSubscribers = 0x10,
    /// No subscription had the filter.
    NoSubscriptionExisted = 0x11,
    /// A further step of an authentication.
    ContinueAuthentication = 0x18,
    /// The beginning of an authentication on an open connection.
    Reauthenticate = 0x19,
    /// An error without a more precise code.
    UnspecifiedError = 0x80,
    /// A packet that cannot be parsed.
    MalformedPacket = 0x81,
    /// A packet that the protocol does not allow, or not at this time.
    ProtocolError = 0x82,
    /// A packet that this implementation does not accept.
    ImplementationSpecificError = 0x83,
    /// The server does not support the version.
    UnsupportedProtocolVersion = 0x84,
    /// The server does not accept the client identifier.
    ClientIdentifierNotValid = 0x85,
    /// The server does not accept the user name or the password.
    BadUserNameOrPassword = 0x86,
    /// The client has no permission.
    NotAuthorized = 0x87,
    /// The server is not available.
    ServerUnavailable = 0x88,
    /// The server is busy; a later attempt may succeed.
    ServerBusy = 0x89,
    /// The client is blocked.
    Banned = 0x8A,
    /// The server shuts down.
    ServerShuttingDown = 0x8B,
    /// The server does not support the authentication method.
    BadAuthenticationMethod = 0x8C,
    /// No packet for 1.5 times the keep-alive time.
    KeepAliveTimeout = 0x8D,
    /// Another connection has the same client identifier.
    SessionTakenOver = 0x8E,
    /// The server does not accept the topic filter.
    TopicFilterInvalid = 0x8F,
    /// The receiver does not accept the topic name.
    TopicNameInvalid = 0x90,
    /// The packet identifier is in use.
    PacketIdentifierInUse = 0x91,
    /// The packet identifier is not in use.
    PacketIdentifierNotFound = 0x92,
    /// More unacknowledged messages than the receiver accepts.
    ReceiveMaximumExceeded = 0x93,
    /// A topic alias of 0, or above the maximum of the receiver.
    TopicAliasInvalid = 0x94,
    /// A packet above the maximum of the receiver.
    PacketTooLarge = 0x95,
    /// Too many messages per second.
    MessageRateTooHigh = 0x96,
    /// A limit of the implementation or of an administrator.
    QuotaExceeded = 0x97,
    /// An administrator closed the connection.
    AdministrativeAction = 0x98,
    /// The payload does not have the format that its property states.
    PayloadFormatInvalid = 0x99,
    /// The server does not support retained messages.
    RetainNotSupported = 0x9A,
    /// The server does not support the quality of service.
    QosNotSupported = 0x9B,
    /// The client should use another server for now.
    UseAnotherServer = 0x9C,
    /// The client should use another server from now on.
    ServerMoved = 0x9D,
    /// The server does not support shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9E,
    /// Too many connections per second.
    ConnectionRateExceeded = 0x9F,
    /// The longest time of a connection has passed.
    MaximumConnectTime = 0xA0,
    /// The server does not support subscription identifiers.
    SubscriptionIdentifiersNotSupported = 0xA1,
    /// The server does not support wildcards in subscriptions.
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 43] = [
        Self::Success,
        Self::GrantedQos1,
        Self::GrantedQos2,
        Self::DisconnectWithWill,
        Self::NoMatchingSubscribers,
        Self::NoSubscriptionExisted,
        Self::ContinueAuthentication,
        Self::Reauthenticate,
        Self::UnspecifiedError,
        Self::MalformedPacket,
        Self::ProtocolError,
        Self::ImplementationSpecificError,
        Self::UnsupportedProtocolVersion,
        Self::ClientIdentifierNotValid,
        Self::BadUserNameOrPassword,
        Self::NotAuthorized,
        Self::ServerUnavailable,
        Self::ServerBusy,
        Self::Banned,
        Self::ServerShuttingDown,
        Self::BadAuthenticationMethod,
        Self::KeepAliveTimeout,
        Self::SessionTakenOver,
        Self::TopicFilterInvalid,
        Self::TopicNameInvalid,
        Self::PacketIdentifierInUse,
        Self::PacketIdentifierNotFound,
        Self::ReceiveMaximumExceeded,
        Self::TopicAliasInvalid,
        Self::PacketTooLarge,
        Self::MessageRateTooHigh,
        Self::QuotaExceeded,
        Self::AdministrativeAction,
        Self::PayloadFormatInvalid,
        Self::RetainNotSupported,
        Self::QosNotSupported,
        Self::UseAnotherServer,
        Self::ServerMoved,
        Self::SharedSubscriptionsNotSupported,
        Self::ConnectionRateExceeded,
        Self::MaximumConnectTime,
        Self::SubscriptionIdentifiersNotSupported,
        Self::WildcardSubscriptionsNotSupported,
    ];

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code of a number, if it exists.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.binary_search_by_key(&number, |code| code.number()).ok().map(|at| Self::ALL[at])
    }

    /// Whether it is an error.
    pub const fn is_error(self) -> bool {
        self.number() >= 0x80
    }

    /// The code that grants a subscription.
    pub const fn granted(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => Self::Success,
            Qos::AtLeastOnce => Self::GrantedQos1,
            Qos::ExactlyOnce => Self::GrantedQos2,
        }
    }

    /// Whether packets of a type have this code (the tables of 5.0 §3).
    pub const fn is_in(self, packet: PacketType) -> bool {
        use PacketType::{Auth, ConnAck, Disconnect, PubAck, PubComp, PubRec, PubRel, SubAck, UnsubAck};
        match self {
            Self::Success => matches!(
                packet,
                ConnAck | PubAck | PubRec | PubRel | PubComp | SubAck | UnsubAck | Disconnect | Auth
            ),
            Self::GrantedQos1 | Self::GrantedQos2 => matches!(packet, SubAck),
            Self::DisconnectWithWill
            | Self::ServerShuttingDown
            | Self::KeepAliveTimeout
            | Self::SessionTakenOver
            | Self::ReceiveMaximumExceeded
            | Self::TopicAliasInvalid
            | Self::MessageRateTooHigh
            | Self::AdministrativeAction
            | Self::MaximumConnectTime => matches!(packet, Disconnect),
            Self::NoMatchingSubscribers => matches!(packet, PubAck | PubRec),
            Self::NoSubscriptionExisted => matches!(packet, UnsubAck),
            Self::ContinueAuthentication | Self::Reauthenticate => matches!(packet, Auth),
            Self::UnspecifiedError | Self::ImplementationSpecificError | Self::NotAuthorized => {
                matches!(packet, ConnAck | PubAck | PubRec | SubAck | UnsubAck | Disconnect)
            }
            Self::MalformedPacket
            | Self::ProtocolError
            | Self::ServerBusy
            | Self::BadAuthenticationMethod
            | Self::PacketTooLarge
            | Self::RetainNotSupported
            | Self::QosNotSupported
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::ConnectionRateExceeded => matches!(packet, ConnAck | Disconnect),
            Self::UnsupportedProtocolVersion
            | Self::ClientIdentifierNotValid
            | Self::BadUserNameOrPassword
            | Self::ServerUnavailable
            | Self::Banned => matches!(packet, ConnAck),
            Self::TopicFilterInvalid => matches!(packet, SubAck | UnsubAck | Disconnect),
            Self::TopicNameInvalid | Self::PayloadFormatInvalid => {
                matches!(packet, ConnAck | PubAck | PubRec | Disconnect)
            }
            Self::PacketIdentifierInUse => matches!(packet, PubAck | PubRec | SubAck | UnsubAck),
            Self::PacketIdentifierNotFound => matches!(packet, PubRel | PubComp),
            Self::QuotaExceeded => matches!(packet, ConnAck | PubAck | PubRec | SubAck | Disconnect),
            Self::SharedSubscriptionsNotSupported
            | Self::SubscriptionIdentifiersNotSupported
            | Self::WildcardSubscriptionsNotSupported => matches!(packet, SubAck | Disconnect),
        }
    }

    /// The return code of `CONNACK` in 3.1.1 (§3.2.2.3); `None` if none fits.
    pub const fn return_code(self) -> Option<u8> {
        Some(match self {
            Self::Success => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::ServerUnavailable | Self::ServerBusy => 3,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized | Self::Banned => 5,
            _ => return None,
        })
    }

    /// The reason code of a return code of `CONNACK` in 3.1.1.
    pub const fn from_return_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Success,
            1 => Self::UnsupportedProtocolVersion,
            2 => Self::ClientIdentifierNotValid,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number_and_belongs_to_a_packet() {
        assert!(ReasonCode::ALL.is_sorted());
        let found = (0..=u8::MAX).filter_map(ReasonCode::from_number);
        assert!(found.eq(ReasonCode::ALL));
        for code in ReasonCode::ALL {
            assert!(PacketType::ALL.into_iter().any(|packet| code.is_in(packet)), "{code:?}");
        }
    }

    #[test]
    fn every_return_code_of_3_1_1_round_trips() {
        for code in 0..6 {
            assert_eq!(ReasonCode::from_return_code(code).and_then(ReasonCode::return_code), Some(code));
        }
        assert_eq!(ReasonCode::from_return_code(6), None);
        assert_eq!(ReasonCode::QuotaExceeded.return_code(), None);
    }
}
