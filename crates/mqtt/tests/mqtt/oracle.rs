//! Against another implementation, `mqtt-proto`: it reads what this codec writes, this codec reads what it writes, and both
//! accept and refuse the same packets, except where the test says which of them is right.

use mqtt_proto::{v3, v5};
use proptest::prelude::*;
use tidings_mqtt::{
    Decoded, Decoder, Packet, PacketType, Properties, Property, PropertyId, ReasonCode, Side, Version,
    Violation,
};

use crate::samples::any_packet;

/// What the other implementation does with the bytes of one packet: its own encoding of the packet, or its error.
fn other(version: Version, bytes: &[u8]) -> Result<Vec<u8>, String> {
    match version {
        Version::V3 => match v3::Packet::decode(bytes) {
            Ok(Some(packet)) => Ok(packet.encode().expect("was read").as_ref().to_vec()),
            Ok(None) => Err("incomplete".to_owned()),
            Err(error) => Err(format!("{error:?}")),
        },
        Version::V5 => match v5::Packet::decode(bytes) {
            Ok(Some(packet)) => Ok(packet.encode().expect("was read").as_ref().to_vec()),
            Ok(None) => Err("incomplete".to_owned()),
            Err(error) => Err(format!("{error:?}")),
        },
    }
}

/// The fields of a packet as text. The other implementation writes properties in an order of its own, so they are sorted,
/// but not among those with the same identifier.
fn fields(packet: &Packet<'_>) -> String {
    let mut text = format!("{packet:?}");
    let mut lists = Vec::new();
    match packet {
        Packet::Connect(connect) => {
            lists.push(connect.properties);
            lists.extend(connect.will.as_ref().map(|will| will.properties));
        }
        Packet::ConnAck(packet) => lists.push(packet.properties),
        Packet::Publish(packet) => lists.push(packet.properties),
        Packet::PubAck(packet)
        | Packet::PubRec(packet)
        | Packet::PubRel(packet)
        | Packet::PubComp(packet) => {
            lists.push(packet.properties);
        }
        Packet::Subscribe(packet) => lists.push(packet.properties),
        Packet::SubAck(packet) => lists.push(packet.properties),
        Packet::Unsubscribe(packet) => lists.push(packet.properties),
        Packet::UnsubAck(packet) => lists.push(packet.properties),
        Packet::Disconnect(packet) => lists.push(packet.properties),
        Packet::Auth(packet) => lists.push(packet.properties),
        Packet::PingReq | Packet::PingResp => {}
    }
    for list in lists {
        let mut sorted: Vec<_> = list.iter().collect();
        sorted.sort_by_key(Property::id);
        text = text.replacen(&format!("{list:?}"), &format!("{sorted:?}"), 1);
    }
    text
}

fn decoded(decoder: &Decoder, bytes: &[u8]) -> Option<String> {
    match decoder.decode(bytes) {
        Ok(Decoded::Packet(packet, used)) if used == bytes.len() => Some(fields(&packet)),
        _ => None,
    }
}

/// Whether the other implementation, in version 0.4.0, is stricter than the specification about a packet, or wrong.
fn is_beyond(packet: &Packet<'_>, version: Version) -> bool {
    let is_text = |properties: &Properties<'_>, payload: &[u8]| {
        let format = properties.get(PropertyId::PayloadFormatIndicator);
        format != Some(Property::PayloadFormatIndicator(true)) || std::str::from_utf8(payload).is_ok()
    };
    match packet {
        // A receiver may check the format of a payload (5.0 §3.3.2.3.2): it always does.
        Packet::Connect(connect) => {
            connect.will.as_ref().is_some_and(|will| !is_text(&will.properties, will.payload))
        }
        // A server sends the identifier of each subscription that matches (5.0 §3.3.2.3.8): it accepts one.
        Packet::Publish(publish) => {
            let is_id = |property: &Property<'_>| property.id() == PropertyId::SubscriptionIdentifier;
            publish.properties.iter().filter(is_id).count() > 1
                || !is_text(&publish.properties, publish.payload)
        }
        // The table of reason codes (5.0 §2.4) has this code in DISCONNECT; that of §3.14.2.1, which it follows, does not.
        Packet::Disconnect(packet) => packet.reason == ReasonCode::BadAuthenticationMethod,
        // It writes the return code 3 in place of 0x80.
        Packet::SubAck(suback) => version == Version::V3 && suback.reasons.iter().any(ReasonCode::is_error),
        _ => false,
    }
}

/// Rules that the other implementation does not check. It knows no side and no order of packets, and reads fields beyond the end
/// of a packet.
fn is_stricter(violation: Violation) -> bool {
    matches!(
        violation,
        Violation::Direction
            | Violation::NotConnect
            | Violation::SecondConnect
            | Violation::TooLarge { .. }
            | Violation::Truncated
            | Violation::Trailing
            | Violation::Nul
            | Violation::LengthNotShortest
            | Violation::QosWithoutWill
            | Violation::RetainWithoutWill
            | Violation::PasswordWithoutUserName
            | Violation::DupWithoutQos
            | Violation::EmptyTopic
            | Violation::ResponseTopic
            | Violation::NoLocalShared
            | Violation::SessionPresent
            | Violation::NoReasonCode
            | Violation::SubscriptionIdentifier
            | Violation::SessionExpiryInterval
            | Violation::NoAuthenticationMethod
            | Violation::PropertyValue(_)
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_other_implementation_reads_and_writes_the_same_packets(sample in any_packet()) {
        let bytes = sample.encoded();
        prop_assume!(!is_beyond(&sample.packet(), sample.version));
        let theirs = other(sample.version, &bytes);
        prop_assert!(theirs.is_ok(), "{:?} for {:?}", theirs, sample.packet());
        let again = decoded(&sample.decoder(), &theirs.unwrap());
        prop_assert_eq!(again, Some(fields(&sample.packet())));
    }

    #[test]
    fn both_accept_and_refuse_the_same_changed_packets(
        sample in any_packet(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = sample.encoded();
        let at = at.index(bytes.len().min(60));
        bytes[at] = byte;
        let decoder = sample.decoder();
        let theirs = other(sample.version, &bytes);
        match (decoder.decode(&bytes), theirs) {
            (Ok(Decoded::Packet(packet, used)), Ok(theirs)) if used == bytes.len() => {
                if !is_beyond(&packet, sample.version) {
                    prop_assert_eq!(Some(fields(&packet)), decoded(&decoder, &theirs));
                }
            }
            (Ok(Decoded::Packet(packet, used)), Err(error)) if used == bytes.len() => {
                // Filters are checked by the session.
                let is_filter = error.contains("InvalidTopicFilter");
                prop_assert!(is_filter || is_beyond(&packet, sample.version), "{}: {:?}", error, packet);
            }
            (Err(error), Ok(_)) => prop_assert!(is_stricter(error.violation), "{}", error),
            (Ok(_), _) | (Err(_), Err(_)) => {}
        }
    }
}

/// A packet of a type with a list of properties.
fn with_properties(packet: PacketType, properties: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let list = [&[properties.len() as u8][..], properties].concat();
    let mut add = |bytes: &[u8]| body.extend_from_slice(bytes);
    match packet {
        PacketType::Connect => {
            add(b"\0\x04MQTT\x05\x02\0\x0A");
            add(&list);
            add(b"\0\x01a");
        }
        PacketType::ConnAck => {
            add(b"\0\0");
            add(&list);
        }
        PacketType::Publish => {
            add(b"\0\x01a");
            add(&list);
        }
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
            add(b"\0\x01\0");
            add(&list);
        }
        PacketType::Subscribe => {
            add(b"\0\x01");
            add(&list);
            add(b"\0\x01a\0");
        }
        PacketType::Unsubscribe => {
            add(b"\0\x01");
            add(&list);
            add(b"\0\x01a");
        }
        PacketType::SubAck | PacketType::UnsubAck => {
            add(b"\0\x01");
            add(&list);
            add(b"\0");
        }
        PacketType::Disconnect | PacketType::Auth => {
            add(b"\0");
            add(&list);
        }
        PacketType::PingReq | PacketType::PingResp => unreachable!("a packet without a body"),
    }
    framed(packet, &body)
}

fn framed(packet: PacketType, body: &[u8]) -> Vec<u8> {
    let flags = matches!(packet, PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe);
    [&[(packet as u8) << 4 | if flags { 2 } else { 0 }, body.len() as u8][..], body].concat()
}

/// A property with a value.
fn property(id: PropertyId) -> Vec<u8> {
    let value: &[u8] = match id {
        PropertyId::PayloadFormatIndicator
        | PropertyId::RequestProblemInformation
        | PropertyId::RequestResponseInformation
        | PropertyId::MaximumQos
        | PropertyId::RetainAvailable
        | PropertyId::WildcardSubscriptionAvailable
        | PropertyId::SubscriptionIdentifiersAvailable
        | PropertyId::SharedSubscriptionAvailable
        | PropertyId::SubscriptionIdentifier => b"\x01",
        PropertyId::MessageExpiryInterval
        | PropertyId::SessionExpiryInterval
        | PropertyId::WillDelayInterval
        | PropertyId::MaximumPacketSize => b"\0\0\0\x07",
        PropertyId::ServerKeepAlive
        | PropertyId::ReceiveMaximum
        | PropertyId::TopicAliasMaximum
        | PropertyId::TopicAlias => b"\0\x07",
        PropertyId::UserProperty => b"\0\x01a\0\x01b",
        PropertyId::ContentType
        | PropertyId::ResponseTopic
        | PropertyId::CorrelationData
        | PropertyId::AssignedClientIdentifier
        | PropertyId::AuthenticationMethod
        | PropertyId::AuthenticationData
        | PropertyId::ResponseInformation
        | PropertyId::ServerReference
        | PropertyId::ReasonString => b"\0\x01t",
    };
    [&[id as u8], value].concat()
}

/// A decoder for a packet of 5.0: that of a client, if clients receive packets of the type.
fn decoder(packet: PacketType) -> Decoder {
    let is_request = matches!(
        packet,
        PacketType::Connect
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::PingReq
            // A session expiry interval comes from a client.
            | PacketType::Disconnect
    );
    let side = if is_request { Side::Server } else { Side::Client };
    let version = (packet != PacketType::Connect).then_some(Version::V5);
    Decoder { side, version, max_packet: 1000 }
}

#[test]
fn both_implementations_have_the_same_properties_in_each_packet() {
    let method = property(PropertyId::AuthenticationMethod);
    // It ignores a body of packets that have none.
    let has_body = |packet: &PacketType| !matches!(packet, PacketType::PingReq | PacketType::PingResp);
    for packet in PacketType::ALL.into_iter().filter(has_body) {
        for id in PropertyId::ALL {
            let needs_method = packet == PacketType::Auth || id == PropertyId::AuthenticationData;
            let before =
                if needs_method && id != PropertyId::AuthenticationMethod { &method[..] } else { &[] };
            for count in [1, 2] {
                let bytes = with_properties(packet, &[before, &property(id).repeat(count)].concat());
                let (ours, theirs) = (decoded(&decoder(packet), &bytes), other(Version::V5, &bytes));
                // It accepts one identifier in `PUBLISH`; see `is_beyond`.
                let is_ours =
                    count == 2 && id == PropertyId::SubscriptionIdentifier && packet == PacketType::Publish;
                assert_eq!(
                    ours.is_some(),
                    theirs.is_ok() || is_ours,
                    "{count} {id:?} in {packet:?}: {theirs:?}"
                );
                assert_eq!(
                    ours.is_some() && count == 1,
                    id.is_in_packet(packet) && count == 1,
                    "{id:?} in {packet:?}"
                );
            }
        }
    }
}

#[test]
fn both_implementations_have_the_same_reason_codes_in_each_packet() {
    for packet in PacketType::ALL {
        for code in 0..=u8::MAX {
            let body: &[u8] = match packet {
                PacketType::ConnAck => &[0, code, 0],
                PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
                    &[0, 1, code]
                }
                PacketType::SubAck | PacketType::UnsubAck => &[0, 1, 0, code],
                PacketType::Disconnect => &[code],
                PacketType::Auth => &[code, 4, 0x15, 0, 1, b't'],
                _ => continue,
            };
            let bytes = framed(packet, body);
            let (ours, theirs) = (decoded(&decoder(packet), &bytes), other(Version::V5, &bytes));
            // See `is_beyond`.
            let is_ours =
                packet == PacketType::Disconnect && code == ReasonCode::BadAuthenticationMethod.number();
            assert_eq!(ours.is_some(), theirs.is_ok() || is_ours, "{code:#x} in {packet:?}");
        }
    }
}
