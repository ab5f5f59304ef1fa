//! Binding listeners.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use tidings_config::ListenAddr;

/// Connections that may wait to be accepted; the kernel takes the smaller of this and `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long a connection may be silent before the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A bound listener, and how it is announced.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A Unix socket's file, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bound {
    /// Where it listens: `127.0.0.1:5567`, `unix:/run/tidings.sock`.
    pub(crate) fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Self::Unix(_, file) => Ok(format!("unix:{}", file.0.display())),
        }
    }
}

/// Binds a listener; what it accepts has `TCP_NODELAY`.
///
/// # Errors
/// What the operating system says: the address is in use, not ours, not allowed.
pub(crate) fn bind(address: &ListenAddr) -> io::Result<Bound> {
    match address {
        ListenAddr::Tcp(address) => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in address.to_socket_addrs()? {
                match bind_tcp(address) {
                    Ok(listener) => return Ok(Bound::Tcp(listener)),
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
    // Accepted sockets inherit both, which saves calls (tcp(7)). Without keep-alive a peer that vanished without a
    // word would stay for ever.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<Bound> {
    // The file of a server that is gone is in the way; one that somebody listens on, or that is no socket, stays.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(Bound::Unix(listener, SocketFile(path.to_owned())))
}
