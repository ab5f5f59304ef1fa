//! The client protocol over an HTTP answer that goes on: `/connection/http_stream` and `/connection/sse`. The first
//! commands come with the request, the others to `/emulation`, as the SDKs do it.

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tidings_hub::locate;
use tidings_session::{Direction, Link, Protocol};
use tidings_shard::ShardMessage;
use tidings_wire::Framing;
use tidings_wire::client::Encoding;
use tokio::sync::OwnedSemaphorePermit;

use super::Transports;
use super::request::{bad_request, encoding, first, read, reject_changes, reject_head};
use super::stream::{EVENT_STREAM, Stream};
use tidings_cluster::ClusterError;

/// One message a line, or each behind its length.
pub(super) async fn http_stream(State(transports): State<Transports>, request: Request) -> Response {
    match begin_stream(&transports, request).await {
        Ok(answer) | Err(answer) => answer,
    }
}

async fn begin_stream(transports: &Transports, request: Request) -> Result<Response, Response> {
    let limit = transports.config.http_stream.max_request_body_size;
    let (parts, body) = read(request, limit).await?;
    let mut received = first(&parts, body)?.to_vec();
    let encoding = encoding(&parts.headers);
    let (kind, framing) = match encoding {
        Encoding::Json => {
            received.push(b'\n');
            ("application/json", Framing::Line)
        }
        Encoding::Protobuf => ("application/octet-stream", Framing::Raw),
    };
    let link = Link::new(framing, Protocol::Client { encoding }, Direction::Emulated);
    let stream = Stream { transport: "http_stream", kind, link, received, first: Vec::new(), events: None };
    Ok(transports.begin(&parts, stream).await)
}

/// One message an event.
pub(super) async fn sse(State(transports): State<Transports>, request: Request) -> Response {
    match begin_sse(&transports, request).await {
        Ok(answer) | Err(answer) => answer,
    }
}

async fn begin_sse(transports: &Transports, request: Request) -> Result<Response, Response> {
    let limit = transports.config.sse.max_request_body_size;
    let (parts, body) = read(request, limit).await?;
    reject_head(&parts)?;
    let mut received = first(&parts, body)?.to_vec();
    reject_changes(&parts, &received)?;
    received.push(b'\n');
    let stream = Stream {
        transport: "sse",
        kind: EVENT_STREAM,
        link: Link::new(
            Framing::SseEvent,
            Protocol::Client { encoding: Encoding::Json },
            Direction::Emulated,
        ),
        received,
        first: Vec::new(),
        events: None,
    };
    Ok(transports.begin(&parts, stream).await)
}

/// Commands, and the room that they take until a shard has taken them in.
struct Commands {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Commands {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// More commands for a connection whose answers go another way.
pub(super) async fn emulation(State(transports): State<Transports>, request: Request) -> Response {
    match take_commands(&transports, request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(answer) => answer,
    }
}

async fn take_commands(transports: &Transports, request: Request) -> Result<(), Response> {
    let limit = transports.config.emulation.max_request_body_size;
    let (parts, body) = read(request, limit).await?;
    let asked = encoding(&parts.headers)
        .parse_emulation(&body)
        .map_err(|error| bad_request(&format!("not what is sent to /emulation: {error}")))?;
    let unknown = || (StatusCode::NOT_FOUND, "there is no such session\n").into_response();
    let Some(data) = asked.data.filter(|data| !data.bytes.is_empty()) else { return Ok(()) };
    let bytes: Bytes = data.bytes.into_owned().into();
    let settings = transports.router.settings();
    if asked.node != settings.node {
        return transports.bus.forward(&asked.node, &asked.session, bytes).await.map_err(
            |error| match error {
                ClusterError::NoSuchNode => unknown(),
                error => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
            },
        );
    }
    let (shard, session) = locate(&settings.session_key, &asked.session).ok_or_else(unknown)?;
    let mailbox = transports.shards.mailbox(shard as usize).ok_or_else(unknown)?;
    let room = transports.policy.room(bytes.len()).await;
    mailbox.post(ShardMessage::Input(session, Bytes::from_owner(Commands { bytes, _room: room })));
    Ok(())
}
