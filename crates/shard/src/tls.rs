//! TLS as a socket: what is written is encrypted, what is read is decrypted, by rustls' buffered API, between the same
//! non-blocking reads and writes as without it (TLS 1.3: RFC 8446, TLS 1.2: RFC 5246).
//!
//! The handshake was done elsewhere: a signature takes longer than a thousand writes, and everybody on a shard would wait
//! for it.
//!
//! Invariants:
//! - Nothing is encrypted while ciphertext waits, and at most [`RECORD`] bytes at once. So whoever writes sees a socket
//!   that would block, and what waits for a slow peer waits in its queue, with its bounds and policies; behind the queue
//!   is one record at most.
//! - [`Tls::read`] says "would block" only when the socket has: what was decrypted and not handed out, or is still in the
//!   socket, raises no event.
//! - Whatever the protocol wants to say by itself (tickets, key updates, alerts) is sent as it comes up.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ServerConnection;

/// Most bytes that are encrypted before the socket has taken them: one record (RFC 8446 §5.1).
pub(crate) const RECORD: usize = 16 << 10;
/// Reads from the socket in a row that may come to nothing, before it is the others' turn. A peer may send records
/// without content for as long as it likes.
const FRUITLESS: usize = 16;

/// What TLS runs over.
pub trait Transport: Read + Write {
    /// Says that nothing more will be sent.
    fn shut(&mut self) -> io::Result<()>;
}

impl Transport for TcpStream {
    fn shut(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A connection whose TLS handshake is done.
#[derive(Debug)]
pub struct Tls<T = TcpStream> {
    pub(crate) stream: T,
    connection: ServerConnection,
    /// Nothing more is written; the sending half is shut once everything is sent.
    finishing: bool,
    /// It is shut.
    shut: bool,
}

impl<T: Transport> Tls<T> {
    /// Goes on where a handshake over this stream has ended. What `connection` holds, in either direction, is not lost.
    pub(crate) fn new(stream: T, mut connection: ServerConnection) -> Self {
        connection.set_buffer_limit(Some(RECORD));
        Self { stream, connection, finishing: false, shut: false }
    }

    /// Reads what the peer has sent; 0 when it sends no more, whether it has said so (`close_notify`) or not.
    ///
    /// # Errors
    /// "Would block" when the socket has nothing; "interrupted" when there may be more, but it is the others' turn; what
    /// the socket says; invalid data when it is no TLS, after the peer was told.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..FRUITLESS {
            match self.connection.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            self.connection.read_tls(&mut self.stream)?;
            let state = self.connection.process_new_packets();
            if self.connection.wants_write() {
                // A socket that is broken says so when it is read from.
                let _ = self.flush();
            }
            state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Writes what fits now, which may be nothing.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.write(&[IoSlice::new(&bytes[taken..])])? {
                0 => break,
                n => taken += n,
            }
        }
        Ok(taken)
    }

    /// Writes what fits now of several slices: a record of them at most.
    ///
    /// # Errors
    /// As for a socket: "would block" when nothing fits.
    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.write(slices)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    /// Encrypts a record, if the socket has taken all before it, and sends of it what fits.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.finishing || !self.flush()? {
            return Ok(0);
        }
        let taken = self.connection.writer().write_vectored(slices)?;
        self.flush()?;
        Ok(taken)
    }

    /// Sends what is encrypted; tells whether that is all of it.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.finishing && !self.shut {
            self.shut = true;
            self.stream.shut()?;
        }
        Ok(true)
    }

    /// Whether something that was taken is not sent yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.connection.wants_write()
    }

    /// Says that nothing more comes (`close_notify`), and shuts the sending half once everything is sent.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if !self.finishing {
            self.finishing = true;
            self.connection.send_close_notify();
        }
        self.flush().map(|_| ())
    }
}
