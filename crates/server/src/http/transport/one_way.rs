//! Pushes over a streamed response: `/connection/uni_http_stream` and `/connection/uni_sse`. The request contains the fields of
//! a `connect` command.

use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use tidings_session::{Direction, Link, Protocol};
use tidings_wire::Framing;
use tidings_wire::client::Encoding;

use super::Transports;
use super::request::{connect_command, parameter, read, reject_head};
use super::stream::{EVENT_STREAM, StreamResponse, retry};

/// The protocol of one-way transports.
const JSON: Protocol = Protocol::Client { encoding: Encoding::Json };

/// `/connection/uni_http_stream`: one push per line.
pub(super) async fn http_stream(State(transports): State<Transports>, request: Request) -> Response {
    match begin_stream(&transports, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn begin_stream(transports: &Transports, request: Request) -> Result<Response, Response> {
    let limit = transports.config.load().uni_http_stream.max_request_body_size;
    let (parts, body) = read(request, limit).await?;
    let stream = StreamResponse {
        transport: "uni_http_stream",
        media_type: "application/json",
        link: Link::new(Framing::Line, JSON, Direction::OneWay),
        received: connect_command(&body)?,
        first: Vec::new(),
        events: None,
        is_backend: false,
    };
    Ok(transports.begin(&parts, stream).await)
}

/// `/connection/uni_sse`: one push per event.
pub(super) async fn sse(State(transports): State<Transports>, request: Request) -> Response {
    match begin_sse(&transports, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn begin_sse(transports: &Transports, request: Request) -> Result<Response, Response> {
    let limit = transports.config.load().uni_sse.max_request_body_size;
    let (parts, body) = read(request, limit).await?;
    reject_head(&parts)?;
    let connect = match parts.method {
        Method::POST => connect_command(&body)?,
        _ => connect_command(parameter(&parts.uri, "cf_connect").unwrap_or_default().as_bytes())?,
    };
    let stream = StreamResponse {
        transport: "uni_sse",
        media_type: EVENT_STREAM,
        link: Link::new(Framing::SseEvent, JSON, Direction::OneWay),
        received: connect,
        first: retry(),
        events: None,
        is_backend: false,
    };
    Ok(transports.begin(&parts, stream).await)
}
