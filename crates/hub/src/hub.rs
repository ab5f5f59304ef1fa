//! The hub: sessions and topics of one shard, and what happens to them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;
use tidings_wire::code::{self, Code};
use tidings_wire::ws::deflate::{Counts, Inflater};
use tidings_wire::{Channel, Form, Position, Publication, Topic};

use crate::access::{Action, Identity, USER, USERS, has_own_channel};
use crate::deciding::{About, Decide};
use crate::effects::{Effect, Effects, Request, Timer};
use crate::ending::{Disconnects, Ending};
use crate::metering::SessionUsage;
use crate::namespace::NamespaceOptions;
use crate::session::{Flag, Frames, Link, More, Session, SessionId};
use crate::settings::Settings;
use crate::topics::{Entry, TopicKey, Topics};

/// Whether a session may be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on reading.
    Read,
    /// Do not read until an [`Effect::Resume`] names the session.
    Stop,
    /// The session was ended: read only to throw away.
    Ended,
}

/// Numbers about a hub, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions by link, in the order of [`Link::index`].
    pub sessions: [u64; Link::COUNT],
    /// Users with sessions here; the anonymous ones are none.
    pub users: u64,
    /// Topics with subscribers here.
    pub topics: u64,
    /// Subscriptions here.
    pub subscriptions: u64,
    /// Publications that clients sent, since the start.
    pub published: u64,
    /// Commands and lines that were answered with an error, since the start.
    pub errors: u64,
    /// Bytes of half-read commands, and of those that wait for their turn.
    pub input_bytes: u64,
    /// Compressed messages of clients, since the start.
    pub inflated: Counts,
    /// What has become of clients that came back and of those that were let in, since the start.
    pub clients: ClientStats,
    /// Sessions that were ended here, since the start.
    pub disconnects: Disconnects,
}

/// Numbers about sessions of the client protocol, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Subscribers that came back and were sent everything that they had missed.
    pub recovered: u64,
    /// Subscribers that came back and were told that not all of it is there.
    pub unrecovered: u64,
    /// Subscriptions that ended because publications were lost.
    pub lost: u64,
    /// Connections and subscriptions that ended because their time was over.
    pub expired: u64,
    /// Orders of the application that were carried out on a session.
    pub orders: u64,
}

/// What a handler made of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is done, or under way; the next may come.
    Next,
    /// Its turn has not come; keep it and stop reading.
    Hold,
    /// The session has ended.
    End,
}

/// The sessions and topics of one shard.
#[derive(Debug)]
pub struct Hub {
    pub(crate) settings: Arc<Settings>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) topics: Topics,
    /// Which shard this is, and how many there are; parts of client numbers.
    pub(crate) shard: (u32, u32),
    next_generation: u32,
    pub(crate) by_link: [u64; Link::COUNT],
    pub(crate) published: u64,
    pub(crate) errors: u64,
    pub(crate) clients: ClientStats,
    pub(crate) disconnects: Disconnects,
    /// Bytes in all inboxes.
    pub(crate) kept: usize,
    /// The decoder of RESP sessions that have nothing half read.
    pub(crate) decoder: tidings_wire::resp::Decoder,
    /// What WebSockets that have nothing half read are read through.
    pub(crate) frames: Option<Box<Frames>>,
    /// What their compressed messages are read with.
    pub(crate) inflater: Inflater,
    /// The sessions of each user.
    pub(crate) users: HashMap<Box<str>, Vec<u32>>,
    /// The time, in Unix seconds.
    pub(crate) time: u64,
    /// The time for limits, in nanoseconds of another clock.
    pub(crate) clock: u64,
    /// With whom sessions are counted, by slot; empty where nothing is limited.
    pub(crate) usage: Vec<SessionUsage>,
}

impl Hub {
    /// A hub without sessions; the `index`th of `shards`.
    pub fn new(settings: Arc<Settings>, index: u32, shards: u32) -> Self {
        Self {
            settings,
            sessions: Slab::new(),
            topics: Topics::default(),
            shard: (index, shards),
            next_generation: 0,
            by_link: [0; Link::COUNT],
            published: 0,
            errors: 0,
            clients: ClientStats::default(),
            disconnects: Disconnects::default(),
            kept: 0,
            decoder: tidings_wire::resp::Decoder::default(),
            frames: None,
            inflater: Inflater::default(),
            users: HashMap::new(),
            time: 0,
            clock: 0,
            usage: Vec::new(),
        }
    }

    /// Says what time it is, in Unix seconds: what has expired is found by it.
    pub fn set_time(&mut self, unix: u64) {
        self.time = unix;
    }

    /// Takes in a new connection.
    pub fn open(&mut self, fx: &mut Effects) -> SessionId {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let held = !self.settings.auto_subscribe.is_empty();
        let mut session = Session::default();
        session.generation = generation;
        session.flags.set(Flag::Held, held);
        let slot = u32::try_from(self.sessions.insert(session)).expect("fewer sessions than 2³²");
        self.by_link[Link::UNKNOWN.index()] += 1;
        let id = SessionId { slot, generation };
        if held {
            fx.push(Effect::Start(id, Timer::FirstByte, self.settings.first_byte_wait));
        }
        id
    }

    /// Ends a session of the line port whose peer sends nothing within `client.stale_close_delay`.
    pub fn expect_introduction(&mut self, id: SessionId, fx: &mut Effects) {
        let delay = self.settings.stale_close_delay;
        if !delay.is_zero() {
            fx.push(Effect::Start(id, Timer::Introduction, delay));
        }
    }

    /// Takes in a connection whose link is known.
    pub fn open_as(&mut self, link: Link, about: Option<Arc<About>>, fx: &mut Effects) -> SessionId {
        let id = self.open(fx);
        let session = &mut self.sessions[id.slot as usize];
        session.flags.set(Flag::Held, false);
        if about.is_some() {
            session.more().about = about;
        }
        self.set_link(id.slot, link);
        self.client_opened(id.slot, fx);
        id
    }

    /// The session in `slot`, if there is one.
    pub fn id(&self, slot: u32) -> Option<SessionId> {
        let generation = self.sessions.get(slot as usize)?.generation;
        Some(SessionId { slot, generation })
    }

    /// The form in which the session in `slot` takes publications.
    pub fn form(&self, slot: u32) -> Option<Form> {
        self.sessions.get(slot as usize).map(|session| session.link.form())
    }

    /// Whether this very session is still there.
    pub fn is_current(&self, id: SessionId) -> bool {
        self.sessions.get(id.slot as usize).is_some_and(|s| s.generation == id.generation)
    }

    /// Whether the session holds no memory beyond its place here and in the subscriber lists.
    pub fn is_idle(&self, slot: u32) -> bool {
        self.sessions.get(slot as usize).is_none_or(|s| !s.has_more())
    }

    /// The connection is gone: forgets the session and everything it had.
    pub fn closed(&mut self, slot: u32, fx: &mut Effects) {
        if !self.sessions.contains(slot as usize) {
            return;
        }
        self.drop_interest(slot, fx);
        let mut session = self.sessions.remove(slot as usize);
        let kept = |more: &mut More| {
            let transaction = more.transaction.as_ref().map_or(0, |transaction| transaction.len());
            more.inbox.len() + more.frames.as_ref().map_or(0, |frames| frames.len()) + transaction
        };
        self.kept -= session.existing_more().map_or(0, kept);
        if let Some(member) = session.member() {
            self.forget_user(slot, &member.user);
        }
        self.forget_usage(slot);
        self.by_link[session.link.index()] -= 1;
    }

    /// The peer sends no more: the session ends as soon as everything it asked is answered.
    pub fn finish(&mut self, slot: u32, fx: &mut Effects) {
        self.end_last_line(slot, fx);
        let session = &mut self.sessions[slot as usize];
        session.flags.set(Flag::Finishing, true);
        if !session.is_awaiting() && !session.flags.has(Flag::Closing) {
            self.end(slot, &Ending::Done, fx);
        }
    }

    /// The peer of a connection that only listens sends no more. It may still read; if it is gone altogether, a ping
    /// makes its system say so.
    pub fn half_closed(&mut self, slot: u32, fx: &mut Effects) {
        let flags = self.sessions[slot as usize].flags;
        if flags.has(Flag::Connected) && !flags.has(Flag::Closing) {
            self.send_ping(slot, fx);
        }
    }

    pub(crate) fn drop_interest(&mut self, slot: u32, fx: &mut Effects) {
        self.unsubscribe_all(slot, fx);
        let session = &mut self.sessions[slot as usize];
        let generation = session.generation;
        let Some(more) = session.existing_more() else { return };
        let waited: Vec<TopicKey> = more.awaiting.topics().collect();
        let catching: Vec<TopicKey> = more.awaiting.catching().collect();
        more.awaiting = Default::default();
        for key in catching {
            self.topics.caught(key);
        }
        for key in waited {
            if let Some(entry) = self.topics.get_mut(key) {
                entry.waiters.retain(|w| *w != SessionId { slot, generation });
                self.release(key, fx);
            }
        }
        self.sessions[slot as usize].settle();
    }

    /// A timer that was asked for is over.
    pub fn expired(&mut self, id: SessionId, timer: Timer, fx: &mut Effects) {
        if !self.is_current(id) || self.sessions[id.slot as usize].flags.has(Flag::Closing) {
            return;
        }
        let slot = id.slot;
        match timer {
            Timer::FirstByte => self.release_held(slot, fx),
            Timer::Ping => self.ping(id, fx),
            Timer::Pong if self.sessions[slot as usize].flags.has(Flag::PongDue) => {
                if self.sessions[slot as usize].flags.has(Flag::Stopped) {
                    // It is the server that does not listen: the answer may be among what was not read yet.
                    fx.push(Effect::Start(id, Timer::Pong, self.settings.pong_timeout));
                } else {
                    self.end(slot, &Ending::NoPong, fx);
                }
            }
            Timer::Expiry => self.connection_expiry(id, fx),
            Timer::SubExpiry => self.subscription_expiry(id, fx),
            Timer::Presence => self.still_present(id, fx),
            Timer::Stale if !self.sessions[slot as usize].flags.has(Flag::Connected) => {
                self.end(slot, &Ending::Stale, fx);
            }
            Timer::Introduction if self.sessions[slot as usize].link == Link::UNKNOWN => {
                self.end(slot, &Ending::Stale, fx);
            }
            Timer::Pong | Timer::Stale | Timer::Introduction => {}
        }
    }

    /// A topic's key, if it has subscribers here.
    pub fn topic(&self, topic: &Topic) -> Option<TopicKey> {
        self.topics.key(topic)
    }

    /// A topic's subscribers.
    pub fn entry(&self, key: TopicKey) -> Option<&Entry> {
        self.topics.get(key)
    }

    /// These publications are about to be sent to a topic's subscribers: gives those of them that have been told of
    /// some already, each with the position up to which that is so (see [`crate::is_told`]).
    pub fn fanning_out(&mut self, key: TopicKey, publications: &[Arc<Publication>]) -> Vec<(u32, Position)> {
        self.topics.heard(key, publications, self.settings.recovery_bytes);
        self.topics.skipping(key, publications)
    }

    /// Bytes that clients' compressed messages have become since the start.
    pub fn inflated(&self) -> u64 {
        self.inflater.counts().plain
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        Stats {
            sessions: self.by_link,
            users: self.users.len() as u64,
            topics: self.topics.len() as u64,
            subscriptions: self.topics.subscriptions() as u64,
            published: self.published,
            errors: self.errors,
            input_bytes: self.kept as u64,
            inflated: self.inflater.counts(),
            clients: self.clients,
            disconnects: self.disconnects,
        }
    }

    /// Slots of all sessions, for shutting down.
    pub fn slots(&self) -> Vec<u32> {
        self.sessions.iter().map(|(slot, _)| u32::try_from(slot).expect("a slot made by open")).collect()
    }

    /// Checks a key given by a peer; tells whether it made the session a backend.
    pub(crate) fn authenticate(&mut self, slot: u32, secret: &[u8]) -> bool {
        let accepted = self.settings.access.api_key.as_ref().is_some_and(|key| key.is(secret));
        if accepted {
            self.sessions[slot as usize].identity = Identity::Backend;
        }
        accepted
    }

    /// Has a secret that is no key verified as a connection token, or rejected where it cannot be one; it is answered when
    /// that is done.
    pub(crate) fn authenticate_token(&mut self, slot: u32, secret: &[u8], fx: &mut Effects) {
        let who = self.who(slot);
        let question = match std::str::from_utf8(secret).ok().filter(|_| self.settings.access.tokens) {
            Some(token) => Decide::Connect {
                who,
                token: token.to_owned(),
                data: None,
                name: String::new(),
                version: String::new(),
                headers: Vec::new(),
            },
            None => Decide::Reject { who },
        };
        self.ask(slot, 0, Request::Decide(Box::new(question)), fx);
    }

    /// Whether the application is asked before the session does `action` in `channel`; its word counts then, and the
    /// channel's options do not. A backend is the application.
    pub(crate) fn is_asked(&self, slot: u32, action: Action, channel: &Channel) -> bool {
        let options = self.options(channel);
        let asked = match action {
            Action::Subscribe => options.subscribe_proxy,
            Action::Publish => options.publish_proxy,
            Action::History | Action::Presence => false,
        };
        asked && self.sessions[slot as usize].identity != Identity::Backend
    }

    /// What publishing takes, if the session may.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`] or [`code::PERMISSION_DENIED`].
    pub(crate) fn publishing(&self, slot: u32, channel: Channel, body: Bytes) -> Result<Request, Code> {
        let session = &self.sessions[slot as usize];
        let is_client = session.link.is_client();
        if !self.is_asked(slot, Action::Publish, &channel) {
            self.may(slot, Action::Publish, &channel)?;
            // Subscribers are told who it was, where somebody is somebody.
            let key = self.topics.key(&Topic::Channel(channel.clone()));
            let info = is_client.then(|| Box::new(self.client_info(slot, key)));
            return Ok(Request::Publish(channel, body, info));
        }
        self.settings.namespaces.of(channel.as_str())?;
        // Whom the application lets in, it is asked about first, on every port.
        let is_unknown = self.settings.connect_proxy && !is_client && !session.flags.has(Flag::Connected);
        if is_unknown || self.settings.access.is_reserved(channel.as_str()) {
            return Err(code::PERMISSION_DENIED);
        }
        let info = self.client_info(slot, self.topics.key(&Topic::Channel(channel.clone())));
        let question = Decide::Publish { who: self.who(slot), channel, body, info };
        Ok(Request::Decide(Box::new(question)))
    }

    /// Whether the session may subscribe to a channel, as far as the channel's name says it (`None`: it does not, and
    /// the options decide): private ones are for those who have a token for them, those that name users for these
    /// users. Nothing is said where the session may do everything.
    pub(crate) fn by_name(&self, slot: u32, channel: &Channel, options: &NamespaceOptions) -> Option<bool> {
        let session = &self.sessions[slot as usize];
        if session.is_granted(channel) {
            return Some(true);
        }
        if self.settings.access.is_free(session.identity) {
            return None;
        }
        let (name, prefix) = (channel.as_str(), &self.settings.private_prefix);
        if !prefix.is_empty() && name.starts_with(prefix.as_str()) {
            return Some(false);
        }
        let user = session.member().map(|member| &*member.user).unwrap_or_default();
        let owner = self.personal_user(name);
        let Some((_, users)) = name.rsplit_once(USERS).filter(|_| options.allow_user_limited_channels) else {
            // The options decide whether its user may subscribe to it, and nothing lets another one.
            let is_of_other = owner.is_some_and(|owner| owner != user) && self.is_personal(name);
            return is_of_other.then_some(false);
        };
        // An id with one of the separators in it could be mistaken for several.
        if user.is_empty() || !has_own_channel(user) {
            return Some(false);
        }
        if let Some(owner) = owner {
            return Some(owner == user);
        }
        Some(users.split(USER).any(|one| one == user))
    }

    /// Whether personal channels are on and this is one, in the namespace that they belong to.
    fn is_personal(&self, name: &str) -> bool {
        match self.settings.personal_channel.as_deref() {
            None => false,
            Some("") => name.starts_with(USERS),
            Some(_) => !name.starts_with(USERS) && self.personal_user(name).is_some(),
        }
    }

    /// The user whose personal channel has this name: `#USER`, and `NAMESPACE:#USER` where personal channels belong to a
    /// namespace. It is one user, whatever separators stand in the id.
    fn personal_user<'n>(&self, name: &'n str) -> Option<&'n str> {
        let in_namespace = |name: &'n str| {
            let namespace = self.settings.personal_channel.as_deref().filter(|name| !name.is_empty())?;
            name.strip_prefix(namespace)?.strip_prefix(':')?.strip_prefix(USERS)
        };
        name.strip_prefix(USERS).or_else(|| in_namespace(name))
    }

    /// Whether the session may do `action` in `channel`.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`] or [`code::PERMISSION_DENIED`]; the latter also where the application would have to be
    /// asked, which only commands of the client protocol do.
    pub(crate) fn may(&self, slot: u32, action: Action, channel: &Channel) -> Result<(), Code> {
        let session = &self.sessions[slot as usize];
        let subscribed =
            self.topics.key(&Topic::Channel(channel.clone())).is_some_and(|key| session.is_subscribed(key));
        let Settings { access, namespaces, .. } = &*self.settings;
        // A name says nothing of who may publish.
        if action != Action::Publish {
            match (action, self.by_name(slot, channel, namespaces.of(channel.as_str())?)) {
                (Action::Subscribe, Some(true)) if !access.is_reserved(channel.as_str()) => return Ok(()),
                (Action::Subscribe, Some(false)) => return Err(code::PERMISSION_DENIED),
                // What only some may hear, only they may look up.
                (_, Some(false)) if !subscribed => return Err(code::PERMISSION_DENIED),
                _ => {}
            }
        }
        if self.is_asked(slot, action, channel) {
            return Err(code::PERMISSION_DENIED);
        }
        access.may(action, session.identity, subscribed, namespaces, channel.as_str())
    }
}
