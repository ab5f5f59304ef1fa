//! Storing the list at the broker, sending changes to other nodes, and reading it back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use thiserror::Error;
use tidings_broker::BrokerError;
use tidings_hub::Directive;
use tidings_shard::ShardMessage;
use tidings_wire::Channel;
use tokio::sync::oneshot;

use super::{Block, Change, MOST, RELOAD, Subject};
use crate::cluster::{self, ClusterError};
use crate::node::Node;
use crate::router::Router;

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

/// Adds an entry, or replaces the one of the same subject; done when it is stored and on its way to every node. Of two
/// for the tokens of one user the later time holds.
///
/// # Errors
/// [`BlockError`]. It may hold all the same when it was stored before nodes could not be told.
pub(crate) async fn block(node: &Node, mut block: Block) -> Result<(), BlockError> {
    let list = node.router.blocklist();
    match list.get(&block.subject) {
        Some(known) => block.issued_before = block.issued_before.max(known.issued_before),
        None if list.read().len() >= MOST => return Err(BlockError::Full),
        None => {}
    }
    let value = serde_json::to_vec(&block).expect("text and numbers");
    let ttl = match block.expire_at {
        0 => None,
        at => Some(Duration::from_secs(at.saturating_sub(now()).max(1))),
    };
    let name = block.subject.name();
    stored(node, |broker, done| broker.keep(&channel(), &name, Bytes::from(value), ttl, done)).await?;
    Ok(cluster::change_blocklist(node, Change::Add(block)).await?)
}

/// Removes an entry, in the same way.
///
/// # Errors
/// [`BlockError`].
pub(crate) async fn unblock(node: &Node, subject: Subject) -> Result<(), BlockError> {
    let name = subject.name();
    stored(node, |broker, done| broker.forget(&channel(), &name, done)).await?;
    Ok(cluster::change_blocklist(node, Change::Remove(subject)).await?)
}

async fn stored(
    node: &Node,
    store: impl FnOnce(&dyn tidings_broker::Stateful, tidings_broker::Settled),
) -> Result<(), ClusterError> {
    let broker = node.router.broker().ok_or(BrokerError::Unavailable)?;
    let (done, outcome) = oneshot::channel();
    store(
        &**broker,
        Box::new(move |outcome| {
            let _ = done.send(outcome);
        }),
    );
    Ok(outcome.await.unwrap_or(Err(BrokerError::Unavailable))?)
}

/// Keeps the list as it is stored, for ever.
pub(crate) async fn run(node: Arc<Node>) {
    let (router, list) = (&node.router, node.router.blocklist());
    if node.redis.is_none() {
        // There is no other place where it is.
        list.loaded.send_replace(true);
    }
    loop {
        let mut wait = RELOAD;
        if node.redis.is_some() {
            let asked = Instant::now();
            match load(router).await {
                Ok(blocks) => {
                    for directive in list.adopt(blocks, asked, now()) {
                        order(router, directive);
                    }
                    list.loaded.send_replace(true);
                }
                Err(error) => {
                    tracing::debug!(%error, "the list of blocked users and tokens could not be read");
                    wait = AGAIN;
                }
            }
        } else {
            list.sweep(now());
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = list.reload.notified() => {}
        }
    }
}

async fn load(router: &Router) -> Result<Vec<Block>, BrokerError> {
    let broker = router.broker().ok_or(BrokerError::Unavailable)?;
    let (done, outcome) = oneshot::channel();
    broker.kept(
        &channel(),
        Box::new(move |outcome| {
            let _ = done.send(outcome);
        }),
    );
    let values = outcome.await.unwrap_or(Err(BrokerError::Unavailable))?;
    // One that a newer version has written in another way is that version's.
    Ok(values.iter().filter_map(|value| serde_json::from_slice(value).ok()).collect())
}

/// Has the sessions here carry out what a block asks for.
pub(crate) fn order(router: &Router, directive: Directive) {
    let directive = Arc::new(directive);
    router.post_to_all(|| ShardMessage::Order(Arc::clone(&directive)));
}

fn channel() -> Channel {
    Channel::new(CHANNEL).expect("a short name")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
