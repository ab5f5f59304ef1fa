//! Joins the events of the cluster's connections into events for the broker's sink.
//!
//! The broker is up while the topology is known and the connection for plain messages is up, because without that
//! connection no channel is live. The loss of a primary's connection affects only the channels of that primary, and
//! all patterns.

use std::sync::Arc;

use tidings_wire::{Delivery, Topic};

use super::{Cluster, Primary, WeakCluster};
use crate::{BrokerError, Sink, lock};

/// Receives the events of the connection for plain messages.
pub(super) struct PlainEvents(pub(super) WeakCluster);

/// Receives the events of the connection to one primary.
pub(super) struct PrimaryEvents(pub(super) Arc<Primary>);

impl Sink for PlainEvents {
    /// Messages go directly to the broker's sink.
    fn deliver(&self, _batch: &mut Vec<Delivery>) -> u64 {
        0
    }

    fn live(&self, topics: &[Topic]) {
        if let Some(cluster) = self.0.upgrade() {
            let mut table = lock(&cluster.table);
            let live = table.confirm_plain(topics);
            cluster.report_live(&live);
        }
    }

    fn refused(&self, topic: &Topic, error: &BrokerError) {
        if let Some(cluster) = self.0.upgrade() {
            cluster.sink.refused(topic, error);
        }
    }

    fn up(&self) {
        if let Some(cluster) = self.0.upgrade() {
            let mut table = lock(&cluster.table);
            table.plain_up = true;
            if table.topology.primaries.is_empty() {
                cluster.changed.notify_one();
            } else {
                cluster.sink.up();
                let live = table.complete();
                cluster.report_live(&live);
            }
        }
    }

    fn down(&self, reason: &str) {
        if let Some(cluster) = self.0.upgrade() {
            let mut table = lock(&cluster.table);
            table.plain_down();
            cluster.sink.down(reason);
            cluster.changed.notify_one();
        }
    }
}

impl Sink for PrimaryEvents {
    /// Messages go directly to the broker's sink.
    fn deliver(&self, _batch: &mut Vec<Delivery>) -> u64 {
        0
    }

    fn live(&self, topics: &[Topic]) {
        self.with(|cluster| {
            let mut table = lock(&cluster.table);
            let live = table.confirm_at(self.0.id, topics);
            cluster.report_live(&live);
        });
    }

    fn refused(&self, topic: &Topic, error: &BrokerError) {
        self.with(|cluster| cluster.sink.refused(topic, error));
    }

    fn up(&self) {
        self.with(|cluster| lock(&cluster.table).primary_up(self.0.id));
    }

    fn down(&self, reason: &str) {
        self.with(|cluster| {
            let mut table = lock(&cluster.table);
            let away = table.primary_down(self.0.id);
            cluster.report_away(&away, reason);
            cluster.changed.notify_one();
        });
    }
}

impl PrimaryEvents {
    fn with(&self, act: impl FnOnce(&Cluster)) {
        if let Some(cluster) = self.0.cluster() {
            act(&cluster);
        }
    }
}
