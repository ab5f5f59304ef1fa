//! The protocol state that all sessions of one hub share.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tidings_hub::Slot;
use tidings_mqtt::{PacketType, Qos};
use tidings_mqtt_session::SessionChange;
use tidings_wire::resp::Decoder;
use tidings_wire::ws::deflate::{Counts, Inflater};

use crate::frame_state::Frames;
use crate::link::Link;
use crate::pusher::roster::Rosters;
use crate::settings::{MqttSettings, ProtocolSettings};

/// Protocol state that the sessions of one hub share.
pub struct Protocols {
    pub(crate) settings: Arc<ProtocolSettings>,
    /// Number of sessions per link, in the order of [`Link::index`].
    pub(crate) links: [u64; Link::COUNT],
    /// Number of changes of `links`.
    pub(crate) link_changes: u64,
    /// Bytes of unused input of all sessions.
    pub(crate) kept: usize,
    /// The decoder for RESP sessions without a partial command.
    pub(crate) decoder: Decoder,
    /// The frame reader for WebSocket sessions without a partial message.
    pub(crate) frames: Option<Box<Frames>>,
    /// Decompresses messages of WebSocket clients.
    pub(crate) inflater: Inflater,
    /// The members of the presence channels with Pusher sessions.
    pub(crate) rosters: Rosters,
    /// The sessions of MQTT by user and client id.
    pub(crate) clients: ClientNames,
    /// Counters of MQTT.
    pub(crate) mqtt: MqttStats,
    /// Steps of sessions of MQTT by messages that are not written yet.
    pub(crate) session_steps: Vec<SessionChange>,
}

/// Sessions by user and by the name that their client has chosen. A name belongs to the newest of them.
///
/// It keeps 128 bits of a keyed hash (SipHash) of each user and name, and not the text, which the session has. Two of a billion
/// names have the same hash with a probability of 2^-69.
#[derive(Debug, Default)]
pub(crate) struct ClientNames {
    names: HashMap<[u64; 2], ClientName>,
    hash_keys: [RandomState; 2],
}

#[derive(Debug)]
struct ClientName {
    slot: Slot,
    /// When the session took the name, in Unix seconds; [`ANNOUNCED`] once its command to take the name over has arrived.
    since: u32,
}

const ANNOUNCED: u32 = u32::MAX;

/// After this time the command to take a name over is taken for lost, in seconds.
const ANNOUNCED_WITHIN: u64 = 5;

impl ClientNames {
    fn key(&self, user: &str, name: &str) -> [u64; 2] {
        self.hash_keys.each_ref().map(|key| key.hash_one((user, name)))
    }

    pub(crate) fn get(&self, user: &str, name: &str) -> Option<Slot> {
        self.names.get(&self.key(user, name)).map(|known| known.slot)
    }

    /// Gives a name to a session; returns its former session. `since` is the time in Unix seconds.
    pub(crate) fn insert(&mut self, user: &str, name: &str, slot: Slot, since: u64) -> Option<Slot> {
        let since = u32::try_from(since).unwrap_or(ANNOUNCED).min(ANNOUNCED - 1);
        let former = self.names.insert(self.key(user, name), ClientName { slot, since });
        former.map(|former| former.slot)
    }

    pub(crate) fn set_announced(&mut self, user: &str, name: &str) {
        let key = self.key(user, name);
        if let Some(known) = self.names.get_mut(&key) {
            known.since = ANNOUNCED;
        }
    }

    pub(crate) fn is_announced(&self, user: &str, name: &str, now: u64) -> bool {
        let known = self.names.get(&self.key(user, name));
        known
            .is_some_and(|known| known.since == ANNOUNCED || now >= u64::from(known.since) + ANNOUNCED_WITHIN)
    }

    /// Removes a name, if it belongs to this session.
    pub(crate) fn remove(&mut self, user: &str, name: &str, slot: Slot) {
        let key = self.key(user, name);
        if self.names.get(&key).is_some_and(|known| known.slot == slot) {
            self.names.remove(&key);
        }
    }
}

/// Packets of MQTT since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MqttStats {
    /// Received packets, by type − 1.
    pub received: [u64; 15],
    /// Sent packets, by type − 1; without those that are shared by all subscribers.
    pub sent: [u64; 15],
    /// Messages that were sent to one session each, by QoS.
    pub messages: [u64; 3],
    /// Number of changes of the others.
    pub changes: u64,
}

impl MqttStats {
    pub(crate) fn received(&mut self, packet: PacketType) {
        self.received[packet as usize - 1] += 1;
        self.changes += 1;
    }

    pub(crate) fn sent(&mut self, packet: PacketType) {
        self.sent[packet as usize - 1] += 1;
        self.changes += 1;
    }

    pub(crate) fn sent_publish(&mut self, qos: Qos) {
        self.sent(PacketType::Publish);
        self.messages[qos as usize] += 1;
    }
}

impl fmt::Debug for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocols")
            .field("links", &self.links)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

/// Protocol counters of a hub, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of partial commands and of commands that are held back.
    pub input_bytes: u64,
    /// Compressed messages of clients: bytes before and after decompression, since the start.
    pub inflated: Counts,
}

impl Protocols {
    /// The steps of sessions of MQTT whose messages [`address`](crate::address) has made. The store must have them before the
    /// messages are written.
    pub fn take_session_steps(&mut self) -> Vec<SessionChange> {
        std::mem::take(&mut self.session_steps)
    }

    /// Replaces the settings, for input from now on.
    pub fn set_settings(&mut self, settings: Arc<ProtocolSettings>) {
        self.settings = settings;
    }

    /// The state without sessions.
    pub fn new(settings: Arc<ProtocolSettings>) -> Self {
        Self {
            settings,
            links: [0; Link::COUNT],
            link_changes: 0,
            kept: 0,
            decoder: Decoder::default(),
            frames: None,
            inflater: Inflater::default(),
            rosters: Rosters::default(),
            clients: ClientNames::default(),
            mqtt: MqttStats::default(),
            session_steps: Vec::new(),
        }
    }

    /// The counters for metrics.
    pub fn stats(&self) -> Stats {
        Stats { input_bytes: self.kept as u64, inflated: self.inflater.counts() }
    }

    /// Number of sessions per link, in the order of [`Link::index`].
    pub fn sessions(&self) -> &[u64; Link::COUNT] {
        &self.links
    }

    /// The settings of MQTT. Whether it is served does not change while sessions exist.
    pub(crate) fn mqtt_settings(&self) -> MqttSettings {
        self.settings.mqtt.unwrap_or(MqttSettings::workbench())
    }

    /// The counters of MQTT.
    pub fn mqtt_stats(&self) -> &MqttStats {
        &self.mqtt
    }

    /// A number that changes whenever [`Self::sessions`] changes.
    pub fn session_changes(&self) -> u64 {
        self.link_changes
    }

    /// Bytes of clients' messages after decompression, since the start.
    pub fn inflated(&self) -> u64 {
        self.inflater.counts().plain
    }

    /// Counts the change of a session's link.
    pub(crate) fn link_changed(&mut self, from: Link, to: Link) {
        self.links[from.index()] -= 1;
        self.links[to.index()] += 1;
        self.link_changes += 1;
    }
}
