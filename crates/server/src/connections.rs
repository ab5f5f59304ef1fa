//! Pages of this node's connections, shard by shard.
//!
//! Invariant: a page takes at most [`SCAN_TIME`]; a page that ends earlier names the place where the next one begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_admin::report::{ConnectionRow, ConnectionsQuery, ConnectionsReport, Cursor};
use tidings_cluster::Nodes;
use tidings_shard::{ConnectionFilter, ConnectionPage, ConnectionSummary, ConnectionSurvey, ShardMessage};
use tidings_tags_filter::Filter;
use tidings_wire::{Channel, Topic};
use tokio::sync::oneshot;

use crate::shards::Shards;

/// Longest time of a page; shorter than other nodes wait.
const SCAN_TIME: Duration = Duration::from_secs(2);

/// The connections of this node.
pub(crate) struct LocalConnections {
    /// The uid of this node.
    node: String,
    shards: Arc<Shards>,
}

impl LocalConnections {
    pub(crate) fn new(nodes: &Nodes, shards: &Arc<Shards>) -> Self {
        Self { node: nodes.bus.cluster().uid().to_owned(), shards: Arc::clone(shards) }
    }

    /// A page of the connections that a query selects.
    pub(crate) async fn page(&self, query: &ConnectionsQuery) -> ConnectionsReport {
        let from = match query.cursors.get(&self.node) {
            Some(from) => *from,
            None if query.cursors.is_empty() => Cursor(0, 0),
            // This node's connections are complete on earlier pages.
            None => return ConnectionsReport::default(),
        };
        page(&self.shards, query, from).await
    }
}

/// The connections that a query selects, from a place on.
async fn page(shards: &Shards, query: &ConnectionsQuery, from: Cursor) -> ConnectionsReport {
    let topic = query.channel.as_deref().map(Channel::new).transpose();
    let Ok(topic) = topic else { return ConnectionsReport::default() };
    let labels = query.label_filter.as_ref().map(|json| Filter::from_json(json.to_string().as_bytes()));
    let Ok(labels) = labels.transpose() else { return ConnectionsReport::default() };
    let filter = ConnectionFilter {
        labels: labels.map(Arc::new),
        user: query.user.clone(),
        client: query.client.clone(),
        text: query.text.clone(),
        topic: topic.map(Topic::Channel),
        queued: query.queued,
    };
    let end = Instant::now() + SCAN_TIME;
    let Cursor(mut shard, mut slot) = from;
    let mut report = ConnectionsReport::default();
    while let Some(mailbox) = shards.mailbox(shard as usize) {
        if Instant::now() > end || !query.queued && report.connections.len() >= query.limit {
            report.next = Some(Cursor(shard, slot));
            break;
        }
        let (send, page) = oneshot::channel();
        mailbox.post(ShardMessage::Survey(Box::new(ConnectionSurvey {
            filter: filter.clone(),
            from: slot,
            limit: if query.queued { query.limit } else { query.limit - report.connections.len() },
            names: query.names,
            done: Box::new(move |page| {
                // The requester has given up.
                let _ = send.send(page);
            }),
        })));
        let page = tokio::time::timeout_at(end.into(), page).await;
        let Ok(Ok(ConnectionPage { connections, next })) = page else {
            // The shard is busy or stops.
            report.next = Some(Cursor(shard, slot));
            break;
        };
        report.connections.extend(connections.into_iter().map(|summary| row(summary, shard)));
        if query.queued {
            report.connections.sort_by_key(|row| std::cmp::Reverse(row.queued));
            report.connections.truncate(query.limit);
        }
        (shard, slot) = next.map_or((shard + 1, 0), |slot| (shard, slot));
    }
    report
}

fn row(summary: ConnectionSummary, shard: u32) -> ConnectionRow {
    ConnectionRow {
        client: summary.client,
        at: Some(Cursor(shard, summary.slot)),
        user: summary.user,
        address: summary.address.map(|address| address.to_string()),
        transport: summary.transport.to_owned(),
        protocol: summary.protocol.to_owned(),
        backend: summary.is_backend,
        since: summary.since,
        queued: summary.queued as u64,
        received: summary.tcp.map(|tcp| tcp.received),
        sent: summary.tcp.map(|tcp| tcp.acknowledged),
        rtt: summary.tcp.map(|tcp| f64::from(tcp.rtt) / 1e6),
        subscriptions: summary.subscriptions as u64,
        labels: summary.labels,
        channels: summary.names,
    }
}

#[cfg(test)]
mod tests {
    use tidings_config::Config;

    use super::*;
    use tidings_settings as settings;

    #[tokio::test]
    async fn a_page_ends_in_time_and_names_the_place_when_a_shard_does_not_respond() {
        // The shard is not started.
        let prepared = tidings_shard::prepare(1, settings::shard_limits(&Config::default(), 1));
        let shards = Shards::new(&prepared.expect("an event queue"), Arc::default());
        let began = Instant::now();
        let query = ConnectionsQuery { queued: true, limit: 10, ..ConnectionsQuery::default() };
        let report = page(&shards, &query, Cursor(0, 0)).await;
        assert_eq!((report.connections.len(), report.next), (0, Some(Cursor(0, 0))));
        assert!(began.elapsed() >= SCAN_TIME);
    }
}
