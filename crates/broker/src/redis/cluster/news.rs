//! What the connections of a cluster report, joined into what the sink is told.
//!
//! The broker is up while the cluster is known and the connection for plain messages stands, for without that no
//! channel is live. A primary that is away takes only its own channels along, and all patterns.

use std::sync::Arc;

use tidings_wire::{Delivery, Topic};

use super::{Ashore, Fleet, Member};
use crate::{BrokerError, Sink, lock};

/// Hears from the connection for plain messages.
pub(super) struct Plain(pub(super) Ashore);

/// Hears from the connection to one primary.
pub(super) struct Sharded(pub(super) Arc<Member>);

impl Sink for Plain {
    /// Messages go straight to the broker's sink.
    fn deliver(&self, _batch: &mut Vec<Delivery>) -> u64 {
        0
    }

    fn live(&self, topics: &[Topic]) {
        if let Some(fleet) = self.0.upgrade() {
            let mut table = lock(&fleet.table);
            let live = table.heard_plainly(topics);
            fleet.say_live(&live);
        }
    }

    fn refused(&self, topic: &Topic, error: &BrokerError) {
        if let Some(fleet) = self.0.upgrade() {
            fleet.sink.refused(topic, error);
        }
    }

    fn up(&self) {
        if let Some(fleet) = self.0.upgrade() {
            let mut table = lock(&fleet.table);
            table.plain_up = true;
            if table.home_of_all.primaries.is_empty() {
                fleet.changed.notify_one();
            } else {
                fleet.sink.up();
                let live = table.complete();
                fleet.say_live(&live);
            }
        }
    }

    fn down(&self, reason: &str) {
        if let Some(fleet) = self.0.upgrade() {
            let mut table = lock(&fleet.table);
            table.plain_down();
            fleet.sink.down(reason);
            fleet.changed.notify_one();
        }
    }
}

impl Sink for Sharded {
    /// Messages go straight to the broker's sink.
    fn deliver(&self, _batch: &mut Vec<Delivery>) -> u64 {
        0
    }

    fn live(&self, topics: &[Topic]) {
        self.with(|fleet| {
            let mut table = lock(&fleet.table);
            let live = table.heard_at(self.0.id, topics);
            fleet.say_live(&live);
        });
    }

    fn refused(&self, topic: &Topic, error: &BrokerError) {
        self.with(|fleet| fleet.sink.refused(topic, error));
    }

    fn up(&self) {
        self.with(|fleet| lock(&fleet.table).member_up(self.0.id));
    }

    fn down(&self, reason: &str) {
        self.with(|fleet| {
            let mut table = lock(&fleet.table);
            let away = table.member_down(self.0.id);
            fleet.say_away(&away, reason);
            fleet.changed.notify_one();
        });
    }
}

impl Sharded {
    fn with(&self, act: impl FnOnce(&Fleet)) {
        if let Some(fleet) = self.0.fleet() {
            act(&fleet);
        }
    }
}
