//! Counters of the HTTP listeners.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{StatusCode, Version};

use super::data_rate::WaitingFor;
use tidings_metrics::{Collect, KeyedCounters, Label as _, MetricWriter, labels};

labels! {
    /// The class of a response's status.
    pub(super) enum StatusClass {
        Informational => "1xx",
        Success => "2xx",
        Redirect => "3xx",
        ClientError => "4xx",
        ServerError => "5xx",
    }
}

labels! {
    /// The limit that a request or a connection has exceeded.
    pub(super) enum ExceededLimit {
        /// `http.connection_limit`, for a request.
        Limit => "limit",
        /// `http.connection_limit_per_address`, for a connection.
        Address => "address",
    }
}

labels! {
    /// The version of HTTP of a request.
    enum HttpVersion {
        Http10 => "1.0",
        Http11 => "1.1",
        Http2 => "2",
    }
}

labels! {
    /// The use of a stream of HTTP/2.
    enum StreamUse {
        Request => "request",
        Session => "session",
    }
}

/// Connections and requests of the HTTP listeners.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Current connections.
    pub(super) connections: Arc<AtomicU64>,
    /// Current connections with a permit of the reserve.
    pub(super) reserve: AtomicU64,
    /// Slow connections that were closed for new ones.
    pub(super) evicted: KeyedCounters<WaitingFor>,
    /// Requests and connections that were rejected at a limit.
    pub(super) rejected: KeyedCounters<ExceededLimit>,
    responses: KeyedCounters<StatusClass>,
    requests: KeyedCounters<HttpVersion>,
    http2: Http2Traffic,
}

/// Current connections and streams of HTTP/2.
#[derive(Debug, Default)]
struct Http2Traffic {
    connections: AtomicU64,
    requests: AtomicU64,
    sessions: AtomicU64,
    /// Streams that were reset because their clients did not read.
    cut: AtomicU64,
}

/// Adds to a gauge.
fn change(gauge: &AtomicU64, by: i64) {
    gauge.fetch_add(by.cast_unsigned(), Ordering::Relaxed);
}

impl Traffic {
    /// Counts a response.
    pub(super) fn count_response(&self, status: StatusCode) {
        self.responses.add(match status.as_u16() / 100 {
            1 => StatusClass::Informational,
            2 => StatusClass::Success,
            3 => StatusClass::Redirect,
            4 => StatusClass::ClientError,
            _ => StatusClass::ServerError,
        });
    }

    /// Counts a request, also one that becomes a stream.
    pub(super) fn count_request(&self, version: Version) {
        self.requests.add(match version {
            Version::HTTP_2 => HttpVersion::Http2,
            Version::HTTP_11 => HttpVersion::Http11,
            _ => HttpVersion::Http10,
        });
    }

    /// Changes the number of HTTP/2 connections.
    pub(super) fn http2_connections(&self, by: i64) {
        change(&self.http2.connections, by);
    }

    /// Changes the number of streams that are requests.
    pub(super) fn http2_requests(&self, by: i64) {
        change(&self.http2.requests, by);
    }

    /// Changes the number of streams that are sessions.
    pub(super) fn http2_sessions(&self, by: i64) {
        change(&self.http2.sessions, by);
    }

    #[cfg(test)]
    pub(super) fn http2_connections_now(&self) -> u64 {
        self.http2.connections.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn http2_sessions_now(&self) -> u64 {
        self.http2.sessions.load(Ordering::Relaxed)
    }

    /// Counts a stream that was reset because its client did not read.
    pub(super) fn count_cut_stream(&self) {
        self.http2.cut.fetch_add(1, Ordering::Relaxed);
    }
}

impl Collect for Traffic {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let (connections, reserve) = (&self.connections, &self.reserve);
        let (connections, reserve) = (connections.load(Ordering::Relaxed), reserve.load(Ordering::Relaxed));
        out.gauge("tidings_http_connections", None, "Connections of the HTTP port", connections)?;
        out.gauge(
            "tidings_http_reserve_connections",
            None,
            "Connections of the HTTP port beyond its limit, in the reserve for probes",
            reserve,
        )?;
        out.counters(
            "tidings_http_evicted",
            "Slow connections of the HTTP port that were closed for new ones, by what they waited for",
            "waited_for",
            self.evicted.iter(),
        )?;
        out.counters(
            "tidings_http_refused",
            "HTTP requests (limit) and connections (address) that were rejected at a limit on connections",
            "reason",
            self.rejected.iter(),
        )?;
        out.counters(
            "tidings_http_requests",
            "HTTP responses by the class of their status, without requests that became streams",
            "code",
            self.responses.iter(),
        )?;
        out.counters(
            "tidings_http_requests_received",
            "HTTP requests by the version of HTTP, with those that became streams",
            "version",
            self.requests.iter(),
        )?;
        let http2 = &self.http2;
        let [connections, requests, sessions, cut] =
            [&http2.connections, &http2.requests, &http2.sessions, &http2.cut]
                .map(|number| number.load(Ordering::Relaxed));
        out.gauge("tidings_http2_connections", None, "Connections of HTTP/2", connections)?;
        out.gauges(
            "tidings_http2_streams",
            "Streams of HTTP/2 connections: requests, and sessions of clients (event streams and WebSockets)",
            "use",
            [(StreamUse::Request.label(), requests), (StreamUse::Session.label(), sessions)],
        )?;
        out.counter(
            "tidings_http2_streams_reset",
            None,
            "Streams of HTTP/2 that were reset because their clients did not read the response",
            cut,
        )
    }
}
