//! Messages about tables between nodes that share a store.
//!
//! Invariants:
//! - A table's record is its whole state, and each change has a stamp. A node adopts a record with a larger stamp, so all
//!   nodes converge, whatever was changed concurrently.
//! - A node that has a table open repeats its status, with its number of viewers, so a lost message is made up for by the
//!   next one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Service;
use super::id::TableId;
use super::record::Record;
use super::room::RoomRequest;

/// A message of one node about one table.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct NodeMessage {
    /// The sender.
    pub(super) node: u64,
    pub(super) table: String,
    pub(super) say: MessageKind,
    /// The number of viewers on that node.
    pub(super) viewers: u64,
    /// The bytes of the table's file that the node has read.
    pub(super) received: u64,
    /// The progress of an upload on that node.
    #[serde(default)]
    pub(super) loading: Option<Loading>,
    pub(super) record: Option<Record>,
}

/// The progress of an upload on another node.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Loading {
    pub(super) received: u64,
    /// The announced size.
    pub(super) size: Option<u64>,
    pub(super) rows: u64,
}

/// Why the message is sent.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MessageKind {
    /// Nodes that have the table open are to send their status.
    Hello,
    /// The sender has the table open.
    Here,
    /// The sender has changed the table.
    Changed,
    /// The sender receives a file for the table.
    Loading,
    /// The upload has ended; the record says whether its file became the table's.
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
        // A room whose queue is full receives the next message. A table that is not open here needs none.
        if let Some(room) = room {
            let _ = room.try_send(RoomRequest::NodeMessage(Box::new(message)));
        }
    };
    service.bus.listen(Box::new(callback));
}

impl Service {
    /// Sends the status of a table to the other nodes.
    pub(super) fn send_status(&self, id: TableId, word: NodeStatus, record: &Record) {
        let NodeStatus { say, viewers, received, loading } = word;
        let (node, table, record) = (self.own, id.to_string(), Some(record.clone()));
        let message = NodeMessage { node, table, say, viewers, received, loading, record };
        let Ok(body) = serde_json::to_vec(&message) else { return };
        self.bus.send(&body);
    }
}

/// The status of a table on this node, besides its record; see [`NodeMessage`].
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeStatus {
    pub(super) say: MessageKind,
    pub(super) viewers: u64,
    pub(super) received: u64,
    pub(super) loading: Option<Loading>,
}
