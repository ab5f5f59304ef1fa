//! The transitions of a subscription in progress.

use tidings_wire::code;
use tidings_wire::{Channel, HistoryQuery, RecoveryMode, Topic};

use super::options::{Rights, SubscribeOptions};
use super::state::{PendingSubscribe, SubscribeState};
use crate::access::Action;
use crate::authorization::{Admission, Rejection};
use crate::context::Context;
use crate::effects::{Effect, Request, Response};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::kind::check_kind;
use crate::namespace::NamespaceOptions;
use crate::protocols::Protocols;
use crate::topics::TopicEntry;

impl<P: Protocols> Hub<P> {
    /// The rights of a session in a channel that it subscribes to, with this admission.
    fn rights(&self, slot: Slot, channel: &Channel, admission: &Admission) -> Rights {
        let (identity, options) = (self.sessions[slot.index()].identity, self.options(channel));
        let may = |action: Action| {
            self.settings.access.permits(action, identity, true, options)
                || action.operation().is_some_and(|operation| admission.allow.contains(operation))
                || self.has_capability(slot, action, channel)
        };
        Rights { history: may(Action::History), presence: may(Action::Presence) }
    }

    /// Whether the history is read only when the subscribe is next to be answered.
    fn defers_read(&self, key: TopicKey, sub_options: &SubscribeOptions) -> bool {
        sub_options.since.is_some()
            && sub_options.positioned
            && self.topics.get(key).is_some_and(TopicEntry::has_history)
    }

    /// The options of a channel; those of channels without a namespace if its namespace is unknown.
    pub fn options(&self, channel: &Channel) -> &NamespaceOptions {
        self.settings.namespaces.options(channel.as_str()).unwrap_or(self.settings.namespaces.without())
    }

    /// The channel of a topic; `None` for a pattern.
    pub(crate) fn channel_of(&self, key: TopicKey) -> Option<Channel> {
        match self.topics.get(key)?.topic() {
            Topic::Channel(channel) => Some(channel.clone()),
            Topic::Pattern(_) => None,
        }
    }
}

impl<P: Protocols> Context<'_, P> {
    /// Begins an allowed subscription, and reduces `sub_options` to the granted ones; returns the new state.
    pub(crate) fn begin_topic(
        &mut self,
        channel: &Channel,
        sub_options: &mut SubscribeOptions,
        admission: &Admission,
    ) -> SubscribeState {
        let options = match self.hub.settings.namespaces.options(channel.as_str()) {
            // Internal channels are closed to every session, whatever allowed the subscription (a token, a hook, the
            // server API).
            _ if self.hub.settings.access.is_reserved(channel.as_str()) => Err(code::PERMISSION_DENIED),
            options => options,
        };
        let options = match options {
            Ok(options) => options,
            Err(code) => return SubscribeState::Failed(Rejection::from(code).into()),
        };
        if let Err(error) = check_kind(options, sub_options.kind()) {
            return SubscribeState::Failed(Rejection::from(error).into());
        }
        if let Some(Err(text)) = options.presence_maps.as_ref().map(|maps| maps.check(channel)) {
            return SubscribeState::Failed(Rejection { text, ..code::BAD_REQUEST.into() }.into());
        }
        sub_options.grant(options, admission, self.hub.rights(self.slot, channel, admission));
        if let Some(state) = self.begin_state_read(channel, sub_options) {
            return state;
        }
        let topic = Topic::Channel(channel.clone());
        let known = self.hub.topics.key(&topic);
        let key = known.unwrap_or_else(|| self.hub.request_topic(&topic, self.fx));
        let live = self.hub.topics.get(key).is_some_and(TopicEntry::is_live);
        if live && !self.hub.defers_read(key, sub_options) {
            return self.begin_read(key, channel, sub_options, 0);
        }
        let waiter = self.id();
        if let Some(entry) = self.hub.topics.get_mut(key) {
            entry.waiters.push(waiter);
        }
        if known.is_some() && !live {
            // The state of the broker may have changed: the topic is requested again.
            self.fx.push(Effect::SubscribeTopic(topic));
        }
        SubscribeState::Subscribing(key)
    }

    /// Reads the missed publications for the subscribe that is next to be answered. The subscribes of a `connect` are
    /// read one after the other, within the bytes that may be sent to one client.
    pub(crate) fn start_next_read(&mut self) {
        loop {
            let Some(cold) = self.session().cold.as_deref() else { return };
            let mut left = self.hub.settings.recovery_bytes;
            let mut next = None;
            for (index, subscribe) in cold.pending.head_subscribes().iter().enumerate() {
                match &subscribe.state {
                    SubscribeState::ReadingHistory { .. } if subscribe.sub_options.since.is_some() => return,
                    SubscribeState::HistoryRead { history, .. } => left = left.saturating_sub(history.size()),
                    SubscribeState::Subscribing(key)
                        if next.is_none()
                            && subscribe.sub_options.since.is_some()
                            && self.hub.topics.get(*key).is_some_and(TopicEntry::is_live) =>
                    {
                        next = Some((index, *key, subscribe.channel.clone(), subscribe.sub_options.clone()));
                    }
                    _ => {}
                }
            }
            let Some((index, key, channel, sub_options)) = next else { return };
            let state = self.begin_read(key, &channel, &sub_options, left);
            self.set_state(index, state);
        }
    }

    /// The state after the broker has confirmed the topic: reads the history if the channel has one and the
    /// subscription uses it, at most `max_bytes` of missed publications.
    fn begin_read(
        &mut self,
        key: TopicKey,
        channel: &Channel,
        sub_options: &SubscribeOptions,
        max_bytes: usize,
    ) -> SubscribeState {
        if let Some(state) = self.begin_poll(key, channel, sub_options) {
            return state;
        }
        if !sub_options.positioned || !self.hub.topics.get(key).is_some_and(TopicEntry::has_history) {
            return SubscribeState::Live(key);
        }
        let since = sub_options.since.as_ref();
        let mode = self.hub.options(channel).force_recovery_mode;
        let is_filtered = sub_options.filter.is_some();
        // One more than may be sent, so that an excess is detected.
        let limit = self.hub.settings.recovery_limit.saturating_add(1);
        let query = match (since, mode) {
            (None, _) => HistoryQuery { limit: Some(0), ..HistoryQuery::default() },
            // The newest publication that passes the filter may have others after it.
            (Some(_), RecoveryMode::Cache) if is_filtered => {
                HistoryQuery { limit: Some(limit), reverse: true, ..HistoryQuery::default() }
            }
            (Some(_), RecoveryMode::Cache) => {
                HistoryQuery { limit: Some(1), reverse: true, ..HistoryQuery::default() }
            }
            (Some(since), RecoveryMode::Stream) => {
                HistoryQuery { limit: Some(limit), since: since.position(), ..HistoryQuery::default() }
            }
        };
        // A subscriber with a filter does not need all of those publications.
        let for_subscriber = !(is_filtered && mode == RecoveryMode::Cache);
        let query = HistoryQuery { for_subscriber, max_bytes, ..query };
        let from = self.hub.topics.start_recording(key);
        let id = self.id();
        let ticket = self.session_mut().cold().pending.ticket();
        self.fx.push(Effect::Request(id, ticket, Request::History(channel.clone(), query)));
        SubscribeState::ReadingHistory { topic: key, ticket, from }
    }

    /// A topic is live: continues the session's subscribes that wait for it.
    pub(crate) fn continue_subscribes(&mut self, key: TopicKey) {
        if !self.hub.topics.get(key).is_some_and(TopicEntry::is_live) {
            return;
        }
        let mut index = 0;
        loop {
            let Some(cold) = self.session_mut().existing_cold() else { return };
            let Some(subscribe) = cold.pending.pending_subscribes_mut().nth(index) else { return };
            index += 1;
            if subscribe.awaited_topic() != Some(key) {
                continue;
            }
            let (channel, sub_options) = (subscribe.channel.clone(), subscribe.sub_options.clone());
            if self.hub.defers_read(key, &sub_options) {
                continue;
            }
            let state = self.begin_read(key, &channel, &sub_options, 0);
            self.set_state(index - 1, state);
        }
    }

    fn set_sub_options(&mut self, index: usize, sub_options: SubscribeOptions) {
        if let Some(cold) = self.session_mut().existing_cold()
            && let Some(subscribe) = cold.pending.pending_subscribes_mut().nth(index)
        {
            subscribe.sub_options = sub_options;
        }
    }

    fn set_state(&mut self, index: usize, state: SubscribeState) {
        if let Some(cold) = self.session_mut().existing_cold()
            && let Some(subscribe) = cold.pending.pending_subscribes_mut().nth(index)
        {
            subscribe.state = state;
        }
    }

    /// Handles the response that a subscribe waits for; returns it if no subscribe waits for it.
    pub(crate) fn on_subscribe_response(
        &mut self,
        ticket: u32,
        response: Response<P::Messages>,
    ) -> Option<Response<P::Messages>> {
        let cold = self.session_mut().existing_cold()?;
        let Some((index, subscribe)) = cold
            .pending
            .pending_subscribes_mut()
            .enumerate()
            .find(|(_, subscribe)| subscribe.ticket() == Some(ticket))
        else {
            return Some(response);
        };
        let (channel, mut sub_options) = (subscribe.channel.clone(), subscribe.sub_options.clone());
        let state = match (response, subscribe.state.clone()) {
            (Response::Failed(failure), SubscribeState::ReadingHistory { topic, .. }) => {
                self.release_pending(Some(topic), Some(topic));
                SubscribeState::Failed(failure)
            }
            (Response::Failed(failure), SubscribeState::JoiningPoll { topic, .. }) => {
                self.release_pending(None, Some(topic));
                SubscribeState::Failed(failure)
            }
            (Response::PollJoined(epoch), SubscribeState::JoiningPoll { topic, .. }) => {
                SubscribeState::PollJoined { topic, epoch }
            }
            (Response::Failed(failure), _) => SubscribeState::Failed(failure),
            (Response::MapState(page), SubscribeState::ReadingState(_)) => SubscribeState::StateRead(page),
            (Response::History(history), SubscribeState::ReadingHistory { topic, from, .. }) => {
                SubscribeState::HistoryRead { topic, from, history }
            }
            (Response::Allowed(admission), SubscribeState::Deciding(_)) => {
                subscribe.admission = (*admission).clone();
                let state = self.begin_topic(&channel, &mut sub_options, &admission);
                self.set_sub_options(index, sub_options);
                state
            }
            _ => SubscribeState::Failed(Rejection::from(code::INTERNAL).into()),
        };
        self.set_state(index, state);
        None
    }

    /// Releases the topics of a subscribe that is cancelled.
    pub(crate) fn cancel_subscribe(&mut self, subscribe: &PendingSubscribe) {
        if subscribe.has_joined_poll() {
            self.leave_poll(subscribe.channel.clone());
        }
        self.release_pending(subscribe.recording_topic(), subscribe.held_topic());
    }

    /// Releases topics of a subscribe: the one that records publications for it, and the one that is kept for it.
    pub(crate) fn release_pending(&mut self, recording: Option<TopicKey>, held: Option<TopicKey>) {
        let waiter = self.id();
        if let Some(key) = recording {
            self.hub.topics.stop_recording(key);
        }
        if let Some(key) = held {
            self.hub.topics.remove_waiter(key, waiter);
            self.release(key);
        }
    }
}
