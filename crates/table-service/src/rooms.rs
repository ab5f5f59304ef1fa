//! The open tables of this process, by id.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_table_store::TableId;
use tokio::sync::mpsc;

use super::room::RoomRequest;

/// The time for closing idle rooms when another table needs their bytes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The senders of requests to the rooms.
#[derive(Default)]
pub(super) struct Rooms(Mutex<HashMap<TableId, mpsc::Sender<RoomRequest>>>);

impl Rooms {
    pub(super) fn get(&self, id: TableId) -> Option<mpsc::Sender<RoomRequest>> {
        self.lock().get(&id).cloned()
    }

    /// The room of a table. Starts it with `start` if there is none.
    pub(super) fn get_or_start(
        &self,
        id: TableId,
        start: impl FnOnce() -> mpsc::Sender<RoomRequest>,
    ) -> mpsc::Sender<RoomRequest> {
        self.lock().entry(id).or_insert_with(start).clone()
    }

    pub(super) fn all(&self) -> Vec<(TableId, mpsc::Sender<RoomRequest>)> {
        self.lock().iter().map(|(id, room)| (*id, room.clone())).collect()
    }

    /// Removes a room that is ending, so that the next request opens its table again.
    pub(super) fn forget(&self, id: TableId, room: &mpsc::WeakSender<RoomRequest>) {
        let mut rooms = self.lock();
        let is_same =
            |known: &mpsc::Sender<RoomRequest>| room.upgrade().is_none_or(|room| room.same_channel(known));
        if rooms.get(&id).is_some_and(is_same) {
            rooms.remove(&id);
        }
    }

    /// Closes the tables without viewers, so that they can be evicted. Blocks until the used rooms have replied and the
    /// idle ones have ended, at most for [`CLOSE_TIMEOUT`].
    pub(super) fn close_idle(&self) {
        let (held, closed) = std::sync::mpsc::channel();
        for (_, room) in self.all() {
            // A room with a full queue is not idle.
            let _ = room.try_send(RoomRequest::CloseIdle(held.clone()));
        }
        drop(held);
        // Disconnected once every room has dropped its sender: used rooms at once, idle ones when they have ended.
        let _ = closed.recv_timeout(CLOSE_TIMEOUT);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TableId, mpsc::Sender<RoomRequest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
