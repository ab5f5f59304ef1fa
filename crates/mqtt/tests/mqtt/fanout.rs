//! The packet of a subscriber is the one that would be encoded for it alone.

use std::num::NonZeroU16;

use proptest::collection::vec;
use proptest::prelude::*;
use tidings_mqtt::fanout::{Offsets, Subscriber, TopicAlias, address};
use tidings_mqtt::{
    Decoded, Decoder, Packet, PacketId, PacketType, Properties, PropertiesBuf, Property, PropertyId, Publish,
    QosAndId, Side, Version,
};

use crate::samples::sample;

fn publish_of_a_server(version: Version) -> impl Strategy<Value = crate::samples::Sample> {
    sample(version, PacketType::Publish, false)
}

fn check(
    publish: &Publish<'_>,
    version: Version,
    ids: &[u32],
    alias: Option<TopicAlias>,
) -> Result<(), TestCaseError> {
    // The shared message has no parts of a subscriber.
    let mut common = PropertiesBuf::default();
    let of_a_subscriber = [PropertyId::SubscriptionIdentifier, PropertyId::TopicAlias];
    for property in publish.properties.iter().filter(|property| !of_a_subscriber.contains(&property.id())) {
        common.push(property).unwrap();
    }
    let topic = if publish.topic.is_empty() { "topic" } else { publish.topic };
    let shared = Publish {
        qos: QosAndId::AtMostOnce,
        dup: false,
        topic,
        properties: common.as_properties(),
        ..*publish
    };
    let mut bytes = Vec::new();
    shared.encode(version, &mut bytes).unwrap();

    let subscriber =
        Subscriber { qos: publish.qos, retain: publish.retain, subscription_ids: ids, topic_alias: alias };
    let mut out = b"before".to_vec();
    address(&bytes, version, &subscriber, &mut out).unwrap();
    prop_assert!(out.starts_with(b"before"));
    let mut out = out.split_off(6);

    let mut own = PropertiesBuf::default();
    if version == Version::V5 {
        if let Some(TopicAlias::New(alias) | TopicAlias::Known(alias)) = alias {
            own.push(Property::TopicAlias(alias)).unwrap();
        }
        for id in ids {
            own.push(Property::SubscriptionIdentifier(*id)).unwrap();
        }
        common.as_properties().iter().for_each(|property| own.push(property).unwrap());
    }
    let is_replaced = version == Version::V5 && matches!(alias, Some(TopicAlias::Known(_)));
    let expected = Publish {
        qos: publish.qos,
        topic: if is_replaced { "" } else { topic },
        properties: own.as_properties(),
        ..shared
    };
    let decoder = Decoder { side: Side::Client, version: Some(version), max_packet: 1 << 20 };
    prop_assert_eq!(decoder.decode(&out), Ok(Decoded::Packet(Packet::Publish(expected), out.len())));

    let offsets = Offsets::find(&out, version).unwrap();
    prop_assert_eq!(offsets.packet_id.is_some(), publish.qos.packet_id().is_some());
    let has_expiry = own.as_properties().get(PropertyId::MessageExpiryInterval).is_some();
    prop_assert_eq!(offsets.message_expiry.is_some(), has_expiry);
    let id = PacketId::new(0xABCD).unwrap();
    offsets.set_packet_id(&mut out, id);
    offsets.set_message_expiry(&mut out, 7);
    offsets.set_dup(&mut out);
    let Ok(Decoded::Packet(Packet::Publish(changed), _)) = decoder.decode(&out) else {
        return Err(TestCaseError::fail("a changed packet"));
    };
    prop_assert_eq!(changed.qos, QosAndId::new(publish.qos.qos(), id));
    prop_assert_eq!(changed.dup, publish.qos != QosAndId::AtMostOnce);
    let expiry = changed.properties.get(PropertyId::MessageExpiryInterval);
    prop_assert_eq!(expiry, has_expiry.then_some(Property::MessageExpiryInterval(7)));
    prop_assert_eq!((changed.topic, changed.payload), (expected.topic, expected.payload));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn each_subscriber_gets_the_message_with_its_own_parts(
        sample in prop_oneof![
            publish_of_a_server(Version::V3).boxed(),
            publish_of_a_server(Version::V5).boxed(),
        ],
        ids in vec(1..=268_435_455_u32, 0..4),
        alias in prop::option::of((1..=u16::MAX, any::<bool>())),
    ) {
        let Packet::Publish(publish) = sample.packet() else { unreachable!("a PUBLISH") };
        let alias = alias.map(|(alias, is_known)| {
            let alias = NonZeroU16::new(alias).unwrap();
            if is_known { TopicAlias::Known(alias) } else { TopicAlias::New(alias) }
        });
        check(&publish, sample.version, &ids, alias)?;
    }

    #[test]
    fn offsets_of_any_bytes_are_within_them(bytes in vec(any::<u8>(), 0..60), is_publish in any::<bool>()) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut().filter(|_| is_publish) {
            *first = 0x30 | *first & 0x0F;
        }
        for version in [Version::V3, Version::V5] {
            if let Some(offsets) = Offsets::find(&bytes, version) {
                let mut changed = bytes.clone();
                offsets.set_message_expiry(&mut changed, 1);
                offsets.set_packet_id(&mut changed, PacketId::MIN);
                offsets.set_dup(&mut changed);
                prop_assert_eq!(changed.len(), bytes.len());
            }
        }
    }
}

#[test]
fn a_subscriber_with_qos_0_gets_the_shared_bytes() {
    let publish = Publish {
        dup: false,
        qos: QosAndId::AtMostOnce,
        retain: false,
        topic: "a/b",
        properties: Properties::NONE,
        payload: b"hi",
    };
    for version in [Version::V3, Version::V5] {
        let (mut shared, mut out) = (Vec::new(), Vec::new());
        publish.encode(version, &mut shared).unwrap();
        address(&shared, version, &Subscriber::default(), &mut out).unwrap();
        assert_eq!(out, shared);
        let retained = Subscriber { retain: true, ..Subscriber::default() };
        out.clear();
        address(&shared, version, &retained, &mut out).unwrap();
        assert_eq!((out[0], &out[1..]), (0x31, &shared[1..]));
    }
}
