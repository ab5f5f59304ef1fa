//! Accepting HTTP connections and serving them within bounds, until they end or leave HTTP: a request may take over its
//! connection, see [`Exit`].

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router as Routes;
use axum::http::header::{CONNECTION, HeaderValue, UPGRADE};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tidings_shard::{Process, Socket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::bodies::{AnswerBody, RequestBody};
use super::forwarded::Peer;
use super::limiter::{HttpLimiter, HttpPermit};
use super::listener::{Accept, Release};
use super::pace::Wait;
use super::traffic::Traffic;
use super::write_timeout::WriteTimeout;
use tidings_config::HttpOptions;

/// The limits on connections and requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections of all listeners together, beside a few for probes, see [`super::limiter`]. One that is no longer
    /// HTTP's does not count.
    pub(super) connections: usize,
    /// How many of them one address may have.
    pub(super) of_address: usize,
    /// Whether that holds for loopback addresses too, where proxies on this machine connect from.
    pub(super) of_loopback: bool,
    /// The minimum rate of bodies and of reading answers, in bytes per second; 0: there is none, and only a peer that
    /// is silent falls behind.
    pub(super) min_rate: u32,
    /// How long a connection may take from being ready for a request to having its whole head: a slow head and a
    /// kept connection without requests end by it.
    pub(super) head: Duration,
    /// How far a request's body may fall behind the minimum rate.
    pub(super) body: Duration,
    /// How far a peer may fall behind it in reading an answer.
    pub(super) unread: Duration,
    /// The longest head in bytes; a longer one is answered with 431.
    pub(super) head_bytes: usize,
    /// The paths that the reserve serves.
    pub(super) reserve: ReservePaths,
}

/// The paths that the reserve of permits serves ([`super::RESERVE`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct ReservePaths {
    /// Paths of probes.
    pub probes: &'static [&'static str],
    /// Prefixes of the paths of WebSockets, whose handshakes the reserve serves too.
    pub websockets: &'static [&'static str],
}

impl ReservePaths {
    /// Whether the reserve serves a request: a probe, or a WebSocket handshake, which leaves HTTP at once.
    fn serve(&self, request: &Request<Incoming>) -> bool {
        let path = request.uri().path();
        let becomes_websocket = || {
            let upgrade = request.headers().get(UPGRADE);
            upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
                && self.websockets.iter().any(|prefix| path.starts_with(prefix))
        };
        request.body().is_end_stream() && (self.probes.contains(&path) || becomes_websocket())
    }
}

impl Bounds {
    /// Those of a server with so many connections.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            connections,
            of_address: connections,
            of_loopback: true,
            min_rate: 240,
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            unread: Duration::from_secs(30),
            head_bytes: 16 << 10,
            reserve: ReservePaths::default(),
        }
    }

    /// Those that are configured.
    pub(super) fn from_config(options: &HttpOptions) -> Self {
        let of_address = match options.connection_limit_per_address {
            0 => options.connection_limit.div_ceil(2),
            limit => limit,
        };
        let min_rate = u32::try_from(options.min_data_rate).unwrap_or(u32::MAX);
        let of_loopback = options.connection_limit_per_address > 0;
        Self { of_address, of_loopback, min_rate, ..Self::new(options.connection_limit) }
    }
}

/// How long accepting rests after an error that would come again at once, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long an evicted connection may take to end.
const EVICTION_GRACE: Duration = Duration::from_millis(250);

/// What all listeners share: limits and permits.
#[derive(Debug)]
pub(super) struct ListenerState {
    bounds: Bounds,
    limiter: Arc<HttpLimiter>,
    /// The trusted proxies, whose connections carry requests of many clients.
    process: Arc<Process>,
}

impl ListenerState {
    pub(super) fn new(bounds: Bounds, traffic: Arc<Traffic>, process: Arc<Process>) -> Self {
        Self { bounds, limiter: Arc::new(HttpLimiter::new(bounds, traffic)), process }
    }

    /// Waits for a connection, and for its permit. At most one connection for each listener waits for a permit here;
    /// further ones wait in the kernel.
    async fn next<A: Accept>(&self, listener: &A) -> (A::Raw, HttpPermit) {
        loop {
            let raw = self.accept(listener).await;
            // The limit of an address applies to clients; a connection of a trusted proxy carries requests of many.
            let address = A::peer(&raw).filter(|peer| !self.process.addresses.is_proxy(*peer));
            if let Some(permit) = self.limiter.acquire(address).await {
                return (raw, permit);
            }
        }
    }

    async fn accept<A: Accept>(&self, listener: &A) -> A::Raw {
        let mut logged = false;
        loop {
            match listener.accept().await {
                Ok(io) => return io,
                // The peer gave up before it was accepted (accept(2): ECONNABORTED).
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    if !std::mem::replace(&mut logged, true) {
                        tracing::warn!(%error, "cannot accept HTTP connections; trying again until it works");
                    }
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

/// Takes over a connection that leaves HTTP.
type Leave = Box<dyn FnOnce(Socket) + Send>;

/// Takes a request's connection out of HTTP, so that the response is written by other means; an extension of the request.
#[derive(Clone)]
pub struct Exit(Arc<Mutex<Option<oneshot::Sender<Leave>>>>);

impl Exit {
    fn new() -> (Self, oneshot::Receiver<Leave>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }

    /// Calls `with` with the connection. Never resolves: the caller is dropped. Bytes that the client has sent after the
    /// request are discarded.
    pub async fn leave(&self, with: impl FnOnce(Socket) + Send + 'static) -> Response {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // The receiver is gone when the connection has broken.
            let _ = sender.send(Box::new(with));
        }
        std::future::pending().await
    }
}

/// Serves a listener's connections until `stop` is set; then ends once the requests under way are answered.
pub(super) async fn listen<A: Accept + Sync>(
    listener: A,
    routes: Routes,
    state: Arc<ListenerState>,
    mut stop: watch::Receiver<bool>,
) {
    let mut served = JoinSet::new();
    loop {
        let stopped = stop.clone();
        let (raw, permit) = tokio::select! {
            () = stopping(&mut stop) => break,
            next = state.next(&listener) => next,
        };
        // Connections that have ended are removed; at most `Bounds::connections` remain.
        while served.try_join_next().is_some() {}
        let permit = (Peer(A::peer(&raw)), permit);
        served.spawn(connection(listener.open(raw), permit, routes.clone(), Arc::clone(&state), stopped));
    }
    drop(listener);
    while served.join_next().await.is_some() {}
}

async fn connection<I: Release + AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    opening: impl Future<Output = Option<I>>,
    (peer, permit): (Peer, HttpPermit),
    routes: Routes,
    state: Arc<ListenerState>,
    mut stop: watch::Receiver<bool>,
) {
    let (permit, bounds) = (Arc::new(permit), state.bounds);
    let pace = Arc::clone(&permit.pace);
    let io = tokio::select! {
        io = opening => io,
        _ = pace.evicted() => return,
        () = stopping(&mut stop) => return,
    };
    let Some(io) = io else { return };
    let io = TokioIo::new(WriteTimeout::new(io, bounds.unread, Arc::clone(&pace)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(bounds.head_bytes);
    // A client that has shut down its sending side still reads the response.
    http.half_close(true);
    let (exit, mut left) = Exit::new();
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(exit.clone());
        request.extensions_mut().insert(peer);
        answer(request, routes.clone(), Arc::clone(&permit))
    });
    let mut served = http.serve_connection(io, service).with_upgrades();
    let mut stopped = false;
    let mut given_up = None;
    let leave = loop {
        tokio::select! {
            // First, so that earlier responses are sent before the connection leaves.
            biased;
            outcome = &mut served => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "an HTTP connection has ended");
                }
                return;
            }
            Ok(leave) = &mut left => break leave,
            (wait, has_asked) = pace.evicted(), if given_up.is_none() => {
                // A connection without a request loses nothing, and a peer that does not read receives nothing.
                if wait == Wait::Answer || !has_asked {
                    return;
                }
                given_up = Some(Box::pin(tokio::time::sleep(EVICTION_GRACE)));
            }
            () = async { given_up.as_mut().expect("checked").await }, if given_up.is_some() => return,
            () = stopping(&mut stop), if !stopped => stopped = true,
        }
        Pin::new(&mut served).graceful_shutdown();
    };
    let Some(parts) = served.into_parts() else { return };
    match parts.io.into_inner().into_inner().release() {
        Ok(socket) => leave(socket),
        Err(error) => tracing::debug!(%error, "an HTTP connection could not be handed over"),
    }
}

/// Answers one request, which needs a regular permit unless the reserve serves it.
async fn answer(
    request: Request<Incoming>,
    routes: TowerToHyperService<Routes>,
    permit: Arc<HttpPermit>,
) -> Result<Response<AnswerBody>, Infallible> {
    let pace = Arc::clone(&permit.pace);
    pace.head_received();
    let mut answer =
        if permit.is_reserve() && !permit.reserve_paths().serve(&request) && !permit.promote().await {
            permit.refusal()
        } else {
            let watched = Arc::clone(&pace);
            match routes.call(request.map(|body| RequestBody::new(body, watched))).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            }
        };
    if pace.is_too_slow() {
        let text = "the request's body came too slowly (http.min_data_rate)\n";
        answer = (StatusCode::REQUEST_TIMEOUT, text).into_response();
    }
    let is_upgrade = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !is_upgrade && (permit.is_reserve() || pace.is_too_slow()) {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer.map(|body| AnswerBody::new(body, pace)))
}

/// Completes when `stop` is set or its sender is dropped.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
