//! Removes the members of ended nodes: every other node removes them from the presence of its channels with subscribers,
//! and the broker announces each leave once. A node that announces itself again keeps its members from then on.
//!
//! In channels without subscribers on any other node, the next request for presence removes the members, or they expire.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_broker::Stateful;
use tidings_wire::Channel;
use tokio::sync::oneshot;

use super::{ClusterBus, LocalNode, PRESENCE_TTL};

/// Most requests to the broker at once.
const BATCH: usize = 128;
/// Delay after a failed request.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Removes the members of the node with this uid from every channel with subscribers on this node.
pub(super) async fn evict(bus: ClusterBus, local: Arc<dyn LocalNode>, uid: String) {
    let end = Instant::now() + PRESENCE_TTL;
    let mut left = local.subscribed_channels();
    while !left.is_empty() && Instant::now() < end {
        let mut again = Vec::new();
        for batch in left.chunks(BATCH) {
            if bus.cluster().is_alive(&uid) {
                return;
            }
            let (more, failed) = evict_from(&**bus.broker(), batch, &uid).await;
            again.extend(more);
            if failed {
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
        left = again;
    }
}

/// Removes the members of a node from `channels`. Returns the channels that may still have members of it, and whether a
/// request failed.
async fn evict_from(broker: &dyn Stateful, channels: &[Channel], uid: &str) -> (Vec<Channel>, bool) {
    let mut responses = Vec::with_capacity(channels.len());
    for channel in channels {
        let (done, response) = oneshot::channel();
        broker.presence_evict(
            channel,
            uid,
            Box::new(move |outcome| {
                let _ = done.send(outcome);
            }),
        );
        responses.push((channel, response));
    }
    let (mut again, mut failed) = (Vec::new(), false);
    for (channel, response) in responses {
        match response.await {
            Ok(Ok(0)) => {}
            Ok(Ok(_)) => again.push(channel.clone()),
            Ok(Err(_)) | Err(_) => {
                failed = true;
                again.push(channel.clone());
            }
        }
    }
    (again, failed)
}
