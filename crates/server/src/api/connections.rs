//! `connections`: the connections of a user, or in a channel, on all nodes, page by page.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tidings_admin::report::{ConnectionsQuery, MAX_ROWS, NodeQuery};
use tidings_admin::{Responses, connections_page};
use tidings_api::command::Connections;
use tidings_api::reply::ConnectionJson;
use tidings_api::{ApiError, CommandReply, CommandResult};
use tidings_cluster::{ClusterError, NodeReporter};
use tidings_tags_filter::Filter;
use tidings_wire::code;

use super::Services;
use super::arguments::check_channel;
use crate::connections::LocalConnections;

/// Connections of a page without `limit`.
const DEFAULT_LIMIT: usize = 100;

/// This node's answer to the query; other nodes answer with all of their reports.
struct Reporter(LocalConnections);

impl NodeReporter for Reporter {
    fn report(&self, query: Value) -> BoxFuture<'_, Value> {
        async move {
            match serde_json::from_value(query) {
                Ok(NodeQuery::Connections(query)) => {
                    serde_json::to_value(self.0.page(&query).await).unwrap_or_default()
                }
                _ => Value::Null,
            }
        }
        .boxed()
    }
}

/// A page of connections of all nodes.
///
/// # Errors
/// An invalid request, and the nodes that have not responded in time.
pub(super) async fn list(services: &Services, request: Connections) -> CommandReply {
    let Connections { user, client, channel, label_filter, limit, cursor, expression } = request;
    if !expression.is_empty() {
        let message = format!(
            "{}: expression; filter by user, client, channel or label_filter",
            code::NOT_AVAILABLE.text
        );
        return Err(ApiError { code: code::NOT_AVAILABLE.number, message: message.into() });
    }
    let cursors = match &*cursor {
        "" => Default::default(),
        text => BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| ApiError::bad_request("cursor must be that of an earlier result"))?,
    };
    if !channel.is_empty() {
        check_channel(services, &channel)?;
    }
    let label_filter = label_filter.map(Value::Object);
    let labels = label_filter.as_ref().map(|json| Filter::from_json(json.to_string().as_bytes())).transpose();
    let labels = labels.map_err(|error| ApiError::bad_request(format!("label_filter: {error}")))?;
    let filter = |text: String| Some(text).filter(|text| !text.is_empty());
    let limit = if limit == 0 { DEFAULT_LIMIT } else { limit.min(MAX_ROWS) };
    let is_first = cursor.is_empty();
    let query = ConnectionsQuery {
        user: filter(user),
        client: filter(client),
        channel: filter(channel),
        label_filter,
        cursors,
        limit,
        ..ConnectionsQuery::default()
    };
    let known = query.cursors.clone();
    let local = LocalConnections::new(&services.nodes, services.router.shards());
    let query = serde_json::to_value(NodeQuery::Connections(query)).expect("plain values");
    let collected = services.nodes.collect(query, None, &Reporter(local)).await;
    let mut responses = Responses { reports: collected.reports, missing: collected.missing };
    responses.reports.retain(|(uid, ..)| is_first || known.contains_key(uid));
    let page = connections_page(responses, limit);
    if !page.missing.is_empty() {
        return Err(ClusterError::Timeout(page.missing.join(", ")).into());
    }
    // Nodes of earlier versions ignore `label_filter`.
    let is_selected =
        |labels_of: &[(String, String)]| labels.as_ref().is_none_or(|filter| filter.matches(labels_of));
    let rows = page.connections.into_iter().filter(|row| is_selected(&row.connection.labels));
    let connections = rows.map(|row| {
        let (node, row) = (row.node, row.connection);
        let connection = ConnectionJson {
            user: row.user,
            transport: row.transport,
            protocol: row.protocol,
            address: row.address,
            since: row.since,
            queued_bytes: row.queued,
            num_subs: row.subscriptions,
            labels: row.labels.into_iter().collect(),
            node,
        };
        (row.client, connection)
    });
    let connections = connections.collect();
    let cursor = match page.next.is_empty() {
        true => String::new(),
        false => BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&page.next).expect("text keys")),
    };
    Ok(CommandResult::Connections { connections, cursor })
}
