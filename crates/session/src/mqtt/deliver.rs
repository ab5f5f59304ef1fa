//! `PUBLISH` to clients, and their acknowledgements.

use tidings_hub::{Action, Progress, Slot, TopicKey};
use tidings_mqtt::fanout::{self, Subscriber, TopicAlias};
use tidings_mqtt::topic::Filter;
use tidings_mqtt::{Ack, Packet, PacketId, Qos, ReasonCode, Version};
use tidings_wire::{Framing, Publication, ws};

use super::state::{Acknowledgement, Delivery, Mqtt, Options};
use crate::Hub;
use crate::context::Context;
use crate::link::Protocol;
use crate::module::Addressed;
use crate::settings::MqttSettings;

/// Appends the `PUBLISH` of a publication for the session's subscription to the topic, and its end. A message that has to wait
/// for acknowledgements is kept. `shared` is the packet for QoS 0.
pub(super) fn address(
    hub: &mut Hub,
    slot: Slot,
    topic: TopicKey,
    publication: &Publication,
    shared: &[u8],
    out: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Addressed {
    let state = hub.get_session(slot).and_then(|session| session.peek_state());
    let subscription = state.and_then(|state| state.mqtt.as_ref()).and_then(|mqtt| {
        let subscription = mqtt.subscriptions.iter().find(|one| one.key == Some(topic))?;
        let is_match = !subscription.options.is_pattern
            || Filter::new(&subscription.filter)
                .is_ok_and(|filter| filter.matches(publication.channel.as_str()));
        is_match.then_some(subscription.options)
    });
    // A name with wildcards has no packet.
    let Some(options) = subscription.filter(|_| !shared.is_empty()) else { return Addressed::Droppable };
    // The permission depends on the channel: a filter may match several namespaces.
    if options.is_pattern && hub.authorize(slot, Action::Subscribe, &publication.channel).is_err() {
        return Addressed::Droppable;
    }
    let settings = hub.protocols.mqtt_settings();
    let message = publication.extra.as_ref().and_then(|extra| extra.message.as_ref());
    let qos = options.qos.min(message.map_or(settings.default_qos, |message| message.qos));
    let retain = options.retain_as_published && message.is_some_and(|message| message.retain);
    let session = hub.session_mut(slot);
    let link = session.peer.link;
    let Protocol::Mqtt { version: Some(version), .. } = link.protocol() else { return Addressed::Droppable };
    let Some(mqtt) = session.existing_state().and_then(|state| state.mqtt.as_mut()) else {
        return Addressed::Droppable;
    };
    let message =
        Delivery { channel: &publication.channel, shared, qos, retain, identifier: options.identifier };
    let outcome = mqtt.deliver(message, &settings, version, link.framing(), out);
    if outcome == Outcome::Written {
        ends.push(out.len());
        hub.protocols.mqtt.sent_publish(qos);
    }
    match outcome {
        Outcome::NoRoom => Addressed::Overflow,
        _ if qos == Qos::AtMostOnce => Addressed::Droppable,
        _ => Addressed::Required,
    }
}

/// The outcome of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The message was appended.
    Written,
    /// The message is larger than the client accepts.
    TooLarge,
    /// The message waits for acknowledgements.
    Waits,
    /// There is no room for the message to wait.
    NoRoom,
}

impl Mqtt {
    /// Whether another message with QoS 1 or 2 may be sent now.
    fn may_send(&mut self, max_in_flight: u16) -> bool {
        let most = usize::from(self.client.receive_maximum.min(max_in_flight));
        self.flow().outgoing.in_flight.len() < most
    }

    /// Appends a message, or keeps it until the client has acknowledged others.
    fn deliver(
        &mut self,
        message: Delivery<'_>,
        settings: &MqttSettings,
        version: Version,
        framing: Framing,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let may_send = message.qos == Qos::AtMostOnce
            || self.may_send(settings.max_in_flight) && self.flow().outgoing.waiting.is_empty();
        if may_send {
            let is_written = self.write_publish(message, version, framing, out);
            return if is_written { Outcome::Written } else { Outcome::TooLarge };
        }
        let (message, outgoing) = (message.to_waiting(), &mut self.flow().outgoing);
        if outgoing.waiting_bytes + message.cost() > settings.queue_bytes {
            return Outcome::NoRoom;
        }
        outgoing.waiting_bytes += message.cost();
        outgoing.waiting.push_back(message);
        Outcome::Waits
    }

    /// Appends a message, unless it is larger than the client accepts (MQTT-3.1.2-25). Returns whether it was appended.
    fn write_publish(
        &mut self,
        message: Delivery<'_>,
        version: Version,
        framing: Framing,
        out: &mut Vec<u8>,
    ) -> bool {
        let Delivery { channel, shared, qos, retain, identifier } = message;
        let qos_and_id = self.begin(qos);
        let identifiers = [identifier];
        let subscription_ids: &[u32] = if identifier == 0 { &[] } else { &identifiers };
        let topic_alias = if version == Version::V5 { self.topic_alias(channel) } else { None };
        let subscriber = Subscriber { qos: qos_and_id, retain, subscription_ids, topic_alias };
        let (start, most) = (out.len(), self.client.max_packet as usize);
        let mut is_written = false;
        framing.frame_with(ws::Opcode::Binary, shared.len() + 16, out, |out| {
            let start = out.len();
            is_written = fanout::address(shared, version, &subscriber, out).is_ok();
            is_written &= out.len() - start <= most;
        });
        if !is_written {
            out.truncate(start);
            if matches!(topic_alias, Some(TopicAlias::New(_))) {
                self.flow().sent_aliases.pop();
            }
            if let Some(id) = qos_and_id.packet_id() {
                self.flow().outgoing.in_flight.retain(|message| message.id != id);
            }
        }
        is_written
    }
}

impl Context<'_> {
    /// Sends a retained message to one subscription of the session. Returns `false` if there is no room for it.
    pub(super) fn mqtt_send_one(&mut self, publication: &Publication, options: Options) -> bool {
        let settings = self.hub.protocols.mqtt_settings();
        let (slot, framing) = (self.slot, self.link().framing());
        let Some(version) = self.mqtt_version() else { return true };
        let mut shared = Vec::new();
        tidings_wire::mqtt::publish(version, publication, &mut shared);
        if shared.is_empty() {
            return true;
        }
        let message = publication.extra.as_ref().and_then(|extra| extra.message.as_ref());
        let qos = options.qos.min(message.map_or(settings.default_qos, |message| message.qos));
        let message = Delivery {
            channel: &publication.channel,
            shared: &shared,
            qos,
            retain: true,
            identifier: options.identifier,
        };
        let Self { hub, fx, .. } = self;
        let Some(mqtt) = hub.session_mut(slot).existing_state().and_then(|state| state.mqtt.as_mut()) else {
            return true;
        };
        let mut outcome = Outcome::TooLarge;
        fx.send(slot, |out| outcome = mqtt.deliver(message, &settings, version, framing, out));
        if outcome == Outcome::Written {
            hub.protocols.mqtt.sent_publish(qos);
        }
        outcome != Outcome::NoRoom
    }

    pub(super) fn mqtt_puback(&mut self, ack: &Ack<'_>) -> Progress {
        self.mqtt_delivered(ack.packet_id, Acknowledgement::Acknowledge)
    }

    pub(super) fn mqtt_pubcomp(&mut self, ack: &Ack<'_>) -> Progress {
        self.mqtt_delivered(ack.packet_id, Acknowledgement::Complete)
    }

    /// The client has received a message with QoS 2, or refuses it, which ends it (MQTT-4.3.3-4).
    pub(super) fn mqtt_pubrec(&mut self, ack: &Ack<'_>) -> Progress {
        if ack.reason >= ReasonCode::UnspecifiedError {
            return self.mqtt_delivered(ack.packet_id, Acknowledgement::Receive);
        }
        let is_known = self.mqtt().flow().outgoing.release(ack.packet_id);
        let reason = if is_known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.mqtt_write(&Packet::PubRel(Ack { reason, ..Ack::success(ack.packet_id) }));
        Progress::Next
    }

    /// Ends a message, and sends those that wait. An acknowledgement that no message awaits changes nothing.
    fn mqtt_delivered(&mut self, id: PacketId, awaits: Acknowledgement) -> Progress {
        if self.mqtt().flow().outgoing.end(id, awaits) {
            self.mqtt_send_waiting();
        }
        Progress::Next
    }

    fn mqtt_send_waiting(&mut self) {
        let max_in_flight = self.hub.protocols.mqtt_settings().max_in_flight;
        let (slot, framing) = (self.slot, self.link().framing());
        let Some(version) = self.mqtt_version() else { return };
        loop {
            let mqtt = self.mqtt();
            if !mqtt.may_send(max_in_flight) {
                return;
            }
            let outgoing = &mut mqtt.flow().outgoing;
            let Some(message) = outgoing.waiting.pop_front() else {
                outgoing.waiting.shrink_to(16);
                return;
            };
            outgoing.waiting_bytes -= message.cost();
            let Self { hub, fx, .. } = self;
            let Some(mqtt) = hub.session_mut(slot).existing_state().and_then(|state| state.mqtt.as_mut())
            else {
                return;
            };
            let mut is_written = false;
            fx.send(slot, |out| {
                is_written = mqtt.write_publish(message.as_delivery(), version, framing, out);
            });
            if is_written {
                hub.protocols.mqtt.sent_publish(message.qos);
            }
        }
    }
}
