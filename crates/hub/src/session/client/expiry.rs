//! Time: connections and subscriptions that end unless they are renewed, and saying again who is present.

use std::time::Duration;

use tidings_wire::client::push::{Event, Unsubscribe};
use tidings_wire::code;

use super::super::{Mark, Protocol, SessionId};
use crate::effects::{Effect, Effects, Note, Timer};
use crate::ending::Ending;
use crate::hub::Hub;
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

impl Hub {
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
            let link = self.sessions[slot as usize].link;
            match link.protocol() {
                Protocol::Client { .. } | Protocol::Events => {}
                Protocol::Unknown | Protocol::Plain => {
                    let words = format!("{reason}: {}", topic.as_str());
                    return fx.send(slot, |out| tidings_wire::plain::error(code, &words, out));
                }
                Protocol::Resp { .. } => return self.resp_unsubscribed(slot, &topic, fx),
            }
            if link.is_events() {
                // It has no other way to learn of it, and would wait for ever.
                let number = if code < 2500 { code::FORCE_DISCONNECT } else { code::POSITION_LOST }.number;
                return self.end(slot, &Ending::Verdict(number, reason.to_owned()), fx);
            }
            let event = Event::Unsubscribe(Unsubscribe { code: code.into(), reason: reason.into() });
            super::replies::send_push(link, slot, topic.as_str(), event, fx);
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
    pub(crate) fn forget_nobody(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        if let Some(more) = session.existing_more()
            && more.member.as_ref().is_some_and(|member| member.is_nobody())
        {
            more.member = None;
        }
        session.settle();
    }
}
