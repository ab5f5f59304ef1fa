//! `$SYS/broker/…`: numbers about this node for clients of MQTT, as Mosquitto has them. They are delivered on this node alone, and
//! are the retained messages of their topics there.
//!
//! Invariant: a topic beginning with `$SYS/` is matched by filters that begin with `$SYS/` alone (MQTT-4.7.2-1).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_mqtt::PacketType;
use tidings_shard::{CounterKey as _, Mailbox};
use tidings_wire::{Channel, Delivery, Publication, Topic};

use crate::lifecycle::Lifecycle;
use crate::mqtt_sessions::{MqttSessions, post_shared, unix_seconds};

/// The beginning of the topics.
pub(crate) const PREFIX: &str = "$SYS/";
/// The beginning of the patterns of their filters: that of `$SYS/#` matches the parent as well, and has no slash.
const PATTERN_PREFIX: &str = "$SYS";

/// The sources of the numbers.
pub(crate) struct BrokerTopics {
    pub(crate) sessions: MqttSessions,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) has_mqtt: bool,
}

impl BrokerTopics {
    /// Publishes the numbers every `interval`; never if it is 0.
    pub(crate) async fn run(self, interval: Duration) {
        while self.has_mqtt && !interval.is_zero() {
            self.publish();
            tokio::time::sleep(interval).await;
        }
    }

    fn values(&self) -> [(&'static str, String); 9] {
        let MqttSessions { store, router, shards, .. } = &self.sessions;
        let packets = |sent: bool, only: Option<PacketType>| {
            let of_shard = |shard: &Arc<tidings_shard::Metrics>| {
                let counters = if sent { &shard.mqtt_sent } else { &shard.mqtt_received };
                let types = PacketType::all().filter(|packet| only.is_none_or(|only| only == *packet));
                types.map(|packet| counters[packet].load(Ordering::Relaxed)).sum::<u64>()
            };
            shards.metrics().iter().map(of_shard).sum::<u64>().to_string()
        };
        let (connected, away) = (shards.connections(), store.away());
        let subscriptions: u64 = router.topic_table().read().subscribed().map(|(_, count)| count).sum();
        [
            ("version", format!("tidings version {}", env!("CARGO_PKG_VERSION"))),
            ("uptime", format!("{} seconds", self.lifecycle.uptime().as_secs())),
            ("clients/connected", connected.to_string()),
            ("clients/total", (connected + away).to_string()),
            ("messages/received", packets(false, None)),
            ("messages/sent", packets(true, None)),
            ("publish/messages/received", packets(false, Some(PacketType::Publish))),
            ("subscriptions/count", subscriptions.to_string()),
            ("retained messages/count", router.retained_count().to_string()),
        ]
    }

    fn publish(&self) {
        let publications = self.values().into_iter().filter_map(|(name, value)| {
            let channel = Channel::new(format!("{PREFIX}broker/{name}")).ok()?;
            Some(Arc::new(Publication::new(channel, value)))
        });
        let publications: Vec<_> = publications.collect();
        let MqttSessions { store, router, shards, .. } = &self.sessions;
        // Before the delivery: a subscriber that reads them afterwards gets none that is older than one it was sent.
        router.set_broker_topics(publications.clone());
        let topics = router.topic_table().read();
        for (topic, _) in topics.subscribed().filter(|(topic, _)| topic.as_str().starts_with(PATTERN_PREFIX))
        {
            let Some(route) = topics.route(topic) else { continue };
            for publication in &publications {
                let is_match = match topic {
                    Topic::Channel(channel) => *channel == publication.channel,
                    Topic::Pattern(pattern) => pattern.matches(publication.channel.as_str()),
                };
                if !is_match {
                    continue;
                }
                let delivery = Delivery { topic: topic.clone(), publication: Arc::clone(publication) };
                if route.shards.has_sessions() {
                    post_shared(shards, store.deliver(&delivery, unix_seconds()));
                }
                shards.for_each(route.shards, |mailbox| _ = mailbox.deliver(delivery.clone()));
            }
            shards.for_each(route.shards, Mailbox::wake);
        }
    }
}
