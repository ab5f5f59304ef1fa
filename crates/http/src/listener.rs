//! Listeners of each kind, and the release of a connection that leaves HTTP.

use std::future::ready;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tidings_proxy_protocol::{ProxiedStream, ProxyHeaders};
use tidings_shard::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

use tidings_tls::{Port, Tls};

/// A listener.
pub(super) trait Accept: Send + 'static {
    /// An accepted connection.
    type Raw: Send + 'static;
    /// A connection that is ready for HTTP.
    type Io: Release + AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection. Cancel safe: dropping the future loses no connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Raw>> + Send;

    /// The address of the peer; `None` for a Unix socket.
    fn peer(raw: &Self::Raw) -> Option<IpAddr>;

    /// Reads the PROXY header and performs the TLS handshake, if any. `None` if one fails. Bounded in time.
    fn open(&self, raw: Self::Raw) -> impl Future<Output = Option<Opened<Self::Io>>> + Send + 'static;
}

/// A connection that is ready for HTTP, with the source in its PROXY header.
pub(super) struct Opened<I> {
    pub(super) io: I,
    pub(super) proxy_source: Option<IpAddr>,
}

impl<I> Opened<I> {
    fn direct(io: I) -> Self {
        Self { io, proxy_source: None }
    }
}

/// A connection that can leave HTTP for a shard.
pub(super) trait Release {
    /// Deregisters the connection from tokio and returns its socket.
    ///
    /// # Errors
    /// The error of the operating system when it cannot be deregistered.
    fn release(self) -> io::Result<Socket>;

    /// Whether TLS has agreed on HTTP/2; `None` without TLS.
    fn has_agreed_on_http2(&self) -> Option<bool> {
        None
    }
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

    fn has_agreed_on_http2(&self) -> Option<bool> {
        Some(self.get_ref().1.alpn_protocol() == Some(b"h2"))
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

    fn open(&self, raw: TcpStream) -> impl Future<Output = Option<Opened<TcpStream>>> + Send + 'static {
        ready(Some(Opened::direct(raw)))
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

    fn open(&self, raw: UnixStream) -> impl Future<Output = Option<Opened<UnixStream>>> + Send + 'static {
        ready(Some(Opened::direct(raw)))
    }
}

/// A TCP listener with TLS.
pub(super) struct TlsListener {
    pub(super) listener: TcpListener,
    pub(super) tls: Arc<Tls>,
}

impl Accept for TlsListener {
    type Raw = TcpStream;
    type Io = TlsStream<TcpStream>;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(self.listener.accept().await?.0)
    }

    fn peer(raw: &TcpStream) -> Option<IpAddr> {
        raw.peer_addr().ok().map(|address| address.ip())
    }

    fn open(&self, raw: TcpStream) -> impl Future<Output = Option<Opened<Self::Io>>> + Send + 'static {
        let tls = Arc::clone(&self.tls);
        async move { tls.accept(raw, Port::Http).await.map(Opened::direct) }
    }
}

/// A listener on which every connection begins with a PROXY header.
pub(super) struct ProxiedListener<A> {
    pub(super) inner: Arc<A>,
    pub(super) headers: Arc<ProxyHeaders>,
}

impl<A: Accept<Raw: ProxiedStream> + Sync> Accept for ProxiedListener<A> {
    type Raw = A::Raw;
    type Io = A::Io;

    fn accept(&self) -> impl Future<Output = io::Result<A::Raw>> + Send {
        self.inner.accept()
    }

    fn peer(raw: &A::Raw) -> Option<IpAddr> {
        A::peer(raw)
    }

    fn open(&self, raw: A::Raw) -> impl Future<Output = Option<Opened<A::Io>>> + Send + 'static {
        let (inner, headers) = (Arc::clone(&self.inner), Arc::clone(&self.headers));
        async move {
            let (raw, proxy_source) = headers.accept(raw, Port::Http).await?;
            let Opened { io, .. } = inner.open(raw).await?;
            Some(Opened { io, proxy_source })
        }
    }
}
