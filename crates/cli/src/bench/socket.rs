//! Blocking and non-blocking sockets of either family, for many connections at little cost.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidings_client::Server;

use crate::text::grouped;

/// The timeout of an attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// File descriptors that are needed besides those of subscribers.
const SPARE_DESCRIPTORS: u64 = 64;

/// A resolved server address.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Target {
    /// Resolves the address, and connects to find the first of a name's addresses that responds.
    ///
    /// # Errors
    /// The name cannot be resolved, or no process listens at the address.
    pub(super) fn find(address: &Server) -> io::Result<(Self, Socket)> {
        let candidates: Vec<Self> = match address {
            Server::Unix(path) => vec![Self::Unix(path.clone())],
            // The caller has rejected TLS addresses.
            Server::Tcp(host_port) | Server::Tls(host_port) | Server::Mqtt { host_port, .. } => {
                host_port.to_socket_addrs()?.map(Self::Tcp).collect()
            }
            Server::Web(web) => (web.host.as_str(), web.port).to_socket_addrs()?.map(Self::Tcp).collect(),
        };
        let mut error = io::Error::other("the name has no address");
        for target in candidates {
            match Socket::connect(&target) {
                Ok(socket) => return Ok((target, socket)),
                Err(e) => error = e,
            }
        }
        Err(error)
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects, in blocking mode.
    ///
    /// # Errors
    /// No process listens at the address.
    pub(super) fn connect(target: &Target) -> io::Result<Self> {
        match target {
            Target::Tcp(addr) => {
                let stream = TcpStream::connect_timeout(addr, CONNECT_TIMEOUT)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Target::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    /// A second handle on the same connection.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(true),
            Self::Unix(stream) => stream.set_nonblocking(true),
        }
    }

    /// Sets the timeout of later reads and writes, which then fail with `WouldBlock`.
    pub(super) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(s) => {
                s.set_read_timeout(Some(timeout)).and_then(|()| s.set_write_timeout(Some(timeout)))
            }
            Self::Unix(s) => {
                s.set_read_timeout(Some(timeout)).and_then(|()| s.set_write_timeout(Some(timeout)))
            }
        }
    }

    /// Whether the peer is on this machine.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(stream) => match (stream.local_addr(), stream.peer_addr()) {
                (Ok(local), Ok(peer)) => peer.ip().is_loopback() || local.ip() == peer.ip(),
                _ => false,
            },
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).read(buf),
            Socket::Unix(stream) => (&*stream).read(buf),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).write(buf),
            Socket::Unix(stream) => (&*stream).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Raises the limit of open file descriptors for `subscribers`, if the system allows it.
///
/// # Errors
/// The system's limit is too low, as text.
pub(super) fn allow_descriptors(subscribers: u64) -> Result<(), String> {
    let needed = subscribers + SPARE_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        return Err(format!(
            "{} subscribers need {needed} open files, and the limit is {} (ulimit -Hn)",
            grouped(subscribers),
            limit.maximum.unwrap_or(0)
        ));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })
        .map_err(|e| format!("cannot raise the limit of open files to {needed}: {e}"))
}
