//! What an MQTT session keeps.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tidings_hub::TopicKey;
use tidings_mqtt::fanout::TopicAlias;
use tidings_mqtt::{PacketId, Qos, QosAndId};
use tidings_mqtt_session::{Options, Step, StoredSubscription};
use tidings_wire::{Channel, MessageProperties};

use super::outgoing::Outgoing;
use super::stored::Stored;

/// The command of a session that an event answers, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Connect,
    Publish(QosAndId),
    Subscribe,
    /// Reads the retained messages for the subscription of the subscribe with this number.
    Retained(u32),
    /// Requests the session of an earlier connection, or stores the will.
    Session,
    /// Stores steps of the session at the broker, or reads its messages there.
    Broker,
}

/// The bit of commands that subscribe; the other bits are a counter.
const SUBSCRIBE: u32 = 1 << 31;
/// The bit of commands that publish; the lower bits are the QoS and the packet identifier.
const PUBLISH: u32 = 1 << 30;
/// The request for the session; `CONNECT` has 0.
pub(super) const SESSION: u32 = 1;
/// The storing of steps.
pub(super) const STORE: u32 = 2;
/// The read of messages.
pub(super) const READ: u32 = 3;

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
        match id {
            SESSION => return Self::Session,
            STORE | READ => return Self::Broker,
            id if id & PUBLISH == 0 => return Self::Connect,
            _ => {}
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
    pub(super) phase: Phase,
    /// The store of sessions has the session.
    pub(super) is_registered: bool,
    /// The broker has the session, or its shared subscriptions.
    pub(super) stored: Option<Box<Stored>>,
    /// The store gets each step of the session.
    pub(super) has_files: bool,
    /// How long the session outlives its connection, in seconds; 0 if it ends with it.
    pub(super) expiry: u32,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) will: Option<Box<Will>>,
    /// The files of the store, or the broker, have the will.
    pub(super) is_will_stored: bool,
    /// Set from `CONNECT` to `CONNACK`.
    pub(super) connecting: Option<Box<Connecting>>,
    /// Created by the first message with QoS 1 or 2, topic alias, or subscribe, and by a part of a packet.
    pub(super) flow: Option<Box<Flow>>,
    pub(super) last_command: u32,
    /// The last packet identifier of a message to the client.
    pub(super) last_packet_id: u16,
}

impl Mqtt {
    /// Whether the session outlives its connection, with its messages here until then.
    pub(super) fn is_kept(&self) -> bool {
        self.expiry > 0 && self.stored.is_none()
    }

    /// Adds a step for the files of the store, or for the broker.
    pub(super) fn record(&mut self, step: impl FnOnce() -> Step) {
        if self.has_files {
            let step = step();
            self.flow().steps.push(step);
        } else if let Some(stored) = &mut self.stored
            && let Some(step) = stored.translate(step())
        {
            self.flow().steps.push(step);
        }
    }

    /// The steps since the last call.
    pub(super) fn take_steps(&mut self) -> Vec<Step> {
        self.flow.as_mut().map(|flow| std::mem::take(&mut flow.steps)).unwrap_or_default()
    }

    /// Takes the beginning of a packet that continues in the next message of a WebSocket.
    pub(super) fn take_partial(&mut self) -> Vec<u8> {
        self.flow.as_mut().map(|flow| std::mem::take(&mut flow.partial)).unwrap_or_default()
    }

    /// Bytes of input that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.flow.as_ref().map_or(0, |flow| flow.partial.len())
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
}

/// The phases of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Until the response to the first request, if there is one; and while the connection is open.
    #[default]
    Open,
    /// The will is being stored.
    StoringWill,
    /// An earlier session was requested.
    Opening,
    /// The connection has ended, and the session gets the publications that are on their way.
    Parking,
}

impl Phase {
    /// Whether packets behind `CONNECT` wait.
    pub(super) fn is_opening(self) -> bool {
        matches!(self, Self::StoringWill | Self::Opening)
    }
}

/// What `CONNECT` and the answer to it depend on.
#[derive(Debug, Default)]
pub(super) struct Connecting {
    /// The server has chosen the client id.
    pub(super) is_assigned: bool,
    /// The keep-alive time that replaces that of the client, in seconds.
    pub(super) server_keep_alive: Option<u16>,
    /// The session expiry interval that the client asked for, in seconds.
    pub(super) expiry: u32,
    /// An earlier session is discarded.
    pub(super) clean_start: bool,
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
#[derive(Clone, Debug)]
pub(super) struct Will {
    pub(super) channel: Channel,
    pub(super) payload: Bytes,
    pub(super) tags: Vec<(String, String)>,
    pub(super) message: Box<MessageProperties>,
    /// How long after the end of the connection it is published, in seconds.
    pub(super) delay: u32,
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
    /// It continues one of an earlier connection.
    pub(super) is_resumed: bool,
    /// A shared subscription, which has no topic of the hub.
    pub(super) is_shared: bool,
    /// Where the broker stores the session: it has the subscription with QoS 1 or 2, whether or not it has the last options.
    pub(super) is_certain: bool,
}

impl Subscription {
    /// One of an earlier connection, without its topic.
    pub(super) fn resumed(stored: &StoredSubscription, command: u32) -> Self {
        let StoredSubscription { filter, options, .. } = stored;
        let is_shared = stored.is_shared();
        Self {
            filter: filter.clone(),
            command,
            key: None,
            options: *options,
            is_resumed: true,
            is_shared,
            is_certain: true,
        }
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
    /// The beginning of a packet that continues in the next message of a WebSocket.
    pub(super) partial: Vec<u8>,
    /// Steps for the store, until the bytes that follow from them are sent.
    pub(super) steps: Vec<Step>,
}

impl Flow {
    fn is_empty(&self) -> bool {
        self.unacknowledged() == 0
            && self.aliases.is_empty()
            && self.sent_aliases.is_empty()
            && self.subacks.is_empty()
            && self.partial.is_empty()
            && self.steps.is_empty()
            && self.outgoing.is_empty()
    }

    /// Whether there is a step of a subscription.
    pub(super) fn has_subscribed(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Subscribed(_)))
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

#[cfg(test)]
mod tests {
    use tidings_mqtt_session::Acknowledgement;

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
        let ids: Vec<u16> = (0..3)
            .map(|_| mqtt.begin(Qos::AtLeastOnce, || None).packet_id().map_or(0, PacketId::get))
            .collect();
        assert_eq!(ids, [u16::MAX, 1, 2]);
        let id = PacketId::new(1).unwrap();
        assert!(mqtt.flow().outgoing.end(id, Acknowledgement::Acknowledge));
        mqtt.last_packet_id = 0;
        assert_eq!(mqtt.begin(Qos::ExactlyOnce, || None).packet_id(), Some(id));
        mqtt.last_packet_id = 0;
        assert_eq!(mqtt.begin(Qos::AtLeastOnce, || None).packet_id(), PacketId::new(3));
    }

    #[test]
    fn a_command_is_found_by_its_number() {
        let id = PacketId::new(65_535).unwrap();
        for qos in [QosAndId::AtMostOnce, QosAndId::AtLeastOnce(id), QosAndId::ExactlyOnce(id)] {
            assert_eq!(Command::from_id(Command::publish_id(qos)), Command::Publish(qos));
        }
        assert_eq!(Command::from_id(0), Command::Connect);
        assert_eq!(Command::from_id(SESSION), Command::Session);
        assert_eq!([STORE, READ].map(Command::from_id), [Command::Broker; 2]);
        let subscribe = Mqtt::default().subscribe_id();
        assert_eq!(Command::from_id(subscribe), Command::Subscribe);
        assert_eq!(Command::from_id(Command::retained_id(subscribe)), Command::Retained(subscribe));
    }
}
