//! Messages about tables between nodes that share a store.
//!
//! Invariants:
//! - The record of a table is its whole state, and each change has a stamp. A node adopts a record with a larger stamp,
//!   so concurrent changes converge to the same record on all nodes.
//! - A node repeats the status of its open tables, with the number of viewers, so a later message makes up for a lost
//!   one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use tidings_table_store::{Record, TableId};

use super::Service;
use super::room::RoomRequest;

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

/// Subscribes to the messages of other nodes, if there may be any.
pub(super) fn subscribe(service: &Arc<Service>) {
    if !service.bus.has_other_nodes() {
        return;
    }
    let listening = Arc::downgrade(service);
    let callback = move |message: &[u8]| {
        let Some(service) = listening.upgrade() else { return };
        let message = serde_json::from_slice::<NodeMessage>(message).ok();
        let Some(message) = message.filter(|message| message.node != service.own) else { return };
        let Ok(id) = message.table.parse::<TableId>() else { return };
        let room = service.rooms.get(id);
        // A room with a full queue receives the next message. A table that is not open here needs no messages.
        if let Some(room) = room {
            let _ = room.try_send(RoomRequest::NodeMessage(Box::new(message)));
        }
    };
    service.bus.listen(Box::new(callback));
}

impl Service {
    /// Sends the status of a table to the other nodes.
    pub(super) fn send_status(&self, id: TableId, status: NodeStatus, record: &Record) {
        let NodeStatus { kind, viewers, received, loading } = status;
        let (node, table, record) = (self.own, id.to_string(), Some(record.clone()));
        let message = NodeMessage { node, table, kind, viewers, received, loading, record };
        let Ok(body) = serde_json::to_vec(&message) else { return };
        self.bus.send(&body);
    }
}

/// The status of a table on this node, without its record; see [`NodeMessage`].
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeStatus {
    pub(super) kind: MessageKind,
    pub(super) viewers: u64,
    pub(super) received: u64,
    pub(super) loading: Option<RemoteUpload>,
}
