//! Tables as operators see them: the open ones, the stored ones, and the deletion of any.

use std::sync::Arc;
use std::time::Duration;

use tidings_table_store::{StoredPage, TableId};
use tokio::sync::{mpsc, oneshot};

use crate::Service;
use crate::TableSummary;
use crate::room::RoomRequest;

/// The longest wait for the summaries of all tables, and for a page of stored tables.
const LIST_TIMEOUT: Duration = Duration::from_millis(1_500);

/// An open table: its summary, or only its id if its room has not responded in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenTable {
    /// The room has responded.
    Summary(TableSummary),
    /// The room has not responded.
    Unresponsive {
        /// The id of the table.
        id: String,
    },
}

impl Service {
    /// At most `limit` open tables, in no order.
    pub async fn summaries(&self, limit: usize) -> Vec<OpenTable> {
        summaries(self.rooms.all(), limit, LIST_TIMEOUT).await
    }

    /// At most `limit` stored tables, open or not, with an id after `after` (empty: from the first one), in the order of their
    /// ids. One page is read at a time.
    ///
    /// # Errors
    /// The reason, for an operator.
    pub async fn list_stored(&self, after: &str, limit: usize) -> Result<StoredPage, String> {
        let after = match after {
            "" => None,
            after => Some(after.parse().map_err(|_| format!("{after:?} is no id of a table"))?),
        };
        let Ok(permit) = Arc::clone(&self.listings).try_acquire_owned() else {
            return Err("a page of stored tables is read already; try again".to_owned());
        };
        let store = Arc::clone(&self.store);
        let page = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            store.page(after, limit)
        });
        match tokio::time::timeout(LIST_TIMEOUT, page).await {
            Ok(Ok(page)) => page.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err("the page could not be read; the log has the reason".to_owned()),
            Err(_) => Err("the store of tables did not respond within 1.5 s".to_owned()),
        }
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

/// The summaries of at most `limit` rooms, within `timeout`.
async fn summaries(
    rooms: Vec<(TableId, mpsc::Sender<RoomRequest>)>,
    limit: usize,
    timeout: Duration,
) -> Vec<OpenTable> {
    let replies: Vec<_> = rooms
        .into_iter()
        .take(limit)
        .map(|(id, room)| {
            let (reply, summary) = oneshot::channel();
            // A room with a full queue drops the reply, which counts as no response.
            let _ = room.try_send(RoomRequest::Summary(reply));
            (id, room, summary)
        })
        .collect();
    let end = tokio::time::Instant::now() + timeout;
    let mut all = Vec::with_capacity(replies.len());
    for (id, room, reply) in replies {
        match tokio::time::timeout_at(end, reply).await {
            Ok(Ok(summary)) => all.push(OpenTable::Summary(summary)),
            // The room has ended: the table is not open any more.
            Ok(Err(_)) if room.is_closed() => {}
            _ => all.push(OpenTable::Unresponsive { id: id.to_string() }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_room_that_does_not_respond_is_listed_and_a_closed_one_is_not() {
        let room = |capacity| mpsc::channel::<RoomRequest>(capacity);
        let [responding, silent, full, closed] = [1, 2, 3, 4].map(|_| TableId::random());
        let (first, mut requests) = room(1);
        let (second, _kept) = room(1);
        let (third, _also_kept) = room(1);
        third.try_send(RoomRequest::Summary(oneshot::channel().0)).expect("room for one");
        let (fourth, _) = room(1);
        tokio::spawn(async move {
            while let Some(RoomRequest::Summary(reply)) = requests.recv().await {
                let _ = reply.send(TableSummary { id: responding.to_string(), ..TableSummary::default() });
            }
        });
        let rooms = vec![(responding, first), (silent, second), (full, third), (closed, fourth)];
        let found = summaries(rooms, 10, Duration::from_millis(100)).await;
        let expected = TableSummary { id: responding.to_string(), ..TableSummary::default() };
        assert_eq!(
            found,
            [
                OpenTable::Summary(expected),
                OpenTable::Unresponsive { id: silent.to_string() },
                OpenTable::Unresponsive { id: full.to_string() },
            ]
        );
    }
}
