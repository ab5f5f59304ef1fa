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

use crate::socket::Wrapping;

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

impl Tls {
    /// The address of the peer.
    pub(crate) fn peer(&self) -> io::Result<std::net::SocketAddr> {
        self.stream.peer_addr()
    }
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

impl<T: Transport> Wrapping for Tls<T> {
    /// Encrypts a record, if the socket has taken all before it, and sends of it what fits.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.finishing || !self.flush()? {
            return Ok(0);
        }
        let taken = self.connection.writer().write_vectored(slices)?;
        if taken == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            // The keys of TLS 1.2 are good for so many records (2²⁴ with AES-GCM), and cannot be renewed as those of 1.3.
            self.finish()?;
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the connection's keys are used up"));
        }
        self.flush()?;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::crypto::ring;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

    use super::*;

    /// A socket of which the test decides what it takes and gives.
    #[derive(Default)]
    struct Wire {
        /// What has come, and how much of it a read gives.
        coming: VecDeque<u8>,
        piece: usize,
        ended: bool,
        /// What was sent, and how much more is taken.
        sent: Vec<u8>,
        room: usize,
        shut: bool,
    }

    impl Read for Wire {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.coming.len() {
                0 if self.ended => Ok(0),
                0 => Err(io::ErrorKind::WouldBlock.into()),
                len => {
                    let n = buffer.len().min(self.piece).min(len);
                    self.coming.read(&mut buffer[..n])
                }
            }
        }
    }

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(!self.shut, "written behind the end");
            match bytes.len().min(self.room) {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                n => {
                    self.room -= n;
                    self.sent.extend_from_slice(&bytes[..n]);
                    Ok(n)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Transport for Wire {
        fn shut(&mut self) -> io::Result<()> {
            self.shut = true;
            Ok(())
        }
    }

    /// Both ends of a connection, after the handshake.
    fn pair() -> (Tls<Wire>, ClientConnection) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut flight = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut flight).unwrap();
            }
            let mut rest = &flight[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut flight = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut flight).unwrap();
            }
            take_in(&mut client, &flight);
        }
        (Tls::new(Wire { piece: usize::MAX, ..Wire::default() }, server), client)
    }

    /// What the client reads of these bytes.
    fn take_in(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets().unwrap();
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = client.reader().read(&mut buffer) {
                plain.extend_from_slice(&buffer[..n]);
            }
        }
        plain
    }

    /// What the client sends when it says this.
    fn said(client: &mut ClientConnection, plain: &[u8]) -> Vec<u8> {
        client.set_buffer_limit(None);
        client.writer().write_all(plain).unwrap();
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn pending(tls: &mut Tls<Wire>) -> usize {
        tls.connection.process_new_packets().unwrap().tls_bytes_to_write()
    }

    /// Reads until the socket has nothing; what that was, and how often it was the others' turn.
    fn read_all(tls: &mut Tls<Wire>, buffer: usize) -> (Vec<u8>, usize) {
        let (mut all, mut turns, mut buffer) = (Vec::new(), 0, vec![0; buffer]);
        loop {
            match tls.read(&mut buffer) {
                Ok(n) => {
                    assert!(n > 0, "an end that nobody has said");
                    all.extend_from_slice(&buffer[..n]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return (all, turns),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => turns += 1,
                Err(e) => panic!("{e}"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_taken_arrives_whole_and_a_record_waits_at_most(
            steps in prop::collection::vec((0_usize..40_000, 0_usize..30_000, any::<bool>()), 1..40),
        ) {
            let (mut tls, mut client) = pair();
            let source: Vec<u8> = (0..2_000_000_u32).map(|i| (i / 3) as u8).collect();
            let (mut taken, mut got) = (0, Vec::new());
            for (len, room, vectored) in steps {
                tls.stream.room = room;
                let bytes = &source[taken..taken + len];
                let n = if vectored && len > 1 {
                    let (a, b) = bytes.split_at(len / 2);
                    match tls.write_vectored(&[IoSlice::new(a), IoSlice::new(b)]) {
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                        written => written.unwrap(),
                    }
                } else {
                    tls.write_some(bytes).unwrap()
                };
                prop_assert!(n == len || vectored || tls.is_behind(), "it took less and could have more");
                prop_assert!(pending(&mut tls) <= RECORD + 256);
                taken += n;
                got.extend(take_in(&mut client, &std::mem::take(&mut tls.stream.sent)));
            }
            tls.stream.room = usize::MAX;
            prop_assert!(tls.flush().unwrap() && !tls.is_behind());
            got.extend(take_in(&mut client, &std::mem::take(&mut tls.stream.sent)));
            prop_assert!(got == source[..taken]);
        }

        #[test]
        fn it_blocks_only_when_everything_that_has_come_is_read(
            len in 0_usize..100_000, piece in 1_usize..9_000, buffer in 1_usize..20_000,
        ) {
            let (mut tls, mut client) = pair();
            let plain: Vec<u8> = (0..len).map(|i| (i / 5) as u8).collect();
            tls.stream.coming.extend(said(&mut client, &plain));
            tls.stream.piece = piece;
            let (got, _) = read_all(&mut tls, buffer);
            prop_assert!(got == plain);
        }
    }

    #[test]
    fn a_peer_that_says_little_in_many_pieces_has_to_wait_for_others() {
        let (mut tls, mut client) = pair();
        let plain = vec![b'x'; 1_000];
        tls.stream.coming.extend(said(&mut client, &plain));
        tls.stream.piece = 1;
        let (got, turns) = read_all(&mut tls, 4096);
        assert_eq!(got, plain);
        assert!(turns >= 1_000 / FRUITLESS, "{turns}");
    }

    #[test]
    fn the_end_is_said_behind_everything_else_and_then_the_socket_is_shut() {
        let (mut tls, mut client) = pair();
        tls.stream.room = 100;
        assert_eq!(tls.write_some(&[b'x'; 3 * RECORD]).unwrap(), RECORD);
        tls.finish().unwrap();
        assert!(tls.is_behind() && !tls.stream.shut);
        assert_eq!(tls.write_some(b"behind the end").unwrap(), 0);
        tls.stream.room = usize::MAX;
        assert!(tls.flush().unwrap());
        assert!(tls.stream.shut && !tls.is_behind());
        let sent = std::mem::take(&mut tls.stream.sent);
        assert_eq!(take_in(&mut client, &sent).len(), RECORD);
        // Not a broken connection: an end.
        assert_eq!(client.reader().read(&mut [0; 10]).unwrap(), 0);
        tls.finish().unwrap();
        assert!(tls.stream.sent.is_empty());
    }

    #[test]
    fn a_peer_may_leave_with_a_word_or_without() {
        for with_a_word in [true, false] {
            let (mut tls, mut client) = pair();
            tls.stream.coming.extend(said(&mut client, b"bye"));
            if with_a_word {
                client.send_close_notify();
                let mut bytes = Vec::new();
                client.write_tls(&mut bytes).unwrap();
                tls.stream.coming.extend(bytes);
            } else {
                tls.stream.ended = true;
            }
            let mut buffer = [0; 100];
            assert_eq!(tls.read(&mut buffer).unwrap(), 3);
            assert_eq!(tls.read(&mut buffer).unwrap(), 0);
            // What it still reads is written.
            tls.stream.room = usize::MAX;
            assert_eq!(tls.write_some(b"answer").unwrap(), 6);
            assert_eq!(take_in(&mut client, &std::mem::take(&mut tls.stream.sent)), b"answer");
        }
    }

    #[test]
    fn what_is_no_tls_is_an_error_that_the_peer_is_told_of() {
        let (mut tls, mut client) = pair();
        tls.stream.room = usize::MAX;
        tls.stream.coming.extend(b"PING\r\nPING\r\n");
        let error = tls.read(&mut [0; 100]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let alert = std::mem::take(&mut tls.stream.sent);
        client.read_tls(&mut &alert[..]).unwrap();
        let told = client.process_new_packets().unwrap_err();
        assert!(matches!(told, rustls::Error::AlertReceived(_)), "{told}");
    }
}
