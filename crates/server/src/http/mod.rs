//! HTTP: health, readiness, metrics, the landing page; and what RESP's `INFO` says, from the same numbers.
//!
//! A listener's connections are accepted and bounded by [`serve`]; what they ask is answered by [`routes`], which
//! reads the [`Node`] and changes nothing. Transports that begin as HTTP start here as well, in [`transport`]: a
//! connection that has become a WebSocket ([`upgrade`]) or a stream is handed to a shard, and none of the bounds here
//! holds for it any more.
//!
//! Invariants:
//! - Nothing a peer does holds a connection for ever or grows without a bound: heads, silence, unread answers and the
//!   number of connections are limited, see [`serve::Bounds`].
//! - `/health`, `/ready` and `/metrics` wait for nobody, and are answered until the very end of a stop.
//! - While nobody needs a key, a browser is not fooled into asking for another site, see [`host`].
//! - No page of another site connects unless it is listed, see [`origin`].
//! - Whatever was not written here (addresses, reasons, names) is escaped before it is part of a page.

mod escape;
mod exposition;
mod format;
mod host;
mod info;
mod listener;
mod metrics;
mod origin;
mod page;
mod patience;
mod process;
mod routes;
mod serve;
mod transport;
pub(crate) mod upgrade;
mod waiting;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::listen::{Bound, SocketFile};
use crate::node::Node;
use crate::tables;

pub(crate) use info::info;

use listener::Encrypted;
use serve::{Bounds, Door};

/// What has happened on the HTTP listeners, for the metrics.
#[derive(Debug, Default)]
struct Traffic {
    /// Connections now.
    connections: AtomicU64,
    /// Answers so far by the first digit of their status, from 1.
    answers: [AtomicU64; 5],
    /// Connections that asked for nothing and gave their places to others.
    gave_way: AtomicU64,
}

/// The HTTP listeners that are served.
pub(crate) struct Serving {
    tasks: JoinSet<()>,
    tables: Option<Arc<tables::Service>>,
    stop: watch::Sender<bool>,
}

impl Serving {
    /// Serves each listener in a task of its own.
    ///
    /// # Errors
    /// What the operating system says when a listener cannot be watched.
    pub(crate) fn start(
        bound: Vec<Bound>,
        node: &Arc<Node>,
        files: &mut Vec<SocketFile>,
    ) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let traffic = Arc::new(Traffic::default());
        let door = Arc::new(Door::new(Bounds::new(node.config.http.connection_limit), Arc::clone(&traffic)));
        let own = host::OwnHosts::of(&node.config);
        let tables = tables::Service::start(node)?;
        for bound in bound {
            let (door, stopped) = (Arc::clone(&door), stopped.clone());
            match bound {
                Bound::Tcp(listener) => {
                    let listener = TcpListener::from_std(listener)?;
                    let routes = routes::routes(node, &traffic, tables.as_ref(), own.clone());
                    match &node.tls {
                        Some(tls) => {
                            let listener = Encrypted { listener, tls: Arc::clone(tls) };
                            tasks.spawn(serve::listen(listener, routes, door, stopped))
                        }
                        None => tasks.spawn(serve::listen(listener, routes, door, stopped)),
                    };
                }
                Bound::Unix(listener, file) => {
                    files.push(file);
                    let listener = UnixListener::from_std(listener)?;
                    // No browser reaches it, and a proxy that does may send any Host.
                    let routes = routes::routes(node, &traffic, tables.as_ref(), None);
                    tasks.spawn(serve::listen(listener, routes, door, stopped));
                }
            }
        }
        Ok(Self { tasks, tables, stop })
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
