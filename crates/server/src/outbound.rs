//! HTTP requests of the server's own: to the application's hooks, and for key sets.
//!
//! Invariants:
//! - Every request is bounded in time, from the name's look-up to the last byte of the answer, and every answer in bytes.
//! - Redirects are not followed: an address is trusted because it was configured.
//! - No error holds an address, a header or a body.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{HeaderValue, USER_AGENT};
use axum::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;
use tokio::time::timeout;
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Largest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Most connections to one host that are kept for the next request.
const MAX_IDLE: usize = 64;

/// Why there is no answer, or none that counts. Displays as the end of a sentence.
#[derive(Debug, Error)]
pub(crate) enum OutboundError {
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    #[error("HTTP: {0}")]
    Http(String),
    #[error("answered {0}, and redirects are not followed")]
    Redirect(StatusCode),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("the answer broke off: {0}")]
    Body(String),
}

/// Why nothing can be asked over `https`. One line that names the option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsError {
    /// This machine has no certificates to trust.
    #[error(
        "{option} is an https address, but this machine has no root certificates (install ca-certificates, or name a \
         file in SSL_CERT_FILE){reason}"
    )]
    NoRoots {
        /// The option that names the address.
        option: String,
        /// What looking for certificates said, or nothing.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("{option}: {reason}")]
    Setup {
        /// The option that names the address.
        option: String,
        /// What rustls says.
        reason: String,
    },
}

/// Sends requests, over connections that are kept for a while. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbound {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Outbound {
    /// One for `address`, which the option `option` named. Connections are kept for `idle` after an answer; zero is not
    /// at all.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` address when TLS cannot be set up.
    pub(crate) fn new(address: &Uri, option: &str, idle: Duration) -> Result<Self, TlsError> {
        let tls = tls(address.scheme_str() == Some("https"), option)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(idle)
            .pool_max_idle_per_host(if idle.is_zero() { 0 } else { MAX_IDLE })
            .http1_max_buf_size(MAX_HEAD)
            .build(connector.wrap_connector(tcp));
        Ok(Self { client })
    }

    /// The body of a 200.
    ///
    /// # Errors
    /// [`OutboundError`]: at the latest after `within`, and for an answer of more than `most` bytes.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        within: Duration,
        most: usize,
    ) -> Result<Bytes, OutboundError> {
        let agent = HeaderValue::from_static(concat!("tidings/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(agent);
        timeout(within, self.exchange(request, most)).await.unwrap_or(Err(OutboundError::TimedOut(within)))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, most: usize) -> Result<Bytes, OutboundError> {
        let answer = self.client.request(request).await.map_err(|error| sort(&error))?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(OutboundError::Redirect(status)),
            status => return Err(OutboundError::Status(status)),
        }
        match Limited::new(answer.into_body(), most).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(OutboundError::TooLong(most)),
            Err(error) => Err(OutboundError::Body(error.to_string())),
        }
    }
}

/// What is needed to speak TLS (`https`: whether it will be) to an address that the option `option` named, with ring and
/// the certificates that this machine trusts.
///
/// # Errors
/// [`TlsError`] when TLS cannot be set up.
pub(crate) fn tls(https: bool, option: &str) -> Result<ClientConfig, TlsError> {
    let roots = if https { native_roots(option)? } else { RootCertStore::empty() };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Setup { option: option.to_owned(), reason: e.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tls)
}

/// Which kind of error it was; its own words are those of the innermost one, which knows.
fn sort(error: &hyper_util::client::legacy::Error) -> OutboundError {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
        if let Some(tls) = tls_error(source) {
            return OutboundError::Tls(tls.clone());
        }
    }
    let words = innermost.to_string();
    if error.is_connect() { OutboundError::Connect(words) } else { OutboundError::Http(words) }
}

/// The TLS error that this one is, or that it was wrapped around: an I/O error does not name what it wraps as its source.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = || error.downcast_ref::<io::Error>()?.get_ref().and_then(|inner| tls_error(inner));
    error.downcast_ref().or_else(wrapped)
}

/// The certificates that this machine trusts (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`).
fn native_roots(option: &str) -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old machines have certificates that are malformed; the others are still good.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(TlsError::NoRoots { option: option.to_owned(), reason });
    }
    Ok(roots)
}

/// Writes an address for the log: without its query, which may hold a secret.
pub(crate) fn write_address(address: &Uri, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let scheme = address.scheme_str().unwrap_or("http");
    let authority = address.authority().map_or("", |authority| authority.as_str());
    write!(f, "{scheme}://{authority}{}", address.path())
}
