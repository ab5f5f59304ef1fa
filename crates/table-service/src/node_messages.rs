//! Messages about tables between nodes that share a store.
//!
//! Invariants:
//! - The record of a table is its whole state, and each change has a stamp. A node adopts a record with a larger stamp,
//!   so concurrent changes converge to the same record on all nodes.
//! - A node repeats the status of its open tables, with the number of viewers, so a later message makes up for a lost
//!   one.

use serde::{Deserialize, Serialize};

use tidings_table_store::Record;

/// A message of one node about one table.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct NodeMessage {
    /// The sender.
    pub(super) node: u64,
    pub(super) table: String,
    #[serde(rename = "say")]
    pub(super) kind: MessageKind,
    /// The number of viewers on that node.
    pub(super) viewers: u64,
    /// The bytes of the table's file that the node has read.
    pub(super) received: u64,
    /// The progress of an upload on that node.
    #[serde(default)]
    pub(super) loading: Option<RemoteUpload>,
    pub(super) record: Option<Record>,
}

/// The progress of an upload on another node.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct RemoteUpload {
    pub(super) received: u64,
    /// The announced size.
    pub(super) size: Option<u64>,
    pub(super) rows: u64,
}

/// The reason of the message.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MessageKind {
    /// Requests the status from nodes that have the table open.
    Hello,
    /// The sender has the table open.
    Here,
    /// The sender has changed the table.
    Changed,
    /// The sender receives a file for the table.
    Loading,
    /// The upload has ended. The record shows whether its file became the table's.
    Stopped,
    /// The table was deleted.
    Gone,
}

/// The status of a table on this node, without its record; see [`NodeMessage`].
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeStatus {
    pub(super) kind: MessageKind,
    pub(super) viewers: u64,
    pub(super) received: u64,
    pub(super) loading: Option<RemoteUpload>,
}
