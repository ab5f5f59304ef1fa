//! What is encoded decodes to the same packet, however it arrives.

use proptest::prelude::*;
use tidings_mqtt::{
    Ack, Decoded, Disconnect, EncodeError, Packet, PropertiesBuf, Property, ReasonCode, Version,
};

use crate::samples::any_packet;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_packet_decodes_to_itself(sample in any_packet(), behind in any::<[u8; 3]>()) {
        let (packet, decoder) = (sample.packet(), sample.decoder());
        let mut bytes = b"before".to_vec();
        packet.encode(sample.version, &mut bytes).unwrap();
        prop_assert!(bytes.starts_with(b"before"));
        let mut bytes = bytes.split_off(6);
        let size = bytes.len();
        if let Packet::Publish(publish) = &packet {
            prop_assert_eq!(publish.encoded_len(sample.version), size);
        }
        bytes.extend(behind);
        prop_assert_eq!(decoder.decode(&bytes), Ok(Decoded::Packet(packet, size)));
    }

    #[test]
    fn an_incomplete_packet_needs_its_exact_size_once_its_header_is_complete(sample in any_packet()) {
        let (bytes, decoder) = (sample.encoded(), sample.decoder());
        let header = 2 + bytes[1..].iter().take_while(|byte| **byte >= 0x80).count().min(3);
        for end in (0..bytes.len()).filter(|end| *end < 300 || *end + 10 > bytes.len()) {
            let Ok(Decoded::Partial { needed }) = decoder.decode(&bytes[..end]) else {
                return Err(TestCaseError::fail(format!("its first {end} bytes")));
            };
            prop_assert!(needed > end);
            if end >= header {
                prop_assert_eq!(needed, bytes.len());
            } else {
                prop_assert!(needed <= header.max(2));
            }
        }
    }

    #[test]
    fn a_packet_above_the_limit_is_refused_as_soon_as_its_header_is_complete(sample in any_packet()) {
        let bytes = sample.encoded();
        let mut decoder = sample.decoder();
        decoder.max_packet = bytes.len() - 1;
        let header = 2 + bytes[1..].iter().take_while(|byte| **byte >= 0x80).count();
        let error = decoder.decode(&bytes[..header]).unwrap_err();
        prop_assert_eq!(error.reason(), ReasonCode::PacketTooLarge);
        decoder.max_packet += 1;
        prop_assert!(decoder.decode(&bytes[..header]).is_ok());
    }

    #[test]
    fn a_packet_fits_the_limit_of_its_receiver_or_is_not_sent(sample in any_packet(), part in 0..=100_usize) {
        let (packet, whole) = (sample.packet(), sample.encoded());
        let limit = whole.len() * part / 100;
        let mut out = Vec::new();
        match packet.encode_within(limit, sample.version, &mut out) {
            Ok(()) => {
                prop_assert!(out.len() <= limit);
                let decoded = sample.decoder().decode(&out);
                prop_assert!(matches!(decoded, Ok(Decoded::Packet(_, size)) if size == out.len()), "{:?}", decoded);
            }
            Err(error) => {
                prop_assert!(matches!(error, EncodeError::PacketTooLarge(size) if size > limit));
                prop_assert!(out.is_empty());
            }
        }
    }
}

#[test]
fn user_properties_are_left_out_before_the_reason_string() {
    let mut properties = PropertiesBuf::default();
    properties.push(Property::UserProperty("name", "value")).unwrap();
    properties.push(Property::ReasonString("because")).unwrap();
    let packet = Packet::Disconnect(Disconnect {
        reason: ReasonCode::QuotaExceeded,
        properties: properties.as_properties(),
    });
    let size = |limit| {
        let mut out = Vec::new();
        packet.encode_within(limit, Version::V5, &mut out).map(|()| out.len())
    };
    assert_eq!(size(28), Ok(28));
    assert_eq!(size(27), Ok(14), "without user properties");
    assert_eq!(size(13), Ok(3), "without the reason string");
    assert_eq!(size(2), Err(EncodeError::PacketTooLarge(3)));
}

#[test]
fn what_cannot_be_encoded_appends_nothing() {
    let long = "x".repeat(65_536);
    let mut properties = PropertiesBuf::default();
    assert_eq!(properties.push(Property::ReasonString(&long)), Err(EncodeError::FieldTooLong(65_536)));
    assert_eq!(properties.push(Property::UserProperty("a", "b\0")), Err(EncodeError::Nul));
    assert!(properties.as_properties().is_empty());
    let mut out = b"before".to_vec();
    for topic in [&long, "a\0b"] {
        let publish = tidings_mqtt::Publish {
            dup: false,
            qos: tidings_mqtt::QosAndId::AtMostOnce,
            retain: false,
            topic,
            properties: properties.as_properties(),
            payload: b"",
        };
        assert!(Packet::Publish(publish).encode(Version::V5, &mut out).is_err());
    }
    let refused = tidings_mqtt::ConnAck {
        session_present: false,
        reason: ReasonCode::QuotaExceeded,
        properties: properties.as_properties(),
    };
    let error = Packet::ConnAck(refused).encode(Version::V3, &mut out);
    assert_eq!(error, Err(EncodeError::NoReturnCode(ReasonCode::QuotaExceeded)));
    assert_eq!(out, b"before");
    let ack = Packet::PubAck(Ack::success(tidings_mqtt::PacketId::MIN));
    ack.encode(Version::V3, &mut out).unwrap();
    assert_eq!(out, b"before\x40\x02\x00\x01");
}
