//! PROXY headers and TLS handshakes of the line port: a connection leaves its shard, is prepared on the runtime, and returns to
//! a shard.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

use tidings_log_throttle::LogThrottle;
use tidings_proxy_protocol::{ProxiedStream, ProxyHeaders};
use tidings_shard::{
    AcceptedConnection, LineConnection, LineRules, ProxyHandoff, ShardMessage, Socket, TlsHandoff,
};
use tokio::runtime::Handle;

use crate::shards::Shards;
use tidings_http::ConnectionLimiter;
use tidings_tls::{Port, Tls};

/// Takes connections of the line port from shards, performs the TLS handshake, and returns them encrypted.
#[derive(Debug)]
pub(crate) struct LineHandshakes {
    shared: Arc<Shared>,
    runtime: Handle,
}

#[derive(Debug)]
struct Shared {
    tls: Arc<Tls>,
    limiter: Arc<ConnectionLimiter>,
    shards: Arc<Shards>,
}

impl LineHandshakes {
    /// A handoff that returns connections to `shards`. Call within the tokio runtime that is to perform the handshakes.
    pub(crate) fn new(tls: Arc<Tls>, limiter: Arc<ConnectionLimiter>, shards: Arc<Shards>) -> Self {
        Self { shared: Arc::new(Shared { tls, limiter, shards }), runtime: Handle::current() }
    }
}

impl TlsHandoff for LineHandshakes {
    fn secure(&self, stream: TcpStream, proxy_source: Option<IpAddr>, is_mqtt: bool) {
        let shared = Arc::clone(&self.shared);
        let Some(permit) = shared.limiter.acquire_accepted() else {
            shared.tls.count_refused();
            return;
        };
        self.runtime.spawn(async move {
            let accepted = match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => shared.tls.accept(stream, Port::Line).await,
                Err(error) => {
                    static LINES: LogThrottle = LogThrottle::new();
                    if let Some(times) = LINES.count() {
                        tracing::error!(%error, times, "a connection could not be registered with tokio");
                    }
                    return;
                }
            };
            let Some(secured) = accepted else { return };
            let (stream, connection) = secured.into_inner();
            match stream.into_std() {
                Ok(stream) => {
                    // The shard counts the connection from here on.
                    drop(permit);
                    let socket = Socket::tls(stream, connection);
                    let rules = LineRules { requires_tls: false, is_mqtt };
                    let connection = LineConnection { socket, proxy_source, rules };
                    shared.shards.hand_over(ShardMessage::Connection(connection));
                }
                Err(error) => tracing::debug!(%error, "a connection could not be handed over to a shard"),
            }
        });
    }
}

/// Takes connections of the line port from shards, reads their PROXY header, and returns them with its source.
#[derive(Debug)]
pub(crate) struct LineHeaders {
    shared: Arc<SharedHeaders>,
    runtime: Handle,
}

#[derive(Debug)]
struct SharedHeaders {
    headers: Arc<ProxyHeaders>,
    limiter: Arc<ConnectionLimiter>,
    shards: Arc<Shards>,
}

impl LineHeaders {
    /// A handoff that returns connections to `shards`. Call within the tokio runtime that is to read the headers.
    pub(crate) fn new(
        headers: Arc<ProxyHeaders>,
        limiter: Arc<ConnectionLimiter>,
        shards: Arc<Shards>,
    ) -> Self {
        Self { shared: Arc::new(SharedHeaders { headers, limiter, shards }), runtime: Handle::current() }
    }
}

impl ProxyHandoff for LineHeaders {
    fn read_header(&self, connection: AcceptedConnection, rules: LineRules) {
        let shared = Arc::clone(&self.shared);
        let Some(permit) = shared.limiter.acquire_accepted() else {
            shared.headers.count_refused();
            return;
        };
        self.runtime.spawn(async move {
            let returned = match connection {
                AcceptedConnection::Tcp(stream) => {
                    let stream = tokio::net::TcpStream::from_std(stream);
                    let back = |stream: tokio::net::TcpStream| Ok(Socket::tcp(stream.into_std()?));
                    shared.read(stream, back).await
                }
                AcceptedConnection::Unix(stream) => {
                    let stream = tokio::net::UnixStream::from_std(stream);
                    let back = |stream: tokio::net::UnixStream| Ok(Socket::unix(stream.into_std()?));
                    shared.read(stream, back).await
                }
            };
            match returned {
                Ok(Some((socket, proxy_source))) => {
                    // The shard counts the connection from here on.
                    drop(permit);
                    let connection = LineConnection { socket, proxy_source, rules };
                    shared.shards.hand_over(ShardMessage::Connection(connection));
                }
                Ok(None) => {}
                Err(error) => {
                    static LINES: LogThrottle = LogThrottle::new();
                    if let Some(times) = LINES.count() {
                        tracing::error!(%error, times, "a connection could not leave or return to a shard");
                    }
                }
            }
        });
    }
}

impl SharedHeaders {
    /// Reads the header; `None` if the connection is refused. `back` deregisters the connection from tokio.
    async fn read<S: ProxiedStream>(
        &self,
        stream: io::Result<S>,
        back: impl FnOnce(S) -> io::Result<Socket>,
    ) -> io::Result<Option<(Socket, Option<IpAddr>)>> {
        match self.headers.accept(stream?, Port::Line).await {
            Some((stream, source)) => Ok(Some((back(stream)?, source))),
            None => Ok(None),
        }
    }
}
