//! Each rule that a packet can break: its reason code, and the numbers of its statement in both versions.

use tidings_mqtt::{Decoder, Error, PacketType, ReasonCode, Side, Version};

fn error(side: Side, version: Option<Version>, bytes: &[u8]) -> Error {
    let decoder = Decoder { side, version, max_packet: 1000 };
    match decoder.decode(bytes) {
        Err(error) => error,
        Ok(decoded) => panic!("{} is {decoded:?}", bytes.escape_ascii()),
    }
}

/// Bytes that a side refuses in a version, with the expected reason and statement.
type Case = (Side, Version, &'static [u8], ReasonCode, &'static str);

fn check(cases: &[Case]) {
    for (side, version, bytes, reason, statement) in cases {
        let error = error(*side, Some(*version), bytes);
        let found = (error.reason(), error.statement());
        assert_eq!(found, (*reason, *statement), "{error}: {} in {version:?}", bytes.escape_ascii());
    }
}

use ReasonCode::{MalformedPacket as Malformed, ProtocolError as Protocol};
use Side::{Client, Server};
use Version::{V3, V5};

#[test]
fn the_fixed_header() {
    check(&[
        (Server, V3, b"\x00\0", Malformed, "MQTT-4.8.0-1"),
        (Server, V5, b"\x00\0", Malformed, "MQTT-4.13.1-1"),
        (Server, V3, b"\xF0\0", Malformed, "MQTT-4.8.0-1"),
        (Server, V3, b"\xC1\0", Malformed, "MQTT-2.2.2-2"),
        (Server, V5, b"\xC1", Malformed, "MQTT-2.1.3-1"),
        (Server, V3, b"\x60\x02\0\x01", Malformed, "MQTT-3.6.1-1"),
        (Server, V5, b"\x60\x02\0\x01", Malformed, "MQTT-3.6.1-1"),
        (Server, V3, b"\x80\x06\0\x01\0\x01a\0", Malformed, "MQTT-3.8.1-1"),
        (Server, V5, b"\x80\x07\0\x01\0\0\x01a\0", Malformed, "MQTT-3.8.1-1"),
        (Server, V3, b"\xA0\x05\0\x01\0\x01a", Malformed, "MQTT-3.10.1-1"),
        (Server, V5, b"\xA0\x06\0\x01\0\0\x01a", Malformed, "MQTT-3.10.1-1"),
        (Server, V3, b"\xE1\0", Malformed, "MQTT-3.14.1-1"),
        (Server, V5, b"\xE1\0", Malformed, "MQTT-3.14.1-1"),
        (Server, V5, b"\xF1\0", Malformed, "MQTT-3.15.1-1"),
        (Server, V3, b"\xC0\xFF\xFF\xFF\xFF\x01", Malformed, "MQTT-4.8.0-1"),
        (Server, V5, b"\xC0\xFF\xFF\xFF\xFF", Malformed, "MQTT-4.13.1-1"),
        (Server, V5, b"\xC0\x80\0", Malformed, "MQTT-1.5.5-1"),
        (Server, V3, b"\x30\xE8\x07", ReasonCode::PacketTooLarge, "MQTT-4.8.0-2"),
        (Server, V5, b"\x30\xE8\x07", ReasonCode::PacketTooLarge, "MQTT-3.2.2-15"),
        (Client, V5, b"\x30\xE8\x07", ReasonCode::PacketTooLarge, "MQTT-3.1.2-24"),
        (Server, V3, b"\xC0\x01\0", Malformed, "MQTT-4.8.0-1"),
        (Server, V5, b"\x20\x03\0\0\0", Protocol, "MQTT-4.13.1-1"),
        (Client, V3, b"\xC0\0", Protocol, "MQTT-4.8.0-1"),
        (Client, V3, b"\xE0\0", Protocol, "MQTT-4.8.0-1"),
    ]);
}

#[test]
fn the_first_packet_of_a_client_is_connect_and_no_other() {
    let first = error(Server, None, b"\x30\x04\0\x01ax");
    assert_eq!((first.reason(), first.statement()), (Protocol, "MQTT-3.1.0-1"));
    assert_eq!(first.connack_version(), None);
    let second = b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01a";
    check(&[(Server, V3, second, Protocol, "MQTT-3.1.0-2"), (Server, V5, second, Protocol, "MQTT-3.1.0-2")]);
    assert_eq!(error(Server, Some(V5), second).connack_version(), None);
}

#[test]
fn connect() {
    // Version 4 or 5 at the place of V; the answer to the refused connection.
    let old = Some(V3);
    let new = Some(V5);
    let cases: &[(&[u8], ReasonCode, &str, Option<Version>)] = &[
        (
            b"\x10\x0D\0\x04MQTX\x04\x02\0\0\0\x01a",
            ReasonCode::UnsupportedProtocolVersion,
            "MQTT-3.1.2-1",
            None,
        ),
        (
            b"\x10\x0F\0\x06MQIsdp\x03\x02\0\0\0\x01a",
            ReasonCode::UnsupportedProtocolVersion,
            "MQTT-3.1.2-2",
            old,
        ),
        (
            b"\x10\x0F\0\x06MQIsdp\x04\x02\0\0\0\x01a",
            ReasonCode::UnsupportedProtocolVersion,
            "MQTT-3.1.2-2",
            old,
        ),
        (
            b"\x10\x0D\0\x04MQTT\x03\x02\0\0\0\x01a",
            ReasonCode::UnsupportedProtocolVersion,
            "MQTT-3.1.2-2",
            old,
        ),
        (
            b"\x10\x0D\0\x04MQTT\x06\x02\0\0\0\x01a",
            ReasonCode::UnsupportedProtocolVersion,
            "MQTT-3.1.2-2",
            new,
        ),
        (b"\x10\x0D\0\x04MQTT\x04\x03\0\0\0\x01a", Malformed, "MQTT-3.1.2-3", None),
        (b"\x10\x0E\0\x04MQTT\x05\x03\0\0\0\0\x01a", Malformed, "MQTT-3.1.2-3", new),
        (b"\x10\x0D\0\x04MQTT\x04\x1E\0\0\0\x01a", Malformed, "MQTT-3.1.2-14", None),
        (b"\x10\x0E\0\x04MQTT\x05\x1E\0\0\0\0\x01a", Malformed, "MQTT-3.1.2-12", new),
        (b"\x10\x0D\0\x04MQTT\x04\x0A\0\0\0\x01a", Malformed, "MQTT-3.1.2-13", None),
        (b"\x10\x0E\0\x04MQTT\x05\x0A\0\0\0\0\x01a", Malformed, "MQTT-3.1.2-11", new),
        (b"\x10\x0D\0\x04MQTT\x04\x22\0\0\0\x01a", Malformed, "MQTT-3.1.2-15", None),
        (b"\x10\x0E\0\x04MQTT\x05\x22\0\0\0\0\x01a", Malformed, "MQTT-3.1.2-13", new),
        (b"\x10\x10\0\x04MQTT\x04\x42\0\0\0\x01a\0\x01p", Malformed, "MQTT-3.1.2-22", None),
        // Fields that the flags do not announce, and announced fields that are absent.
        (b"\x10\x10\0\x04MQTT\x04\x02\0\0\0\x01a\0\x01u", Malformed, "MQTT-3.1.4-1", None),
        (b"\x10\x0D\0\x04MQTT\x04\x82\0\0\0\x01a", Malformed, "MQTT-3.1.4-1", None),
        (b"\x10\x0E\0\x04MQTT\x05\x42\0\0\0\0\x01a", Malformed, "MQTT-3.1.4-1", new),
        (b"\x10\x0A\0\x04MQTT\x04\x02\0\0", Malformed, "MQTT-3.1.4-1", None),
        (b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01\xFF", Malformed, "MQTT-1.5.3-1", None),
        (b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\x01\0", Malformed, "MQTT-1.5.4-2", new),
        // A will with a wildcard, and without a topic.
        (
            b"\x10\x12\0\x04MQTT\x04\x06\0\0\0\x01a\0\x01#\0\0",
            ReasonCode::TopicNameInvalid,
            "MQTT-4.7.1-1",
            None,
        ),
        (b"\x10\x12\0\x04MQTT\x05\x06\0\0\0\0\x01a\0\0\0\0\0", Protocol, "MQTT-4.7.3-1", new),
        (b"\x10\x11\0\x04MQTT\x04\x06\0\0\0\x01a\0\0\0\0", Protocol, "MQTT-4.7.3-1", None),
        (b"\x10\x90\0\0\x04MQTT\x05\x02\0\0\0\0\x03abc", Malformed, "MQTT-1.5.5-1", new),
    ];
    for (bytes, reason, statement, answer) in cases {
        let error = error(Server, None, bytes);
        let found = (error.reason(), error.statement(), error.connack_version());
        assert_eq!(found, (*reason, *statement, *answer), "{error}: {}", bytes.escape_ascii());
        assert_eq!(error.packet, Some(PacketType::Connect));
    }
}

#[test]
fn publish() {
    check(&[
        (Server, V3, b"\x36\x06\0\x01a\0\x01x", Malformed, "MQTT-3.3.1-4"),
        (Client, V5, b"\x36\x07\0\x01a\0\x01\0x", Malformed, "MQTT-3.3.1-4"),
        (Server, V3, b"\x38\x03\0\x01a", Malformed, "MQTT-3.3.1-2"),
        (Server, V5, b"\x38\x04\0\x01a\0", Malformed, "MQTT-3.3.1-2"),
        (Server, V3, b"\x30\x03\0\x01#", ReasonCode::TopicNameInvalid, "MQTT-3.3.2-2"),
        (Server, V5, b"\x30\x06\0\x03a/+\0", ReasonCode::TopicNameInvalid, "MQTT-3.3.2-2"),
        (Server, V3, b"\x30\x02\0\0", Protocol, "MQTT-4.7.3-1"),
        (Server, V5, b"\x30\x03\0\0\0", Protocol, "MQTT-4.7.3-1"),
        (Server, V3, b"\x30\x03\0\x01\0", Malformed, "MQTT-1.5.3-2"),
        // A surrogate, and an overlong form.
        (Server, V3, b"\x30\x05\0\x03\xED\xA0\x80", Malformed, "MQTT-1.5.3-1"),
        (Server, V5, b"\x30\x05\0\x02\xC0\x80\0", Malformed, "MQTT-1.5.4-1"),
        (Server, V3, b"\x32\x05\0\x01a\0\0", Protocol, "MQTT-2.3.1-1"),
        (Server, V5, b"\x32\x06\0\x01a\0\0\0", Protocol, "MQTT-2.2.1-3"),
        (Server, V3, b"\x32\x04\0\x01a\0", Malformed, "MQTT-4.8.0-1"),
        (Server, V5, b"\x30\x03\0\x05a", Malformed, "MQTT-4.13.1-1"),
        (Server, V5, b"\x30\x07\0\x01a\x03\x23\0\0", ReasonCode::TopicAliasInvalid, "MQTT-3.3.2-8"),
        (Server, V5, b"\x30\x06\0\x01a\x02\x0B\x05", Protocol, "MQTT-3.3.4-6"),
        (Server, V5, b"\x30\x08\0\x01a\x04\x08\0\x01#", Protocol, "MQTT-3.3.2-14"),
    ]);
}

#[test]
fn subscribe_and_unsubscribe() {
    check(&[
        (Server, V3, b"\x82\x02\0\x01", Protocol, "MQTT-3.8.3-3"),
        (Server, V5, b"\x82\x03\0\x01\0", Protocol, "MQTT-3.8.3-2"),
        (Server, V3, b"\xA2\x02\0\x01", Protocol, "MQTT-3.10.3-2"),
        (Server, V5, b"\xA2\x03\0\x01\0", Protocol, "MQTT-3.10.3-2"),
        (Server, V3, b"\x82\x06\0\x01\0\x01a\x04", Malformed, "MQTT-3.8.3-4"),
        (Server, V3, b"\x82\x06\0\x01\0\x01a\x03", Malformed, "MQTT-3.8.3-4"),
        (Server, V5, b"\x82\x07\0\x01\0\0\x01a\x40", Malformed, "MQTT-3.8.3-5"),
        (Server, V5, b"\x82\x07\0\x01\0\0\x01a\x03", Protocol, "MQTT-4.13.1-1"),
        (Server, V5, b"\x82\x07\0\x01\0\0\x01a\x30", Protocol, "MQTT-4.13.1-1"),
        (Server, V5, b"\x82\x0F\0\x01\0\0\x09$share/g/\x04", Protocol, "MQTT-3.8.3-4"),
        (Server, V3, b"\x82\x06\0\0\0\x01a\0", Protocol, "MQTT-2.3.1-1"),
        (Server, V3, b"\x82\x05\0\x01\0\x01a", Malformed, "MQTT-4.8.0-1"),
        (Server, V3, b"\x82\x06\0\x01\0\x01\xFF\0", Malformed, "MQTT-1.5.3-1"),
        (Server, V5, b"\xA2\x06\0\x01\0\0\x01\xFF", Malformed, "MQTT-1.5.4-1"),
    ]);
}

#[test]
fn reason_codes() {
    check(&[
        (Client, V3, b"\x20\x02\0\x06", Protocol, "MQTT-3.2.2-6"),
        (Client, V5, b"\x20\x03\0\x01\0", Protocol, "MQTT-3.2.2-8"),
        (Client, V5, b"\x20\x03\x02\0\0", Malformed, "MQTT-3.2.2-1"),
        (Client, V3, b"\x20\x02\x01\x05", Protocol, "MQTT-3.2.2-4"),
        (Client, V5, b"\x20\x03\x01\x87\0", Protocol, "MQTT-3.2.2-6"),
        (Server, V5, b"\x40\x03\0\x01\x92", Protocol, "MQTT-3.4.2-1"),
        (Server, V5, b"\x50\x03\0\x01\x92", Protocol, "MQTT-3.5.2-1"),
        (Server, V5, b"\x62\x03\0\x01\x10", Protocol, "MQTT-3.6.2-1"),
        (Server, V5, b"\x70\x03\0\x01\x10", Protocol, "MQTT-3.7.2-1"),
        (Client, V3, b"\x90\x03\0\x01\x03", Protocol, "MQTT-3.9.3-2"),
        (Client, V5, b"\x90\x04\0\x01\0\x03", Protocol, "MQTT-3.9.3-2"),
        (Client, V3, b"\x90\x02\0\x01", Protocol, "MQTT-3.8.4-5"),
        (Client, V5, b"\x90\x03\0\x01\0", Protocol, "MQTT-3.8.4-6"),
        (Client, V5, b"\xB0\x04\0\x01\0\x01", Protocol, "MQTT-3.11.3-2"),
        (Client, V5, b"\xB0\x03\0\x01\0", Protocol, "MQTT-3.11.3-2"),
        (Server, V5, b"\xE0\x01\x01", Protocol, "MQTT-3.14.2-1"),
        (Server, V5, b"\xF0\x01\x04", Protocol, "MQTT-3.15.2-1"),
    ]);
}

#[test]
fn properties() {
    check(&[
        (Server, V5, b"\x30\x05\0\x01a\x01\x7F", Malformed, "MQTT-4.13.1-1"),
        (Server, V5, b"\x30\x07\0\x01a\x03\x21\0\x01", Malformed, "MQTT-4.13.1-1"),
        (Server, V5, b"\x30\x08\0\x01a\x04\x01\0\x01\0", Protocol, "MQTT-4.13.1-1"),
        (Server, V5, b"\x30\x06\0\x01a\x02\x01\x02", Protocol, "MQTT-4.13.1-1"),
        (Server, V5, b"\x30\x05\0\x01a\x02\x01", Malformed, "MQTT-4.13.1-1"),
        (Server, V5, b"\x30\x06\0\x01a\x82\0\x01", Malformed, "MQTT-1.5.5-1"),
        (Server, V5, b"\x30\x0A\0\x01a\x06\x26\0\0\0\x01\0", Malformed, "MQTT-1.5.4-2"),
        (Server, V5, b"\x82\x09\0\x01\x02\x0B\0\0\x01a\0", Protocol, "MQTT-4.13.1-1"),
        (Server, V5, b"\x82\x0B\0\x01\x04\x0B\x01\x0B\x02\0\x01a\0", Protocol, "MQTT-4.13.1-1"),
        (Client, V5, b"\x20\x06\0\0\x03\x21\0\0", Protocol, "MQTT-4.13.1-1"),
        (Client, V5, b"\x20\x08\0\0\x05\x27\0\0\0\0", Protocol, "MQTT-4.13.1-1"),
        (Client, V5, b"\xE0\x07\0\x05\x11\0\0\0\x01", Protocol, "MQTT-3.14.2-2"),
        (Server, V5, b"\xF0\x06\x18\x04\x16\0\x01x", Protocol, "MQTT-4.12.0-5"),
        (Server, V5, b"\xF0\x01\x18", Protocol, "MQTT-4.12.0-5"),
        (Client, V5, b"\x20\x07\0\0\x04\x16\0\x01x", Protocol, "MQTT-4.13.1-1"),
    ]);
}

#[test]
fn an_error_says_which_packet_breaks_which_rule() {
    let text = |bytes: &[u8]| error(Server, Some(V5), bytes).to_string();
    assert_eq!(text(b"\x30\x06\0\x03a/+\0"), "PUBLISH: the topic name contains a wildcard [MQTT-3.3.2-2]");
    assert_eq!(
        text(b"\x30\xE8\x07"),
        "PUBLISH: the packet has 1003 bytes, more than the limit of 1000 bytes [MQTT-3.2.2-15]"
    );
    assert_eq!(text(b"\x00"), "the packet type 0 is reserved [MQTT-4.13.1-1]");
}
