//! Where connections come from, before HTTP and after it: listeners of each kind, and how a connection is let go of.

use std::future::ready;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tidings_shard::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

use tidings_tls::{Port, Tls};

/// A listener of either kind.
pub(super) trait Accept: Send + 'static {
    /// Its connections as they are accepted.
    type Raw: Send + 'static;
    /// Its connections as HTTP is spoken over them.
    type Io: Release + AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection. Dropping the future loses none.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Raw>> + Send;

    /// The address of the peer, where there is one.
    fn peer(raw: &Self::Raw) -> Option<IpAddr>;

    /// Does what comes before HTTP; gives nothing when the peer gets no further. Bounded in time.
    fn open(&self, raw: Self::Raw) -> impl Future<Output = Option<Self::Io>> + Send + 'static;
}

/// A connection that can leave.
pub(super) trait Release {
    /// The connection for a shard: its events no longer come through tokio.
    ///
    /// # Errors
    /// What the operating system says when tokio lets go of it.
    fn release(self) -> io::Result<Socket>;
}

impl Release for TcpStream {
    fn release(self) -> io::Result<Socket> {
        Ok(Socket::tcp(self.into_std()?))
    }
}

impl Release for UnixStream {
    fn release(self) -> io::Result<Socket> {
        Ok(Socket::unix(self.into_std()?))
    }
}

impl Release for TlsStream<TcpStream> {
    fn release(self) -> io::Result<Socket> {
        let (stream, connection) = self.into_inner();
        Ok(Socket::tls(stream.into_std()?, connection))
    }
}

impl Accept for TcpListener {
    type Raw = TcpStream;
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(Self::accept(self).await?.0)
    }

    fn peer(raw: &TcpStream) -> Option<IpAddr> {
        raw.peer_addr().ok().map(|address| address.ip())
    }

    fn open(&self, raw: TcpStream) -> impl Future<Output = Option<TcpStream>> + Send + 'static {
        ready(Some(raw))
    }
}

impl Accept for UnixListener {
    type Raw = UnixStream;
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(Self::accept(self).await?.0)
    }

    fn peer(_: &UnixStream) -> Option<IpAddr> {
        None
    }

    fn open(&self, raw: UnixStream) -> impl Future<Output = Option<UnixStream>> + Send + 'static {
        ready(Some(raw))
    }
}

/// A TCP listener of which every connection begins with a TLS handshake.
pub(super) struct Encrypted {
    pub(super) listener: TcpListener,
    pub(super) tls: Arc<Tls>,
}

impl Accept for Encrypted {
    type Raw = TcpStream;
    type Io = TlsStream<TcpStream>;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(self.listener.accept().await?.0)
    }

    fn peer(raw: &TcpStream) -> Option<IpAddr> {
        raw.peer_addr().ok().map(|address| address.ip())
    }

    fn open(&self, raw: TcpStream) -> impl Future<Output = Option<Self::Io>> + Send + 'static {
        let tls = Arc::clone(&self.tls);
        async move { tls.accept(raw, Port::Web).await }
    }
}
