//! The phases of a server's life that other parts react to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// When the server was started, and whether it is stopping.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    began: Instant,
    lame_duck: AtomicBool,
    draining: AtomicBool,
}

impl Lifecycle {
    /// A server that is started now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), lame_duck: AtomicBool::new(false), draining: AtomicBool::new(false) }
    }

    /// The time since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// The server is about to stop and still serves everything; only `/ready` is 503.
    pub(crate) fn begin_lame_duck(&self) {
        self.lame_duck.store(true, Ordering::Relaxed);
    }

    /// The server takes no more clients.
    pub(crate) fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server takes no more clients.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether the server is stopping, its lame-duck time included.
    pub(crate) fn is_stopping(&self) -> bool {
        self.lame_duck.load(Ordering::Relaxed) || self.is_draining()
    }
}
