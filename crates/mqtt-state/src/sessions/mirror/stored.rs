//! The sessions as the records of the files have made them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tidings_mqtt::Qos;
use tidings_mqtt::topic::Filter;
use tidings_mqtt_session::{Acknowledgement, Connection, InFlight, Message, StoredSubscription, WillMessage};
use tidings_wire::{Publication, Topic};

use super::record::{Change, Messages, ParkedState, Record};
use crate::codec::{Decoder, Encoder};

/// The sessions by number.
#[derive(Debug, Default)]
pub(in crate::sessions) struct Stored {
    pub(super) sessions: HashMap<u64, StoredSession>,
    pub(super) connections: HashMap<Connection, u64>,
    /// The sessions that are subscribed to each topic, without shared subscriptions.
    pub(super) subscribers: HashMap<Topic, HashSet<u64>>,
    /// The last serial number of a message.
    pub(super) serial: u64,
}

/// A session; one without a key is the will of a connection whose session is not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredSession {
    pub(super) key: Box<str>,
    pub(super) expiry: u32,
    pub(super) connection: Option<Connection>,
    pub(super) client: String,
    pub(super) subscriptions: Vec<StoredSubscription>,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) waiting: VecDeque<(u64, Message)>,
    pub(super) bytes: usize,
    pub(super) received: Vec<u16>,
    pub(super) last_packet_id: u16,
    pub(super) dropped: u64,
    /// Its subscriptions are those of the session.
    pub(super) parked: Option<ParkedState>,
    /// The will of the connection. Parking replaces it.
    pub(super) will: Option<Box<WillMessage>>,
}

impl Stored {
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The message of a session that waits with this publication.
    pub(super) fn find(&self, session: u64, publication: &Arc<Publication>) -> Option<u64> {
        let waiting = &self.sessions.get(&session)?.waiting;
        let found = waiting.iter().find(|(_, message)| Arc::ptr_eq(&message.publication, publication));
        found.map(|(serial, _)| *serial)
    }

    /// A session has a connection.
    pub(super) fn connect(&mut self, session: u64, connection: Connection) {
        if let Some(stored) = self.sessions.get_mut(&session) {
            stored.connection = Some(connection);
            self.connections.insert(connection, session);
        }
    }

    /// A frame for each session.
    pub(in crate::sessions) fn frames(&self) -> impl Iterator<Item = Vec<u8>> {
        self.sessions.iter().map(|(session, stored)| {
            let mut to = Encoder::default();
            let mut write = |change| Record { session: *session, change }.encode(&mut to);
            write(Change::Begun { key: stored.key.clone(), expiry: stored.expiry });
            match stored.parked() {
                Some(parked) => write(Change::Parked(parked)),
                None => stored.subscriptions.iter().cloned().for_each(|one| write(Change::Subscribed(one))),
            }
            write(Change::Replaced(Messages {
                in_flight: stored.in_flight.iter().cloned().collect(),
                waiting: stored.waiting.iter().cloned().collect(),
                received: stored.received.clone(),
                last_packet_id: stored.last_packet_id,
                dropped: stored.dropped,
            }));
            if let Some(will) = &stored.will {
                write(Change::Will(will.clone()));
            }
            to.0
        })
    }

    pub(super) fn apply_frame(&mut self, frame: &[u8]) -> Option<()> {
        let (mut from, mut added, mut records) = (Decoder(frame), None, Vec::new());
        while !from.0.is_empty() {
            records.push(Record::decode(&mut from, &mut added)?);
        }
        records.into_iter().for_each(|record| self.apply(record));
        Some(())
    }

    pub(super) fn apply(&mut self, Record { session: number, change }: Record) {
        match change {
            Change::Begun { key, expiry } => {
                let session = StoredSession { key, expiry, ..StoredSession::default() };
                self.sessions.insert(number, session);
            }
            Change::Ended => {
                let Some(ended) = self.sessions.remove(&number) else { return };
                if let Some(connection) = ended.connection {
                    self.connections.remove(&connection);
                }
                self.unindex(number, &ended.subscriptions);
            }
            Change::Subscribed(subscription) => self.subscribe(number, subscription),
            Change::Unsubscribed(filter) => {
                let Some(session) = self.sessions.get_mut(&number) else { return };
                let is_ended = |one: &mut StoredSubscription| one.filter == filter;
                let ended: Vec<_> = session.subscriptions.extract_if(.., is_ended).collect();
                session.forget_unsubscribed(&ended);
                self.unindex(number, &ended);
            }
            Change::Parked(parked) => {
                let Some(session) = self.sessions.get_mut(&number) else { return };
                let earlier = std::mem::take(&mut session.subscriptions);
                session.client.clone_from(&parked.client);
                session.will = None;
                let subscriptions = parked.subscriptions.clone();
                session.parked = Some(ParkedState { subscriptions: Vec::new(), ..parked });
                if let Some(connection) = session.connection.take() {
                    self.connections.remove(&connection);
                }
                self.unindex(number, &earlier);
                for subscription in subscriptions {
                    self.subscribe(number, subscription);
                }
            }
            change => {
                if let Change::Added(serial, _) | Change::AddedAgain(serial, _) = &change {
                    self.serial = self.serial.max(*serial);
                }
                if let Change::Replaced(messages) = &change {
                    let last = messages.waiting.last().map_or(0, |(serial, _)| *serial);
                    self.serial = self.serial.max(last);
                }
                if let Some(session) = self.sessions.get_mut(&number) {
                    session.apply(change);
                }
            }
        }
    }

    fn subscribe(&mut self, number: u64, subscription: StoredSubscription) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        if !subscription.is_shared() {
            self.subscribers.entry(subscription.topic.clone()).or_default().insert(number);
        }
        match session.subscriptions.iter_mut().find(|known| known.filter == subscription.filter) {
            Some(known) => *known = subscription,
            None => session.subscriptions.push(subscription),
        }
    }

    fn unindex(&mut self, number: u64, ended: &[StoredSubscription]) {
        for subscription in ended.iter().filter(|one| !one.is_shared()) {
            if let Some(subscribers) = self.subscribers.get_mut(&subscription.topic) {
                subscribers.remove(&number);
                if subscribers.is_empty() {
                    self.subscribers.remove(&subscription.topic);
                }
            }
        }
    }
}

impl StoredSession {
    /// Whether it is the will of a connection whose session is not kept.
    pub(super) fn is_will(&self) -> bool {
        self.key.is_empty()
    }

    /// The state without a connection, if it has none.
    pub(super) fn parked(&self) -> Option<ParkedState> {
        let subscriptions = self.subscriptions.clone();
        self.parked.clone().map(|parked| ParkedState { subscriptions, ..parked })
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Added(serial, message) | Change::AddedAgain(serial, message) => {
                self.bytes += message.cost();
                self.waiting.push_back((serial, message));
            }
            Change::Sent(serial, id) => {
                if let Some(message) = self.take(serial) {
                    let awaits = match message.qos {
                        Qos::ExactlyOnce => Acknowledgement::Receive,
                        _ => Acknowledgement::Acknowledge,
                    };
                    self.send(InFlight { id, awaits, message: Some(Box::new(message)) });
                }
            }
            Change::SentNew(in_flight) => self.send(in_flight),
            Change::Removed(serial) => _ = self.take(serial),
            Change::Dropped(count) => {
                for _ in 0..count {
                    let Some((_, message)) = self.waiting.pop_front() else { break };
                    self.bytes -= message.cost();
                    self.dropped += 1;
                }
            }
            Change::Released(id) => {
                if let Some(sent) = self.in_flight.iter_mut().find(|sent| sent.id == id) {
                    self.bytes -= sent.cost();
                    (sent.awaits, sent.message) = (Acknowledgement::Complete, None);
                }
            }
            Change::Acknowledged(id) => {
                if let Some(at) = self.in_flight.iter().position(|sent| sent.id == id) {
                    self.bytes -= self.in_flight.remove(at).map_or(0, |sent| sent.cost());
                }
            }
            Change::Received(id) => {
                if let Err(at) = self.received.binary_search(&id) {
                    self.received.insert(at, id);
                }
            }
            Change::Completed(id) => self.received.retain(|known| *known != id),
            Change::Replaced(Messages { in_flight, waiting, received, last_packet_id, dropped }) => {
                (self.in_flight, self.waiting) = (in_flight.into(), waiting.into());
                (self.received, self.last_packet_id, self.dropped) = (received, last_packet_id, dropped);
                let sent: usize = self.in_flight.iter().map(InFlight::cost).sum();
                self.bytes = sent + self.waiting.iter().map(|(_, message)| message.cost()).sum::<usize>();
            }
            // The client has been informed of the number of dropped messages.
            Change::Resumed { expiry } => (self.parked, self.dropped, self.expiry) = (None, 0, expiry),
            Change::Will(will) => self.will = Some(will),
            Change::WillPublished => {
                if let Some(parked) = &mut self.parked {
                    parked.will = None;
                }
            }
            Change::Begun { .. }
            | Change::Ended
            | Change::Subscribed(_)
            | Change::Unsubscribed(_)
            | Change::Parked(_) => {}
        }
    }

    fn take(&mut self, serial: u64) -> Option<Message> {
        let at = self.waiting.iter().position(|(known, _)| *known == serial)?;
        let (_, message) = self.waiting.remove(at)?;
        self.bytes -= message.cost();
        Some(message)
    }

    fn send(&mut self, in_flight: InFlight) {
        self.bytes += in_flight.cost();
        self.last_packet_id = in_flight.id.get();
        self.in_flight.push_back(in_flight);
    }

    /// Messages that wait for ended subscriptions alone are not stored any more: the shard sends them or not.
    fn forget_unsubscribed(&mut self, ended: &[StoredSubscription]) {
        let Self { waiting, subscriptions, bytes, .. } = self;
        let matches = |subscriptions: &[StoredSubscription], message: &Message| {
            let channel = message.publication.channel.as_str();
            subscriptions
                .iter()
                .any(|one| Filter::new(&one.filter).is_ok_and(|filter| filter.matches(channel)))
        };
        waiting.retain(|(_, message)| {
            let is_kept = !matches(ended, message) || matches(subscriptions, message);
            if !is_kept {
                *bytes -= message.cost();
            }
            is_kept
        });
    }
}
