//! The data about this node that other nodes request.

use std::time::Duration;

use tidings_wire::{Channel, Pattern};

use crate::{ChannelCounts, ListBudget};

/// This node as [`crate::Nodes`] reports it to the other nodes. No call blocks.
pub trait LocalNode: Send + Sync + 'static {
    /// The channels that match the pattern (without one: all) and have subscribers on this node, with their numbers of
    /// subscribers. `None` when they exceed `budget`.
    fn channels(&self, pattern: Option<&Pattern>, budget: &mut ListBudget) -> Option<ChannelCounts>;

    /// The channels with subscribers on this node, channels with presence first.
    fn subscribed_channels(&self) -> Vec<Channel>;

    /// Whether the broker is connected.
    fn is_broker_up(&self) -> bool;

    /// Whether this node is ready to receive clients.
    fn is_ready(&self) -> bool;

    /// Present numbers for operators.
    fn statistics(&self) -> NodeStatistics;
}

/// Numbers that a node announces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStatistics {
    /// Connections of clients.
    pub clients: u64,
    /// Users of these connections; a user with connections on several shards is counted once for each.
    pub users: u64,
    /// Subscriptions of these connections.
    pub subscriptions: u64,
    /// Channels with subscribers.
    pub channels: u64,
    /// Clients that were moved to other nodes recently, see [`crate::Rebalancer::moving`].
    pub moving: u64,
    /// The time since the start.
    pub uptime: Duration,
}
