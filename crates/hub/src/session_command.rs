//! External events that concern sessions: orders of the application, joins and leaves, lost publications.

use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, ClientInfo, Topic};

use crate::authorization::{Admission, Directive, Order, Rejection, TokenId};
use crate::close::CloseReason;
use crate::connect::seconds_left;
use crate::context::Context;
use crate::effects::Effects;
use crate::hub::Hub;
use crate::identity::locate;
use crate::index::{Slot, TopicKey};
use crate::protocols::{Event, LossReport, Peer as _, PresenceChange, Protocols, ServerSubscription};
use crate::session::Flag;
use crate::subscribe::{Origin, PendingSubscribe, RecoverFrom, SubscribeOptions, SubscribeState};
use crate::user_state::SubscriptionFlag;

impl<P: Protocols> Hub<P> {
    /// Executes the order of a directive on its sessions of this shard.
    pub fn apply_directive(&mut self, directive: &Directive, fx: &mut Effects) {
        for slot in self.target_sessions(directive) {
            if self.sessions.contains(slot.index()) && !self.is_closing(slot) {
                self.clients.orders += 1;
                self.context(slot, fx).apply_order(&directive.order);
            }
        }
    }

    /// The sessions of a directive.
    fn target_sessions(&self, directive: &Directive) -> Vec<Slot> {
        let Directive { user, client, session, .. } = directive;
        let mut slots: Vec<Slot> = if let Some(session) = session {
            let found = locate(&self.settings.session_key, session);
            found
                .filter(|(shard, id)| *shard == self.shard.0 && self.is_current(*id))
                .map(|(_, id)| id.slot)
                .into_iter()
                .collect()
        } else if !user.is_empty() {
            self.users.get(user.as_str()).cloned().unwrap_or_default()
        } else {
            self.slots()
        };
        let by_token = matches!(directive.order, Order::EndTokens { .. });
        let is_anyone = user.is_empty() && (client.is_some() || session.is_some() || by_token);
        // Sessions that are not accepted yet are included.
        let is_end = by_token || matches!(directive.order, Order::Disconnect { .. } | Order::Replace { .. });
        slots.retain(|slot| {
            let session = &self.sessions[slot.index()];
            let session_user = session.user_state().map(|user_state| &*user_state.user).unwrap_or_default();
            (session.flags.has(Flag::Connected) || is_end && session.user_state().is_some())
                && (is_anyone || session_user == user)
                && client.as_ref().is_none_or(|client| self.client_id(self.session_id(*slot)) == *client)
                && self.has_token_of(*slot, &directive.order)
        });
        slots
    }

    /// Whether the order names no tokens, or names the token of the session or of one of its subscriptions.
    fn has_token_of(&self, slot: Slot, order: &Order) -> bool {
        let Order::EndTokens { .. } = order else { return true };
        let session = &self.sessions[slot.index()];
        let is_named = |token: Option<&TokenId>| token.is_some_and(|token| order_matches(order, token));
        self.has_connection_token_of(slot, order)
            || session.user_state().is_some_and(|m| m.subs.iter().any(|sub| is_named(sub.token.as_deref())))
            || session.pending_subscribes().any(|subscribe| is_named(subscribe.admission.token.as_ref()))
    }

    /// Whether the order names the token of the connection.
    fn has_connection_token_of(&self, slot: Slot, order: &Order) -> bool {
        let Some(user_state) = self.sessions[slot.index()].user_state() else { return false };
        let Some(issued) = user_state.token_issued else { return false };
        let token = TokenId { id: user_state.token_id.as_deref().map(str::to_owned), issued: Some(issued) };
        order_matches(order, &token)
    }

    /// A client has joined or left a channel: reports it to the subscribers that requested it.
    pub fn on_presence_change(
        &mut self,
        channel: &Channel,
        joined: bool,
        info: &ClientInfo,
        fx: &mut Effects,
    ) {
        let Some(key) = self.topics.key(&Topic::Channel(channel.clone())) else { return };
        let Some(entry) = self.topics.get(key) else { return };
        let watching = |slot: &Slot| {
            let user_state = self.sessions[slot.index()].user_state();
            user_state
                .and_then(|user_state| user_state.sub(key))
                .is_some_and(|sub| sub.flags.has(SubscriptionFlag::Watching))
        };
        let slots: Vec<Slot> = entry.all_subscribers().filter(watching).collect();
        P::presence_changed(self, &slots, &PresenceChange { channel, joined, info }, fx);
    }

    /// Publications of a topic are lost: reports it to each subscriber, as its protocol provides.
    pub fn on_publications_lost(&mut self, topic: &Topic, fx: &mut Effects) {
        let text = format!("{}: messages of {} were lost", code::INSUFFICIENT_STATE.text, topic.as_str());
        self.interrupt(topic, code::INSUFFICIENT_STATE, code::INSUFFICIENT_STATE.text, &text, fx);
    }

    /// The broker has lost the subscription of a topic. Clients of the client protocol are unsubscribed with a code on
    /// which they subscribe again until it succeeds; subscribers with notices stay subscribed; others reconnect.
    pub(crate) fn on_topic_interrupted(&mut self, topic: &Topic, fx: &mut Effects) {
        let text = format!("broker unavailable: {} is interrupted until it is back", topic.as_str());
        self.interrupt(topic, code::INTERNAL, "broker unavailable", &text, fx);
    }

    /// Reports missing publications to every subscriber of a topic. `code` and `text` are the error of a notice.
    fn interrupt(&mut self, topic: &Topic, code: Code, reason: &str, text: &str, fx: &mut Effects) {
        let Some(key) = self.topics.key(topic) else { return };
        let slots: Vec<Slot> =
            self.topics.get(key).map(|e| e.all_subscribers().collect()).unwrap_or_default();
        for slot in slots {
            match self.sessions[slot.index()].peer.loss_report() {
                LossReport::Resubscribe | LossReport::Reconnect => {
                    self.context(slot, fx).lose_position(key, reason);
                }
                LossReport::Notice => self.event(slot, Event::Interrupted { code, reason: text }, fx),
                LossReport::Close => {
                    let reason = CloseReason::Code(code::POSITION_LOST.number, text.to_owned());
                    self.end(slot, &reason, fx);
                }
            }
        }
    }
}

impl<P: Protocols> Context<'_, P> {
    /// Ends the subscriptions of a session with a token that the order names, also those in progress. The client does
    /// not subscribe again by itself.
    fn end_subscriptions(&mut self, order: &Order, reason: &str) {
        let is_named = |token: Option<&TokenId>| token.is_some_and(|token| order_matches(order, token));
        let user_state = self.session().user_state();
        let subs = user_state.into_iter().flat_map(|user_state| &user_state.subs);
        let keys: Vec<TopicKey> =
            subs.filter(|sub| is_named(sub.token.as_deref())).map(|sub| sub.topic).collect();
        self.cancel_pending(code::UNAUTHORIZED, |subscribe| is_named(subscribe.admission.token.as_ref()));
        for key in keys {
            self.end_subscription(key, code::UNSUBSCRIBED_BY_SERVER.number, reason);
        }
        self.drop_empty_user_state();
    }

    fn apply_order(&mut self, order: &Order) {
        match order {
            Order::Subscribe { channel, admission, since } => {
                let since = since
                    .as_ref()
                    .map(|p| RecoverFrom { offset: p.offset, epoch: p.epoch.as_str().to_owned() });
                self.order_subscribe(channel, admission, since);
            }
            Order::Unsubscribe { channel, code, reason } => {
                let keys: Vec<TopicKey> = match channel {
                    Some(channel) => {
                        self.hub.topics.key(&Topic::Channel(channel.clone())).into_iter().collect()
                    }
                    None => self.session().subscriptions().iter().map(|s| s.topic).collect(),
                };
                self.cancel_pending(code::UNSUBSCRIBED_BY_SERVER, |subscribe| {
                    subscribe.origin == Origin::Order
                        && channel.as_ref().is_none_or(|channel| subscribe.channel == *channel)
                });
                for key in keys {
                    self.end_subscription(key, *code, reason);
                }
                self.drop_empty_user_state();
            }
            Order::Disconnect { code, reason, except } => {
                if !except.contains(&self.hub.client_id(self.id())) {
                    self.end(&CloseReason::Code(*code, reason.clone()));
                }
            }
            Order::Replace { client, since } => {
                let own = self.session().user_state().map_or(0, |user_state| user_state.since);
                let name = self.hub.client_id(self.id());
                if name != *client && (own, name) < (*since, client.clone()) {
                    let reason = "replaced by a newer connection of the user (client.single_connection)";
                    self.end(&CloseReason::Code(code::FORCE_DISCONNECT.number, reason.to_owned()));
                }
            }
            Order::EndTokens { code, reason, .. } if self.hub.has_connection_token_of(self.slot, order) => {
                self.end(&CloseReason::Code(*code, reason.clone()));
            }
            Order::EndTokens { reason, .. } => self.end_subscriptions(order, reason),
            Order::Refresh { expired: true, .. } => self.end(&CloseReason::Expired),
            Order::Refresh { expires, .. } => {
                self.renew_connection((*expires, None, None));
                let left = expires.map(|at| seconds_left(at, self.hub.time));
                self.event(Event::Renewed(left));
            }
        }
    }

    fn order_subscribe(&mut self, channel: &Channel, admission: &Admission, since: Option<RecoverFrom>) {
        if self.hub.settings.access.is_reserved(channel.as_str()) {
            // The server API of this version refuses such an order; other nodes may not.
            self.hub.errors += 1;
            return;
        }
        let session = self.session();
        if session.subscriptions().len() + session.subscribe_count() >= self.hub.settings.channel_limit {
            return self.end(&CloseReason::Code(code::CHANNEL_LIMIT.number, code::CHANNEL_LIMIT.text.into()));
        }
        match session.peer.server_subscription(channel) {
            ServerSubscription::Reported => {}
            ServerSubscription::Unreported => {
                return self.hub.subscribe_silently(self.slot, &Topic::Channel(channel.clone()), self.fx);
            }
            ServerSubscription::Refused => {
                self.hub.errors += 1;
                return;
            }
            ServerSubscription::Ignored => return,
        }
        let mut sub_options = SubscribeOptions { since, ..SubscribeOptions::default() };
        let state = self.begin_topic(channel, &mut sub_options, &admission.overrides);
        let (channel, admission) = (channel.clone(), admission.clone());
        let subscribe = PendingSubscribe { channel, origin: Origin::Order, sub_options, admission, state };
        self.enqueue_subscribe(subscribe);
    }

    /// Cancels the subscriptions in progress that match `which`.
    fn cancel_pending(&mut self, code: Code, which: impl Fn(&PendingSubscribe) -> bool) {
        let mut index = 0;
        loop {
            let Some(cold) = self.session_mut().existing_cold() else { return };
            let Some(subscribe) = cold.pending.pending_subscribes_mut().nth(index) else { break };
            index += 1;
            if !which(subscribe) {
                continue;
            }
            let (recording, held) = (subscribe.recording_topic(), subscribe.held_topic());
            subscribe.state = SubscribeState::Failed(Rejection::from(code).into());
            self.release_pending(recording, held);
        }
        self.advance();
    }

    /// A subscriber has missed publications: ends its subscription so that the client subscribes again, or the session
    /// so that the client connects again.
    pub(crate) fn lose_position(&mut self, key: TopicKey, reason: &str) {
        self.hub.clients.lost += 1;
        let session = self.session();
        let by_server = session
            .user_state()
            .and_then(|user_state| user_state.sub(key))
            .is_some_and(|sub| sub.flags.has(SubscriptionFlag::ServerSide));
        if by_server || session.peer.loss_report() == LossReport::Reconnect {
            let number = code::POSITION_LOST.number;
            return self.end(&CloseReason::Code(number, reason.to_owned()));
        }
        self.end_subscription(key, code::INSUFFICIENT_STATE.number, reason);
    }
}

/// Whether an order to end tokens includes this one.
fn order_matches(order: &Order, token: &TokenId) -> bool {
    let Order::EndTokens { id, issued_before, .. } = order else { return false };
    (id.is_none() || token.id == *id) && issued_before.is_none_or(|time| token.issued.unwrap_or(0) < time)
}
