//! Removing the members of ended nodes: every other node removes them from the presence of the channels with subscribers
//! on it, and the broker announces each leave once.
//!
//! A node that announces itself again keeps its members from then on.
//!
//! In channels without subscribers on any other node the members are removed by the next request for presence, or expire.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_broker::Stateful;
use tidings_wire::Channel;
use tokio::sync::oneshot;

use super::{ClusterBus, LocalNode, PRESENCE_TTL};

/// How many requests wait for the broker at once.
const AT_ONCE: usize = 128;
/// The pause after a request that failed.
const AGAIN: Duration = Duration::from_millis(500);

/// Removes the members of the node with this uid from every channel with subscribers on this node.
pub(super) async fn evict(bus: ClusterBus, local: Arc<dyn LocalNode>, uid: String) {
    let end = Instant::now() + PRESENCE_TTL;
    let mut left = local.subscribed_channels();
    while !left.is_empty() && Instant::now() < end {
        let mut again = Vec::new();
        for some in left.chunks(AT_ONCE) {
            if bus.cluster().knows(&uid) {
                return;
            }
            let (more, failed) = evict_from(&**bus.broker(), some, &uid).await;
            again.extend(more);
            if failed {
                tokio::time::sleep(AGAIN).await;
            }
        }
        left = again;
    }
}

/// Removes them from some channels. Returns the channels in which members may be left, and whether a request failed.
async fn evict_from(broker: &dyn Stateful, channels: &[Channel], uid: &str) -> (Vec<Channel>, bool) {
    let mut answers = Vec::with_capacity(channels.len());
    for channel in channels {
        let (done, answer) = oneshot::channel();
        broker.presence_evict(
            channel,
            uid,
            Box::new(move |outcome| {
                let _ = done.send(outcome);
            }),
        );
        answers.push((channel, answer));
    }
    let (mut again, mut failed) = (Vec::new(), false);
    for (channel, answer) in answers {
        match answer.await {
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
