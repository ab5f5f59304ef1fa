//! HTTP/2 (RFC 9113) on the HTTP listeners, with WebSockets (RFC 8441).
//!
//! A stream of a connection is a request, or it leaves HTTP as a session, like a connection of HTTP/1.1. A session has no
//! socket of its own: its shard writes into a pipe ([`tidings_shard::Socket::pipe`]), and the task of the stream carries the bytes
//! as the client's flow control permits.
//!
//! Invariants:
//! - A request in progress holds a permit of its own ([`super::limiter`]), with its own minimum data rate ([`super::data_rate`]).
//!   A connection without requests holds one permit unless it carries sessions, see [`connection`].
//! - A client that does not read one stream blocks that stream alone. Per stream at most [`SEND_BUFFER`] bytes and one
//!   chunk of [`body::CHUNK`] bytes wait in HTTP/2, besides the pipe of a session.
//! - Unread input is bounded by [`STREAM_WINDOW`] per stream and [`CONNECTION_WINDOW`] per connection.
//! - A connection ends without requests and sessions (`HttpLimits::head`), if it does not answer pings, and if its socket
//!   accepts no bytes (`HttpLimits::unread`).

pub(super) mod body;
mod connection;
mod request;
pub(super) mod stream;
pub(super) mod websocket;

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router as Routes;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::data_rate::DataRateMonitor;
use super::forwarded::Peer;
use super::hijacker::{Hijacker, LeavesHttp};
use super::limiter::HttpPermit;
use super::limits::HttpLimits;
use super::respond::{respond, until_stopped};
use super::write_timeout::WriteTimeout;

use body::StreamBody;
use connection::{CloseCause, Connection};
use stream::{RequestGuard, StreamContext, StreamExecutor};

/// Most unread bytes of the body of one request, or of the messages of one WebSocket.
const STREAM_WINDOW: u32 = 64 << 10;
/// Most unread bytes of all streams of a connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Most bytes of one stream that wait for the socket or for the client's flow control.
const SEND_BUFFER: usize = 32 << 10;
/// Most streams that the client has reset and that are not processed yet. With more, the connection is closed
/// (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Most streams that the server has reset because of errors of the client. With more, the connection is closed.
const ERROR_RESETS: usize = 128;
/// The interval of pings.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// The longest time until a ping is answered.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The time for an evicted connection to send its last responses.
const EVICTION_GRACE: Duration = Duration::from_millis(250);

/// A connection for [`serve`].
pub(super) struct Accepted<I> {
    pub(super) io: I,
    pub(super) peer: Peer,
    pub(super) permit: HttpPermit,
}

/// Serves a connection until it ends. `drain` requests clients to open their next streams elsewhere; after `stop` the
/// connection ends with its streams.
pub(super) async fn serve<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    accepted: Accepted<I>,
    routes: Routes,
    limits: HttpLimits,
    mut drain: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let Accepted { io, peer, permit } = accepted;
    // The monitor of the whole connection is not that of a permit: it only ends a connection that accepts no bytes.
    let monitor = DataRateMonitor::new(0, None, Arc::default(), limits.min_rate, limits.body);
    let monitor = OwnMonitor(monitor);
    let io = TokioIo::new(WriteTimeout::new(io, limits.unread, Arc::clone(&monitor.0)));
    let connection = Connection::new(permit, peer, limits.unread);
    let executor = StreamExecutor::default();
    let mut http = http2::Builder::new(executor.clone());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .enable_connect_protocol();
    let routes = TowerToHyperService::new(routes);
    let state = Arc::clone(&connection);
    let service = service_fn(move |request: Request<Incoming>| {
        let context = StreamContext::new(&state);
        executor.begin(&context);
        respond_to_stream(request, RequestGuard::new(&context), context, routes.clone())
    });
    let mut served = http.serve_connection(io, service);
    let (mut is_draining, mut is_stopping) = (false, false);
    let mut end: Option<Pin<Box<tokio::time::Sleep>>> = None;
    let mut closing = pin!(connection.until_closing(limits.head));
    let mut has_closed = false;
    loop {
        tokio::select! {
            biased;
            outcome = &mut served => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "an HTTP/2 connection has ended");
                }
                return;
            }
            cause = &mut closing, if !has_closed => {
                has_closed = true;
                let grace = match cause {
                    CloseCause::Idle => limits.unread,
                    CloseCause::Evicted => EVICTION_GRACE,
                };
                end = Some(Box::pin(tokio::time::sleep(grace)));
            }
            () = async { end.as_mut().expect("checked").await }, if end.is_some() => return,
            () = until_stopped(&mut drain), if !is_draining => is_draining = true,
            () = until_stopped(&mut stop), if !is_stopping => is_stopping = true,
        }
        // GOAWAY: the client opens further streams on another connection.
        Pin::new(&mut served).graceful_shutdown();
    }
}

/// The monitor of a connection, which lists itself while its socket is not writable.
struct OwnMonitor(Arc<DataRateMonitor>);

impl Drop for OwnMonitor {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Responds to the request of a stream, which may leave HTTP.
async fn respond_to_stream(
    mut request: Request<Incoming>,
    guard: RequestGuard,
    context: Arc<StreamContext>,
    routes: TowerToHyperService<Routes>,
) -> Result<Response<StreamBody>, Infallible> {
    let rejected = |response: Response, guard| {
        context.count_response(response.status());
        Ok(response.map(|body| StreamBody::of_request(body, guard)))
    };
    let is_websocket = match request::normalize(&mut request) {
        Ok(is_websocket) => is_websocket,
        Err(rejection) => return rejected(rejection.into_response(), guard),
    };
    let Some(permit) = context.acquire_permit().await else {
        let rejection = context.rejection();
        return Ok(rejection.map(|body| StreamBody::of_request(body, guard)));
    };
    request.extensions_mut().insert(Hijacker::of_stream(Arc::clone(&context)));
    request.extensions_mut().insert(context.peer());
    let response = respond(request, routes, permit).await;
    if response.extensions().get::<LeavesHttp>().is_some() {
        return Ok(response.map(StreamBody::of_session));
    }
    if is_websocket && response.status().is_success() {
        // Any success would complete the client's handshake.
        let text = "this path is not a WebSocket\n";
        return rejected((StatusCode::BAD_REQUEST, text).into_response(), guard);
    }
    Ok(response.map(|body: Body| StreamBody::of_request(body, guard)))
}

#[cfg(test)]
mod tests;
