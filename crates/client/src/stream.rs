//! Connected sockets of every transport, split into their two directions.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::error::reason;
use crate::{Error, Server, Web, tls};

/// The timeout of an attempt to connect, including the name lookup and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The direction from the server.
pub type Incoming = Box<dyn AsyncRead + Send + Unpin>;
/// The direction to the server. A shutdown closes only this direction.
pub type Outgoing = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects to `server` within five seconds, with `TCP_NODELAY`.
///
/// # Errors
/// [`Error::Unreachable`] when no connection is established, [`Error::Untrusted`] when TLS fails.
pub async fn open(server: &Server) -> Result<(Incoming, Outgoing), Error> {
    within(server, async {
        match server {
            Server::Tcp(host_port) | Server::Mqtt { host_port, secure: false } => {
                let stream = TcpStream::connect(host_port).await?;
                stream.set_nodelay(true)?;
                let (incoming, outgoing) = stream.into_split();
                Ok((Box::new(incoming) as Incoming, Box::new(outgoing) as Outgoing))
            }
            Server::Tls(host_port) | Server::Mqtt { host_port, secure: true } => {
                let stream = TcpStream::connect(host_port).await?;
                stream.set_nodelay(true)?;
                let host = host_port.rsplit_once(':').map_or(host_port.as_str(), |(host, _)| host);
                let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
                let (incoming, outgoing) = split(secure(stream, host, false).await?);
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

/// A connection to an HTTP port, not split.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// As [`open`], not split.
pub(crate) async fn open_duplex(web: &Web) -> Result<Box<dyn Duplex>, Error> {
    within(&Server::Web(web.clone()), open_web(web)).await
}

/// A connection to a Unix socket, undivided.
pub(crate) async fn open_unix(path: &Path) -> Result<Box<dyn Duplex>, Error> {
    within(&Server::Unix(path.to_owned()), async {
        Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Duplex>)
    })
    .await
}

async fn within<T>(
    server: &Server,
    connecting: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, Error> {
    let address = || server.to_string();
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(ConnectError::Connect(e))) => Err(Error::Unreachable { address: address(), why: reason(&e) }),
        Ok(Err(ConnectError::Tls(why))) => Err(Error::Untrusted { address: address(), why }),
        Err(_) => {
            let why = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
            Err(Error::Unreachable { address: address(), why })
        }
    }
}

enum ConnectError {
    Connect(io::Error),
    Tls(String),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Connect(error)
    }
}

async fn open_web(web: &Web) -> Result<Box<dyn Duplex>, ConnectError> {
    let stream = TcpStream::connect((web.host.as_str(), web.port)).await?;
    stream.set_nodelay(true)?;
    if !web.secure {
        return Ok(Box::new(stream));
    }
    Ok(Box::new(secure(stream, &web.host, true).await?))
}

/// Performs the TLS handshake with `host`; `web`: with HTTP inside.
async fn secure(stream: TcpStream, host: &str, web: bool) -> Result<TlsStream<TcpStream>, ConnectError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|e| ConnectError::Tls(e.to_string()))?;
    let connecting = tls::connector(web).map_err(ConnectError::Tls)?.connect(name, stream);
    connecting.await.map_err(|e| {
        // A rejected certificate is permanent; a broken connection is temporary.
        match e.kind() {
            io::ErrorKind::InvalidData if reason(&e).contains("InvalidContentType") => {
                ConnectError::Tls("the response is not TLS".to_owned())
            }
            io::ErrorKind::InvalidData => ConnectError::Tls(reason(&e)),
            _ => ConnectError::Connect(e),
        }
    })
}
