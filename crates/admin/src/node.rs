//! The responses of this node to queries.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::rates::{Counts, Rates};
use crate::recent_log;
use crate::report::{
    ChannelsQuery, ChannelsReport, ConnectionsQuery, ConnectionsReport, MAX_NAMES, MAX_ROWS, NodeQuery,
    Overview, StoredTablesQuery, StoredTablesReport, TableRow,
};

/// What a node reports about itself.
pub trait NodeState: Send + Sync + 'static {
    /// Numbers for the samples of rates.
    fn counts(&self) -> Counts;

    /// The state, without samples and counts of the log.
    fn overview(&self) -> Overview;

    /// Connections; at most the limit of the query.
    fn connections(&self, query: ConnectionsQuery) -> BoxFuture<'_, ConnectionsReport>;

    /// Channels with subscribers on this node.
    fn channels(&self, query: &ChannelsQuery) -> ChannelsReport;

    /// Tables that are open on this node; at most [`MAX_ROWS`].
    fn tables(&self) -> BoxFuture<'_, Vec<TableRow>>;

    /// Tables in the store of this node; at most the limit of the query.
    fn stored_tables(&self, query: StoredTablesQuery) -> BoxFuture<'_, StoredTablesReport>;
}

/// The response to a query. A query of an unknown kind gets `null`.
pub fn respond<'a>(state: &'a dyn NodeState, rates: &'a Rates, query: Value) -> BoxFuture<'a, Value> {
    async move {
        let value = match serde_json::from_value(query) {
            Ok(NodeQuery::Overview { after }) => {
                let overview = Overview {
                    samples: rates.after(after),
                    warnings: recent_log::counts(),
                    ..state.overview()
                };
                serde_json::to_value(overview)
            }
            Ok(NodeQuery::Connections(mut query)) => {
                query.limit = query.limit.min(MAX_ROWS);
                query.names = query.names.min(MAX_NAMES);
                serde_json::to_value(state.connections(query).await)
            }
            Ok(NodeQuery::Channels(mut query)) => {
                query.limit = query.limit.min(MAX_ROWS + 1);
                serde_json::to_value(state.channels(&query))
            }
            Ok(NodeQuery::Log {}) => serde_json::to_value(recent_log::lines()),
            Ok(NodeQuery::Tables {}) => serde_json::to_value(state.tables().await),
            Ok(NodeQuery::StoredTables(mut query)) => {
                query.limit = query.limit.min(MAX_ROWS);
                serde_json::to_value(state.stored_tables(query).await)
            }
            Err(_) => Ok(Value::Null),
        };
        value.unwrap_or_default()
    }
    .boxed()
}
