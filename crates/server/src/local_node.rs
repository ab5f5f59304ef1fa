//! The data about this node that the other nodes of the deployment request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_cluster::{ChannelCounts, ListBudget, LocalNode, NodeStatistics};
use tidings_wire::{Channel, Pattern};

use crate::lifecycle::Lifecycle;
use crate::readiness::{Readiness, ReadinessCheck};
use crate::router::Router;
use crate::shards::Shards;

/// The sources of the data about this node.
pub(crate) struct NodeParts {
    pub(crate) router: Arc<Router>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) readiness: Arc<ReadinessCheck>,
    /// Clients that were moved to other nodes recently.
    pub(crate) moving: Arc<AtomicU64>,
}

impl LocalNode for NodeParts {
    fn channels(&self, pattern: Option<&Pattern>, budget: &mut ListBudget) -> Option<ChannelCounts> {
        self.router.channels(pattern, budget)
    }

    fn subscribed_channels(&self) -> Vec<Channel> {
        self.router.subscribed_channels()
    }

    fn is_broker_up(&self) -> bool {
        self.router.down_reason().is_none()
    }

    fn is_ready(&self) -> bool {
        matches!(self.readiness.check(), Readiness::Ready(_))
    }

    fn statistics(&self) -> NodeStatistics {
        NodeStatistics {
            clients: self.shards.connections() as u64,
            users: self.shards.sum(|m| &m.users),
            subscriptions: self.shards.sum(|m| &m.subscriptions),
            channels: self.router.subscribed_counts().0 as u64,
            moving: self.moving.load(Ordering::Relaxed),
            uptime: self.lifecycle.uptime(),
        }
    }
}
