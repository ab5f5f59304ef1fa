//! Sockets and listeners of all kinds.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;
use tidings_wire::code::HttpStatus;

use crate::body::{Body, ResponseStart};
use crate::control::AcceptedConnection;
use crate::pipe::{Pipe, PipeEnd, pipe};
use crate::tls::Tls;
use crate::write_layer::WriteLayer as _;

/// The first byte of a TLS handshake, which is the type of its record (RFC 8446 §5.1). No protocol of the line port
/// begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// A non-blocking connection: TCP with or without TLS, a Unix socket, a stream of HTTP/2, or one of them during an HTTP
/// response.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<Tls>),
    /// A stream of an HTTP/2 connection.
    Pipe(Pipe),
    /// The body of an HTTP response.
    Body(Box<Body>),
}

macro_rules! either {
    ($self:expr, $socket:ident => $do:expr, $layer:ident => $other:expr) => {
        match $self {
            Self::Tcp($socket) => $do,
            Self::Unix($socket) => $do,
            Self::Tls($layer) => $other,
            Self::Pipe($layer) => $other,
            Self::Body($layer) => $other,
        }
    };
}

impl Socket {
    /// Wraps a non-blocking TCP connection.
    pub fn tcp(stream: std::net::TcpStream) -> Self {
        Self::Tcp(TcpStream::from_std(stream))
    }

    /// Wraps a non-blocking connection of a Unix socket.
    pub fn unix(stream: std::os::unix::net::UnixStream) -> Self {
        Self::Unix(UnixStream::from_std(stream))
    }

    /// Wraps a non-blocking connection after its TLS handshake. Input that `connection` has decrypted already is read
    /// first.
    pub fn tls(stream: std::net::TcpStream, connection: ServerConnection) -> Self {
        Self::Tls(Box::new(Tls::new(TcpStream::from_std(stream), connection)))
    }

    /// Creates a stream of an HTTP/2 connection from `peer`, and the end for the task that carries it. `on_end` is called when
    /// the shard drops the stream, with whether it has ended it before; it must not block.
    pub fn pipe(peer: Option<IpAddr>, on_end: impl FnOnce(bool) + Send + 'static) -> (Self, PipeEnd) {
        let (pipe, end) = pipe(peer, Box::new(on_end));
        (Self::Pipe(pipe), end)
    }

    /// Starts an HTTP response: bytes written from now on are its body.
    #[must_use]
    pub fn answering(self, start: ResponseStart) -> Self {
        Self::Body(Box::new(Body::new(self, start)))
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, s => s.read(buffer), b => b.read(buffer))
    }

    /// Writes as many bytes as the socket accepts; may be none.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match either!(self, s => s.write(bytes), b => return b.write_some(bytes)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// The TCP connection below, if it is one.
    pub(crate) fn tcp_stream(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(tls) => Some(tls.tcp()),
            Self::Body(body) => body.tcp(),
            Self::Unix(_) | Self::Pipe(_) => None,
        }
    }

    /// The address of the peer, if it has one.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        let address = match self {
            Self::Tcp(stream) => stream.peer_addr(),
            Self::Tls(tls) => tls.peer(),
            Self::Body(body) => return body.peer(),
            Self::Pipe(pipe) => return pipe.peer(),
            Self::Unix(_) => return None,
        };
        address.ok().map(|address| address.ip())
    }

    /// Refuses the connection with a notice; an HTTP response has this status.
    pub(crate) fn refuse(&mut self, status: HttpStatus, notice: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Tls(_) | Self::Pipe(_) => {
                self.write_some(notice).map(|_| ())
            }
            Self::Body(body) => body.refuse(status, notice),
        }
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, s => s.write_vectored(slices), b => b.write_vectored(slices))
    }

    /// Writes accepted bytes that are not sent; returns whether more can be written.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Pipe(_) => Ok(true),
            Self::Tls(tls) => tls.flush(),
            Self::Body(body) => body.flush(),
        }
    }

    /// Whether accepted bytes are not sent yet.
    pub(crate) fn is_behind(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(tls) => tls.is_behind(),
            Self::Pipe(pipe) => pipe.is_behind(),
            Self::Body(body) => body.is_behind(),
        }
    }

    /// The stream of HTTP/2 that carries the connection, if it is one.
    pub(crate) fn as_pipe(&self) -> Option<&Pipe> {
        match self {
            Self::Pipe(pipe) => Some(pipe),
            Self::Body(body) => body.as_pipe(),
            Self::Tcp(_) | Self::Unix(_) | Self::Tls(_) => None,
        }
    }

    /// Whether more input may be available after a short read, without an event.
    pub(crate) fn may_hold_input(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether the input begins with a TLS handshake. The input is not consumed.
    ///
    /// # Errors
    /// "Would block" if there is no input; an error of the socket.
    pub(crate) fn begins_with_tls(&self) -> io::Result<bool> {
        let mut first = [0];
        match self {
            Self::Tcp(stream) => Ok(stream.peek(&mut first)? == 1 && first[0] == TLS_HANDSHAKE),
            _ => Ok(false),
        }
    }

    /// An accepted connection that was never registered; `None` for other kinds.
    pub(crate) fn into_accepted(self) -> Option<AcceptedConnection> {
        match self {
            Self::Tcp(stream) => Some(AcceptedConnection::Tcp(stream.into())),
            Self::Unix(stream) => Some(AcceptedConnection::Unix(stream.into())),
            Self::Tls(_) | Self::Body(_) | Self::Pipe(_) => None,
        }
    }

    /// The TCP connection, for its TLS handshake; `None` for other kinds.
    pub(crate) fn into_tcp(self, registry: &Registry) -> Option<std::net::TcpStream> {
        let Self::Tcp(mut stream) = self else { return None };
        // Fails if the connection was never registered, which is no problem.
        let _ = registry.deregister(&mut stream);
        Some(stream.into())
    }

    /// Shuts the sending half.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        either!(self, s => s.shutdown(Shutdown::Write), b => b.finish())
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(s) => s.register(registry, token, both),
            Self::Unix(s) => s.register(registry, token, both),
            Self::Tls(tls) => tls.stream.register(registry, token, both),
            // Its readiness arrives in the mailbox.
            Self::Pipe(_) => Ok(()),
            Self::Body(body) => body.register(registry, token),
        }
    }
}

/// A listening socket of the line port.
#[derive(Debug)]
pub struct Listener {
    source: ListenerSource,
    /// Every connection begins with a PROXY header.
    pub(crate) is_proxied: bool,
    pub(crate) rules: LineRules,
}

/// What a listener of the line port requires of its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineRules {
    /// Every connection begins with a TLS handshake, after the PROXY header if there is one.
    pub requires_tls: bool,
    /// The protocol is MQTT. Otherwise the first byte determines it.
    pub is_mqtt: bool,
}

#[derive(Debug)]
enum ListenerSource {
    /// TCP. Accepted connections inherit `TCP_NODELAY`.
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Wraps a bound TCP listener.
    ///
    /// # Errors
    /// If it cannot be made non-blocking.
    pub fn tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let source = ListenerSource::Tcp(TcpListener::from_std(listener));
        Ok(Self { source, is_proxied: false, rules: LineRules::default() })
    }

    /// Wraps a bound TCP listener on which every connection begins with a TLS handshake.
    ///
    /// # Errors
    /// If it cannot be made non-blocking.
    pub fn tls(listener: std::net::TcpListener) -> io::Result<Self> {
        let rules = LineRules { requires_tls: true, ..LineRules::default() };
        Ok(Self { rules, ..Self::tcp(listener)? })
    }

    /// Wraps a bound Unix listener.
    ///
    /// # Errors
    /// If it cannot be made non-blocking.
    pub fn unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let source = ListenerSource::Unix(UnixListener::from_std(listener));
        Ok(Self { source, is_proxied: false, rules: LineRules::default() })
    }

    /// Sets whether every connection begins with a PROXY header, which [`Handoffs::proxy`](crate::Handoffs::proxy) reads.
    #[must_use]
    pub fn proxied(self, is_proxied: bool) -> Self {
        Self { is_proxied, ..self }
    }

    /// Sets whether the protocol of every connection is MQTT.
    #[must_use]
    pub fn with_mqtt(self, is_mqtt: bool) -> Self {
        Self { rules: LineRules { is_mqtt, ..self.rules }, ..self }
    }

    pub(crate) fn accept(&self) -> io::Result<Socket> {
        match &self.source {
            ListenerSource::Tcp(l) => l.accept().map(|(s, _)| Socket::Tcp(s)),
            ListenerSource::Unix(l) => l.accept().map(|(s, _)| Socket::Unix(s)),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.source {
            ListenerSource::Tcp(l) => l.register(registry, token, Interest::READABLE),
            ListenerSource::Unix(l) => l.register(registry, token, Interest::READABLE),
        }
    }
}
