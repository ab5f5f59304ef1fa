//! Counters of the HTTP listeners.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

use super::pace::WaitingFor;
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

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
            "tidings_http_gave_way",
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
        )
    }
}
