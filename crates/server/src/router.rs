//! Operations on channels: publish, history, presence, and which channels have subscribers on this node.
//!
//! The router joins the broker with the interest table. The way in, from the broker to the shards, is
//! [`crate::inbound`]; sessions reach the router through [`crate::control`].
//!
//! Invariant: no call blocks; completion callbacks run on the broker's threads.

use std::fmt;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_broker::{BrokerError, HistoryOptions, PublishOptions, Published, Stateful};
use tidings_hub::{Failure, NamespaceOptions, Rejection, Settings};
use tidings_shard::ShardMessage;
use tidings_wire::{Channel, History, HistoryQuery, Pattern, Topic, code};

use tidings_cluster::EndedNodes;
use crate::interest::Interests;
use crate::internal::is_internal;
use tidings_cluster::{ChannelCounts, ListBudget};
use tidings_metrics::{Collect, MetricWriter};
use crate::shards::Shards;

/// Completion callback of a publish. Called exactly once, from any thread; must not block.
pub(crate) type Done = Box<dyn FnOnce(Result<Published, Failure>) + Send>;

/// Operations on the channels of this node.
pub(crate) struct Router {
    broker: Arc<dyn Stateful>,
    settings: Arc<Settings>,
    interests: Arc<Interests>,
    shards: Arc<Shards>,
    ended: Arc<EndedNodes>,
    /// How long a topic stays subscribed at the broker after its last subscriber has left.
    linger: Duration,
}

impl Router {
    /// A router that keeps topics subscribed at the broker for `linger` after their last subscriber has left.
    pub(crate) fn new(
        broker: Arc<dyn Stateful>,
        settings: Arc<Settings>,
        interests: Arc<Interests>,
        shards: Arc<Shards>,
        ended: Arc<EndedNodes>,
        linger: Duration,
    ) -> Self {
        Self { broker, settings, interests, shards, ended, linger }
    }

    /// The settings of sessions.
    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The broker.
    pub(crate) fn broker(&self) -> &Arc<dyn Stateful> {
        &self.broker
    }

    /// The topics that shards are interested in.
    pub(crate) fn interests(&self) -> &Arc<Interests> {
        &self.interests
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
        let history = more.history.or_else(|| self.history_options(channel));
        let plain = history.is_none() && more == PublishOptions::default();
        let done = Box::new(move |outcome: Result<_, _>| done(outcome.map_err(failure)));
        if plain {
            // It is delivered live and has no position, as one that anybody publishes in Redis.
            self.broker.publish(channel, body, done);
        } else {
            self.broker.publish_with(channel, body, PublishOptions { history, ..more }, done);
        }
    }

    /// Reads a channel's history.
    pub(crate) fn history(
        &self,
        channel: &Channel,
        query: HistoryQuery,
        done: impl FnOnce(Result<History, Failure>) + Send + 'static,
    ) {
        self.broker.history(channel, query, Box::new(move |outcome| done(outcome.map_err(failure))));
    }

    /// Removes the members of nodes that have ended from a channel. Requests to the broker after this one see the result.
    pub(crate) fn evict_ended(&self, channel: &Channel) {
        for uid in self.ended.uids() {
            self.broker.presence_evict(channel, &uid, Box::new(|_| {}));
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

    /// Asks the subscribers of channels with a history, for which the broker has been away for `delay`, to reconnect to
    /// another node, spread over as much time again. Does nothing when `delay` is zero.
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
            self.shards
                .for_each(shards, |mailbox| mailbox.post(ShardMessage::Stranded(topic.clone(), delay)));
        });
        if count > 0 {
            tracing::warn!(
                channels = count,
                "the broker is away for {delay:?}: clients in channels with a history are asked to reconnect elsewhere"
            );
        }
    }

    /// The channels with subscribers on this node, and how many each has: those that match, if a pattern is given.
    /// `None` when they exceed `budget`.
    pub(crate) fn channels(
        &self,
        pattern: Option<&Pattern>,
        budget: &mut ListBudget,
    ) -> Option<ChannelCounts> {
        let table = self.interests.read();
        let mut channels = ChannelCounts::new();
        for (topic, count) in table.subscribed() {
            if let Topic::Channel(c) = topic
                && pattern.is_none_or(|p| p.matches(c.as_str()))
            {
                budget.take(c.as_str()).then(|| channels.insert(c.as_str().to_owned(), count))?;
            }
        }
        Some(channels)
    }

    /// Why the broker is away, if it is.
    pub(crate) fn down_reason(&self) -> Option<String> {
        self.interests.down_reason()
    }

    /// Topics subscribed at the broker: those with subscribers, and those that linger.
    pub(crate) fn topics(&self) -> usize {
        self.interests.read().len()
    }

    /// How many channels, and how many patterns, have subscribers on this node.
    pub(crate) fn subscribed(&self) -> (usize, usize) {
        self.interests.read().subscribed().fold((0, 0), |(channels, patterns), (topic, _)| match topic {
            Topic::Channel(_) => (channels + 1, patterns),
            Topic::Pattern(_) => (channels, patterns + 1),
        })
    }

    /// Unsubscribes at the broker from topics that have had no subscriber for long enough.
    pub(crate) fn sweep(&self, now: Instant) {
        self.interests.sweep(now, self.linger, |topic| {
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
            "Channels and patterns subscribed at the broker, those that nobody wants any more but linger included",
            self.topics(),
        )
    }
}

/// The failure that a session reports for an error of the broker.
pub(crate) fn failure(error: BrokerError) -> Failure {
    match error {
        BrokerError::Unavailable => Failure::Unavailable,
        BrokerError::Overloaded => Failure::Overloaded,
        BrokerError::LimitExceeded(bytes) => Failure::Error(too_large(bytes)),
        // The text of the broker's error is in the log, not for clients.
        BrokerError::Failed(_) => Failure::Unavailable,
        BrokerError::NotPermitted => Failure::Error(code::PERMISSION_DENIED.into()),
        BrokerError::Invalid(why) => Failure::Error(Rejection {
            code: code::BAD_REQUEST.number,
            text: format!("{}: {why}", code::BAD_REQUEST.text),
            temporary: false,
        }),
    }
}

/// The rejection of a response that would be larger than `bytes`.
pub(crate) fn too_large(bytes: usize) -> Rejection {
    let text = format!("limit exceeded: the answer takes more than {bytes} bytes (client.queue_max_size)");
    Rejection { code: code::LIMIT_EXCEEDED.number, text, temporary: false }
}
