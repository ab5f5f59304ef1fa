//! TLS on the server's own listeners: the certificate and its renewal, and the handshakes.
//!
//! What is configured becomes what rustls takes in [`material`]; handshakes are done here, on the runtime's threads: a
//! shard that did them would keep all its connections waiting for a signature. The line port's come from shards and go
//! back to them (`line_handshakes.rs` of the server); the HTTP port's are done before HTTP begins. From then on a connection is encrypted where it
//! is served.
//!
//! Invariants:
//! - A handshake has a deadline, and only so many are under way at once; who has not said anything yet takes no place.
//! - A certificate that is renewed holds for every handshake from then on. One that cannot be used changes nothing: the
//!   one before stays, and the log and a counter say so.
//! - No connection is closed without being told why, in the protocol that it speaks, where it speaks one.

mod material;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use tidings_config::{Config, TlsOptions};
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

pub use material::MaterialError;

use material::{Material, Ready};

/// The first byte of a TLS handshake: a record of that type (RFC 8446 §5.1).
const HELLO: u8 = 0x16;
/// What a peer that is not served may still send before its connection is closed, in bytes and in time: what it has
/// sent and nobody has read would make the kernel take our last words back.
const LAST_WORDS: (usize, Duration) = (64 << 10, Duration::from_secs(1));

/// Which port a connection has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The line port.
    Line,
    /// The HTTP port.
    Web,
}

labels! {
    /// How a handshake has ended.
    enum HandshakeOutcome {
        /// The connection is encrypted.
        Done => "done",
        /// The two sides did not agree, or the peer left.
        Failed => "failed",
        /// The handshake took too long.
        TimedOut => "timed_out",
        /// The peer did not speak TLS where it must.
        Plaintext => "plaintext",
        /// There were as many connections as there may be.
        Refused => "refused",
    }
}

labels! {
    /// What became of a certificate that was read again.
    enum Reload {
        /// It is in use.
        Done => "done",
        /// It cannot be used; the previous one stays in use.
        Failed => "failed",
    }
}

/// Handshakes and certificate reloads.
#[derive(Debug, Default)]
struct TlsCounters {
    handshakes: KeyedCounters<HandshakeOutcome>,
    reloads: KeyedCounters<Reload>,
}

/// TLS in the registry of metrics; without TLS all values are zero.
pub struct TlsMetrics(pub Option<Arc<Tls>>);

impl Collect for TlsMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let none = TlsCounters::default();
        let counters = self.0.as_ref().map_or(&none, |tls| &tls.counters);
        let pending = self.0.as_ref().map_or(0, |tls| tls.pending());
        out.counters(
            "tidings_tls_handshakes",
            "TLS handshakes of both ports by how they ended",
            "outcome",
            counters.handshakes.iter(),
        )?;
        out.gauge("tidings_tls_handshakes_pending", None, "TLS handshakes under way", pending)?;
        out.counters(
            "tidings_tls_reloads",
            "Certificates that were read again: taken up, or not usable so that the one before stayed",
            "outcome",
            counters.reloads.iter(),
        )
    }
}

/// What does handshakes.
#[derive(Debug)]
pub struct Tls {
    options: TlsOptions,
    ready: RwLock<Ready>,
    /// What was read last, whether it could be used or not.
    seen: Mutex<Material>,
    places: Semaphore,
    counters: TlsCounters,
    asked: Notify,
    stop: watch::Sender<bool>,
}

impl Tls {
    /// Reads the certificate and its key; nothing when TLS is off.
    ///
    /// # Errors
    /// What is wrong with them, and which option names them.
    pub fn of(config: &Config) -> Result<Option<Arc<Self>>, MaterialError> {
        let options = &config.tls;
        if !options.enabled {
            return Ok(None);
        }
        let seen = Material::read(options)?;
        let ready = seen.prepare(options)?;
        Ok(Some(Arc::new(Self {
            options: options.clone(),
            ready: RwLock::new(ready),
            seen: Mutex::new(seen),
            places: Semaphore::new(options.handshake_limit),
            counters: TlsCounters::default(),
            asked: Notify::new(),
            stop: watch::Sender::new(false),
        })))
    }

    /// Counts a connection of the line port for which there was no room.
    pub fn count_refused(&self) {
        self.counters.handshakes.add(HandshakeOutcome::Refused);
    }

    /// Handshakes under way.
    fn pending(&self) -> u64 {
        (self.options.handshake_limit - self.places.available_permits()) as u64
    }

    /// Has the certificate read again now.
    pub fn ask_to_reload(&self) {
        self.asked.notify_one();
    }

    /// Ends handshakes under way, and begins no more.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Does the handshake of a connection that was just accepted. Nothing when there is none: the peer was told why, and
    /// it was counted. The connection is closed then.
    pub async fn accept(&self, stream: TcpStream, port: Port) -> Option<TlsStream<TcpStream>> {
        let mut stopped = self.stop.subscribe();
        let (outcome, secured) = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return None,
            done = timeout(self.options.handshake_timeout, self.shake_hands(stream, port)) => match done {
                Ok(Ok(secured)) => (HandshakeOutcome::Done, Some(secured)),
                Ok(Err(outcome)) => (outcome, None),
                Err(_) => {
                    tracing::debug!("a TLS handshake took too long");
                    (HandshakeOutcome::TimedOut, None)
                }
            },
        };
        self.counters.handshakes.add(outcome);
        secured
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        port: Port,
    ) -> Result<TlsStream<TcpStream>, HandshakeOutcome> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] == HELLO => {}
            Ok(1) => {
                part(stream, &plaintext_notice(port, first[0])).await;
                return Err(HandshakeOutcome::Plaintext);
            }
            // It has left without a word: somebody who looks whether the port is open, most of the time.
            Ok(_) | Err(_) => return Err(HandshakeOutcome::Failed),
        }
        let _place = self.places.acquire().await.map_err(|_| HandshakeOutcome::Failed)?;
        let config = self.ready.read().unwrap_or_else(PoisonError::into_inner).of(port);
        match TlsAcceptor::from(config).accept(stream).into_fallible().await {
            Ok(secured) => Ok(secured),
            Err((error, stream)) => {
                tracing::debug!(%error, "a TLS handshake has failed");
                part(stream, b"").await;
                Err(HandshakeOutcome::Failed)
            }
        }
    }

    /// Looks again and again whether the certificate was renewed.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(self.options.reload_interval) => false,
                () = self.asked.notified() => true,
            };
            let tls = Arc::clone(&self);
            // Files may lie on a disk that takes its time.
            let _ = tokio::task::spawn_blocking(move || tls.reload(asked)).await;
        }
    }

    /// Takes up what the files hold, if that is new, or somebody has asked.
    fn reload(&self, asked: bool) {
        let read = Material::read(&self.options);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = match read {
            Ok(material) if material == *seen && !asked => return,
            Ok(material) => {
                let prepared = material.prepare(&self.options);
                *seen = material;
                prepared
            }
            // Said once, and again when it is another matter.
            Err(error) if seen.is_failed_with(&error.to_string()) && !asked => return,
            Err(error) => {
                *seen = Material::failed(error.to_string());
                Err(error)
            }
        };
        match prepared {
            Ok(ready) => {
                *self.ready.write().unwrap_or_else(PoisonError::into_inner) = ready;
                self.counters.reloads.add(Reload::Done);
                tracing::info!("the TLS certificate was read again and holds for new connections");
            }
            Err(error) => {
                self.counters.reloads.add(Reload::Failed);
                tracing::warn!(%error, "the TLS certificate cannot be taken up; the one before stays in use");
            }
        }
    }
}

/// Tells a peer something, and that it is all; waits a little until the peer has it.
async fn part(mut stream: TcpStream, notice: &[u8]) {
    let (bytes, time) = LAST_WORDS;
    let last = async {
        stream.write_all(notice).await?;
        stream.shutdown().await?;
        let mut thrown_away = [0; 4096];
        let mut left = bytes;
        while left > 0 {
            match stream.read(&mut thrown_away).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    // Who does not listen misses it.
    let _ = timeout(time, last).await;
}

/// What somebody is told who begins with this byte where TLS is spoken.
fn plaintext_notice(port: Port, first: u8) -> Vec<u8> {
    let text = match (port, first) {
        (Port::Web, _) => {
            let body = "this port speaks TLS: use https:// (or wss://)\n";
            format!(
                "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            )
        }
        (Port::Line, b'*') => "-ERR this port speaks TLS alone\r\n".to_owned(),
        (Port::Line, _) => "ERROR 107 this port speaks TLS alone\r\n".to_owned(),
    };
    text.into_bytes()
}
