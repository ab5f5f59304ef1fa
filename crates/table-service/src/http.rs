//! HTTP endpoints: WebSocket handshakes, pages as JSON, downloads.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router as Routes;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use tidings_otel::{Span, SpanKind};
use tidings_table::{Export, Format, View};

use super::Service;
use super::access::Connection;
use super::broadcast::ViewFormat;
use super::changes;
use super::checks;
use super::download;
use super::failure::Failure;
use super::message::{self, PageText};
use super::page;
use super::room::{RoomRequest, Snapshot};
use super::session::{self, ConnectRequest, blocking};
use super::view_rows::ViewRows;

/// The headers of a JSON response.
pub(super) const JSON: [(axum::http::HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];

pub(super) type HttpResult = Result<Response, Failure>;

/// The response of a handler, or its error as JSON.
pub(super) fn respond(answer: HttpResult) -> Response {
    let failure = match answer {
        Ok(response) => return response,
        Err(failure) => failure,
    };
    let status = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({"error": {"code": failure.code, "message": failure.message}});
    let answer = (status, JSON, format!("{body}\n"));
    match status {
        StatusCode::UNAUTHORIZED => ([(WWW_AUTHENTICATE, "Bearer")], answer).into_response(),
        _ => answer.into_response(),
    }
}

/// The routes of tables, without those of the page. [`pages`] wraps around them.
pub fn routes(service: &Arc<Service>) -> Routes {
    Routes::new()
        .route("/tables/ws", get(new_table))
        .route("/tables/ws/{table}", get(table))
        .route("/parser/ws", get(new_article))
        .route("/parser/ws/{table}", get(article))
        .route("/tables/{table}/download", get(download))
        .route("/tables/{table}/rows", post(changes::post).delete(changes::delete))
        .with_state(Arc::clone(service))
}

/// Handles `/tables/{uuid}.json` before the router: to the router it has the same path as `/tables/{uuid}`.
pub fn pages(service: &Arc<Service>, routes: Routes) -> Routes {
    routes.layer(middleware::from_fn_with_state(Arc::clone(service), page))
}

/// The query of a handshake.
#[derive(Default, Deserialize)]
struct ConnectQuery {
    owner: Option<String>,
    /// The kind of program that connects: `cli`.
    client: Option<String>,
}

pub(super) type ServiceState = State<Arc<Service>>;

async fn new_table(
    State(service): ServiceState,
    Query(query): Query<ConnectQuery>,
    request: Request,
) -> Response {
    upgrade(service, request, ViewFormat::Tables, None, ConnectQuery { owner: None, ..query })
}

async fn table(
    State(service): ServiceState,
    Path(id): Path<String>,
    Query(query): Query<ConnectQuery>,
    request: Request,
) -> Response {
    upgrade(service, request, ViewFormat::Tables, Some(id), query)
}

async fn new_article(State(service): ServiceState, request: Request) -> Response {
    upgrade(service, request, ViewFormat::Article, None, ConnectQuery::default())
}

async fn article(State(service): ServiceState, Path(id): Path<String>, request: Request) -> Response {
    upgrade(service, request, ViewFormat::Article, Some(id), ConnectQuery::default())
}

/// Responds to a handshake and serves the connection.
fn upgrade(
    service: Arc<Service>,
    request: Request,
    form: ViewFormat,
    id: Option<String>,
    query: ConnectQuery,
) -> Response {
    let visitor = service.access.visitor(&request);
    let is_cli = query.client.as_deref() == Some("cli");
    let entry = ConnectRequest { form, id, secret: query.owner, is_cli, visitor };
    match service.access.accept(request) {
        Err(refusal) => refusal,
        Ok((response, pending)) => {
            tokio::spawn(async move {
                match pending.await {
                    Ok(Connection { stream, received, permit }) => {
                        session::serve(service, stream, received.into(), entry).await;
                        drop(permit);
                    }
                    Err(error) => tracing::debug!(%error, "a WebSocket handshake did not complete"),
                }
            });
            response
        }
    }
}

/// The query of a page.
#[derive(Deserialize)]
struct PageQuery {
    page: Option<u64>,
    page_size: Option<u64>,
}

async fn page(State(service): ServiceState, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let id = path.strip_prefix("/tables/").and_then(|rest| rest.strip_suffix(".json"));
    let Some(id) = id.filter(|id| !id.contains('/')) else { return next.run(request).await };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let id = id.to_owned();
    let span = request_span(&service, "table page", &id, request.headers());
    let answer = match Query::<PageQuery>::try_from_uri(request.uri()) {
        Ok(Query(query)) => page_of(&service, &id, &query).await,
        Err(_) => Err(Failure::bad("page and page_size are numbers")),
    };
    end_span(span, &answer);
    respond(answer)
}

/// The timeout of a page while the table is being read, and the interval of checks.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A page of the current view. The shared view does not change.
async fn page_of(service: &Arc<Service>, id: &str, query: &PageQuery) -> HttpResult {
    let size = query.page_size.map(|size| checks::rows("page_size", Some(size))).transpose()?;
    let deadline = Instant::now() + READ_TIMEOUT;
    let (view, info, number, pages) = loop {
        let Snapshot { view, mut info, .. } = snapshot(service, id).await?;
        info.shown.page_size = size.unwrap_or(info.shown.page_size);
        let number = query.page.unwrap_or(info.shown.page);
        let pages = info.shown.pages(view.total());
        // A table that was not in memory is being read, so the page may become available.
        if number <= pages || !info.loading || Instant::now() >= deadline {
            break (view, info, number, pages);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    };
    if number == 0 || query.page.is_some() && number > pages {
        return Err(Failure::no_page(number, pages));
    }
    let _permit = service.queries.window(&view.reading().summary()).await;
    let text = blocking(move || {
        let number = number.min(pages);
        let page = page::rows_of(&view, &info.shown, number, 0..usize::MAX)?;
        let text = PageText::new(number, &page, view.header()?.as_ref());
        Ok::<_, Failure>(message::view(&info, &text, true))
    });
    Ok((JSON, text.await??).into_response())
}

async fn snapshot(service: &Arc<Service>, id: &str) -> Result<Snapshot, Failure> {
    let id = id.parse().map_err(|_| Failure::unknown())?;
    service.request(id, RoomRequest::Snapshot).await?
}

/// A snapshot of a complete file.
pub(super) async fn complete_snapshot(service: &Arc<Service>, id: &str) -> Result<Snapshot, Failure> {
    let deadline = Instant::now() + READ_TIMEOUT;
    loop {
        let snapshot = snapshot(service, id).await?;
        if !snapshot.info.loading {
            return Ok(snapshot);
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(503, "the file is still being uploaded; try again when it is complete"));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The query of a download.
#[derive(Deserialize)]
struct DownloadQuery {
    view: Option<String>,
}

async fn download(
    State(service): ServiceState,
    Path(id): Path<String>,
    Query(DownloadQuery { view }): Query<DownloadQuery>,
    request: Request,
) -> Response {
    let span = request_span(&service, "table download", &id, request.headers());
    let limit = service.access.download_limit(&service.access.visitor(&request));
    let answer = download_of(&service, &id, view.as_deref(), limit).await;
    end_span(span, &answer);
    respond(answer)
}

/// The response to a download; its body follows.
async fn download_of(
    service: &Arc<Service>,
    id: &str,
    view: Option<&str>,
    limit: Option<(IpAddr, usize)>,
) -> HttpResult {
    let snapshot = complete_snapshot(service, id).await?;
    let name = &snapshot.info.name;
    match view {
        None if snapshot.view.reading().overlay().is_some() => current_rows(service, id, snapshot, limit),
        None => {
            let name = if name.is_empty() { format!("{id}.tsv") } else { name.clone() };
            let (length, body) = download::original(&snapshot).await?;
            let headers = [
                (CONTENT_TYPE, "application/octet-stream".to_owned()),
                (CONTENT_DISPOSITION, attachment(&name)),
                (axum::http::header::CONTENT_LENGTH, length.to_string()),
            ];
            Ok((headers, body).into_response())
        }
        Some(kind @ ("csv" | "tsv")) => {
            let export = Export {
                format: if kind == "csv" { Format::Csv } else { Format::Tsv },
                disarm_formulas: service.options.disarm_formulas,
            };
            rows_as(service, id, snapshot, export, limit)
        }
        Some(_) => Err(Failure::bad("view must be csv or tsv")),
    }
}

/// The rows of a table with a key, which its file has as a log of changes: all of them as they are now, in the order of
/// their places.
fn current_rows(
    service: &Arc<Service>,
    id: &str,
    snapshot: Snapshot,
    limit: Option<(IpAddr, usize)>,
) -> HttpResult {
    let reading = Arc::clone(snapshot.view.reading());
    let format = if reading.dialect().syntax.delimiter() == b'\t' { Format::Tsv } else { Format::Csv };
    let view = ViewRows::File(Arc::new(View::plain(&reading, false)));
    rows_as(service, id, Snapshot { view, ..snapshot }, format.into(), limit)
}

/// The rows of a view in this format.
fn rows_as(
    service: &Arc<Service>,
    id: &str,
    snapshot: Snapshot,
    export: Export,
    limit: Option<(IpAddr, usize)>,
) -> HttpResult {
    let (kind, media) = match export.format {
        Format::Csv => ("csv", "text/csv; charset=utf-8"),
        Format::Tsv => ("tsv", "text/tab-separated-values; charset=utf-8"),
    };
    let name = &snapshot.info.name;
    let stem = name.rsplit_once('.').map_or(&**name, |(stem, _)| stem);
    let stem = if stem.is_empty() { id } else { stem };
    let headers =
        [(CONTENT_TYPE, media.to_owned()), (CONTENT_DISPOSITION, attachment(&format!("{stem}.{kind}")))];
    Ok((headers, download::view(service, snapshot, export, limit)?).into_response())
}

/// `Content-Disposition` for a file name (RFC 6266): in ASCII for old clients, and in full (RFC 8187).
fn attachment(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    let ascii: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let mut text = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// A span of a request about a table, in the trace of its sender.
pub(super) fn request_span(service: &Service, name: &'static str, id: &str, headers: &HeaderMap) -> Span {
    let tracer = &service.observers.tracer;
    let mut span = tracer.span(name, SpanKind::Server, tracer.context(headers));
    span.set_text("tidings.table", id);
    span
}

/// Sets the status of a response.
pub(super) fn end_span(mut span: Span, answer: &HttpResult) {
    match answer {
        Ok(response) => span.set("http.response.status_code", u64::from(response.status().as_u16())),
        Err(failure) => {
            span.set("http.response.status_code", u64::from(failure.code));
            span.fail(&failure.message);
        }
    }
}
