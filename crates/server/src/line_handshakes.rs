//! TLS handshakes of the line port: a connection leaves its shard, is encrypted on the runtime, and returns to a shard.

use std::net::TcpStream;
use std::sync::Arc;

use tidings_log_throttle::LogThrottle;
use tidings_shard::{ShardMessage, Socket, TlsHandoff};
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
    fn secure(&self, stream: TcpStream) {
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
                    shared.shards.hand_over(ShardMessage::Connection(Socket::tls(stream, connection)));
                }
                Err(error) => tracing::debug!(%error, "a connection could not be handed over to a shard"),
            }
        });
    }
}
