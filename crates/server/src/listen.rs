//! Binding listeners, and adopting listeners that another process has bound.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use tidings_config::ListenAddr;

/// The most connections that wait to be accepted. The kernel uses the smaller of this and `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The idle time after which the kernel sends keep-alive probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A bound listener.
#[derive(Debug)]
pub(crate) enum BoundListener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket. Removed when this is dropped, unless another process owns it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    is_owned: bool,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_owned {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A listener that another process has bound, such as systemd for a socket unit.
#[derive(Debug)]
pub enum PassedListener {
    /// A TCP listener.
    Tcp(TcpListener),
    /// A listener on a Unix stream socket. Its file stays when the server ends.
    Unix(UnixListener),
}

impl PassedListener {
    /// Its address as an option has it: `127.0.0.1:5567`, `unix:/run/tidings.sock`.
    ///
    /// # Errors
    /// A Unix socket without a path, and errors of the operating system.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Self::Unix(listener) => match listener.local_addr()?.as_pathname() {
                Some(path) => Ok(format!("unix:{}", path.display())),
                None => Err(io::Error::new(io::ErrorKind::Unsupported, "a Unix socket has no path")),
            },
        }
    }
}

/// Listeners for [`Server::start_with`](crate::Server::start_with), by port.
#[derive(Debug, Default)]
pub struct PassedListeners {
    /// For the line port: in the order of `tcp.listen`, or none.
    pub tcp: Vec<PassedListener>,
    /// For HTTP: in the order of `http.listen`, or none.
    pub http: Vec<PassedListener>,
}

impl PassedListeners {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.http.is_empty()
    }
}

impl BoundListener {
    /// The address: `127.0.0.1:5567`, `unix:/run/tidings.sock`.
    pub(crate) fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Self::Unix(_, file) => Ok(format!("unix:{}", file.path.display())),
        }
    }
}

/// Binds a listener. Its connections have `TCP_NODELAY` and keep-alive.
///
/// # Errors
/// The error of the operating system: the address is in use, is not local, or needs a permission.
pub(crate) fn bind(address: &ListenAddr) -> io::Result<BoundListener> {
    match address {
        ListenAddr::Tcp(address) => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in address.to_socket_addrs()? {
                match bind_tcp(address) {
                    Ok(listener) => return Ok(BoundListener::Tcp(listener)),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        ListenAddr::Unix(path) => bind_unix(path),
    }
}

/// Adopts a listener: it gets the options that [`bind`] sets.
///
/// # Errors
/// Errors of the operating system.
pub(crate) fn adopt(passed: PassedListener) -> io::Result<BoundListener> {
    match passed {
        PassedListener::Tcp(listener) => {
            set_tcp_options(&listener)?;
            listener.set_nonblocking(true)?;
            Ok(BoundListener::Tcp(listener))
        }
        PassedListener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let path = listener.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
            Ok(BoundListener::Unix(listener, SocketFile { path, is_owned: false }))
        }
    }
}

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_tcp_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Sets the options that accepted sockets inherit, which saves calls (tcp(7)). Without keep-alive, the connection of a peer
/// that vanished would stay open for ever.
fn set_tcp_options(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))
}

fn bind_unix(path: &Path) -> io::Result<BoundListener> {
    // Removes the file of a server that has ended. A file with a listener, or one that is not a socket, stays.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(BoundListener::Unix(listener, SocketFile { path: path.to_owned(), is_owned: true }))
}
