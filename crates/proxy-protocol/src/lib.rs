//! PROXY protocol headers (`tcp.proxy_protocol`, `http.proxy_protocol`): a trusted proxy states the address of its client at the
//! beginning of a connection, before TLS and before any protocol.
//!
//! Invariants:
//! - A header is accepted only over a Unix socket or from an address in `trusted_proxies`. A connection without a valid header is
//!   closed, never served as one of the proxy.
//! - A header has a deadline and a bound in bytes ([`MAX_HEADER`]). No byte after it is consumed.
//! - Every refusal is counted by its reason. Refusals that indicate a wrong configuration or an attack are logged, at most one
//!   line per reason and interval.

mod stream;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidings_log_throttle::LogThrottle;
use tidings_metrics::{Collect, KeyedCounters, Label as _, MetricWriter, labels};
use tidings_shard::Process;
use tidings_tls::{Port, close_with_notice, notice};
use tidings_wire::proxy_protocol::{self, Header, MAX_HEADER, Malformed};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

pub use stream::ProxiedStream;

labels! {
    /// The reason why a connection is refused.
    enum RefusalReason {
        /// The peer is not in `trusted_proxies`.
        Untrusted => "untrusted",
        /// The connection does not begin with a header.
        Missing => "missing",
        /// The header is malformed or too long.
        Malformed => "malformed",
        /// The header was not complete in time.
        TimedOut => "timed_out",
        /// The peer closed the connection before the end of the header.
        Closed => "closed",
        /// The limit on connections was reached.
        Limit => "limit",
    }
}

/// The reason why no header could be read.
#[derive(Debug, Error)]
enum HeaderError {
    #[error("its address is not in trusted_proxies")]
    Untrusted,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the header was not complete within {0:?}")]
    TimedOut(Duration),
    #[error("the peer closed the connection before the end of the header")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl HeaderError {
    fn reason(&self) -> RefusalReason {
        match self {
            Self::Untrusted => RefusalReason::Untrusted,
            Self::Malformed(Malformed::NoHeader) => RefusalReason::Missing,
            Self::Malformed(_) => RefusalReason::Malformed,
            Self::TimedOut(_) => RefusalReason::TimedOut,
            Self::Closed | Self::Io(_) => RefusalReason::Closed,
        }
    }
}

/// Reads the headers of connections of the line port and of the HTTP port.
#[derive(Debug)]
pub struct ProxyHeaders {
    /// Has the list of trusted proxies.
    process: Arc<Process>,
    deadline: Duration,
    refused: KeyedCounters<RefusalReason>,
    /// One for each reason.
    log: [LogThrottle; RefusalReason::ALL.len()],
    stop: watch::Sender<bool>,
}

impl ProxyHeaders {
    /// Accepts headers of the trusted proxies of `process` that are complete within `deadline`.
    pub fn new(process: Arc<Process>, deadline: Duration) -> Self {
        Self {
            process,
            deadline,
            refused: KeyedCounters::default(),
            log: std::array::from_fn(|_| LogThrottle::new()),
            stop: watch::Sender::new(false),
        }
    }

    /// Counts a connection that was closed at the limit on connections.
    pub fn count_refused(&self) {
        self.refused.add(RefusalReason::Limit);
    }

    /// Closes the connections of the line port whose header is being read, and reads no more of them. The HTTP port stops by
    /// itself.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Reads the header of an accepted connection. Returns the connection, from which nothing else was read, and the client's
    /// address; the address is `None` if the proxy opened the connection for itself, or does not know the client.
    ///
    /// `None` if the connection is refused. The refusal is counted, and a peer that has sent another protocol than a header has
    /// got a notice.
    pub async fn accept<S: ProxiedStream>(&self, mut stream: S, port: Port) -> Option<(S, Option<IpAddr>)> {
        let mut stopped = self.stop.subscribe();
        let peer = stream.peer();
        let read = async {
            if let Some(peer) = peer.as_ref().map_err(|error| io::Error::from(error.kind()))?
                && !self.process.addresses.is_proxy(*peer)
            {
                return Err(HeaderError::Untrusted);
            }
            let header = timeout(self.deadline, read_header(&mut stream)).await;
            header.map_err(|_| HeaderError::TimedOut(self.deadline))?
        };
        let result = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop), if port == Port::Line => return None,
            result = read => result,
        };
        match result {
            Ok(header) => Some((stream, header.source.map(|source| source.ip().to_canonical()))),
            Err(error) => {
                self.refuse(stream, port, peer.ok().flatten(), &error).await;
                None
            }
        }
    }

    async fn refuse<S: ProxiedStream>(
        &self,
        stream: S,
        port: Port,
        peer: Option<IpAddr>,
        error: &HeaderError,
    ) {
        let reason = error.reason();
        self.refused.add(reason);
        let option = match port {
            Port::Line => "tcp.proxy_protocol",
            Port::Http => "http.proxy_protocol",
        };
        let peer = peer.map_or_else(|| "a Unix socket".to_owned(), |peer| peer.to_string());
        if reason == RefusalReason::Closed {
            // Usually a health check or a port scan.
            tracing::debug!(%peer, option, %error, "a connection ended before its PROXY header");
        } else if let Some(times) = self.log[reason.index()].count() {
            tracing::warn!(%peer, option, reason = %error, times, "a connection without an acceptable PROXY header is closed");
        }
        if reason == RefusalReason::Missing {
            let mut first = [0];
            let Ok(1) = stream.peek(&mut first).await else { return };
            let text =
                format!("this port expects a PROXY protocol header ({option}): connect through the proxy");
            close_with_notice(stream, &notice(port, first[0], &text)).await;
        }
    }
}

impl Collect for ProxyHeaders {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters(
            "tidings_proxy_headers_refused",
            "Connections that were closed because of their PROXY protocol header, by reason",
            "reason",
            self.refused.iter(),
        )
    }
}

/// Reads a header and no byte after it.
async fn read_header<S: ProxiedStream>(stream: &mut S) -> Result<Header, HeaderError> {
    let mut bytes = vec![0; MAX_HEADER];
    let mut known = 0;
    loop {
        let seen = match stream.peek(&mut bytes[known..]).await? {
            0 => return Err(HeaderError::Closed),
            n => known + n,
        };
        let header = proxy_protocol::decode(&bytes[..seen])?;
        // An incomplete header is consumed as well, so that the next peek waits for further bytes.
        let end = header.map_or(seen, |header| header.length);
        stream.read_exact(&mut bytes[known..end]).await?;
        known = end;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

#[cfg(test)]
mod tests;
