//! Accepting a connection: its user, and its subscriptions.

use tidings_wire::{Channel, code};

use crate::access::{Action, Identity, UserBoundaries};
use crate::authorization::{Admission, Connected, Rejection};
use crate::context::Context;
use crate::effects::Failure;
use crate::hub::Hub;
use crate::protocols::{Event, Protocols};
use crate::session::Flag;
use crate::settings::Settings;
use crate::subscribe::{Completed, Origin, PendingConnect, PendingSubscribe, SubscribeOptions};
use crate::user_state::UserState;

impl<P: Protocols> Hub<P> {
    /// The channels that the token or the application grants to a connection, and the personal channel of its user.
    ///
    /// # Errors
    /// If a channel is internal or of an unknown namespace, or if the id of the user would be ambiguous in the name of
    /// a personal channel.
    pub fn connection_channels(
        &mut self,
        connected: &mut Connected,
    ) -> Result<Vec<(Channel, Admission)>, Failure> {
        let mut channels = std::mem::take(&mut connected.subs);
        if let Some(namespace) = &self.settings.personal_channel
            && !connected.user.is_empty()
        {
            let UserBoundaries { boundary, separator } = &self.settings.user_boundaries;
            if !self.settings.user_boundaries.is_unambiguous(&connected.user) {
                let text = format!(
                    "permission denied: with personal channels, an id of a user must not contain {boundary} or {separator}"
                );
                return Err(Rejection { text, ..code::PERMISSION_DENIED.into() }.into());
            }
            let name = match &**namespace {
                "" => format!("{boundary}{}", connected.user),
                namespace => {
                    format!("{namespace}{}{boundary}{}", self.settings.namespaces.boundary(), connected.user)
                }
            };
            match Channel::new(&name) {
                Ok(channel) if !channels.iter().any(|(c, _)| *c == channel) => {
                    channels.push((channel, Admission::default()));
                }
                Ok(_) => {}
                Err(error) => {
                    let text = format!(
                        "permission denied: with personal channels, an id of a user must fit into a channel's name: {error}"
                    );
                    return Err(Rejection { text, ..code::PERMISSION_DENIED.into() }.into());
                }
            }
        }
        let Settings { access, namespaces, .. } = &*self.settings;
        for (channel, _) in &channels {
            let known = namespaces.options(channel.as_str()).map(|_| ());
            let own = if access.is_reserved(channel.as_str()) { Err(code::PERMISSION_DENIED) } else { known };
            own.map_err(Rejection::from)?;
        }
        Ok(channels)
    }
}

impl<P: Protocols> Context<'_, P> {
    /// Ends a session because its client requests more channels than the limit.
    pub fn end_for_channel_limit(&mut self) {
        let text = format!(
            "{}: {} a connection",
            code::CHANNEL_LIMIT.text,
            code::counted(self.hub.settings.channel_limit, "channel")
        );
        self.end(&crate::CloseReason::Code(code::CHANNEL_LIMIT.number, text));
    }

    /// Accepts a connection: sets its user and makes its subscriptions. [`Event::Connected`] follows when all of them
    /// are made. With `grants`, the channels are not subscribed: the client may subscribe to them.
    pub fn accept(&mut self, id: u32, mut connected: Connected, grants: bool) {
        let mut channels = match self.hub.connection_channels(&mut connected) {
            Ok(channels) => channels,
            Err(failure) => return self.event(Event::Failed { id, failure: &failure }),
        };
        if !self.set_user(&connected) {
            return;
        }
        if grants {
            self.session_mut().set_granted(std::mem::take(&mut channels));
        }
        let requested = self.session_mut().take_requested();
        if channels.len() > self.hub.settings.channel_limit {
            return self.end_for_channel_limit();
        }
        let mut requests: Vec<(Channel, Admission, SubscribeOptions)> = Vec::with_capacity(channels.len());
        for (channel, admission) in channels {
            let since = requested
                .iter()
                .find(|(c, _)| *c == channel)
                .and_then(|(_, sub_options)| sub_options.since.clone());
            requests.push((channel, admission, SubscribeOptions { since, ..SubscribeOptions::default() }));
        }
        for (channel, sub_options) in requested.into_iter().filter(|(_, sub_options)| sub_options.by_client) {
            let is_known = requests.iter().any(|(known, ..)| *known == channel);
            match self.hub.authorize(self.slot, Action::Subscribe, &channel) {
                _ if is_known => {}
                Ok(()) => requests.push((channel, Admission::default(), sub_options)),
                Err(code::UNKNOWN_CHANNEL) => {
                    let text = format!("{}: unknown channel in subs", code::BAD_PROTOCOL.text);
                    return self.end(&crate::CloseReason::Code(code::BAD_PROTOCOL.number, text));
                }
                // A client that reconnects names its former channels, to which it may have lost the right.
                Err(_) => {}
            }
        }
        if requests.len() > self.hub.settings.channel_limit {
            return self.end_for_channel_limit();
        }
        let mut subscribes = Vec::with_capacity(requests.len());
        for (channel, admission, mut sub_options) in requests {
            let state = self.begin_topic(&channel, &mut sub_options, &admission);
            subscribes.push(PendingSubscribe {
                channel,
                origin: Origin::Connect,
                sub_options,
                admission,
                state,
            });
        }
        let pending_connect = PendingConnect { id, connected, subscribes };
        if pending_connect.subscribes.iter().all(PendingSubscribe::is_decided) && !self.session().has_queued()
        {
            return self.finish_accept(pending_connect);
        }
        self.session_mut().cold().pending.push_connect(pending_connect);
        self.start_next_read();
    }

    /// Sets the user of a session. Returns `false`, and ends the session, if the user has reached its limit of
    /// connections.
    pub fn set_user(&mut self, connected: &Connected) -> bool {
        let before = self.session().user_state().map(|user_state| &*user_state.user);
        // A session that authenticates again is counted already.
        if before != Some(&*connected.user) && !self.hub.meter_user(self.slot, &connected.user, self.fx) {
            return false;
        }
        let Connected { user, expires, info, meta, token, capabilities, labels, .. } = connected;
        let mut user_state = UserState {
            user: user.as_str().into(),
            since: connected.since,
            expires: *expires,
            info: info.clone(),
            meta: meta.clone(),
            capabilities: capabilities.clone(),
            labels: labels.clone(),
            ..UserState::default()
        };
        user_state.set_token(token.as_ref());
        let session = self.session_mut();
        if !session.identity.is_backend() {
            session.identity = if user.is_empty() { Identity::ANONYMOUS } else { Identity::CLIENT };
        }
        if user_state.is_empty() && session.user_state().is_none() {
            return true;
        }
        let before = session.cold().user_state.take();
        if let Some(before) = before {
            // A user that signs in during the connection has its subscriptions already.
            user_state.subs = before.subs;
            user_state.presence_timer = before.presence_timer;
            user_state.sub_expiry_check = before.sub_expiry_check;
            self.hub.remove_user_session(self.slot, &before.user);
        }
        self.session_mut().cold().user_state = Some(Box::new(user_state));
        if !user.is_empty() {
            self.hub.users.entry(user.as_str().into()).or_default().push(self.slot);
            self.hub.trace_connect(self.slot);
        }
        if let Some(at) = expires {
            self.start_expiry(*at);
        }
        true
    }

    /// A user that signs in during the connection, with the properties that the connection has and the user lacks.
    pub fn merge_connected(&self, user: &Connected) -> Connected {
        let mut merged = user.clone();
        if let Some(before) = self.session().user_state() {
            merged.expires = merged.expires.or(before.expires);
            merged.info = merged.info.or_else(|| before.info.clone());
            merged.meta = merged.meta.or_else(|| before.meta.clone());
            merged.capabilities = merged.capabilities.or_else(|| before.capabilities.clone());
            merged.labels = merged.labels.or_else(|| before.labels.clone());
        }
        merged
    }

    /// Makes the session anonymous, without the rights and channels of its token.
    pub fn reset_identity(&mut self) {
        let session = self.session_mut();
        session.identity = Identity::ANONYMOUS;
        session.flags.set(Flag::Connected, false);
        session.set_granted(Vec::new());
        let user_state = session.existing_cold().and_then(|cold| cold.user_state.take());
        if let Some(user_state) = user_state {
            self.hub.remove_user_session(self.slot, &user_state.user);
        }
        self.hub.release_user_meter(self.slot);
    }

    /// Makes the subscriptions of an accepted connection, all of which are decided, and reports the connection.
    pub(crate) fn finish_accept(&mut self, pending_connect: PendingConnect) {
        let PendingConnect { id, connected, subscribes } = pending_connect;
        if let Some(failure) = subscribes.iter().find_map(PendingSubscribe::failure) {
            let failure = failure.clone();
            for subscribe in &subscribes {
                self.cancel_subscribe(subscribe);
            }
            return self.event(Event::Failed { id, failure: &failure });
        }
        let mut completed: Vec<Completed> = Vec::with_capacity(subscribes.len());
        let mut left = self.hub.settings.recovery_bytes;
        let peer = self.session().peer;
        let mut subscribes = subscribes.into_iter();
        while let Some(subscribe) = subscribes.next() {
            match self.complete_subscribe(subscribe, left) {
                Ok(one) => {
                    left = left.saturating_sub(one.missed_bytes(peer));
                    completed.push(one);
                }
                Err(failure) => {
                    // All or nothing: releases the subscriptions that are made, and the remaining ones.
                    for subscribe in subscribes {
                        self.cancel_subscribe(&subscribe);
                    }
                    self.unsubscribe_all();
                    return self.event(Event::Failed { id, failure: &failure });
                }
            }
        }
        self.session_mut().flags.set(Flag::Connected, true);
        let event = Event::Connected { id, connected: &connected, subscriptions: &completed };
        self.event(event);
        for one in &completed {
            self.after_subscribe(one);
        }
        self.start_pings();
    }
}

/// The longest time to live that is sent to a client, in seconds. A client renews its token by then, even if the token
/// is valid for longer.
const LONGEST_TTL: u32 = 365 * 24 * 60 * 60;

/// Seconds from `now` until `at`, at least 1 (0 means that it does not expire) and at most a year.
pub fn seconds_left(at: u64, now: u64) -> u32 {
    u32::try_from(at.saturating_sub(now)).unwrap_or(u32::MAX).clamp(1, LONGEST_TTL)
}
