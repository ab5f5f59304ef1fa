//! Expiry: connections and subscriptions that end unless they are renewed, and the refresh of presence.

use std::time::Duration;

use bytes::Bytes;
use tidings_wire::grant::TokenId;
use tidings_wire::{Channel, Topic, code};

use crate::close::CloseReason;
use crate::effects::{Effect, Effects, Notification, Timer};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::member::SubscriptionFlag;
use crate::protocols::{Event, Protocols};
use crate::session::SessionId;

/// How often the presence of a client is refreshed; well below its time to live.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(25);

/// The longest time between two checks of an expiry: timers are not cancelled, so those of sessions
/// that are gone must be short.
const LOOK_AGAIN: Duration = Duration::from_secs(10 * 60);

/// After how long to check the expiry at `at`; `None` when a check that is early enough is planned.
fn check_after(planned: &mut Option<u64>, at: u64, now: u64, grace: Duration) -> Option<Duration> {
    let after = (Duration::from_secs(at.saturating_sub(now)).saturating_add(grace)).min(LOOK_AGAIN);
    let when = now.saturating_add(after.as_secs());
    if planned.is_some_and(|planned| planned <= when) {
        return None;
    }
    *planned = Some(when);
    Some(after)
}

impl<P: Protocols> Hub<P> {
    /// Plans the end of a connection that expires at `at`.
    pub(crate) fn start_expiry(&mut self, slot: Slot, at: u64, fx: &mut Effects) {
        let (now, grace) = (self.time, self.settings.expired_close_delay);
        let member = self.sessions[slot.index()].existing_member();
        if let Some(after) = member.and_then(|member| check_after(&mut member.expiry_check, at, now, grace)) {
            fx.push(Effect::Start(self.id_of(slot), Timer::Expiry, after));
        }
    }

    /// Plans the end of a subscription that expires at `at`.
    pub(crate) fn start_sub_expiry(&mut self, slot: Slot, at: u64, fx: &mut Effects) {
        let (now, grace) = (self.time, self.settings.expired_sub_close_delay);
        let member = self.sessions[slot.index()].existing_member();
        if let Some(after) = member.and_then(|m| check_after(&mut m.sub_expiry_check, at, now, grace)) {
            fx.push(Effect::Start(self.id_of(slot), Timer::SubExpiry, after));
        }
    }

    /// The connection may have expired: unless it was renewed, it ends.
    pub(crate) fn connection_expiry(&mut self, id: SessionId, fx: &mut Effects) {
        let grace = self.settings.expired_close_delay.as_secs();
        let Some(member) = self.sessions[id.slot.index()].existing_member() else { return };
        member.expiry_check = None;
        match member.expires {
            Some(at) if at.saturating_add(grace) <= self.time => {
                self.clients.expired += 1;
                self.end(id.slot, &CloseReason::Expired, fx);
            }
            Some(at) => self.start_expiry(id.slot, at, fx),
            None => {}
        }
    }

    /// Expired subscriptions end; their clients may subscribe again with a new token.
    pub(crate) fn subscription_expiry(&mut self, id: SessionId, fx: &mut Effects) {
        let (now, grace) = (self.time, self.settings.expired_sub_close_delay.as_secs());
        let Some(member) = self.sessions[id.slot.index()].existing_member() else { return };
        member.sub_expiry_check = None;
        let is_over = |at: u64| at.saturating_add(grace) <= now;
        let over = member.subs.iter().filter(|sub| sub.expires.is_some_and(is_over));
        let over: Vec<TopicKey> = over.map(|sub| sub.topic).collect();
        let next = member.subs.iter().filter_map(|sub| sub.expires).filter(|at| !is_over(*at)).min();
        self.clients.expired += over.len() as u64;
        for key in over {
            self.end_subscription(id.slot, key, code::SUBSCRIPTION_EXPIRED.number, "expired", fx);
        }
        if let Some(at) = next {
            self.start_sub_expiry(id.slot, at, fx);
        }
    }

    /// The session's subscription to `channel` may stay until `expires`; its new token, and what other
    /// subscribers see of the client from now on, where that changes.
    pub fn renew_subscription(
        &mut self,
        slot: Slot,
        channel: &Channel,
        (expires, info, token): (Option<u64>, Option<&Bytes>, Option<&TokenId>),
        fx: &mut Effects,
    ) {
        let key = self.topics.key(&Topic::Channel(channel.clone()));
        let member = self.sessions[slot.index()].existing_member();
        let Some(sub) = key.and_then(|key| member?.sub_mut(key)) else { return };
        sub.expires = expires;
        if let Some(token) = token {
            sub.token = Some(Box::new(token.clone()));
        }
        if let Some(info) = info {
            sub.info = Some(info.clone());
        }
        if let Some(at) = expires {
            self.start_sub_expiry(slot, at, fx);
        }
    }

    /// The connection may stay until `expires`; its new token, and what other clients see of it from now on,
    /// where that changes.
    pub fn renew_connection(
        &mut self,
        slot: Slot,
        (expires, info, token): (Option<u64>, Option<&Bytes>, Option<&TokenId>),
        fx: &mut Effects,
    ) {
        let cold = self.sessions[slot.index()].cold();
        if let Some(token) = token
            && let Some(member) = &mut cold.member
        {
            member.set_token(Some(token));
        }
        let member = cold.member.get_or_insert_default();
        member.expires = expires;
        if let Some(info) = info {
            member.info = Some(info.clone());
        }
        if let Some(at) = expires {
            self.start_expiry(slot, at, fx);
        }
    }

    /// Ends a subscription and reports the reason.
    pub(crate) fn end_subscription(
        &mut self,
        slot: Slot,
        key: TopicKey,
        code: u16,
        reason: &str,
        fx: &mut Effects,
    ) {
        let Some(topic) = self.topics.get(key).map(|entry| entry.topic().clone()) else { return };
        if self.unsubscribe_key(slot, key, fx) {
            self.event(slot, Event::Unsubscribed { topic: &topic, code, reason }, fx);
        }
    }

    /// Starts the timer that refreshes a session's presence.
    pub(crate) fn start_presence_timer(&mut self, slot: Slot, fx: &mut Effects) {
        let id = self.id_of(slot);
        if let Some(member) = self.sessions[slot.index()].existing_member()
            && !std::mem::replace(&mut member.presence_timer, true)
        {
            fx.push(Effect::Start(id, Timer::Presence, PRESENCE_INTERVAL));
        }
    }

    /// Refreshes the presence of a session, for as long as it has any.
    pub(crate) fn refresh_presence(&mut self, id: SessionId, fx: &mut Effects) {
        let slot = id.slot;
        let Some(member) = self.sessions[slot.index()].existing_member() else { return };
        member.presence_timer = false;
        let present = member.subs.iter().filter(|sub| sub.marks.has(SubscriptionFlag::Present));
        let present: Vec<_> =
            present.map(|sub| (sub.topic, sub.marks.has(SubscriptionFlag::Announced))).collect();
        for (key, announced) in &present {
            if let Some(channel) = self.channel_of(*key) {
                let info = self.client_info(slot, Some(*key));
                fx.push(Effect::Notify(Notification::Present(channel, Box::new(info), *announced)));
            }
        }
        if present.is_empty() {
            self.forget_empty_member(slot);
        } else {
            self.start_presence_timer(slot, fx);
        }
    }

    /// Frees the user and special subscriptions of a session that has neither.
    pub fn forget_empty_member(&mut self, slot: Slot) {
        let session = &mut self.sessions[slot.index()];
        if let Some(cold) = session.existing_cold()
            && cold.member.as_ref().is_some_and(|member| member.is_nobody())
        {
            cold.member = None;
        }
        session.settle();
    }
}
