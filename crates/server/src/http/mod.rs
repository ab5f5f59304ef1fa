//! HTTP: health, readiness, metrics, the landing page.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router as Routes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::listen::{Bound, SocketFile};
use crate::node::{Node, Readiness};

/// The HTTP listeners that are served.
pub(crate) struct Serving {
    tasks: JoinSet<io::Result<()>>,
    stop: watch::Sender<bool>,
}

impl Serving {
    /// Serves each listener in a task of its own.
    pub(crate) fn start(
        bound: Vec<Bound>,
        node: &Arc<Node>,
        files: &mut Vec<SocketFile>,
    ) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for bound in bound {
            let routes = routes(Arc::clone(node));
            let mut stopped = stopped.clone();
            let until = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            match bound {
                Bound::Tcp(listener) => {
                    let listener = TcpListener::from_std(listener)?;
                    tasks.spawn(axum::serve(listener, routes).with_graceful_shutdown(until).into_future());
                }
                Bound::Unix(listener, file) => {
                    files.push(file);
                    let listener = UnixListener::from_std(listener)?;
                    tasks.spawn(axum::serve(listener, routes).with_graceful_shutdown(until).into_future());
                }
            }
        }
        Ok(Self { tasks, stop })
    }

    /// Accepts no more, and gives requests under way so long to end.
    pub(crate) async fn stop(&mut self, within: Duration) {
        let _ = self.stop.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

fn routes(node: Arc<Node>) -> Routes {
    Routes::new().route("/health", get(health)).route("/ready", get(ready)).with_state(node)
}

async fn health() -> &'static str {
    "ok\n"
}

async fn ready(State(node): State<Arc<Node>>) -> Response {
    match node.readiness() {
        Readiness::Ready(took) => {
            let body = json!({"ready": true, "canary_ms": took.as_secs_f64() * 1e3});
            axum::Json(body).into_response()
        }
        Readiness::NotReady(reason) => {
            let body = json!({"ready": false, "reason": reason});
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
        }
    }
}

/// The text of RESP's `INFO`.
pub(crate) fn info(node: &Node) -> String {
    let clients = node.process.connections.load(std::sync::atomic::Ordering::Relaxed);
    let uptime = node.began.elapsed().as_secs();
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "# Server\r\nredis_version:7.2.0\r\ntidings_version:{version}\r\nredis_mode:standalone\r\nprocess_id:{}\r\n\
         uptime_in_seconds:{uptime}\r\n\r\n# Clients\r\nconnected_clients:{clients}\r\n",
        std::process::id()
    )
}
