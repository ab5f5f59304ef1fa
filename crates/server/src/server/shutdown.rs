//! Stopping: a lame-duck time, the clients' leave, requests under way, then the parts themselves.
//!
//! Invariants:
//! - [`Server::stop`] ends by itself within `shutdown.timeout` as long as no thread is blocked; where one is, the caller
//!   ends the process at that time and logs what [`ShutdownProgress`] says.
//! - `/health`, `/ready` and `/metrics` are answered until requests under way have ended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidings_shard::ShardMessage;

use super::Server;
use crate::shards::Shards;

/// The part of `shutdown.timeout` that is kept for ending tasks and threads; half of the timeout if that is shorter.
const RESERVE: Duration = Duration::from_millis(500);
/// How long each of those last steps may take.
const LAST_STEP: Duration = Duration::from_millis(150);
/// How often open connections are counted.
const POLL: Duration = Duration::from_millis(20);

/// The step of a shutdown that is under way.
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
        "requests under way",
        "background tasks",
        "leaving the cluster",
        "ending shards",
        "stopped; blocking work is still running",
    ];
}

/// What a server that stops is doing, readable from any thread without blocking.
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
    /// A view of this server's shutdown, for whoever enforces `shutdown.timeout`.
    pub fn shutdown_progress(&self) -> ShutdownProgress {
        self.progress.clone()
    }

    /// Stops: answers `/ready` with 503 for `shutdown.lame_duck` while everything is served, then accepts no more
    /// clients and asks those connected to reconnect, evenly over `shutdown.drain`, sends what is queued, and ends
    /// within `shutdown.timeout`.
    pub async fn stop(mut self) {
        let began = Instant::now();
        let shutdown = &self.services.config.shutdown;
        let (timeout, lame_duck) = (shutdown.timeout, shutdown.lame_duck);
        let until = timeout.saturating_sub(RESERVE.min(timeout / 2));
        let left = || until.saturating_sub(began.elapsed());
        self.services.lifecycle.begin_lame_duck();
        if !lame_duck.is_zero() {
            self.progress.enter(Stage::LameDuck);
            let lame_duck = lame_duck.min(left());
            tracing::info!(
                ?lame_duck,
                "stopping: /ready is 503; everything is still served for the lame-duck time"
            );
            tokio::time::sleep(lame_duck).await;
        }

        self.progress.enter(Stage::Clients);
        let drain = shutdown.drain.min(left());
        self.services.lifecycle.begin_draining();
        self.services.limiter.close();
        self.services.api.auth_failures.close();
        if let Some(tls) = &self.services.tls {
            tls.stop();
        }
        let connections = || self.services.shards.connections();
        tracing::info!(clients = connections(), ?drain, "stopping: asking clients to reconnect");
        self.services.shards.post_to_all(|| ShardMessage::Drain(drain));
        let gone = async {
            while connections() > 0 && !left().is_zero() {
                tokio::time::sleep(POLL).await;
            }
        };
        let put_away = async {
            if let Some(tables) = &self.tables {
                tables.stop(drain).await;
            }
        };
        let _ = tokio::join!(gone, tokio::time::timeout(left(), put_away));
        let remaining = connections();
        if remaining > 0 {
            tracing::warn!(remaining, "closing client connections that did not close in time");
        }

        self.progress.enter(Stage::Requests);
        self.http.stop(left().max(LAST_STEP)).await;
        self.internal_http.stop(LAST_STEP).await;
        self.progress.enter(Stage::Tasks);
        let _ = tokio::time::timeout(LAST_STEP, self.tasks.shutdown()).await;
        self.progress.enter(Stage::Cluster);
        self.services.api.nodes.leave(LAST_STEP).await;
        self.progress.enter(Stage::Shards);
        self.services.shards.stop();
        let threads = self.threads;
        let join = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a shard has panicked");
                }
            }
        });
        // A shard ends between two writes; one that does not is left to the end of the process.
        let _ = tokio::time::timeout(timeout.saturating_sub(began.elapsed()).max(LAST_STEP), join).await;
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
