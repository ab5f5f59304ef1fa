//! Sends messages about tables to the other nodes, and passes received messages to rooms.

use std::sync::Arc;

use tidings_table_store::{Record, TableId};

use super::Service;
use super::node_messages::{NodeMessage, NodeStatus};
use super::room::RoomRequest;

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
    pub(super) fn send_status(&self, id: TableId, status: NodeStatus, record: Option<Record>) {
        let NodeStatus { kind, viewers, received, loading, changed_by, people } = status;
        let (node, table) = (self.own, id.to_string());
        let message =
            NodeMessage { node, table, kind, viewers, received, loading, record, changed_by, people };
        let Ok(body) = serde_json::to_vec(&message) else { return };
        self.bus.send(&body);
    }
}
