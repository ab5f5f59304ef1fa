//! The layers around the routes of a listener: checks of the host, headers of every response, and counting.

use std::sync::Arc;

use axum::Router as Routes;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tidings_shard::Process;

use super::host::{self, OwnHosts};
use super::{HttpParts, Peer, Traffic, forwarded};

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

/// Adds the layers to the routes of a listener. With hosts of its own, the server answers for no others: their requests
/// get 421.
pub(super) fn add(mut routes: Routes, parts: &HttpParts<'_>, own: Option<OwnHosts>, is_tls: bool) -> Routes {
    if let Some(own) = own {
        routes = routes.layer(middleware::from_fn_with_state(own, only_own_hosts));
    }
    routes = routes.layer(middleware::from_fn(one_host));
    let dresses = Dress {
        hsts_max_age: parts.config.tls.hsts_max_age.as_secs(),
        process: Arc::clone(parts.process),
        traffic: Arc::clone(parts.traffic),
        is_tls,
    };
    routes.layer(middleware::from_fn_with_state(Arc::new(dresses), dress))
}

/// What every request of a listener is given, and every answer wears.
struct Dress {
    /// In seconds; 0: off.
    hsts_max_age: u64,
    process: Arc<Process>,
    traffic: Arc<Traffic>,
    is_tls: bool,
}

impl Dress {
    /// Tells browsers not to come without TLS (RFC 6797 §6.1), where they came with it and by a name that is no other
    /// server's of the same machine as well.
    fn strict_transport(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let age = self.hsts_max_age;
        let host = headers.get(HOST)?.to_str().ok()?;
        let is_name = host::is_public_name(host);
        (self.is_tls && age > 0 && is_name).then(|| HeaderValue::from_str(&format!("max-age={age}")).ok())?
    }
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
    let Dress { process, traffic, is_tls, .. } = &*dress;
    let peer = request.extensions().get::<Peer>().copied();
    let scheme = forwarded::scheme(*is_tls, peer, request.headers(), &process.addresses);
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
