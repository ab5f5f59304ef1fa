//! The HTTP client of the server: [`Outbound`] for requests to the application's hooks and to key sets, [`GrpcOutbound`] for
//! hooks over gRPC, [`GrpcStreams`] for its streams of messages, and [`pooled_client`] with [`tls`] for others (the bucket of tables).
//!
//! Invariants:
//! - Every request of [`Outbound`] and [`GrpcOutbound`] is bounded in time, from the name lookup to the last byte of the response; every
//!   response is bounded in bytes. A stream is bounded in time until its first message, and each of its messages in bytes.
//! - Redirects are not followed: only the configured address is trusted.
//! - No error contains an address, a header or a body.

mod grpc;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
pub use hyper_util::client::legacy::Error as ClientError;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tidings_grpc::Status;
use tokio::time::timeout;

pub use grpc::GrpcOutbound;
pub use grpc::streams::{GrpcStream, GrpcStreams, StreamRequest};

/// Largest head of a response, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Most idle connections to one host that are kept for the next request.
const MAX_IDLE: usize = 64;

/// Why a request failed. Displays as the end of a sentence, without an address, a header or a body.
#[derive(Debug, Error)]
pub enum OutboundError {
    /// The response was not complete within the time limit.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The name was not resolved, or no connection was established.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The TLS handshake failed, or a certificate was not accepted.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// The server did not follow HTTP, or closed the connection.
    #[error("HTTP: {0}")]
    Http(String),
    /// The response redirects to another address.
    #[error("answered {0}, and redirects are not followed")]
    Redirect(StatusCode),
    /// The response has a status other than 200.
    #[error("answered {0}")]
    Status(StatusCode),
    /// The response's body is longer than the limit, in bytes.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The connection broke while the body was read.
    #[error("the answer broke off: {0}")]
    Body(String),
    /// The call has a status of gRPC other than OK, or its response has another form.
    #[error("gRPC status {:?}", .0.code)]
    Grpc(Status),
}

/// Why a client for an `https` address cannot be made. One line that names the option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsError {
    /// The machine has no root certificates.
    #[error(
        "{option} is an https address, but this machine has no root certificates (install ca-certificates, or name a \
         file in SSL_CERT_FILE){reason}"
    )]
    NoRoots {
        /// The option that holds the address.
        option: String,
        /// The error of the search for certificates, after a colon; empty if there was none.
        reason: String,
    },
    /// rustls refused the configuration.
    #[error("{option}: {reason}")]
    Setup {
        /// The option that holds the address.
        option: String,
        /// The error of rustls.
        reason: String,
    },
}

/// An HTTP/1.1 client with a pool of idle connections and request bodies of type `B`. Cheap to clone.
pub type PooledClient<B> = Client<HttpsConnector<HttpConnector>, B>;

/// Limits of a [`PooledClient`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Whether `http` addresses are permitted beside `https` ones.
    pub allow_http: bool,
    /// Longest time of a TCP connection attempt; `None` for the limit of the operating system.
    pub connect_timeout: Option<Duration>,
    /// How long an idle connection is kept; zero closes it at once.
    pub idle_timeout: Duration,
    /// Most idle connections to one host.
    pub max_idle: usize,
    /// Largest head of a response, in bytes; `None` for the default of hyper.
    pub max_head: Option<usize>,
}

/// Makes a client with this TLS configuration (see [`tls`]).
pub fn pooled_client<B>(tls: ClientConfig, options: PoolOptions) -> PooledClient<B>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(options.connect_timeout);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
    let connector = if options.allow_http { connector.https_or_http() } else { connector.https_only() };
    let mut client = Client::builder(TokioExecutor::new());
    client
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(options.idle_timeout)
        .pool_max_idle_per_host(if options.idle_timeout.is_zero() { 0 } else { options.max_idle });
    if let Some(bytes) = options.max_head {
        client.http1_max_buf_size(bytes);
    }
    client.build(connector.enable_http1().wrap_connector(tcp))
}

/// A client for the requests of the server itself. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    client: PooledClient<Full<Bytes>>,
}

impl Outbound {
    /// A client for `address`, the value of the option `option`. An idle connection is kept for `idle` after a
    /// response; zero closes it at once.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` address when TLS cannot be set up.
    pub fn new(address: &Uri, option: &str, idle: Duration) -> Result<Self, TlsError> {
        let tls = tls(address.scheme_str() == Some("https"), option)?;
        let options = PoolOptions {
            allow_http: true,
            connect_timeout: None,
            idle_timeout: idle,
            max_idle: MAX_IDLE,
            max_head: Some(MAX_HEAD),
        };
        Ok(Self { client: pooled_client(tls, options) })
    }

    /// Sends a request and returns the body of a response with status 200.
    ///
    /// # Errors
    /// [`OutboundError`] for any other response, for a body of more than `most` bytes, and after `within` at the
    /// latest.
    pub async fn send(
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
        let answer = self.client.request(request).await.map_err(|error| classify(&error))?;
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

/// The TLS configuration for an address that is the value of the option `option`: ring, and the root certificates of
/// this machine, which are loaded only if the address is an `https` one.
///
/// # Errors
/// [`TlsError`] when TLS cannot be set up.
pub fn tls(https: bool, option: &str) -> Result<ClientConfig, TlsError> {
    let roots = if https { native_roots(option)? } else { RootCertStore::empty() };
    tls_with_roots(roots, option)
}

/// As [`tls`], with these authorities, in PEM, instead of those of this machine.
///
/// # Errors
/// As [`tls`], and for text that is no certificate.
pub fn tls_with_authorities(pem: &[u8], option: &str) -> Result<ClientConfig, TlsError> {
    let setup = |reason: String| TlsError::Setup { option: option.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| setup(format!("is not valid PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| setup(format!("holds a certificate that cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(setup("holds no certificate in PEM".to_owned()));
    }
    tls_with_roots(roots, option)
}

fn tls_with_roots(roots: RootCertStore, option: &str) -> Result<ClientConfig, TlsError> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Setup { option: option.to_owned(), reason: e.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tls)
}

/// Classifies an error; the message is that of the innermost source, which is the most specific.
fn classify(error: &ClientError) -> OutboundError {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
        if let Some(tls) = tls_error(source) {
            return OutboundError::Tls(tls.clone());
        }
    }
    let message = innermost.to_string();
    if error.is_connect() { OutboundError::Connect(message) } else { OutboundError::Http(message) }
}

/// The TLS error that `error` is or wraps. An I/O error does not return the wrapped error as its source.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = || error.downcast_ref::<io::Error>()?.get_ref().and_then(|inner| tls_error(inner));
    error.downcast_ref().or_else(wrapped)
}

/// The root certificates of this machine (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`).
fn native_roots(option: &str) -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old systems ship some malformed certificates: these are skipped.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(TlsError::NoRoots { option: option.to_owned(), reason });
    }
    Ok(roots)
}

/// Writes an address for logs: without its query, which may hold a secret.
///
/// # Errors
/// Those of the formatter.
pub fn write_address(address: &Uri, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let scheme = address.scheme_str().unwrap_or("http");
    let authority = address.authority().map_or("", |authority| authority.as_str());
    write!(f, "{scheme}://{authority}{}", address.path())
}
