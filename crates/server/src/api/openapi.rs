//! `GET /api/openapi.json`: what the server API takes and gives, in OpenAPI 3.1.

use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};

/// The description. The tests below hold it against the types that requests are read into and answers written from.
const DESCRIPTION: &str = include_str!("openapi.json");

/// Answers with the description. It is the same for every server, so it takes no key.
pub(super) async fn serve(method: Method) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response();
    }
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], DESCRIPTION).into_response()
}
