//! The way in: everything that the broker reports, passed on to the shards. [`Inbound`] is the broker's [`Sink`].
//!
//! Invariants:
//! - No call blocks: messages are posted to the shards' mailboxes.
//! - Publications in internal channels reach no session, whatever pattern they match.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_broker::{BrokerError, Change, Gap, Sink};
use tidings_hub::{Failure, Settings};
use tidings_log_throttle::LogThrottle;
use tidings_shard::{Mailbox, ShardMessage};
use tidings_wire::channel::RESERVED_PREFIX;
use tidings_wire::{Channel, ClientInfo, Delivery, Topic};

use tidings_cluster::blocklist::{self, Blocklist};
use crate::canary::Canary;
use tidings_cluster::{Cluster, ClusterEvent};
use tidings_cluster::EndedNodes;
use crate::interest::{Interests, ShardSet};
use crate::internal::InternalChannels;
use tidings_metrics::{Collect, MetricWriter};
use crate::router::failure;
use crate::shards::Shards;

/// Passes on what the broker reports.
pub(crate) struct Inbound {
    pub(crate) shards: Arc<Shards>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) interests: Arc<Interests>,
    pub(crate) internal: Arc<InternalChannels>,
    pub(crate) canary: Arc<Canary>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) blocklist: Arc<Blocklist>,
    pub(crate) ended: Arc<EndedNodes>,
    pub(crate) counters: Arc<InboundCounters>,
}

/// What the way in counts, and its throttled log lines.
#[derive(Debug)]
pub(crate) struct InboundCounters {
    /// Publications that the broker delivered, those in internal channels excluded.
    pub(crate) publications: AtomicU64,
    /// Log lines about channels that the broker no longer subscribes.
    refusals: LogThrottle,
    /// Log lines about channels with lost publications.
    gaps: LogThrottle,
}

impl Default for InboundCounters {
    fn default() -> Self {
        Self { publications: AtomicU64::new(0), refusals: LogThrottle::new(), gaps: LogThrottle::new() }
    }
}

impl Collect for InboundCounters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counter(
            "tidings_publications_heard",
            None,
            "Publications that the broker handed over, from whomever they came",
            self.publications.load(Ordering::Relaxed),
        )
    }
}

impl Inbound {
    /// Handles a publication in an internal channel. Returns whether it was delivered for the channel, not for a pattern.
    fn deliver_internal(&self, delivery: &Delivery) -> bool {
        let (Topic::Channel(channel), body) = (&delivery.topic, &delivery.publication.body) else {
            return false;
        };
        if self.canary.is(channel) {
            self.canary.returned(&delivery.publication);
            return true;
        }
        if self.internal.dispatch(&delivery.topic, body) {
            return true;
        }
        match self.cluster.on_publication(channel, body) {
            Some(ClusterEvent::Order(directive)) => {
                self.shards.post_to_all(|| ShardMessage::Order(Arc::clone(&directive)));
            }
            Some(ClusterEvent::Blocklist(change)) => match self.blocklist.apply(change) {
                Ok(Some(directive)) => self.shards.order(directive),
                Ok(None) => {}
                Err(blocklist::Full) => self.cluster.count_ignored(),
            },
            Some(ClusterEvent::NewNode(uid)) => self.ended.remove(&uid),
            Some(ClusterEvent::Input(session, data)) => {
                // Commands for a session that has ended are discarded.
                if let Some((shard, id)) = tidings_hub::locate(&self.settings.session_key, &session)
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
        let table = self.interests.read();
        let (mut receivers, mut publications) = (0, 0);
        let mut woken = ShardSet::default();
        for delivery in batch.drain(..) {
            if delivery.publication.channel.as_str().starts_with(RESERVED_PREFIX) {
                receivers += u64::from(self.deliver_internal(&delivery));
                continue;
            }
            publications += 1;
            let Some(route) = table.route(&delivery.topic) else { continue };
            receivers += route.subscribers();
            woken = woken.and(route.shards);
            self.shards.for_each(route.shards, |mailbox| {
                // The mailbox counts a publication that does not fit; its subscribers are told how many they missed.
                mailbox.deliver(delivery.clone());
            });
        }
        drop(table);
        self.counters.publications.fetch_add(publications, Ordering::Relaxed);
        self.shards.for_each(woken, Mailbox::wake);
        receivers
    }

    fn live(&self, topics: &[Topic]) {
        for topic in topics {
            self.canary.set_subscribed(topic, true);
            if topic.as_str().starts_with(RESERVED_PREFIX) {
                self.internal.set_refused(topic, false);
            }
            self.interests.live(topic, |shards| {
                self.shards.for_each(shards, |mailbox| mailbox.post(ShardMessage::Live(topic.clone())));
            });
        }
    }

    fn refused(&self, topic: &Topic, error: &BrokerError) {
        self.canary.set_subscribed(topic, false);
        if topic.as_str().starts_with(RESERVED_PREFIX) && !self.canary.is_topic(topic) {
            self.internal.set_refused(topic, true);
        }
        let reason = error.to_string();
        self.interests.refused(topic, *error == BrokerError::NotPermitted, |shards, refusal| {
            if refusal.is_first && refusal.was_live {
                tracing::debug!(topic = topic.as_str(), reason, "the broker no longer subscribes");
                if let Some(count) = self.counters.refusals.count() {
                    let topic = topic.as_str();
                    tracing::warn!(
                        topic,
                        reason,
                        count,
                        "the broker no longer subscribes channels, this one among them; trying again"
                    );
                }
            }
            // A channel that was subscribed before is not forbidden to its subscribers: the broker's rules have changed,
            // perhaps by mistake, so the error is a temporary one.
            let failure = if refusal.was_live { Failure::Unavailable } else { failure(error.clone()) };
            self.shards.for_each(shards, |mailbox| {
                mailbox.post(ShardMessage::Refused(topic.clone(), failure.clone(), refusal.is_first));
            });
        });
    }

    fn away(&self, topics: &[Topic], reason: &str) {
        tracing::debug!(reason, "{} topics are away", topics.len());
        for topic in topics {
            self.canary.set_subscribed(topic, false);
            self.interests.away(topic, |shards| {
                self.shards.for_each(shards, |mailbox| mailbox.post(ShardMessage::Away(topic.clone())));
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
        let news = self.interests.down(reason, || self.shards.post_to_all(|| ShardMessage::BrokerDown));
        if news {
            tracing::warn!(reason, "the broker is away");
        }
    }

    fn gap(&self, topic: &Topic, gap: &Gap) {
        let table = self.interests.read();
        let Some(route) = table.route(topic) else { return };
        let channel = topic.as_str();
        tracing::debug!(channel, offset = gap.last.offset, "publications are lost");
        if let Some(channels) = self.counters.gaps.count() {
            tracing::warn!(
                channel,
                channels,
                "publications after {} are lost here, and in other channels if there are several; subscribers are told to \
                 begin anew",
                gap.last.offset
            );
        }
        self.shards.for_each(route.shards, |mailbox| mailbox.post(ShardMessage::Lost(topic.clone())));
    }

    fn changed(&self, channel: &Channel, change: &Change) {
        let table = self.interests.read();
        let Some(route) = table.route(&Topic::Channel(channel.clone())) else { return };
        let (joined, info): (bool, &ClientInfo) = match change {
            Change::Join(info) => (true, info),
            Change::Leave(info) => (false, info),
        };
        let change = Arc::new(tidings_shard::Change { channel: channel.clone(), joined, info: info.clone() });
        self.shards
            .for_each(route.shards, |mailbox| mailbox.post(ShardMessage::Changed(Arc::clone(&change))));
    }
}
