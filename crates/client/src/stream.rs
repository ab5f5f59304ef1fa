//! A connection's two directions, whatever it runs over.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::{Error, Server, Web};

/// How long an attempt to connect may take, name look-up and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What comes from the server.
pub type Incoming = Box<dyn AsyncRead + Send + Unpin>;
/// What goes to the server; shutting it down closes this direction alone.
pub type Outgoing = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects to `server` within five seconds. Small writes leave at once (`TCP_NODELAY`).
///
/// # Errors
/// [`Error::Unreachable`] when nobody answers there, [`Error::Untrusted`] when TLS fails.
pub async fn open(server: &Server) -> Result<(Incoming, Outgoing), Error> {
    within(server, async {
        match server {
            Server::Tcp(host_port) => {
                let stream = TcpStream::connect(host_port).await?;
                stream.set_nodelay(true)?;
                let (incoming, outgoing) = stream.into_split();
                Ok((Box::new(incoming) as Incoming, Box::new(outgoing) as Outgoing))
            }
            Server::Unix(path) => {
                let (incoming, outgoing) = UnixStream::connect(path).await?.into_split();
                Ok((Box::new(incoming) as Incoming, Box::new(outgoing) as Outgoing))
            }
            Server::Web(web) => {
                let (incoming, outgoing) = split(open_web(web).await?);
                Ok((Box::new(incoming) as Incoming, Box::new(outgoing) as Outgoing))
            }
        }
    })
    .await
}

/// A connection to an HTTP port, in one piece.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// As [`open`], undivided.
pub(crate) async fn open_duplex(web: &Web) -> Result<Box<dyn Duplex>, Error> {
    within(&Server::Web(web.clone()), open_web(web)).await
}

async fn within<T>(server: &Server, connecting: impl Future<Output = Result<T, Failed>>) -> Result<T, Error> {
    let address = || server.to_string();
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(Failed::Connect(e))) => Err(Error::Unreachable { address: address(), why: reason(&e) }),
        Ok(Err(Failed::Tls(why))) => Err(Error::Untrusted { address: address(), why }),
        Err(_) => {
            let why = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
            Err(Error::Unreachable { address: address(), why })
        }
    }
}

enum Failed {
    Connect(io::Error),
    Tls(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Connect(error)
    }
}

async fn open_web(web: &Web) -> Result<Box<dyn Duplex>, Failed> {
    let stream = TcpStream::connect((web.host.as_str(), web.port)).await?;
    stream.set_nodelay(true)?;
    if !web.secure {
        return Ok(Box::new(stream));
    }
    let tls = |e: String| Failed::Tls(e);
    let name = ServerName::try_from(web.host.clone()).map_err(|e| tls(e.to_string()))?;
    let stream = connector().map_err(tls)?.connect(name, stream).await.map_err(|e| {
        // A certificate that is refused is no passing state; a connection that broke is.
        if e.kind() == io::ErrorKind::InvalidData { tls(reason(&e)) } else { Failed::Connect(e) }
    })?;
    Ok(Box::new(stream))
}

/// TLS with the certificates that this machine trusts (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`), loaded once.
fn connector() -> Result<TlsConnector, String> {
    static LOADED: OnceLock<Result<TlsConnector, String>> = OnceLock::new();
    LOADED.get_or_init(load).clone()
}

fn load() -> Result<TlsConnector, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old machines have certificates that are malformed; the others are still good.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!("this machine has no certificates to trust{why}"));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The operating system's words without its error number.
pub fn reason(error: &io::Error) -> String {
    let words = error.to_string();
    match words.find(" (os error ") {
        Some(end) => words[..end].to_owned(),
        None => words,
    }
}
