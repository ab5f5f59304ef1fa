//! From the broker to the shards: [`Inbound`] implements the broker's [`Sink`].
//!
//! Invariants:
//! - No call blocks: messages are posted to the shards' mailboxes.
//! - Publications in internal channels reach no session, not even one that is subscribed to a matching pattern.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tidings_broker::{BrokerError, Change, Gap, Sink};
use tidings_hub::{Failure, NamespaceTable, SessionKey, Settings};
use tidings_log_throttle::LogThrottle;
use tidings_shard::{Mailbox, ShardMessage};
use tidings_shared_poll::SharedPolls;
use tidings_wire::channel::RESERVED_PREFIX;
use tidings_wire::{Channel, ClientInfo, Delivery, Topic};

use crate::internal::InternalChannels;
use crate::mqtt_sessions::{SessionStore, post_shared, unix_seconds};
use crate::router::failure;
use crate::shards::Shards;
use tidings_canary::Canary;
use tidings_cluster::EndedNodes;
use tidings_cluster::blocklist::{Blocklist, BlocklistFull};
use tidings_cluster::{Cluster, ClusterEvent};
use tidings_metrics::{Collect, MetricWriter};
use tidings_mqtt_state::RetainedReads;
use tidings_table_feed::Feeds;
use tidings_topic_table::{ShardSet, TopicTable};
use tidings_trace::{TraceEvent, TraceKind, Traces};

/// Passes publications and events of the broker on to the shards.
pub(crate) struct Inbound {
    pub(crate) shards: Arc<Shards>,
    pub(crate) session_key: SessionKey,
    /// The settings of sessions, which a reload replaces.
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) topic_table: Arc<TopicTable>,
    pub(crate) internal: Arc<InternalChannels>,
    pub(crate) canary: Arc<Canary>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) blocklist: Arc<Blocklist>,
    pub(crate) ended_nodes: Arc<EndedNodes>,
    pub(crate) counters: Arc<InboundCounters>,
    /// The publications of each namespace.
    pub(crate) namespaces: Arc<NamespaceTable>,
    /// The sessions of MQTT without a connection.
    pub(crate) sessions: Arc<SessionStore>,
    /// The shared polls; none before the assembly is complete.
    pub(crate) polls: Arc<OnceLock<SharedPolls>>,
    /// The reads of retained messages in flight.
    pub(crate) retained_reads: Arc<RetainedReads>,
    /// The tables of channels.
    pub(crate) feeds: Arc<Feeds>,
    /// The live traces.
    pub(crate) traces: Arc<Traces>,
}

/// The counters of [`Inbound`], and its throttled log lines.
#[derive(Debug)]
pub(crate) struct InboundCounters {
    /// Publications that the broker delivered, except those in internal channels.
    pub(crate) publications: AtomicU64,
    /// Log lines about channels that the broker rejects and has confirmed before.
    rejections: LogThrottle,
    /// Log lines about channels with lost publications.
    gaps: LogThrottle,
}

impl Default for InboundCounters {
    fn default() -> Self {
        Self { publications: AtomicU64::new(0), rejections: LogThrottle::new(), gaps: LogThrottle::new() }
    }
}

impl Collect for InboundCounters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counter(
            "tidings_broker_publications_received",
            None,
            "Publications that the broker delivered, from any publisher",
            self.publications.load(Ordering::Relaxed),
        )
    }
}

impl Inbound {
    /// Records a publication for live traces.
    #[cold]
    fn trace(&self, delivery: &Delivery) {
        let publication = &delivery.publication;
        let info = publication.extra.as_deref().and_then(|extra| extra.info.as_ref());
        self.traces.record(&TraceEvent {
            user: info.map(|info| &*info.user).filter(|user| !user.is_empty()),
            client: info.map(|info| &*info.client),
            channel: Some(publication.channel.as_str()),
            bytes: Some(publication.body.len()),
            offset: publication.offset(),
            ..TraceEvent::new(TraceKind::Publication)
        });
    }

    /// Handles a publication in an internal channel. Returns whether it was delivered for the channel itself; `false` means
    /// for a matching pattern, and that the publication is ignored.
    fn deliver_internal(&self, delivery: &Delivery) -> bool {
        let (Topic::Channel(channel), body) = (&delivery.topic, &delivery.publication.body) else {
            return false;
        };
        if self.canary.owns(channel) {
            self.canary.on_publication(&delivery.publication);
            return true;
        }
        if self.internal.dispatch(&delivery.topic, body) {
            return true;
        }
        match self.cluster.on_publication(channel, body) {
            Some(ClusterEvent::SessionCommand(command)) => {
                self.shards.post_session_command(command);
            }
            Some(ClusterEvent::Blocklist(change)) => match self.blocklist.apply(change) {
                Ok(Some(command)) => self.shards.post_session_command(command),
                Ok(None) => {}
                Err(BlocklistFull) => self.cluster.count_ignored(),
            },
            Some(ClusterEvent::PollPublication(publication)) => {
                // Before the assembly is complete, no session is subscribed.
                if let Some(polls) = self.polls.get() {
                    polls.apply(*publication);
                }
            }
            Some(ClusterEvent::NewNode(uid)) => self.ended_nodes.remove(&uid),
            Some(ClusterEvent::Input(session, data)) => {
                // Commands for a session that has ended are discarded.
                if let Some((shard, id)) = tidings_hub::locate(&self.session_key, &session)
                    && let Some(mailbox) = self.shards.mailbox(shard as usize)
                {
                    mailbox.post(ShardMessage::Input(id, data));
                }
            }
            None => {}
        }
        true
    }
}

impl Sink for Inbound {
    fn deliver(&self, batch: &mut Vec<Delivery>) -> u64 {
        let (topics, settings) = (self.topic_table.read(), self.settings.load());
        let (mut receivers, mut publications) = (0, 0);
        let mut woken = ShardSet::default();
        let is_traced = self.traces.is_active();
        for delivery in batch.drain(..) {
            if delivery.publication.channel.as_str().starts_with(RESERVED_PREFIX) {
                receivers += u64::from(self.deliver_internal(&delivery));
                continue;
            }
            publications += 1;
            // A publication is also delivered to the patterns that match its channel.
            if is_traced && matches!(delivery.topic, Topic::Channel(_)) {
                self.trace(&delivery);
            }
            if settings.namespace_metrics {
                self.namespaces.count_publications(settings.namespace_label(&delivery.topic), 1);
            }
            let Some(route) = topics.route(&delivery.topic) else { continue };
            self.retained_reads.on_delivery(&delivery.publication);
            receivers += route.subscribers();
            woken = woken.union(route.shards);
            if route.shards.has_sessions() {
                post_shared(&self.shards, self.sessions.deliver(&delivery, unix_seconds()));
            }
            if route.shards.has_feeds() {
                self.feeds.on_publication(&delivery.topic, &delivery.publication);
            }
            self.shards.for_each(route.shards, |mailbox| {
                // The mailbox counts a publication that does not fit, and its subscribers get the number of missed ones.
                mailbox.deliver(delivery.clone());
            });
        }
        drop((topics, settings));
        self.counters.publications.fetch_add(publications, Ordering::Relaxed);
        self.shards.for_each(woken, Mailbox::wake);
        receivers
    }

    fn live(&self, topics: &[Topic]) {
        for topic in topics {
            self.canary.set_available(topic, true);
            self.feeds.catch_up(topic);
            if topic.as_str().starts_with(RESERVED_PREFIX) {
                self.internal.set_rejected(topic, false);
            }
            self.topic_table.on_confirmed(topic, |shards| {
                self.shards.for_each(shards, |mailbox| mailbox.post(ShardMessage::Live(topic.clone())));
            });
        }
    }

    fn refused(&self, topic: &Topic, error: &BrokerError) {
        self.canary.set_available(topic, false);
        if topic.as_str().starts_with(RESERVED_PREFIX) && !self.canary.owns_topic(topic) {
            self.internal.set_rejected(topic, true);
        }
        let reason = error.to_string();
        self.topic_table.on_rejected(topic, *error == BrokerError::NotPermitted, |shards, rejection| {
            if rejection.is_first && rejection.was_live {
                tracing::debug!(topic = topic.as_str(), reason, "the broker rejects a channel that it has confirmed before");
                if let Some(count) = self.counters.rejections.count() {
                    let topic = topic.as_str();
                    tracing::warn!(
                        topic,
                        reason,
                        count,
                        "the broker rejects channels that it has confirmed before, among them this one; trying again"
                    );
                }
            }
            // If the channel was live before, the broker's access rules have changed, perhaps by mistake: subscribers get a
            // temporary error instead of "permission denied".
            let failure = if rejection.was_live { Failure::Unavailable } else { failure(error.clone()) };
            self.shards.for_each(shards, |mailbox| {
                mailbox.post(ShardMessage::Refused(topic.clone(), failure.clone(), rejection.is_first));
            });
        });
    }

    fn away(&self, topics: &[Topic], reason: &str) {
        tracing::debug!(reason, "{} topics are unavailable", topics.len());
        for topic in topics {
            self.canary.set_available(topic, false);
            self.topic_table.on_unavailable(topic, |shards| {
                self.shards.for_each(shards, |mailbox| mailbox.post(ShardMessage::Away(topic.clone())));
            });
        }
    }

    fn up(&self) {
        self.topic_table.on_broker_up();
        self.canary.on_broker_up();
        self.blocklist.request_reload();
        tracing::info!("the broker is connected");
    }

    fn down(&self, reason: &str) {
        let is_new =
            self.topic_table.on_broker_down(reason, || self.shards.post_to_all(|| ShardMessage::BrokerDown));
        if is_new {
            tracing::warn!(reason, "the broker is unavailable");
        }
    }

    fn gap(&self, topic: &Topic, gap: &Gap) {
        self.feeds.catch_up(topic);
        let topics = self.topic_table.read();
        let Some(route) = topics.route(topic) else { return };
        let channel = topic.as_str();
        tracing::debug!(channel, offset = gap.last.offset, "publications are lost");
        if let Some(channels) = self.counters.gaps.count() {
            tracing::warn!(
                channel,
                channels,
                "publications after offset {} are lost in this channel (`channels` counts the channels since the last line); \
                 their subscribers have to subscribe again",
                gap.last.offset
            );
        }
        self.shards.for_each(route.shards, |mailbox| mailbox.post(ShardMessage::Lost(topic.clone())));
    }

    fn changed(&self, channel: &Channel, change: &Change) {
        let topics = self.topic_table.read();
        let Some(route) = topics.route(&Topic::Channel(channel.clone())) else { return };
        let (joined, info): (bool, &ClientInfo) = match change {
            Change::Join(info) => (true, info),
            Change::Leave(info) => (false, info),
        };
        let change =
            Arc::new(tidings_shard::PresenceUpdate { channel: channel.clone(), joined, info: info.clone() });
        self.shards
            .for_each(route.shards, |mailbox| mailbox.post(ShardMessage::Changed(Arc::clone(&change))));
    }
}
