//! The numbers of subscriptions on all nodes, for subscribers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_cluster::{ListBudget, Nodes};
use tidings_pusher::{ChannelKind, check_channel};
use tidings_wire::{Channel, Pattern};

use crate::{ChannelCounts, LIST_OVERHEAD, MAX_LIST, PusherApps, escaped};

/// How often the numbers of subscriptions are compared.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);
/// Comparisons until all numbers are sent again, also to clients whose subscription has not changed a number.
const COUNT_ROUNDS: u32 = 12;

/// Passes the numbers of subscriptions that have changed to `send`, which sends them to the subscribers on this node, until the
/// task is cancelled.
pub async fn report_counts(
    apps: Arc<PusherApps>,
    nodes: Arc<Nodes>,
    send: impl Fn(Arc<Vec<(Channel, u64)>>) + Send,
) {
    // The numbers that were sent, by the id of the app.
    let mut all_sent: BTreeMap<String, ChannelCounts> = BTreeMap::new();
    let mut rounds = 0;
    loop {
        tokio::time::sleep(COUNT_INTERVAL).await;
        rounds = (rounds + 1) % COUNT_ROUNDS;
        let apps: Vec<_> = apps.load().iter().filter(|app| app.subscription_count).cloned().collect();
        all_sent.retain(|id, _| apps.iter().any(|app| app.id == *id));
        for app in apps {
            let sent = all_sent.entry(app.id.clone()).or_default();
            if app.counters.connections.load(Ordering::Relaxed) == 0 {
                sent.clear();
                continue;
            }
            let all = Pattern::new(escaped(&app.prefix) + "*").ok();
            let budget = ListBudget::new(MAX_LIST, LIST_OVERHEAD);
            let counts = match nodes.channels(all.as_ref(), budget).await {
                Ok(counts) => counts,
                Err(error) => {
                    tracing::debug!(app = app.id, %error, "the numbers of subscriptions are not known");
                    continue;
                }
            };
            let is_changed = |(name, count): &(&String, &u64)| {
                let visible = name.strip_prefix(&app.prefix).unwrap_or_default();
                check_channel(visible).is_ok()
                    && ChannelKind::of(visible) != ChannelKind::Presence
                    && (rounds == 0 || sent.get(*name) != Some(count))
            };
            let channel = |(name, count): (&String, &u64)| Some((Channel::new(name).ok()?, *count));
            let changed: Vec<_> = counts.iter().filter(is_changed).filter_map(channel).collect();
            if !changed.is_empty() {
                send(Arc::new(changed));
            }
            *sent = counts;
        }
    }
}
