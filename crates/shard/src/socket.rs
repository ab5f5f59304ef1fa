//! Sockets and listeners, whatever kind they are.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

/// A connection: TCP or a Unix socket, non-blocking.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

macro_rules! either {
    ($self:expr, $kind:ident, $socket:ident => $do:expr) => {
        match $self {
            $kind::Tcp($socket) => $do,
            $kind::Unix($socket) => $do,
        }
    };
}

impl Socket {
    /// Takes over a connection that is non-blocking already.
    pub fn tcp(stream: std::net::TcpStream) -> Self {
        Self::Tcp(TcpStream::from_std(stream))
    }

    /// Takes over a connection of a Unix socket that is non-blocking already.
    pub fn unix(stream: std::os::unix::net::UnixStream) -> Self {
        Self::Unix(UnixStream::from_std(stream))
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, Self, s => s.read(buffer))
    }

    /// Writes what fits now, which may be nothing.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match either!(self, Self, s => s.write(bytes)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, Self, s => s.write_vectored(slices))
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&self) -> io::Result<()> {
        either!(self, Self, s => s.shutdown(Shutdown::Write))
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        either!(self, Self, s => s.register(registry, token, both))
    }
}

/// Something that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// TCP; `TCP_NODELAY` set on it holds for what it accepts.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Takes over a listener that the caller has bound.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Tcp(TcpListener::from_std(listener)))
    }

    /// Takes over a Unix listener that the caller has bound.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(UnixListener::from_std(listener)))
    }

    pub(crate) fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(l) => l.accept().map(|(s, _)| Socket::Tcp(s)),
            Self::Unix(l) => l.accept().map(|(s, _)| Socket::Unix(s)),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        either!(self, Self, l => l.register(registry, token, Interest::READABLE))
    }
}
