//! Time: connections and subscriptions that end unless they are renewed, and saying again who is present.

use std::time::Duration;

use bytes::Bytes;
use tidings_wire::grant::TokenId;
use tidings_wire::{Channel, Topic, code};

use crate::effects::{Effect, Effects, Note, Timer};
use crate::ending::Ending;
use crate::hub::Hub;
use crate::member::Mark;
use crate::protocols::{Event, Protocols};
use crate::session::SessionId;
use crate::topics::TopicKey;

/// How often it is said again where a client is present; well below the time after which it is forgotten.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(25);

/// The longest time between two looks at whether something is over: timers are not taken back, so those of sessions
/// that are gone are to be short.
const LOOK_AGAIN: Duration = Duration::from_secs(10 * 60);

/// After how long to look at whether what ends at `at` is over; `None` when a look that is early enough is on its way.
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
    /// Sees to it that a connection which ends at `at` does.
    pub(crate) fn start_expiry(&mut self, slot: u32, at: u64, fx: &mut Effects) {
        let (now, grace) = (self.time, self.settings.expired_close_delay);
        let member = self.sessions[slot as usize].existing_member();
        if let Some(after) = member.and_then(|member| check_after(&mut member.expiry_check, at, now, grace)) {
            fx.push(Effect::Start(self.id_of(slot), Timer::Expiry, after));
        }
    }

    /// Sees to it that a subscription which ends at `at` does.
    pub(crate) fn start_sub_expiry(&mut self, slot: u32, at: u64, fx: &mut Effects) {
        let (now, grace) = (self.time, self.settings.expired_sub_close_delay);
        let member = self.sessions[slot as usize].existing_member();
        if let Some(after) = member.and_then(|m| check_after(&mut m.sub_expiry_check, at, now, grace)) {
            fx.push(Effect::Start(self.id_of(slot), Timer::SubExpiry, after));
        }
    }

    /// The connection's time may be over: unless it was renewed, it ends.
    pub(crate) fn connection_expiry(&mut self, id: SessionId, fx: &mut Effects) {
        let grace = self.settings.expired_close_delay.as_secs();
        let Some(member) = self.sessions[id.slot as usize].existing_member() else { return };
        member.expiry_check = None;
        match member.expires {
            Some(at) if at.saturating_add(grace) <= self.time => {
                self.clients.expired += 1;
                self.end(id.slot, &Ending::Expired, fx);
            }
            Some(at) => self.start_expiry(id.slot, at, fx),
            None => {}
        }
    }

    /// Subscriptions whose time is over end; their clients may subscribe again with a new token.
    pub(crate) fn subscription_expiry(&mut self, id: SessionId, fx: &mut Effects) {
        let (now, grace) = (self.time, self.settings.expired_sub_close_delay.as_secs());
        let Some(member) = self.sessions[id.slot as usize].existing_member() else { return };
        member.sub_expiry_check = None;
        let is_over = |at: u64| at.saturating_add(grace) <= now;
        let over = member.subs.iter().filter(|sub| sub.expires.is_some_and(is_over));
        let over: Vec<TopicKey> = over.map(|sub| sub.topic).collect();
        let next = member.subs.iter().filter_map(|sub| sub.expires).filter(|at| !is_over(*at)).min();
        self.clients.expired += over.len() as u64;
        for key in over {
            self.take_subscription(id.slot, key, code::SUBSCRIPTION_EXPIRED.number, "expired", fx);
        }
        if let Some(at) = next {
            self.start_sub_expiry(id.slot, at, fx);
        }
    }

    /// The session's subscription to `channel` may stay until `expires`; the token that says so, and what other
    /// subscribers see of the client from now on, where that changes.
    pub fn renew_subscription(
        &mut self,
        slot: u32,
        channel: &Channel,
        (expires, info, token): (Option<u64>, Option<&Bytes>, Option<&TokenId>),
        fx: &mut Effects,
    ) {
        let key = self.topics.key(&Topic::Channel(channel.clone()));
        let member = self.sessions[slot as usize].existing_member();
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

    /// The connection may stay until `expires`; the token that says so, and what others see of the client from now on,
    /// where that changes.
    pub fn renew_connection(
        &mut self,
        slot: u32,
        (expires, info, token): (Option<u64>, Option<&Bytes>, Option<&TokenId>),
        fx: &mut Effects,
    ) {
        let more = self.sessions[slot as usize].more();
        if let Some(token) = token
            && let Some(member) = &mut more.member
        {
            member.set_token(Some(token));
        }
        let member = more.member.get_or_insert_default();
        member.expires = expires;
        if let Some(info) = info {
            member.info = Some(info.clone());
        }
        if let Some(at) = expires {
            self.start_expiry(slot, at, fx);
        }
    }

    /// Ends a subscription and tells the client why.
    pub(crate) fn take_subscription(
        &mut self,
        slot: u32,
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

    /// Sees to it that it is said again and again where a session is present.
    pub(crate) fn keep_present(&mut self, slot: u32, fx: &mut Effects) {
        let id = self.id_of(slot);
        if let Some(member) = self.sessions[slot as usize].existing_member()
            && !std::mem::replace(&mut member.presence_timer, true)
        {
            fx.push(Effect::Start(id, Timer::Presence, PRESENCE_INTERVAL));
        }
    }

    /// Says again where a session is present, for as long as it is anywhere.
    pub(crate) fn still_present(&mut self, id: SessionId, fx: &mut Effects) {
        let slot = id.slot;
        let Some(member) = self.sessions[slot as usize].existing_member() else { return };
        member.presence_timer = false;
        let present = member.subs.iter().filter(|sub| sub.marks.has(Mark::Present));
        let present: Vec<_> = present.map(|sub| (sub.topic, sub.marks.has(Mark::Announced))).collect();
        for (key, announced) in &present {
            if let Some(channel) = self.channel_of(*key) {
                let info = self.client_info(slot, Some(*key));
                fx.push(Effect::Tell(Note::Present(channel, Box::new(info), *announced)));
            }
        }
        if present.is_empty() {
            self.forget_nobody(slot);
        } else {
            self.keep_present(slot, fx);
        }
    }

    /// Gives back what is kept of a session of which there is nothing to be said.
    pub fn forget_nobody(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        if let Some(more) = session.existing_more()
            && more.member.as_ref().is_some_and(|member| member.is_nobody())
        {
            more.member = None;
        }
        session.settle();
    }
}
