//! The client protocol over a streamed response: `/connection/http_stream` and `/connection/sse`. The request contains the first
//! commands, and clients send further ones to `/emulation`, as the SDKs do.

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
use super::request::{bad_request, encoding, first_commands, read, reject_changes, reject_head};
use super::stream::{EVENT_STREAM, StreamResponse};
use tidings_cluster::ClusterError;

/// `/connection/http_stream`: one message per line, or in Protobuf each with its length.
pub(super) async fn http_stream(State(transports): State<Transports>, request: Request) -> Response {
    match begin_stream(&transports, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn begin_stream(transports: &Transports, request: Request) -> Result<Response, Response> {
    let limit = transports.config.load().http_stream.max_request_body_size;
    let (parts, body) = read(request, limit).await?;
    let mut received = first_commands(&parts, body)?.to_vec();
    let encoding = encoding(&parts.headers);
    let (media_type, framing) = match encoding {
        Encoding::Json => {
            received.push(b'\n');
            ("application/json", Framing::Line)
        }
        Encoding::Protobuf => ("application/octet-stream", Framing::Raw),
    };
    let link = Link::new(framing, Protocol::Client { encoding }, Direction::Emulated);
    let stream = StreamResponse {
        transport: "http_stream",
        media_type,
        link,
        received,
        first: Vec::new(),
        events: None,
        is_backend: false,
    };
    Ok(transports.begin(&parts, stream).await)
}

/// `/connection/sse`: one message per event.
pub(super) async fn sse(State(transports): State<Transports>, request: Request) -> Response {
    match begin_sse(&transports, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn begin_sse(transports: &Transports, request: Request) -> Result<Response, Response> {
    let limit = transports.config.load().sse.max_request_body_size;
    let (parts, body) = read(request, limit).await?;
    reject_head(&parts)?;
    let mut received = first_commands(&parts, body)?.to_vec();
    reject_changes(&parts, &received)?;
    received.push(b'\n');
    let stream = StreamResponse {
        transport: "sse",
        media_type: EVENT_STREAM,
        link: Link::new(
            Framing::SseEvent,
            Protocol::Client { encoding: Encoding::Json },
            Direction::Emulated,
        ),
        received,
        first: Vec::new(),
        events: None,
        is_backend: false,
    };
    Ok(transports.begin(&parts, stream).await)
}

/// Commands with the permit for their bytes, which is returned when a shard has processed them.
struct Commands {
    bytes: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Commands {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// `/emulation`: further commands of a session with a streamed response.
pub(super) async fn emulation(State(transports): State<Transports>, request: Request) -> Response {
    match forward_commands(&transports, request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(rejection) => rejection,
    }
}

async fn forward_commands(transports: &Transports, request: Request) -> Result<(), Response> {
    let limit = transports.config.load().emulation.max_request_body_size;
    let (parts, body) = read(request, limit).await?;
    let request = encoding(&parts.headers)
        .parse_emulation(&body)
        .map_err(|error| bad_request(&format!("the body is not a request of /emulation: {error}")))?;
    let unknown = || (StatusCode::NOT_FOUND, "there is no such session\n").into_response();
    let Some(data) = request.data.filter(|data| !data.bytes.is_empty()) else { return Ok(()) };
    let bytes: Bytes = data.bytes.into_owned().into();
    let settings = transports.router.settings();
    if request.node != settings.node {
        return transports.bus.forward(&request.node, &request.session, bytes).await.map_err(|error| {
            match error {
                ClusterError::NoSuchNode => unknown(),
                error => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
            }
        });
    }
    let (shard, session) = locate(&settings.session_key, &request.session).ok_or_else(unknown)?;
    let mailbox = transports.shards.mailbox(shard as usize).ok_or_else(unknown)?;
    let permit = transports.policy.reserve_command_bytes(bytes.len()).await;
    mailbox.post(ShardMessage::Input(session, Bytes::from_owner(Commands { bytes, _permit: permit })));
    Ok(())
}
