//! The tables in memory: where their rooms are reached.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::id::TableId;
use super::room::RoomRequest;

/// The longest time that idle rooms may take to end when another table needs their bytes.
const CLOSING: Duration = Duration::from_secs(2);

/// Senders to the rooms of this process.
#[derive(Default)]
pub(super) struct Rooms(Mutex<HashMap<TableId, mpsc::Sender<RoomRequest>>>);

impl Rooms {
    pub(super) fn get(&self, id: TableId) -> Option<mpsc::Sender<RoomRequest>> {
        self.lock().get(&id).cloned()
    }

    /// The room of a table, which `start` starts if there is none.
    pub(super) fn get_or_start(
        &self,
        id: TableId,
        start: impl FnOnce() -> mpsc::Sender<RoomRequest>,
    ) -> mpsc::Sender<RoomRequest> {
        self.lock().entry(id).or_insert_with(start).clone()
    }

    pub(super) fn all(&self) -> Vec<mpsc::Sender<RoomRequest>> {
        self.lock().values().cloned().collect()
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

    /// Closes the tables that nobody views, so that they can be evicted for other tables. Blocks until the rooms in use
    /// have replied and the idle ones have ended, at most for [`CLOSING`].
    pub(super) fn close_idle(&self) {
        let (held, closed) = std::sync::mpsc::channel();
        for room in self.all() {
            // A room whose queue is full is not idle.
            let _ = room.try_send(RoomRequest::PutAway(held.clone()));
        }
        drop(held);
        // Disconnected once every room has dropped its sender: rooms in use at once, idle ones when they have ended.
        let _ = closed.recv_timeout(CLOSING);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TableId, mpsc::Sender<RoomRequest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
