//! Operations on channels: publish, history, presence, and the channels with subscribers on this node.
//!
//! The router joins the broker with the topic table. [`crate::inbound`] is the opposite direction, from the broker to the
//! shards; sessions call the router through [`crate::control`].
//!
//! Invariant: no call blocks; completion callbacks run on the broker's threads.

use std::fmt;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tidings_broker::{
    BrokerError, HistoryOptions, PublishCallback as BrokerCallback, PublishOptions, Published, Stateful,
};
use tidings_hub::{Failure, NamespaceOptions, Rejection, Settings, SubscriptionKind};
use tidings_map_api::Maps;
use tidings_mqtt::Qos;
use tidings_mqtt::topic::Filter;
use tidings_mqtt_session as mqtt;
use tidings_mqtt_state::{RetainedFull, RetainedStore, SharedSessions, StorageError, Undo};
use tidings_otel::{Span, SpanKind, Tracer};
use tidings_session::Response;
use tidings_shard::ShardMessage;
use tidings_wire::channel::RESERVED_PREFIX;
use tidings_wire::{
    Channel, ClientInfo, History, HistoryQuery, MessageProperties, Pattern, Publication, Topic, code,
};
use tokio::sync::oneshot;

use crate::internal::is_internal;
use crate::mqtt_sessions::SessionStore;
use crate::mqtt_sys;
use crate::shards::Shards;
use tidings_cluster::EndedNodes;
use tidings_cluster::{ChannelCounts, ListBudget};
use tidings_metrics::{Collect, KeyedDurations, MetricWriter, labels};
use tidings_topic_table::TopicTable;

/// Completion callback of a publish. Called exactly once, from any thread; must not block.
pub(crate) type PublishCallback = Box<dyn FnOnce(Result<Published, Failure>) + Send>;

/// Operations on the channels of this node.
pub(crate) struct Router {
    broker: Arc<dyn Stateful>,
    settings: Arc<ArcSwap<Settings>>,
    topic_table: Arc<TopicTable>,
    shards: Arc<Shards>,
    ended_nodes: Arc<EndedNodes>,
    /// How long a topic stays subscribed at the broker after its last subscriber has left.
    linger: Duration,
    tracer: Tracer,
    durations: Arc<KeyedDurations<BrokerOperation>>,
    /// The retained messages of MQTT; `None` where they are not available.
    retained: Option<RetainedStore>,
    /// The sessions of MQTT, whose files have a message before it is acknowledged; `None` before they are set.
    sessions: Option<Arc<SessionStore>>,
    /// The sessions of MQTT, where the broker stores them.
    shared: Option<Arc<SharedSessions>>,
    /// The last messages of `$SYS/broker/…`.
    broker_topics: ArcSwap<Vec<Arc<Publication>>>,
}

impl Router {
    /// A router that keeps topics subscribed at the broker for `linger` after their last subscriber has left.
    pub(crate) fn new(
        broker: Arc<dyn Stateful>,
        settings: Arc<ArcSwap<Settings>>,
        topic_table: Arc<TopicTable>,
        shards: Arc<Shards>,
        ended_nodes: Arc<EndedNodes>,
        linger: Duration,
        tracer: Tracer,
    ) -> Self {
        Self {
            broker,
            settings,
            topic_table,
            shards,
            ended_nodes,
            linger,
            tracer,
            durations: Arc::default(),
            retained: None,
            sessions: None,
            shared: None,
            broker_topics: ArcSwap::default(),
        }
    }

    /// With the state of MQTT.
    #[must_use]
    pub(crate) fn with_mqtt(
        self,
        retained: Option<RetainedStore>,
        sessions: Arc<SessionStore>,
        shared: Option<Arc<SharedSessions>>,
    ) -> Self {
        Self { retained, sessions: Some(sessions), shared, ..self }
    }

    /// The shards of this node.
    pub(crate) fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// The settings of sessions now.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Replaces the settings of sessions, for requests from now on.
    pub(crate) fn set_settings(&self, settings: Arc<Settings>) {
        self.settings.store(settings);
    }

    /// The broker.
    pub(crate) fn broker(&self) -> &Arc<dyn Stateful> {
        &self.broker
    }

    /// The maps of the broker.
    pub(crate) fn maps(&self) -> Maps {
        Maps(Arc::clone(&self.broker))
    }

    /// The topics of this node.
    pub(crate) fn topic_table(&self) -> &Arc<TopicTable> {
        &self.topic_table
    }

    /// The options of a channel; `None` if its namespace does not exist.
    pub(crate) fn options(&self, channel: &Channel) -> Option<NamespaceOptions> {
        self.settings.load().namespaces.options(channel.as_str()).ok().cloned()
    }

    /// The bounds of a channel's history, `None` if it has none; an error if the channel has keys.
    fn history_options(&self, channel: &Channel) -> Result<Option<HistoryOptions>, Keyed> {
        let settings = self.settings.load();
        let Ok(options) = settings.namespaces.options(channel.as_str()) else { return Ok(None) };
        match options.kind() {
            SubscriptionKind::Stream => {}
            SubscriptionKind::Map(_) => return Err(Keyed::Map),
            SubscriptionKind::SharedPoll => return Err(Keyed::SharedPoll),
        }
        Ok(options.has_history().then(|| HistoryOptions {
            size: options.history_size,
            ttl: options.history_ttl,
            meta_ttl: options.history_meta_ttl.max(options.history_ttl),
        }))
    }

    /// Number of retained messages of MQTT.
    pub(crate) fn retained_count(&self) -> u64 {
        self.retained.as_ref().map_or(0, RetainedStore::count)
    }

    /// Replaces the messages of `$SYS/broker/…`.
    pub(crate) fn set_broker_topics(&self, publications: Vec<Arc<Publication>>) {
        self.broker_topics.store(Arc::new(publications));
    }

    /// Publishes. Without `options.history` the publication is added to the channel's history, if the channel has one.
    pub(crate) fn publish(
        &self,
        channel: &Channel,
        body: Bytes,
        options: PublishOptions,
        done: PublishCallback,
    ) {
        let own = match self.history_options(channel) {
            Ok(own) => own,
            Err(keyed) => return done(Err(Failure::Error(keyed.rejection()))),
        };
        let is_required = message(&options).is_some_and(|message| message.qos != Qos::AtMostOnce);
        let sessions = self.sessions.clone().filter(|_| is_required);
        let check = move || sessions.as_ref().map_or(Ok(()), |sessions| sessions.check_files());
        let checked = check().map_err(|error| not_stored(&error));
        let undo = match checked.and_then(|()| self.retain(channel, &body, &options)) {
            Ok(undo) => undo,
            Err(failure) => return done(Err(failure)),
        };
        let options = PublishOptions { history: options.history.or(own), ..options };
        let request = self.broker_request(BrokerOperation::Publish, channel);
        let local = match (&self.retained, undo) {
            (Some(RetainedStore::Local(retained)), Some(undo)) => Some((Arc::clone(retained), undo)),
            _ => None,
        };
        let done: BrokerCallback = Box::new(move |outcome: Result<_, _>| {
            if let (Some((retained, undo)), true) = (local, outcome.is_err()) {
                retained.undo(undo);
            }
            request.complete(&outcome);
            let stored = |published| check().map(|()| published).map_err(|error| not_stored(&error));
            done(outcome.map_err(failure).and_then(stored));
        });
        let broker = Sender { broker: Arc::clone(&self.broker), shared: self.shared.clone() };
        let Some(RetainedStore::Shared(shared)) = &self.retained else {
            return broker.send(channel, body, options, done);
        };
        let message = self.shared_message(channel, &body, &options);
        if message.is_none() && !shared.is_storing() {
            return broker.send(channel, body, options, done);
        }
        let size = body.len() + options.extra.as_ref().map_or(0, |extra| extra.size());
        let own = channel.clone();
        let publish = Box::new(move |stored: Result<(), BrokerError>| match stored {
            Ok(()) => broker.send(&own, body, options, done),
            Err(error) => done(Err(error)),
        });
        shared.store_then_publish(channel, message, size, publish);
    }

    /// The message that the shared store has before it is published; `None` if it is not retained there.
    fn shared_message(
        &self,
        channel: &Channel,
        body: &Bytes,
        options: &PublishOptions,
    ) -> Option<Publication> {
        let is_shared = matches!(self.retained, Some(RetainedStore::Shared(_)));
        let is_retained = is_shared && message(options).is_some_and(|message| message.retain);
        is_retained.then(|| retained_message(channel, body, options))
    }

    /// Stores a retained message in this server, before it is delivered.
    fn retain(
        &self,
        channel: &Channel,
        body: &Bytes,
        options: &PublishOptions,
    ) -> Result<Option<Undo>, Failure> {
        let is_retained = message(options).is_some_and(|message| message.retain);
        let Some(RetainedStore::Local(retained)) = self.retained.as_ref().filter(|_| is_retained) else {
            return Ok(None);
        };
        let publication = retained_message(channel, body, options);
        retained.set(publication, Instant::now()).map(Some).map_err(|full| match full {
            RetainedFull::Storage(error) => not_stored(&error),
            RetainedFull::Messages(_) | RetainedFull::Bytes(_) => {
                let code = code::LIMIT_EXCEEDED.number;
                Failure::Error(Rejection { code, text: full.to_string(), temporary: false })
            }
        })
    }

    /// Passes the response with the retained messages that match a filter to `reply`.
    pub(crate) fn read_retained(
        &self,
        filter: &str,
        max_bytes: usize,
        reply: impl FnOnce(Response) + Send + 'static,
    ) {
        match (&self.retained, Filter::new(filter)) {
            (_, Ok(filter)) if filter.pattern().starts_with(mqtt_sys::PREFIX) => {
                let topics = self.broker_topics.load();
                let found = topics.iter().filter(|one| filter.matches(one.channel.as_str()));
                reply(Response::Protocol(mqtt::Response::Retained(found.cloned().collect())));
            }
            (Some(RetainedStore::Local(retained)), Ok(filter)) => {
                retained.read(&filter, max_bytes, Instant::now(), |found| {
                    reply(match found {
                        Ok(found) => Response::Protocol(mqtt::Response::Retained(found)),
                        Err(_) => Response::Failed(Failure::Error(response_too_large(max_bytes))),
                    });
                });
            }
            (Some(RetainedStore::Shared(retained)), Ok(_)) => {
                retained.read(filter, max_bytes, |found| {
                    reply(match found {
                        Ok(found) => Response::Protocol(mqtt::Response::Retained(found)),
                        Err(error) => Response::Failed(failure(error)),
                    });
                });
            }
            _ => reply(Response::Protocol(mqtt::Response::Retained(Vec::new()))),
        }
    }

    /// Reads a channel's history.
    pub(crate) fn history(
        &self,
        channel: &Channel,
        query: HistoryQuery,
        done: impl FnOnce(Result<History, Failure>) + Send + 'static,
    ) {
        let request = self.broker_request(BrokerOperation::History, channel);
        let done = Box::new(move |outcome: Result<_, _>| {
            request.complete(&outcome);
            done(outcome.map_err(failure));
        });
        if matches!(self.history_options(channel), Err(Keyed::Map)) {
            return self.broker.map_stream(channel, query, done);
        }
        self.broker.history(channel, query, done);
    }

    /// Begins a request to the broker, for traces and metrics.
    pub(crate) fn broker_request(&self, operation: BrokerOperation, channel: &Channel) -> BrokerRequest {
        let (name, kind) = operation.span();
        let mut span = self.tracer.operation(name, kind);
        span.set_text("messaging.destination.name", channel.as_str());
        BrokerRequest { span, operation, began: Instant::now(), durations: Arc::clone(&self.durations) }
    }

    /// Removes the members of nodes that have ended from a channel. Requests to the broker after this one see the result.
    pub(crate) fn evict_ended(&self, channel: &Channel) {
        for uid in self.ended_nodes.uids() {
            self.broker.presence_evict(channel, &uid, Box::new(|_| {}));
        }
    }

    /// The members of a channel on all nodes that are alive, at most `max_bytes` of them.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub(crate) async fn members(
        &self,
        channel: &Channel,
        max_bytes: usize,
    ) -> Result<Vec<ClientInfo>, BrokerError> {
        self.evict_ended(channel);
        let (done, members) = oneshot::channel();
        self.broker.presence(channel, max_bytes, Box::new(|outcome| drop(done.send(outcome))));
        members.await.unwrap_or(Err(BrokerError::Unavailable))
    }

    /// The channels that have subscribers on this node, channels with presence first.
    pub(crate) fn subscribed_channels(&self) -> Vec<Channel> {
        let mut channels: Vec<_> = {
            let topics = self.topic_table.read();
            let channel = |(topic, _): (&Topic, u64)| match topic {
                Topic::Channel(channel) => Some(channel.clone()),
                Topic::Pattern(_) => None,
            };
            topics.subscribed().filter_map(channel).collect()
        };
        // The others are included, because a token may enable presence for one subscription.
        let settings = self.settings.load();
        let has_presence = |channel: &Channel| {
            settings.namespaces.options(channel.as_str()).is_ok_and(|options| options.presence)
        };
        channels.sort_by_key(|channel| !has_presence(channel));
        channels
    }

    /// Disconnects the subscribers of channels with a history that the broker has not delivered for `delay`, so that they
    /// reconnect to another node. The disconnects are spread over another `delay`. Does nothing when `delay` is zero.
    pub(crate) fn move_stranded(&self, now: Instant, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        let has_history = |topic: &Topic| match topic {
            Topic::Channel(channel) => self.options(channel).is_some_and(|options| options.has_history()),
            Topic::Pattern(_) => false,
        };
        let mut count = 0;
        self.topic_table.take_stranded(now, delay, has_history, |topic, shards| {
            count += 1;
            self.shards
                .for_each(shards, |mailbox| mailbox.post(ShardMessage::Failover(topic.clone(), delay)));
        });
        if count > 0 {
            tracing::warn!(
                channels = count,
                "the broker has been unavailable for {delay:?}: clients in channels with a history are disconnected so that they \
                 reconnect to another node"
            );
        }
    }

    /// The channels that match the pattern (without one: all) and have subscribers on this node, with their numbers of
    /// subscribers. `None` when they exceed `budget`.
    pub(crate) fn channels(
        &self,
        pattern: Option<&Pattern>,
        budget: &mut ListBudget,
    ) -> Option<ChannelCounts> {
        let topics = self.topic_table.read();
        let mut channels = ChannelCounts::new();
        for (topic, count) in topics.subscribed() {
            if let Topic::Channel(c) = topic
                && pattern.is_none_or(|p| p.matches(c.as_str()))
            {
                budget.take(c.as_str()).then(|| channels.insert(c.as_str().to_owned(), count))?;
            }
        }
        Some(channels)
    }

    /// Why the broker is unavailable; `None` while it is connected.
    pub(crate) fn down_reason(&self) -> Option<String> {
        self.topic_table.down_reason()
    }

    /// Topics subscribed at the broker: those with subscribers, and those that linger.
    pub(crate) fn topics(&self) -> usize {
        self.topic_table.read().count()
    }

    /// The numbers of channels and of patterns with subscribers on this node.
    pub(crate) fn subscribed_counts(&self) -> (usize, usize) {
        self.topic_table.read().subscribed().fold((0, 0), |(channels, patterns), (topic, _)| match topic {
            Topic::Channel(_) => (channels + 1, patterns),
            Topic::Pattern(_) => (channels, patterns + 1),
        })
    }

    /// Unsubscribes at the broker from topics that have had no subscriber for the linger time.
    pub(crate) fn sweep(&self, now: Instant) {
        self.topic_table.sweep(now, self.linger, |topic| {
            if !is_internal(topic) {
                self.broker.unsubscribe(topic);
            }
        });
    }
}

impl Collect for Router {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let kind = self.broker.name();
        let up = u64::from(self.down_reason().is_none());
        out.gauges(
            "tidings_broker_up",
            "Whether there is a connection to the broker (1) or not (0); the memory broker always has one",
            "kind",
            iter::once((kind, up)),
        )?;
        out.gauge(
            "tidings_broker_topics",
            None,
            "Channels and patterns subscribed at the broker, including those without subscribers that linger",
            self.topics(),
        )?;
        out.durations(
            "tidings_broker_request_duration",
            "How long requests to the broker took, with the time in its queue, until the response or the failure",
            "operation",
            &self.durations,
        )
    }
}

/// Sends publications to the broker.
struct Sender {
    broker: Arc<dyn Stateful>,
    /// The sessions of MQTT, where the broker stores them.
    shared: Option<Arc<SharedSessions>>,
}

impl Sender {
    /// Adds a publication to the sessions that get it, and publishes it afterwards.
    fn send(self, channel: &Channel, body: Bytes, options: PublishOptions, done: BrokerCallback) {
        let sessions = self.sessions_for(channel, &options);
        let broker = self.broker;
        let Some((sessions, qos)) = sessions else { return send(&*broker, channel, body, options, done) };
        let publication = retained_message(channel, &body, &options);
        let key = options.idempotency_key.clone().unwrap_or_default();
        if qos == Qos::AtMostOnce {
            sessions.add(&publication, qos, &key, |_| {});
            return send(&*broker, channel, body, options, done);
        }
        let own = channel.clone();
        sessions.add(&publication, qos, &key, move |added| match added {
            Ok(0) => send(&*broker, &own, body, options, done),
            Ok(_) => send(&*broker, &own, body, marked(options, qos), done),
            Err(error) => done(Err(error)),
        });
    }

    /// The sessions to which a publication is added now, and its QoS; `None` if there are none.
    fn sessions_for(
        &self,
        channel: &Channel,
        options: &PublishOptions,
    ) -> Option<(Arc<SharedSessions>, Qos)> {
        let shared = self.shared.as_ref()?;
        let name = channel.as_str();
        // A name with wildcards has no packet.
        if name.starts_with(RESERVED_PREFIX) || name.contains(['+', '#']) {
            return None;
        }
        let qos = message(options).map_or_else(|| shared.default_qos(), |message| message.qos);
        shared.is_needed(qos).then(|| (Arc::clone(shared), qos))
    }
}

/// Marks a publication that sessions have: with the properties of a message, so that their connections do not deliver it.
fn marked(options: PublishOptions, qos: Qos) -> PublishOptions {
    if message(&options).is_some() {
        return options;
    }
    let mut extra = options.extra.unwrap_or_default();
    let properties = Bytes::new();
    extra.message = Some(Box::new(MessageProperties { qos, retain: false, expiry: None, properties }));
    PublishOptions { extra: Some(extra), ..options }
}

/// Sends a publication to the broker.
fn send(
    broker: &dyn Stateful,
    channel: &Channel,
    body: Bytes,
    options: PublishOptions,
    done: BrokerCallback,
) {
    if options == PublishOptions::default() {
        // Delivered live and without a position, as a publication of any client of Redis.
        broker.publish(channel, body, done);
    } else {
        broker.publish_with(channel, body, options, done);
    }
}

labels! {
    /// A request to the broker.
    pub(crate) enum BrokerOperation {
        Publish => "publish",
        History => "history",
        HistoryRemove => "history_remove",
        Presence => "presence",
        PresenceStats => "presence_stats",
    }
}

impl BrokerOperation {
    /// The name and kind of its spans.
    fn span(self) -> (&'static str, SpanKind) {
        match self {
            Self::Publish => ("broker publish", SpanKind::Producer),
            Self::History => ("broker history", SpanKind::Client),
            Self::HistoryRemove => ("broker history_remove", SpanKind::Client),
            Self::Presence => ("broker presence", SpanKind::Client),
            Self::PresenceStats => ("broker presence_stats", SpanKind::Client),
        }
    }
}

/// A request to the broker that has not completed.
pub(crate) struct BrokerRequest {
    span: Span,
    operation: BrokerOperation,
    began: Instant,
    durations: Arc<KeyedDurations<BrokerOperation>>,
}

impl BrokerRequest {
    /// Ends the span, which fails with the outcome, and counts the duration.
    pub(crate) fn complete<T>(mut self, outcome: &Result<T, BrokerError>) {
        self.durations.add(self.operation, self.began.elapsed());
        if let Err(error) = outcome {
            self.span.fail(error);
        }
    }
}

/// A channel whose publications have keys.
#[derive(Clone, Copy)]
enum Keyed {
    Map,
    SharedPoll,
}

impl Keyed {
    /// The rejection of a publication without a key.
    fn rejection(self) -> Rejection {
        let text = match self {
            Self::Map => "not available: the channel is a map, which needs a key (map_publish)",
            Self::SharedPoll => {
                "not available: the channel is a shared poll, which needs a key (shared_poll_publish)"
            }
        };
        Rejection { code: code::NOT_AVAILABLE.number, text: text.to_owned(), temporary: false }
    }
}

/// The properties of a message of MQTT.
fn message(options: &PublishOptions) -> Option<&MessageProperties> {
    options.extra.as_ref()?.message.as_deref()
}

/// A message to be retained.
fn retained_message(channel: &Channel, body: &Bytes, options: &PublishOptions) -> Publication {
    Publication { extra: options.extra.clone(), ..Publication::new(channel.clone(), body.clone()) }
}

/// The failure of a message that the files of MQTT's state do not have.
fn not_stored(error: &StorageError) -> Failure {
    let code::Code { number, temporary, .. } = code::INTERNAL;
    Failure::Error(Rejection { code: number, text: error.to_string(), temporary })
}

/// The failure that a session reports for an error of the broker.
pub(crate) fn failure(error: BrokerError) -> Failure {
    match error {
        BrokerError::Unavailable => Failure::Unavailable,
        BrokerError::Overloaded => Failure::Overloaded,
        BrokerError::LimitExceeded(bytes) => Failure::Error(response_too_large(bytes)),
        // The broker's error text is logged, and not sent to clients.
        BrokerError::Failed(_) => Failure::Unavailable,
        BrokerError::NotPermitted => Failure::Error(code::PERMISSION_DENIED.into()),
        BrokerError::Full(text) => {
            Failure::Error(Rejection { code: code::LIMIT_EXCEEDED.number, text, temporary: false })
        }
        BrokerError::Invalid(why) => Failure::Error(Rejection {
            code: code::BAD_REQUEST.number,
            text: format!("{}: {why}", code::BAD_REQUEST.text),
            temporary: false,
        }),
    }
}

/// The rejection of a response that would be larger than `bytes`.
pub(crate) fn response_too_large(bytes: usize) -> Rejection {
    let text = format!("limit exceeded: the answer takes more than {bytes} bytes (client.queue_max_size)");
    Rejection { code: code::LIMIT_EXCEEDED.number, text, temporary: false }
}
