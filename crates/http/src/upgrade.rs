//! From an HTTP request to a WebSocket: the handshake (RFC 6455 §4.2), and taking the connection back from HTTP.
//!
//! [`accept`] decides about a request. Its answer is sent as any other; when it is a 101, the future beside it gives the
//! raw stream, which no longer counts as an HTTP connection, and what the client has sent behind its request already.
//!
//! ```ignore
//! async fn websocket(State(policy): State<Arc<ConnectionPolicy>>, request: Request) -> Response {
//!     let terms = Terms { protocols: &["centrifuge-protobuf"], deflate: false };
//!     match upgrade::accept(request, &policy, &terms) {
//!         Err(refusal) => refusal,
//!         Ok((answer, upgraded)) => {
//!             // Resolves after the answer is sent, so it cannot be awaited here.
//!             tokio::spawn(async move {
//!                 if let Ok(upgraded) = upgraded.await {
//!                     serve(upgraded).await;
//!                 }
//!             });
//!             answer
//!         }
//!     }
//! }
//! ```
//!
//! Invariants:
//! - No page of a foreign origin gets a WebSocket, see [`super::origin`].
//! - Every WebSocket has a [`ConnectionPermit`] from before its 101 on: one that would be past `client.connection_limit`, or that
//!   comes while the server stops, is told so in HTTP.
//! - Every refusal is counted by its reason, and logged at `debug`.

#![expect(clippy::result_large_err, reason = "what is refused is an answer, made once and sent")]

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{Extensions, Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Body as _;
use hyper_util::rt::TokioIo;
use tidings_shard::Socket;
use tidings_wire::ws::{deflate, handshake};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;

use super::listener::Release as _;
use super::origin::{self, Origins, Scheme, Visitor};
use super::write_timeout::WriteTimeout;
use crate::connections::{ConnectionLimiter, ConnectionPermit, ConnectionRejected};
use tidings_config::Config;
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

labels! {
    /// Why a connection is rejected.
    enum UpgradeRejection {
        /// The request is no WebSocket handshake.
        Handshake => "handshake",
        /// The request comes from a page that may not connect.
        Origin => "origin",
        /// There are as many connections as there may be.
        Limit => "limit",
        /// The server is stopping.
        Stopping => "stopping",
        /// Connections begin too fast.
        Rate => "rate",
    }
}

/// What decides about connections that begin as HTTP, and counts those that are refused.
#[derive(Debug)]
pub struct ConnectionPolicy {
    origins: Origins,
    refused: KeyedCounters<UpgradeRejection>,
    limiter: Arc<ConnectionLimiter>,
    /// For commands that come by requests of their own.
    room: Arc<Semaphore>,
}

/// Bytes of such commands that may wait for shards, of all clients together.
const ROOM: usize = 16 << 20;

impl ConnectionPolicy {
    /// The origins that `config` allows, and as many connections as `limiter` does.
    pub fn new(config: &Config, limiter: Arc<ConnectionLimiter>) -> Self {
        Self {
            origins: Origins::of(config),
            refused: KeyedCounters::default(),
            limiter,
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }

    /// Counts a new connection against the limits.
    ///
    /// # Errors
    /// The response to a request that is rejected.
    pub fn acquire(&self) -> Result<ConnectionPermit, Response> {
        self.limiter.acquire().map_err(|rejected| {
            let (why, status) = match rejected {
                ConnectionRejected::Stopping => (UpgradeRejection::Stopping, StatusCode::SERVICE_UNAVAILABLE),
                ConnectionRejected::Rate => (UpgradeRejection::Rate, StatusCode::TOO_MANY_REQUESTS),
                ConnectionRejected::Limit(_) => (UpgradeRejection::Limit, StatusCode::SERVICE_UNAVAILABLE),
            };
            self.refuse(why, status, rejected.to_string())
        })
    }

    /// Waits until so many bytes of commands may be on their way to a shard. They count until what this gives is
    /// dropped.
    pub async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(ROOM)).unwrap_or(u32::MAX);
        Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()
    }

    /// Finds out whose page has sent a request with these headers.
    ///
    /// # Errors
    /// The answer to the request of one that may not connect.
    pub fn visitor<'r>(
        &self,
        headers: &'r HeaderMap,
        extensions: &Extensions,
    ) -> Result<Visitor<'r>, Response> {
        let scheme = extensions.get::<Scheme>().copied().unwrap_or_default();
        self.origins.check(headers, scheme).map_err(|foreign| {
            self.refuse(UpgradeRejection::Origin, StatusCode::FORBIDDEN, origin::refusal(&foreign))
        })
    }

    fn refuse(&self, why: UpgradeRejection, status: StatusCode, text: impl Into<String>) -> Response {
        let text = text.into();
        self.refused.add(why);
        tracing::debug!(status = status.as_u16(), why = text.trim_end(), "a connection was refused");
        (status, text).into_response()
    }
}

impl Collect for ConnectionPolicy {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters(
            "tidings_upgrades_refused",
            "Connections over HTTP that were refused before they began, by reason",
            "reason",
            self.refused.iter(),
        )
    }
}

/// What a handshake may agree on.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'t> {
    /// Sub-protocols.
    pub protocols: &'t [&'static str],
    /// Whether messages may be compressed (RFC 7692).
    pub deflate: bool,
}

/// A connection that HTTP has let go of: WebSocket frames follow in both directions.
#[derive(Debug)]
pub struct Upgraded {
    /// The connection, with `TCP_NODELAY`. No time-out of HTTP holds for it any more.
    pub stream: Stream,
    /// What came behind the request: the beginning of what is to be read, and often nothing.
    pub received: Bytes,
    /// The sub-protocol that was agreed on, one of those offered to [`accept`].
    pub protocol: Option<&'static str>,
    /// Whether it was agreed on that messages may be compressed.
    pub deflate: bool,
    /// To be kept as long as the connection; a shard counts those it owns itself.
    pub permit: ConnectionPermit,
}

/// A connection of either kind, whose events come through tokio.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// TLS over TCP. What is written is sent with the next flush.
    Tls(Box<TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixStream),
}

/// Decides whether a request becomes a WebSocket. Of the sub-protocols in `terms` the first that the client offers is
/// agreed on; a client that offers none of them is let in without one. So it is with compression.
///
/// Gives the answer that is to be sent, and what resolves once it is. That fails when the connection breaks before, or
/// the answer never reaches the HTTP connection.
///
/// # Errors
/// The answer to a request that does not become one: 400 when it is no handshake, 426 when it asks for nothing or for
/// another version of the protocol, 403 for a page of a foreign origin, 503 when the server takes no more connections.
pub fn accept(
    mut request: Request,
    policy: &ConnectionPolicy,
    terms: &Terms<'_>,
) -> Result<(Response, impl Future<Output = io::Result<Upgraded>> + Send + use<>), Response> {
    let bad = |text: &str| policy.refuse(UpgradeRejection::Handshake, StatusCode::BAD_REQUEST, text);
    let required = |text: &str| {
        let mut answer = policy.refuse(UpgradeRejection::Handshake, StatusCode::UPGRADE_REQUIRED, text);
        // RFC 9110 §15.5.22, RFC 6455 §4.4.
        answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(handshake::VERSION));
        answer
    };
    let headers = request.headers();
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(bad("a WebSocket begins with GET in HTTP/1.1 (nginx: proxy_http_version 1.1)\n"));
    }
    if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        return Err(required(
            "here is a WebSocket: the request needs \"Upgrade: websocket\" and \"Connection: Upgrade\" (does a proxy \
             leave them out?)\n",
        ));
    }
    if only(headers, &SEC_WEBSOCKET_VERSION) != Some(handshake::VERSION) {
        return Err(required("only version 13 of the WebSocket protocol is spoken here (RFC 6455)\n"));
    }
    if only(headers, &HOST).is_none() {
        return Err(bad("the request has no Host\n"));
    }
    let Some(key) = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| handshake::is_key(key)) else {
        return Err(bad("Sec-WebSocket-Key is not 16 bytes in base 64\n"));
    };
    if !request.body().is_end_stream() {
        return Err(bad("a request for a WebSocket has no body\n"));
    }
    policy.visitor(headers, request.extensions())?;
    let accepted = HeaderValue::try_from(handshake::accept(key)).expect("base 64 is a header's value");
    let offered = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let protocol = handshake::choose_protocol(offered(SEC_WEBSOCKET_PROTOCOL), terms.protocols);
    let extension = terms.deflate.then(|| deflate::agree(offered(SEC_WEBSOCKET_EXTENSIONS))).flatten();
    let permit = policy.acquire()?;

    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    if let Some(extension) = extension {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(extension));
    }
    let deflate = extension.is_some();
    let coming = hyper::upgrade::on(&mut request);
    let upgraded = async move {
        let (stream, received) = take_back(coming.await.map_err(io::Error::other)?)?;
        Ok(Upgraded { stream, received, protocol, deflate, permit })
    };
    Ok((answer, upgraded))
}

/// The connection as [`super::serve`] has wrapped it, unwrapped.
fn take_back(upgraded: hyper::upgrade::Upgraded) -> io::Result<(Stream, Bytes)> {
    let other = match upgraded.downcast::<TokioIo<WriteTimeout<TcpStream>>>() {
        Ok(parts) => return Ok((Stream::Tcp(parts.io.into_inner().into_inner()), parts.read_buf)),
        Err(other) => other,
    };
    let other = match other.downcast::<TokioIo<WriteTimeout<TlsStream<TcpStream>>>>() {
        Ok(parts) => {
            let stream = Stream::Tls(Box::new(parts.io.into_inner().into_inner()));
            return Ok((stream, parts.read_buf));
        }
        Err(other) => other,
    };
    match other.downcast::<TokioIo<WriteTimeout<UnixStream>>>() {
        Ok(parts) => Ok((Stream::Unix(parts.io.into_inner().into_inner()), parts.read_buf)),
        Err(_) => Err(io::Error::other("neither a TCP connection nor one of a Unix socket")),
    }
}

/// Whether a header that is a list of tokens has this one, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that must be there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

impl Stream {
    /// The connection for a shard: its events no longer come through tokio.
    ///
    /// # Errors
    /// What the operating system says when tokio lets go of it.
    pub fn into_socket(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => stream.release(),
            Self::Tls(stream) => stream.release(),
            Self::Unix(stream) => stream.release(),
        }
    }
}

macro_rules! either {
    ($self:expr, $stream:ident => $do:expr) => {
        match $self.get_mut() {
            Self::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $do
            }
            Self::Tls(stream) => {
                let $stream = Pin::new(stream);
                $do
            }
            Self::Unix(stream) => {
                let $stream = Pin::new(stream);
                $do
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
