//! A connection's two directions, whatever it runs over.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::{Address, ClientError};

/// How long an attempt to connect may take, name lookup included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What comes from the server.
pub(crate) type Incoming = Box<dyn AsyncRead + Unpin>;
/// What goes to the server; shutting it down closes this direction alone.
pub(crate) type Outgoing = Box<dyn AsyncWrite + Unpin>;

/// Connects to `address` within five seconds. Small writes leave at once (`TCP_NODELAY`).
///
/// # Errors
/// [`ClientError::Unreachable`] when nobody answers there.
pub(crate) async fn open(address: &Address) -> Result<(Incoming, Outgoing), ClientError> {
    let unreachable = |e: &io::Error| ClientError::Unreachable { address: address.clone(), why: reason(e) };
    match timeout(CONNECT_TIMEOUT, connect(address)).await {
        Ok(Ok(halves)) => Ok(halves),
        Ok(Err(e)) => Err(unreachable(&e)),
        Err(_) => {
            Err(unreachable(&io::Error::other(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))))
        }
    }
}

async fn connect(address: &Address) -> io::Result<(Incoming, Outgoing)> {
    match address {
        Address::Tcp(host_port) => {
            let stream = TcpStream::connect(host_port).await?;
            stream.set_nodelay(true)?;
            let (incoming, outgoing) = stream.into_split();
            Ok((Box::new(incoming), Box::new(outgoing)))
        }
        Address::Unix(path) => {
            let (incoming, outgoing) = UnixStream::connect(path).await?.into_split();
            Ok((Box::new(incoming), Box::new(outgoing)))
        }
    }
}

/// The operating system's words without its error number.
pub(crate) fn reason(error: &io::Error) -> String {
    let words = error.to_string();
    match words.find(" (os error ") {
        Some(end) => words[..end].to_owned(),
        None => words,
    }
}
