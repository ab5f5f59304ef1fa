//! Calls of a gRPC server that receive a stream of messages, and may send one.
//!
//! Invariants:
//! - A stream buffers at most [`STREAM_WINDOW`] bytes and one message. The server cannot send more before the stream is read (flow
//!   control of HTTP/2, RFC 9113 §5.2).
//! - A stream that is not read delays no other stream: the window of a connection has room for the windows of all its streams.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rustls::ClientConfig;
use tidings_grpc::{Code, MessageEncoding, MessageSender, RequestBody, Status, frame};

use super::GrpcOutbound;
use super::call_body::{CallBody, PipeGuard};
use crate::{OutboundError, classify};

/// Bytes of a stream that are received before they are read.
const STREAM_WINDOW: u32 = 64 << 10;
/// Most streams of one connection. Servers permit at least this number by default (RFC 9113 §6.5.2).
const STREAMS_PER_CONNECTION: u32 = 100;
/// Bytes of messages that wait for the flow control of the server.
const SEND_BUDGET: usize = 256 << 10;

/// Streams of one gRPC server, on as many connections as they need.
pub struct GrpcStreams {
    server: Uri,
    tls: Option<ClientConfig>,
    idle: Duration,
    is_compressed: bool,
    /// The connections, each with a counter of its streams.
    connections: Mutex<Vec<(GrpcOutbound, Arc<()>)>>,
}

/// A call that opens a stream.
pub struct StreamRequest<'a> {
    /// The path of the method (`/SERVICE/METHOD`).
    pub path: &'a str,
    /// The metadata.
    pub headers: HeaderMap,
    /// The first message.
    pub message: &'a [u8],
    /// Whether further messages follow; otherwise the request ends with the first one.
    pub sends: bool,
    /// Longest message that is received, in bytes.
    pub most: usize,
}

/// An open stream. The call is cancelled when it is dropped.
pub struct GrpcStream {
    /// Sends messages; `None` for a call with one message.
    pub sender: Option<MessageSender>,
    body: Incoming,
    received: BytesMut,
    encoding: MessageEncoding,
    most: usize,
    /// Ends the task that sends messages.
    _pipe: PipeGuard,
    /// Counts as a stream of its connection.
    _permit: Arc<()>,
}

impl GrpcStreams {
    /// Streams of the server at `address`, as for [`GrpcOutbound::new`].
    pub fn new(address: &Uri, tls: Option<ClientConfig>, idle: Duration) -> Self {
        Self { server: address.clone(), tls, idle, is_compressed: false, connections: Mutex::default() }
    }

    /// Compresses the first messages of requests with gzip. Compressed responses are accepted in any case.
    #[must_use]
    pub fn compressed(self, is_compressed: bool) -> Self {
        Self { is_compressed, ..self }
    }

    /// Opens a stream. Returns when the response has begun; the caller bounds the time.
    ///
    /// # Errors
    /// [`OutboundError`] for a response that is a status other than OK.
    pub async fn open(&self, request: StreamRequest<'_>) -> Result<GrpcStream, OutboundError> {
        let StreamRequest { path, headers, message, sends, most } = request;
        let (connection, permit) = self.connection();
        let mut call = Request::new(());
        *call.headers_mut() = headers;
        connection.prepare(path, &mut call);
        let first = frame::framed(message, connection.encoding).into();
        let (body, sender) = if sends {
            let (body, sender) = RequestBody::streaming(first, SEND_BUDGET);
            (body, Some(sender))
        } else {
            (RequestBody::unary(first), None)
        };
        let (body, pipe) = CallBody::guarded(body);
        let answer =
            connection.client.request(call.map(|()| body)).await.map_err(|error| classify(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(OutboundError::Status(answer.status()));
        }
        // A response without a message has its status in the headers.
        if let Some(status) = Status::read(answer.headers()) {
            return Err(OutboundError::Grpc(status));
        }
        let encoding = MessageEncoding::read(answer.headers()).map_err(OutboundError::Grpc)?;
        let received = BytesMut::new();
        Ok(GrpcStream {
            sender,
            body: answer.into_body(),
            received,
            encoding,
            most,
            _pipe: pipe,
            _permit: permit,
        })
    }

    /// A connection with room for a stream. Connections without streams are closed, except one.
    fn connection(&self) -> (GrpcOutbound, Arc<()>) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = STREAMS_PER_CONNECTION as usize;
        let found = connections.iter().position(|(_, streams)| Arc::strong_count(streams) <= limit);
        let at = found.unwrap_or_else(|| {
            let windows = (STREAM_WINDOW, STREAM_WINDOW * STREAMS_PER_CONNECTION);
            let connection =
                GrpcOutbound::with_windows(&self.server, self.tls.clone(), self.idle, Some(windows))
                    .compressed(self.is_compressed);
            connections.push((connection, Arc::default()));
            connections.len() - 1
        });
        let (connection, streams) = &connections[at];
        let permit = (connection.clone(), Arc::clone(streams));
        let mut index = 0;
        connections.retain(|(_, streams)| {
            index += 1;
            index == 1 || Arc::strong_count(streams) > 1
        });
        permit
    }
}

impl GrpcStream {
    /// The next message; `None` at the end of a stream with the status OK.
    ///
    /// # Errors
    /// [`OutboundError`] for another status, for a message that is too long, and for a connection that breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, OutboundError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let frame = match self.body.frame().await {
                None => Err(Status::new(Code::Internal, "the response has no status")),
                Some(Ok(frame)) => Ok(frame),
                Some(Err(error)) => return Err(OutboundError::Body(error.to_string())),
            };
            let frame = frame.map_err(OutboundError::Grpc)?;
            match frame.into_data() {
                Ok(data) if self.received.is_empty() => self.received = BytesMut::from(data),
                Ok(data) => self.received.extend_from_slice(&data),
                Err(other) => {
                    let status = other.into_trailers().ok().as_ref().and_then(Status::read);
                    return match status {
                        Some(Status { code: Code::Ok, .. }) if self.received.is_empty() => Ok(None),
                        Some(status) if status.code != Code::Ok => Err(OutboundError::Grpc(status)),
                        _ => Err(OutboundError::Grpc(frame::not_single())),
                    };
                }
            }
        }
    }

    /// The next message that has been received completely.
    ///
    /// # Errors
    /// [`OutboundError::TooLong`], and a status for a message of another form.
    pub fn take(&mut self) -> Result<Option<Bytes>, OutboundError> {
        frame::next(&mut self.received, self.encoding, self.most).map_err(|status| match status.code {
            Code::ResourceExhausted => OutboundError::TooLong(self.most),
            _ => OutboundError::Grpc(status),
        })
    }
}
