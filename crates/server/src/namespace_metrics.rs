//! Metrics by namespace (`metrics.namespaces`).
//!
//! Cardinality: 11 series (12 with the memory broker) for each configured namespace, for channels without one, and for
//! patterns, once they are in use. The configuration has at most 1,000 namespaces.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tidings_broker::memory::Memory;
use tidings_hub::{NamespaceStats, NamespaceTable, Overflow, Settings, WITHOUT_NAMESPACE};
use tidings_metrics::{BYTES, Collect, MetricWriter};
use tidings_shard::CounterKey as _;

use crate::shards::Shards;

/// Reports the counters of each namespace.
pub(crate) struct NamespaceMetrics {
    shards: Arc<Shards>,
    /// The publications that the broker delivered.
    publications: Arc<NamespaceTable>,
}

impl NamespaceMetrics {
    /// Metrics with a series for each configured namespace, before it is used.
    pub(crate) fn new(shards: Arc<Shards>, publications: Arc<NamespaceTable>, settings: &Settings) -> Self {
        for name in labels(settings) {
            publications.get(name);
        }
        Self { shards, publications }
    }
}

/// The labels of the configured namespaces, and of channels without one.
fn labels(settings: &Settings) -> impl Iterator<Item = &str> {
    let names = settings.namespaces.all().map(|(name, _)| name);
    names.map(|name| if name.is_empty() { WITHOUT_NAMESPACE } else { name })
}

/// A counter of a namespace.
type Counter = fn(&NamespaceStats) -> &AtomicU64;

/// The counters of the shards and of the node by namespace.
struct Sums(BTreeMap<String, Vec<Arc<NamespaceStats>>>);

impl Sums {
    fn get(&self, counter: Counter) -> impl Iterator<Item = (&String, u64)> {
        self.0.iter().map(move |(name, parts)| {
            (name, parts.iter().map(|part| counter(part).load(Ordering::Relaxed)).sum())
        })
    }
}

impl Collect for NamespaceMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let mut sums = Sums(BTreeMap::new());
        let shards = self.shards.metrics().iter().map(|shard| &shard.namespaces);
        for table in shards.chain([&self.publications]) {
            for (name, stats) in table.all() {
                sums.0.entry(name).or_default().push(stats);
            }
        }
        let label = "namespace";
        out.counters(
            "tidings_namespace_publications",
            "Publications that the broker delivered, by namespace",
            label,
            sums.get(|stats| &stats.publications),
        )?;
        out.counters(
            "tidings_namespace_deliveries",
            "Publications for subscribers, counted once for each, by namespace",
            label,
            sums.get(|stats| &stats.deliveries),
        )?;
        let dropped = Overflow::all().flat_map(|action| {
            let counter = move |stats: &NamespaceStats| stats.dropped[action.index()].load(Ordering::Relaxed);
            sums.0.iter().map(move |(name, parts)| {
                let sum = parts.iter().map(|part| counter(part)).sum();
                ([name.as_str(), action.label()], sum)
            })
        });
        out.counters_by(
            "tidings_namespace_deliveries_dropped",
            "Publications that a subscriber missed because its queue or its shard's mailbox was full, by namespace and policy",
            [label, "policy"],
            dropped,
        )?;
        out.gauges(
            "tidings_namespace_subscriptions",
            "Subscriptions of all connections, by namespace",
            label,
            sums.get(|stats| &stats.subscriptions),
        )?;
        out.counters(
            "tidings_namespace_subscribes",
            "Subscriptions that were made, by namespace",
            label,
            sums.get(|stats| &stats.subscribes),
        )?;
        let outcomes: [(&str, Counter); 2] =
            [("recovered", |stats| &stats.recovered), ("unrecovered", |stats| &stats.unrecovered)];
        let recoveries = outcomes.into_iter().flat_map(|(outcome, counter)| {
            sums.get(counter).map(move |(name, count)| ([name.as_str(), outcome], count))
        });
        out.counters_by(
            "tidings_namespace_recoveries",
            "Recoveries of subscribers, by namespace and whether all missed publications were available",
            [label, "outcome"],
            recoveries,
        )
    }
}

/// Reports the size of the histories of each namespace in the memory broker.
pub(crate) struct HistoryMetrics {
    pub(crate) memory: Arc<Memory>,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
}

impl Collect for HistoryMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let settings = self.settings.load();
        let mut sums: BTreeMap<String, u64> = labels(&settings).map(|name| (name.to_owned(), 0)).collect();
        // The broker separates channels by prefix, whether the prefix is a configured namespace or not.
        for (prefix, bytes) in self.memory.namespace_bytes() {
            let channel = format!("{prefix}:");
            *sums.entry(settings.namespaces.name(&channel).to_owned()).or_default() += bytes;
        }
        out.gauges_with_unit(
            "tidings_namespace_history",
            BYTES,
            "Bytes of the histories in the memory broker, by namespace",
            "namespace",
            sums,
        )
    }
}
