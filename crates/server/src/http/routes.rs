//! What is answered to which request.

use std::sync::Arc;

use axum::Router as Routes;
use axum::extract::{Path, Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tidings_table_service as tables;

use super::host::{self, OwnHosts};
use super::page::{self, Depth};
use super::{HttpServices, Peer, Traffic, forwarded, transport};
use tidings_metrics::{Format, MetricsRegistry};
use crate::readiness::{NotReady, Readiness};

/// What a browser may do with an answer: nothing but show it; no script, no other host, no frame around it (CSP level
/// 3). The page has a policy of its own.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Set on every answer that does not say otherwise.
const HEADERS: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

struct Site {
    services: Arc<HttpServices>,
    registry: Arc<MetricsRegistry>,
}

/// The HTTP port's paths and what every answer wears. With hosts of its own, the server answers for no others: their
/// requests get 421.
pub(super) fn routes(
    services: &Arc<HttpServices>,
    registry: &Arc<MetricsRegistry>,
    traffic: &Arc<Traffic>,
    tables: Option<&Arc<tables::Service>>,
    own: Option<OwnHosts>,
    is_tls: bool,
) -> Routes {
    let mut routes = paths(services, registry);
    if let Some(tables) = tables {
        routes = tables::pages(tables, routes.merge(tables::routes(tables)));
    }
    if let Some(own) = own {
        routes = routes.layer(middleware::from_fn_with_state(own, only_own_hosts));
    }
    routes = routes.layer(middleware::from_fn(one_host));
    let dresses = Dress { services: Arc::clone(services), traffic: Arc::clone(traffic), is_tls };
    routes.layer(middleware::from_fn_with_state(Arc::new(dresses), dress))
}

/// What every request of a listener is given, and every answer wears.
struct Dress {
    services: Arc<HttpServices>,
    traffic: Arc<Traffic>,
    is_tls: bool,
}

impl Dress {
    /// Tells browsers not to come without TLS (RFC 6797 §6.1), where they came with it and by a name that is no other
    /// server's of the same machine as well.
    fn strict_transport(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let age = self.services.config.tls.hsts_max_age.as_secs();
        let host = headers.get(HOST)?.to_str().ok()?;
        let is_name = host::is_public_name(host);
        (self.is_tls && age > 0 && is_name).then(|| HeaderValue::from_str(&format!("max-age={age}")).ok())?
    }
}

fn paths(services: &Arc<HttpServices>, registry: &Arc<MetricsRegistry>) -> Routes {
    let site = Arc::new(Site { services: Arc::clone(services), registry: Arc::clone(registry) });
    Routes::new()
        .route("/", get(home))
        .route("/parser/", get(parser))
        .route("/tables/{table}", get(async |headers: HeaderMap| page::table(&headers, Depth::One)))
        .route("/parser/share/{table}", get(async |headers: HeaderMap| page::table(&headers, Depth::Two)))
        .route("/assets/{name}", get(asset))
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(numbers))
        .fallback(async || nothing())
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")], "only GET and HEAD are answered here\n")
        })
        .with_state(site)
        .merge(transport::routes(services))
        .merge(crate::api::routes(&services.config, &services.api))
}

async fn only_own_hosts(State(own): State<OwnHosts>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(other) = own.check(&parts) {
        let why = format!(
            "{other:?} is not this server: without a key it answers for localhost and loopback addresses alone; set \
             http_api.key to have it answer for other names\n"
        );
        tracing::debug!(host = other, "a request for another host was refused");
        return (StatusCode::MISDIRECTED_REQUEST, why).into_response();
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Refuses a request that does not name its host, or more than one.
async fn one_host(request: Request, next: Next) -> Response {
    match host::check_count(request.version(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

/// Counts an answer and puts on what every answer wears.
async fn dress(State(dress): State<Arc<Dress>>, mut request: Request, next: Next) -> Response {
    let Dress { services, traffic, is_tls } = &*dress;
    let peer = request.extensions().get::<Peer>().copied();
    let scheme = forwarded::scheme(*is_tls, peer, request.headers(), &services.shards.process().addresses);
    request.extensions_mut().insert(scheme);
    let strict = dress.strict_transport(request.headers());
    let mut answer = next.run(request).await;
    traffic.count_response(answer.status());
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return answer;
    }
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Some(strict) = strict {
        headers.insert(STRICT_TRANSPORT_SECURITY, strict);
    }
    answer
}

async fn home(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    page::home(&site.services, &headers, Depth::Root)
}

async fn parser(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    page::home(&site.services, &headers, Depth::One)
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    page::asset(&name, &headers).unwrap_or_else(|| nothing().into_response())
}

fn nothing() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "nothing here; there are /, /health, /ready and /metrics\n")
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

async fn numbers(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let format = Format::asked(&headers);
    match site.registry.text() {
        Ok(text) => {
            ([(CONTENT_TYPE, format.media_type()), (VARY, "accept")], format.of(text)).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n").into_response()
        }
    }
}
