//! The routes of the HTTP port, and the handlers of the page, readiness and metrics.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router as Routes};
use serde_json::json;
use tidings_http::{AddressSource, Peer, ReservePaths};
use tidings_page::{self as page, Depth, ServerState};
use tidings_table_service as tables;

use super::{HttpServices, transport};
use crate::api::{self, ApiGuard};
use crate::pusher::PusherBackend;
use crate::readiness::{NotReady, Readiness};
use tidings_config::Config;
use tidings_metrics::{Format, MetricsRegistry};

/// The paths that the reserve of the HTTP port serves, see [`tidings_http::RESERVE`].
pub(crate) fn reserve_paths(config: &Config) -> ReservePaths {
    let own = [config.websocket.handler_prefix.as_str(), config.uni_websocket.handler_prefix.as_str()];
    let websockets = WEBSOCKETS.into_iter().chain(own).map(str::to_owned);
    ReservePaths { probes: &["/health", "/ready", "/metrics"], websockets: websockets.collect() }
}

/// The beginnings of the paths of WebSockets.
const WEBSOCKETS: [&str; 7] = [
    "/connection/websocket",
    "/connection/uni_websocket",
    "/stomp",
    "/mqtt",
    "/app/",
    "/tables/ws",
    "/parser/ws",
];

/// The body of the response to a request for a path that does not exist: on the HTTP port, on the HTTP port beside an
/// internal port, and on the internal port.
const NOT_FOUND: &str = "not found; there are /, /health, /ready and /metrics\n";
const NOT_FOUND_ON_PUBLIC_PORT: &str = "not found; there is /\n";
const NOT_FOUND_ON_INTERNAL_PORT: &str = "not found; there are /health, /ready and /metrics\n";

/// The state of the handlers.
struct Site {
    services: Arc<HttpServices>,
    /// The body of the response to a request for a path that does not exist on the HTTP port.
    not_found: &'static str,
    registry: Arc<MetricsRegistry>,
    /// Checks requests for `/metrics`, where they require an API key.
    guard: ApiGuard,
}

/// The paths of the HTTP port, and those of the internal port if there is one (`internal.listen`).
pub(crate) fn routes(
    services: &Arc<HttpServices>,
    registry: &Arc<MetricsRegistry>,
    tables: Option<&Arc<tables::Service>>,
    admin: Routes,
) -> (Routes, Option<Routes>) {
    let has_internal_port = !services.config.load().internal.listen.is_empty();
    let site = Arc::new(Site {
        services: Arc::clone(services),
        not_found: if has_internal_port { NOT_FOUND_ON_PUBLIC_PORT } else { NOT_FOUND },
        registry: Arc::clone(registry),
        guard: ApiGuard::new(&services.api),
    });
    let backend = PusherBackend {
        apps: Arc::clone(&services.pusher),
        config: services.config.clone(),
        router: Arc::clone(&services.api.router),
        nodes: Arc::clone(&services.api.nodes),
    };
    let pusher = tidings_pusher_api::routes(Arc::clone(&services.pusher), Arc::new(backend));
    let mut public = public(&site).merge(transport::routes(services)).merge(pusher);
    if let Some(tables) = tables {
        public = tables::pages(tables, public.merge(tables::routes(tables)));
    }
    if has_internal_port {
        (public, Some(with_fallback(operation(&site).merge(admin), NOT_FOUND_ON_INTERNAL_PORT)))
    } else {
        (public.merge(operation(&site)).merge(admin), None)
    }
}

/// The page, and the response to requests for paths that do not exist.
fn public(site: &Arc<Site>) -> Routes {
    let routes = Routes::new()
        .route("/", get(home))
        .route("/parser/", get(parser))
        .route("/tables/{table}", get(async |headers: HeaderMap| page::table(&headers, Depth::One)))
        .route("/parser/share/{table}", get(async |headers: HeaderMap| page::table(&headers, Depth::Two)))
        .route("/assets/{name}", get(asset))
        .route("/connection/address", get(client_address))
        .with_state(Arc::clone(site));
    with_fallback(routes, site.not_found)
}

/// The paths for operators and backends.
fn operation(site: &Arc<Site>) -> Routes {
    Routes::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(only_get)
        .with_state(Arc::clone(site))
        .merge(api::routes(&site.services.config.load().http_api, &site.services.api))
}

fn with_fallback(routes: Routes, text: &'static str) -> Routes {
    routes.fallback(async move || not_found(text)).method_not_allowed_fallback(only_get)
}

async fn only_get() -> impl IntoResponse {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")], "only GET and HEAD are supported here\n")
}

async fn home(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    page::home(&state(&site.services, &site.services.config.load()), &headers, Depth::Root)
}

async fn parser(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    page::home(&state(&site.services, &site.services.config.load()), &headers, Depth::One)
}

/// The state that the page shows.
fn state<'a>(services: &'a HttpServices, config: &'a Config) -> ServerState<'a> {
    let shards = &services.shards;
    let router = &services.api.router;
    ServerState {
        config,
        announcements: &services.announcements,
        readiness: match services.readiness.check() {
            Readiness::Ready(took) => Ok(took),
            Readiness::NotReady(NotReady { reason, .. }) => Err(reason),
        },
        is_broker_up: router.down_reason().is_none(),
        uptime: services.lifecycle.uptime(),
        connections: shards.connections() as u64,
        subscriptions: shards.sum(|m| &m.subscriptions),
        channels: router.topics() as u64,
        deliveries: shards.sum(|m| &m.deliveries),
    }
}

async fn asset(State(site): State<Arc<Site>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    page::asset(&name, &headers).unwrap_or_else(|| not_found(site.not_found).into_response())
}

fn not_found(text: &'static str) -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, text)
}

/// The address of the client as limits and hooks use it, and its origin. `tidings doctor` compares it with the settings of the
/// proxy.
async fn client_address(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    let addresses = &site.services.shards.process().addresses;
    let source = peer.address_source(&headers, addresses);
    // The peer is then a proxy, whose address is not for its clients.
    let address = peer.client(&headers, addresses).filter(|_| source != AddressSource::Untrusted);
    let source = match source {
        AddressSource::Peer => "peer",
        AddressSource::ProxyHeader => "proxy_protocol",
        AddressSource::Headers => "headers",
        AddressSource::Untrusted => "untrusted",
    };
    let body = json!({"address": address, "source": source});
    ([(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn ready(State(site): State<Arc<Site>>) -> Response {
    let (status, body) = match site.services.readiness.check() {
        Readiness::Ready(took) => {
            (StatusCode::OK, json!({"ready": true, "canary_ms": took.as_secs_f64() * 1e3}))
        }
        Readiness::NotReady(NotReady { part, reason }) => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({"ready": false, "part": part, "reason": reason}))
        }
    };
    (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn metrics(State(site): State<Arc<Site>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if let Err(refusal) = site.guard.check_metrics(&parts).await {
        return refusal;
    }
    let format = Format::negotiate(&parts.headers);
    match site.registry.scrape(format) {
        Ok(body) => ([(CONTENT_TYPE, format.media_type()), (VARY, "accept")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n").into_response()
        }
    }
}
