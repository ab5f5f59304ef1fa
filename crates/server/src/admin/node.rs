//! What this node reports about itself.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tidings_admin::report::{
    ChannelsQuery, ChannelsReport, ConnectionsQuery, ConnectionsReport, Overview, StoredTableRow,
    StoredTablesQuery, StoredTablesReport, TableRow,
};
use tidings_admin::{Counts, NodeState};
use tidings_shard::CounterKey as _;
use tidings_table_service::{self as tables, OpenTable, StoredTable, TableSummary};
use tidings_wire::{Pattern, Topic};

use crate::connections::LocalConnections;
use crate::http::HttpServices;
use crate::inbound::InboundCounters;
use crate::process;
use crate::readiness::{NotReady, Readiness};

/// The state of this node.
pub(crate) struct LocalState {
    services: Arc<HttpServices>,
    inbound: Arc<InboundCounters>,
    tables: Option<Arc<tables::Service>>,
    connections: LocalConnections,
}

impl LocalState {
    pub(super) fn new(
        services: &Arc<HttpServices>,
        inbound: Arc<InboundCounters>,
        tables: Option<Arc<tables::Service>>,
    ) -> Self {
        let connections = LocalConnections::new(&services.api.nodes, &services.shards);
        Self { services: Arc::clone(services), inbound, tables, connections }
    }
}

impl NodeState for LocalState {
    fn counts(&self) -> Counts {
        let shards = &self.services.shards;
        Counts {
            publications: self.inbound.publications.load(Ordering::Relaxed),
            deliveries: shards.sum(|m| &m.deliveries),
            connections: shards.connections() as u64,
            cut: shards.sum(|m| &m.cut),
            cpu: process::cpu_time(),
            lag: self.services.readiness.canary.lag(),
        }
    }

    fn overview(&self) -> Overview {
        let (services, shards) = (&self.services, &self.services.shards);
        let router = &services.api.router;
        let not_ready = match services.readiness.check() {
            Readiness::Ready(_) => None,
            Readiness::NotReady(NotReady { part, reason }) => Some((part.to_owned(), reason)),
        };
        let protocols = tidings_session::Link::all()
            .map(|link| (link.label().to_owned(), shards.sum(|m| &m.sessions[link])))
            .filter(|(_, count)| *count > 0);
        Overview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: services.lifecycle.uptime().as_secs(),
            ready: not_ready.is_none(),
            not_ready,
            broker: router.broker().name().to_owned(),
            broker_down: router.down_reason(),
            connections: shards.connections() as u64,
            protocols: protocols.collect(),
            users: shards.sum(|m| &m.users),
            subscriptions: shards.sum(|m| &m.subscriptions),
            channels: router.subscribed_counts().0 as u64,
            memory: process::resident_bytes(),
            files: (process::open_files(), process::max_files()),
            queued: shards.process().queued.load(Ordering::Relaxed) as u64,
            stalled: shards.sum(|m| &m.stalled),
            tables: self.tables.as_ref().map(|tables| tables.stored()).unwrap_or_default(),
            ..Overview::default()
        }
    }

    fn connections(&self, query: ConnectionsQuery) -> BoxFuture<'_, ConnectionsReport> {
        async move { self.connections.page(&query).await }.boxed()
    }

    fn channels(&self, query: &ChannelsQuery) -> ChannelsReport {
        let text = &*query.text;
        let glob = match text {
            _ if text.contains(['*', '?', '[']) => text.to_owned(),
            _ => format!("*{text}*"),
        };
        let Ok(pattern) = Pattern::new(glob) else { return ChannelsReport::default() };
        let topics = self.services.api.router.topic_table().read();
        let (mut first, mut total) = (BinaryHeap::<(&str, u64)>::new(), 0);
        for (topic, count) in topics.subscribed() {
            let Topic::Channel(channel) = topic else { continue };
            let name = channel.as_str();
            let is_meant = match &query.name {
                Some(wanted) => wanted == name,
                None => text.is_empty() || pattern.matches(name),
            };
            if !is_meant {
                continue;
            }
            total += 1;
            if name > &*query.after || query.after.is_empty() {
                first.push((name, count));
                if first.len() > query.limit {
                    first.pop();
                }
            }
        }
        let channels = first.into_sorted_vec().into_iter().map(|(name, count)| (name.to_owned(), count));
        ChannelsReport { channels: channels.collect(), total }
    }

    fn tables(&self) -> BoxFuture<'_, Vec<TableRow>> {
        async move {
            let Some(tables) = &self.tables else { return Vec::new() };
            let open = tables.summaries(tidings_admin::report::MAX_ROWS).await;
            open.into_iter()
                .map(|table| match table {
                    OpenTable::Summary(TableSummary { id, name, size, rows, viewers }) => {
                        TableRow { id, name, size, rows, viewers, is_unresponsive: false }
                    }
                    OpenTable::Unresponsive { id } => {
                        TableRow { id, is_unresponsive: true, ..TableRow::default() }
                    }
                })
                .collect()
        }
        .boxed()
    }

    fn stored_tables(&self, query: StoredTablesQuery) -> BoxFuture<'_, StoredTablesReport> {
        async move {
            let Some(tables) = &self.tables else { return StoredTablesReport::default() };
            match tables.list_stored(&query.after, query.limit).await {
                Ok(page) => StoredTablesReport {
                    tables: page.tables.into_iter().map(stored_row).collect(),
                    next: page.next.map(|id| id.to_string()),
                    error: None,
                },
                Err(error) => StoredTablesReport { error: Some(error), ..StoredTablesReport::default() },
            }
        }
        .boxed()
    }
}

fn stored_row(table: StoredTable) -> StoredTableRow {
    let seconds = |used: SystemTime| Some(used.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs());
    StoredTableRow {
        id: table.id.to_string(),
        name: table.name,
        size: table.bytes,
        used: table.used.and_then(seconds),
    }
}
