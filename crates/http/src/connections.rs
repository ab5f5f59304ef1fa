//! The limit on connections that begin outside of a shard: over HTTP, and during a TLS handshake of the line port.
//!
//! Invariant: a connection counts against `client.connection_limit` from [`ConnectionLimiter::acquire`] on: by its
//! permit until a shard takes it over, by the shard from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use tidings_shard::Process;

/// Why a connection is rejected. Displays as the response to the client.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum ConnectionRejected {
    /// The server is stopping.
    #[error("the server is stopping; connect to another one, or again later\n")]
    Stopping,
    /// Connections begin faster than `client.connection_rate_limit`.
    #[error("connections begin faster than client.connection_rate_limit allows; connect again later\n")]
    Rate,
    /// There are as many connections as `client.connection_limit` or the limit on open files allows.
    #[error(
        "the server holds {0} connections, which is as many as it may (client.connection_limit, open files)\n"
    )]
    Limit(usize),
}

/// Limits the number of connections and the rate at which they begin.
#[derive(Debug)]
pub struct ConnectionLimiter {
    process: Arc<Process>,
    is_closed: AtomicBool,
    /// How many connections there may be, of all transports together.
    limit: usize,
}

impl ConnectionLimiter {
    /// Allows `limit` connections, of all transports together, until [`Self::close`] is called.
    pub fn new(process: Arc<Process>, limit: usize) -> Self {
        Self { process, is_closed: AtomicBool::new(false), limit }
    }

    /// Rejects every new connection over HTTP from now on, because the server stops.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Counts a new connection that begins as an HTTP request.
    ///
    /// # Errors
    /// [`ConnectionRejected`]; rejections at the limit and at the rate are counted.
    pub(crate) fn acquire(&self) -> Result<ConnectionPermit, ConnectionRejected> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(ConnectionRejected::Stopping);
        }
        if !self.process.connection_rate.allows(1) {
            return Err(ConnectionRejected::Rate);
        }
        self.acquire_accepted().ok_or_else(|| {
            self.process.full.fetch_add(1, Ordering::Relaxed);
            ConnectionRejected::Limit(self.limit)
        })
    }

    /// Counts a connection that a shard has accepted and checked already; `None` at the limit.
    pub fn acquire_accepted(&self) -> Option<ConnectionPermit> {
        self.process.count_connection(self.limit).then(|| ConnectionPermit(Arc::clone(&self.process)))
    }
}

/// A counted connection that no shard owns yet. Until it is dropped, a stop of the server waits for it.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Process>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.release_connection();
    }
}
