//! MQTT 3.1.1 and 5.0: its packets as operations of the hub. The codec is `tidings_mqtt`, the form of publications is
//! `tidings_wire::mqtt`.
//!
//! A topic name is the channel of the same name. A filter with wildcards is a pattern of the hub that matches at least the same
//! channels; [`deliver`] compares each publication with the filter, and checks the permission in its channel.
//!
//! | file | has |
//! |---|---|
//! | `connect` | `CONNECT`, the verification of its password, `CONNACK` |
//! | `subscribe` | `SUBSCRIBE`, `UNSUBSCRIBE` |
//! | `publish` | `PUBLISH` of clients, and the packets of QoS 2 that follow |
//! | `deliver`, `outgoing` | `PUBLISH` to clients, their acknowledgements |
//! | `end` | `DISCONNECT`, errors |
//! | `will` | wills, in files and at the broker |
//! | `shared` | shared subscriptions |
//! | `park` | sessions that outlive their connection |
//! | `stored` | sessions that the broker stores |
//! | `reason` | reason codes of errors |
//! | `state` | what a session keeps |
//!
//! Invariants:
//! - A packet of a client is acknowledged after the broker has completed it; an acknowledgement of failure says so (5.0), or the
//!   connection is closed (3.1.1).
//! - Packets are carried out and acknowledged in their order.
//! - A session has at most as many unacknowledged messages as its client accepts; further ones wait, within a bound of bytes.

mod connect;
mod deliver;
mod end;
mod outgoing;
mod park;
mod publish;
mod reason;
mod shared;
pub(crate) mod state;
mod stored;
mod subscribe;
mod will;

use tidings_hub::{
    CloseReason, Cost, Flag, LossReport, Origin, Progress, ServerSubscription, SessionId, Timer,
};
use tidings_mqtt::{Decoded, Decoder, Packet, ReasonCode, Side, Version};
use tidings_mqtt_session as mqtt;
use tidings_mqtt_session::{Connection, SessionChange, SharedDelivery};
use tidings_wire::code::Code;
use tidings_wire::ws::{self, Kind};

use crate::Hub;
use crate::consumed::{Consumed, StopReason};
use crate::context::Context;
use crate::link::Protocol;
use crate::messages::{Effect, Effects, Event, Notification, Response};
use crate::module::Module;
use state::{Command, Mqtt, Phase};

pub(crate) const MODULE: Module = Module {
    run: |cx, bytes, _| cx.mqtt_run(bytes),
    message: |cx, bytes| cx.mqtt_message(bytes),
    refuse: |cx, id, code, text| cx.mqtt_refuse(id, code, text),
    event: |cx, event| cx.mqtt_event(event),
    closing: |cx, reason| cx.mqtt_closing(reason),
    disconnected: |cx| cx.mqtt_gone(),
    begin: |cx| {
        let id = cx.hub.session_id(cx.slot);
        cx.hub.start_stale_timer(id, Timer::Stale, cx.fx);
    },
    expired: |cx, timer| cx.mqtt_expired(timer),
    // A message that is lost cannot be announced within a connection.
    loss_report: |_| LossReport::Reconnect,
    // A client gets the topics that it has subscribed to.
    server_subscription: |_| ServerSubscription::Ignored,
    has_connect: true,
    accepts: |_, kind| kind == Kind::Binary,
    address: deliver::address,
    ..Module::DEFAULT
};

/// A session that has ended and outlives its connection has received its last publication: its state goes to the store of
/// sessions.
pub fn parked(hub: &mut Hub, id: SessionId, fx: &mut Effects) {
    if hub.is_current(id) && hub.session(id.slot).flags.has(Flag::Parking) {
        Context::new(hub, id.slot, fx).mqtt_parked();
    }
}

/// There are messages at the broker for this session, which it has not read.
pub fn messages_waiting(hub: &mut Hub, id: SessionId, fx: &mut Effects) {
    let state = hub.is_current(id).then(|| hub.session(id.slot).peek_state()).flatten();
    if state.and_then(|state| state.mqtt.as_ref()).is_some_and(|mqtt| mqtt.stored.is_some()) {
        Context::new(hub, id.slot, fx).mqtt_read_messages();
    }
}

/// A publication of a shared subscription for this session. If the session is not a member any more, another one gets it.
pub fn deliver_shared(hub: &mut Hub, id: SessionId, delivery: SharedDelivery, fx: &mut Effects) {
    let is_delivered = hub.is_current(id) && Context::new(hub, id.slot, fx).mqtt_deliver_shared(&delivery);
    if !is_delivered {
        let SessionId { slot, generation } = id;
        let connection = Connection { shard: hub.shard().0, slot: slot.number(), generation };
        let change = SessionChange::Undelivered(connection, delivery);
        fx.push(Effect::Notify(Notification::Protocol(Box::new(change))));
    }
}

impl Context<'_> {
    pub(super) fn mqtt(&mut self) -> &mut Mqtt {
        self.session_mut().state().mqtt.get_or_insert_default()
    }

    /// The version of the connection; `None` before `CONNECT`.
    pub(super) fn mqtt_version(&self) -> Option<Version> {
        match self.link().protocol() {
            Protocol::Mqtt { version, .. } => version,
            _ => None,
        }
    }

    fn mqtt_run(&mut self, bytes: &[u8]) -> Consumed {
        let (used, stop) = self.mqtt_packets(bytes);
        Consumed { used, stop }
    }

    /// Executes the packets of one message of the WebSocket. A packet may continue in the next message (MQTT-6.0.0-2): it is
    /// decoded again once all its bytes are here.
    fn mqtt_message(&mut self, message: &[u8]) -> (usize, StopReason) {
        let mut kept = self.mqtt().take_partial();
        if kept.is_empty() {
            let (used, stop) = self.mqtt_packets(message);
            if stop == StopReason::Partial && used < message.len() {
                self.mqtt_keep(message[used..].to_vec());
                return (message.len(), StopReason::Partial);
            }
            return (used, stop);
        }
        self.hub.protocols.kept -= kept.len();
        kept.extend_from_slice(message);
        let (used, stop) = self.mqtt_packets(&kept);
        if stop != StopReason::End {
            kept.drain(..used);
            self.mqtt_keep(kept);
        }
        (message.len(), stop)
    }

    /// Keeps the beginning of a packet, at most the largest packet and one message of a WebSocket.
    fn mqtt_keep(&mut self, partial: Vec<u8>) {
        self.hub.protocols.kept += partial.len();
        self.mqtt().flow().partial = partial;
    }

    fn mqtt_packets(&mut self, bytes: &[u8]) -> (usize, StopReason) {
        if !bytes.is_empty()
            && let Some(mqtt) = self.session_mut().existing_state().and_then(|state| state.mqtt.as_mut())
        {
            mqtt.keep_alive.received();
        }
        let max_packet = self.hub.protocols.mqtt_settings().max_packet;
        let mut used = 0;
        loop {
            if self.is_closing() {
                return (bytes.len(), StopReason::End);
            }
            let decoder = Decoder { side: Side::Server, version: self.mqtt_version(), max_packet };
            match decoder.decode(&bytes[used..]) {
                Ok(Decoded::Partial { .. }) => return (used, StopReason::Partial),
                Ok(Decoded::Packet(packet, length)) => match self.mqtt_metered(&packet, length) {
                    Progress::Next => used += length,
                    Progress::Hold => return (used, StopReason::Hold),
                    Progress::End => return (bytes.len(), StopReason::End),
                },
                // The error follows the answers to the packets before it.
                Err(_) if self.session().has_queued() => return (used, StopReason::Hold),
                Err(error) => {
                    self.mqtt_malformed(&error);
                    return (bytes.len(), StopReason::End);
                }
            }
        }
    }

    /// Executes a packet if the limits of its address and its user allow it.
    fn mqtt_metered(&mut self, packet: &Packet<'_>, bytes: usize) -> Progress {
        let publishes = matches!(packet, Packet::Publish(_));
        self.metered_or(
            Cost { bytes, publishes },
            |cx| cx.mqtt_packet(packet),
            |cx, words| match packet {
                Packet::Publish(publish) => {
                    cx.mqtt_refuse_publish(publish.qos, ReasonCode::QuotaExceeded, words);
                }
                _ => cx.mqtt_disconnect(ReasonCode::MessageRateTooHigh, words),
            },
        )
    }

    fn mqtt_packet(&mut self, packet: &Packet<'_>) -> Progress {
        self.hub.protocols.mqtt.received(packet.packet_type());
        let is_connected = self.session().flags.has(Flag::Connected);
        match packet {
            Packet::Connect(connect) => self.in_turn(|cx| cx.mqtt_connect(connect)),
            // Packets behind CONNECT wait for its answer.
            _ if !is_connected || self.mqtt().phase.is_opening() => Progress::Hold,
            Packet::Publish(publish) => self.mqtt_publish(publish),
            Packet::PubRel(ack) => self.in_turn(|cx| cx.mqtt_pubrel(ack)),
            Packet::PubAck(ack) => self.mqtt_puback(ack),
            Packet::PubRec(ack) => self.mqtt_pubrec(ack),
            Packet::PubComp(ack) => self.mqtt_pubcomp(ack),
            Packet::Subscribe(subscribe) => self.mqtt_subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.in_turn(|cx| cx.mqtt_unsubscribe(unsubscribe)),
            Packet::PingReq => self.in_turn(|cx| cx.mqtt_write(&Packet::PingResp)),
            Packet::Disconnect(disconnect) => self.in_turn(|cx| cx.mqtt_client_disconnect(disconnect)),
            Packet::Auth(_) => self.in_turn(|cx| {
                let words = "the connection has no authentication method";
                cx.mqtt_disconnect(ReasonCode::ProtocolError, words);
            }),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                unreachable!("the decoder of a server refuses them")
            }
        }
    }

    fn mqtt_event(&mut self, event: Event<'_>) {
        match event {
            Event::SubscribeCompleted { origin: Origin::Command(id), completed } => {
                self.mqtt_subscribed(id, completed.key);
                self.send_publications(completed.key, &completed.missed);
            }
            Event::Subscribed { topic, .. } => self.mqtt_pattern_subscribed(topic),
            Event::Publications(key, publications) => self.send_publications(key, publications),
            Event::Connected { .. } => self.mqtt_connected(),
            Event::Response { id, response: Response::Failed(failure), .. } => self.failed(id, &failure),
            Event::Response { id, response: Response::Connected(connected), .. } => {
                self.operations().accept(id, *connected, true);
            }
            Event::Response {
                id, response: Response::Protocol(mqtt::Response::Retained(messages)), ..
            } => {
                self.mqtt_send_retained(id, &messages);
            }
            Event::Response { response: Response::Protocol(mqtt::Response::Session(state)), .. } => {
                self.mqtt_session(state);
            }
            Event::Response { response: Response::Protocol(mqtt::Response::WillOpened), .. } => {
                self.mqtt_will_opened();
            }
            Event::Response { response: Response::Protocol(mqtt::Response::Opened(opened)), .. } => {
                self.mqtt_opened(*opened);
            }
            Event::Response { response: Response::Protocol(mqtt::Response::Stored(request)), .. } => {
                self.mqtt_stored(request);
            }
            Event::Response { response: Response::Protocol(mqtt::Response::Messages(page)), .. } => {
                self.mqtt_send_read(*page);
            }
            Event::Response { id, response: Response::Protocol(mqtt::Response::Joined), .. } => {
                self.mqtt_joined(id);
            }
            Event::Response { id, .. } => self.mqtt_published(id),
            Event::Idle => {
                let state = self.session_mut().existing_state();
                if let Some(mqtt) = state.and_then(|state| state.mqtt.as_mut()) {
                    mqtt.free_unused();
                }
            }
            // A subscription that the server ends has no packet: the client finds that out when it connects again.
            Event::Unsubscribed { topic, reason, .. } => {
                let words = format!("{reason}: {}", topic.as_str());
                self.mqtt_disconnect(ReasonCode::AdministrativeAction, &words);
            }
            _ => {}
        }
    }

    /// A command has failed.
    fn mqtt_refuse(&mut self, id: u32, code: Code, text: &str) {
        self.hub.count_error();
        match Command::from_id(id) {
            Command::Connect => self.mqtt_refuse_connect(reason::of_connect(code), text),
            Command::Session => {
                if self.mqtt().phase == Phase::StoringWill {
                    return self.mqtt_will_failed(reason::of_connect(code), text);
                }
                self.mqtt_session_failed();
                self.mqtt_refuse_connect(reason::of_connect(code), text);
            }
            Command::Publish(qos) => self.mqtt_publish_failed(qos, reason::of_publish(code), text),
            Command::Subscribe => self.mqtt_subscribe_failed(id, reason::of_subscribe(code)),
            // The client cannot detect that they are missing. It repeats packets without an acknowledgement when it returns.
            Command::Retained(_) | Command::Broker => self.mqtt_disconnect(reason::of_retained(code), text),
        }
    }

    fn mqtt_expired(&mut self, timer: Timer) {
        if timer != Timer::KeepAlive {
            return;
        }
        let is_stopped = self.session().flags.has(Flag::Stopped);
        let keep_alive = &mut self.mqtt().keep_alive;
        if is_stopped {
            // Input is not read until earlier packets are answered.
            keep_alive.received();
        }
        match keep_alive.tick() {
            Some(tick) => {
                let id = self.hub.session_id(self.slot);
                self.fx.push(Effect::Start(id, Timer::KeepAlive, tick));
            }
            None => self.end(&CloseReason::NoPong),
        }
    }

    /// Sends a packet, without explanations that the client has no room for.
    pub(super) fn mqtt_write(&mut self, packet: &Packet<'_>) {
        let encode = self.mqtt_encoder(packet);
        self.send(|out| encode(packet, out));
    }

    /// A packet as it is sent, without explanations that the client has no room for.
    pub(super) fn mqtt_encoded(&mut self, packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.mqtt_encoder(packet)(packet, &mut bytes);
        bytes
    }

    /// Counts a packet; returns the function that encodes it for the connection.
    fn mqtt_encoder(&mut self, packet: &Packet<'_>) -> impl FnOnce(&Packet<'_>, &mut Vec<u8>) + use<> {
        let version = self.mqtt_version().unwrap_or(Version::V5);
        let framing = self.link().framing();
        let limit = self.session_mut().existing_state().and_then(|state| state.mqtt.as_ref());
        let limit = limit.map_or(usize::MAX, |mqtt| mqtt.client.max_packet as usize);
        self.hub.protocols.mqtt.sent(packet.packet_type());
        move |packet, out| {
            framing.frame_with(ws::Opcode::Binary, 128, out, |out| {
                // A packet without explanations is a few bytes; a limit below that leaves it out.
                let _ = packet.encode_within(limit, version, out);
            });
        }
    }
}
