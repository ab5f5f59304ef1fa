//! Expiry of connections and subscriptions.

use std::time::Duration;

use bytes::Bytes;
use tidings_wire::grant::TokenId;
use tidings_wire::{Channel, Topic, code};

use crate::close::CloseReason;
use crate::context::Context;
use crate::effects::Timer;
use crate::index::TopicKey;
use crate::protocols::{Event, Protocols};

/// The longest time between two checks of an expiry. Timers are not cancelled, so timers of removed sessions must be
/// short.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The time until the expiry at `at` must be checked; `None` if an earlier check is planned.
fn check_after(planned: &mut Option<u64>, at: u64, now: u64, grace: Duration) -> Option<Duration> {
    let after = (Duration::from_secs(at.saturating_sub(now)).saturating_add(grace)).min(MAX_CHECK_INTERVAL);
    let when = now.saturating_add(after.as_secs());
    if planned.is_some_and(|planned| planned <= when) {
        return None;
    }
    *planned = Some(when);
    Some(after)
}

impl<P: Protocols> Context<'_, P> {
    /// Plans the check of a connection that expires at `at`.
    pub(crate) fn start_expiry(&mut self, at: u64) {
        let (now, grace) = (self.hub.time, self.hub.settings.expired_close_delay);
        let user_state = self.session_mut().user_state_mut();
        if let Some(after) =
            user_state.and_then(|user_state| check_after(&mut user_state.expiry_check, at, now, grace))
        {
            self.start_timer(Timer::Expiry, after);
        }
    }

    /// Plans the check of a subscription that expires at `at`.
    pub(crate) fn start_sub_expiry(&mut self, at: u64) {
        let (now, grace) = (self.hub.time, self.hub.settings.expired_sub_close_delay);
        let user_state = self.session_mut().user_state_mut();
        if let Some(after) = user_state.and_then(|m| check_after(&mut m.sub_expiry_check, at, now, grace)) {
            self.start_timer(Timer::SubExpiry, after);
        }
    }

    /// Ends a connection that has expired and was not renewed.
    pub(crate) fn check_connection_expiry(&mut self) {
        let (now, grace) = (self.hub.time, self.hub.settings.expired_close_delay.as_secs());
        let Some(user_state) = self.session_mut().user_state_mut() else { return };
        user_state.expiry_check = None;
        match user_state.expires {
            Some(at) if at.saturating_add(grace) <= now => {
                self.hub.clients.expired += 1;
                self.end(&CloseReason::Expired);
            }
            Some(at) => self.start_expiry(at),
            None => {}
        }
    }

    /// Ends expired subscriptions. The client may subscribe again with a new token.
    pub(crate) fn check_subscription_expiry(&mut self) {
        let (now, grace) = (self.hub.time, self.hub.settings.expired_sub_close_delay.as_secs());
        let Some(user_state) = self.session_mut().user_state_mut() else { return };
        user_state.sub_expiry_check = None;
        let is_over = |at: u64| at.saturating_add(grace) <= now;
        let over = user_state.subs.iter().filter(|sub| sub.expires.is_some_and(is_over));
        let over: Vec<TopicKey> = over.map(|sub| sub.topic).collect();
        let next = user_state.subs.iter().filter_map(|sub| sub.expires).filter(|at| !is_over(*at)).min();
        self.hub.clients.expired += over.len() as u64;
        for key in over {
            self.end_subscription(key, code::SUBSCRIPTION_EXPIRED.number, "expired");
        }
        if let Some(at) = next {
            self.start_sub_expiry(at);
        }
    }

    /// Renews the session's subscription to `channel` until `expires`, with its new token and its new information for
    /// other subscribers, if they change.
    pub fn renew_subscription(
        &mut self,
        channel: &Channel,
        (expires, info, token): (Option<u64>, Option<&Bytes>, Option<&TokenId>),
    ) {
        let key = self.hub.topics.key(&Topic::Channel(channel.clone()));
        let user_state = self.session_mut().user_state_mut();
        let Some(sub) = key.and_then(|key| user_state?.sub_mut(key)) else { return };
        sub.expires = expires;
        if let Some(token) = token {
            sub.token = Some(Box::new(token.clone()));
        }
        if let Some(info) = info {
            sub.info = Some(info.clone());
        }
        if let Some(at) = expires {
            self.start_sub_expiry(at);
        }
    }

    /// Renews the connection until `expires`, with its new token and its new information for other clients, if they
    /// change.
    pub fn renew_connection(
        &mut self,
        (expires, info, token): (Option<u64>, Option<&Bytes>, Option<&TokenId>),
    ) {
        let cold = self.session_mut().cold();
        if let Some(token) = token
            && let Some(user_state) = &mut cold.user_state
        {
            user_state.set_token(Some(token));
        }
        let user_state = cold.user_state.get_or_insert_default();
        user_state.expires = expires;
        if let Some(info) = info {
            user_state.info = Some(info.clone());
        }
        if let Some(at) = expires {
            self.start_expiry(at);
        }
    }

    /// Ends a subscription and reports it with the reason.
    pub(crate) fn end_subscription(&mut self, key: TopicKey, code: u16, reason: &str) {
        let Some(topic) = self.hub.topics.get(key).map(|entry| entry.topic().clone()) else { return };
        if self.unsubscribe_key(key) {
            self.event(Event::Unsubscribed { topic: &topic, code, reason });
        }
    }

    /// Frees the user state of a session if it is empty.
    pub fn drop_empty_user_state(&mut self) {
        let session = self.session_mut();
        if let Some(cold) = session.existing_cold()
            && cold.user_state.as_ref().is_some_and(|user_state| user_state.is_empty())
        {
            cold.user_state = None;
        }
        session.free_unused_state();
    }
}
