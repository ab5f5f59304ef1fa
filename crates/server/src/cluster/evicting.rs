//! Members of nodes that have ended: every other node takes them out of the presence of the channels that it has, and the
//! broker sees to it that each leave is announced once.
//!
//! A node that was only silent and announces itself again keeps its members from then on.
//!
//! Channels without subscribers on any other node are left to whoever asks for their presence, and to their time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_broker::Stateful;
use tidings_wire::Channel;
use tokio::sync::oneshot;

use super::ClusterBus;
use crate::ended::PRESENCE_TTL;
use crate::router::Router;

/// How many requests wait for the broker at once.
const AT_ONCE: usize = 128;
/// The pause after a request that failed.
const AGAIN: Duration = Duration::from_millis(500);

/// Takes out the members of the node with this uid, in every channel that has subscribers here.
pub(super) async fn evict(bus: ClusterBus, router: Arc<Router>, uid: String) {
    router.ended().add(&uid, Instant::now());
    let end = Instant::now() + PRESENCE_TTL;
    let mut left = router.subscribed_channels();
    while !left.is_empty() && Instant::now() < end {
        let mut again = Vec::new();
        for some in left.chunks(AT_ONCE) {
            if bus.cluster().knows(&uid) {
                return;
            }
            let (more, failed) = evict_from(&**router.broker(), some, &uid).await;
            again.extend(more);
            if failed {
                tokio::time::sleep(AGAIN).await;
            }
        }
        left = again;
    }
}

/// The same in some channels. Gives those in which members are left, or may be, and whether a request failed.
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
