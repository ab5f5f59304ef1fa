//! The shell of an HTTP server: listeners, limits, timeouts, checks of hosts and origins, and WebSocket handshakes.
//!
//! [`HttpServer::start`] serves the routes of its caller. A request may leave HTTP with its connection: as a WebSocket
//! ([`accept`]) or as a stream ([`Hijacker`]). No limit of this crate applies to such a connection any more.
//!
//! Invariants:
//! - No peer can hold a connection for ever or make memory grow without a bound: heads, idle time, slow bodies, unread
//!   responses and the number of connections are limited, see [`limits::HttpLimits`].
//! - When all permits are in use, the slowest connections are closed first, see [`data_rate`]; probes have permits of their own,
//!   see [`limiter`].
//! - A request of HTTP/1.1 names its host once, see [`host`].
//! - A server without keys rejects requests for other hosts than its own, see [`host`].
//! - No page of another site connects unless it is listed, see [`origin`].

mod bodies;
mod connections;
mod data_rate;
mod forwarded;
mod hijacker;
mod host;
mod http2;
mod layers;
mod limiter;
mod limits;
mod listener;
mod origin;
mod preface;
mod respond;
mod serve;
mod traffic;
mod upgrade;
mod write_timeout;

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router as Routes;
use tidings_config::Config;
use tidings_proxy_protocol::{ProxiedStream, ProxyHeaders};
use tidings_shard::Process;
use tidings_tls::Tls;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use connections::{ConnectionLimiter, ConnectionPermit};
pub use forwarded::{AddressSource, Peer};
pub use hijacker::{Hijacker, StreamStart};
pub use limiter::RESERVE;
pub use limits::ReservePaths;
pub use origin::{RequestOrigin, Scheme, is_of_other_site};
pub use traffic::Traffic;
pub use upgrade::{ConnectionPolicy, HandshakeOptions, Stream, Upgraded, accept, accept_from};

use limits::HttpLimits;
use listener::{Accept, ProxiedListener, TlsListener};
use serve::ListenerState;

/// A bound listener, non-blocking.
#[derive(Debug)]
pub enum HttpListener {
    /// TCP; with TLS if [`HttpParts::tls`] is set.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// The parts of the server that the listeners use.
pub struct HttpParts<'a> {
    /// The configuration: limits, HSTS.
    pub config: &'a Config,
    /// The accepted hosts.
    pub policy: &'a Arc<ConnectionPolicy>,
    /// The trusted proxies.
    pub process: &'a Arc<Process>,
    /// Counts connections and requests.
    pub traffic: &'a Arc<Traffic>,
    /// TLS handshakes of TCP listeners, if TLS is on.
    pub tls: Option<&'a Arc<Tls>>,
    /// Reads the PROXY headers of connections, if every connection begins with one.
    pub proxy_headers: Option<&'a Arc<ProxyHeaders>>,
    /// The paths that the reserve serves.
    pub reserve: ReservePaths,
}

/// The HTTP listeners, each served in a task of its own.
pub struct HttpServer {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    connections: Arc<AtomicU64>,
    state: Arc<ListenerState>,
}

/// The parts of the task of one listener.
struct Serving<'a> {
    tasks: &'a mut JoinSet<()>,
    headers: Option<&'a Arc<ProxyHeaders>>,
    state: Arc<ListenerState>,
    stopped: watch::Receiver<bool>,
}

impl Serving<'_> {
    /// Starts the task.
    fn spawn<A: Accept<Raw: ProxiedStream> + Sync>(self, listener: A, routes: Routes) {
        let Self { tasks, headers, state, stopped } = self;
        match headers {
            Some(headers) => {
                let listener = ProxiedListener { inner: Arc::new(listener), headers: Arc::clone(headers) };
                tasks.spawn(serve::listen(listener, routes, state, stopped));
            }
            None => {
                tasks.spawn(serve::listen(listener, routes, state, stopped));
            }
        }
    }
}

impl HttpServer {
    /// Serves `routes` on each listener. Call within a tokio runtime.
    ///
    /// # Errors
    /// The error of the operating system when a listener cannot be registered with tokio.
    pub fn start(listeners: Vec<HttpListener>, routes: &Routes, parts: &HttpParts<'_>) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let limits =
            HttpLimits { reserve: parts.reserve.clone(), ..HttpLimits::from_config(&parts.config.http) };
        let state =
            Arc::new(ListenerState::new(limits, Arc::clone(parts.traffic), Arc::clone(parts.process)));
        for listener in listeners {
            let serving = Serving {
                tasks: &mut tasks,
                headers: parts.proxy_headers,
                state: Arc::clone(&state),
                stopped: stopped.clone(),
            };
            match listener {
                HttpListener::Tcp(listener) => {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    let routes = layers::add(routes.clone(), parts, true, parts.tls.is_some());
                    match parts.tls {
                        Some(tls) => serving.spawn(TlsListener { listener, tls: Arc::clone(tls) }, routes),
                        None => serving.spawn(listener, routes),
                    }
                }
                HttpListener::Unix(listener) => {
                    let listener = tokio::net::UnixListener::from_std(listener)?;
                    // Browsers cannot connect to a Unix socket, and a proxy may send any Host.
                    let routes = layers::add(routes.clone(), parts, false, false);
                    serving.spawn(listener, routes);
                }
            }
        }
        Ok(Self { tasks, stop, connections: Arc::clone(&parts.traffic.connections), state })
    }

    /// The number of connections now, kept up to date.
    pub fn connections(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.connections)
    }

    /// Requests clients with HTTP/2 to open their next streams on other connections, because the server stops.
    pub fn drain(&self) {
        self.state.drain();
    }

    /// Stops accepting connections and waits for the requests in progress, for `within` at most.
    pub async fn stop(&mut self, within: Duration) {
        let _ = self.stop.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!("closing HTTP connections with requests that have not ended in time");
            self.tasks.shutdown().await;
        }
    }
}
