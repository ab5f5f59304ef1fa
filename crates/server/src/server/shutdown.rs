//! The shutdown: a lame-duck time, the disconnection of clients, requests in progress, then the parts of the server.
//!
//! Invariants:
//! - [`Server::stop`] returns within `shutdown.timeout` unless a thread is blocked. In that case the caller ends the process
//!   at that time and logs [`ShutdownProgress`].
//! - `/health`, `/ready` and `/metrics` respond until the requests in progress have ended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidings_http::HttpServer;
use tidings_shard::ShardMessage;

use super::Server;
use crate::shards::Shards;

/// The part of `shutdown.timeout` that is reserved for ending tasks and threads: this, or half of the timeout if shorter.
const RESERVE: Duration = Duration::from_millis(500);
/// The limit on each of these last steps.
const LAST_STEP: Duration = Duration::from_millis(150);
/// The interval at which open connections are counted.
const POLL: Duration = Duration::from_millis(20);

/// The current step of a shutdown.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Serving,
    LameDuck,
    Clients,
    Requests,
    Tasks,
    Cluster,
    Shards,
    Stopped,
}

impl Stage {
    const NAMES: [&str; 8] = [
        "serving",
        "lame-duck time",
        "disconnecting clients and saving tables",
        "requests in progress",
        "background tasks",
        "leaving the cluster",
        "ending shards",
        "stopped; blocking work is still running",
    ];
}

/// The progress of a shutdown, readable from any thread without blocking.
#[derive(Clone)]
pub struct ShutdownProgress {
    stage: Arc<AtomicU8>,
    shards: Arc<Shards>,
    http_connections: Arc<AtomicU64>,
}

impl ShutdownProgress {
    pub(super) fn new(shards: Arc<Shards>, http_connections: Arc<AtomicU64>) -> Self {
        Self { stage: Arc::new(AtomicU8::new(Stage::Serving as u8)), shards, http_connections }
    }

    fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }
}

impl fmt::Display for ShutdownProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = usize::from(self.stage.load(Ordering::Relaxed));
        let clients = self.shards.connections();
        let http = self.http_connections.load(Ordering::Relaxed);
        let queued = self.shards.process().queued.load(Ordering::Relaxed);
        write!(
            f,
            "{} ({clients} client connections with {queued} queued bytes, {http} HTTP connections)",
            Stage::NAMES[stage]
        )
    }
}

impl Server {
    /// The progress of this server's shutdown, for the caller that enforces `shutdown.timeout`.
    pub fn shutdown_progress(&self) -> ShutdownProgress {
        self.progress.clone()
    }

    /// Stops the server. `/ready` is 503 for `shutdown.lame_duck` while everything is served. Then the server accepts no more
    /// clients, requests those connected to reconnect, evenly over `shutdown.drain`, sends the queued bytes, and ends within
    /// `shutdown.timeout`.
    pub async fn stop(mut self) {
        let began = Instant::now();
        let config = self.services.config.load();
        let shutdown = &config.shutdown;
        let (timeout, lame_duck) = (shutdown.timeout, shutdown.lame_duck);
        let until = timeout.saturating_sub(RESERVE.min(timeout / 2));
        let left = || until.saturating_sub(began.elapsed());
        self.services.lifecycle.begin_lame_duck();
        // So that the other nodes move no clients meanwhile.
        self.services.api.nodes.announce();
        if !lame_duck.is_zero() {
            self.progress.enter(Stage::LameDuck);
            let lame_duck = lame_duck.min(left());
            tracing::info!(?lame_duck, "stopping: /ready is 503; clients are served for the lame-duck time");
            tokio::time::sleep(lame_duck).await;
        }

        self.progress.enter(Stage::Clients);
        let drain = shutdown.drain.min(left());
        self.services.lifecycle.begin_draining();
        self.services.limiter.close();
        self.http.drain();
        self.services.api.process.traces.close();
        self.grpc.iter().for_each(HttpServer::drain);
        self.services.api.auth_failures.close();
        if let Some(tls) = &self.services.tls {
            tls.stop();
        }
        self.proxy_headers.stop();
        let connections = || self.services.shards.connections();
        tracing::info!(clients = connections(), ?drain, "stopping: clients are requested to reconnect");
        self.services.shards.post_to_all(|| ShardMessage::Drain(drain));
        let disconnected = async {
            while connections() > 0 && !left().is_zero() {
                tokio::time::sleep(POLL).await;
            }
        };
        let tables_stopped = async {
            if let Some(tables) = &self.tables {
                tables.stop(drain).await;
            }
        };
        let _ = tokio::join!(disconnected, tokio::time::timeout(left(), tables_stopped));
        let remaining = connections();
        if remaining > 0 {
            tracing::warn!(remaining, "closing client connections that did not close in time");
        }

        self.progress.enter(Stage::Requests);
        self.http.stop(left().max(LAST_STEP)).await;
        for port in &mut self.grpc {
            port.stop(left().max(LAST_STEP)).await;
        }
        self.internal_http.stop(LAST_STEP).await;
        self.progress.enter(Stage::Tasks);
        self.consumers.stop(left().max(LAST_STEP)).await;
        if let Some(webhooks) = &self.webhooks {
            webhooks.flush(left().max(LAST_STEP)).await;
        }
        let _ = tokio::time::timeout(LAST_STEP, self.tasks.shutdown()).await;
        self.progress.enter(Stage::Cluster);
        let audit = Arc::clone(&self.services.api.audit);
        let _ = tokio::join!(
            self.services.api.nodes.leave(LAST_STEP),
            self.services.api.tracer.shutdown().flush(LAST_STEP),
            tokio::task::spawn_blocking(move || audit.flush(LAST_STEP)),
        );
        self.progress.enter(Stage::Shards);
        self.services.shards.stop();
        let threads = self.threads;
        let join = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("the thread of a shard has panicked");
                }
            }
        });
        // A shard ends between two writes. One that is blocked ends with the process.
        let _ = tokio::time::timeout(timeout.saturating_sub(began.elapsed()).max(LAST_STEP), join).await;
        crate::mqtt_storage::close(&self.mqtt_storage).await;
        self.progress.enter(Stage::Stopped);
        tracing::info!("stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_a_name() {
        assert_eq!(Stage::NAMES.len(), Stage::Stopped as usize + 1);
        assert_eq!(Stage::Serving as usize, 0);
    }
}
