//! Benchmarks of the codec, of the fan-out, and of the index of filters.
//!
//! `cargo bench -p tidings-mqtt`.

use std::num::NonZeroU16;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use tidings_mqtt::fanout::{self, Subscriber};
use tidings_mqtt::topic::{Filter, FilterIndex, Scratch};
use tidings_mqtt::{Decoder, Properties, PropertiesBuf, Property, Publish, QosAndId, Side, Version};

fn main() {
    divan::main();
}

const PAYLOAD: &[u8] = &[b'x'; 100];
const TOPIC: &str = "home/kitchen/temperature";
const ID: NonZeroU16 = NonZeroU16::MIN;

fn publish(qos: QosAndId, properties: Properties<'_>) -> Publish<'_> {
    Publish { dup: false, qos, retain: false, topic: TOPIC, properties, payload: PAYLOAD }
}

fn properties() -> PropertiesBuf {
    let mut properties = PropertiesBuf::default();
    for property in [Property::ContentType("text/plain"), Property::UserProperty("unit", "celsius")] {
        properties.push(property).expect("a short text");
    }
    properties
}

#[divan::bench(args = [Version::V3, Version::V5])]
fn decode_a_publish(bencher: Bencher, version: Version) {
    let (mut bytes, properties) = (Vec::new(), properties());
    let qos = QosAndId::AtLeastOnce(ID);
    publish(qos, properties.as_properties()).encode(version, &mut bytes).expect("a small packet");
    let decoder = Decoder { side: Side::Server, version: Some(version), max_packet: 65_536 };
    bencher.bench_local(|| decoder.decode(black_box(&bytes)).is_ok());
}

#[divan::bench(args = [Version::V3, Version::V5])]
fn encode_the_shared_publish(bencher: Bencher, version: Version) {
    let (mut out, properties) = (Vec::with_capacity(1024), properties());
    let publish = publish(QosAndId::AtMostOnce, properties.as_properties());
    bencher.bench_local(|| {
        out.clear();
        publish.encode(version, &mut out).is_ok()
    });
}

/// The work for each subscriber with QoS 1: the shared packet with another packet identifier.
#[divan::bench(args = [(Version::V3, false), (Version::V5, false), (Version::V5, true)])]
fn address_a_publish(bencher: Bencher, (version, has_ids): (Version, bool)) {
    let (mut shared, properties) = (Vec::new(), properties());
    let publish = publish(QosAndId::AtMostOnce, properties.as_properties());
    publish.encode(version, &mut shared).expect("a small packet");
    let subscription_ids: &[u32] = if has_ids { &[7] } else { &[] };
    let subscriber = Subscriber { qos: QosAndId::AtLeastOnce(ID), subscription_ids, ..Subscriber::default() };
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        fanout::address(black_box(&shared), version, &subscriber, &mut out).is_ok()
    });
}

/// Filters of a building: most without wildcards, some with one, few with two.
fn filters(count: usize) -> FilterIndex<u32> {
    let mut index = FilterIndex::new(1 << 30);
    for number in 0..count {
        let (room, sensor) = (number / 10, number % 10);
        let text = match number % 100 {
            0 => format!("building/+/room-{room}/#"),
            1..10 => format!("building/{}/room-{room}/+", room % 50),
            _ => format!("building/{}/room-{room}/sensor-{sensor}", room % 50),
        };
        let filter = Filter::new(&text).expect("a filter");
        index.insert(&filter, number as u32).expect("room for it");
    }
    index
}

/// All filters that match a topic name, among so many filters. A match is one filter found.
#[divan::bench(args = [1_000, 100_000])]
fn match_a_topic(bencher: Bencher, count: usize) {
    let index = filters(count);
    let topics: Vec<_> = (0..1_000)
        .map(|number| {
            let room = number * 7919 % (count / 10);
            format!("building/{}/room-{room}/sensor-{}", room % 50, number % 10)
        })
        .collect();
    let mut scratch = Scratch::default();
    bencher.counter(ItemsCount::new(topics.len())).bench_local(|| {
        let mut found = 0_u64;
        for topic in &topics {
            index.for_each_match(topic, &mut scratch, |value| found += u64::from(*value));
        }
        found
    });
}

#[divan::bench]
fn insert_and_remove_a_filter(bencher: Bencher) {
    let mut index = filters(100_000);
    let filter = Filter::new("building/7/new room/+/x").expect("a filter");
    bencher.bench_local(|| {
        index.insert(&filter, 0).expect("room for it");
        index.remove(black_box(&filter))
    });
}
