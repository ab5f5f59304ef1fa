//! Both encodings against bytes from other implementations.

use std::fmt::Debug;

use tidings_wire::client::request::Request;
use tidings_wire::client::{Encoding, Malformed};

use crate::samples::{COMMANDS, REPLIES};

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// The sample decodes to the same value in both encodings and encodes to itself; with its length before it in Protobuf.
fn check<'a, M: PartialEq + Debug>(
    json: &'a str,
    protobuf: &'a [u8],
    parse: impl Fn(Encoding, &'a [u8]) -> Result<M, Malformed>,
    write: impl Fn(Encoding, &M, &mut Vec<u8>),
) {
    let message = parse(Encoding::Json, json.as_bytes()).expect(json);
    assert_eq!(parse(Encoding::Protobuf, protobuf).as_ref(), Ok(&message), "{json}");
    let mut out = Vec::new();
    write(Encoding::Json, &message, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), json);
    let mut out = Vec::new();
    write(Encoding::Protobuf, &message, &mut out);
    assert_eq!(out, [&delimiter(protobuf.len()), protobuf].concat(), "{json}");
    let messages: Result<Vec<_>, _> = Encoding::Protobuf.messages(&out).collect();
    assert_eq!(messages.unwrap(), [protobuf]);
}

/// A length of less than 2¹⁴ as a varint.
fn delimiter(length: usize) -> Vec<u8> {
    assert!(length < 1 << 14);
    if length < 128 { vec![length as u8] } else { vec![length as u8 | 0x80, (length >> 7) as u8] }
}

#[test]
fn commands_have_the_numbers_and_names_of_the_sdks() {
    for (json, hex) in COMMANDS {
        let protobuf = bytes(hex);
        check(json, &protobuf, Encoding::parse_command, |encoding, command, out| {
            encoding.write_command(command, out);
        });
    }
}

#[test]
fn a_filter_by_tags_is_passed_on_as_it_is_encoded() {
    let json = r#"{"id":1,"subscribe":{"channel":"a","tf":{"key":"k","cmp":"ex"}}}"#;
    let protobuf = bytes("08012a0c0a01616a0712016b1a026578");
    let samples = [
        (Encoding::Json, json.as_bytes(), &br#"{"key":"k","cmp":"ex"}"#[..]),
        (Encoding::Protobuf, &protobuf[..], b"\x12\x01k\x1a\x02ex"),
    ];
    for (encoding, message, expected) in samples {
        let command = encoding.parse_command(message).unwrap();
        let Request::Subscribe(subscribe) = &command.request else { panic!("another command") };
        assert_eq!(*subscribe.tf.as_ref().unwrap().0, *expected);
        let mut out = Vec::new();
        encoding.write_command(&command, &mut out);
        assert!(out.ends_with(message));
    }
}

#[test]
fn replies_have_the_numbers_and_names_of_the_sdks() {
    for (json, hex) in REPLIES {
        let protobuf = bytes(hex);
        check(json, &protobuf, Encoding::parse_reply, |encoding, reply, out| {
            encoding.write_reply(reply, out);
        });
    }
}

#[test]
fn an_emulation_request_contains_a_frame_of_commands() {
    let json = br#"{"session":"s","node":"n","data":"{\"id\":1}\n{}"}"#;
    let protobuf = bytes("0a016e1201731a0b7b226964223a317d0a7b7d");
    for (encoding, body) in [(Encoding::Json, &json[..]), (Encoding::Protobuf, &protobuf)] {
        let request = encoding.parse_emulation(body).unwrap();
        assert_eq!((&*request.node, &*request.session), ("n", "s"));
        assert_eq!(&request.data.unwrap().bytes[..], b"{\"id\":1}\n{}");
    }
    let bare = Encoding::Json.parse_emulation(br#"{"data":{"id":1}}"#).unwrap();
    assert_eq!(&bare.data.unwrap().bytes[..], br#"{"id":1}"#);
}

#[test]
fn one_way_clients_connect_without_a_command_and_get_pushes_without_a_reply() {
    let connect = Encoding::Json.parse_connect(br#"{"token":"t","subs":{"a":{}}}"#).unwrap();
    assert_eq!((&*connect.token, &*connect.subs[0].0), ("t", "a"));
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let pushes = REPLIES.iter().filter_map(|(json, _)| {
            let bare = json.strip_prefix("{\"push\":")?.strip_suffix('}')?;
            Some(Encoding::Json.parse_push(bare.as_bytes()).expect(bare))
        });
        for push in pushes {
            let mut out = Vec::new();
            encoding.write_push(&push, &mut out);
            let message = encoding.messages(&out).next().unwrap().unwrap();
            assert_eq!(encoding.parse_push(message), Ok(push));
        }
    }
}
