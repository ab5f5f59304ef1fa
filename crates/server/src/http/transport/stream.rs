//! The start of a streamed response. A shard owns the connection from then on.

use std::time::{Duration, SystemTime};

use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{StatusCode, Version};
use axum::response::{IntoResponse, Response};
use tidings_session::Link;
use tidings_shard::{Arrival, EventStream, ResponseOutcome, ResponseStart};

use super::Transports;
use super::cors::Cors;
use tidings_http::{Hijacker, StreamStart};

/// The media type of server-sent events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// A streamed response.
pub(super) struct StreamResponse {
    /// The name of the transport.
    pub(super) transport: &'static str,
    /// The media type.
    pub(super) media_type: &'static str,
    /// The framing and the protocol of the session.
    pub(super) link: Link,
    /// The client's first commands, in the link's framing.
    pub(super) received: Vec<u8>,
    /// The first bytes of the body, possibly none.
    pub(super) first: Vec<u8>,
    /// For plain events: whether there are several channels, and the last event id of the client.
    pub(super) events: Option<(bool, String)>,
    /// Whether the request was authorized as one of an operator.
    pub(super) is_backend: bool,
}

impl Transports {
    /// Hands the connection to a shard with the head of the response. Resolves only for a rejected request, to its response,
    /// and for a stream of HTTP/2, when its session has begun.
    pub(super) async fn begin(&self, parts: &Parts, stream: StreamResponse) -> Response {
        let permit = match self.policy.acquire() {
            Ok(permit) => permit,
            Err(rejection) => return rejection,
        };
        let Some(hijacker) = parts.extensions.get::<Hijacker>() else {
            tracing::error!("a request has no handle of its connection");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let StreamResponse { transport, media_type, link, received, first, events, is_backend } = stream;
        let common = common_headers(parts.extensions.get::<Cors>());
        // HTTP/1.0 has no chunks (RFC 9112 §6.1).
        let chunked = parts.version == Version::HTTP_11;
        let opening = ResponseStart {
            head: if hijacker.is_stream() { Vec::new() } else { head(media_type, chunked, &common) },
            first,
            chunked,
            events: events.map(|(several, last_id)| EventStream::new(common.into_bytes(), several, &last_id)),
        };
        let about = self.connection_info(transport, &parts.headers, &parts.extensions);
        let path = self.client_path(&parts.headers, &parts.extensions);
        let transports = self.clone();
        let start = hijacker
            .hijack(move |socket| {
                // The shard counts the connection from here on.
                drop(permit);
                let socket = socket.answering(opening);
                let connection_info = about;
                transports.hand_over(Arrival {
                    socket,
                    link,
                    parameter: 0,
                    received,
                    connection_info,
                    path,
                    is_backend,
                });
            })
            .await;
        stream_response(start, media_type)
    }
}

/// The response of a stream of HTTP/2, whose body its session writes.
fn stream_response(start: StreamStart, media_type: &'static str) -> Response {
    let StreamStart { outcome, mut response } = start;
    let (status, media_type) = match outcome {
        ResponseOutcome::Open => (200, media_type),
        ResponseOutcome::Refused(status) => (status.number, "application/json"),
        ResponseOutcome::Unavailable(status) => (status.number, "text/plain; charset=utf-8"),
    };
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    headers.insert(CONTENT_TYPE, fixed(media_type));
    headers.insert(CACHE_CONTROL, fixed("no-store, no-transform"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    if outcome == ResponseOutcome::Open {
        headers.insert(HeaderName::from_static("x-accel-buffering"), fixed("no"));
    }
    if matches!(outcome, ResponseOutcome::Unavailable(_)) {
        headers.insert(RETRY_AFTER, fixed("1"));
    }
    response
}

/// The header lines of every response that a shard writes.
fn common_headers(cors: Option<&Cors>) -> String {
    let mut lines = format!(
        "date: {}\r\ncache-control: no-store, no-transform\r\nx-content-type-options: nosniff\r\nconnection: close\r\n",
        httpdate::fmt_http_date(SystemTime::now())
    );
    for (name, value) in cors.iter().flat_map(|cors| cors.headers()) {
        // An origin contains no line break, because it was parsed as a header's value.
        lines.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    }
    lines
}

fn head(media_type: &str, chunked: bool, common: &str) -> Vec<u8> {
    let framing = if chunked { "transfer-encoding: chunked\r\n" } else { "" };
    // Without the header nginx would delay messages until its buffer is full.
    format!("HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\nx-accel-buffering: no\r\n{common}{framing}\r\n")
        .into_bytes()
}

/// A `retry` field with a random delay, so that browsers do not reconnect all at once.
pub(super) fn retry() -> Vec<u8> {
    let delay = Duration::from_millis(fastrand::u64(1_000..4_000));
    let mut out = Vec::new();
    tidings_wire::sse::retry(delay.as_millis() as u64, &mut out);
    out
}
