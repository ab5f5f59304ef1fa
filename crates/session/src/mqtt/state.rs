//! What an MQTT session keeps.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tidings_hub::TopicKey;
use tidings_mqtt::fanout::TopicAlias;
use tidings_mqtt::{PacketId, Qos, QosAndId, RetainHandling};
use tidings_wire::{Channel, MessageProperties};

/// The command of a session that an event answers, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Connect,
    Publish(QosAndId),
    Subscribe,
    /// Reads the retained messages for the subscription of the subscribe with this number.
    Retained(u32),
}

/// The bit of commands that subscribe; the other bits are a counter.
const SUBSCRIBE: u32 = 1 << 31;
/// The bit of commands that publish; the lower bits are the QoS and the packet identifier.
const PUBLISH: u32 = 1 << 30;

impl Command {
    /// The number of a publish.
    pub(super) fn publish_id(qos: QosAndId) -> u32 {
        let id = qos.packet_id().map_or(0, PacketId::get);
        PUBLISH | (qos.qos() as u32) << 16 | u32::from(id)
    }

    /// The number of a read of retained messages for the subscription of this subscribe.
    pub(super) fn retained_id(subscribe: u32) -> u32 {
        subscribe | PUBLISH
    }

    pub(super) fn from_id(id: u32) -> Self {
        match (id & SUBSCRIBE != 0, id & PUBLISH != 0) {
            (true, true) => return Self::Retained(id & !PUBLISH),
            (true, false) => return Self::Subscribe,
            _ => {}
        }
        if id & PUBLISH == 0 {
            return Self::Connect;
        }
        let number = PacketId::new((id & 0xffff) as u16);
        let qos = Qos::from_number((id >> 16 & 3) as u8).unwrap_or_default();
        Self::Publish(number.map_or(QosAndId::AtMostOnce, |number| QosAndId::new(qos, number)))
    }
}

/// Most topic aliases of the server on one connection.
const MAX_SENT_ALIASES: usize = 16;

/// The state of a session from its `CONNECT` on.
#[derive(Debug, Default)]
pub(crate) struct Mqtt {
    pub(super) client_id: Box<str>,
    pub(super) client: ClientLimits,
    pub(super) keep_alive: KeepAlive,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) will: Option<Box<Will>>,
    /// Set from `CONNECT` to `CONNACK`.
    pub(super) connecting: Option<Box<Connecting>>,
    /// The beginning of a packet that continues in the next message of a WebSocket.
    pub(super) partial: Vec<u8>,
    /// Created by the first message with QoS 1 or 2, topic alias, or subscribe.
    pub(super) flow: Option<Box<Flow>>,
    pub(super) last_command: u32,
    /// The last packet identifier of a message to the client.
    pub(super) last_packet_id: u16,
}

impl Mqtt {
    /// Bytes of input that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.partial.len()
    }

    pub(super) fn flow(&mut self) -> &mut Flow {
        self.flow.get_or_insert_default()
    }

    /// Frees the state of messages and subscriptions in progress if there are none.
    pub(super) fn free_unused(&mut self) {
        if self.flow.as_ref().is_some_and(|flow| flow.is_empty()) {
            self.flow = None;
        }
    }

    /// The alias of a topic, if the client accepts one more.
    pub(super) fn topic_alias(&mut self, channel: &Channel) -> Option<TopicAlias> {
        let most = usize::from(self.client.topic_alias_maximum).min(MAX_SENT_ALIASES);
        if most == 0 {
            return None;
        }
        let aliases = &mut self.flow().sent_aliases;
        let number = |index: usize| u16::try_from(index + 1).ok().and_then(PacketId::new);
        if let Some(known) = aliases.iter().position(|known| known == channel) {
            return number(known).map(TopicAlias::Known);
        }
        if aliases.len() >= most {
            return None;
        }
        aliases.push(channel.clone());
        number(aliases.len() - 1).map(TopicAlias::New)
    }

    /// A number for a subscribe.
    pub(super) fn subscribe_id(&mut self) -> u32 {
        self.last_command = (self.last_command + 1) & (PUBLISH - 1);
        SUBSCRIBE | self.last_command
    }

    /// Begins a message to the client: a packet identifier that no unacknowledged message has (MQTT-2.2.1-4).
    pub(super) fn begin(&mut self, qos: Qos) -> QosAndId {
        let awaits = match qos {
            Qos::AtMostOnce => return QosAndId::AtMostOnce,
            Qos::AtLeastOnce => Acknowledgement::Acknowledge,
            Qos::ExactlyOnce => Acknowledgement::Receive,
        };
        loop {
            self.last_packet_id = self.last_packet_id.wrapping_add(1);
            let Some(id) = PacketId::new(self.last_packet_id) else { continue };
            let in_flight = &mut self.flow().outgoing.in_flight;
            if !in_flight.iter().any(|message| message.id == id) {
                in_flight.push_back(InFlight { id, awaits });
                return QosAndId::new(qos, id);
            }
        }
    }
}

/// What `CONNECT` and the answer to it depend on.
#[derive(Debug, Default)]
pub(super) struct Connecting {
    /// The server has chosen the client id.
    pub(super) is_assigned: bool,
    /// The keep-alive time that replaces that of the client, in seconds.
    pub(super) server_keep_alive: Option<u16>,
    /// The client asked for a session that outlives the connection.
    pub(super) wants_expiry: bool,
}

/// The limits that a client has set in `CONNECT`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    pub(super) max_packet: u32,
    /// The most messages with QoS 1 or 2 that it acknowledges later.
    pub(super) receive_maximum: u16,
    /// The highest topic alias of the server.
    pub(super) topic_alias_maximum: u16,
    /// Whether it accepts explanations of errors.
    pub(super) accepts_problem_information: bool,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            max_packet: u32::MAX,
            receive_maximum: u16::MAX,
            topic_alias_maximum: 0,
            accepts_problem_information: true,
        }
    }
}

/// A will that has been checked.
#[derive(Debug)]
pub(super) struct Will {
    pub(super) channel: Channel,
    pub(super) payload: Bytes,
    pub(super) tags: Vec<(String, String)>,
    pub(super) message: Box<MessageProperties>,
}

/// A subscription of the client.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) filter: Box<str>,
    /// The number of the command while it is in progress.
    pub(super) command: u32,
    /// The topic once it is made.
    pub(super) key: Option<TopicKey>,
    pub(super) options: Options,
}

/// The options of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) qos: Qos,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    /// The subscription identifier; 0 for none.
    pub(super) identifier: u32,
    /// The filter has wildcards.
    pub(super) is_pattern: bool,
    /// Which subscribes send the retained messages.
    pub(super) retain_handling: RetainHandling,
}

impl Options {
    /// Whether its messages differ from those of a subscription with QoS 0.
    pub(super) fn needs_address(self) -> bool {
        self.qos != Qos::AtMostOnce || self.retain_as_published || self.identifier != 0 || self.is_pattern
    }
}

/// The keep-alive time, in half intervals: a client may be silent for one and a half (MQTT-3.1.2-22), and a timer that counts
/// halves ends it before two.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeepAlive {
    /// Half the time in milliseconds; 0 without a limit.
    half: u32,
    silent: u8,
}

/// Half intervals of silence that are complete when a client has been silent for one and a half.
const SILENT_HALVES: u8 = 4;

impl KeepAlive {
    pub(super) fn new(seconds: u16) -> Self {
        Self { half: u32::from(seconds) * 500, silent: 0 }
    }

    /// The time between two ticks; `None` without a limit.
    pub(super) fn interval(self) -> Option<Duration> {
        (self.half > 0).then(|| Duration::from_millis(self.half.into()))
    }

    pub(super) fn received(&mut self) {
        self.silent = 0;
    }

    /// Half the time has passed; returns when the next tick is due, or `None` if the client was silent for too long.
    pub(super) fn tick(&mut self) -> Option<Duration> {
        self.silent += 1;
        if self.silent >= SILENT_HALVES { None } else { self.interval() }
    }
}

/// Messages and subscriptions in progress.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Messages with QoS 1 or 2 of the client that are not acknowledged yet.
    pub(super) publishing: u16,
    /// Packet identifiers of messages with QoS 2 of the client that are published and not released yet, in order.
    pub(super) received: Vec<u16>,
    /// The topics of the client's aliases, by alias − 1.
    pub(super) aliases: Vec<Option<Channel>>,
    /// The topics of the server's aliases, by alias − 1.
    pub(super) sent_aliases: Vec<Channel>,
    pub(super) subacks: VecDeque<PendingSubAck>,
    pub(super) outgoing: Outgoing,
}

impl Flow {
    fn is_empty(&self) -> bool {
        self.unacknowledged() == 0
            && self.aliases.is_empty()
            && self.sent_aliases.is_empty()
            && self.subacks.is_empty()
            && self.outgoing.in_flight.is_empty()
            && self.outgoing.waiting.is_empty()
    }

    /// Messages with QoS 1 or 2 of the client in progress.
    pub(super) fn unacknowledged(&self) -> usize {
        usize::from(self.publishing) + self.received.len()
    }
}

/// A `SUBACK` whose subscriptions are not all decided.
#[derive(Debug)]
pub(super) struct PendingSubAck {
    pub(super) packet_id: PacketId,
    pub(super) results: Vec<SubscribeResult>,
}

/// The result of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscribeResult {
    /// A reason code.
    Decided(u8),
    /// It is decided by the command with this number.
    Waits(u32),
}

/// The messages with QoS 1 and 2 to a client.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Unacknowledged messages, oldest first.
    pub(super) in_flight: VecDeque<InFlight>,
    /// Messages that wait until the client has acknowledged others, oldest first.
    pub(super) waiting: VecDeque<Waiting>,
    /// Their bytes.
    pub(super) waiting_bytes: usize,
}

/// An unacknowledged message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) id: PacketId,
    pub(super) awaits: Acknowledgement,
}

/// The acknowledgement that a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledgement {
    /// `PUBACK`.
    Acknowledge,
    /// `PUBREC`.
    Receive,
    /// `PUBCOMP`.
    Complete,
}

/// A message that waits, as encoded for all subscribers, and the parts of this one.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) channel: Channel,
    pub(super) shared: Box<[u8]>,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) identifier: u32,
}

/// A message for the client. `shared` is its packet for QoS 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery<'a> {
    pub(super) channel: &'a Channel,
    pub(super) shared: &'a [u8],
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// The subscription identifier; 0 for none.
    pub(super) identifier: u32,
}

impl Delivery<'_> {
    pub(super) fn to_waiting(self) -> Waiting {
        let Self { channel, shared, qos, retain, identifier } = self;
        Waiting { channel: channel.clone(), shared: shared.into(), qos, retain, identifier }
    }
}

impl Waiting {
    pub(super) fn as_delivery(&self) -> Delivery<'_> {
        let Self { channel, shared, qos, retain, identifier } = self;
        Delivery { channel, shared, qos: *qos, retain: *retain, identifier: *identifier }
    }

    /// Bytes that it counts in the bound.
    pub(super) fn cost(&self) -> usize {
        self.shared.len() + size_of::<Self>()
    }
}

impl Outgoing {
    /// The client has acknowledged a message; returns whether it awaited this.
    pub(super) fn end(&mut self, id: PacketId, awaits: Acknowledgement) -> bool {
        let at = self.in_flight.iter().position(|message| *message == InFlight { id, awaits });
        at.is_some_and(|at| self.in_flight.remove(at).is_some())
    }

    /// The client has received a message with QoS 2; returns whether it awaited this, perhaps again.
    pub(super) fn release(&mut self, id: PacketId) -> bool {
        let message = self.in_flight.iter_mut().find(|message| message.id == id);
        let Some(message) = message.filter(|message| message.awaits != Acknowledgement::Acknowledge) else {
            return false;
        };
        message.awaits = Acknowledgement::Complete;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_be_silent_for_one_and_a_half_keep_alive_times() {
        let mut keep_alive = KeepAlive::new(10);
        assert_eq!(keep_alive.interval(), Some(Duration::from_secs(5)));
        // Silent since just after a tick: after 15 s three ticks have passed, and the fourth ends it before 20 s.
        let ticks: Vec<bool> = (0..4).map(|_| keep_alive.tick().is_some()).collect();
        assert_eq!(ticks, [true, true, true, false]);
        keep_alive.received();
        assert!(keep_alive.tick().is_some());
        assert_eq!(KeepAlive::new(0).interval(), None);
    }

    #[test]
    fn a_packet_identifier_is_used_again_after_its_acknowledgement() {
        let mut mqtt = Mqtt { last_packet_id: u16::MAX - 1, ..Mqtt::default() };
        let ids: Vec<u16> =
            (0..3).map(|_| mqtt.begin(Qos::AtLeastOnce).packet_id().map_or(0, PacketId::get)).collect();
        assert_eq!(ids, [u16::MAX, 1, 2]);
        let id = PacketId::new(1).unwrap();
        let outgoing = &mut mqtt.flow().outgoing;
        assert!(!outgoing.end(id, Acknowledgement::Complete));
        assert!(outgoing.end(id, Acknowledgement::Acknowledge));
        assert!(!outgoing.end(id, Acknowledgement::Acknowledge));
        mqtt.last_packet_id = 0;
        assert_eq!(mqtt.begin(Qos::ExactlyOnce).packet_id(), Some(id));
        let outgoing = &mut mqtt.flow().outgoing;
        assert!(!outgoing.end(id, Acknowledgement::Complete), "it was not received yet");
        assert!(outgoing.release(id) && outgoing.release(id));
        assert!(outgoing.end(id, Acknowledgement::Complete));
    }

    #[test]
    fn a_command_is_found_by_its_number() {
        let id = PacketId::new(65_535).unwrap();
        for qos in [QosAndId::AtMostOnce, QosAndId::AtLeastOnce(id), QosAndId::ExactlyOnce(id)] {
            assert_eq!(Command::from_id(Command::publish_id(qos)), Command::Publish(qos));
        }
        assert_eq!(Command::from_id(0), Command::Connect);
        let subscribe = Mqtt::default().subscribe_id();
        assert_eq!(Command::from_id(subscribe), Command::Subscribe);
        assert_eq!(Command::from_id(Command::retained_id(subscribe)), Command::Retained(subscribe));
    }
}
