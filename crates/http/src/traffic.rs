//! What happens on the HTTP listeners, counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

use super::pace::Wait;
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
    /// Which limit a request or a connection has exceeded.
    pub(super) enum Exceeded {
        /// `http.connection_limit`: a request.
        Limit => "limit",
        /// `http.connection_limit_per_address`: a connection.
        Address => "address",
    }
}

/// Connections and requests of the HTTP listeners.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections now.
    pub(super) connections: Arc<AtomicU64>,
    /// Connections now that are in the reserve.
    pub(super) reserve: AtomicU64,
    /// Connections that were closed for new ones.
    pub(super) gave_way: KeyedCounters<Wait>,
    /// Requests and connections that were rejected at a limit.
    pub(super) refused: KeyedCounters<Exceeded>,
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
            "Connections of the HTTP port past their limit, in the reserve for probes",
            reserve,
        )?;
        out.counters(
            "tidings_http_gave_way",
            "Slow connections of the HTTP port closed for new ones, by what they waited for",
            "waited_for",
            self.gave_way.iter(),
        )?;
        out.counters(
            "tidings_http_refused",
            "HTTP requests (limit) and connections (address) refused for want of a place",
            "reason",
            self.refused.iter(),
        )?;
        out.counters(
            "tidings_http_requests",
            "HTTP requests answered, by the class of their status; those that became streams are not among them",
            "code",
            self.responses.iter(),
        )
    }
}
