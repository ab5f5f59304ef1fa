//! `PUBLISH` to clients, and their acknowledgements.

use std::sync::Arc;

use tidings_hub::{Action, Progress, Slot, TopicKey};
use tidings_mqtt::fanout::{self, Offsets, Subscriber, TopicAlias};
use tidings_mqtt::{Ack, Packet, PacketId, Qos, QosAndId, ReasonCode, Version};
use tidings_mqtt_session::{
    Acknowledgement, Combined, Connection, InFlight, Message, Options, SessionChange, Step, combine,
};
use tidings_wire::{Framing, Publication, ws};

use super::outgoing::Delivery;
use super::state::{Mqtt, Phase};
use crate::Hub;
use crate::context::Context;
use crate::link::Protocol;
use crate::module::Addressed;
use crate::settings::MqttSettings;

/// Appends the `PUBLISH` of a publication for the session's subscription to the topic, and its end. A publication that several
/// subscriptions match is sent for the first of them. A message that has to wait
/// for acknowledgements is kept. `shared` is the packet for QoS 0.
pub(super) fn address(
    hub: &mut Hub,
    slot: Slot,
    topic: TopicKey,
    publication: &Arc<Publication>,
    shared: &[u8],
    out: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Addressed {
    let outcome = address_one(hub, slot, topic, publication, shared, out, ends);
    let state = hub.session_mut(slot).existing_state();
    if let Some(mqtt) = state.and_then(|state| state.mqtt.as_mut()).filter(|mqtt| mqtt.has_files) {
        let steps = mqtt.take_steps();
        if !steps.is_empty() {
            let id = hub.session_id(slot);
            let connection =
                Connection { shard: hub.shard().0, slot: id.slot.number(), generation: id.generation };
            hub.protocols.session_steps.push(SessionChange::Steps(connection, steps));
        }
    }
    outcome
}

fn address_one(
    hub: &mut Hub,
    slot: Slot,
    topic: TopicKey,
    publication: &Arc<Publication>,
    shared: &[u8],
    out: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Addressed {
    let state = hub.get_session(slot).and_then(|session| session.peek_state());
    let combined = state.and_then(|state| state.mqtt.as_ref()).and_then(|mqtt| {
        let made = mqtt.subscriptions.iter().filter(|one| one.key.is_some());
        let made = made.map(|one| (one.key == Some(topic), &*one.filter, one.options));
        let is_own = || publication.origin() == Some(&*hub.client_id(hub.session_id(slot)));
        combine(made, publication.channel.as_str(), is_own)
    });
    // A name with wildcards has no packet.
    let Some(combined) = combined.filter(|_| !shared.is_empty()) else { return Addressed::Droppable };
    let Combined { options, more_identifiers } = &combined;
    // The permission depends on the channel: a filter may match several namespaces.
    if options.is_pattern && hub.authorize(slot, Action::Subscribe, &publication.channel).is_err() {
        let state = hub.session_mut(slot).existing_state();
        if let Some(mqtt) = state.and_then(|state| state.mqtt.as_mut()) {
            mqtt.record(|| Step::Dropped(Arc::clone(publication)));
        }
        return Addressed::Droppable;
    }
    let settings = hub.protocols.mqtt_settings();
    let now = hub.time();
    let message = publication.extra.as_ref().and_then(|extra| extra.message.as_ref());
    let qos = options.delivery_qos(publication, settings.default_qos);
    let retain = options.retain_as_published && message.is_some_and(|message| message.retain);
    let is_marked = message.is_some();
    let session = hub.session_mut(slot);
    let link = session.peer.link;
    let Protocol::Mqtt { version: Some(version), .. } = link.protocol() else { return Addressed::Droppable };
    let Some(mqtt) = session.existing_state().and_then(|state| state.mqtt.as_mut()) else {
        return Addressed::Droppable;
    };
    let mut qos = qos;
    if qos == Qos::AtMostOnce
        && mqtt.may_be_at_broker(&publication.channel, message.map(|message| &**message))
    {
        // It must not arrive twice.
        return Addressed::Droppable;
    }
    if mqtt.is_stored() && qos != Qos::AtMostOnce {
        // A message with QoS 2 must not arrive twice.
        if is_marked && (qos == Qos::ExactlyOnce || mqtt.is_at_broker(&publication.channel)) {
            return Addressed::Droppable;
        }
        // Of a program that publishes in Redis itself, or of a subscription that the broker may not have yet.
        qos = Qos::AtMostOnce;
    }
    let Options { identifier, is_pattern, .. } = *options;
    let message = Delivery { publication, shared, qos, retain, identifier, more_identifiers, is_pattern };
    let outcome = mqtt.deliver(message, &settings, Target { version, framing: link.framing(), now }, out);
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
    /// The message waits for acknowledgements, or until the client connects again.
    Waits,
    /// There is no room for the message to wait.
    NoRoom,
}

/// The form of packets for a connection, and the time in Unix seconds.
#[derive(Clone, Copy, Debug)]
struct Target {
    version: Version,
    framing: Framing,
    now: u64,
}

impl Mqtt {
    /// Whether another message with QoS 1 or 2 may be sent now.
    pub(super) fn may_send(&mut self, settings: &MqttSettings) -> bool {
        let most = usize::from(self.client.receive_maximum.min(settings.max_in_flight));
        self.flow().outgoing.may_send(most, settings.queue_bytes)
    }

    /// Appends a message, or keeps it until the client has acknowledged others or connects again.
    fn deliver(
        &mut self,
        message: Delivery<'_>,
        settings: &MqttSettings,
        target: Target,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let is_parking = self.phase == Phase::Parking;
        let may_send =
            message.qos == Qos::AtMostOnce || self.may_send(settings) && !self.flow().outgoing.has_waiting();
        if may_send && !is_parking {
            let is_written = self.write_publish(message, target, out);
            return if is_written { Outcome::Written } else { Outcome::TooLarge };
        }
        let (message, is_kept, outgoing) =
            (message.to_message(target.now), self.is_kept(), &mut self.flow().outgoing);
        let room = outgoing.room(settings.queue_bytes);
        if is_parking {
            outgoing.dropped += outgoing.waiting.push(message, room);
            return Outcome::Waits;
        }
        if outgoing.waiting.has_room(message.cost(), room) {
            outgoing.waiting.push(message, room);
            return Outcome::Waits;
        }
        if is_kept {
            // The connection ends, and the session continues with the newest messages.
            outgoing.dropped += outgoing.waiting.push(message, room);
        }
        Outcome::NoRoom
    }

    /// Begins a message to the client: a packet identifier that no unacknowledged message has (MQTT-2.2.1-4).
    pub(super) fn begin(&mut self, qos: Qos, message: impl FnOnce() -> Option<Box<Message>>) -> QosAndId {
        let awaits = match qos {
            Qos::AtMostOnce => return QosAndId::AtMostOnce,
            Qos::AtLeastOnce => Acknowledgement::Acknowledge,
            Qos::ExactlyOnce => Acknowledgement::Receive,
        };
        loop {
            self.last_packet_id = self.last_packet_id.wrapping_add(1);
            let Some(id) = PacketId::new(self.last_packet_id) else { continue };
            let outgoing = &mut self.flow().outgoing;
            if !outgoing.has(id) {
                outgoing.begin(id, awaits, message());
                return QosAndId::new(qos, id);
            }
        }
    }

    /// Appends a message, unless it is larger than the client accepts (MQTT-3.1.2-25). Returns whether it was appended.
    fn write_publish(&mut self, message: Delivery<'_>, target: Target, out: &mut Vec<u8>) -> bool {
        // A session that outlives its connection sends the message again.
        let is_kept = self.is_kept();
        let qos = self.begin(message.qos, || is_kept.then(|| Box::new(message.to_message(target.now))));
        let is_written = self.write_packet(message, qos, target, out);
        if let Some(id) = qos.packet_id() {
            if is_written {
                if let Some(sent) = self.flow().outgoing.last().filter(|_| is_kept).cloned() {
                    self.record(|| Step::Sent(sent));
                }
            } else {
                self.flow().outgoing.cancel(id);
                self.record(|| Step::Dropped(Arc::clone(message.publication)));
            }
        }
        is_written
    }

    fn write_packet(
        &mut self,
        message: Delivery<'_>,
        qos: QosAndId,
        target: Target,
        out: &mut Vec<u8>,
    ) -> bool {
        let Delivery { publication, shared, retain, identifier, more_identifiers, .. } = message;
        let Target { version, framing, .. } = target;
        let (one, several);
        let subscription_ids: &[u32] = match (identifier, more_identifiers) {
            (0, _) => &[],
            (_, []) => {
                one = [identifier];
                &one
            }
            (_, more) => {
                several = [&[identifier], more].concat();
                &several
            }
        };
        let topic_alias = match version {
            Version::V5 => self.topic_alias(&publication.channel),
            Version::V3 => None,
        };
        let subscriber = Subscriber { qos, retain, subscription_ids, topic_alias };
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
        }
        is_written
    }

    /// Appends a message that has waited. With a packet identifier and `true` it is sent again (MQTT-3.3.1-1). Returns whether it
    /// was appended; one that has expired is not, unless it was sent before (MQTT-4.3.3-7).
    fn write_later(
        &mut self,
        message: &Message,
        id: Option<(PacketId, bool)>,
        target: Target,
        out: &mut Vec<u8>,
    ) -> bool {
        let Message { publication, qos, retain, identifier, more_identifiers, is_pattern, .. } = message;
        let lifetime = match (message.lifetime(target.now), id) {
            (Ok(lifetime), _) => lifetime,
            (Err(_), Some((_, true))) => Some(0),
            (Err(_), _) => {
                self.record(|| Step::Dropped(Arc::clone(publication)));
                return false;
            }
        };
        let mut shared = Vec::new();
        tidings_wire::mqtt::publish(target.version, publication, &mut shared);
        if let Some(seconds) = lifetime
            && let Some(offsets) = Offsets::find(&shared, target.version)
        {
            offsets.set_message_expiry(&mut shared, seconds);
        }
        let (identifier, is_pattern, qos, retain) = (*identifier, *is_pattern, *qos, *retain);
        let shared = &shared[..];
        let delivery =
            Delivery { publication, shared, qos, retain, identifier, more_identifiers, is_pattern };
        if shared.is_empty() {
            return false;
        }
        let Some((id, is_again)) = id else { return self.write_publish(delivery, target, out) };
        let mut packet = Vec::new();
        // A packet in no frame, to set its flag.
        let is_written = self.write_packet(
            delivery,
            QosAndId::new(qos, id),
            Target { framing: Framing::Raw, ..target },
            &mut packet,
        );
        if let Some(offsets) = Offsets::find(&packet, target.version).filter(|_| is_written) {
            if is_again {
                offsets.set_dup(&mut packet);
            }
            target.framing.frame_with(ws::Opcode::Binary, packet.len(), out, |out| {
                out.extend_from_slice(&packet);
            });
        }
        is_written
    }
}

impl Context<'_> {
    /// Sends a message to one subscription of the session. Returns `false` if there is no room for it.
    pub(super) fn mqtt_send_one(
        &mut self,
        publication: &Arc<Publication>,
        options: Options,
        retain: bool,
    ) -> bool {
        let settings = self.hub.protocols.mqtt_settings();
        let framing = self.link().framing();
        let Some(version) = self.mqtt_version() else { return true };
        let mut shared = Vec::new();
        tidings_wire::mqtt::publish(version, publication, &mut shared);
        if shared.is_empty() {
            return true;
        }
        let qos = options.delivery_qos(publication, settings.default_qos);
        let Options { identifier, is_pattern, .. } = options;
        let (shared, more_identifiers) = (&shared[..], &[][..]);
        let message = Delivery { publication, shared, qos, retain, identifier, more_identifiers, is_pattern };
        let target = Target { version, framing, now: self.hub.time() };
        let mut outcome = Outcome::TooLarge;
        self.mqtt_send_recorded(|mqtt, out| outcome = mqtt.deliver(message, &settings, target, out));
        if outcome == Outcome::Written {
            self.hub.protocols.mqtt.sent_publish(qos);
        }
        outcome != Outcome::NoRoom
    }

    /// Passes a retained message that will be sent to the files of the store, which has no publication of it.
    pub(super) fn mqtt_record_retained(&mut self, publication: &Arc<Publication>, options: Options) {
        let (default_qos, now) = (self.hub.protocols.mqtt_settings().default_qos, self.hub.time());
        let qos = options.delivery_qos(publication, default_qos);
        let Options { identifier, is_pattern, .. } = options;
        let (shared, more_identifiers, retain) = (&[][..], &[][..], true);
        let message = Delivery { publication, shared, qos, retain, identifier, more_identifiers, is_pattern };
        if qos != Qos::AtMostOnce {
            self.mqtt().record(|| Step::Added(message.to_message(now)));
        }
    }

    /// Whether the session gets a retained message from the broker, which has the step.
    pub(super) fn mqtt_reads(&mut self, publication: &Publication, options: Options) -> bool {
        let default_qos = self.hub.protocols.mqtt_settings().default_qos;
        let qos = options.delivery_qos(publication, default_qos);
        qos != Qos::AtMostOnce && self.mqtt().is_stored()
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
        if is_known {
            self.mqtt().record(|| Step::Released(ack.packet_id));
            self.mqtt_pass_steps();
        }
        let reason = if is_known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.mqtt_write_stored(&Packet::PubRel(Ack { reason, ..Ack::success(ack.packet_id) }));
        Progress::Next
    }

    /// Ends a message, and sends those that wait. An acknowledgement that no message awaits changes nothing.
    fn mqtt_delivered(&mut self, id: PacketId, awaits: Acknowledgement) -> Progress {
        if self.mqtt().flow().outgoing.end(id, awaits) {
            self.mqtt().record(|| Step::Ended(id));
            self.mqtt_send_waiting();
            self.mqtt_pass_steps();
            self.mqtt_pass_acknowledgements();
            self.mqtt_read_more();
        }
        Progress::Next
    }

    /// Sends messages that wait, as many as the client accepts: first those of an earlier connection again, in their order
    /// (MQTT-4.4.0-1, MQTT-4.6.0-1).
    pub(super) fn mqtt_send_waiting(&mut self) {
        let settings = self.hub.protocols.mqtt_settings();
        loop {
            let mqtt = self.mqtt();
            if !mqtt.may_send(&settings) {
                return;
            }
            if let Some(InFlight { id, awaits, message }) = mqtt.flow().outgoing.next_resend() {
                self.mqtt_send_again(id, awaits, message);
                continue;
            }
            let Some(message) = mqtt.flow().outgoing.waiting.pop() else { return };
            if message.is_unchecked && !self.mqtt_may_receive(&message) {
                self.mqtt().record(|| Step::Dropped(message.publication));
                continue;
            }
            self.mqtt_send_later(&message, None);
        }
    }

    fn mqtt_send_again(&mut self, id: PacketId, awaits: Acknowledgement, message: Option<Box<Message>>) {
        match message {
            None => {
                self.mqtt().flow().outgoing.begin(id, awaits, None);
                self.mqtt_write(&Packet::PubRel(Ack::success(id)));
            }
            Some(message) => {
                if self.mqtt_may_receive(&message) && self.mqtt_send_later(&message, Some((id, true))) {
                    self.mqtt().flow().outgoing.begin(id, awaits, Some(message));
                } else {
                    self.mqtt().record(|| Step::Ended(id));
                }
            }
        }
    }

    /// Sends a message that has waited; returns whether it was sent.
    pub(super) fn mqtt_send_later(&mut self, message: &Message, id: Option<(PacketId, bool)>) -> bool {
        let Some(version) = self.mqtt_version() else { return false };
        let target = Target { version, framing: self.link().framing(), now: self.hub.time() };
        let mut is_written = false;
        self.mqtt_send_recorded(|mqtt, out| is_written = mqtt.write_later(message, id, target, out));
        if is_written {
            self.hub.protocols.mqtt.sent_publish(message.qos);
        }
        is_written
    }

    /// Sends the bytes that `write` appends, after the store has its steps.
    fn mqtt_send_recorded(&mut self, write: impl FnOnce(&mut Mqtt, &mut Vec<u8>)) {
        let slot = self.slot;
        let Self { hub, fx, .. } = self;
        let Some(mqtt) = hub.session_mut(slot).existing_state().and_then(|state| state.mqtt.as_mut()) else {
            return;
        };
        if !mqtt.has_files {
            return fx.send(slot, |out| write(mqtt, out));
        }
        let mut bytes = Vec::new();
        write(mqtt, &mut bytes);
        self.mqtt_pass_steps();
        self.fx.send(slot, |out| out.extend_from_slice(&bytes));
    }

    /// Whether the client may get a message that was kept for it.
    pub(super) fn mqtt_may_receive(&self, message: &Message) -> bool {
        let channel = &message.publication.channel;
        if message.is_pattern {
            return self.hub.authorize(self.slot, Action::Subscribe, channel).is_ok();
        }
        self.hub.may_resume(self.slot, channel)
    }
}
