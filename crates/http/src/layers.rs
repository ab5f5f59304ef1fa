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

use super::hijacker::LeavesHttp;
use super::host;
use super::{ConnectionPolicy, HttpParts, Peer, Traffic, forwarded};

/// The content security policy of responses (CSP level 3): a browser may display them, without scripts, other hosts or
/// frames around them. The page has its own policy.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The headers of every response that does not set them itself.
const HEADERS: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Adds the layers to the routes of a listener. With `checks_hosts`, requests for hosts that the policy does not accept get
/// 421.
pub(super) fn add(mut routes: Routes, parts: &HttpParts<'_>, checks_hosts: bool, is_tls: bool) -> Routes {
    if checks_hosts {
        routes = routes.layer(middleware::from_fn_with_state(Arc::clone(parts.policy), only_own_hosts));
    }
    routes = routes.layer(middleware::from_fn(single_host));
    let decorator = Decorator {
        hsts_max_age: parts.config.tls.hsts_max_age.as_secs(),
        process: Arc::clone(parts.process),
        traffic: Arc::clone(parts.traffic),
        is_tls,
    };
    routes.layer(middleware::from_fn_with_state(Arc::new(decorator), decorate))
}

/// Adds the [`Scheme`](super::Scheme) to requests, and headers to responses.
struct Decorator {
    /// In seconds; 0 disables HSTS.
    hsts_max_age: u64,
    process: Arc<Process>,
    traffic: Arc<Traffic>,
    is_tls: bool,
}

impl Decorator {
    /// The HSTS header, by which browsers use only TLS from then on (RFC 6797 §6.1). Sent over TLS, and not for `localhost`
    /// or an address, which other servers on the same machine share.
    fn strict_transport(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let age = self.hsts_max_age;
        let host = headers.get(HOST)?.to_str().ok()?;
        let is_name = host::is_public_name(host);
        (self.is_tls && age > 0 && is_name).then(|| HeaderValue::from_str(&format!("max-age={age}")).ok())?
    }
}

async fn only_own_hosts(
    State(policy): State<Arc<ConnectionPolicy>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(own) = policy.hosts() else { return next.run(request).await };
    let (parts, body) = request.into_parts();
    if let Err(other) = own.check(&parts) {
        let reason = format!(
            "{other:?} is not a host of this server: without a key it accepts only localhost and loopback addresses; set \
             http_api.key to accept other names\n"
        );
        tracing::debug!(host = other, "a request for another host was rejected");
        return (StatusCode::MISDIRECTED_REQUEST, reason).into_response();
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Rejects a request without exactly one host.
async fn single_host(request: Request, next: Next) -> Response {
    match host::check_count(request.version(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(reason) => (StatusCode::BAD_REQUEST, reason).into_response(),
    }
}

/// Adds the scheme to a request and the headers to its response, and counts the response.
async fn decorate(State(decorator): State<Arc<Decorator>>, mut request: Request, next: Next) -> Response {
    let Decorator { process, traffic, is_tls, .. } = &*decorator;
    let peer = request.extensions().get::<Peer>().copied();
    let scheme = forwarded::scheme(*is_tls, peer, request.headers(), &process.addresses);
    request.extensions_mut().insert(scheme);
    let strict = decorator.strict_transport(request.headers());
    traffic.count_request(request.version());
    let mut response = next.run(request).await;
    if response.extensions().get::<LeavesHttp>().is_some() {
        // A stream of HTTP/2 whose session has written the head of its response.
        return response;
    }
    traffic.count_response(response.status());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Some(strict) = strict {
        headers.insert(STRICT_TRANSPORT_SECURITY, strict);
    }
    response
}
