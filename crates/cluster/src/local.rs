//! The data about this node that other nodes request.

use std::time::Duration;

use tidings_wire::{Channel, Pattern};

use crate::{ChannelCounts, ListBudget};

/// This node, as [`crate::Nodes`] reports it to the others. No call blocks.
pub trait LocalNode: Send + Sync + 'static {
    /// The channels with subscribers on this node, and how many each has: those that match, if a pattern is given.
    /// `None` when they exceed `budget`.
    fn channels(&self, pattern: Option<&Pattern>, budget: &mut ListBudget) -> Option<ChannelCounts>;

    /// The names of the channels with subscribers on this node, those with presence first.
    fn subscribed_channels(&self) -> Vec<Channel>;

    /// Whether the broker is connected.
    fn is_broker_up(&self) -> bool;

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
    /// The time since the start.
    pub uptime: Duration,
}
