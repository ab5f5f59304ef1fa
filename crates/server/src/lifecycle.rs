//! The phases of the server between start and stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// When the server was started, and whether it is stopping.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    began: Instant,
    lame_duck: AtomicBool,
    draining: watch::Sender<bool>,
}

impl Lifecycle {
    /// A server that is started now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), lame_duck: AtomicBool::new(false), draining: watch::Sender::new(false) }
    }

    /// The time since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// Begins the lame-duck time: the server still serves every request, but `/ready` is 503.
    pub(crate) fn begin_lame_duck(&self) {
        self.lame_duck.store(true, Ordering::Relaxed);
    }

    /// Begins draining: the server accepts no more clients.
    pub(crate) fn begin_draining(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the server is draining.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Whether the server is draining, for streams that end then.
    pub(crate) fn watch_draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Whether the server is stopping, including its lame-duck time.
    pub(crate) fn is_stopping(&self) -> bool {
        self.lame_duck.load(Ordering::Relaxed) || self.is_draining()
    }
}
