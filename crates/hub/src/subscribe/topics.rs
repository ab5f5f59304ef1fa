//! Topics: from requested at the broker to live, and subscriptions without options.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tidings_tags_filter::Filter;
use tidings_trace::TraceKind;
use tidings_wire::Topic;
use tidings_wire::code::{self, Code};

use super::request::CommandError;
use crate::effects::{Effect, Effects, Failure};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::kind::{SubscriptionKind, check_kind};
use crate::protocols::{Peer as _, Protocols};
use crate::selections::DeltaState;
use crate::session::SessionId;
use crate::topics::{Interest, TopicEntry};

/// The immediate result of a subscribe.
#[derive(Debug)]
pub enum SubscribeOutcome {
    /// The subscription is made.
    Now {
        /// Whether it existed before.
        already: bool,
    },
    /// [`Event::Subscribed`](crate::Event::Subscribed) or [`Event::Failed`](crate::Event::Failed) will report the
    /// result.
    Waiting,
    /// It is not allowed.
    Refused(Code, String),
}

impl<P: Protocols> Hub<P> {
    /// Makes a subscription without a confirmation to the client. It takes effect when the topic is live.
    pub fn subscribe_silently(&mut self, slot: Slot, topic: &Topic, fx: &mut Effects<P::Messages>) {
        let key = self.topics.key(topic).unwrap_or_else(|| self.request_topic(topic, fx));
        if !self.sessions[slot.index()].is_subscribed(key) {
            self.add_subscriber(slot, key);
        }
    }

    /// Adds a topic that does not exist, and requests it at the broker; returns its key.
    pub(crate) fn request_topic(&mut self, topic: &Topic, fx: &mut Effects<P::Messages>) -> TopicKey {
        let options = self.settings.topic_options(topic);
        fx.push(Effect::SubscribeTopic(topic.clone()));
        let stats = self.namespace_stats(topic);
        self.topics.insert(topic, options, stats)
    }

    /// Begins a subscription without options, which is confirmed to the client.
    pub fn begin_subscribe(
        &mut self,
        slot: Slot,
        topic: &Topic,
        id: u32,
        fx: &mut Effects<P::Messages>,
    ) -> SubscribeOutcome {
        let session = &mut self.sessions[slot.index()];
        let has_pending = session.has_pending();
        let held = session.subscriptions().len() + session.subscribe_count();
        let known = self.topics.key(topic);
        let already = known.is_some_and(|key| self.sessions[slot.index()].is_subscribed(key));
        let limit = self.settings.channel_limit;
        if !already && held >= limit {
            return SubscribeOutcome::Refused(
                code::LIMIT_EXCEEDED,
                format!("limit exceeded: {} a connection", code::counted(limit, "channel")),
            );
        }
        if let Topic::Channel(channel) = topic
            && let Ok(options) = self.settings.namespaces.options(channel.as_str())
            && let Err(CommandError(code, text)) = check_kind(options, SubscriptionKind::Stream)
        {
            return SubscribeOutcome::Refused(code, text);
        }
        let key = known.unwrap_or_else(|| self.request_topic(topic, fx));
        let live = self.topics.get(key).is_some_and(TopicEntry::is_live);
        if live && !has_pending {
            if !already {
                self.add_subscriber(slot, key);
            }
            return SubscribeOutcome::Now { already };
        }
        let session = &mut self.sessions[slot.index()];
        session.cold().pending.push_topic_subscribe(key, id);
        let waiter = SessionId { slot, generation: session.generation };
        if let Some(entry) = self.topics.get_mut(key) {
            entry.waiters.push(waiter);
        }
        if known.is_some() && !live {
            // The state of the broker may have changed: the topic is requested again.
            fx.push(Effect::SubscribeTopic(topic.clone()));
        }
        SubscribeOutcome::Waiting
    }

    pub(crate) fn add_subscriber(&mut self, slot: Slot, key: TopicKey) {
        self.add_selected_subscriber(slot, key, None, false);
    }

    /// Adds a subscriber that gets only the publications that pass a filter, and gets them as deltas.
    pub(crate) fn add_selected_subscriber(
        &mut self,
        slot: Slot,
        key: TopicKey,
        filter: Option<Arc<Filter>>,
        has_delta: bool,
    ) {
        let session = &mut self.sessions[slot.index()];
        let index = self.topics.add(key, session.peer.form(), slot, (filter, has_delta));
        session.add_subscription(key, index);
        self.trace_subscription(slot, key, TraceKind::Subscribed);
    }

    /// Ends a subscription; returns whether it existed.
    pub fn unsubscribe(&mut self, slot: Slot, topic: &Topic, fx: &mut Effects<P::Messages>) -> bool {
        let Some(key) = self.topics.key(topic) else { return false };
        if self.traces.is_active() && self.sessions[slot.index()].is_subscribed(key) {
            self.trace_subscription(slot, key, TraceKind::Unsubscribed);
        }
        self.unsubscribe_key(slot, key, fx)
    }

    pub(crate) fn unsubscribe_key(
        &mut self,
        slot: Slot,
        key: TopicKey,
        fx: &mut Effects<P::Messages>,
    ) -> bool {
        let session = &mut self.sessions[slot.index()];
        let Some(subscription) = session.subscription(key) else { return false };
        if subscription.is_no_local() {
            self.set_no_local(slot, key, false);
        }
        let index = subscription.index();
        let session = &mut self.sessions[slot.index()];
        session.remove_subscription(key);
        let sub = session.user_state_mut().and_then(|user_state| user_state.take_sub(key));
        if let Some(sub) = sub {
            self.context(slot, fx).report_leave(&sub);
        }
        let session = &mut self.sessions[slot.index()];
        let form = session.peer.form();
        if let Some(moved) = self.topics.remove(key, form, slot, index) {
            self.sessions[moved.index()].move_subscription(key, index);
        }
        self.release(key, fx);
        true
    }

    /// Ends all subscriptions of a session.
    pub fn unsubscribe_all(&mut self, slot: Slot, fx: &mut Effects<P::Messages>) {
        while let Some(last) = self.sessions[slot.index()].subscriptions().last() {
            let key = last.topic;
            self.trace_subscription(slot, key, TraceKind::Unsubscribed);
            self.unsubscribe_key(slot, key, fx);
        }
    }

    pub(crate) fn release(&mut self, key: TopicKey, fx: &mut Effects<P::Messages>) {
        if let Some(topic) = self.topics.release(key) {
            fx.push(Effect::UnsubscribeTopic(topic));
        }
    }

    /// Changes the connection of a session. Its subscriptions move to the lists of the new wire form.
    pub fn set_peer(&mut self, slot: Slot, new: P::Peer) {
        let session = &mut self.sessions[slot.index()];
        let old = std::mem::replace(&mut session.peer, new);
        if old.form() == new.form() {
            return;
        }
        let subscriptions = session.subscriptions().to_vec();
        for s in subscriptions {
            let selection = self.topics.get(s.topic).and_then(|entry| entry.selection_of(slot));
            let (filter, delta) = selection.unwrap_or((None, DeltaState::Off));
            let selected = (filter.cloned(), delta != DeltaState::Off);
            if let Some(moved) = self.topics.remove(s.topic, old.form(), slot, s.index()) {
                self.sessions[moved.index()].move_subscription(s.topic, s.index());
            }
            let index = self.topics.add(s.topic, new.form(), slot, selected);
            self.sessions[slot.index()].move_subscription(s.topic, index);
        }
    }

    /// Callback for [`Effect::SubscribeTopic`]: the state of the topic, and the node-wide count of its subscribers.
    pub fn on_topic_state(
        &mut self,
        topic: &Topic,
        state: Interest,
        count: Arc<AtomicU64>,
        fx: &mut Effects<P::Messages>,
    ) {
        let Some(key) = self.topics.key(topic) else { return };
        self.topics.set_interest(key, count, state == Interest::Live);
        match state {
            Interest::Live => self.advance_waiters(key, fx),
            Interest::Unavailable => self.fail_waiters(key, &Failure::Unavailable, fx),
            Interest::Pending => {}
        }
    }

    /// Callback when the broker confirms a topic.
    pub fn on_topic_live(&mut self, topic: &Topic, fx: &mut Effects<P::Messages>) {
        if let Some(key) = self.topics.key(topic) {
            self.topics.set_live(key);
            self.advance_waiters(key, fx);
        }
    }

    /// Callback when the broker refuses a topic: sessions that wait for it get `failure`. On the `first` refusal, its
    /// subscribers are notified as well (see [`Hub::on_topic_interrupted`]): they have had no publications since the
    /// connection to the broker was lost.
    pub fn on_topic_refused(
        &mut self,
        topic: &Topic,
        failure: &Failure,
        first: bool,
        fx: &mut Effects<P::Messages>,
    ) {
        if let Some(key) = self.topics.key(topic) {
            self.topics.set_unavailable(key);
            self.fail_waiters(key, failure, fx);
        }
        if first {
            self.on_topic_interrupted(topic, fx);
        }
    }

    /// Callback when the part of the broker that serves a topic is unavailable: sessions that wait for the topic get
    /// that error.
    pub fn on_topic_unavailable(&mut self, topic: &Topic, fx: &mut Effects<P::Messages>) {
        if let Some(key) = self.topics.key(topic) {
            self.topics.set_unavailable(key);
            self.fail_waiters(key, &Failure::Unavailable, fx);
        }
    }

    /// The subscribers of a topic that has a history and is not live.
    pub fn sessions_to_fail_over(&self, topic: &Topic) -> Vec<SessionId> {
        let entry = self.topics.key(topic).and_then(|key| self.topics.get(key));
        let entry = entry.filter(|entry| entry.has_history() && !entry.is_live());
        entry.into_iter().flat_map(TopicEntry::all_subscribers).map(|slot| self.session_id(slot)).collect()
    }

    /// Whether a session is subscribed to a topic that has a history and is not live.
    pub fn needs_failover(&self, slot: Slot) -> bool {
        let Some(session) = self.sessions.get(slot.index()) else { return false };
        session.subscriptions().iter().any(|subscription| {
            self.topics.get(subscription.topic).is_some_and(|entry| entry.has_history() && !entry.is_live())
        })
    }

    /// Callback when the broker is unavailable: sessions that wait for a subscription get that error.
    pub fn on_broker_down(&mut self, fx: &mut Effects<P::Messages>) {
        for key in self.topics.set_all_unavailable() {
            self.fail_waiters(key, &Failure::Unavailable, fx);
        }
    }

    fn advance_waiters(&mut self, key: TopicKey, fx: &mut Effects<P::Messages>) {
        let Some(entry) = self.topics.get_mut(key) else { return };
        for waiter in std::mem::take(&mut entry.waiters) {
            if self.is_current(waiter) {
                self.context(waiter.slot, fx).continue_subscribes(key);
                self.advance(waiter.slot, fx);
                self.keep_waiting(waiter, key);
            }
        }
        self.release(key, fx);
    }

    fn fail_waiters(&mut self, key: TopicKey, failure: &Failure, fx: &mut Effects<P::Messages>) {
        let Some(entry) = self.topics.get_mut(key) else { return };
        for waiter in std::mem::take(&mut entry.waiters) {
            if self.is_current(waiter) {
                self.sessions[waiter.slot.index()].cold().pending.fail_topic(key, failure);
                self.advance(waiter.slot, fx);
            }
        }
        self.release(key, fx);
    }

    /// Keeps a session in the waiting sessions of a topic if it still holds the topic.
    fn keep_waiting(&mut self, waiter: SessionId, key: TopicKey) {
        let session = &mut self.sessions[waiter.slot.index()];
        if session.existing_cold().is_some_and(|cold| cold.pending.topics().any(|t| t == key))
            && let Some(entry) = self.topics.get_mut(key)
        {
            entry.waiters.push(waiter);
        }
    }
}
