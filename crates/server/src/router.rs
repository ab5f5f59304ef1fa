//! Joins shards and broker: carries out what sessions ask for, and hands on what the broker hears.
//!
//! The router is the shards' [`Control`] and the broker's [`Sink`]. Neither side waits for it: what takes time is
//! answered later, through the shard's mailbox.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_broker::{BrokerError, Change, Gap, HistoryOptions, PublishOptions, Published, Sink, Stateful};
use tidings_hub::{
    Decide, Failure, Interest, NamespaceOptions, Notification, Query, Rejection, Request, Response, Settings,
};
use tidings_log_throttle::LogThrottle;
use tidings_shard::{Control, Mailbox, Reply, ShardMessage};
use tidings_wire::channel::RESERVED_PREFIX;
use tidings_wire::{Channel, ClientInfo, Delivery, History, HistoryQuery, Pattern, Topic, code};

use crate::auth_failures::AuthFailures;
use crate::blocklist::{self, Blocklist};
use crate::canary::Canary;
use crate::cluster::{self, Cluster, Heard};
use crate::interest::{Interests, MAX_SHARDS, Route, Shards};

/// How long a client is present after it was last said to be.
pub(crate) const PRESENCE_TTL: Duration = Duration::from_secs(60);
/// Most nodes that are remembered to have ended.
const MAX_ENDED: usize = 64;
/// What a channel's name counts for in a list besides its bytes: its length and breaks as RESP has them.
const CHANNEL_OVERHEAD: usize = 16;

/// Decides what clients may do, where that takes more than the channel's options.
pub(crate) trait Authority: Send + Sync + 'static {
    /// Answers one question, now or later, through `reply`. Never blocks.
    fn decide(&self, question: Decide, reply: Reply);
}

/// Called once with what became of a publication, from any thread; must not block.
pub(crate) type Done = Box<dyn FnOnce(Result<Published, Failure>) + Send>;

/// Is called with what is published in a channel of the server's own, on the thread that reads from the broker; must
/// not block.
pub(crate) type Hear = Box<dyn Fn(&Bytes) + Send + Sync>;

/// Joins shards and broker.
pub(crate) struct Router {
    mailboxes: OnceLock<Vec<Arc<Mailbox>>>,
    broker: OnceLock<Arc<dyn Stateful>>,
    authority: OnceLock<Box<dyn Authority>>,
    settings: Arc<Settings>,
    interests: Interests,
    linger: Duration,
    canary: Canary,
    cluster: Cluster,
    /// Nodes that have ended lately, and when that was noticed.
    ended: Mutex<Vec<(String, Instant)>>,
    /// Whether there are any: asked with every question about presence.
    has_ended: AtomicBool,
    /// The server's own topics that the broker refuses; a few at most.
    own_refused: Mutex<HashSet<Topic>>,
    /// Lines about channels that the broker no longer subscribes.
    refusals: LogThrottle,
    /// Lines about channels of which publications are lost.
    gaps: LogThrottle,
    blocklist: Blocklist,
    auth_failures: AuthFailures,
    /// Who hears what nodes tell each other of tables, and where.
    tables: OnceLock<(Topic, Hear)>,
    /// Publications heard from the broker.
    pub(crate) heard: AtomicU64,
    /// What `INFO` begins with; the rest is counted when it is asked for.
    info: Box<dyn Fn() -> String + Send + Sync>,
}

impl Router {
    /// A router that keeps topics at the broker for `linger` after their last subscriber.
    pub(crate) fn new(
        linger: Duration,
        canary: Canary,
        cluster: Cluster,
        settings: Arc<Settings>,
        info: impl Fn() -> String + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            mailboxes: OnceLock::new(),
            broker: OnceLock::new(),
            authority: OnceLock::new(),
            settings,
            interests: Interests::new(),
            linger,
            canary,
            cluster,
            ended: Mutex::default(),
            has_ended: AtomicBool::new(false),
            own_refused: Mutex::default(),
            refusals: LogThrottle::new(),
            gaps: LogThrottle::new(),
            blocklist: Blocklist::default(),
            auth_failures: AuthFailures::default(),
            tables: OnceLock::new(),
            heard: AtomicU64::new(0),
            info: Box::new(info),
        })
    }

    /// Says where the shards are. Once, before the broker is set.
    pub(crate) fn set_mailboxes(&self, mailboxes: Vec<Arc<Mailbox>>) {
        assert!(mailboxes.len() <= MAX_SHARDS, "a route has {MAX_SHARDS} bits");
        let _ = self.mailboxes.set(mailboxes);
    }

    /// Says which broker it is. Once.
    pub(crate) fn set_broker(&self, broker: Arc<dyn Stateful>) {
        for topic in self.cluster.topics() {
            broker.subscribe(&topic);
        }
        let _ = self.broker.set(broker);
    }

    /// Says who hears one more of the server's own channels. Once, after the broker is set.
    pub(crate) fn listen(&self, topic: &Topic, hear: Hear) {
        if self.tables.set((topic.clone(), hear)).is_ok()
            && let Some(broker) = self.broker.get()
        {
            broker.subscribe(topic);
        }
    }

    /// Says who decides. Once.
    pub(crate) fn set_authority(&self, authority: impl Authority) {
        let _ = self.authority.set(Box::new(authority));
    }

    /// What sessions go by.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The options of a channel; those of channels without a namespace when its own is unknown.
    pub(crate) fn options(&self, channel: &Channel) -> Option<&NamespaceOptions> {
        self.settings.namespaces.options(channel.as_str()).ok()
    }

    /// How a channel's history is kept, if it is.
    fn history_options(&self, channel: &Channel) -> Option<HistoryOptions> {
        let options = self.options(channel).filter(|options| options.has_history())?;
        Some(HistoryOptions {
            size: options.history_size,
            ttl: options.history_ttl,
            meta_ttl: options.history_meta_ttl.max(options.history_ttl),
        })
    }

    /// Publishes, with the history that the channel has unless `more` says otherwise.
    pub(crate) fn publish(&self, channel: &Channel, body: Bytes, more: PublishOptions, done: Done) {
        let Some(broker) = self.broker.get() else { return done(Err(Failure::Unavailable)) };
        let history = more.history.or_else(|| self.history_options(channel));
        let plain = history.is_none() && more == PublishOptions::default();
        let done = Box::new(move |outcome: Result<_, _>| done(outcome.map_err(failure)));
        if plain {
            // It is delivered live and has no position, as one that anybody publishes in Redis.
            broker.publish(channel, body, done);
        } else {
            broker.publish_with(channel, body, PublishOptions { history, ..more }, done);
        }
    }

    /// Reads a channel's history.
    pub(crate) fn history(
        &self,
        channel: &Channel,
        query: HistoryQuery,
        done: impl FnOnce(Result<History, Failure>) + Send + 'static,
    ) {
        let Some(broker) = self.broker.get() else { return done(Err(Failure::Unavailable)) };
        broker.history(channel, query, Box::new(move |outcome| done(outcome.map_err(failure))));
    }

    /// A node has ended. For as long as its members may be present, whoever asks for the presence of a channel has them
    /// taken out first.
    pub(crate) fn note_ended(&self, uid: &str, now: Instant) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|(other, since)| other != uid && now.duration_since(*since) < PRESENCE_TTL);
        if ended.len() < MAX_ENDED {
            ended.push((uid.to_owned(), now));
        }
        self.has_ended.store(true, Ordering::Release);
    }

    /// A node that was taken for ended announces itself: its members stay from now on.
    pub(crate) fn note_returned(&self, uid: &str) {
        if self.has_ended.load(Ordering::Acquire) {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.retain(|(other, _)| other != uid);
        }
    }

    /// Takes the members of nodes that have ended lately out of a channel. What is asked of the broker next sees it done.
    pub(crate) fn evict_ended(&self, channel: &Channel) {
        if !self.has_ended.load(Ordering::Acquire) {
            return;
        }
        let uids: Vec<_> = {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.retain(|(_, since)| since.elapsed() < PRESENCE_TTL);
            self.has_ended.store(!ended.is_empty(), Ordering::Release);
            ended.iter().map(|(uid, _)| uid.clone()).collect()
        };
        if let Some(broker) = self.broker.get() {
            uids.iter().for_each(|uid| broker.presence_evict(channel, uid, Box::new(|_| {})));
        }
    }

    /// The channels that have subscribers here, those with presence first.
    pub(crate) fn subscribed_channels(&self) -> Vec<Channel> {
        let mut channels: Vec<_> = {
            let table = self.interests.read();
            let channel = |(topic, _): (&Topic, u64)| match topic {
                Topic::Channel(channel) => Some(channel.clone()),
                Topic::Pattern(_) => None,
            };
            table.subscribed().filter_map(channel).collect()
        };
        // A token may give presence to a subscription where the channel has none.
        channels.sort_by_key(|channel| !self.options(channel).is_some_and(|options| options.presence));
        channels
    }

    /// Has the subscribers of channels with a history, for which nothing was heard from the broker for `delay`, reconnect
    /// elsewhere, spread over as much time again. Never when that is zero.
    pub(crate) fn move_stranded(&self, now: Instant, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        let has_history = |topic: &Topic| match topic {
            Topic::Channel(channel) => self.options(channel).is_some_and(NamespaceOptions::has_history),
            Topic::Pattern(_) => false,
        };
        let mut count = 0;
        self.interests.stranded(now, delay, has_history, |topic, shards| {
            count += 1;
            self.each(shards, |mailbox| mailbox.post(ShardMessage::Stranded(topic.clone(), delay)));
        });
        if count > 0 {
            tracing::warn!(
                channels = count,
                "the broker is away for {delay:?}: clients in channels with a history are asked to reconnect elsewhere"
            );
        }
    }

    /// Posts mail to every shard.
    pub(crate) fn post_to_all(&self, mail: impl Fn() -> ShardMessage) {
        for mailbox in self.mailboxes() {
            mailbox.post(mail());
        }
    }

    pub(crate) fn broker(&self) -> Option<&Arc<dyn Stateful>> {
        self.broker.get()
    }

    pub(crate) fn canary(&self) -> &Canary {
        &self.canary
    }

    /// This node among the others.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Wrong tokens, passwords and keys.
    pub(crate) fn auth_failures(&self) -> &AuthFailures {
        &self.auth_failures
    }

    /// Users and tokens that are refused.
    pub(crate) fn blocklist(&self) -> &Blocklist {
        &self.blocklist
    }

    /// The channels with subscribers on this node, and how many each has: those that match, if a pattern is given.
    /// `None` when they do not fit into `room`; no more than that are gathered.
    pub(crate) fn channels(
        &self,
        pattern: Option<&Pattern>,
        room: &mut cluster::Room,
    ) -> Option<cluster::Channels> {
        let table = self.interests.read();
        let mut channels = cluster::Channels::new();
        for (topic, count) in table.subscribed() {
            if let Topic::Channel(c) = topic
                && pattern.is_none_or(|p| p.matches(c.as_str()))
            {
                room.take(c.as_str()).then(|| channels.insert(c.as_str().to_owned(), count))?;
            }
        }
        Some(channels)
    }

    /// Why the broker is away, if it is.
    pub(crate) fn down_reason(&self) -> Option<String> {
        self.interests.read().down_reason().map(str::to_owned)
    }

    /// Topics that the broker does not subscribe although it should: see [`crate::interest::Table::refused`], and those
    /// that this node needs itself.
    pub(crate) fn refused_topics(&self) -> usize {
        let own = self.own_refused.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.interests.read().refused() + own
    }

    /// Topics at the broker: those wanted, and those that linger.
    pub(crate) fn topics(&self) -> usize {
        self.interests.read().len()
    }

    /// Channels and patterns that have subscribers on this node.
    pub(crate) fn subscribed(&self) -> (usize, usize) {
        self.interests.read().subscribed().fold((0, 0), |(channels, patterns), (topic, _)| match topic {
            Topic::Channel(_) => (channels + 1, patterns),
            Topic::Pattern(_) => (channels, patterns + 1),
        })
    }

    /// Lets go of the topics that nobody has wanted for long enough.
    pub(crate) fn sweep(&self, now: Instant) {
        self.interests.sweep(now, self.linger, |topic| {
            if let Some(broker) = self.broker.get().filter(|_| !is_own(topic)) {
                broker.unsubscribe(topic);
            }
        });
    }

    /// Answers a question about the node.
    fn query(&self, query: &Query) -> Response {
        match query {
            Query::Channels(pattern) => {
                let most = self.settings.recovery_bytes;
                let table = self.interests.read();
                let (mut channels, mut bytes) = (Vec::new(), 0);
                for (topic, _) in table.subscribed() {
                    if let Topic::Channel(c) = topic
                        && pattern.as_ref().is_none_or(|p| p.matches(c.as_str()))
                    {
                        bytes += c.as_str().len() + CHANNEL_OVERHEAD;
                        if bytes > most {
                            return Response::Failed(Failure::Error(too_large(most)));
                        }
                        channels.push(c.clone());
                    }
                }
                Response::Channels(channels)
            }
            Query::Subscribers(names) => {
                let table = self.interests.read();
                let count = |name: &Bytes| {
                    let topic = Channel::new(name).ok().map(Topic::Channel)?;
                    table.route(&topic).map(Route::subscribers)
                };
                let counts = names.iter().map(|name| (name.clone(), count(name).unwrap_or(0)));
                Response::Subscribers(counts.collect())
            }
            Query::Patterns => Response::Count(self.subscribed().1 as u64),
            Query::Info => Response::Text((self.info)()),
        }
    }

    /// Something in one of the server's own channels. Gives whether it was heard as such, not through a pattern.
    fn heard_own(&self, delivery: &Delivery) -> bool {
        let (Topic::Channel(channel), body) = (&delivery.topic, &delivery.publication.body) else {
            return false;
        };
        if self.canary.is(channel) {
            self.canary.came_back(&delivery.publication);
            return true;
        }
        if let Some((topic, hear)) = self.tables.get()
            && *topic == delivery.topic
        {
            hear(body);
            return true;
        }
        match self.cluster.heard(channel, body) {
            Some(Heard::Order(directive)) => self.post_to_all(|| ShardMessage::Order(Arc::clone(&directive))),
            Some(Heard::Blocklist(change)) => match self.blocklist.apply(change) {
                Ok(Some(directive)) => blocklist::order(self, directive),
                Ok(None) => {}
                Err(blocklist::Full) => self.cluster.count_ignored(),
            },
            Some(Heard::NewNode(uid)) => self.note_returned(&uid),
            Some(Heard::Input(session, data)) => {
                // One that has ended meanwhile misses nothing.
                if let Some((shard, id)) = tidings_hub::locate(&self.settings.session_key, &session)
                    && let Some(mailbox) = self.mailboxes().get(shard as usize)
                {
                    mailbox.post(ShardMessage::Input(id, data));
                }
            }
            None => {}
        }
        true
    }

    fn mailboxes(&self) -> &[Arc<Mailbox>] {
        self.mailboxes.get().map(Vec::as_slice).unwrap_or_default()
    }

    fn each(&self, shards: Shards, mut act: impl FnMut(&Mailbox)) {
        let mailboxes = self.mailboxes();
        shards.indices().for_each(|index| act(&mailboxes[index]));
    }
}

impl Control for Router {
    fn subscribe_topic(&self, shard: usize, topic: &Topic) -> (Interest, Arc<AtomicU64>) {
        self.interests.want(shard, topic, |topic| {
            // The server subscribes to its own channels by itself, and no session's interest begins or ends that.
            if let Some(broker) = self.broker.get().filter(|_| !is_own(topic)) {
                broker.subscribe(topic);
            }
        })
    }

    fn unsubscribe_topic(&self, shard: usize, topic: &Topic) {
        self.interests.unwant(shard, topic, Instant::now());
    }

    fn request(&self, request: Request, reply: Reply) {
        match request {
            Request::Publish(channel, body, info) => {
                let more = PublishOptions { info: info.map(|info| *info), ..PublishOptions::default() };
                let done = Box::new(move |outcome| {
                    reply.send(answer(outcome, |published: Published| {
                        Response::Published(published.receivers)
                    }));
                });
                self.publish(&channel, body, more, done);
            }
            Request::Query(query) => reply.send(self.query(&query)),
            Request::History(channel, query) => {
                self.history(&channel, query, |history| reply.send(answer(history, Response::History)));
            }
            Request::Presence(channel) => match self.broker.get() {
                Some(broker) => {
                    self.evict_ended(&channel);
                    broker.presence(
                        &channel,
                        self.settings.recovery_bytes,
                        Box::new(|members| reply.send(answer(members.map_err(failure), Response::Members))),
                    );
                }
                None => reply.send(Response::Failed(Failure::Unavailable)),
            },
            Request::PresenceStats(channel) => match self.broker.get() {
                Some(broker) => {
                    self.evict_ended(&channel);
                    broker.presence_stats(
                        &channel,
                        Box::new(|stats| {
                            reply.send(answer(stats.map_err(failure), |s| {
                                Response::Presence(s.clients, s.users)
                            }));
                        }),
                    );
                }
                None => reply.send(Response::Failed(Failure::Unavailable)),
            },
            Request::Decide(question) => match self.authority.get() {
                Some(authority) => authority.decide(*question, reply),
                None => reply.send(Response::Failed(Rejection::from(code::INTERNAL).into())),
            },
        }
    }

    fn notify(&self, note: Notification) {
        let Some(broker) = self.broker.get() else { return };
        // Presence is said again and again, and runs out by itself where saying it failed.
        let settled = || Box::new(|_: Result<(), BrokerError>| {});
        match note {
            Notification::Present(channel, info, announced) => {
                broker.presence_keep(&channel, &info, PRESENCE_TTL, announced, settled());
            }
            Notification::Absent(channel, info) => broker.presence_remove(&channel, &info.client, settled()),
            Notification::Joined(channel, info) => broker.announce(&channel, Change::Join(*info), settled()),
            Notification::Left(channel, info) => broker.announce(&channel, Change::Leave(*info), settled()),
        }
    }

    fn congested(&self) -> bool {
        self.mailboxes().iter().any(|m| m.is_congested())
    }
}

/// Whether a topic is one of the server's own channels.
fn is_own(topic: &Topic) -> bool {
    matches!(topic, Topic::Channel(channel) if channel.as_str().starts_with(RESERVED_PREFIX))
}

/// What a broker's error means to a session.
fn failure(error: BrokerError) -> Failure {
    match error {
        BrokerError::Unavailable => Failure::Unavailable,
        BrokerError::Overloaded => Failure::Overloaded,
        BrokerError::LimitExceeded(bytes) => Failure::Error(too_large(bytes)),
        // The words of the broker are in the log: they are nothing to a client.
        BrokerError::Failed(_) => Failure::Unavailable,
        BrokerError::NotPermitted => Failure::Error(code::PERMISSION_DENIED.into()),
        BrokerError::Invalid(why) => Failure::Error(Rejection {
            code: code::BAD_REQUEST.number,
            text: format!("{}: {why}", code::BAD_REQUEST.text),
            temporary: false,
        }),
    }
}

/// That an answer would take more bytes than that.
fn too_large(bytes: usize) -> Rejection {
    let text = format!("limit exceeded: the answer takes more than {bytes} bytes (client.queue_max_size)");
    Rejection { code: code::LIMIT_EXCEEDED.number, text, temporary: false }
}

fn answer<T>(outcome: Result<T, Failure>, then: impl FnOnce(T) -> Response) -> Response {
    match outcome {
        Ok(value) => then(value),
        Err(failure) => Response::Failed(failure),
    }
}

impl Sink for Router {
    fn deliver(&self, batch: &mut Vec<Delivery>) -> u64 {
        let table = self.interests.read();
        let (mut receivers, mut heard) = (0, 0);
        let mut woken = Shards::default();
        for delivery in batch.drain(..) {
            if delivery.publication.channel.as_str().starts_with(RESERVED_PREFIX) {
                // Nobody else's, whatever pattern it matches.
                receivers += u64::from(self.heard_own(&delivery));
                continue;
            }
            heard += 1;
            let Some(route) = table.route(&delivery.topic) else { continue };
            receivers += route.subscribers();
            woken = woken.and(route.shards);
            self.each(route.shards, |mailbox| {
                // What does not fit is counted there and announced to those who miss it.
                mailbox.deliver(delivery.clone());
            });
        }
        drop(table);
        self.heard.fetch_add(heard, Ordering::Relaxed);
        self.each(woken, Mailbox::wake);
        receivers
    }

    fn live(&self, topics: &[Topic]) {
        for topic in topics {
            self.canary.is_there(topic, true);
            if topic.as_str().starts_with(RESERVED_PREFIX) {
                self.own_refused.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
            }
            self.interests.live(topic, |shards| {
                self.each(shards, |mailbox| mailbox.post(ShardMessage::Live(topic.clone())));
            });
        }
    }

    fn refused(&self, topic: &Topic, error: &BrokerError) {
        self.canary.is_there(topic, false);
        if topic.as_str().starts_with(RESERVED_PREFIX) && !self.canary.is_topic(topic) {
            self.own_refused.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.clone());
        }
        let reason = error.to_string();
        self.interests.refused(topic, *error == BrokerError::NotPermitted, |shards, refusal| {
            if refusal.is_first && refusal.was_live {
                tracing::debug!(topic = topic.as_str(), reason, "the broker no longer subscribes");
                if let Some(count) = self.refusals.count() {
                    let topic = topic.as_str();
                    tracing::warn!(
                        topic,
                        reason,
                        count,
                        "the broker no longer subscribes channels, this one among them; trying again"
                    );
                }
            }
            // A channel that was subscribed is not one that its subscribers may not have: the broker's rules have changed,
            // perhaps by mistake.
            let failure = if refusal.was_live { Failure::Unavailable } else { failure(error.clone()) };
            self.each(shards, |mailbox| {
                mailbox.post(ShardMessage::Refused(topic.clone(), failure.clone(), refusal.is_first));
            });
        });
    }

    fn away(&self, topics: &[Topic], reason: &str) {
        tracing::debug!(reason, "{} topics are away", topics.len());
        for topic in topics {
            self.canary.is_there(topic, false);
            self.interests.away(topic, |shards| {
                self.each(shards, |mailbox| mailbox.post(ShardMessage::Away(topic.clone())));
            });
        }
    }

    fn up(&self) {
        self.interests.up();
        self.canary.up();
        self.blocklist.hurry();
        tracing::info!("the broker is connected");
    }

    fn down(&self, reason: &str) {
        let news = self.interests.down(reason, || self.post_to_all(|| ShardMessage::BrokerDown));
        if news {
            tracing::warn!(reason, "the broker is away");
        }
    }

    fn gap(&self, topic: &Topic, gap: &Gap) {
        let table = self.interests.read();
        let Some(route) = table.route(topic) else { return };
        let channel = topic.as_str();
        tracing::debug!(channel, offset = gap.last.offset, "publications are lost");
        if let Some(channels) = self.gaps.count() {
            tracing::warn!(
                channel,
                channels,
                "publications after {} are lost here, and in other channels if there are several; subscribers are told to \
                 begin anew",
                gap.last.offset
            );
        }
        self.each(route.shards, |mailbox| mailbox.post(ShardMessage::Lost(topic.clone())));
    }

    fn changed(&self, channel: &Channel, change: &Change) {
        let table = self.interests.read();
        let Some(route) = table.route(&Topic::Channel(channel.clone())) else { return };
        let (joined, info): (bool, &ClientInfo) = match change {
            Change::Join(info) => (true, info),
            Change::Leave(info) => (false, info),
        };
        let change = Arc::new(tidings_shard::Change { channel: channel.clone(), joined, info: info.clone() });
        self.each(route.shards, |mailbox| mailbox.post(ShardMessage::Changed(Arc::clone(&change))));
    }
}
