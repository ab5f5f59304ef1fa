//! Topics: the transition from requested at the broker to live, and subscriptions without options.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tidings_wire::Topic;
use tidings_wire::code::{self, Code};

use crate::effects::{Effect, Effects, Failure};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::namespace::{NamespaceOptions, SlowConsumerPolicy};
use crate::protocols::{Peer as _, Protocols};
use crate::session::SessionId;
use crate::topics::{Entry, Interest, TopicOptions};

/// What a subscribe has come to.
#[derive(Debug)]
pub enum SubscribeOutcome {
    /// It is made.
    Now {
        /// It was there before.
        already: bool,
    },
    /// [`Event::Subscribed`](crate::Event::Subscribed) or [`Event::Failed`](crate::Event::Failed) will report it.
    Waiting,
    /// It is not allowed.
    Refused(Code, String),
}

impl<P: Protocols> Hub<P> {
    /// Makes a subscription that is not confirmed to the client: it takes effect when the topic is live.
    pub fn subscribe_unconfirmed(&mut self, slot: Slot, topic: &Topic, fx: &mut Effects) {
        let key = self.ensure_topic(topic, fx);
        if !self.sessions[slot.index()].is_subscribed(key) {
            self.add_subscriber(slot, key);
        }
    }

    pub(crate) fn ensure_topic(&mut self, topic: &Topic, fx: &mut Effects) -> TopicKey {
        let settings = &self.settings;
        let (key, new) = self.topics.ensure(topic, || match topic {
            Topic::Channel(channel) => {
                let options = settings.namespaces.options(channel.as_str());
                TopicOptions {
                    default_channel: *channel == settings.default_channel,
                    data_format: options.map(|o| o.publication_data_format).unwrap_or_default(),
                    escape: settings.escape,
                    slow_consumer: options.map(|o| o.slow_consumer).unwrap_or_default(),
                    history: options.is_ok_and(NamespaceOptions::has_history),
                }
            }
            Topic::Pattern(_) => TopicOptions {
                default_channel: false,
                data_format: Default::default(),
                escape: settings.escape,
                slow_consumer: SlowConsumerPolicy::Cut,
                history: false,
            },
        });
        if new {
            fx.push(Effect::SubscribeTopic(topic.clone()));
        }
        key
    }

    /// Starts a subscription whose confirmation is owed to the peer.
    pub fn begin_subscribe(
        &mut self,
        slot: Slot,
        topic: &Topic,
        id: u32,
        fx: &mut Effects,
    ) -> SubscribeOutcome {
        let session = &mut self.sessions[slot.index()];
        let awaiting = session.has_pending();
        let held = session.subscriptions().len() + session.subscribes();
        let known = self.topics.key(topic);
        let has = known.is_some_and(|key| self.sessions[slot.index()].is_subscribed(key));
        let limit = self.settings.channel_limit;
        if !has && held >= limit {
            return SubscribeOutcome::Refused(
                code::LIMIT_EXCEEDED,
                format!("limit exceeded: {limit} channels a connection"),
            );
        }
        let key = self.ensure_topic(topic, fx);
        let live = self.topics.get(key).is_some_and(Entry::is_live);
        if live && !awaiting {
            if !has {
                self.add_subscriber(slot, key);
            }
            return SubscribeOutcome::Now { already: has };
        }
        let session = &mut self.sessions[slot.index()];
        session.cold().pending.subscribe(key, id);
        let waiter = SessionId { slot, generation: session.generation };
        if let Some(entry) = self.topics.get_mut(key) {
            entry.waiters.push(waiter);
        }
        if known.is_some() && !live {
            // Known and not live: the state of the broker may have changed, so the topic is requested again.
            fx.push(Effect::SubscribeTopic(topic.clone()));
        }
        SubscribeOutcome::Waiting
    }

    pub(crate) fn add_subscriber(&mut self, slot: Slot, key: TopicKey) {
        let session = &mut self.sessions[slot.index()];
        let place = self.topics.add(key, session.peer.form(), slot);
        session.add_subscription(key, place);
    }

    /// Ends a subscription; gives whether there was one.
    pub fn unsubscribe(&mut self, slot: Slot, topic: &Topic, fx: &mut Effects) -> bool {
        let Some(key) = self.topics.key(topic) else { return false };
        self.unsubscribe_key(slot, key, fx)
    }

    pub(crate) fn unsubscribe_key(&mut self, slot: Slot, key: TopicKey, fx: &mut Effects) -> bool {
        let session = &mut self.sessions[slot.index()];
        let Some(place) = session.place(key) else { return false };
        session.remove_subscription(key);
        let sub = session.existing_member().and_then(|member| member.take_sub(key));
        if let Some(sub) = sub {
            self.report_left(slot, &sub, fx);
        }
        let session = &mut self.sessions[slot.index()];
        let form = session.peer.form();
        if let Some(moved) = self.topics.remove(key, form, place) {
            self.sessions[moved.index()].move_subscription(key, place);
        }
        self.release(key, fx);
        true
    }

    /// Ends all subscriptions of a session.
    pub fn unsubscribe_all(&mut self, slot: Slot, fx: &mut Effects) {
        while let Some(last) = self.sessions[slot.index()].subscriptions().last() {
            let key = last.topic;
            self.unsubscribe_key(slot, key, fx);
        }
    }

    pub(crate) fn release(&mut self, key: TopicKey, fx: &mut Effects) {
        if let Some(topic) = self.topics.release(key) {
            fx.push(Effect::UnsubscribeTopic(topic));
        }
    }

    /// Changes how a session's peer is connected, and with it the lists its subscriptions stand in.
    pub fn set_peer(&mut self, slot: Slot, new: P::Peer) {
        let session = &mut self.sessions[slot.index()];
        let old = std::mem::replace(&mut session.peer, new);
        if old.form() == new.form() {
            return;
        }
        let subscriptions = session.subscriptions().to_vec();
        for s in subscriptions {
            if let Some(moved) = self.topics.remove(s.topic, old.form(), s.place) {
                self.sessions[moved.index()].move_subscription(s.topic, s.place);
            }
            let place = self.topics.add(s.topic, new.form(), slot);
            self.sessions[slot.index()].move_subscription(s.topic, place);
        }
    }

    /// The state of a topic that was requested by [`Effect::SubscribeTopic`] , and the node-wide count of its subscribers.
    pub fn interest(&mut self, topic: &Topic, state: Interest, count: Arc<AtomicU64>, fx: &mut Effects) {
        let Some(key) = self.topics.key(topic) else { return };
        self.topics.set_interest(key, count, state == Interest::Live);
        match state {
            Interest::Live => self.advance_waiters(key, fx),
            Interest::Unavailable => self.fail_waiters(key, &Failure::Unavailable, fx),
            Interest::Pending => {}
        }
    }

    /// The broker has confirmed a topic.
    pub fn live(&mut self, topic: &Topic, fx: &mut Effects) {
        if let Some(key) = self.topics.key(topic) {
            self.topics.set_live(key);
            self.advance_waiters(key, fx);
        }
    }

    /// The broker does not subscribe a topic at present: sessions that wait for it get `failure`. Where this is the
    /// `first` refusal, earlier subscribers, which have been without its publications since the connection to the
    /// broker was lost, are notified as well (see [`Hub::lapsed`]).
    pub fn refused(&mut self, topic: &Topic, failure: &Failure, first: bool, fx: &mut Effects) {
        if let Some(key) = self.topics.key(topic) {
            self.topics.set_away(key);
            self.fail_waiters(key, failure, fx);
        }
        if first {
            self.lapsed(topic, fx);
        }
    }

    /// The part of the broker that serves a topic is unavailable: sessions that wait for the topic get that error.
    pub fn away(&mut self, topic: &Topic, fx: &mut Effects) {
        if let Some(key) = self.topics.key(topic) {
            self.topics.set_away(key);
            self.fail_waiters(key, &Failure::Unavailable, fx);
        }
    }

    /// The sessions that are subscribed to a topic which has a history and is not live.
    pub fn stranded(&self, topic: &Topic) -> Vec<SessionId> {
        let entry = self.topics.key(topic).and_then(|key| self.topics.get(key));
        let entry = entry.filter(|entry| entry.has_history() && !entry.is_live());
        entry.into_iter().flat_map(Entry::all_subscribers).map(|slot| self.id_of(slot)).collect()
    }

    /// Whether a session is subscribed to such a topic.
    pub fn is_stranded(&self, slot: Slot) -> bool {
        let Some(session) = self.sessions.get(slot.index()) else { return false };
        session.subscriptions().iter().any(|subscription| {
            self.topics.get(subscription.topic).is_some_and(|entry| entry.has_history() && !entry.is_live())
        })
    }

    /// The broker is unavailable: sessions that wait for a subscription get that error.
    pub fn broker_down(&mut self, fx: &mut Effects) {
        for key in self.topics.all_down() {
            self.fail_waiters(key, &Failure::Unavailable, fx);
        }
    }

    fn advance_waiters(&mut self, key: TopicKey, fx: &mut Effects) {
        let Some(entry) = self.topics.get_mut(key) else { return };
        for waiter in std::mem::take(&mut entry.waiters) {
            if self.is_current(waiter) {
                self.on_topic_live(waiter.slot, key, fx);
                self.advance(waiter.slot, fx);
                self.still_waiting(waiter, key);
            }
        }
        self.release(key, fx);
    }

    fn fail_waiters(&mut self, key: TopicKey, failure: &Failure, fx: &mut Effects) {
        let Some(entry) = self.topics.get_mut(key) else { return };
        for waiter in std::mem::take(&mut entry.waiters) {
            if self.is_current(waiter) {
                self.sessions[waiter.slot.index()].cold().pending.failed(key, failure);
                self.advance(waiter.slot, fx);
            }
        }
        self.release(key, fx);
    }

    /// A session that waits for something else first still holds this topic.
    fn still_waiting(&mut self, waiter: SessionId, key: TopicKey) {
        let session = &mut self.sessions[waiter.slot.index()];
        if session.existing_cold().is_some_and(|cold| cold.pending.topics().any(|t| t == key))
            && let Some(entry) = self.topics.get_mut(key)
        {
            entry.waiters.push(waiter);
        }
    }
}
