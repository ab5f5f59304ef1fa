//! Any bytes are decoded or refused; the split of an input makes no difference.

use proptest::collection::vec;
use proptest::prelude::*;
use tidings_mqtt::{Decoded, Decoder, Error, Packet, Side, Version};

use crate::samples::{Sample, any_packet};

/// Decodes a connection's input in pieces: the packets as text, and the error that ends it.
fn read(mut decoder: Decoder, input: &[u8], size: usize) -> (Vec<String>, Option<Error>) {
    let (mut seen, mut kept, mut awaited) = (Vec::new(), Vec::new(), 0);
    for piece in input.chunks(size) {
        kept.extend_from_slice(piece);
        while kept.len() >= awaited {
            match decoder.decode(&kept) {
                Ok(Decoded::Packet(packet, used)) => {
                    if let Packet::Connect(connect) = &packet {
                        decoder.version = Some(connect.version);
                    }
                    seen.push(format!("{packet:?}"));
                    kept.drain(..used);
                    awaited = 0;
                }
                Ok(Decoded::Partial { needed }) => {
                    assert!(needed > kept.len() && needed <= decoder.max_packet.max(5));
                    awaited = needed;
                }
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    // An error may be known before as many bytes have arrived as were needed.
    (seen, decoder.decode(&kept).err())
}

fn decoders() -> impl Strategy<Value = Decoder> {
    let version = prop_oneof![Just(None), Just(Some(Version::V3)), Just(Some(Version::V5))];
    (version, prop_oneof![Just(Side::Server), Just(Side::Client)], prop_oneof![Just(64), Just(1 << 20)])
        .prop_map(|(version, side, max_packet)| Decoder { version, side, max_packet })
}

/// The bytes of packets, some of them changed.
fn damaged() -> impl Strategy<Value = (Sample, Vec<u8>)> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 0..4);
    (any_packet(), changes).prop_map(|(sample, changes)| {
        let mut bytes = sample.encoded();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len().min(40));
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                _ => bytes.insert(at, byte),
            }
        }
        (sample, bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_bytes_give_the_same_packets_and_the_same_error_in_any_pieces(
        decoder in decoders(),
        bytes in vec(any::<u8>(), 0..200),
        size in 1..20_usize,
    ) {
        prop_assert_eq!(read(decoder, &bytes, bytes.len().max(1)), read(decoder, &bytes, size));
    }

    #[test]
    fn a_damaged_packet_gives_the_same_result_in_any_pieces((sample, bytes) in damaged(), size in 1..20_usize) {
        let decoder = sample.decoder();
        prop_assert_eq!(read(decoder, &bytes, bytes.len()), read(decoder, &bytes, size));
    }

    #[test]
    fn what_is_decoded_can_be_encoded_and_decodes_to_the_same((sample, bytes) in damaged()) {
        let decoder = sample.decoder();
        if let Ok(Decoded::Packet(packet, used)) = decoder.decode(&bytes) {
            let version = match &packet {
                Packet::Connect(connect) => connect.version,
                _ => sample.version,
            };
            let mut again = Vec::new();
            packet.encode(version, &mut again).unwrap();
            prop_assert!(again.len() <= used + 1, "{} of {}", again.len(), used);
            prop_assert_eq!(decoder.decode(&again), Ok(Decoded::Packet(packet, again.len())));
        }
    }

    #[test]
    fn every_error_names_a_statement_and_a_reason((sample, bytes) in damaged()) {
        if let Err(error) = sample.decoder().decode(&bytes) {
            let text = error.to_string();
            prop_assert!(error.reason().is_error(), "{}", text);
            prop_assert!(text.ends_with(&format!("[{}]", error.statement())), "{}", text);
            prop_assert!(error.statement().starts_with("MQTT-") && text.len() < 200, "{}", text);
        }
    }
}
