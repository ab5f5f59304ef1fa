//! Binding of TCP and Unix listeners.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

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

/// The file of a Unix socket, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BoundListener {
    /// The address: `127.0.0.1:5567`, `unix:/run/tidings.sock`.
    pub(crate) fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Self::Unix(_, file) => Ok(format!("unix:{}", file.0.display())),
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

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit both, which saves calls (tcp(7)). Without keep-alive, the connection of a peer that vanished
    // would stay open for ever.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<BoundListener> {
    // Removes the file of a server that has ended. A file with a listener, or one that is not a socket, stays.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(BoundListener::Unix(listener, SocketFile(path.to_owned())))
}
