//! The files of sessions: their begin, the steps of connected sessions, snapshots.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tidings_mqtt_session::{Connection, Step, WillMessage};
use tidings_wire::{Publication, Topic};

use super::groups::Member;
use super::mirror::Mirror;
use super::{Place, Session, SessionEffects, SessionLimits, Sessions, State, shared_of};
use crate::journal::{Journal, StorageError};
use crate::storage::Files;

impl<W> Sessions<W> {
    /// With the sessions in the files of a folder, which has further changes from now on. Returns the topics to subscribe to
    /// as well. Sessions beyond a limit continue; further ones are refused.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn open_files(limits: SessionLimits, folder: &Path, now: u64) -> io::Result<(Self, Vec<Topic>)> {
        let Self { state, .. } = Self::new(limits);
        let mut state = state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut topics = Vec::new();
        let mut mirror = Mirror::open(folder)?;
        for id in mirror.numbers() {
            state.next = state.next.max(id);
            let Some((key, parked)) = mirror.restore(id, now) else { continue };
            for subscription in shared_of(&parked.subscriptions) {
                let (topic, filter, options) =
                    (&subscription.topic, &subscription.filter, subscription.options);
                state.groups.join(topic, filter, Member::Parked(id), options);
            }
            for subscription in &parked.subscriptions {
                topics.push(subscription.topic.clone());
                if !subscription.is_shared() {
                    state.subscribers.entry(subscription.topic.clone()).or_default().insert(id);
                }
            }
            state.bytes += parked.bytes();
            state.deadlines.insert((parked.deadline(), id));
            state.names.insert(key.clone(), id);
            let session = Session { key, place: Place::Parked(Box::new(parked)), waiter: None };
            state.sessions.insert(id, session);
        }
        mirror.flush();
        mirror.journal.check().map_err(io::Error::other)?;
        let is_failed = mirror.journal.is_failed();
        state.mirror = Some(mirror);
        Ok((Self { state: Mutex::new(state), is_failed }, topics))
    }

    /// Whether the files have each change.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn check_files(&self) -> Result<(), StorageError> {
        if !self.is_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.lock().mirror.as_ref().map_or(Ok(()), |mirror| mirror.journal.check())
    }
}

impl<W> Sessions<W> {
    /// The wills of connections that an earlier process had at its end, without those of sessions that continue. Each has the
    /// number for [`Self::end_will`]. Called before there are connections.
    pub fn earlier_wills(&self) -> Vec<(u64, WillMessage)> {
        self.lock().mirror.as_ref().map(Mirror::wills).unwrap_or_default()
    }

    /// A will of an earlier start is published.
    pub fn end_will(&self, number: u64) {
        let state = &mut *self.lock();
        if let Some(mirror) = &mut state.mirror {
            mirror.end(number);
        }
        state.flush();
    }
}

impl<W> State<W> {
    /// Writes the records of a change.
    pub(super) fn flush(&mut self) {
        if let Some(mirror) = &mut self.mirror {
            mirror.flush();
        }
    }

    /// Whether the store gets the publications of a topic.
    pub(super) fn is_used(&self, topic: &Topic) -> bool {
        self.subscribers.contains_key(topic)
            || self.groups.has(topic)
            || self.mirror.as_ref().is_some_and(|mirror| mirror.has(topic))
    }

    /// A session has ended.
    pub(super) fn end_stored(&mut self, id: u64, fx: &mut SessionEffects<W>) {
        let Some(mirror) = &mut self.mirror else { return };
        let topics = mirror.topics(id);
        mirror.end(id);
        fx.released.extend(topics.into_iter().filter(|topic| !self.is_used(topic)));
    }

    /// Steps of a session with a connection.
    pub(super) fn take_steps(
        &mut self,
        connection: Connection,
        steps: Vec<Step>,
        fx: &mut SessionEffects<W>,
    ) {
        let Some(mirror) = &mut self.mirror else { return };
        let Some(id) = mirror.session(connection) else { return };
        let before = if steps.iter().any(Step::changes_topics) { mirror.topics(id) } else { Vec::new() };
        for step in steps {
            if let Step::Subscribed(subscription) = &step
                && !subscription.is_shared()
            {
                fx.joined.push(subscription.topic.clone());
            }
            mirror.step(id, step);
        }
        fx.released.extend(before.into_iter().filter(|topic| !self.is_used(topic)));
    }

    /// The will of a connection, or none any more.
    pub(super) fn take_will(&mut self, connection: Connection, will: Option<Box<WillMessage>>) {
        let Some(mirror) = &mut self.mirror else { return };
        match will {
            Some(will) => {
                self.next += 1;
                mirror.begin_will(connection, will, self.next);
            }
            None => mirror.end_will(connection),
        }
    }

    /// A member of a group has not got a publication.
    pub(super) fn not_delivered(&mut self, connection: Connection, publication: &Arc<Publication>) {
        if let Some(mirror) = &mut self.mirror
            && let Some(session) = mirror.session(connection)
        {
            mirror.drop_publication(session, publication);
        }
    }
}

impl<W: Send + 'static> Files for Sessions<W> {
    fn name(&self) -> &'static str {
        Mirror::NAME
    }

    fn with_journal(&self, use_it: &mut dyn FnMut(&mut Journal)) {
        if let Some(mirror) = &mut self.lock().mirror {
            use_it(&mut mirror.journal);
        }
    }

    fn snapshot(&self) {
        let mut state = self.lock();
        let Some(mirror) = state.mirror.as_mut().filter(|mirror| mirror.journal.needs_snapshot()) else {
            return;
        };
        let Some(file) = mirror.journal.begin_snapshot() else { return };
        let copy = mirror.state();
        drop(state);
        let mut written = Some(file.write(copy.frames()));
        self.with_journal(&mut |journal| {
            if let Some(written) = written.take() {
                journal.end_snapshot(written);
            }
        });
    }
}
