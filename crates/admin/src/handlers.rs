//! The requests of the page for data, and its orders.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::access::not_found;
use crate::merge::{self, Responses};
use crate::merge_tables;
use crate::report::{
    ChannelsQuery, ConnectionsQuery, LogLine, MAX_NAMES, MAX_ROWS, NodeQuery, Overview, StoredTablesQuery,
};
use crate::{Admin, AdminBackend, bodies, json as json_response};

/// Longest body of an order in bytes.
const MAX_BODY: usize = 1 << 20;
/// The methods of the server API that the page uses.
const METHODS: [&str; 6] =
    ["publish", "history", "history_remove", "presence", "presence_stats", "disconnect"];

impl<B: AdminBackend> Admin<B> {
    /// The responses of the nodes, or of the node `only`.
    async fn survey_nodes(&self, query: NodeQuery, only: Option<&str>) -> Responses {
        let began = Instant::now();
        let query = serde_json::to_value(query).expect("plain values");
        let responses = self.backend.collect(query, only).await;
        self.counters.survey(began.elapsed(), !responses.missing.is_empty());
        responses
    }

    /// Admits a request with a body, and receives the body.
    async fn receive(&self, request: Request) -> Result<Received, Response> {
        let (parts, body) = request.into_parts();
        self.admit(&parts).await?;
        let body = bodies::read(body, MAX_BODY).await?;
        Ok(Received { body, address: self.backend.address(&parts) })
    }

    /// As [`Self::receive`], and parses the body as a query.
    async fn receive_query<Q: DeserializeOwned>(&self, request: Request) -> Result<Q, Response> {
        let Received { body, .. } = self.receive(request).await?;
        serde_json::from_slice(&body).map_err(|error| invalid(&error))
    }

    /// As [`Self::receive`], and logs what an operator does.
    async fn receive_order(&self, request: Request, order: &str, object: &str) -> Result<Received, Response> {
        let received = self.receive(request).await?;
        let address = received.address.map(|address| address.to_string());
        tracing::info!(order, object, address, "order on the admin page");
        Ok(received)
    }
}

/// A request that was admitted.
struct Received {
    body: Bytes,
    /// The address of its client, if it is known.
    address: Option<IpAddr>,
}

#[derive(Deserialize)]
pub(crate) struct After {
    #[serde(default)]
    after: u64,
}

/// `GET overview?after=TIME`: the state of all nodes, with samples after a time.
pub(crate) async fn overview<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    Query(After { after }): Query<After>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    if let Err(rejection) = admin.admit(&parts).await {
        return rejection;
    }
    let (reports, missing) =
        admin.survey_nodes(NodeQuery::Overview { after }, None).await.parse::<Overview>();
    let mut nodes: Vec<_> = reports
        .into_iter()
        .enumerate()
        .map(|(at, (uid, name, state))| json!({"uid": uid, "name": name, "own": at == 0, "state": state}))
        .collect();
    nodes.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    json_response(&json!({"nodes": nodes, "missing": missing}))
}

/// `POST connections`: a page of connections of all nodes, or of one.
pub(crate) async fn connections<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    request: Request,
) -> Response {
    #[derive(Deserialize)]
    struct Body {
        #[serde(flatten)]
        query: ConnectionsQuery,
        node: Option<String>,
    }
    let Body { mut query, node } = match admin.receive_query(request).await {
        Ok(body) => body,
        Err(rejection) => return rejection,
    };
    query.limit = query.limit.clamp(1, MAX_ROWS);
    query.names = query.names.min(MAX_NAMES);
    let (limit, by_queue) = (query.limit, query.queued);
    let is_first = query.cursors.is_empty();
    let known: Vec<_> = query.cursors.keys().cloned().collect();
    let mut responses = admin.survey_nodes(NodeQuery::Connections(query), node.as_deref()).await;
    // A later page continues on the nodes that are not complete.
    responses.reports.retain(|(uid, ..)| is_first || known.contains(uid));
    let (reports, missing) = responses.parse();
    json_response(&merge::connections(reports, missing, limit, by_queue))
}

/// `POST channels`: a page of channels of all nodes.
pub(crate) async fn channels<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    request: Request,
) -> Response {
    let mut query: ChannelsQuery = match admin.receive_query(request).await {
        Ok(query) => query,
        Err(rejection) => return rejection,
    };
    let limit = query.limit.clamp(1, MAX_ROWS);
    // One more shows whether another page follows.
    query.limit = limit + 1;
    let (reports, missing) = admin.survey_nodes(NodeQuery::Channels(query), None).await.parse();
    json_response(&merge::channels(reports, missing, limit))
}

/// `GET log`: the last warnings and errors of all nodes.
pub(crate) async fn log<B: AdminBackend>(State(admin): State<Arc<Admin<B>>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if let Err(rejection) = admin.admit(&parts).await {
        return rejection;
    }
    let (reports, missing) = admin.survey_nodes(NodeQuery::Log {}, None).await.parse::<Vec<LogLine>>();
    let mut lines: Vec<_> = reports
        .into_iter()
        .flat_map(|(_, name, lines)| lines.into_iter().map(move |line| (name.clone(), line)))
        .collect();
    lines.sort_by_key(|(_, line)| std::cmp::Reverse(line.at));
    lines.truncate(MAX_ROWS);
    let lines: Vec<_> = lines.into_iter().map(|(node, line)| json!({"node": node, "line": line})).collect();
    json_response(&json!({"lines": lines, "missing": missing}))
}

/// `GET tables`: the open tables of all nodes.
pub(crate) async fn tables<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    if let Err(rejection) = admin.admit(&parts).await {
        return rejection;
    }
    let (reports, missing) = admin.survey_nodes(NodeQuery::Tables {}, None).await.parse();
    json_response(&merge_tables::open_tables(reports, missing, MAX_ROWS))
}

/// `POST tables/stored`: a page of the stored tables of all nodes.
pub(crate) async fn stored_tables<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    request: Request,
) -> Response {
    let mut query: StoredTablesQuery = match admin.receive_query(request).await {
        Ok(query) => query,
        Err(rejection) => return rejection,
    };
    query.limit = query.limit.clamp(1, MAX_ROWS);
    let limit = query.limit;
    let (reports, missing) = admin.survey_nodes(NodeQuery::StoredTables(query), None).await.parse();
    json_response(&merge_tables::stored_tables(reports, missing, limit))
}

/// `GET namespaces`: the options of channels.
pub(crate) async fn namespaces<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    match admin.admit(&parts).await {
        Ok(()) => json_response(&json!({"namespaces": admin.backend.namespaces()})),
        Err(rejection) => rejection,
    }
}

/// `POST command/METHOD`: a command of the server API.
pub(crate) async fn command<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    let Some(method) = METHODS.into_iter().find(|known| *known == method) else { return not_found() };
    let received = match method {
        "publish" | "history_remove" | "disconnect" => admin.receive_order(request, method, "").await,
        _ => admin.receive(request).await,
    };
    let Received { body, address } = match received {
        Ok(received) => received,
        Err(rejection) => return rejection,
    };
    match admin.backend.command(address, method, body).await {
        Ok(reply) => reply,
        Err(error) => invalid(&error),
    }
}

/// `POST tables/{id}/delete`: deletes a table.
pub(crate) async fn delete_table<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let address = match admin.receive_order(request, "delete_table", &id).await {
        Ok(received) => received.address,
        Err(rejection) => return rejection,
    };
    match admin.backend.delete_table(address, &id).await {
        Ok(()) => json_response(&json!({})),
        Err(reason) => (StatusCode::CONFLICT, format!("{reason}\n")).into_response(),
    }
}

/// `GET tail?channel=NAME`: the publications of a channel as server-sent events.
pub(crate) async fn tail<B: AdminBackend>(State(admin): State<Arc<Admin<B>>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match admin.admit(&parts).await {
        Ok(()) => admin.backend.tail(&parts).await,
        Err(rejection) => rejection,
    }
}

/// `GET /admin/`: the page.
pub(crate) async fn page<B: AdminBackend>(State(admin): State<Arc<Admin<B>>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match admin.admit_files(&parts).await {
        Ok(()) => tidings_page::admin(&parts.headers),
        Err(rejection) => rejection,
    }
}

/// `GET /admin/assets/NAME`: a file of the page.
pub(crate) async fn asset<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    match admin.admit_files(&parts).await {
        Ok(()) => tidings_page::admin_asset(&name, &parts.headers).unwrap_or_else(not_found),
        Err(rejection) => rejection,
    }
}

/// `GET /admin`: the folder of the page, relative to a proxy's path prefix.
pub(crate) async fn folder<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    match admin.admit_files(&parts).await {
        Ok(()) => (StatusCode::PERMANENT_REDIRECT, [("location", "admin/")]).into_response(),
        Err(rejection) => rejection,
    }
}

fn invalid(error: &serde_json::Error) -> Response {
    (StatusCode::BAD_REQUEST, format!("the body is not a valid request: {error}\n")).into_response()
}
