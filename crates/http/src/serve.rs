//! The accept loop, and serving HTTP connections within limits until they end or leave HTTP (see [`Hijacker`]).
//! Connections with HTTP/2 continue in [`super::http2`].

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router as Routes;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tidings_log_throttle::LogThrottle;
use tidings_shard::Process;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::bodies::ResponseBody;
use super::data_rate::WaitingFor;
use super::forwarded::Peer;
use super::hijacker::Hijacker;
use super::http2;
use super::limiter::{HttpLimiter, HttpPermit};
use super::limits::HttpLimits;
use super::listener::{Accept, Opened, Release};
use super::preface::Rewind;
use super::respond::{respond, until_stopped};
use super::traffic::Traffic;
use super::write_timeout::WriteTimeout;

/// The pause after a failed accept, because the error would repeat at once: too many open files, for example.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The time for an evicted connection to send its last response.
const EVICTION_GRACE: Duration = Duration::from_millis(250);

/// The limits and permits that all listeners share.
#[derive(Debug)]
pub(super) struct ListenerState {
    limits: HttpLimits,
    limiter: Arc<HttpLimiter>,
    /// Has the list of trusted proxies.
    process: Arc<Process>,
    drain: watch::Sender<bool>,
}

impl ListenerState {
    pub(super) fn new(limits: HttpLimits, traffic: Arc<Traffic>, process: Arc<Process>) -> Self {
        Self {
            limits: limits.clone(),
            limiter: Arc::new(HttpLimiter::new(limits, traffic)),
            process,
            drain: watch::Sender::new(false),
        }
    }

    /// Requests clients with HTTP/2 to open their next streams on other connections.
    pub(super) fn drain(&self) {
        self.drain.send_replace(true);
    }

    /// Waits for a connection, and for its permit. At most one connection for each listener waits for a permit here;
    /// further ones wait in the kernel.
    async fn next<A: Accept>(&self, listener: &A) -> (A::Raw, HttpPermit) {
        loop {
            let raw = self.accept(listener).await;
            // The limit by address applies to clients. A trusted proxy carries the requests of many clients.
            let address = A::peer(&raw).filter(|peer| !self.process.addresses.is_proxy(*peer));
            if let Some(permit) = self.limiter.acquire(address).await {
                return (raw, permit);
            }
        }
    }

    async fn accept<A: Accept>(&self, listener: &A) -> A::Raw {
        static LINES: LogThrottle = LogThrottle::new();
        loop {
            match listener.accept().await {
                Ok(io) => return io,
                // The peer closed the connection before the accept (accept(2): ECONNABORTED).
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    if let Some(times) = LINES.count() {
                        tracing::warn!(%error, times, "cannot accept HTTP connections; retrying every 100 ms");
                    }
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// Serves a listener's connections until `stop` is set, and then until the requests in progress have responses.
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
            () = until_stopped(&mut stop) => break,
            next = state.next(&listener) => next,
        };
        // Removes connections that have ended. At most `HttpLimits::connections` and the reserve remain.
        while served.try_join_next().is_some() {}
        let peer = A::peer(&raw);
        served.spawn(connection(
            listener.open(raw),
            (peer, permit),
            routes.clone(),
            Arc::clone(&state),
            stopped,
        ));
    }
    drop(listener);
    while served.join_next().await.is_some() {}
}

async fn connection<I: Release + AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    opening: impl Future<Output = Option<Opened<I>>>,
    (socket_peer, mut permit): (Option<IpAddr>, HttpPermit),
    routes: Routes,
    state: Arc<ListenerState>,
    mut stop: watch::Receiver<bool>,
) {
    let limits = &state.limits;
    let monitor = Arc::clone(&permit.monitor);
    let opening = async {
        let Opened { io, proxy_source } = opening.await?;
        let mut io = Rewind::new(io);
        let is_http2 = limits.http2
            && match io.get_ref().has_agreed_on_http2() {
                Some(has_agreed) => has_agreed,
                None => tokio::time::timeout(limits.head, io.begins_http2()).await.ok()?.ok()?,
            };
        Some((io, is_http2, proxy_source))
    };
    let opened = tokio::select! {
        opened = opening => opened,
        _ = monitor.until_evicted() => return,
        () = until_stopped(&mut stop) => return,
    };
    let Some((io, is_http2, proxy_source)) = opened else { return };
    let client = proxy_source.filter(|source| !state.process.addresses.is_proxy(*source));
    if client.is_some_and(|client| !permit.assign(client)) {
        return;
    }
    let peer = Peer { socket: socket_peer, proxy_source };
    if is_http2 {
        let accepted = http2::Accepted { io, peer, permit };
        return http2::serve(accepted, routes, limits.clone(), state.drain.subscribe(), stop).await;
    }
    let permit = Arc::new(permit);
    let io = TokioIo::new(WriteTimeout::new(io, limits.unread, Arc::clone(&monitor)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(limits.head_bytes);
    // A client that has shut down its sending side still reads the response.
    http.half_close(true);
    let (hijacker, mut hijacked) = Hijacker::of_connection();
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(hijacker.clone());
        request.extensions_mut().insert(peer);
        respond_on_connection(request, routes.clone(), Arc::clone(&permit))
    });
    let mut served = http.serve_connection(io, service).with_upgrades();
    let mut stopped = false;
    let mut grace = None;
    let on_hijack = loop {
        tokio::select! {
            // First, so that earlier responses are sent before the connection leaves.
            biased;
            outcome = &mut served => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "an HTTP connection has ended");
                }
                return;
            }
            Ok(on_hijack) = &mut hijacked => break on_hijack,
            (waiting_for, has_sent_request) = monitor.until_evicted(), if grace.is_none() => {
                // Without a request nothing is lost, and a peer that does not read cannot receive a response.
                if waiting_for == WaitingFor::Response || !has_sent_request {
                    return;
                }
                grace = Some(Box::pin(tokio::time::sleep(EVICTION_GRACE)));
            }
            () = async { grace.as_mut().expect("checked").await }, if grace.is_some() => return,
            () = until_stopped(&mut stop), if !stopped => stopped = true,
        }
        Pin::new(&mut served).graceful_shutdown();
    };
    let Some(parts) = served.into_parts() else { return };
    match parts.io.into_inner().into_inner().into_inner().release() {
        Ok(socket) => on_hijack(socket),
        Err(error) => tracing::debug!(%error, "an HTTP connection could not be handed over to a shard"),
    }
}

/// Responds to one request of HTTP/1.1.
async fn respond_on_connection(
    request: Request<Incoming>,
    routes: TowerToHyperService<Routes>,
    permit: Arc<HttpPermit>,
) -> Result<Response<ResponseBody>, Infallible> {
    let mut response = respond(request, routes, Arc::clone(&permit)).await;
    let monitor = Arc::clone(&permit.monitor);
    let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !is_upgrade && (permit.is_reserve() || monitor.is_too_slow()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| ResponseBody::new(body, monitor)))
}

#[cfg(test)]
pub(super) mod tests;
