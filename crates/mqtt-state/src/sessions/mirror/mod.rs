//! The sessions as the files have them: those of connected clients as well, whose messages belong to their shards.
//!
//! A connected session gets the publications of its topics twice: on its shard, and here before the publisher's acknowledgement.
//! The shard reports each step of the session ([`Step`]). A publication is the same allocation in both places, which identifies a
//! message until it has a packet identifier. When the connection ends, the messages of the shard replace those here.
//!
//! Invariants:
//! - Messages with QoS 0 are not stored.
//! - Each change is a [`Record`], which is applied here as it is when the files are read.
//! - The messages of a session have at most twice the bytes of its queue, for what the shard has not processed yet; beyond that the
//!   oldest that wait are dropped.

mod record;
mod stored;

use std::io;
use std::path::Path;
use std::sync::Arc;

use tidings_mqtt::Qos;
use tidings_mqtt_session::{
    Combined, Connection, Message, MessageQueue, OpenSession, SessionState, Step, WillMessage,
};
use tidings_wire::{Delivery, Publication, Topic};

use super::parked::{combined_of, message_of};
use super::{Parked, SessionLimits};
use crate::codec::Encoder;
use crate::journal::{self, Journal};
pub(super) use record::ParkedState;
use record::{Change, Messages, Record};
use stored::{Stored, StoredSession};

/// The sessions, and their files.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) journal: Journal,
    stored: Stored,
    /// The records of the step in progress.
    frame: Encoder,
}

impl Mirror {
    /// The name of the files.
    pub(super) const NAME: &str = "sessions";

    /// Reads the files, and begins new ones.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut stored = Stored::default();
        let loaded = journal::load(folder, Self::NAME, |frame| stored.apply_frame(frame).is_some())?;
        let journal = Journal::start(folder, Self::NAME, loaded, stored.frames())?;
        Ok(Self { journal, stored, frame: Encoder::default() })
    }

    /// The numbers of all sessions.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<_> = self.stored.sessions.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// The wills of connections without a session that is kept.
    pub(super) fn wills(&self) -> Vec<(u64, WillMessage)> {
        let wills = self.stored.sessions.iter().filter(|(_, stored)| stored.is_will());
        wills.filter_map(|(number, stored)| Some((*number, stored.will.as_deref()?.clone()))).collect()
    }

    /// A session, as one without a connection at this time. The connection that it had has ended now.
    pub(super) fn restore(&mut self, session: u64, now: u64) -> Option<(Box<str>, Parked)> {
        let stored = self.stored.sessions.get(&session).filter(|stored| !stored.is_will())?;
        let parked = stored.parked().unwrap_or_else(|| {
            let will = stored.will.as_deref().cloned();
            ParkedState {
                client: String::new(),
                subscriptions: stored.subscriptions.clone(),
                will_due: now + will.as_ref().map_or(0, |will| u64::from(will.delay)),
                will,
                expires: now + u64::from(stored.expiry),
            }
        });
        let unchecked = |message: &Message| Message { is_unchecked: true, ..message.clone() };
        let mut waiting = MessageQueue::default();
        for (_, message) in &stored.waiting {
            waiting.push(unchecked(message), usize::MAX);
        }
        let state = SessionState {
            subscriptions: Vec::new(),
            in_flight: stored.in_flight.clone(),
            waiting,
            received: stored.received.clone(),
            last_packet_id: stored.last_packet_id,
            dropped: stored.dropped,
        };
        let key = stored.key.clone();
        if stored.parked.is_none() {
            self.write(session, Change::Parked(parked.clone()));
        }
        Some((key, Parked::restored(parked, state)))
    }

    /// Whether a session is subscribed to a topic.
    pub(super) fn has(&self, topic: &Topic) -> bool {
        self.stored.subscribers.contains_key(topic)
    }

    /// The topics of a session.
    pub(super) fn topics(&self, session: u64) -> Vec<Topic> {
        let stored = self.stored.sessions.get(&session);
        stored.into_iter().flat_map(|stored| &stored.subscriptions).map(|one| one.topic.clone()).collect()
    }

    /// The session of a connection.
    pub(super) fn session(&self, connection: Connection) -> Option<u64> {
        self.stored.connections.get(&connection).copied()
    }

    pub(super) fn begin(&mut self, session: u64, key: &str, expiry: u32) {
        self.write(session, Change::Begun { key: key.into(), expiry });
    }

    /// A session has the connection of a request.
    pub(super) fn connect(&mut self, session: u64, request: &OpenSession) {
        let OpenSession { connection, client, expiry, .. } = request;
        self.stored.connect(session, *connection);
        let Some(stored) = self.stored.sessions.get_mut(&session) else { return };
        client.clone_into(&mut stored.client);
        if stored.parked.is_some() {
            self.write(session, Change::Resumed { expiry: *expiry });
        }
    }

    pub(super) fn end(&mut self, session: u64) {
        self.write(session, Change::Ended);
    }

    /// A connection has a will, as part of its session or, without one, with this number.
    pub(super) fn begin_will(&mut self, connection: Connection, will: Box<WillMessage>, number: u64) {
        let session = self.session(connection).unwrap_or_else(|| {
            self.begin(number, "", 0);
            self.stored.connect(number, connection);
            number
        });
        self.write(session, Change::Will(will));
    }

    /// The will of a connection is published or discarded. That of a session ends with it or with its parking.
    pub(super) fn end_will(&mut self, connection: Connection) {
        if let Some(number) = self.session(connection)
            && self.stored.sessions.get(&number).is_some_and(StoredSession::is_will)
        {
            self.end(number);
        }
    }

    pub(super) fn park(&mut self, session: u64, parked: &Parked) {
        self.write(session, Change::Parked(parked.to_stored()));
    }

    pub(super) fn will_published(&mut self, session: u64) {
        self.write(session, Change::WillPublished);
    }

    /// The state of the shard replaces the messages of a session.
    pub(super) fn replace(&mut self, session: u64, state: &SessionState) {
        let mut waiting = Vec::new();
        for message in state.waiting.required() {
            waiting.push((self.stored.next_serial(), message.clone()));
        }
        let messages = Messages {
            in_flight: state.in_flight.iter().cloned().collect(),
            waiting,
            received: state.received.clone(),
            last_packet_id: state.last_packet_id,
            dropped: state.dropped,
        };
        self.write(session, Change::Replaced(messages));
    }

    /// Adds a publication to the sessions that are subscribed to its topic.
    pub(super) fn deliver(&mut self, delivery: &Delivery, limits: SessionLimits, now: u64) {
        let Some(subscribers) = self.stored.subscribers.get(&delivery.topic) else { return };
        let receives = |session: &u64| {
            let stored = self.stored.sessions.get(session)?;
            Some((*session, combined_of(&stored.subscriptions, delivery, &stored.client)?))
        };
        let found: Vec<_> = subscribers.iter().filter_map(receives).collect();
        self.add_to(found, &delivery.publication, limits, now);
    }

    /// Adds a publication to sessions, with these options.
    pub(super) fn add_to(
        &mut self,
        sessions: Vec<(u64, Combined)>,
        publication: &Arc<Publication>,
        limits: SessionLimits,
        now: u64,
    ) {
        let mut is_first = true;
        for (session, combined) in sessions {
            let message = message_of(publication, combined, limits.default_qos, now);
            let Some(message) = message.filter(|message| message.qos != Qos::AtMostOnce) else { continue };
            let serial = self.stored.next_serial();
            let change = if std::mem::take(&mut is_first) {
                Change::Added(serial, message)
            } else {
                Change::AddedAgain(serial, message)
            };
            self.write(session, change);
            self.bound(session, limits.queue_bytes.saturating_mul(2));
        }
    }

    /// Drops the oldest messages that wait until a session has at most `limit` bytes.
    fn bound(&mut self, session: u64, limit: usize) {
        let Some(stored) = self.stored.sessions.get(&session) else { return };
        let mut excess = stored.bytes.saturating_sub(limit);
        let mut count = 0;
        for (_, message) in &stored.waiting {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(message.cost());
            count += 1;
        }
        if count > 0 {
            self.write(session, Change::Dropped(count));
        }
    }

    /// A session without a connection has so many messages that wait: the others were dropped, oldest first.
    pub(super) fn trim(&mut self, session: u64, waiting: usize) {
        let Some(stored) = self.stored.sessions.get(&session) else { return };
        let count = stored.waiting.len().saturating_sub(waiting);
        if count > 0 {
            self.write(session, Change::Dropped(u32::try_from(count).unwrap_or(u32::MAX)));
        }
    }

    /// A publication is not sent to a session.
    pub(super) fn drop_publication(&mut self, session: u64, publication: &Arc<Publication>) {
        let serial = self.stored.find(session, publication);
        if let Some(serial) = serial {
            self.write(session, Change::Removed(serial));
        }
    }

    /// Steps of a session with a connection.
    pub(super) fn step(&mut self, session: u64, step: Step) {
        let change = match step {
            Step::Subscribed(subscription) => Change::Subscribed(subscription),
            Step::Unsubscribed(filter) => Change::Unsubscribed(filter),
            Step::Added(message) => Change::Added(self.stored.next_serial(), message),
            Step::Sent(in_flight) => {
                let message = in_flight.message.as_ref();
                match message.and_then(|message| self.stored.find(session, &message.publication)) {
                    Some(serial) => Change::Sent(serial, in_flight.id),
                    None => Change::SentNew(in_flight),
                }
            }
            Step::Dropped(publication) => return self.drop_publication(session, &publication),
            Step::Released(id) => Change::Released(id),
            Step::Ended(id) => Change::Acknowledged(id),
            Step::Received(id) => Change::Received(id),
            Step::Completed(id) => Change::Completed(id),
        };
        self.write(session, change);
    }

    fn write(&mut self, session: u64, change: Change) {
        let record = Record { session, change };
        record.encode(&mut self.frame);
        self.stored.apply(record);
    }

    /// Writes the records of a step, as one frame.
    pub(super) fn flush(&mut self) {
        if !self.frame.0.is_empty() {
            // The journal has the error; a snapshot follows.
            let _ = self.journal.append(&self.frame.0);
            self.frame.0.clear();
            self.frame.0.shrink_to(1 << 20);
        }
    }

    /// The state for a snapshot.
    pub(super) fn state(&self) -> Stored {
        Stored { sessions: self.stored.sessions.clone(), ..Stored::default() }
    }
}
