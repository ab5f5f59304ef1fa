//! The transitions of a subscription that is under way.

use tidings_wire::code;
use tidings_wire::grant::ChannelOverrides;
use tidings_wire::{Channel, HistoryQuery, RecoveryMode, Topic};

use super::options::{Rights, SubscribeOptions};
use super::state::{PendingSubscribe, SubscribeState};
use crate::access::Action;
use crate::decisions::Rejection;
use crate::effects::{Effect, Effects, Request, Response};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::namespace::NamespaceOptions;
use crate::protocols::Protocols;
use crate::session::SessionId;
use crate::topics::Entry;

impl<P: Protocols> Hub<P> {
    /// Begins to make a subscription that is allowed, with what the client may have of `wish`; gives how far it has come.
    pub(crate) fn begin_topic(
        &mut self,
        slot: Slot,
        channel: &Channel,
        wish: &mut SubscribeOptions,
        own: &ChannelOverrides,
        fx: &mut Effects,
    ) -> SubscribeState {
        let options = match self.settings.namespaces.options(channel.as_str()) {
            // Whatever allowed it: a token, a hook, the server API or the options.
            _ if self.settings.access.is_reserved(channel.as_str()) => Err(code::PERMISSION_DENIED),
            options => options,
        };
        let options = match options {
            Ok(options) => options,
            Err(code) => return SubscribeState::Failed(Rejection::from(code).into()),
        };
        wish.grant(options, own, self.rights(slot, options));
        let topic = Topic::Channel(channel.clone());
        let known = self.topics.key(&topic).is_some();
        let key = self.ensure_topic(&topic, fx);
        let live = self.topics.get(key).is_some_and(Entry::is_live);
        if live && !self.reads_in_turn(key, wish) {
            return self.begin_read(slot, key, channel, wish, 0, fx);
        }
        let waiter = self.id_of(slot);
        if let Some(entry) = self.topics.get_mut(key) {
            entry.waiters.push(waiter);
        }
        if known && !live {
            // The state of the broker may have changed: the topic is requested again.
            fx.push(Effect::SubscribeTopic(topic));
        }
        SubscribeState::Subscribing(key)
    }

    /// What a session may request of a channel that it subscribes to.
    fn rights(&self, slot: Slot, options: &NamespaceOptions) -> Rights {
        let identity = self.sessions[slot.index()].identity;
        let may = |action| self.settings.access.permits(action, identity, true, options);
        Rights { history: may(Action::History), presence: may(Action::Presence) }
    }

    /// Whether a subscribe waits with reading the history until it is to be answered.
    fn reads_in_turn(&self, key: TopicKey, wish: &SubscribeOptions) -> bool {
        wish.since.is_some() && wish.positioned && self.topics.get(key).is_some_and(Entry::has_history)
    }

    /// Reads what a client missed for the subscribe whose turn it is: with several, those of a `connect`, for one after
    /// the other, as long as what one client may be sent lasts.
    pub(crate) fn read_for_next(&mut self, slot: Slot, fx: &mut Effects) {
        loop {
            let Some(cold) = self.sessions[slot.index()].existing_cold() else { return };
            let mut left = self.settings.recovery_bytes;
            let mut next = None;
            for (index, join) in cold.pending.head_joins().iter().enumerate() {
                match &join.stage {
                    SubscribeState::Reading { .. } if join.wish.since.is_some() => return,
                    SubscribeState::Read { history, .. } => left = left.saturating_sub(history.size()),
                    SubscribeState::Subscribing(key)
                        if next.is_none()
                            && join.wish.since.is_some()
                            && self.topics.get(*key).is_some_and(Entry::is_live) =>
                    {
                        next = Some((index, *key, join.channel.clone(), join.wish.clone()));
                    }
                    _ => {}
                }
            }
            let Some((index, key, channel, wish)) = next else { return };
            let stage = self.begin_read(slot, key, &channel, &wish, left, fx);
            self.set_stage(slot, index, stage);
        }
    }

    /// The broker has confirmed the topic: reads the history, if the channel has one and the subscription uses it; at most
    /// that many bytes of what was missed.
    fn begin_read(
        &mut self,
        slot: Slot,
        key: TopicKey,
        channel: &Channel,
        wish: &SubscribeOptions,
        max_bytes: usize,
        fx: &mut Effects,
    ) -> SubscribeState {
        if !wish.positioned || !self.topics.get(key).is_some_and(Entry::has_history) {
            return SubscribeState::Live(key);
        }
        let since = wish.since.as_ref();
        let mode = self.options(channel).force_recovery_mode;
        // One more than may be sent, so that too many are seen to be.
        let limit = self.settings.recovery_limit.saturating_add(1);
        let query = match (since, mode) {
            (None, _) => HistoryQuery { limit: Some(0), ..HistoryQuery::default() },
            (Some(_), RecoveryMode::Cache) => {
                HistoryQuery { limit: Some(1), reverse: true, ..HistoryQuery::default() }
            }
            (Some(since), RecoveryMode::Stream) => {
                HistoryQuery { limit: Some(limit), since: since.position(), ..HistoryQuery::default() }
            }
        };
        let query = HistoryQuery { for_subscriber: true, max_bytes, ..query };
        let from = self.topics.start_recording(key);
        let id = self.id_of(slot);
        let ticket = self.sessions[slot.index()].cold().pending.ticket();
        fx.push(Effect::Request(id, ticket, Request::History(channel.clone(), query)));
        SubscribeState::Reading { topic: key, ticket, from }
    }

    /// The options of a channel; those of channels without a namespace when its own is unknown.
    pub fn options(&self, channel: &Channel) -> &NamespaceOptions {
        self.settings.namespaces.options(channel.as_str()).unwrap_or(self.settings.namespaces.without())
    }

    /// The channel of a topic that is one.
    pub(crate) fn channel_of(&self, key: TopicKey) -> Option<Channel> {
        match self.topics.get(key)?.topic() {
            Topic::Channel(channel) => Some(channel.clone()),
            Topic::Pattern(_) => None,
        }
    }

    /// A topic is live: the session's subscribes that waited for that go on.
    pub(crate) fn on_topic_live(&mut self, slot: Slot, key: TopicKey, fx: &mut Effects) {
        if !self.topics.get(key).is_some_and(Entry::is_live) {
            return;
        }
        let mut index = 0;
        loop {
            let Some(cold) = self.sessions[slot.index()].existing_cold() else { return };
            let Some(join) = cold.pending.joins_mut().nth(index) else { return };
            index += 1;
            if join.waits_for() != Some(key) {
                continue;
            }
            let (channel, wish) = (join.channel.clone(), join.wish.clone());
            if self.reads_in_turn(key, &wish) {
                continue;
            }
            let stage = self.begin_read(slot, key, &channel, &wish, 0, fx);
            self.set_stage(slot, index - 1, stage);
        }
    }

    fn set_wish(&mut self, slot: Slot, index: usize, wish: SubscribeOptions) {
        if let Some(cold) = self.sessions[slot.index()].existing_cold()
            && let Some(join) = cold.pending.joins_mut().nth(index)
        {
            join.wish = wish;
        }
    }

    fn set_stage(&mut self, slot: Slot, index: usize, stage: SubscribeState) {
        if let Some(cold) = self.sessions[slot.index()].existing_cold()
            && let Some(join) = cold.pending.joins_mut().nth(index)
        {
            join.stage = stage;
        }
    }

    /// Takes an answer that a subscribe under way waits for; gives it back when none does.
    pub(crate) fn on_subscribe_response(
        &mut self,
        slot: Slot,
        ticket: u32,
        answer: Response,
        fx: &mut Effects,
    ) -> Option<Response> {
        let cold = self.sessions[slot.index()].existing_cold()?;
        let Some((index, join)) =
            cold.pending.joins_mut().enumerate().find(|(_, join)| join.ticket() == Some(ticket))
        else {
            return Some(answer);
        };
        let (channel, mut wish) = (join.channel.clone(), join.wish.clone());
        let stage = match (answer, join.stage.clone()) {
            (Response::Failed(failure), SubscribeState::Reading { topic, .. }) => {
                self.release_pending(slot, Some(topic), Some(topic), fx);
                SubscribeState::Failed(failure)
            }
            (Response::Failed(failure), _) => SubscribeState::Failed(failure),
            (Response::History(history), SubscribeState::Reading { topic, from, .. }) => {
                SubscribeState::Read { topic, from, history }
            }
            (Response::Allowed(admission), SubscribeState::Deciding(_)) => {
                let own = admission.overrides;
                join.admission = *admission;
                let stage = self.begin_topic(slot, &channel, &mut wish, &own, fx);
                self.set_wish(slot, index, wish);
                stage
            }
            _ => SubscribeState::Failed(Rejection::from(code::INTERNAL).into()),
        };
        self.set_stage(slot, index, stage);
        None
    }

    /// A subscribe will not be answered: what was kept for it is let go.
    pub(crate) fn abandon(&mut self, slot: Slot, join: &PendingSubscribe, fx: &mut Effects) {
        self.release_pending(slot, join.catches(), join.holds(), fx);
    }

    /// A subscribe neither has publications kept for it by the one topic any more, nor holds the other.
    pub(crate) fn release_pending(
        &mut self,
        slot: Slot,
        catches: Option<TopicKey>,
        holds: Option<TopicKey>,
        fx: &mut Effects,
    ) {
        let waiter: SessionId = self.id_of(slot);
        if let Some(key) = catches {
            self.topics.stop_recording(key);
        }
        if let Some(key) = holds {
            self.topics.remove_waiter(key, waiter);
            self.release(key, fx);
        }
    }
}
