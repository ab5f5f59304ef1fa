//! Events from outside that concern sessions: orders of the application, joins and leaves, lost publications.

use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, ClientInfo, Topic};

use crate::close::CloseReason;
use crate::connect::seconds_left;
use crate::decisions::{Admission, Directive, Order, Rejection, TokenId};
use crate::effects::Effects;
use crate::hub::Hub;
use crate::identity::locate;
use crate::index::{Slot, TopicKey};
use crate::member::SubscriptionFlag;
use crate::protocols::{Event, LossReport, Peer as _, PresenceChange, Protocols, ServerSubscription};
use crate::session::Flag;
use crate::subscribe::{Origin, PendingSubscribe, RecoverFrom, SubscribeOptions, SubscribeState};

impl<P: Protocols> Hub<P> {
    /// Carries out an order on all sessions here that it concerns.
    pub fn order(&mut self, directive: &Directive, fx: &mut Effects) {
        for slot in self.concerned(directive) {
            if self.sessions.contains(slot.index()) && !self.is_closing(slot) {
                self.clients.orders += 1;
                self.carry_out(slot, &directive.order, fx);
            }
        }
    }

    /// The connected sessions that a directive is for.
    fn concerned(&self, directive: &Directive) -> Vec<Slot> {
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
        // A session that is still being accepted ends as well.
        let is_end = by_token || matches!(directive.order, Order::Disconnect { .. } | Order::Replace { .. });
        slots.retain(|slot| {
            let session = &self.sessions[slot.index()];
            let whose = session.member().map(|member| &*member.user).unwrap_or_default();
            (session.flags.has(Flag::Connected) || is_end && session.member().is_some())
                && (is_anyone || whose == user)
                && client.as_ref().is_none_or(|client| self.client_name(self.id_of(*slot)) == *client)
                && self.has_token_of(*slot, &directive.order)
        });
        slots
    }

    /// Whether a session, or one of its subscriptions, came with a token that the order names, if it names any.
    fn has_token_of(&self, slot: Slot, order: &Order) -> bool {
        let Order::EndTokens { .. } = order else { return true };
        let session = &self.sessions[slot.index()];
        let is_named = |token: Option<&TokenId>| token.is_some_and(|token| order_names(order, token));
        self.came_by_token_of(slot, order)
            || session.member().is_some_and(|m| m.subs.iter().any(|sub| is_named(sub.token.as_deref())))
            || session.joins().any(|join| is_named(join.admission.token.as_ref()))
    }

    /// Whether a session came with a token that the order names.
    fn came_by_token_of(&self, slot: Slot, order: &Order) -> bool {
        let Some(member) = self.sessions[slot.index()].member() else { return false };
        let Some(issued) = member.token_issued else { return false };
        let token = TokenId { id: member.token_id.as_deref().map(str::to_owned), issued: Some(issued) };
        order_names(order, &token)
    }

    /// Ends the subscriptions of a session that a token named by the order allows, those under way as well. Their client
    /// does not subscribe again by itself.
    fn end_subscriptions(&mut self, slot: Slot, order: &Order, reason: &str, fx: &mut Effects) {
        let is_named = |token: Option<&TokenId>| token.is_some_and(|token| order_names(order, token));
        let member = self.sessions[slot.index()].member();
        let subs = member.into_iter().flat_map(|member| &member.subs);
        let keys: Vec<TopicKey> =
            subs.filter(|sub| is_named(sub.token.as_deref())).map(|sub| sub.topic).collect();
        self.recall(slot, code::UNAUTHORIZED, fx, |join| is_named(join.admission.token.as_ref()));
        for key in keys {
            self.end_subscription(slot, key, code::UNSUBSCRIBED_BY_SERVER.number, reason, fx);
        }
        self.forget_empty_member(slot);
    }

    fn carry_out(&mut self, slot: Slot, order: &Order, fx: &mut Effects) {
        match order {
            Order::Subscribe { channel, admission, since } => {
                let since = since
                    .as_ref()
                    .map(|p| RecoverFrom { offset: p.offset, epoch: p.epoch.as_str().to_owned() });
                self.order_subscribe(slot, channel, admission, since, fx);
            }
            Order::Unsubscribe { channel, code, reason } => {
                let keys: Vec<TopicKey> = match channel {
                    Some(channel) => self.topics.key(&Topic::Channel(channel.clone())).into_iter().collect(),
                    None => self.sessions[slot.index()].subscriptions().iter().map(|s| s.topic).collect(),
                };
                self.recall(slot, code::UNSUBSCRIBED_BY_SERVER, fx, |join| {
                    join.owner == Origin::Order
                        && channel.as_ref().is_none_or(|channel| join.channel == *channel)
                });
                for key in keys {
                    self.end_subscription(slot, key, *code, reason, fx);
                }
                self.forget_empty_member(slot);
            }
            Order::Disconnect { code, reason, except } => {
                if !except.contains(&self.client_name(self.id_of(slot))) {
                    self.end(slot, &CloseReason::Code(*code, reason.clone()), fx);
                }
            }
            Order::Replace { client, since } => {
                let own = self.sessions[slot.index()].member().map_or(0, |member| member.since);
                let name = self.client_name(self.id_of(slot));
                if name != *client && (own, name) < (*since, client.clone()) {
                    let reason = "replaced by a newer connection of the user (client.single_connection)";
                    self.end(slot, &CloseReason::Code(code::FORCE_DISCONNECT.number, reason.to_owned()), fx);
                }
            }
            Order::EndTokens { code, reason, .. } if self.came_by_token_of(slot, order) => {
                self.end(slot, &CloseReason::Code(*code, reason.clone()), fx);
            }
            Order::EndTokens { reason, .. } => self.end_subscriptions(slot, order, reason, fx),
            Order::Refresh { expired: true, .. } => self.end(slot, &CloseReason::Expired, fx),
            Order::Refresh { expires, .. } => {
                self.renew_connection(slot, (*expires, None, None), fx);
                let left = expires.map(|at| seconds_left(at, self.time));
                self.event(slot, Event::Renewed(left), fx);
            }
        }
    }

    fn order_subscribe(
        &mut self,
        slot: Slot,
        channel: &Channel,
        admission: &Admission,
        since: Option<RecoverFrom>,
        fx: &mut Effects,
    ) {
        if self.settings.access.is_reserved(channel.as_str()) {
            // The server API refuses it; this is for nodes that do not.
            self.errors += 1;
            return;
        }
        let session = &mut self.sessions[slot.index()];
        let under_way = session.subscribes();
        if session.subscriptions().len() + under_way >= self.settings.channel_limit {
            return self.end(
                slot,
                &CloseReason::Code(code::CHANNEL_LIMIT.number, code::CHANNEL_LIMIT.text.into()),
                fx,
            );
        }
        match session.peer.server_subscription(channel) {
            ServerSubscription::Reported => {}
            ServerSubscription::Unreported => {
                return self.subscribe_unconfirmed(slot, &Topic::Channel(channel.clone()), fx);
            }
            ServerSubscription::Refused => {
                self.errors += 1;
                return;
            }
            ServerSubscription::Ignored => return,
        }
        let mut wish = SubscribeOptions { since, ..SubscribeOptions::default() };
        let stage = self.begin_topic(slot, channel, &mut wish, &admission.overrides, fx);
        let (channel, admission) = (channel.clone(), admission.clone());
        let join = PendingSubscribe { channel, owner: Origin::Order, wish, admission, stage };
        self.enqueue_subscribe(slot, join, fx);
    }

    /// Subscriptions that are still under way and for which `which` holds will not be made.
    fn recall(&mut self, slot: Slot, why: Code, fx: &mut Effects, which: impl Fn(&PendingSubscribe) -> bool) {
        let mut index = 0;
        loop {
            let Some(cold) = self.sessions[slot.index()].existing_cold() else { return };
            let Some(join) = cold.pending.joins_mut().nth(index) else { break };
            index += 1;
            if !which(join) {
                continue;
            }
            let (catches, holds) = (join.catches(), join.holds());
            join.stage = SubscribeState::Failed(Rejection::from(why).into());
            self.release_pending(slot, catches, holds, fx);
        }
        self.advance(slot, fx);
    }

    /// A client has joined or left a channel: notifies the subscribers that requested it.
    pub fn changed(&mut self, channel: &Channel, joined: bool, info: &ClientInfo, fx: &mut Effects) {
        let Some(key) = self.topics.key(&Topic::Channel(channel.clone())) else { return };
        let Some(entry) = self.topics.get(key) else { return };
        let watching = |slot: &Slot| {
            let member = self.sessions[slot.index()].member();
            member
                .and_then(|member| member.sub(key))
                .is_some_and(|sub| sub.marks.has(SubscriptionFlag::Watching))
        };
        let slots: Vec<Slot> = entry.all_subscribers().filter(watching).collect();
        P::presence_changed(self, &slots, &PresenceChange { channel, joined, info }, fx);
    }

    /// Publications of a topic are lost. Each subscriber is notified as its protocol reports a loss.
    pub fn lost(&mut self, topic: &Topic, fx: &mut Effects) {
        let words = format!("{}: messages of {} were lost", code::INSUFFICIENT_STATE.text, topic.as_str());
        self.interrupt(topic, code::INSUFFICIENT_STATE, code::INSUFFICIENT_STATE.text, &words, fx);
    }

    /// The broker no longer has the subscription of a topic. Clients of the client protocol are unsubscribed with a code
    /// that has them subscribe again, and again until it succeeds; subscribers with notices stay subscribed; those whose
    /// protocol cannot report it reconnect.
    pub(crate) fn lapsed(&mut self, topic: &Topic, fx: &mut Effects) {
        let words = format!("broker unavailable: {} is interrupted until it is back", topic.as_str());
        self.interrupt(topic, code::INTERNAL, "broker unavailable", &words, fx);
    }

    /// Notifies every subscriber of a topic that publications are missing: `plain` and `words` are the error of a notice.
    fn interrupt(&mut self, topic: &Topic, plain: Code, reason: &str, words: &str, fx: &mut Effects) {
        let Some(key) = self.topics.key(topic) else { return };
        let slots: Vec<Slot> =
            self.topics.get(key).map(|e| e.all_subscribers().collect()).unwrap_or_default();
        for slot in slots {
            match self.sessions[slot.index()].peer.loss_report() {
                LossReport::Resubscribe | LossReport::Reconnect => self.lose_position(slot, key, reason, fx),
                LossReport::Notice => self.event(slot, Event::Interrupted { code: plain, words }, fx),
                LossReport::Close => {
                    let ending = CloseReason::Code(code::POSITION_LOST.number, words.to_owned());
                    self.end(slot, &ending, fx);
                }
            }
        }
    }

    /// A subscriber has missed publications: it subscribes again by itself, or where it cannot, connects again.
    pub(crate) fn lose_position(&mut self, slot: Slot, key: TopicKey, reason: &str, fx: &mut Effects) {
        self.clients.lost += 1;
        let session = &self.sessions[slot.index()];
        let by_server = session
            .member()
            .and_then(|member| member.sub(key))
            .is_some_and(|sub| sub.marks.has(SubscriptionFlag::ServerSide));
        if by_server || session.peer.loss_report() == LossReport::Reconnect {
            let number = code::POSITION_LOST.number;
            return self.end(slot, &CloseReason::Code(number, reason.to_owned()), fx);
        }
        self.end_subscription(slot, key, code::INSUFFICIENT_STATE.number, reason, fx);
    }
}

/// Whether an order to end what tokens allow is about this one.
fn order_names(order: &Order, token: &TokenId) -> bool {
    let Order::EndTokens { id, issued_before, .. } = order else { return false };
    (id.is_none() || token.id == *id) && issued_before.is_none_or(|time| token.issued.unwrap_or(0) < time)
}
