//! The kinds of connections that can begin with a header.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

/// A connection that can begin with a header.
pub trait ProxiedStream: AsyncRead + AsyncWrite + Unpin + Send + Sync {
    /// The address of the peer; `None` for a Unix socket.
    ///
    /// # Errors
    /// The connection has no peer any more.
    fn peer(&self) -> io::Result<Option<IpAddr>>;

    /// Waits for input and copies its beginning, which stays in the socket. Returns the number of bytes; 0 at the end.
    fn peek(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

impl ProxiedStream for TcpStream {
    fn peer(&self) -> io::Result<Option<IpAddr>> {
        Ok(Some(self.peer_addr()?.ip()))
    }

    async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::peek(self, buffer).await
    }
}

impl ProxiedStream for UnixStream {
    fn peer(&self) -> io::Result<Option<IpAddr>> {
        Ok(None)
    }

    async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.async_io(Interest::READABLE, || Ok(recv(self.as_fd(), &mut *buffer, RecvFlags::PEEK)?.1)).await
    }
}
