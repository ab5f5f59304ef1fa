//! `connect`: who a client is, and what it is subscribed to by that.

use bytes::Bytes;
use tidings_wire::Channel;
use tidings_wire::client::Data;
use tidings_wire::client::reply::{self, Outcome};
use tidings_wire::client::request;
use tidings_wire::code;

use super::super::{Admitting, Flag, Join, Member, Owner, Wish};
use crate::access::{Action, Identity, has_own_channel};
use crate::deciding::{Admission, Connected, Decide, Verdict};
use crate::effects::{Effect, Effects, Failure, Request, Timer};
use crate::hub::{Act, Hub};
use crate::joining::{Settled, wish};
use crate::settings::Settings;

/// What the server calls itself in the answer to `connect`.
const VERSION: &str = concat!("tidings ", env!("CARGO_PKG_VERSION"));

impl Hub {
    pub(crate) fn client_connect(
        &mut self,
        slot: u32,
        id: u32,
        connect: &request::Connect<'_>,
        fx: &mut Effects,
    ) -> Act {
        let asks = !connect.token.is_empty() || self.settings.connect_proxy;
        // The application's answer names all channels; what the client adds are only positions in those.
        let is_hooked = connect.token.is_empty() && asks;
        let requested = connect.subs.iter().filter_map(|(channel, sub)| {
            let channel = Channel::new(&**channel).ok()?;
            // One that cannot be recovered is told in the reply, which an error would take from all the others.
            Some((channel, Wish { by_client: !is_hooked, all_or_error: false, ..wish(sub) }))
        });
        // One more than a client can have had, so that too many are seen to be. Those of an earlier attempt are gone.
        let requested: Vec<_> = requested.take(self.settings.channel_limit.saturating_add(1)).collect();
        if requested.len() > self.settings.channel_limit {
            self.too_many_channels(slot, fx);
            return Act::End;
        }
        let session = &mut self.sessions[slot as usize];
        if !requested.is_empty() || session.has_more() {
            session.more().requested = requested;
        }
        let access = &self.settings.access;
        if !asks {
            if !(access.open || access.anonymous_connect) {
                self.client_error(slot, id, code::UNAUTHORIZED, code::UNAUTHORIZED.text, fx);
                return if self.is_closing(slot) { Act::End } else { Act::Next };
            }
            self.admit(slot, id, Connected::default(), fx);
            return if self.is_closing(slot) { Act::End } else { Act::Next };
        }
        let question = Decide::Connect {
            who: self.who(slot),
            token: connect.token.clone().into_owned(),
            data: bytes(connect.data.as_ref()),
            name: connect.name.clone().into_owned(),
            version: connect.version.clone().into_owned(),
            headers: connect
                .headers
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone().into_owned()))
                .collect(),
        };
        self.ask(slot, id, Request::Decide(Box::new(question)), fx);
        Act::Next
    }

    fn too_many_channels(&mut self, slot: u32, fx: &mut Effects) {
        let words =
            format!("{}: {} channels a connection", code::CHANNEL_LIMIT.text, self.settings.channel_limit);
        self.end(slot, &crate::Ending::Verdict(code::CHANNEL_LIMIT.number, words), fx);
    }

    pub(crate) fn is_closing(&self, slot: u32) -> bool {
        self.sessions[slot as usize].flags.has(Flag::Closing)
    }

    /// Lets a connection in: notes who it is and makes its subscriptions; the answer comes when they stand.
    pub(crate) fn admit(&mut self, slot: u32, id: u32, mut connected: Connected, fx: &mut Effects) {
        let mut channels = match self.channels_of(&mut connected) {
            Ok(channels) => channels,
            Err(failure) => return self.failed(slot, id, &failure, fx),
        };
        if !self.identify(slot, &connected, fx) {
            return;
        }
        if self.sessions[slot as usize].link.is_events() {
            // It gets what it asks for and nothing else; what its token grants, it may ask for.
            self.sessions[slot as usize].more().granted = std::mem::take(&mut channels);
        }
        let requested = std::mem::take(&mut self.sessions[slot as usize].more().requested);
        if channels.len() > self.settings.channel_limit {
            return self.too_many_channels(slot, fx);
        }
        let mut wanted: Vec<(Channel, Admission, Wish)> = Vec::with_capacity(channels.len());
        for (channel, admission) in channels {
            let since =
                requested.iter().find(|(c, _)| *c == channel).and_then(|(_, wish)| wish.since.clone());
            wanted.push((channel, admission, Wish { since, ..Wish::default() }));
        }
        for (channel, wish) in requested.into_iter().filter(|(_, wish)| wish.by_client) {
            let is_known = wanted.iter().any(|(known, ..)| *known == channel);
            match self.may(slot, Action::Subscribe, &channel) {
                _ if is_known => {}
                Ok(()) => wanted.push((channel, Admission::default(), wish)),
                Err(code::UNKNOWN_CHANNEL) => {
                    let words = format!("{}: unknown channel in subs", code::BAD_PROTOCOL.text);
                    return self.end(slot, &crate::Ending::Verdict(code::BAD_PROTOCOL.number, words), fx);
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
            let stage = self.reach(slot, &channel, &mut wish, &admission.overrides, fx);
            joins.push(Join { channel, owner: Owner::Connect, wish, admission, stage });
        }
        let admitting = Admitting { id, connected, joins };
        if admitting.joins.iter().all(Join::is_decided) && !self.sessions[slot as usize].is_queued() {
            return self.admitted(slot, admitting, fx);
        }
        self.sessions[slot as usize].more().awaiting.admit(admitting);
        self.read_for_head(slot, fx);
    }

    /// The channels that a connection has by its token, or because the application says so, and its user's own.
    ///
    /// # Errors
    /// When one is of an unknown namespace or the server's own, and for a user whose id could not be told from the ids
    /// of several users in the name of a personal channel.
    pub(crate) fn channels_of(
        &mut self,
        connected: &mut Connected,
    ) -> Result<Vec<(Channel, Admission)>, Failure> {
        let mut channels = std::mem::take(&mut connected.subs);
        if let Some(namespace) = &self.settings.personal_channel
            && !connected.user.is_empty()
        {
            if !has_own_channel(&connected.user) {
                let words =
                    "permission denied: with personal channels, an id of a user must not contain # or ,";
                return Err(Verdict { text: words.to_owned(), ..code::PERMISSION_DENIED.into() }.into());
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
                    return Err(Verdict { text, ..code::PERMISSION_DENIED.into() }.into());
                }
            }
        }
        let Settings { access, namespaces, .. } = &*self.settings;
        for (channel, _) in &channels {
            let known = namespaces.of(channel.as_str()).map(|_| ());
            let own = if access.is_reserved(channel.as_str()) { Err(code::PERMISSION_DENIED) } else { known };
            own.map_err(Verdict::from)?;
        }
        Ok(channels)
    }

    /// Notes who a session is. A user that has as many connections as it may gets no further one: the session is ended,
    /// and this gives `false`.
    pub(crate) fn identify(&mut self, slot: u32, connected: &Connected, fx: &mut Effects) -> bool {
        let before = self.sessions[slot as usize].member().map(|member| &*member.user);
        // One that says once more who it is, is counted already.
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
        let session = &mut self.sessions[slot as usize];
        if session.identity != Identity::Backend {
            session.identity = if user.is_empty() { Identity::Anonymous } else { Identity::Client };
        }
        if member.is_nobody() {
            return true;
        }
        let before = session.more().member.replace(Box::new(member));
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

    /// Everything is there: makes the subscriptions and answers.
    pub(crate) fn admitted(&mut self, slot: u32, admitting: Admitting, fx: &mut Effects) {
        let Admitting { id, connected, joins } = admitting;
        if let Some(failure) = joins.iter().find_map(Join::failure) {
            let failure = failure.clone();
            for join in &joins {
                self.abandon(slot, join, fx);
            }
            return self.failed(slot, id, &failure, fx);
        }
        let mut settled: Vec<Settled> = Vec::with_capacity(joins.len());
        let mut left = self.settings.recovery_bytes;
        let encoding = self.sessions[slot as usize].link.encoding();
        let mut joins = joins.into_iter();
        while let Some(join) = joins.next() {
            match self.settle_join(slot, join, left, fx) {
                Ok(one) => {
                    left = left.saturating_sub(one.missed_bytes(encoding));
                    settled.push(one);
                }
                Err(failure) => {
                    // All or nothing: what was made and what was not are given back.
                    for join in joins {
                        self.abandon(slot, &join, fx);
                    }
                    self.unsubscribe_all(slot, fx);
                    return self.failed(slot, id, &failure, fx);
                }
            }
        }
        let session = &mut self.sessions[slot as usize];
        session.flags.set(Flag::Connected, true);
        let link = session.link;
        let own = self.id_of(slot);
        let (name, secret) = (self.client_name(own), self.client_secret(own));
        let interval = self.settings.ping_interval;
        let left = connected.expires.map(|at| seconds_left(at, self.time));
        // Only a session whose commands come by other requests is found by them; a one-way client gives the secret to its
        // backend, which names the session by it in the server API.
        let found = link.is_emulated();
        let named = found || link.is_one_way();
        let subs: Vec<_> =
            settled.iter().map(|one| (one.channel.as_str().into(), one.reply(self.time))).collect();
        let result = reply::Connect {
            client: name.as_str().into(),
            version: VERSION.into(),
            expires: left.is_some(),
            ttl: left.unwrap_or(0),
            data: connected.data.as_deref().map(Data::from),
            subs: subs.into(),
            // In whole seconds, of which 0 would mean never.
            ping: u32::try_from(interval.as_millis().div_ceil(1000)).unwrap_or(u32::MAX),
            pong: !interval.is_zero() && !self.settings.pong_timeout.is_zero() && !link.is_one_way(),
            session: if named { secret.as_str().into() } else { "".into() },
            node: if found { self.settings.node.as_str().into() } else { "".into() },
            time: 0,
        };
        super::replies::send_reply(link, slot, reply::Reply { id, outcome: Outcome::Connect(result) }, fx);
        for one in &settled {
            self.after_joining(slot, one, fx);
        }
        if !interval.is_zero() {
            fx.push(Effect::Start(own, Timer::Ping, interval));
        }
    }

    /// Time to ping: what must be answered in time where the peer can, and the next one after the interval.
    pub(crate) fn ping(&mut self, id: super::super::SessionId, fx: &mut Effects) {
        let timeout = self.settings.pong_timeout;
        self.send_ping(id.slot, fx);
        let session = &mut self.sessions[id.slot as usize];
        if !timeout.is_zero() && !session.link.is_one_way() {
            session.flags.set(Flag::PongDue, true);
            fx.push(Effect::Start(id, Timer::Pong, timeout));
        }
        fx.push(Effect::Start(id, Timer::Ping, self.settings.ping_interval));
    }
}

/// The longest time to live that a client is told, in seconds. A client renews its token by then, although the one it has
/// lasts longer.
const LONGEST_TTL: u32 = 365 * 24 * 60 * 60;

/// Seconds from `now` until `at`, at least 1 (0 would mean that it never ends) and at most a year.
pub(crate) fn seconds_left(at: u64, now: u64) -> u32 {
    u32::try_from(at.saturating_sub(now)).unwrap_or(u32::MAX).clamp(1, LONGEST_TTL)
}

/// What an application put in, to be kept.
pub(crate) fn bytes(data: Option<&Data<'_>>) -> Option<Bytes> {
    data.map(|data| Bytes::copy_from_slice(&data.bytes))
}
