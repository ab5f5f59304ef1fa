//! HTTP: health, readiness, metrics, the landing page; and what RESP's `INFO` says, from the same numbers.
//!
//! A listener's connections are accepted and bounded by [`serve`]; requests are answered by [`routes`]. Transports that begin as HTTP start here as well, in [`transport`]: a
//! connection that has become a WebSocket ([`upgrade`]) or a stream is handed to a shard, and none of the bounds here
//! holds for it any more.
//!
//! Invariants:
//! - Nothing a peer does holds a connection for ever or grows without a bound: heads, silence, slow bodies, unread
//!   answers and the number of connections are limited, see [`serve::Bounds`].
//! - When all places are taken, the slowest connections are closed first, see [`pace`]; `/health`, `/ready` and
//!   `/metrics` have places of their own, see [`limiter`], and are answered until the very end of a stop.
//! - A request of HTTP/1.1 names its host once, see [`host`].
//! - While nobody needs a key, a browser is not fooled into asking for another site, see [`host`].
//! - No page of another site connects unless it is listed, see [`origin`].
//! - Whatever was not written here (addresses, reasons, names) is escaped before it is part of a page.

mod bodies;
mod escape;
mod forwarded;
mod host;
mod limiter;
mod listener;
mod origin;
mod pace;
mod page;
mod routes;
mod serve;
mod traffic;
mod transport;
pub(crate) mod upgrade;
mod write_timeout;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api;
use crate::lifecycle::Lifecycle;
use crate::listen::{Bound, SocketFile};
use tidings_metrics::MetricsRegistry;
use crate::readiness::ReadinessCheck;
use crate::shards::Shards;
use tidings_tls::Tls;
use tidings_config::Config;
use tidings_table_service::Service as TableService;

pub(crate) use forwarded::Peer;
pub(crate) use limiter::RESERVE;
pub(crate) use origin::Scheme;

use listener::Encrypted;
use serve::{Bounds, ListenerState};
pub(crate) use traffic::Traffic;

/// The parts of the server that the HTTP handlers use.
pub(crate) struct HttpServices {
    pub(crate) config: Arc<Config>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) readiness: Arc<ReadinessCheck>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) policy: Arc<upgrade::ConnectionPolicy>,
    pub(crate) api: Arc<api::Services>,
    /// TLS handshakes of the HTTP port, if TLS is on.
    pub(crate) tls: Option<Arc<Tls>>,
    /// One line for each listener, see [`crate::Server::announcements`].
    pub(crate) announcements: Vec<String>,
}

/// The HTTP listeners that are served.
pub(crate) struct Serving {
    tasks: JoinSet<()>,
    tables: Option<Arc<TableService>>,
    stop: watch::Sender<bool>,
    connections: Arc<AtomicU64>,
}

impl Serving {
    /// Serves each listener in a task of its own.
    ///
    /// # Errors
    /// What the operating system says when a listener cannot be watched.
    pub(crate) fn start(
        bound: Vec<Bound>,
        services: &Arc<HttpServices>,
        tables: Option<Arc<TableService>>,
        registry: &Arc<MetricsRegistry>,
        traffic: &Arc<Traffic>,
        files: &mut Vec<SocketFile>,
    ) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let bounds = Bounds::from_config(&services.config.http);
        let state =
            Arc::new(ListenerState::new(bounds, Arc::clone(traffic), Arc::clone(services.shards.process())));
        let own = host::OwnHosts::of(&services.config);
        for bound in bound {
            let (state, stopped) = (Arc::clone(&state), stopped.clone());
            match bound {
                Bound::Tcp(listener) => {
                    let listener = TcpListener::from_std(listener)?;
                    let is_tls = services.tls.is_some();
                    let routes =
                        routes::routes(services, registry, traffic, tables.as_ref(), own.clone(), is_tls);
                    match &services.tls {
                        Some(tls) => {
                            let listener = Encrypted { listener, tls: Arc::clone(tls) };
                            tasks.spawn(serve::listen(listener, routes, state, stopped))
                        }
                        None => tasks.spawn(serve::listen(listener, routes, state, stopped)),
                    };
                }
                Bound::Unix(listener, file) => {
                    files.push(file);
                    let listener = UnixListener::from_std(listener)?;
                    // No browser reaches it, and a proxy that does may send any Host.
                    let routes = routes::routes(services, registry, traffic, tables.as_ref(), None, false);
                    tasks.spawn(serve::listen(listener, routes, state, stopped));
                }
            }
        }
        Ok(Self { tasks, tables, stop, connections: Arc::clone(&traffic.connections) })
    }

    /// The number of connections now, kept up to date.
    pub(crate) fn connections(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.connections)
    }

    /// Tells who looks at tables to come back later, spread over `drain`, and puts the tables away.
    pub(crate) async fn drain(&self, drain: Duration) {
        if let Some(tables) = &self.tables {
            tables.stop(drain).await;
        }
    }

    /// Accepts no more, and gives requests under way so long to end.
    pub(crate) async fn stop(&mut self, within: Duration) {
        let _ = self.stop.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!("closing HTTP connections whose requests have not ended");
            self.tasks.shutdown().await;
        }
    }
}
