//! Whose pages may ask, and how their browsers are told so (the Fetch standard, "HTTP CORS protocol").

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
use tidings_http::Visitor;

/// How long a browser may remember what it may ask, in seconds.
const MAX_AGE: &str = "300";

/// What an answer says to the browser that asked; stands among the request's extensions for answers that are not made
/// as others are.
#[derive(Clone, Debug, Default)]
pub(super) struct Cors(Vec<(HeaderName, HeaderValue)>);

impl Cors {
    fn to(visitor: Visitor<'_>) -> Self {
        let fixed = HeaderValue::from_static;
        Self(match visitor {
            Visitor::Own => Vec::new(),
            // With "everybody" go no cookies (§3.2.5).
            Visitor::Anybody => vec![(ACCESS_CONTROL_ALLOW_ORIGIN, fixed("*"))],
            Visitor::Listed(origin) => vec![
                (ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
                (ACCESS_CONTROL_ALLOW_CREDENTIALS, fixed("true")),
                (VARY, fixed("Origin")),
            ],
        })
    }

    /// The headers.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

/// Refuses pages that may not ask, answers browsers that ask whether a page may, and lets pages of listed origins read
/// the answers.
pub(super) async fn guard(
    State(transports): State<Transports>,
    mut request: Request,
    next: Next,
) -> Response {
    let cors = match transports.policy.visitor(request.headers(), request.extensions()) {
        Ok(visitor) => Cors::to(visitor),
        Err(refusal) => return refusal,
    };
    let mut answer = if request.method() == Method::OPTIONS {
        let mut answer = StatusCode::NO_CONTENT.into_response();
        let headers = answer.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        if let Some(asked) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        answer
    } else {
        request.extensions_mut().insert(cors.clone());
        next.run(request).await
    };
    for (name, value) in cors.headers() {
        answer.headers_mut().insert(name, value.clone());
    }
    answer
}
