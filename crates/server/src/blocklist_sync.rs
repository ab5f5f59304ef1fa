//! Blocks users and tokens on all nodes: stores the blocklist at the broker, sends changes to every node, and keeps
//! this node's copy current.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use thiserror::Error;
use tidings_api::ApiError;
use tidings_broker::{BrokerError, CompletionCallback, Stateful};
use tidings_wire::{Channel, code};
use tokio::sync::oneshot;

use crate::shards::Shards;
use tidings_cluster::blocklist::{
    Block, BlockSubject, Blocklist, BlocklistChange, MAX_ENTRIES, RELOAD_INTERVAL,
};
use tidings_cluster::{ClusterBus, ClusterError};

/// The channel that holds the list in its register at the broker.
const CHANNEL: &str = "tidings.node.blocks";
/// Delay before the list is requested again after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Why a change of the list failed, entirely or on some nodes.
#[derive(Debug, Error)]
pub(crate) enum BlockError {
    /// The list is full.
    #[error(
        "{MAX_ENTRIES} users and tokens are blocked already; let blocks expire (expire_at) or unblock some"
    )]
    Full,
    /// The change could not be stored, or no node received it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl From<BlockError> for ApiError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Cluster(error) => error.into(),
            BlockError::Full => Self { code: code::LIMIT_EXCEEDED.number, message: error.to_string().into() },
        }
    }
}

/// Changes the blocklist on all nodes, and keeps this node's copy current.
pub(crate) struct BlocklistSync {
    pub(crate) list: Arc<Blocklist>,
    pub(crate) bus: ClusterBus,
    pub(crate) shards: Arc<Shards>,
    /// Whether nodes share the broker. The memory broker ends with this process, so its list is never read back.
    pub(crate) is_shared: bool,
}

impl BlocklistSync {
    /// Adds an entry, or replaces the one of the same subject. Returns when it is stored and sent to every node. Of two
    /// entries for the tokens of one user, the later `issued_before` takes effect.
    ///
    /// # Errors
    /// [`BlockError`]. The entry takes effect all the same if it was stored and only its message was not delivered.
    pub(crate) async fn block(&self, mut block: Block) -> Result<(), BlockError> {
        match self.list.get(&block.subject) {
            Some(old) => block.issued_before = block.issued_before.max(old.issued_before),
            None if self.list.is_full() => return Err(BlockError::Full),
            None => {}
        }
        let value = serde_json::to_vec(&block).expect("text and numbers");
        let ttl = match block.expire_at {
            0 => None,
            at => Some(Duration::from_secs(at.saturating_sub(now()).max(1))),
        };
        let name = block.subject.name();
        self.store(|broker, done| broker.register_set(&channel(), &name, Bytes::from(value), ttl, done))
            .await?;
        Ok(self.bus.change_blocklist(BlocklistChange::Add(block)).await?)
    }

    /// Removes an entry. Returns when the removal is stored and sent to every node.
    ///
    /// # Errors
    /// [`BlockError`].
    pub(crate) async fn unblock(&self, subject: BlockSubject) -> Result<(), BlockError> {
        let name = subject.name();
        self.store(|broker, done| broker.register_remove(&channel(), &name, done)).await?;
        Ok(self.bus.change_blocklist(BlocklistChange::Remove(subject)).await?)
    }

    async fn store(
        &self,
        request: impl FnOnce(&dyn Stateful, CompletionCallback),
    ) -> Result<(), ClusterError> {
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
            let mut wait = RELOAD_INTERVAL;
            if self.is_shared {
                let requested = Instant::now();
                match self.load().await {
                    Ok(blocks) => {
                        for command in self.list.replace_all(blocks, requested, now()) {
                            self.shards.post_session_command(command);
                        }
                        self.list.set_loaded();
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the blocklist could not be read");
                        wait = RETRY_DELAY;
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
        self.bus.broker().register_values(
            &channel(),
            Box::new(move |outcome| {
                let _ = done.send(outcome);
            }),
        );
        let values = outcome.await.unwrap_or(Err(BrokerError::Unavailable))?;
        // Entries in the format of a newer version are skipped.
        Ok(values.iter().filter_map(|value| serde_json::from_slice(value).ok()).collect())
    }
}

fn channel() -> Channel {
    Channel::new(CHANNEL).expect("a short name")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
