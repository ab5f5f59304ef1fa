//! The bodies of requests, bounded in bytes and in time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

/// Longest time for a body to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Receives a body of at most `limit` bytes.
///
/// # Errors
/// The response to a request with a body that is too long, too slow or incomplete.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Bytes, Response> {
    match tokio::time::timeout(TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let reason = format!("the body is longer than {limit} bytes\n");
            Err((StatusCode::PAYLOAD_TOO_LARGE, reason).into_response())
        }
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body is incomplete\n").into_response()),
        Err(_) => {
            let reason = format!("the body was not received within {} s\n", TIMEOUT.as_secs());
            Err((StatusCode::REQUEST_TIMEOUT, reason).into_response())
        }
    }
}
