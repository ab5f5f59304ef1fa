//! The WebSocket handshake (RFC 6455 §4.2; over HTTP/2 RFC 8441 §5), and the release of the connection from HTTP.
//!
//! [`accept`] checks a request and returns the response. With a 101 it also returns a future of the raw stream and of the
//! bytes that the client has sent after its request. The stream no longer counts as an HTTP connection.
//!
//! ```ignore
//! async fn websocket(State(policy): State<Arc<ConnectionPolicy>>, request: Request) -> Response {
//!     let options = HandshakeOptions { protocols: &["centrifuge-protobuf"], deflate: false };
//!     match accept(request, &policy, &options) {
//!         Err(rejection) => rejection,
//!         Ok((response, upgraded)) => {
//!             // Resolves after the response is sent, so it cannot be awaited here.
//!             tokio::spawn(async move {
//!                 if let Ok(upgraded) = upgraded.await {
//!                     serve(upgraded).await;
//!                 }
//!             });
//!             response
//!         }
//!     }
//! }
//! ```
//!
//! Invariants:
//! - No page of a foreign origin gets a WebSocket, see [`super::origin`].
//! - Every WebSocket has a [`ConnectionPermit`] before its 101 is sent. A request beyond `client.connection_limit`, or during
//!   a shutdown, gets an HTTP error.
//! - Every rejection is counted by its reason and logged at `debug`.

#![expect(clippy::result_large_err, reason = "the error is a response, which is constructed once and sent")]

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::{ArcSwap, ArcSwapOption};
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
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tidings_shard::Socket;
use tidings_wire::ws::{deflate, handshake};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;

use super::hijacker::{Hijacker, LeavesHttp};
use super::host::OwnHosts;
use super::http2::stream::SessionGuard;
use super::http2::websocket::Http2Stream;
use super::listener::Release as _;
use super::origin::{self, Origins, RequestOrigin, Scheme};
use super::preface::Rewind;
use super::write_timeout::WriteTimeout;
use crate::connections::{ConnectionLimiter, ConnectionPermit, ConnectionRejected};
use tidings_config::{AllowedOrigin, Config};
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

labels! {
    /// The reason why a connection is rejected.
    enum UpgradeRejection {
        /// The request is not a WebSocket handshake.
        Handshake => "handshake",
        /// The origin of the page may not connect.
        Origin => "origin",
        /// The limit on connections is reached.
        Limit => "limit",
        /// The server is stopping.
        Stopping => "stopping",
        /// New connections exceed the rate limit.
        Rate => "rate",
    }
}

/// Accepts or rejects connections that begin as HTTP, and counts rejections.
#[derive(Debug)]
pub struct ConnectionPolicy {
    origins: ArcSwap<Origins>,
    /// The hosts that are accepted; without them every host.
    hosts: ArcSwapOption<OwnHosts>,
    rejected: KeyedCounters<UpgradeRejection>,
    limiter: Arc<ConnectionLimiter>,
    /// Bytes of commands that clients send in separate requests, until a shard has processed them.
    command_bytes: Arc<Semaphore>,
}

/// The most bytes of such commands that may wait for shards, of all clients together.
const MAX_COMMAND_BYTES: usize = 16 << 20;

impl ConnectionPolicy {
    /// Accepts the origins in `config` and as many connections as `limiter` allows.
    pub fn new(config: &Config, limiter: Arc<ConnectionLimiter>) -> Self {
        Self {
            origins: ArcSwap::from_pointee(Origins::from_config(config)),
            hosts: ArcSwapOption::new(OwnHosts::from_config(config).map(Arc::new)),
            rejected: KeyedCounters::default(),
            limiter,
            command_bytes: Arc::new(Semaphore::new(MAX_COMMAND_BYTES)),
        }
    }

    /// Accepts the origins and hosts in `config` from now on. May resolve the host name of a listener.
    pub fn reconfigure(&self, config: &Config) {
        self.origins.store(Arc::new(Origins::from_config(config)));
        self.hosts.store(OwnHosts::from_config(config).map(Arc::new));
    }

    /// The hosts that are accepted; `None` if all are.
    pub(crate) fn hosts(&self) -> Option<Arc<OwnHosts>> {
        self.hosts.load_full()
    }

    /// Counts a new connection against the limits.
    ///
    /// # Errors
    /// The response to a request that is rejected.
    pub fn acquire(&self) -> Result<ConnectionPermit, Response> {
        self.limiter.acquire().map_err(|rejected| {
            let (reason, status) = match rejected {
                ConnectionRejected::Stopping => (UpgradeRejection::Stopping, StatusCode::SERVICE_UNAVAILABLE),
                ConnectionRejected::Rate => (UpgradeRejection::Rate, StatusCode::TOO_MANY_REQUESTS),
                ConnectionRejected::Limit(_) => (UpgradeRejection::Limit, StatusCode::SERVICE_UNAVAILABLE),
            };
            self.reject(reason, status, rejected.to_string())
        })
    }

    /// Waits until `bytes` more of commands may wait for shards. They count until the permit is dropped.
    pub async fn reserve_command_bytes(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(MAX_COMMAND_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(&self.command_bytes).acquire_many_owned(bytes).await.ok()
    }

    /// Determines the origin of a request with these headers.
    ///
    /// # Errors
    /// The response to a request from a page that may not connect.
    pub fn check_origin<'r>(
        &self,
        headers: &'r HeaderMap,
        extensions: &Extensions,
    ) -> Result<RequestOrigin<'r>, Response> {
        let scheme = extensions.get::<Scheme>().copied().unwrap_or_default();
        self.origins.load().check(headers, scheme).map_err(|foreign| {
            self.reject(UpgradeRejection::Origin, StatusCode::FORBIDDEN, origin::rejection_text(&foreign))
        })
    }

    /// As [`Self::check_origin`], with these origins instead of those of the configuration, unless there are none.
    fn check_origin_of(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        allowed: &[AllowedOrigin],
    ) -> Result<(), Response> {
        if allowed.is_empty() {
            return self.check_origin(headers, extensions).map(|_| ());
        }
        let scheme = extensions.get::<Scheme>().copied().unwrap_or_default();
        let checked = Origins::from_allowed(allowed).check(headers, scheme).map(|_| ());
        checked.map_err(|foreign| {
            let text = format!(
                "{foreign:?} may not connect: it is not this server's own origin, and not listed in allowed_origins of the app\n"
            );
            self.reject(UpgradeRejection::Origin, StatusCode::FORBIDDEN, text)
        })
    }

    fn reject(&self, reason: UpgradeRejection, status: StatusCode, text: impl Into<String>) -> Response {
        let text = text.into();
        self.rejected.add(reason);
        tracing::debug!(status = status.as_u16(), reason = text.trim_end(), "a connection was rejected");
        (status, text).into_response()
    }
}

impl Collect for ConnectionPolicy {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters(
            "tidings_upgrades_refused",
            "Connections over HTTP that were rejected at their handshake, by reason",
            "reason",
            self.rejected.iter(),
        )
    }
}

/// The options that a handshake can agree on.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeOptions<'t> {
    /// Sub-protocols, in the order of preference.
    pub protocols: &'t [&'static str],
    /// Whether messages may be compressed (RFC 7692).
    pub deflate: bool,
}

/// A connection that has left HTTP. WebSocket frames follow in both directions.
#[derive(Debug)]
pub struct Upgraded {
    /// The connection, with `TCP_NODELAY`. The timeouts of HTTP no longer apply.
    pub stream: Stream,
    /// The bytes that followed the request, often none. They precede the bytes of the stream.
    pub received: Bytes,
    /// The agreed sub-protocol, one of [`HandshakeOptions::protocols`].
    pub protocol: Option<&'static str>,
    /// Whether messages may be compressed.
    pub deflate: bool,
    /// Must be kept as long as the connection, unless a shard owns the connection and counts it.
    pub permit: ConnectionPermit,
}

/// A connection that is registered with tokio.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// TLS over TCP. Written bytes are sent with the next flush.
    Tls(Box<TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixStream),
    /// A stream of HTTP/2.
    Http2(Box<Http2Connection>),
}

/// A WebSocket on a stream of an HTTP/2 connection.
#[derive(Debug)]
pub struct Http2Connection(Http2Stream);

/// Checks a WebSocket handshake. The first sub-protocol of the client that `options` contains is agreed on. A client
/// without any of them is accepted without one. Likewise compression is used only if the client offers it.
///
/// Returns the response and a future that resolves once the response is sent. The future fails if the connection breaks
/// before, or if the response is dropped.
///
/// # Errors
/// The response to a rejected request: 400 if it is not a handshake, 426 if it requests no upgrade or another version of the
/// protocol, 403 for a page of a foreign origin, 429 above the rate limit, 503 at the limit on connections and during a
/// shutdown.
pub fn accept(
    request: Request,
    policy: &ConnectionPolicy,
    options: &HandshakeOptions<'_>,
) -> Result<(Response, impl Future<Output = io::Result<Upgraded>> + Send + use<>), Response> {
    accept_from(request, policy, options, &[])
}

/// As [`accept`], for pages of these origins; without any, for pages of the origins in the configuration.
///
/// # Errors
/// As [`accept`].
pub fn accept_from(
    mut request: Request,
    policy: &ConnectionPolicy,
    options: &HandshakeOptions<'_>,
    origins: &[AllowedOrigin],
) -> Result<(Response, impl Future<Output = io::Result<Upgraded>> + Send + use<>), Response> {
    let bad = |text: &str| policy.reject(UpgradeRejection::Handshake, StatusCode::BAD_REQUEST, text);
    let required = |text: &str| {
        let mut response = policy.reject(UpgradeRejection::Handshake, StatusCode::UPGRADE_REQUIRED, text);
        // RFC 9110 §15.5.22, RFC 6455 §4.4.
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(handshake::VERSION));
        response
    };
    let headers = request.headers();
    let is_http2 = request.version() == Version::HTTP_2;
    let key = if is_http2 {
        // The layer above has checked the method of an extended CONNECT, and set the host.
        if request.extensions().get::<Protocol>().is_none() {
            return Err(bad(
                "a WebSocket over HTTP/2 begins with CONNECT and \":protocol: websocket\" (RFC 8441)\n",
            ));
        }
        if single(headers, &SEC_WEBSOCKET_VERSION) != Some(handshake::VERSION) {
            return Err(bad("only version 13 of the WebSocket protocol is supported (RFC 6455)\n"));
        }
        None
    } else {
        if request.method() != Method::GET || request.version() != Version::HTTP_11 {
            return Err(bad("a WebSocket begins with GET in HTTP/1.1 (nginx: proxy_http_version 1.1)\n"));
        }
        if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
            return Err(required(
                "this path is a WebSocket: the request needs \"Upgrade: websocket\" and \"Connection: Upgrade\", which a \
                 proxy may have removed\n",
            ));
        }
        if single(headers, &SEC_WEBSOCKET_VERSION) != Some(handshake::VERSION) {
            return Err(required("only version 13 of the WebSocket protocol is supported (RFC 6455)\n"));
        }
        if single(headers, &HOST).is_none() {
            return Err(bad("the request has no Host header\n"));
        }
        let Some(key) = single(headers, &SEC_WEBSOCKET_KEY).filter(|key| handshake::is_key(key)) else {
            return Err(bad("Sec-WebSocket-Key is not 16 bytes in base64\n"));
        };
        Some(key)
    };
    if !request.body().is_end_stream() {
        return Err(bad("a WebSocket handshake must not have a body\n"));
    }
    policy.check_origin_of(headers, request.extensions(), origins)?;
    let accepted =
        key.map(|key| HeaderValue::try_from(handshake::accept(key)).expect("base64 is valid in a header"));
    let offered = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let protocol = handshake::choose_protocol(offered(SEC_WEBSOCKET_PROTOCOL), options.protocols);
    let extension = options.deflate.then(|| deflate::negotiate(offered(SEC_WEBSOCKET_EXTENSIONS))).flatten();
    let permit = policy.acquire()?;

    let session = request.extensions().get::<Hijacker>().and_then(Hijacker::begin_session);
    let mut response = Response::new(Body::empty());
    match accepted {
        Some(accepted) => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
        }
        None => {
            response.extensions_mut().insert(LeavesHttp);
        }
    }
    let headers = response.headers_mut();
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    if let Some(extension) = extension {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(extension));
    }
    let deflate = extension.is_some();
    let pending = hyper::upgrade::on(&mut request);
    let upgraded = async move {
        let (stream, received) = into_stream(pending.await.map_err(io::Error::other)?, session)?;
        Ok(Upgraded { stream, received, protocol, deflate, permit })
    };
    Ok((response, upgraded))
}

/// Removes the wrappers of [`super::serve`] from a connection. `session` is that of a stream of HTTP/2.
fn into_stream(
    upgraded: hyper::upgrade::Upgraded,
    session: Option<SessionGuard>,
) -> io::Result<(Stream, Bytes)> {
    if let Some(session) = session {
        let stream = Http2Connection(Http2Stream::new(upgraded, session));
        return Ok((Stream::Http2(Box::new(stream)), Bytes::new()));
    }
    let other = match upgraded.downcast::<TokioIo<Wrapped<TcpStream>>>() {
        Ok(parts) => return Ok((Stream::Tcp(unwrap(parts.io)), parts.read_buf)),
        Err(other) => other,
    };
    let other = match other.downcast::<TokioIo<Wrapped<TlsStream<TcpStream>>>>() {
        Ok(parts) => return Ok((Stream::Tls(Box::new(unwrap(parts.io))), parts.read_buf)),
        Err(other) => other,
    };
    match other.downcast::<TokioIo<Wrapped<UnixStream>>>() {
        Ok(parts) => Ok((Stream::Unix(unwrap(parts.io)), parts.read_buf)),
        Err(_) => Err(io::Error::other("the connection is neither TCP nor a Unix socket")),
    }
}

/// A connection with the wrappers of [`super::serve`].
type Wrapped<T> = WriteTimeout<Rewind<T>>;

fn unwrap<T>(io: TokioIo<Wrapped<T>>) -> T {
    io.into_inner().into_inner().into_inner()
}

/// Whether a header with a list of tokens contains this token, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that occurs exactly once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

impl Stream {
    /// Deregisters the connection from tokio and returns its socket, for a shard.
    ///
    /// # Errors
    /// The error of the operating system when it cannot be deregistered.
    pub fn into_socket(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => stream.release(),
            Self::Tls(stream) => stream.release(),
            Self::Unix(stream) => stream.release(),
            Self::Http2(stream) => stream.0.into_socket(),
        }
    }
}

/// Evaluates an expression with the pinned stream of either kind.
macro_rules! with_stream {
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
            Self::Http2(stream) => {
                let $stream = Pin::new(&mut stream.0);
                $do
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_read(cx, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        with_stream!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self, stream => stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_shutdown(cx))
    }
}
