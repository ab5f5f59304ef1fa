//! `PUBLISH` of clients, with the packets that follow one with QoS 2.

use bytes::Bytes;
use tidings_hub::{CloseReason, Progress};
use tidings_mqtt::{
    Ack, Packet, Properties, PropertiesBuf, Property, PropertyId, Publish, Qos, QosAndId, ReasonCode, Version,
};
use tidings_mqtt_session::Step;
use tidings_wire::{Channel, MessageProperties};

use super::state::Command;
use crate::context::Context;

impl Context<'_> {
    pub(super) fn mqtt_publish(&mut self, publish: &Publish<'_>) -> Progress {
        if !self.session().can_publish() {
            return Progress::Hold;
        }
        let settings = self.hub.protocols.mqtt_settings();
        if publish.qos.qos() == Qos::ExactlyOnce
            && self.session().has_command(Command::publish_id(publish.qos))
        {
            // The message with this packet identifier is being published: whether this one repeats it is known afterwards.
            return Progress::Hold;
        }
        if let Some(id) = publish.qos.packet_id() {
            let is_limited = self.mqtt_version() == Some(Version::V5);
            let flow = self.mqtt().flow();
            let is_received = flow.received.binary_search(&id.get()).is_ok();
            if is_received && publish.qos.qos() == Qos::ExactlyOnce {
                // It was published before, and the client has not received the answer (MQTT-4.3.3-10).
                return self.in_turn(|cx| cx.mqtt_write(&Packet::PubRec(Ack::success(id))));
            }
            if is_limited && flow.unacknowledged() >= usize::from(settings.receive_maximum) {
                let words = format!("more than {} unacknowledged messages", settings.receive_maximum);
                return self.in_turn(|cx| cx.mqtt_disconnect(ReasonCode::ReceiveMaximumExceeded, &words));
            }
        }
        let channel = match self.mqtt_topic(publish, settings.topic_alias_maximum) {
            Ok(channel) => channel,
            // An error of the protocol; the others concern this message alone.
            Err((reason @ (ReasonCode::TopicAliasInvalid | ReasonCode::ProtocolError), words)) => {
                return self.in_turn(|cx| cx.mqtt_disconnect(reason, &words));
            }
            Err((reason, words)) => {
                return self.in_turn(|cx| cx.mqtt_refuse_publish(publish.qos, reason, &words));
            }
        };
        if publish.retain && !settings.retain_available {
            let words = "messages are not retained";
            return self.in_turn(|cx| cx.mqtt_disconnect(ReasonCode::RetainNotSupported, words));
        }
        let (tags, message) = contents(publish.qos.qos(), publish.retain, &publish.properties);
        let body = Bytes::copy_from_slice(publish.payload);
        match self.hub.publish_message_request(self.slot, channel, body, tags, Some(message)) {
            Ok(request) => {
                if publish.qos != QosAndId::AtMostOnce {
                    self.mqtt().flow().publishing += 1;
                }
                self.hub.request(self.slot, Command::publish_id(publish.qos), request, self.fx);
                Progress::Next
            }
            Err(code) => {
                let reason = super::reason::of_publish(code);
                self.in_turn(|cx| cx.mqtt_refuse_publish(publish.qos, reason, code.text))
            }
        }
    }

    /// The channel of a message; learns its topic alias.
    fn mqtt_topic(&mut self, publish: &Publish<'_>, aliases: u16) -> Result<Channel, (ReasonCode, String)> {
        let alias = match publish.properties.get(PropertyId::TopicAlias) {
            Some(Property::TopicAlias(alias)) => Some(usize::from(alias.get())),
            _ => None,
        };
        if alias.is_some_and(|alias| alias > usize::from(aliases)) {
            let words = format!("the topic alias is above the maximum of {aliases}");
            return Err((ReasonCode::TopicAliasInvalid, words));
        }
        if publish.topic.is_empty() {
            let known = alias.and_then(|alias| self.mqtt().flow().aliases.get(alias - 1).cloned().flatten());
            return known.ok_or_else(|| (ReasonCode::ProtocolError, "unknown topic alias".into()));
        }
        // Topics of the server's numbers (MQTT-4.7.2-1).
        if publish.topic.starts_with("$SYS/") {
            return Err((
                ReasonCode::NotAuthorized,
                "topics that begin with $SYS/ belong to the server".into(),
            ));
        }
        let channel = Channel::new(publish.topic)
            .map_err(|error| (ReasonCode::TopicNameInvalid, format!("the topic: {error}")))?;
        if let Some(alias) = alias {
            let known = &mut self.mqtt().flow().aliases;
            if known.len() < alias {
                known.resize(alias, None);
            }
            known[alias - 1] = Some(channel.clone());
        }
        Ok(channel)
    }

    /// A message is published.
    pub(super) fn mqtt_published(&mut self, id: u32) {
        let Command::Publish(qos) = Command::from_id(id) else { return };
        self.mqtt_acknowledge(qos, ReasonCode::Success, "");
    }

    /// A message that was passed to the broker is not published.
    pub(super) fn mqtt_publish_failed(&mut self, qos: QosAndId, reason: ReasonCode, words: &str) {
        self.mqtt_acknowledge(qos, reason, words);
    }

    fn mqtt_acknowledge(&mut self, qos: QosAndId, reason: ReasonCode, words: &str) {
        let Some(id) = qos.packet_id() else { return self.mqtt_answer_publish(qos, reason, words) };
        let flow = self.mqtt().flow();
        flow.publishing = flow.publishing.saturating_sub(1);
        if qos.qos() == Qos::ExactlyOnce
            && reason == ReasonCode::Success
            && let Err(at) = flow.received.binary_search(&id.get())
        {
            flow.received.insert(at, id.get());
            self.mqtt().record(|| Step::Received(id.get()));
            self.mqtt_pass_steps();
        }
        self.mqtt_answer_publish(qos, reason, words);
    }

    /// Refuses a message that was not passed to the broker.
    pub(super) fn mqtt_refuse_publish(&mut self, qos: QosAndId, reason: ReasonCode, words: &str) {
        self.hub.count_error();
        self.mqtt_answer_publish(qos, reason, words);
    }

    /// Answers a message. 3.1.1 has no answer for a message that is not published: the connection ends. A message with QoS 0
    /// has none in 5.0 either, and is dropped.
    fn mqtt_answer_publish(&mut self, qos: QosAndId, reason: ReasonCode, words: &str) {
        if reason != ReasonCode::Success && self.mqtt_version() == Some(Version::V3) {
            return self.end(&CloseReason::Done);
        }
        let Some(packet_id) = qos.packet_id() else { return };
        let properties =
            if words.is_empty() { PropertiesBuf::default() } else { self.mqtt_explanation(words) };
        let ack = Ack { packet_id, reason, properties: properties.as_properties() };
        let packet = match qos.qos() {
            Qos::ExactlyOnce => Packet::PubRec(ack),
            _ => Packet::PubAck(ack),
        };
        self.mqtt_write_stored(&packet);
    }

    /// The client has received `PUBREC`: its packet identifier is free (MQTT-4.3.3-11).
    pub(super) fn mqtt_pubrel(&mut self, ack: &Ack<'_>) {
        let received = &mut self.mqtt().flow().received;
        let reason = match received.binary_search(&ack.packet_id.get()) {
            Ok(at) => {
                received.remove(at);
                self.mqtt().record(|| Step::Completed(ack.packet_id.get()));
                self.mqtt_pass_steps();
                ReasonCode::Success
            }
            Err(_) => ReasonCode::PacketIdentifierNotFound,
        };
        let answer = Ack { reason, ..Ack::success(ack.packet_id) };
        self.mqtt_write_stored(&Packet::PubComp(answer));
    }
}

/// The tags and the properties of a message. User properties are tags; if a name occurs twice, they are properties as well.
pub(super) fn contents(
    qos: Qos,
    retain: bool,
    properties: &Properties<'_>,
) -> (Vec<(String, String)>, Box<MessageProperties>) {
    let mut tags: Vec<(String, String)> = Vec::new();
    let (mut kept, mut users) = (PropertiesBuf::default(), PropertiesBuf::default());
    let mut is_repeated = false;
    let mut expiry = None;
    for property in properties.iter() {
        // What was decoded can be encoded.
        let _ = match property {
            Property::MessageExpiryInterval(seconds) => {
                expiry = Some(seconds);
                Ok(())
            }
            Property::UserProperty(name, value) => {
                match tags.iter_mut().find(|(known, _)| known == name) {
                    Some((_, last)) => {
                        is_repeated = true;
                        value.clone_into(last);
                    }
                    None => tags.push((name.to_owned(), value.to_owned())),
                }
                users.push(property)
            }
            Property::PayloadFormatIndicator(_)
            | Property::ContentType(_)
            | Property::ResponseTopic(_)
            | Property::CorrelationData(_) => kept.push(property),
            _ => Ok(()),
        };
    }
    if is_repeated {
        kept.extend(&users.as_properties());
    }
    let properties = Bytes::copy_from_slice(kept.as_properties().as_bytes());
    (tags, Box::new(MessageProperties { qos, retain, expiry, properties }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_user_properties_are_kept_and_the_last_is_the_tag() {
        let mut properties = PropertiesBuf::default();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            properties.push(Property::UserProperty(name, value)).unwrap();
        }
        properties.push(Property::ContentType("text/plain")).unwrap();
        properties.push(Property::MessageExpiryInterval(7)).unwrap();
        let (tags, message) = contents(Qos::AtLeastOnce, true, &properties.as_properties());
        assert_eq!(tags, [("a".into(), "3".into()), ("b".into(), "2".into())]);
        assert_eq!((message.qos, message.retain, message.expiry), (Qos::AtLeastOnce, true, Some(7)));
        let kept = Properties::of_publish(&message.properties).unwrap();
        assert_eq!(kept.iter().count(), 4);
    }
}
