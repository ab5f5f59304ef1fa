//! Expiry of connections and subscriptions.
//!
//! A client renews them with a new token, within a grace period after the expiry. Where the application renews them, it gets a
//! request at the expiry; until its response they continue.

use std::time::Duration;

use tidings_capabilities::{Allow, Capabilities};
use tidings_wire::{Channel, Topic, code};

use crate::access::Action;
use crate::authorization::{AuthorizationRequest, Renewed};
use crate::close::CloseReason;
use crate::context::Context;
use crate::effects::{Effect, Failure, Request, Response, Timer};
use crate::index::TopicKey;
use crate::protocols::{Event, Protocols};
use crate::subscribe::{InFlightKind, SubscribeState};
use crate::user_state::SubscriptionFlag;

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
        let (now, grace) = (self.hub.time, self.connection_grace());
        let user_state = self.session_mut().user_state_mut();
        if let Some(after) =
            user_state.and_then(|user_state| check_after(&mut user_state.expiry_check, at, now, grace))
        {
            self.start_timer(Timer::Expiry, after);
        }
    }

    /// Plans the check of the subscription to a topic that expires at `at`.
    pub(crate) fn start_sub_expiry(&mut self, key: TopicKey, at: u64) {
        let (now, grace) = (self.hub.time, self.subscription_grace(key));
        let user_state = self.session_mut().user_state_mut();
        if let Some(after) = user_state.and_then(|m| check_after(&mut m.sub_expiry_check, at, now, grace)) {
            self.start_timer(Timer::SubExpiry, after);
        }
    }

    /// The time after its expiry in which a client can renew its connection; none if the application renews it.
    fn connection_grace(&self) -> Duration {
        let settings = &self.hub.settings;
        if settings.refresh_proxy { Duration::ZERO } else { settings.expired_close_delay }
    }

    /// The time after its expiry in which a client can renew a subscription; none if the application renews it.
    fn subscription_grace(&self, key: TopicKey) -> Duration {
        if self.is_renewed_by_application(key) {
            Duration::ZERO
        } else {
            self.hub.settings.expired_sub_close_delay
        }
    }

    /// Whether the application renews subscriptions to a topic.
    fn is_renewed_by_application(&self, key: TopicKey) -> bool {
        self.hub.channel_of(key).is_some_and(|channel| self.hub.options(&channel).sub_refresh_proxy)
    }

    /// Ends a connection that has expired and was not renewed, or requests its renewal from the application.
    pub(crate) fn check_connection_expiry(&mut self) {
        let (now, grace) = (self.hub.time, self.connection_grace().as_secs());
        let Some(user_state) = self.session_mut().user_state_mut() else { return };
        user_state.expiry_check = None;
        match user_state.expires {
            Some(at) if at.saturating_add(grace) <= now => {
                if self.hub.settings.refresh_proxy {
                    return self.request_renewal(None);
                }
                self.end_expired_connection();
            }
            Some(at) => self.start_expiry(at),
            None => {}
        }
    }

    fn end_expired_connection(&mut self) {
        self.hub.clients.expired += 1;
        self.end(&CloseReason::Expired);
    }

    /// Ends expired subscriptions, or requests their renewal from the application. After the end of a subscription, the
    /// client may subscribe again with a new token.
    pub(crate) fn check_subscription_expiry(&mut self) {
        let now = self.hub.time;
        let Some(user_state) = self.session_mut().user_state_mut() else { return };
        user_state.sub_expiry_check = None;
        let renewing = SubscriptionFlag::Renewing;
        let expiring = user_state.subs.iter().filter(|sub| !sub.flags.has(renewing));
        let expiring: Vec<_> = expiring.filter_map(|sub| Some((sub.topic, sub.expires?))).collect();
        for (key, at) in expiring {
            if at.saturating_add(self.subscription_grace(key).as_secs()) > now {
                self.start_sub_expiry(key, at);
            } else if let Some(channel) =
                self.hub.channel_of(key).filter(|_| self.is_renewed_by_application(key))
            {
                self.request_renewal(Some((key, channel)));
            } else {
                self.end_expired_subscription(key);
            }
        }
    }

    fn end_expired_subscription(&mut self, key: TopicKey) {
        self.hub.clients.expired += 1;
        self.end_subscription(key, code::SUBSCRIPTION_EXPIRED.number, "expired");
    }

    /// Asks the application whether the connection continues, or its subscription to a channel.
    fn request_renewal(&mut self, subscription: Option<(TopicKey, Channel)>) {
        if let Some((key, _)) = &subscription
            && let Some(sub) = self.session_mut().user_state_mut().and_then(|state| state.sub_mut(*key))
        {
            sub.flags.set(SubscriptionFlag::Renewing, true);
        }
        let channel = subscription.map(|(_, channel)| channel);
        let request = AuthorizationRequest::Renew {
            requester: self.hub.requester(self.slot),
            channel: channel.clone(),
        };
        let own = self.id();
        let pending = &mut self.session_mut().cold().pending;
        let ticket = pending.add_in_flight(0, channel, InFlightKind::Renewal);
        self.fx.push(Effect::Request(own, ticket, Request::Authorize(Box::new(request))));
    }

    /// The application renews the connection, or its subscription to `channel`, or ends it. An expiry that has passed ends it
    /// too.
    pub(crate) fn on_renewal(&mut self, channel: Option<&Channel>, response: &Response<P::Messages>) {
        let now = self.hub.time;
        let renewed = match response {
            Response::Renewed(renewed) if renewed.expires.is_none_or(|at| at > now) => Some(&**renewed),
            _ => None,
        };
        let Some(channel) = channel else {
            let Some(renewed) = renewed else { return self.end_expired_connection() };
            return self.renew_connection(renewed);
        };
        let Some(key) = self.hub.topics.key(&Topic::Channel(channel.clone())) else { return };
        // The client may have ended the subscription, or made another one.
        let sub = self.session_mut().user_state_mut().and_then(|state| state.sub_mut(key));
        let Some(sub) = sub.filter(|sub| sub.flags.has(SubscriptionFlag::Renewing)) else { return };
        sub.flags.set(SubscriptionFlag::Renewing, false);
        match renewed {
            Some(renewed) => self.renew_subscription(channel, renewed),
            None => self.end_expired_subscription(key),
        }
    }

    /// Renews the session's subscription to `channel`, with what changes.
    pub fn renew_subscription(&mut self, channel: &Channel, renewed: &Renewed) {
        let key = self.hub.topics.key(&Topic::Channel(channel.clone()));
        let user_state = self.session_mut().user_state_mut();
        let Some(sub) = key.and_then(|key| user_state?.sub_mut(key)) else { return };
        let Renewed { expires, info, token, allow, .. } = renewed;
        sub.expires = *expires;
        if let Some(token) = token {
            sub.token = Some(Box::new(token.clone()));
        }
        if let Some(info) = info {
            sub.info = Some(info.clone());
        }
        sub.allow = allow.unwrap_or(sub.allow);
        if let Some((key, at)) = key.zip(*expires) {
            self.start_sub_expiry(key, at);
        }
    }

    /// Renews the connection, with what changes. Ends subscriptions that only its former capabilities permitted.
    pub fn renew_connection(&mut self, renewed: &Renewed) {
        let Renewed { expires, info, meta, token, capabilities, .. } = renewed;
        let cold = self.session_mut().cold();
        if let Some(token) = token
            && let Some(user_state) = &mut cold.user_state
        {
            user_state.set_token(Some(token));
        }
        let user_state = cold.user_state.get_or_insert_default();
        user_state.expires = *expires;
        if let Some(info) = info {
            user_state.info = Some(info.clone());
        }
        if meta.is_some() {
            user_state.meta.clone_from(meta);
        }
        let former =
            capabilities.clone().and_then(|new| std::mem::replace(&mut user_state.capabilities, new));
        if let Some(at) = expires {
            self.start_expiry(*at);
        }
        if let Some(former) = former {
            self.fail_uncovered_subscribes(&former);
            self.end_uncovered_subscriptions(&former);
        }
    }

    /// Fails the subscribes in progress that the former capabilities of the connection permitted, and that nothing permits now.
    fn fail_uncovered_subscribes(&mut self, former: &Capabilities) {
        let failure = Failure::Error(code::PERMISSION_DENIED.into());
        let Some(cold) = self.session_mut().existing_cold() else { return };
        let plain: Vec<TopicKey> = cold.pending.plain_topics().collect();
        let own = cold.pending.pending_subscribes().filter(|subscribe| subscribe.is_by_permission());
        let channels: Vec<Channel> = own.map(|subscribe| subscribe.channel.clone()).collect();
        for key in plain {
            let channel = self.hub.channel_of(key);
            if channel.is_some_and(|channel| self.is_channel_uncovered(&channel, former))
                && let Some(cold) = self.session_mut().existing_cold()
            {
                cold.pending.fail_plain_topic(key, &failure);
            }
        }
        for channel in channels {
            if self.is_channel_uncovered(&channel, former) {
                self.fail_subscribe(channel, failure.clone());
            }
        }
    }

    /// Fails the client's subscribe to a channel that is in progress.
    fn fail_subscribe(&mut self, channel: Channel, failure: Failure) {
        let found = self.session_mut().existing_cold().and_then(|cold| {
            let mut subscribes = cold.pending.pending_subscribes_mut();
            let subscribe = subscribes.find(|one| one.is_by_permission() && one.channel == channel)?;
            let found = (subscribe.recording_topic(), subscribe.held_topic(), subscribe.has_joined_poll());
            subscribe.state = SubscribeState::Failed(failure);
            Some(found)
        });
        let Some((recording, held, has_joined_poll)) = found else { return };
        if has_joined_poll {
            self.leave_poll(channel);
        }
        self.release_pending(recording, held);
    }

    /// Ends the subscriptions that the former capabilities of the connection permitted, and that nothing permits now.
    fn end_uncovered_subscriptions(&mut self, former: &Capabilities) {
        let keys = self.session().subscriptions().iter().map(|subscription| subscription.topic);
        let uncovered: Vec<_> = keys.filter(|key| self.is_uncovered(*key, former)).collect();
        let code::Code { number, text, .. } = code::UNSUBSCRIBED_BY_SERVER;
        for key in uncovered {
            self.end_subscription(key, number, text);
        }
        let keys = self.session().subscriptions().iter().map(|subscription| subscription.topic);
        let watched: Vec<_> = keys.filter(|key| self.is_unduly_watched(*key, former)).collect();
        for key in watched {
            let user_state = self.session_mut().existing_cold().and_then(|cold| cold.user_state.as_mut());
            if let Some(sub) = user_state.and_then(|user_state| user_state.sub_mut(key)) {
                sub.flags.set(SubscriptionFlag::Watching, false);
            }
        }
    }

    /// Whether a subscription gets joins and leaves that only the former capabilities permitted.
    fn is_unduly_watched(&self, key: TopicKey, former: &Capabilities) -> bool {
        let Some(channel) = self.hub.channel_of(key) else { return false };
        let details = self.session().user_state().and_then(|user_state| user_state.sub(key));
        details.is_some_and(|sub| {
            sub.flags.has(SubscriptionFlag::Watching)
                && sub.token.is_none()
                && !sub.flags.has(SubscriptionFlag::ServerSide)
        }) && former.allow(channel.as_str(), Allow::PRESENCE)
            && !self.hub.options(&channel).force_push_join_leave
            && self.hub.authorize(self.slot, Action::Presence, &channel).is_err()
    }

    fn is_uncovered(&self, key: TopicKey, former: &Capabilities) -> bool {
        let Some(channel) = self.hub.channel_of(key) else { return false };
        let details = self.session().user_state().and_then(|user_state| user_state.sub(key));
        // A token or the server made the others.
        let is_own =
            details.is_none_or(|sub| sub.token.is_none() && !sub.flags.has(SubscriptionFlag::ServerSide));
        is_own && self.is_channel_uncovered(&channel, former)
    }

    /// Whether only the former capabilities permitted to subscribe to a channel.
    fn is_channel_uncovered(&self, channel: &Channel, former: &Capabilities) -> bool {
        former.allow(channel.as_str(), Allow::SUBSCRIBE)
            && !self.hub.is_decided_by_application(self.slot, Action::Subscribe, channel)
            && self.hub.authorize(self.slot, Action::Subscribe, channel).is_err()
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
