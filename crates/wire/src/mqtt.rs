//! Publications as `PUBLISH` packets of MQTT. The codec is `tidings_mqtt`.

use tidings_mqtt::{
    EncodeError, Properties, PropertiesBuf, Property, PropertyId, Publish, QosAndId, Version,
};

use crate::publication::{Extra, Publication};

/// Appends the packet of a publication with QoS 0. Nothing is appended for a channel whose name contains a wildcard: it is no
/// topic name (MQTT-3.3.2-2).
pub fn publish(version: Version, publication: &Publication, out: &mut Vec<u8>) {
    let topic = publication.channel.as_str();
    if topic.contains(['+', '#']) {
        return;
    }
    let mut properties = PropertiesBuf::default();
    if version == Version::V5 && add_properties(publication, &mut properties).is_err() {
        // A tag that is longer than a string of MQTT: the message is sent without its properties.
        properties.clear();
    }
    let packet = Publish {
        dup: false,
        qos: QosAndId::AtMostOnce,
        retain: false,
        topic,
        properties: properties.as_properties(),
        payload: &publication.body,
    };
    // Fails above the limit of the protocol, 256 MiB, which no publication reaches.
    let _ = packet.encode(version, out);
}

impl Extra {
    /// Removes the user properties from the properties of a message of MQTT: its tags count instead.
    pub fn remove_user_properties(&mut self) {
        let Some(message) = &mut self.message else { return };
        let mut kept = PropertiesBuf::default();
        let own = Properties::of_publish(&message.properties).unwrap_or_default();
        for property in own.iter().filter(|property| property.id() != PropertyId::UserProperty) {
            // What was decoded can be encoded.
            let _ = kept.push(property);
        }
        message.properties = kept.as_properties().as_bytes().to_vec().into();
    }
}

fn add_properties(publication: &Publication, properties: &mut PropertiesBuf) -> Result<(), EncodeError> {
    let Some(extra) = &publication.extra else { return Ok(()) };
    let mut has_users = false;
    if let Some(message) = &extra.message {
        if let Some(seconds) = message.expiry {
            properties.push(Property::MessageExpiryInterval(seconds))?;
        }
        // Other clients of the broker may write anything.
        if let Ok(own) = Properties::of_publish(&message.properties) {
            has_users = own.get(PropertyId::UserProperty).is_some();
            properties.extend(&own);
        }
    }
    if !has_users {
        let is_text = |text: &str| !text.contains('\0');
        for (name, value) in extra.tags.iter().filter(|(name, value)| is_text(name) && is_text(value)) {
            properties.push(Property::UserProperty(name, value))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidings_mqtt::{Decoded, Decoder, Packet, Side};

    use super::*;
    use crate::channel::Channel;
    use crate::publication::{Extra, MessageProperties};

    fn publication(channel: &str, extra: Extra) -> Publication {
        let mut publication = Publication::new(Channel::new(channel).unwrap(), Bytes::from_static(b"21.5"));
        publication.extra = (!extra.is_empty()).then(|| Box::new(extra));
        publication
    }

    fn properties(version: Version, publication: &Publication) -> Vec<String> {
        let mut out = Vec::new();
        publish(version, publication, &mut out);
        let decoder = Decoder { side: Side::Client, version: Some(version), max_packet: 1 << 20 };
        match decoder.decode(&out) {
            Ok(Decoded::Packet(Packet::Publish(packet), length)) if length == out.len() => {
                assert_eq!((packet.topic, packet.payload), (publication.channel.as_str(), &b"21.5"[..]));
                packet.properties.iter().map(|property| format!("{property:?}")).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tags_are_user_properties_in_5_0() {
        let tags = vec![("a".to_owned(), "1".to_owned()), ("b\0".to_owned(), "2".to_owned())];
        let tagged = publication("home/t", Extra { tags, ..Extra::default() });
        assert_eq!(properties(Version::V5, &tagged), ["UserProperty(\"a\", \"1\")"]);
        assert_eq!(properties(Version::V3, &tagged), [""; 0]);
    }

    #[test]
    fn the_properties_of_a_message_are_sent_as_they_came() {
        let mut own = PropertiesBuf::default();
        for property in [
            Property::ContentType("text/plain"),
            Property::UserProperty("a", "1"),
            Property::UserProperty("a", "2"),
        ] {
            own.push(property).unwrap();
        }
        let own = Bytes::copy_from_slice(own.as_properties().as_bytes());
        let message = MessageProperties { expiry: Some(7), properties: own, ..MessageProperties::default() };
        let tags = vec![("a".to_owned(), "2".to_owned())];
        let extra = Extra { tags, message: Some(Box::new(message)), ..Extra::default() };
        let expected = [
            "MessageExpiryInterval(7)",
            "ContentType(\"text/plain\")",
            "UserProperty(\"a\", \"1\")",
            "UserProperty(\"a\", \"2\")",
        ];
        assert_eq!(properties(Version::V5, &publication("home/t", extra.clone())), expected);
        let mut replaced = Extra { tags: vec![("b".to_owned(), "3".to_owned())], ..extra };
        replaced.remove_user_properties();
        let expected =
            ["MessageExpiryInterval(7)", "ContentType(\"text/plain\")", "UserProperty(\"b\", \"3\")"];
        assert_eq!(properties(Version::V5, &publication("home/t", replaced)), expected);
    }

    #[test]
    fn invalid_properties_from_the_broker_are_left_out() {
        let message = MessageProperties { properties: Bytes::from_static(b"\xff\x01"), ..Default::default() };
        let extra = Extra { message: Some(Box::new(message)), ..Extra::default() };
        assert_eq!(properties(Version::V5, &publication("t", extra)), [""; 0]);
    }

    #[test]
    fn a_channel_with_a_wildcard_in_its_name_has_no_packet() {
        let mut out = Vec::new();
        publish(Version::V5, &publication("room#1", Extra::default()), &mut out);
        assert!(out.is_empty());
    }
}
