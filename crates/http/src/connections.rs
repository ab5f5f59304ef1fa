//! The limit on connections that begin outside of a shard: over HTTP, and with a TLS handshake on the line port.
//!
//! Invariant: a connection counts against `client.connection_limit` from [`ConnectionLimiter::acquire`] on. Its permit counts
//! it until a shard takes it over, and the shard afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use thiserror::Error;
use tidings_shard::Process;
use tidings_wire::code::counted;

/// The reason why a connection is rejected. Displays as the response to the client.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum ConnectionRejected {
    /// The server is stopping.
    #[error("the server is stopping; connect to another one, or again later\n")]
    Stopping,
    /// New connections exceed `client.connection_rate_limit`.
    #[error("new connections exceed client.connection_rate_limit; connect again later\n")]
    Rate,
    /// The limit is reached: `client.connection_limit`, or the limit on open files.
    #[error("the server has reached its limit of {} (client.connection_limit, open files)\n", counted(*.0, "connection"))]
    Limit(usize),
}

/// Limits the number of connections and the rate at which they begin.
#[derive(Debug)]
pub struct ConnectionLimiter {
    process: Arc<Process>,
    is_closed: AtomicBool,
    /// The most connections, of all transports together.
    limit: AtomicUsize,
}

impl ConnectionLimiter {
    /// Allows `limit` connections, of all transports together, until [`Self::close`] is called.
    pub fn new(process: Arc<Process>, limit: usize) -> Self {
        Self { process, is_closed: AtomicBool::new(false), limit: AtomicUsize::new(limit) }
    }

    /// Replaces the limit, for new connections.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
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
            ConnectionRejected::Limit(self.limit.load(Ordering::Relaxed))
        })
    }

    /// Counts a connection that a shard has already accepted and checked. `None` at the limit.
    pub fn acquire_accepted(&self) -> Option<ConnectionPermit> {
        let limit = self.limit.load(Ordering::Relaxed);
        self.process.count_connection(limit).then(|| ConnectionPermit(Arc::clone(&self.process)))
    }
}

/// A counted connection that no shard owns yet. The shutdown of the server waits until it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Process>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.release_connection();
    }
}
