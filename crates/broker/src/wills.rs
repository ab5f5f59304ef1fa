//! Wills of MQTT that a broker stores for all nodes.
//!
//! Each node has a lease, which it renews. The wills of a node without a lease belong to the node that claims them first. A will
//! whose publication has begun is stored until the publisher reports that it is published, so that another node can publish it if
//! the publisher ends before that.

use std::time::Duration;

use bytes::Bytes;

use crate::BrokerError;

/// A change of the wills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WillChange {
    /// A client connects. Begins the publication of the will of its earlier connection, if there is one.
    Open {
        /// The client, unique in the deployment.
        key: String,
        /// Its connection, unique in the deployment; without spaces.
        connection: String,
        /// The will, encoded and not empty; `None` for a client without one.
        will: Option<Bytes>,
        /// How long the node has its wills from now on.
        lease: Duration,
        /// Most bytes of all wills, with an allowance for each; beyond them the change is refused.
        max_bytes: usize,
        /// The connection had this will before. Changes nothing if the client has another will.
        is_again: bool,
        /// How long the will waits after the end of the connection before it is published.
        delay: Duration,
        /// The client continues its session: a will of an earlier connection that waits for its delay is discarded.
        continues: bool,
    },
    /// A connection has ended.
    Close {
        /// The client.
        key: String,
        /// The connection.
        connection: String,
        /// Whether to begin the publication of the will. Otherwise it is discarded.
        is_published: bool,
        /// The longest delay of the will from now on: its session ends then.
        max_delay: Duration,
    },
    /// A will that this node has begun is published, or cannot be published.
    Done {
        /// The connection.
        connection: String,
    },
    /// Renews the lease of the node, and begins wills of nodes without a lease.
    Claim {
        /// How long the node has its wills from now on.
        lease: Duration,
        /// Most wills that are begun.
        most: usize,
    },
}

/// The outcome of a [`WillChange`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WillOutcome {
    /// After [`WillChange::Open`]: the wills have as many bytes as the limit, and nothing has changed.
    pub is_full: bool,
    /// After [`WillChange::Open`] and [`WillChange::Claim`]: this node had no lease before, so that other nodes may have claimed
    /// its wills. It is reported once, by the change that renews the lease.
    pub had_no_lease: bool,
    /// Number of wills of all nodes.
    pub count: u64,
    /// Their bytes, with an allowance for each.
    pub bytes: u64,
    /// The wills that this node publishes now.
    pub begun: Vec<BegunWill>,
}

/// A will that a node publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunWill {
    /// Its connection.
    pub connection: String,
    /// The will, as it was passed to [`WillChange::Open`].
    pub will: Bytes,
}

/// Completion callback of a change of wills. Called exactly once, from any thread; must not block.
pub type WillCallback = Box<dyn FnOnce(Result<WillOutcome, BrokerError>) + Send>;
