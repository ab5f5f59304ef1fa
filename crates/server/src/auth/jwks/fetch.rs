//! One HTTP GET over a connection of its own, bounded in bytes and in time. Redirects are not followed: a key set is
//! trusted because of the address that was configured.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::auth::SetupError;
use crate::config::HttpUrl;

/// How long a fetch may take, from the name's look-up to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Largest body, in bytes. A set of twenty RSA keys with their certificates takes some 60 KiB.
const MAX_BODY: usize = 256 << 10;

/// Why nothing was fetched.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("answered {0}, and redirects are not followed")]
    Redirect(StatusCode),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {MAX_BODY} bytes")]
    TooLong,
    #[error("the answer broke off: {0}")]
    Body(String),
}

/// An address to fetch from. Displays without its query, which may hold a secret.
pub(super) struct Endpoint {
    /// Path and query, as a request to the host itself names them (RFC 9112 §3.2.1).
    target: Uri,
    host: String,
    port: u16,
    /// What `Host` says.
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.target.path())
    }
}

impl Endpoint {
    /// Prepares to fetch from `url`, which the option `option` named.
    ///
    /// # Errors
    /// [`SetupError`] for an `https` address when TLS cannot be set up.
    pub(super) fn new(url: &HttpUrl, option: &str) -> Result<Self, SetupError> {
        let address = url.uri();
        let failed = |reason: String| SetupError::Tls { option: option.to_owned(), reason };
        let host = address.host().unwrap_or_default();
        // rustls and the resolver want IPv6 addresses without their brackets.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let https = address.scheme_str() == Some("https");
        let port = address.port_u16().unwrap_or(if https { 443 } else { 80 });
        let authority = address.authority().map_or("", |authority| authority.as_str());
        let authority = HeaderValue::from_str(authority).map_err(|e| failed(e.to_string()))?;
        let tls = if https {
            let name = ServerName::try_from(host.clone()).map_err(|e| failed(e.to_string()))?;
            Some((connector(option)?, name))
        } else {
            None
        };
        let target = address.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
        Ok(Self { target, host, port, authority, tls })
    }

    /// The body of a 200.
    ///
    /// # Errors
    /// [`FetchError`], at the latest after [`TIMEOUT`].
    pub(super) async fn get(&self) -> Result<Bytes, FetchError> {
        timeout(TIMEOUT, self.connect_and_get()).await.unwrap_or(Err(FetchError::TimedOut))
    }

    async fn connect_and_get(&self) -> Result<Bytes, FetchError> {
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(FetchError::Connect)?;
        match &self.tls {
            None => self.exchange(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(FetchError::Tls)?;
                self.exchange(stream).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S) -> Result<Bytes, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            http1::Builder::new().max_header_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
        // Dropped, and with it the connection, when the answer is there or the time is up.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.target.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tidings/", env!("CARGO_PKG_VERSION"))));
        let answer = sender.send_request(request).await?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchError::Redirect(status)),
            status => return Err(FetchError::Status(status)),
        }
        match Limited::new(answer.into_body(), MAX_BODY).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLong),
            Err(error) => Err(FetchError::Body(error.to_string())),
        }
    }
}

/// TLS with the certificates that this machine trusts (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`).
fn connector(option: &str) -> Result<TlsConnector, SetupError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old machines have certificates that are malformed; the others are still good.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(SetupError::NoRoots { option: option.to_owned(), reason });
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| SetupError::Tls { option: option.to_owned(), reason: e.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
