//! Accepting HTTP connections and serving them within bounds.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router as Routes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::Traffic;
use super::patience::Patient;

/// What a peer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections of all listeners together; further ones wait in the kernel until one of these ends.
    pub(super) connections: usize,
    /// How long a connection may take from being ready for a request to having its whole head: a slow head and a
    /// kept connection without requests end by it.
    pub(super) head: Duration,
    /// How long a peer may leave an answer unread.
    pub(super) unread: Duration,
    /// The longest head in bytes; a longer one is answered with 431.
    pub(super) head_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 512,
            head: Duration::from_secs(10),
            unread: Duration::from_secs(30),
            head_bytes: 16 << 10,
        }
    }
}

/// How long accepting rests after an error that would come again at once, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Lets connections in, as many as there are places.
#[derive(Debug)]
pub(super) struct Door {
    bounds: Bounds,
    places: Arc<Semaphore>,
    traffic: Arc<Traffic>,
}

/// A place that a connection has; given back when it is dropped.
struct Place {
    traffic: Arc<Traffic>,
    _permit: OwnedSemaphorePermit,
}

impl Door {
    pub(super) fn new(bounds: Bounds, traffic: Arc<Traffic>) -> Self {
        Self { bounds, places: Arc::new(Semaphore::new(bounds.connections)), traffic }
    }

    /// Waits for a place and for a connection to have it.
    async fn next<A: Accept>(&self, listener: &A) -> (A::Io, Place) {
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                tracing::warn!(
                    limit = self.bounds.connections,
                    "all HTTP connections are in use; new ones wait"
                );
                Arc::clone(&self.places).acquire_owned().await.expect("a semaphore that nobody closes")
            }
        };
        loop {
            match listener.accept().await {
                Ok(io) => {
                    self.traffic.connections.fetch_add(1, Ordering::Relaxed);
                    return (io, Place { traffic: Arc::clone(&self.traffic), _permit: permit });
                }
                // The peer gave up before it was accepted (accept(2): ECONNABORTED).
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept HTTP connections; trying again shortly");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.traffic.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A listener of either kind.
pub(super) trait Accept: Send + 'static {
    /// Its connections.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection. Dropping the future loses none.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(Self::accept(self).await?.0)
    }
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(Self::accept(self).await?.0)
    }
}

/// Serves a listener's connections until `stop` says so; then ends when the requests under way are answered.
pub(super) async fn listen<A: Accept + Sync>(
    listener: A,
    routes: Routes,
    door: Arc<Door>,
    mut stop: watch::Receiver<bool>,
) {
    let mut served = JoinSet::new();
    loop {
        let stopped = stop.clone();
        let (io, place) = tokio::select! {
            () = stopping(&mut stop) => break,
            next = door.next(&listener) => next,
        };
        // Those that have ended make room; at most `Bounds::connections` have not.
        while served.try_join_next().is_some() {}
        served.spawn(connection(io, place, routes.clone(), door.bounds, stopped));
    }
    drop(listener);
    while served.join_next().await.is_some() {}
}

async fn connection<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: I,
    _place: Place,
    routes: Routes,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let io = TokioIo::new(Patient::new(io, bounds.unread));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(bounds.head_bytes);
    let served = http.serve_connection(io, TowerToHyperService::new(routes)).with_upgrades();
    let mut served = pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = stopping(&mut stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "an HTTP connection has ended");
    }
}

/// Waits until it is time to stop, which it also is when nobody can say so any more.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
