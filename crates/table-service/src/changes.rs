//! Changes of rows over HTTP: appends, replacements and removals by key, for backends with the owner's secret.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tidings_table_live::Counts;

use super::Service;
use super::append_limiter;
use super::failure::Failure;
use super::http::{HttpResult, JSON, ServiceState, end_span, request_span, respond};
use super::room::RoomRequest;
use super::rows::{AppendReport, Rows};
use super::session::blocking;

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Append,
    Upsert,
    Remove,
}

/// The query of a request with rows.
#[derive(Deserialize)]
pub(super) struct RowsQuery {
    mode: Option<String>,
}

pub(super) async fn post(
    State(service): ServiceState,
    Path(id): Path<String>,
    query: Query<RowsQuery>,
    request: Request,
) -> Response {
    let change = match query.mode.as_deref() {
        None | Some("append") => Ok(Change::Append),
        Some("upsert") => Ok(Change::Upsert),
        Some(_) => Err(Failure::bad("mode must be append or upsert")),
    };
    change_rows(&service, &id, change, request).await
}

pub(super) async fn delete(
    State(service): ServiceState,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    change_rows(&service, &id, Ok(Change::Remove), request).await
}

async fn change_rows(
    service: &Arc<Service>,
    id: &str,
    change: Result<Change, Failure>,
    request: Request,
) -> Response {
    let (parts, mut body) = request.into_parts();
    let name = if matches!(change, Ok(Change::Remove)) { "table remove" } else { "table append" };
    let span = request_span(service, name, id, &parts.headers);
    let answer = match change {
        Ok(change) => take_rows(service, id, change, &parts.headers, &mut body).await,
        Err(failure) => Err(failure),
    };
    end_span(span, &answer);
    if answer.is_err() {
        append_limiter::drain(&parts.headers, &mut body).await;
    }
    respond(answer)
}

/// Reads the rows or keys of a request and applies them.
async fn take_rows(
    service: &Arc<Service>,
    id: &str,
    change: Change,
    headers: &HeaderMap,
    body: &mut Body,
) -> HttpResult {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secret = bearer.and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim().to_owned())
    });
    let secret = secret
        .ok_or_else(|| Failure::new(401, "the owner's secret is needed: Authorization: Bearer SECRET"))?;
    let id = id.parse().map_err(|_| Failure::unknown())?;
    // The rows are read only after the permission is checked.
    service.request(id, |reply| RoomRequest::CheckAppend { secret: secret.clone(), reply }).await??;
    append_limiter::check_encoding(headers)?;
    let is_json = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/json"));
    let (body, held) = service.arrivals.take(headers, body).await?;
    let rows = match (change, is_json) {
        (Change::Remove, _) => blocking(move || Rows::keys_from_json(&body, Some(held))).await??,
        (_, true) => blocking(move || Rows::from_json(&body, Some(held))).await??,
        (_, false) => Rows::lines(body, Some(held)),
    };
    let rows = if change == Change::Upsert { rows.replacing() } else { rows };
    let rows = Arc::new(rows);
    let AppendReport { rows: appended, changes, size } = service
        .request(id, |reply| RoomRequest::Append { rows: Arc::clone(&rows), secret: secret.clone(), reply })
        .await??;
    service.counters.bytes.fetch_add(rows.size(), Ordering::Relaxed);
    let report = match changes {
        Some(Counts { removed, .. }) if change == Change::Remove => json!({"removed": removed, "size": size}),
        Some(Counts { appended, updated, .. }) => {
            json!({"appended": appended, "updated": updated, "size": size})
        }
        // The changes of rows that another node overtook are not counted.
        None if change != Change::Append => json!({"size": size}),
        None => json!({"appended": appended, "size": size}),
    };
    Ok((JSON, format!("{report}\n")).into_response())
}
