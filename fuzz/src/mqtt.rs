//! The invariants of the MQTT codec for any input, as functions that panic on a violation.
//!
//! They run in two ways, like those of `lib.rs`: in cargo-fuzz (`fuzz_targets/mqtt.rs`), and in the ordinary test
//! `crates/mqtt/tests/mqtt/fuzz_corpus.rs` over the committed inputs of `seeds/` and mutations of them.

use tidings_mqtt::fanout::{Offsets, Subscriber, address};
use tidings_mqtt::topic::{Filter, FilterIndex, Scratch, check_name};
use tidings_mqtt::{Decoded, Decoder, Error, Packet, PacketId, Publish, QosAndId, Side, Version};

/// The largest packet.
const MAX: usize = 400;

/// Packets are independent of the split and within the limit; each can be encoded and decodes to itself. A message has a copy
/// for a subscriber. A filter finds in the index what it matches.
///
/// The first byte chooses the side, the version and the size of the pieces.
pub fn packets(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let side = if first & 1 == 0 { Side::Server } else { Side::Client };
    let version = match first >> 1 & 3 {
        0 => None,
        1 => Some(Version::V3),
        _ => Some(Version::V5),
    };
    let decoder = Decoder { side, version, max_packet: MAX };
    let whole = read(decoder, data, data.len().max(1));
    assert_eq!(whole, read(decoder, data, usize::from(first >> 3) + 1));
    filters(data);
}

/// All packets of an input as text, and the error that ends it.
fn read(mut decoder: Decoder, data: &[u8], size: usize) -> (Vec<String>, Option<Error>) {
    let (mut seen, mut kept) = (Vec::new(), Vec::new());
    for piece in data.chunks(size) {
        kept.extend_from_slice(piece);
        loop {
            let used = match decoder.decode(&kept) {
                Ok(Decoded::Packet(packet, used)) => {
                    assert!(used <= MAX && used <= kept.len());
                    check(&packet, decoder);
                    if let Packet::Connect(connect) = &packet {
                        decoder.version = Some(connect.version);
                    }
                    seen.push(format!("{packet:?}"));
                    used
                }
                Ok(Decoded::Partial { needed }) => {
                    assert!(needed > kept.len() && needed <= MAX);
                    break;
                }
                Err(error) => {
                    assert!(error.reason().is_error() && error.statement().starts_with("MQTT-"));
                    return (seen, Some(error));
                }
            };
            kept.drain(..used);
        }
    }
    (seen, None)
}

/// The packet round-trips in its version.
fn check(packet: &Packet<'_>, decoder: Decoder) {
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => decoder.version.expect("the version of an accepted packet"),
    };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("was read before");
    let decoder = Decoder { max_packet: MAX + 8, ..decoder };
    assert_eq!(decoder.decode(&bytes), Ok(Decoded::Packet(packet.clone(), bytes.len())));
    if let Packet::Publish(publish) = packet {
        assert_eq!(bytes.len(), publish.encoded_len(version));
        addressed(publish, version);
    }
}

/// A copy for a subscriber has the same message.
fn addressed(publish: &Publish<'_>, version: Version) {
    let shared = Publish { qos: QosAndId::AtMostOnce, dup: false, retain: false, ..*publish };
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    shared.encode(version, &mut bytes).expect("was read before");
    let qos = QosAndId::ExactlyOnce(PacketId::MIN);
    let subscriber = Subscriber { qos, subscription_ids: &[7], ..Subscriber::default() };
    address(&bytes, version, &subscriber, &mut out).expect("a small packet");
    let offsets = Offsets::find(&out, version).expect("a PUBLISH");
    offsets.set_packet_id(&mut out, PacketId::MAX);
    let decoder = Decoder { side: Side::Client, version: Some(version), max_packet: MAX + 16 };
    let Ok(Decoded::Packet(Packet::Publish(copy), used)) = decoder.decode(&out) else {
        panic!("{publish:?} for a subscriber");
    };
    assert_eq!(used, out.len());
    assert_eq!((copy.topic, copy.payload), (publish.topic, publish.payload));
    assert_eq!(copy.qos, QosAndId::ExactlyOnce(PacketId::MAX));
    let own = usize::from(version == Version::V5);
    assert_eq!(copy.properties.iter().count(), publish.properties.iter().count() + own);
}

/// Lines of the input as filters, and as topic names: the index and the comparison agree.
fn filters(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut index = FilterIndex::new(1 << 16);
    let mut list = Vec::new();
    for line in text.lines() {
        if let Ok(filter) = Filter::new(line)
            && index.insert(&filter, filter).is_ok_and(|earlier| earlier.is_none())
        {
            list.push(filter);
        }
    }
    let mut scratch = Scratch::default();
    for topic in text.lines().filter(|line| check_name(line).is_ok()) {
        let mut found = 0;
        index.for_each_match(topic, &mut scratch, |filter| {
            assert!(filter.matches(topic), "{filter:?} on {topic:?}");
            found += 1;
        });
        let expected = list.iter().filter(|filter| filter.matches(topic)).count();
        assert_eq!(found, expected, "{topic:?}");
    }
    for filter in &list {
        assert!(index.remove(filter).is_some());
    }
    assert_eq!((index.len(), index.bytes()), (0, 0));
}
