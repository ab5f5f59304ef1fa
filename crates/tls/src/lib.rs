//! TLS of the server's listeners: the certificate and its renewal, and the handshakes.
//!
//! [`material`] reads certificates and keys and builds the configurations of rustls. Handshakes run on the threads of the
//! tokio runtime, because a signature on the thread of a shard would delay all connections of the shard. The server takes
//! connections of the line port from shards and returns them encrypted (`line_handshakes.rs`); on the HTTP port the
//! handshake precedes HTTP. After the handshake a connection is encrypted where it is served.
//!
//! Invariants:
//! - A handshake has a deadline (`tls.handshake_timeout`), and the number of concurrent handshakes is limited
//!   (`tls.handshake_limit`). A peer that has sent nothing yet does not count against the limit.
//! - A renewed certificate applies to every later handshake. A certificate that cannot be used changes nothing: the
//!   previous one stays in use, and the failure is logged and counted.
//! - A peer that sends plaintext gets a notice in its protocol before its connection is closed.

mod material;
mod reload;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use tidings_config::{Config, Http2, TlsOptions};
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

pub use material::MaterialError;
pub use reload::Renewal;

use material::{Material, ServerConfigs};
use reload::ReloadOutcome;

/// The first byte of a TLS connection: the record type of a handshake (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 0x16;
/// The most bytes that are read from a rejected peer before its connection is closed. Unread bytes at the close would
/// make the kernel send a reset, which can discard the notice before the peer reads it.
const LINGER_BYTES: usize = 64 << 10;
/// The longest time for which a rejected peer is read from.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// The port of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The line port.
    Line,
    /// The HTTP port.
    Http,
}

labels! {
    /// The outcome of a handshake.
    enum HandshakeOutcome {
        /// The connection is encrypted.
        Done => "done",
        /// The two sides did not agree, or the peer closed the connection.
        Failed => "failed",
        /// The handshake took longer than `tls.handshake_timeout`.
        TimedOut => "timed_out",
        /// The peer sent plaintext to a port that requires TLS.
        Plaintext => "plaintext",
        /// The limit on connections was reached.
        Refused => "refused",
    }
}

/// Handshakes and certificate reloads.
#[derive(Debug, Default)]
struct TlsCounters {
    handshakes: KeyedCounters<HandshakeOutcome>,
    reloads: KeyedCounters<ReloadOutcome>,
}

/// Reports the metrics of TLS. Without TLS all values are zero.
pub struct TlsMetrics(pub Option<Arc<Tls>>);

impl Collect for TlsMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let none = TlsCounters::default();
        let counters = self.0.as_ref().map_or(&none, |tls| &tls.counters);
        let pending = self.0.as_ref().map_or(0, |tls| tls.pending());
        out.counters(
            "tidings_tls_handshakes",
            "TLS handshakes of both ports, by outcome",
            "outcome",
            counters.handshakes.iter(),
        )?;
        out.gauge("tidings_tls_handshakes_pending", None, "TLS handshakes in progress", pending)?;
        out.counters(
            "tidings_tls_reloads",
            "Reloads of the TLS certificate, by outcome; after a failed one the previous certificate stays in use",
            "outcome",
            counters.reloads.iter(),
        )
    }
}

/// Performs handshakes with the current certificate.
#[derive(Debug)]
pub struct Tls {
    /// Of these the certificate, its key and the lowest version change at a reload.
    options: Mutex<TlsOptions>,
    handshake_timeout: Duration,
    handshake_limit: usize,
    reload_interval: Duration,
    /// The protocols of the HTTP port (ALPN).
    http_protocols: &'static [&'static [u8]],
    configs: RwLock<ServerConfigs>,
    /// The result of the last read, usable or not.
    last_read: Mutex<Material>,
    permits: Semaphore,
    counters: TlsCounters,
    stop: watch::Sender<bool>,
}

impl Tls {
    /// Reads the certificate and its key; `None` when TLS is off.
    ///
    /// # Errors
    /// [`MaterialError`], which names the option and the file.
    pub fn from_config(config: &Config) -> Result<Option<Arc<Self>>, MaterialError> {
        let http_protocols: &'static [&'static [u8]] = match config.http.http2 {
            Http2::Auto => &[b"h2", b"http/1.1"],
            Http2::Off => &[b"http/1.1"],
        };
        Self::from_options(&config.tls, http_protocols)
    }

    /// As [`Self::from_config`], for a port of gRPC, which is the group `group` of the options.
    ///
    /// # Errors
    /// [`MaterialError`], which names the option and the file.
    pub fn for_grpc(options: &TlsOptions, group: &str) -> Result<Option<Arc<Self>>, MaterialError> {
        Self::from_options(options, &[b"h2"]).map_err(|error| error.in_group(group))
    }

    fn from_options(
        options: &TlsOptions,
        http_protocols: &'static [&'static [u8]],
    ) -> Result<Option<Arc<Self>>, MaterialError> {
        if !options.enabled {
            return Ok(None);
        }
        let material = Material::read(options)?;
        let configs = material.server_configs(options, http_protocols)?;
        Ok(Some(Arc::new(Self {
            options: Mutex::new(options.clone()),
            handshake_timeout: options.handshake_timeout,
            handshake_limit: options.handshake_limit,
            reload_interval: options.reload_interval,
            http_protocols,
            configs: RwLock::new(configs),
            last_read: Mutex::new(material),
            permits: Semaphore::new(options.handshake_limit),
            counters: TlsCounters::default(),
            stop: watch::Sender::new(false),
        })))
    }

    /// Counts a connection that was closed at the limit on connections.
    pub fn count_refused(&self) {
        self.counters.handshakes.add(HandshakeOutcome::Refused);
    }

    /// The number of handshakes in progress.
    fn pending(&self) -> u64 {
        (self.handshake_limit - self.permits.available_permits()) as u64
    }

    /// Aborts the handshakes in progress and begins no more.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Performs the handshake of an accepted connection. `None` if it fails: the failure is counted, a peer that sent
    /// plaintext has got a notice, and the connection is closed.
    pub async fn accept(&self, stream: TcpStream, port: Port) -> Option<TlsStream<TcpStream>> {
        let mut stopped = self.stop.subscribe();
        let (outcome, secured) = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return None,
            done = timeout(self.handshake_timeout, self.handshake(stream, port)) => match done {
                Ok(Ok(secured)) => (HandshakeOutcome::Done, Some(secured)),
                Ok(Err(outcome)) => (outcome, None),
                Err(_) => {
                    tracing::debug!("a TLS handshake timed out");
                    (HandshakeOutcome::TimedOut, None)
                }
            },
        };
        self.counters.handshakes.add(outcome);
        secured
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        port: Port,
    ) -> Result<TlsStream<TcpStream>, HandshakeOutcome> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] == HANDSHAKE_RECORD => {}
            Ok(1) => {
                close_with_notice(stream, &plaintext_notice(port, first[0])).await;
                return Err(HandshakeOutcome::Plaintext);
            }
            // The peer closed the connection without data: usually a port scan or a health check.
            Ok(_) | Err(_) => return Err(HandshakeOutcome::Failed),
        }
        let _permit = self.permits.acquire().await.map_err(|_| HandshakeOutcome::Failed)?;
        let config = self.configs.read().unwrap_or_else(PoisonError::into_inner).for_port(port);
        match TlsAcceptor::from(config).accept(stream).into_fallible().await {
            Ok(secured) => Ok(secured),
            Err((error, stream)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                close_with_notice(stream, b"").await;
                Err(HandshakeOutcome::Failed)
            }
        }
    }
}

/// Sends a notice and shuts the connection down; reads until the peer closes it, within [`LINGER_BYTES`] and
/// [`LINGER_TIMEOUT`].
pub async fn close_with_notice(mut stream: impl AsyncRead + AsyncWrite + Unpin, notice: &[u8]) {
    let close = async {
        stream.write_all(notice).await?;
        stream.shutdown().await?;
        let mut discarded = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut discarded).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    // A failure or a timeout only means that the peer does not get the notice.
    let _ = timeout(LINGER_TIMEOUT, close).await;
}

/// The notice for plaintext that begins with this byte.
fn plaintext_notice(port: Port, first: u8) -> Vec<u8> {
    match port {
        Port::Http => notice(port, first, "this port speaks TLS: use https:// (or wss://)"),
        Port::Line => notice(port, first, "this port speaks TLS alone"),
    }
}

/// A notice for a rejected peer whose input begins with this byte, in its protocol: HTTP on the HTTP port, RESP (`*`) or plain
/// lines on the line port. Empty for a TLS handshake.
pub fn notice(port: Port, first: u8, text: &str) -> Vec<u8> {
    let text = match (port, first) {
        (_, HANDSHAKE_RECORD) => String::new(),
        (Port::Http, _) => {
            let body = format!("{text}\n");
            format!(
                "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            )
        }
        (Port::Line, b'*') => format!("-ERR {text}\r\n"),
        (Port::Line, _) => format!("ERROR 107 {text}\r\n"),
    };
    text.into_bytes()
}
