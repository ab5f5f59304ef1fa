//! The check of origins, and the CORS headers of responses (the Fetch standard, "HTTP CORS protocol").

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HeaderName,
    HeaderValue, VARY,
};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Transports;
use tidings_http::RequestOrigin;

/// How long a browser may cache the result of a preflight request, in seconds.
const MAX_AGE: &str = "300";

/// The CORS headers of a response. [`check_origin`] stores them as an extension of the request, because a shard writes the
/// heads of streamed responses itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Cors(Vec<(HeaderName, HeaderValue)>);

impl Cors {
    fn new(origin: RequestOrigin<'_>) -> Self {
        let fixed = HeaderValue::from_static;
        Self(match origin {
            RequestOrigin::Own => Vec::new(),
            // Credentials are not allowed together with `*` (§3.2.5).
            RequestOrigin::Any => vec![(ACCESS_CONTROL_ALLOW_ORIGIN, fixed("*"))],
            RequestOrigin::Listed(origin) => vec![
                (ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
                (ACCESS_CONTROL_ALLOW_CREDENTIALS, fixed("true")),
                (VARY, fixed("Origin")),
            ],
        })
    }

    /// The names and values of the headers.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

/// Rejects requests of foreign origins, responds to preflight requests, and allows pages of listed origins to read the
/// responses.
pub(super) async fn check_origin(
    State(transports): State<Transports>,
    mut request: Request,
    next: Next,
) -> Response {
    let cors = match transports.policy.check_origin(request.headers(), request.extensions()) {
        Ok(origin) => Cors::new(origin),
        Err(rejection) => return rejection,
    };
    let mut response = if request.method() == Method::OPTIONS {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        if let Some(requested) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
        }
        response
    } else {
        request.extensions_mut().insert(cors.clone());
        next.run(request).await
    };
    for (name, value) in cors.headers() {
        response.headers_mut().insert(name, value.clone());
    }
    response
}
