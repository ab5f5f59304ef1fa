//! Tables as operators see them: the open ones, and the deletion of any.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::Service;
use crate::TableSummary;
use crate::room::RoomRequest;

/// The longest wait for the summaries of all tables.
const LIST_TIMEOUT: Duration = Duration::from_millis(1_500);

impl Service {
    /// At most `limit` open tables, in no order. Tables that do not respond within 1.5 s are omitted.
    pub async fn summaries(&self, limit: usize) -> Vec<TableSummary> {
        let mut replies = Vec::new();
        for room in self.rooms.all().into_iter().take(limit) {
            let (reply, summary) = oneshot::channel();
            // A room with a full queue is omitted.
            if room.try_send(RoomRequest::Summary(reply)).is_ok() {
                replies.push(summary);
            }
        }
        let end = tokio::time::Instant::now() + LIST_TIMEOUT;
        let mut all = Vec::with_capacity(replies.len());
        for reply in replies {
            if let Ok(Ok(summary)) = tokio::time::timeout_at(end, reply).await {
                all.push(summary);
            }
        }
        all
    }

    /// Deletes a table for all viewers and nodes, whether it is open or not.
    ///
    /// # Errors
    /// The reason, for an operator.
    pub async fn delete(self: &Arc<Self>, id: &str) -> Result<(), String> {
        let id = id.parse().map_err(|_| format!("{id:?} is no id of a table"))?;
        self.request(id, RoomRequest::Delete).await.map_err(|failure| failure.message)
    }
}
