//! Random packets: every type, with every property that it may have.

use std::num::{NonZeroU16, NonZeroU32};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tidings_mqtt::{
    Ack, Auth, ConnAck, Connect, Decoder, Disconnect, Packet, PacketId, PacketType, Properties,
    PropertiesBuf, Property, PropertyId, Publish, Qos, QosAndId, ReasonCode, ReasonCodes, RetainHandling,
    Sensitive, Side, SubAck, Subscribe, Subscription, SubscriptionOptions, SubscriptionsBuf, TopicFiltersBuf,
    UnsubAck, Unsubscribe, Version, Will,
};

/// A packet that owns its contents.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) version: Version,
    /// The side that receives it.
    pub(crate) receiver: Side,
    packet_type: PacketType,
    packet_id: PacketId,
    qos: Qos,
    flags: [bool; 6],
    number: u16,
    topic: String,
    texts: [String; 2],
    payload: Vec<u8>,
    reason: ReasonCode,
    reasons: Vec<u8>,
    properties: PropertiesBuf,
    will_properties: PropertiesBuf,
    subscriptions: SubscriptionsBuf,
    filters: TopicFiltersBuf,
}

impl Sample {
    /// The decoder that receives the packet.
    pub(crate) fn decoder(&self) -> Decoder {
        let version = (self.packet_type != PacketType::Connect).then_some(self.version);
        Decoder { side: self.receiver, version, max_packet: 1 << 20 }
    }

    /// The bytes of the packet.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.packet().encode(self.version, &mut bytes).expect("a packet within the limits");
        bytes
    }

    fn properties(&self) -> Properties<'_> {
        if self.version == Version::V3 { Properties::NONE } else { self.properties.as_properties() }
    }

    pub(crate) fn packet(&self) -> Packet<'_> {
        let (packet_id, reason, properties) = (self.packet_id, self.reason, self.properties());
        let is_v3 = self.version == Version::V3;
        let ack = Ack { packet_id, reason: if is_v3 { ReasonCode::Success } else { reason }, properties };
        let [first, second, third, fourth, fifth, sixth] = self.flags;
        let reasons = ReasonCodes::from_numbers(&self.reasons).expect("codes");
        match self.packet_type {
            PacketType::Connect => {
                let will_properties =
                    if is_v3 { Properties::NONE } else { self.will_properties.as_properties() };
                let will = Will {
                    topic: &self.topic,
                    payload: &self.payload,
                    qos: self.qos,
                    retain: first,
                    properties: will_properties,
                };
                let user_name = third.then_some(&*self.texts[1]);
                let has_password = fourth && (user_name.is_some() || !is_v3);
                Packet::Connect(Connect {
                    version: self.version,
                    clean_start: second,
                    keep_alive: self.number,
                    client_id: &self.texts[0],
                    will: fifth.then_some(will),
                    user_name,
                    password: has_password.then_some(Sensitive(&self.payload)),
                    properties,
                })
            }
            PacketType::ConnAck => {
                let reason =
                    if is_v3 && reason.return_code().is_none() { ReasonCode::NotAuthorized } else { reason };
                // 3.1.1 has fewer return codes than reasons.
                let reason = reason
                    .return_code()
                    .filter(|_| is_v3)
                    .map_or(reason, |code| ReasonCode::from_return_code(code).expect("a return code"));
                Packet::ConnAck(ConnAck {
                    session_present: first && reason == ReasonCode::Success,
                    reason,
                    properties,
                })
            }
            PacketType::Publish => Packet::Publish(Publish {
                dup: first && self.qos != Qos::AtMostOnce,
                qos: QosAndId::new(self.qos, packet_id),
                retain: second,
                topic: if sixth && properties.get(PropertyId::TopicAlias).is_some() {
                    ""
                } else {
                    &self.topic
                },
                properties,
                payload: &self.payload,
            }),
            PacketType::PubAck => Packet::PubAck(ack),
            PacketType::PubRec => Packet::PubRec(ack),
            PacketType::PubRel => Packet::PubRel(ack),
            PacketType::PubComp => Packet::PubComp(ack),
            PacketType::Subscribe => {
                let subscriptions = self.subscriptions.as_subscriptions();
                Packet::Subscribe(Subscribe { packet_id, properties, subscriptions })
            }
            PacketType::SubAck => Packet::SubAck(SubAck { packet_id, properties, reasons }),
            PacketType::Unsubscribe => {
                Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters: self.filters.as_filters() })
            }
            PacketType::UnsubAck => {
                let reasons = if is_v3 { ReasonCodes::NONE } else { reasons };
                Packet::UnsubAck(UnsubAck { packet_id, properties, reasons })
            }
            PacketType::PingReq => Packet::PingReq,
            PacketType::PingResp => Packet::PingResp,
            PacketType::Disconnect => Packet::Disconnect(Disconnect { reason: ack.reason, properties }),
            PacketType::Auth => {
                let is_short = properties.get(PropertyId::AuthenticationMethod).is_none();
                let reason = if is_short { ReasonCode::Success } else { reason };
                Packet::Auth(Auth {
                    reason,
                    properties: if is_short { Properties::NONE } else { properties },
                })
            }
        }
    }
}

/// Any packet of a version that has it.
pub(crate) fn any_packet() -> impl Strategy<Value = Sample> {
    let versions = select(vec![Version::V3, Version::V5]);
    (versions, select(PacketType::ALL.to_vec()), any::<bool>())
        .prop_filter("3.1.1 has no AUTH", |(version, packet, _)| {
            *version == Version::V5 || *packet != PacketType::Auth
        })
        .prop_flat_map(|(version, packet, is_server)| sample(version, packet, is_server))
}

/// A packet of a type.
pub(crate) fn sample(
    version: Version,
    packet_type: PacketType,
    is_server: bool,
) -> impl Strategy<Value = Sample> {
    let receiver = match packet_type {
        PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq => {
            Side::Server
        }
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
            Side::Client
        }
        PacketType::Disconnect if version == Version::V3 => Side::Server,
        _ if is_server => Side::Server,
        _ => Side::Client,
    };
    let codes: Vec<_> = ReasonCode::ALL.into_iter().filter(|code| code.is_in(packet_type)).collect();
    let codes = if codes.is_empty() { vec![ReasonCode::Success] } else { codes };
    let codes_of_v3 = vec![
        ReasonCode::Success,
        ReasonCode::GrantedQos1,
        ReasonCode::GrantedQos2,
        ReasonCode::UnspecifiedError,
    ];
    let list = if version == Version::V3 { codes_of_v3 } else { codes.clone() };
    let number = prop_oneof![any::<u16>(), Just(0), Just(u16::MAX)];
    let fields = (packet_id(), qos(), any::<[bool; 6]>(), number, topic(), [text(), text()], payload());
    let lists = (
        select(codes),
        vec(select(list), 1..6),
        properties(move |id| id.is_in_packet(packet_type), Some((packet_type, receiver))),
        properties(PropertyId::is_in_will, None),
        vec((filter(), options(version)), 1..5),
    );
    (fields, lists).prop_map(move |(fields, lists)| {
        let (packet_id, qos, flags, number, topic, texts, payload) = fields;
        let (reason, reasons, properties, will_properties, filters) = lists;
        let (mut subscriptions, mut plain) = (SubscriptionsBuf::default(), TopicFiltersBuf::default());
        for (filter, options) in filters {
            let no_local = options.no_local && !filter.starts_with("$share/");
            let options = SubscriptionOptions { no_local, ..options };
            subscriptions.push(Subscription { filter: &filter, options }).expect("a short filter");
            plain.push(&filter).expect("a short filter");
        }
        let reasons = reasons.iter().map(|code| code.number()).collect();
        Sample {
            version,
            receiver,
            packet_type,
            packet_id,
            qos,
            flags,
            number,
            topic,
            texts,
            payload,
            reason,
            reasons,
            properties,
            will_properties,
            subscriptions,
            filters: plain,
        }
    })
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    prop_oneof![1..=u16::MAX, Just(1), Just(u16::MAX)].prop_map(|id| PacketId::new(id).expect("not 0"))
}

fn qos() -> impl Strategy<Value = Qos> {
    select(Qos::ALL.to_vec())
}

fn options(version: Version) -> impl Strategy<Value = SubscriptionOptions> {
    let handling = vec![RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    (qos(), any::<bool>(), any::<bool>(), select(handling)).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling)| match version {
            Version::V3 => SubscriptionOptions::new(qos),
            Version::V5 => SubscriptionOptions { qos, no_local, retain_as_published, retain_handling },
        },
    )
}

/// Any text that a string can have, such as U+FEFF and characters of four bytes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9 é☕\u{feff}\u{10ffff}/$]{0,12}", "[a-z]{120,300}"]
}

fn topic() -> impl Strategy<Value = String> {
    "[a-cé☕/$ ]{1,12}"
}

fn filter() -> impl Strategy<Value = String> {
    "(\\$share/[a-c]/)?([a-c]{0,2}/|\\+/){0,4}(#|\\+|[a-z]{1,3})"
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 100..300), 1 => vec(any::<u8>(), 16_370..16_400)]
}

/// Properties that are allowed together; of a will if there is no packet.
fn properties(
    is_allowed: impl Fn(PropertyId) -> bool,
    packet: Option<(PacketType, Side)>,
) -> impl Strategy<Value = PropertiesBuf> {
    let is_sent = |id| match (id, packet) {
        (PropertyId::SubscriptionIdentifier, Some((PacketType::Publish, side))) => side == Side::Client,
        (PropertyId::SessionExpiryInterval, Some((PacketType::Disconnect, side))) => side == Side::Server,
        _ => true,
    };
    let ids: Vec<_> = PropertyId::ALL.into_iter().filter(|id| is_allowed(*id) && is_sent(*id)).collect();
    let is_publish = matches!(packet, Some((PacketType::Publish, _)));
    let values = (any::<bool>(), any::<u32>(), topic(), text(), vec(any::<u8>(), 0..8));
    vec((any::<Index>(), values), 0..8).prop_map(move |chosen| {
        let (mut seen, mut out) = (Vec::new(), PropertiesBuf::default());
        for (index, values) in chosen {
            if ids.is_empty() {
                break;
            }
            let id = *index.get(&ids);
            let is_repeatable =
                id == PropertyId::UserProperty || (is_publish && id == PropertyId::SubscriptionIdentifier);
            if !is_repeatable && seen.contains(&id) {
                continue;
            }
            if id == PropertyId::AuthenticationData && !seen.contains(&PropertyId::AuthenticationMethod) {
                continue;
            }
            seen.push(id);
            out.push(value(id, &values)).expect("a short value");
        }
        out
    })
}

type Values = (bool, u32, String, String, Vec<u8>);

/// A property with one of these values.
fn value<'a>(id: PropertyId, (flag, number, topic, text, bytes): &'a Values) -> Property<'a> {
    let (flag, number) = (*flag, *number);
    let short = NonZeroU16::new(number as u16).unwrap_or(NonZeroU16::MIN);
    match id {
        PropertyId::PayloadFormatIndicator => Property::PayloadFormatIndicator(flag),
        PropertyId::MessageExpiryInterval => Property::MessageExpiryInterval(number),
        PropertyId::ContentType => Property::ContentType(text),
        PropertyId::ResponseTopic => Property::ResponseTopic(topic),
        PropertyId::CorrelationData => Property::CorrelationData(bytes),
        PropertyId::SubscriptionIdentifier => Property::SubscriptionIdentifier((number >> 4).max(1)),
        PropertyId::SessionExpiryInterval => Property::SessionExpiryInterval(number),
        PropertyId::AssignedClientIdentifier => Property::AssignedClientIdentifier(text),
        PropertyId::ServerKeepAlive => Property::ServerKeepAlive(number as u16),
        PropertyId::AuthenticationMethod => Property::AuthenticationMethod(text),
        PropertyId::AuthenticationData => Property::AuthenticationData(Sensitive(bytes)),
        PropertyId::RequestProblemInformation => Property::RequestProblemInformation(flag),
        PropertyId::WillDelayInterval => Property::WillDelayInterval(number),
        PropertyId::RequestResponseInformation => Property::RequestResponseInformation(flag),
        PropertyId::ResponseInformation => Property::ResponseInformation(text),
        PropertyId::ServerReference => Property::ServerReference(text),
        PropertyId::ReasonString => Property::ReasonString(text),
        PropertyId::ReceiveMaximum => Property::ReceiveMaximum(short),
        PropertyId::TopicAliasMaximum => Property::TopicAliasMaximum(number as u16),
        PropertyId::TopicAlias => Property::TopicAlias(short),
        PropertyId::MaximumQos => Property::MaximumQos(flag),
        PropertyId::RetainAvailable => Property::RetainAvailable(flag),
        PropertyId::UserProperty => Property::UserProperty(topic, text),
        PropertyId::MaximumPacketSize => {
            Property::MaximumPacketSize(NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX))
        }
        PropertyId::WildcardSubscriptionAvailable => Property::WildcardSubscriptionAvailable(flag),
        PropertyId::SubscriptionIdentifiersAvailable => Property::SubscriptionIdentifiersAvailable(flag),
        PropertyId::SharedSubscriptionAvailable => Property::SharedSubscriptionAvailable(flag),
    }
}
