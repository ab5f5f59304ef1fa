//! Blocking users and tokens on all nodes: the list is stored at the broker, changes are sent to every node, and each
//! node reads the list back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use thiserror::Error;
use tidings_broker::{BrokerError, Settled, Stateful};
use tidings_wire::Channel;
use tokio::sync::oneshot;

use tidings_cluster::blocklist::{Block, Blocklist, Change, MOST, RELOAD, Subject};
use tidings_cluster::{ClusterBus, ClusterError};
use crate::shards::Shards;

/// The channel whose register at the broker holds the list.
const CHANNEL: &str = "tidings.node.blocks";
/// How long to wait before the list is asked for again, where it could not be read.
const AGAIN: Duration = Duration::from_millis(250);

/// Why the list was not changed, or not on all nodes.
#[derive(Debug, Error)]
pub(crate) enum BlockError {
    /// It is full.
    #[error("{MOST} users and tokens are blocked already; let blocks expire (expire_at) or unblock some")]
    Full,
    /// It could not be stored, or no node could be told.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Changes the list of blocked users and tokens on all nodes, and keeps this node's copy current.
pub(crate) struct Blocking {
    pub(crate) list: Arc<Blocklist>,
    pub(crate) bus: ClusterBus,
    pub(crate) shards: Arc<Shards>,
    /// Whether the broker stores the list. The memory broker does not outlive this process, so it need not be read back.
    pub(crate) is_shared: bool,
}

impl Blocking {
    /// Adds an entry, or replaces the one of the same subject; done when it is stored and sent to every node. Of two
    /// entries for the tokens of one user the later time holds.
    ///
    /// # Errors
    /// [`BlockError`]. The entry may be in force all the same if it was stored before the nodes could not be reached.
    pub(crate) async fn block(&self, mut block: Block) -> Result<(), BlockError> {
        match self.list.get(&block.subject) {
            Some(known) => block.issued_before = block.issued_before.max(known.issued_before),
            None if self.list.is_full() => return Err(BlockError::Full),
            None => {}
        }
        let value = serde_json::to_vec(&block).expect("text and numbers");
        let ttl = match block.expire_at {
            0 => None,
            at => Some(Duration::from_secs(at.saturating_sub(now()).max(1))),
        };
        let name = block.subject.name();
        self.store(|broker, done| broker.keep(&channel(), &name, Bytes::from(value), ttl, done)).await?;
        Ok(self.bus.change_blocklist(Change::Add(block)).await?)
    }

    /// Removes an entry; done when the removal is stored and sent to every node.
    ///
    /// # Errors
    /// [`BlockError`].
    pub(crate) async fn unblock(&self, subject: Subject) -> Result<(), BlockError> {
        let name = subject.name();
        self.store(|broker, done| broker.forget(&channel(), &name, done)).await?;
        Ok(self.bus.change_blocklist(Change::Remove(subject)).await?)
    }

    async fn store(&self, request: impl FnOnce(&dyn Stateful, Settled)) -> Result<(), ClusterError> {
        let (done, outcome) = oneshot::channel();
        request(
            &**self.bus.broker(),
            Box::new(move |outcome| {
                let _ = done.send(outcome);
            }),
        );
        Ok(outcome.await.unwrap_or(Err(BrokerError::Unavailable))?)
    }

    /// Keeps this node's copy of the list current, until the task is cancelled.
    pub(crate) async fn run(self: Arc<Self>) {
        if !self.is_shared {
            self.list.set_loaded();
        }
        loop {
            let mut wait = RELOAD;
            if self.is_shared {
                let asked = Instant::now();
                match self.load().await {
                    Ok(blocks) => {
                        for directive in self.list.adopt(blocks, asked, now()) {
                            self.shards.order(directive);
                        }
                        self.list.set_loaded();
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the list of blocked users and tokens could not be read");
                        wait = AGAIN;
                    }
                }
            } else {
                self.list.sweep(now());
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.list.reload_requested() => {}
            }
        }
    }

    async fn load(&self) -> Result<Vec<Block>, BrokerError> {
        let (done, outcome) = oneshot::channel();
        self.bus.broker().kept(
            &channel(),
            Box::new(move |outcome| {
                let _ = done.send(outcome);
            }),
        );
        let values = outcome.await.unwrap_or(Err(BrokerError::Unavailable))?;
        // Entries in a format of a newer version are skipped.
        Ok(values.iter().filter_map(|value| serde_json::from_slice(value).ok()).collect())
    }
}

fn channel() -> Channel {
    Channel::new(CHANNEL).expect("a short name")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
