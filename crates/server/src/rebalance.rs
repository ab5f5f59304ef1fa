//! Rebalancing: moves clients to other nodes, as [`Rebalancer`] decides.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidings_cluster::{Nodes, Observation, RebalanceLimits, RebalanceState, Rebalancer, Step};
use tidings_config::RebalanceOptions;
use tidings_metrics::{Collect, MetricWriter};

use crate::shards::Shards;

/// The interval of decisions.
const INTERVAL: Duration = Duration::from_millis(250);

/// The rebalancing of this node.
pub(crate) struct Rebalance {
    /// `None` if it is switched off.
    limits: Option<RebalanceLimits>,
    nodes: Arc<Nodes>,
    shards: Arc<Shards>,
    /// Clients that were moved recently, for the announcements.
    moving: Arc<AtomicU64>,
    /// The index of the state in [`RebalanceState::ALL`].
    state: AtomicU8,
}

impl Rebalance {
    pub(crate) fn new(
        options: &RebalanceOptions,
        nodes: Arc<Nodes>,
        shards: Arc<Shards>,
        moving: Arc<AtomicU64>,
    ) -> Self {
        let limits = RebalanceLimits {
            rate: options.rate as f64,
            total: if options.limit == 0 { u64::MAX } else { options.limit as u64 },
            tolerance: options.tolerance as f64 / 100.0,
            settle: options.settle,
        };
        // With the memory broker there is one node.
        let limits = (options.enabled && nodes.is_shared).then_some(limits);
        Self { limits, nodes, shards, moving, state: AtomicU8::default() }
    }

    /// Moves clients until the task is cancelled. Returns at once if rebalancing is switched off.
    pub(crate) async fn run(self: Arc<Self>) {
        let Some(limits) = self.limits else { return };
        let mut rebalancer = Rebalancer::new(limits, Instant::now());
        loop {
            let now = Instant::now();
            let others = self.nodes.loads(now);
            let process = self.shards.process();
            process.returns.expire(process.clock.nanos());
            let step = rebalancer.step(&Observation {
                now,
                is_ready: self.nodes.local.is_ready(),
                clients: self.shards.connections() as u64,
                moved: self.moved(),
                returned: process.returns.returned(),
                others: &others,
            });
            match step {
                Step::Wait => {}
                Step::Move(clients, over) => self.shards.rebalance(clients, over),
                Step::End => self.shards.rebalance(0, Duration::ZERO),
            }
            self.moving.store(rebalancer.moving(), Ordering::Relaxed);
            let state = RebalanceState::ALL.iter().position(|state| *state == rebalancer.state());
            self.state.store(state.and_then(|at| at.try_into().ok()).unwrap_or(0), Ordering::Relaxed);
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn moved(&self) -> u64 {
        self.shards.sum(|shard| &shard.rebalanced)
    }

    /// The connections of this node, relative to the average of all nodes; 1 if there are none.
    fn share(&self) -> f64 {
        let own = self.shards.connections() as u64;
        let others = self.nodes.loads(Instant::now());
        let total = own + others.iter().map(|node| node.clients).sum::<u64>();
        if total == 0 { 1.0 } else { own as f64 * (others.len() + 1) as f64 / total as f64 }
    }
}

impl Collect for Rebalance {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.gauge(
            "tidings_rebalance_share",
            None,
            "Connections of this node divided by the average of all nodes on this broker",
            self.share(),
        )?;
        let state = usize::from(self.state.load(Ordering::Relaxed));
        out.gauges(
            "tidings_rebalance_state",
            "The state of rebalancing on this node (cluster.rebalance): 1 for the present state, 0 for the others",
            "state",
            RebalanceState::ALL.iter().enumerate().map(|(at, value)| (value.label(), u64::from(at == state))),
        )?;
        out.counter(
            "tidings_rebalance_moved",
            None,
            "Clients that were requested to reconnect because this node had more connections than the average",
            self.moved(),
        )?;
        out.counter(
            "tidings_rebalance_returned",
            None,
            "Clients that were moved and connected to this node again within a minute, recognized by their address",
            self.shards.process().returns.returned(),
        )
    }
}
