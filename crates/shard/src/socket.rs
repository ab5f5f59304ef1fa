//! Sockets and listeners, whatever kind they are.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;

use crate::body::{Body, Opening};
use crate::tls::Tls;

/// The first byte of a TLS handshake: a record of that type (RFC 8446 §5.1). No protocol of the line port begins so.
const HELLO: u8 = 0x16;

/// A connection, non-blocking: TCP with or without TLS, a Unix socket, or one of them in the middle of an HTTP answer.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<Tls>),
    /// The body of an HTTP answer.
    Body(Box<Body>),
}

/// A socket with something around what is written to it: chunks, or TLS.
pub(crate) trait Wrapping {
    /// Writes some bytes of the beginning of the slices, and gives how many are taken: sent, or kept because what is
    /// around them was begun. Less than all of them need not mean that the socket takes no more; none does.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes what fits now, which may be nothing.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.write(&[IoSlice::new(&bytes[taken..])])? {
                0 => break,
                n => taken += n,
            }
        }
        Ok(taken)
    }

    /// Writes what fits now of several slices: not always as much as of one.
    ///
    /// # Errors
    /// As for a socket: "would block" when nothing fits.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.write(slices)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

macro_rules! either {
    ($self:expr, $socket:ident => $do:expr, $layer:ident => $other:expr) => {
        match $self {
            Self::Tcp($socket) => $do,
            Self::Unix($socket) => $do,
            Self::Tls($layer) => $other,
            Self::Body($layer) => $other,
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

    /// Takes over a connection that is non-blocking already, and whose TLS handshake is done. What `connection` has read
    /// and not handed out yet comes first.
    pub fn tls(stream: std::net::TcpStream, connection: ServerConnection) -> Self {
        Self::Tls(Box::new(Tls::new(TcpStream::from_std(stream), connection)))
    }

    /// Makes the connection one on which an HTTP answer is sent: what is written from now on is its body.
    #[must_use]
    pub fn answering(self, opening: Opening) -> Self {
        Self::Body(Box::new(Body::new(self, opening)))
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, s => s.read(buffer), b => b.read(buffer))
    }

    /// Writes what fits now, which may be nothing.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match either!(self, s => s.write(bytes), b => return b.write_some(bytes)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// The address of the peer, if it has one.
    pub(crate) fn peer(&self) -> Option<std::net::IpAddr> {
        let address = match self {
            Self::Tcp(stream) => stream.peer_addr(),
            Self::Tls(tls) => tls.peer(),
            Self::Body(body) => return body.peer(),
            Self::Unix(_) => return None,
        };
        address.ok().map(|address| address.ip())
    }

    /// Refuses the connection with a notice.
    pub(crate) fn refuse(&mut self, notice: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Tls(_) => self.write_some(notice).map(|_| ()),
            Self::Body(body) => body.refuse(notice),
        }
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, s => s.write_vectored(slices), b => b.write_vectored(slices))
    }

    /// Writes what was taken and not sent, if there is such; gives whether more can be written.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Ok(true),
            Self::Tls(tls) => tls.flush(),
            Self::Body(body) => body.flush(),
        }
    }

    /// Whether something that was taken is not sent yet.
    pub(crate) fn is_behind(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(tls) => tls.is_behind(),
            Self::Body(body) => body.is_behind(),
        }
    }

    /// Whether a read that gives less than was asked for may have left something behind, which no event reports.
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether what the peer sends first is a TLS handshake, which is left to be read.
    ///
    /// # Errors
    /// "Would block" when it has sent nothing yet; an error of the socket.
    pub(crate) fn begins_with_tls(&self) -> io::Result<bool> {
        let mut first = [0];
        match self {
            Self::Tcp(stream) => Ok(stream.peek(&mut first)? == 1 && first[0] == HELLO),
            _ => Ok(false),
        }
    }

    /// The TCP connection itself, for its TLS handshake; nothing for other kinds.
    pub(crate) fn into_tcp(self, registry: &Registry) -> Option<std::net::TcpStream> {
        let Self::Tcp(mut stream) = self else { return None };
        // One that was never watched needs no end of that.
        let _ = registry.deregister(&mut stream);
        Some(stream.into())
    }

    /// Ends the sending half.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        either!(self, s => s.shutdown(Shutdown::Write), b => b.finish())
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(s) => s.register(registry, token, both),
            Self::Unix(s) => s.register(registry, token, both),
            Self::Tls(tls) => tls.stream.register(registry, token, both),
            Self::Body(body) => body.register(registry, token),
        }
    }
}

/// Something that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// TCP; `TCP_NODELAY` set on it holds for what it accepts.
    Tcp(TcpListener),
    /// The same, for TLS alone.
    Tls(TcpListener),
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

    /// Takes over a TCP listener on which every connection begins with a TLS handshake.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn tls(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Tls(TcpListener::from_std(listener)))
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
            Self::Tcp(l) | Self::Tls(l) => l.accept().map(|(s, _)| Socket::Tcp(s)),
            Self::Unix(l) => l.accept().map(|(s, _)| Socket::Unix(s)),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(l) | Self::Tls(l) => l.register(registry, token, Interest::READABLE),
            Self::Unix(l) => l.register(registry, token, Interest::READABLE),
        }
    }
}
