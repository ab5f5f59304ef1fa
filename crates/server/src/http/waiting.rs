//! Connections that have a place and ask for nothing. When there is no place left, the one that has waited longest gives
//! way to a new one: whoever only holds connections open keeps nobody out for longer than [`GRACE`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long a connection may wait with a request while others want its place.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How long whoever was asked to give way may take for it before the next one is asked.
const GIVING: Duration = Duration::from_millis(100);

/// All connections that wait for a whole head.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Line>);

/// By the order in which they began to wait.
#[derive(Debug, Default)]
struct Line {
    last: u64,
    guests: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

impl Waiting {
    /// A new connection, which waits.
    pub(super) fn enter(self: &Arc<Self>) -> Guest {
        let guest = Guest {
            waiting: Arc::clone(self),
            gives_way: Arc::default(),
            ticket: Mutex::new(None),
            has_asked: AtomicBool::new(false),
        };
        guest.waits();
        guest
    }

    /// Somebody wants a place: the one that has waited longest is asked to give way, if its time is over. Gives after how
    /// long to say so again.
    pub(super) fn give_way(&self) -> Duration {
        let mut line = self.lock();
        let Some(first) = line.guests.first_entry() else { return GIVING };
        let left = GRACE.saturating_sub(first.get().0.elapsed());
        if !left.is_zero() {
            return left;
        }
        first.remove().1.notify_one();
        GIVING
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Guest {
    waiting: Arc<Waiting>,
    gives_way: Arc<Notify>,
    ticket: Mutex<Option<u64>>,
    has_asked: AtomicBool,
}

impl Guest {
    /// It waits with its next request, from now on.
    pub(super) fn waits(&self) {
        let mut line = self.waiting.lock();
        line.last += 1;
        let ticket = line.last;
        line.guests.insert(ticket, (Instant::now(), Arc::clone(&self.gives_way)));
        drop(line);
        self.replace(Some(ticket));
    }

    /// A request of it has come.
    pub(super) fn asks(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
        self.replace(None);
    }

    /// Whether any request of it has come: if not, nothing is lost with it.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Until it is to give way.
    pub(super) async fn told(&self) {
        self.gives_way.notified().await;
    }

    fn replace(&self, ticket: Option<u64>) {
        let before =
            std::mem::replace(&mut *self.ticket.lock().unwrap_or_else(PoisonError::into_inner), ticket);
        if let Some(before) = before {
            self.waiting.lock().guests.remove(&before);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.replace(None);
    }
}
