//! The work of a node in the observation of all nodes: it observes, or follows the node that does.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidings_config::WebhookEvent;
use tidings_wire::Channel;

use crate::change::Change;
use crate::election::Election;
use crate::event::Event;
use crate::message::{Message, split};
use crate::observer::Observer;
use crate::{ChannelCounts, Deployment, MAX_TOUCHED, Webhooks};

/// Time after which the users of all channels are read again, whether or not they may have changed.
const FULL_INTERVAL: Duration = Duration::from_secs(60);
/// Time after a change of the list of nodes until the users of all channels are read: those of an ended node are removed first.
const EVICTION_TIME: Duration = Duration::from_secs(3);
/// The least time between two requests for the state.
const REQUEST_INTERVAL: Duration = Duration::from_secs(2);

/// What a node has received, and what it sends next.
#[derive(Debug)]
pub(crate) struct Observing {
    election: Option<Election>,
    observer: Observer,
    grace: Duration,
    interval: Duration,
    /// The number of the last message with changes, of this node or of the one that it follows. `None` without a state.
    sequence: Option<u64>,
    /// The parts of a state that have arrived.
    parts: Option<Observer>,
    /// Channels whose users may have changed on any node.
    touched: BTreeSet<String>,
    /// Channels whose users were read in the last observation. They are read a second time, because the broker may have changed
    /// them after the sign of a change.
    again: BTreeSet<String>,
    /// When the users of all channels are read next.
    full_due: Option<Instant>,
    /// Whether this node has observed last.
    is_observing: bool,
    /// The other nodes at the last observation.
    others: Vec<String>,
    /// Another node has requested the state.
    is_state_due: bool,
    requested: Option<Instant>,
}

impl Observing {
    pub(crate) fn new(grace: Duration, interval: Duration) -> Self {
        Self {
            election: None,
            observer: Observer::new(grace),
            grace,
            interval,
            sequence: None,
            parts: None,
            touched: BTreeSet::new(),
            again: BTreeSet::new(),
            full_due: None,
            is_observing: false,
            others: Vec::new(),
            is_state_due: false,
            requested: None,
        }
    }

    /// Applies a message of a node. Messages of this node have no effect but for [`Message::Touched`].
    pub(crate) fn on_message(&mut self, from: &str, message: Message, now: Instant) {
        let Some(election) = &mut self.election else { return };
        match message {
            Message::Touched(channels) => self.touch(channels, now),
            Message::StateRequest {} => self.is_state_due = true,
            Message::Changes { sequence, changes } => {
                if !election.on_message(from, now) {
                    return;
                }
                if self.sequence.is_some_and(|last| last + 1 == sequence) {
                    changes.iter().for_each(|change| self.observer.apply(change));
                    self.sequence = Some(sequence);
                } else if self.sequence != Some(sequence) {
                    // The state is kept: it is better than none if the other node ends now.
                    self.sequence = None;
                }
            }
            Message::State { sequence, is_first, is_last, changes } => {
                if !election.on_message(from, now) || self.sequence.is_some() {
                    return;
                }
                if is_first {
                    self.parts = Some(Observer::new(self.grace));
                }
                let Some(parts) = &mut self.parts else { return };
                changes.iter().for_each(|change| parts.apply(change));
                if is_last && let Some(parts) = self.parts.take() {
                    self.observer = parts;
                    self.sequence = Some(sequence);
                }
            }
        }
    }

    fn touch(&mut self, channels: impl IntoIterator<Item = String>, now: Instant) {
        for channel in channels {
            if self.touched.len() >= MAX_TOUCHED {
                self.full_due = Some(now);
                return;
            }
            self.touched.insert(channel);
        }
    }

    /// The channels whose users are read now: those with a sign of a change now or in the last observation, or all.
    fn take_due(&mut self, changes: &[Change], now: Instant) -> BTreeSet<String> {
        let mut signs = mem::take(&mut self.touched);
        // Another number of subscriptions is a sign of other users.
        signs.extend(changes.iter().filter_map(|change| match change {
            Change::Count(name, _) => Some(name.clone()),
            _ => None,
        }));
        let mut due = mem::replace(&mut self.again, signs.clone());
        due.extend(signs);
        if self.full_due.is_none_or(|at| at <= now) {
            self.full_due = Some(now + FULL_INTERVAL);
            due.extend(self.observer.channels().map(str::to_owned));
        }
        due.retain(|name| self.observer.is_occupied(name));
        due
    }

    /// What this node does now.
    fn role(&mut self, deployment: &dyn Deployment, now: Instant) -> Role {
        let others = deployment.others();
        let election = self
            .election
            .get_or_insert_with(|| Election::new(deployment.uid(), others.is_some(), self.interval, now));
        let others = others.unwrap_or_default();
        if election.observes(&others, now) {
            // The users of an ended node are removed after it is missing in the list of nodes.
            if !mem::replace(&mut self.is_observing, true) || self.others != others {
                self.full_due = Some(now + EVICTION_TIME);
            }
            self.others = others;
            return Role::Observes;
        }
        self.is_observing = false;
        let is_request_due = self.requested.is_none_or(|at| now.duration_since(at) >= REQUEST_INTERVAL);
        if election.follows() && self.sequence.is_none() && is_request_due {
            self.requested = Some(now);
            return Role::RequestsState;
        }
        self.is_state_due = false;
        self.touched.clear();
        Role::Follows
    }
}

enum Role {
    Observes,
    Follows,
    RequestsState,
}

impl Webhooks {
    pub(crate) async fn observe_forever(&self, deployment: &dyn Deployment) {
        loop {
            let touched = mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
            let too_many = self.touched_too_many.swap(false, Ordering::Relaxed);
            let role = self.lock().role(deployment, Instant::now());
            match role {
                Role::Observes => {
                    {
                        let mut observing = self.lock();
                        observing.touch(touched, Instant::now());
                        if too_many {
                            observing.full_due = None;
                        }
                    }
                    self.observe(deployment).await;
                }
                Role::Follows | Role::RequestsState => {
                    if !touched.is_empty() {
                        deployment.send(&Message::Touched(touched.into_iter().collect()).encode());
                    }
                    if matches!(role, Role::RequestsState) {
                        deployment.send(&Message::StateRequest {}.encode());
                    }
                }
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    /// Observes all nodes, adds the events, and sends the changes to the other nodes.
    async fn observe(&self, deployment: &dyn Deployment) {
        let mut changes = Vec::new();
        match self.channels(deployment).await {
            Ok(counts) => {
                let due = {
                    let mut observing = self.lock();
                    observing.observer.observe(Instant::now(), &counts, &mut changes);
                    observing.take_due(&changes, Instant::now())
                };
                self.read_users(deployment, due, &mut changes).await;
            }
            Err(error) => self.count_failure(&error),
        }
        changes.iter().for_each(|change| self.add(&Event::Change(change)));
        self.send_changes(deployment, changes);
    }

    /// The numbers of subscriptions of all channels with receivers.
    async fn channels(&self, deployment: &dyn Deployment) -> Result<ChannelCounts, String> {
        let observed = self.endpoints.iter().filter(|endpoint| endpoint.wants_any(&crate::OBSERVED));
        let mut beginnings: Vec<String> = observed.flat_map(|endpoint| endpoint.beginnings()).collect();
        if beginnings.iter().any(String::is_empty) {
            return deployment.channels(None).await;
        }
        beginnings.sort_unstable();
        beginnings.dedup();
        let mut counts = BTreeMap::new();
        for beginning in beginnings {
            counts.extend(deployment.channels(Some(&beginning)).await?);
        }
        Ok(counts)
    }

    async fn read_users(
        &self,
        deployment: &dyn Deployment,
        due: BTreeSet<String>,
        changes: &mut Vec<Change>,
    ) {
        for name in due {
            let is_wanted =
                self.is_wanted(WebhookEvent::Joined, &name) || self.is_wanted(WebhookEvent::Left, &name);
            if !is_wanted || !deployment.has_presence(&name) {
                continue;
            }
            let Ok(channel) = Channel::new(&name) else { continue };
            match deployment.users(channel).await {
                Ok(users) => {
                    let mut observing = self.lock();
                    if !observing.observer.observe_users(Instant::now(), &name, &users, changes) {
                        self.count_failure("there are more users than webhooks observe");
                    }
                }
                Err(error) => {
                    self.count_failure(&error);
                    self.lock().touch([name], Instant::now());
                }
            }
        }
    }

    fn send_changes(&self, deployment: &dyn Deployment, changes: Vec<Change>) {
        if deployment.others().is_none() {
            return;
        }
        let mut parts = split(changes);
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let mut observing = self.lock();
        for changes in parts {
            let sequence = observing.sequence.map_or(0, |last| last + 1);
            observing.sequence = Some(sequence);
            deployment.send(&Message::Changes { sequence, changes }.encode());
        }
        if mem::take(&mut observing.is_state_due) {
            let sequence = observing.sequence.unwrap_or(0);
            for message in Message::state(sequence, observing.observer.state()) {
                deployment.send(&message.encode());
            }
        }
    }
}
