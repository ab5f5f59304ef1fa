//! Both encodings against themselves and against prost, with arbitrary messages and with invalid bytes.

use std::fmt::Debug;

use proptest::prelude::*;
use tidings_wire::client::Encoding;

use crate::{anything, prost_schema};

fn written(encoding: Encoding, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write(&mut out);
    let out = out.split_off(6);
    let mut messages = encoding.messages(&out);
    let message = messages.next().expect("a message").expect("a whole one").to_vec();
    assert_eq!(messages.next(), None);
    message
}

/// Asserts that prost reads the same from a message and from our re-encoding of it. Our reader may reject more than
/// prost: groups, which the protocol does not have, and map entries with another wire type than 2. Prost ignores the
/// wire type of a map entry and reads its length where ours reads a fixed field, which may be cut off.
fn agrees<P: prost::Message + Default + PartialEq + Debug>(bytes: &[u8], ours: Result<Vec<u8>, String>) {
    match (P::decode(bytes), ours) {
        (Ok(theirs), Ok(ours)) => assert_eq!(P::decode(&ours[..]), Ok(theirs)),
        (Ok(_), Err(reason)) => {
            let allowed = [
                "wire type 3",
                "wire type 4",
                "with two",
                "of two",
                "expected an entry of a map",
                "a fixed field",
            ];
            assert!(allowed.iter().any(|words| reason.contains(words)), "{reason}");
        }
        (Err(theirs), Ok(_)) => panic!("prost refuses it: {theirs}"),
        (Err(_), Err(_)) => {}
    }
}

fn command_agrees(bytes: &[u8]) {
    let ours = Encoding::Protobuf.parse_command(bytes);
    let ours = ours.map(|c| written(Encoding::Protobuf, |out| Encoding::Protobuf.write_command(&c, out)));
    agrees::<prost_schema::Command>(bytes, ours.map_err(|error| error.reason));
}

fn reply_agrees(bytes: &[u8]) {
    let ours = Encoding::Protobuf.parse_reply(bytes);
    let ours = ours.map(|r| written(Encoding::Protobuf, |out| Encoding::Protobuf.write_reply(&r, out)));
    agrees::<prost_schema::Reply>(bytes, ours.map_err(|error| error.reason));
}

/// `Reply.push.pub.tags` with wire type 5 instead of 2, and a zero that prost reads as the length of an entry.
#[test]
fn a_map_entry_of_a_fixed_wire_type_is_rejected() {
    let message = [0x22, 4, 0x22, 2, 7 << 3 | 5, 0];
    assert!(<prost_schema::Reply as prost::Message>::decode(&message[..]).is_ok());
    let error = Encoding::Protobuf.parse_reply(&message).unwrap_err();
    assert_eq!(error.reason, "it ends in a fixed field of 4 bytes");
    reply_agrees(&message);
}

/// A small change to some bytes.
fn mutated(mut bytes: Vec<u8>, at: prop::sample::Index, byte: u8, how: u8) -> Vec<u8> {
    let at = at.index(bytes.len() + 1);
    match how % 4 {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, byte),
        2 if at < bytes.len() => bytes[at] = byte,
        _ if at < bytes.len() => bytes[at] ^= 1 << (byte & 7),
        _ => {}
    }
    bytes
}

proptest! {
    #[test]
    fn commands_round_trip_in_both_encodings_and_prost_agrees(command in anything::command()) {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let message = written(encoding, |out| encoding.write_command(&command, out));
            prop_assert_eq!(&encoding.parse_command(&message).unwrap(), &command);
        }
        let message = written(Encoding::Protobuf, |out| Encoding::Protobuf.write_command(&command, out));
        let theirs = <prost_schema::Command as prost::Message>::decode(&message[..]).unwrap();
        let again = prost::Message::encode_to_vec(&theirs);
        prop_assert_eq!(&Encoding::Protobuf.parse_command(&again).unwrap(), &command);
    }

    #[test]
    fn replies_round_trip_in_both_encodings_and_prost_agrees(reply in anything::reply()) {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let message = written(encoding, |out| encoding.write_reply(&reply, out));
            prop_assert!(encoding == Encoding::Protobuf || !message.contains(&b'\n'));
            prop_assert_eq!(&encoding.parse_reply(&message).unwrap(), &reply);
        }
        let message = written(Encoding::Protobuf, |out| Encoding::Protobuf.write_reply(&reply, out));
        let theirs = <prost_schema::Reply as prost::Message>::decode(&message[..]).unwrap();
        let again = prost::Message::encode_to_vec(&theirs);
        prop_assert_eq!(&Encoding::Protobuf.parse_reply(&again).unwrap(), &reply);
    }

    #[test]
    fn prost_agrees_on_broken_commands(
        command in anything::command(),
        at in any::<prop::sample::Index>(),
        (byte, how) in any::<(u8, u8)>(),
    ) {
        let message = written(Encoding::Protobuf, |out| Encoding::Protobuf.write_command(&command, out));
        command_agrees(&mutated(message, at, byte, how));
    }

    #[test]
    fn prost_agrees_on_broken_replies(
        reply in anything::reply(),
        at in any::<prop::sample::Index>(),
        (byte, how) in any::<(u8, u8)>(),
    ) {
        let message = written(Encoding::Protobuf, |out| Encoding::Protobuf.write_reply(&reply, out));
        reply_agrees(&mutated(message, at, byte, how));
    }

    #[test]
    fn prost_agrees_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        command_agrees(&bytes);
        reply_agrees(&bytes);
    }
}
