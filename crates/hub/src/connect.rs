//! Accepting a connection: its user, and the subscriptions that come with it.

use tidings_wire::{Channel, code};

use crate::access::{Action, Identity, has_own_channel};
use crate::decisions::{Admission, Connected, Rejection};
use crate::effects::{Effect, Effects, Failure, Timer};
use crate::hub::Hub;
use crate::index::Slot;
use crate::member::Member;
use crate::protocols::{Event, Peer as _, Protocols};
use crate::session::{Flag, SessionId};
use crate::settings::Settings;
use crate::subscribe::{Completed, Origin, PendingConnect, PendingSubscribe, SubscribeOptions};

impl<P: Protocols> Hub<P> {
    /// Ends a session whose client is to have more channels than it may.
    pub fn too_many_channels(&mut self, slot: Slot, fx: &mut Effects) {
        let words =
            format!("{}: {} channels a connection", code::CHANNEL_LIMIT.text, self.settings.channel_limit);
        self.end(slot, &crate::CloseReason::Code(code::CHANNEL_LIMIT.number, words), fx);
    }

    /// Accepts a connection: sets its user and makes its subscriptions. The event follows when all of them are made.
    /// With `grants`, its channels are not subscribed: its client may subscribe to them.
    pub fn accept(&mut self, slot: Slot, id: u32, mut connected: Connected, grants: bool, fx: &mut Effects) {
        let mut channels = match self.channels_of(&mut connected) {
            Ok(channels) => channels,
            Err(failure) => return self.event(slot, Event::Failed { id, failure: &failure }, fx),
        };
        if !self.identify(slot, &connected, fx) {
            return;
        }
        if grants {
            self.sessions[slot.index()].set_granted(std::mem::take(&mut channels));
        }
        let requested = std::mem::take(&mut self.sessions[slot.index()].cold().requested);
        if channels.len() > self.settings.channel_limit {
            return self.too_many_channels(slot, fx);
        }
        let mut wanted: Vec<(Channel, Admission, SubscribeOptions)> = Vec::with_capacity(channels.len());
        for (channel, admission) in channels {
            let since =
                requested.iter().find(|(c, _)| *c == channel).and_then(|(_, wish)| wish.since.clone());
            wanted.push((channel, admission, SubscribeOptions { since, ..SubscribeOptions::default() }));
        }
        for (channel, wish) in requested.into_iter().filter(|(_, wish)| wish.by_client) {
            let is_known = wanted.iter().any(|(known, ..)| *known == channel);
            match self.may(slot, Action::Subscribe, &channel) {
                _ if is_known => {}
                Ok(()) => wanted.push((channel, Admission::default(), wish)),
                Err(code::UNKNOWN_CHANNEL) => {
                    let words = format!("{}: unknown channel in subs", code::BAD_PROTOCOL.text);
                    return self.end(slot, &crate::CloseReason::Code(code::BAD_PROTOCOL.number, words), fx);
                }
                // A client that comes back names what it had, which it may have no longer.
                Err(_) => {}
            }
        }
        if wanted.len() > self.settings.channel_limit {
            return self.too_many_channels(slot, fx);
        }
        let mut joins = Vec::with_capacity(wanted.len());
        for (channel, admission, mut wish) in wanted {
            let stage = self.begin_topic(slot, &channel, &mut wish, &admission.overrides, fx);
            joins.push(PendingSubscribe { channel, owner: Origin::Connect, wish, admission, stage });
        }
        let admitting = PendingConnect { id, connected, joins };
        if admitting.joins.iter().all(PendingSubscribe::is_decided)
            && !self.sessions[slot.index()].is_queued()
        {
            return self.finish_accept(slot, admitting, fx);
        }
        self.sessions[slot.index()].cold().pending.connect(admitting);
        self.read_for_next(slot, fx);
    }

    /// The channels that a connection gets by its token or from the application, and the personal channel of its user.
    ///
    /// # Errors
    /// When one is of an unknown namespace or internal, and for a user whose id could be mistaken for the ids
    /// of several users in the name of a personal channel.
    pub fn channels_of(&mut self, connected: &mut Connected) -> Result<Vec<(Channel, Admission)>, Failure> {
        let mut channels = std::mem::take(&mut connected.subs);
        if let Some(namespace) = &self.settings.personal_channel
            && !connected.user.is_empty()
        {
            if !has_own_channel(&connected.user) {
                let words =
                    "permission denied: with personal channels, an id of a user must not contain # or ,";
                return Err(Rejection { text: words.to_owned(), ..code::PERMISSION_DENIED.into() }.into());
            }
            let name = match &**namespace {
                "" => format!("#{}", connected.user),
                namespace => format!("{namespace}:#{}", connected.user),
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

    /// Sets the user of a session. A user that has as many connections as it may gets no further one: the session is ended,
    /// and this gives `false`.
    pub fn identify(&mut self, slot: Slot, connected: &Connected, fx: &mut Effects) -> bool {
        let before = self.sessions[slot.index()].member().map(|member| &*member.user);
        // A session that authenticates again is counted already.
        if before != Some(&*connected.user) && !self.meter_user(slot, &connected.user, fx) {
            return false;
        }
        let Connected { user, expires, info, meta, token, .. } = connected;
        let mut member = Member {
            user: user.as_str().into(),
            since: connected.since,
            expires: *expires,
            info: info.clone(),
            meta: meta.clone(),
            ..Member::default()
        };
        member.set_token(token.as_ref());
        let session = &mut self.sessions[slot.index()];
        if session.identity != Identity::Backend {
            session.identity = if user.is_empty() { Identity::Anonymous } else { Identity::Client };
        }
        if member.is_nobody() {
            return true;
        }
        let before = session.cold().member.replace(Box::new(member));
        if let Some(before) = before {
            self.forget_user(slot, &before.user);
        }
        if !user.is_empty() {
            self.users.entry(user.as_str().into()).or_default().push(slot);
        }
        if let Some(at) = expires {
            self.start_expiry(slot, *at, fx);
        }
        true
    }

    /// The session becomes an anonymous one, without the rights and channels of its token.
    pub fn forget_identity(&mut self, slot: Slot) {
        let session = &mut self.sessions[slot.index()];
        session.identity = Identity::Anonymous;
        session.flags.set(Flag::Connected, false);
        let member = session.existing_cold().and_then(|cold| {
            cold.granted = Vec::new();
            cold.member.take()
        });
        if let Some(member) = member {
            self.forget_user(slot, &member.user);
        }
        self.forget_meter(slot);
    }

    /// All subscriptions are decided: makes them and reports the connection.
    pub(crate) fn finish_accept(&mut self, slot: Slot, admitting: PendingConnect, fx: &mut Effects) {
        let PendingConnect { id, connected, joins } = admitting;
        if let Some(failure) = joins.iter().find_map(PendingSubscribe::failure) {
            let failure = failure.clone();
            for join in &joins {
                self.abandon(slot, join, fx);
            }
            return self.event(slot, Event::Failed { id, failure: &failure }, fx);
        }
        let mut settled: Vec<Completed> = Vec::with_capacity(joins.len());
        let mut left = self.settings.recovery_bytes;
        let peer = self.sessions[slot.index()].peer;
        let mut joins = joins.into_iter();
        while let Some(join) = joins.next() {
            match self.complete_subscribe(slot, join, left, fx) {
                Ok(one) => {
                    left = left.saturating_sub(one.missed_bytes(peer));
                    settled.push(one);
                }
                Err(failure) => {
                    // All or nothing: what was made and what was not are given back.
                    for join in joins {
                        self.abandon(slot, &join, fx);
                    }
                    self.unsubscribe_all(slot, fx);
                    return self.event(slot, Event::Failed { id, failure: &failure }, fx);
                }
            }
        }
        self.sessions[slot.index()].flags.set(Flag::Connected, true);
        let event = Event::Connected { id, connected: &connected, subscriptions: &settled };
        self.event(slot, event, fx);
        for one in &settled {
            self.after_subscribe(slot, one, fx);
        }
        let interval = self.settings.ping_interval;
        if !interval.is_zero() {
            fx.push(Effect::Start(self.id_of(slot), Timer::Ping, interval));
        }
    }

    /// Time to ping: what must be answered in time where the peer can, and the next one after the interval.
    pub(crate) fn ping(&mut self, id: SessionId, fx: &mut Effects) {
        let timeout = self.settings.pong_timeout;
        self.event(id.slot, Event::PingDue, fx);
        let session = &mut self.sessions[id.slot.index()];
        if !timeout.is_zero() && session.peer.answers_pings() {
            session.flags.set(Flag::PongDue, true);
            fx.push(Effect::Start(id, Timer::Pong, timeout));
        }
        fx.push(Effect::Start(id, Timer::Ping, self.settings.ping_interval));
    }
}

/// The longest time to live that is sent to a client, in seconds. A client renews its token by then, although the one it has
/// lasts longer.
const LONGEST_TTL: u32 = 365 * 24 * 60 * 60;

/// Seconds from `now` until `at`, at least 1 (0 would mean that it never ends) and at most a year.
pub fn seconds_left(at: u64, now: u64) -> u32 {
    u32::try_from(at.saturating_sub(now)).unwrap_or(u32::MAX).clamp(1, LONGEST_TTL)
}
