//! TLS as a socket: written bytes are encrypted and read bytes are decrypted by rustls' buffered API, between the same
//! non-blocking reads and writes as without TLS (TLS 1.3: RFC 8446, TLS 1.2: RFC 5246).
//!
//! The handshake is done on another thread: a signature takes longer than a thousand writes, and would delay all
//! connections of the shard.
//!
//! Invariants:
//! - Nothing is encrypted while ciphertext waits, and at most [`RECORD`] bytes at once. So writers observe a socket
//!   that would block, and bytes for a slow peer wait in its queue, with its bounds and policies. At most one record
//!   waits after the queue.
//! - [`Tls::read`] returns "would block" only if the socket does. There is no event for bytes that are decrypted and
//!   not read, or that remain in the socket.
//! - Messages of the TLS protocol (tickets, key updates, alerts) are sent when they arise.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ServerConnection;

use crate::write_layer::WriteLayer;

/// Most bytes that are encrypted before the socket has taken them: one record (RFC 8446 §5.1).
pub(crate) const RECORD: usize = 16 << 10;
/// Consecutive reads from the socket without content, before other connections are served. A peer may send records
/// without content for any time.
const MAX_EMPTY_READS: usize = 16;

/// The transport of TLS.
pub trait Transport: Read + Write {
    /// Shuts the sending half.
    fn shut(&mut self) -> io::Result<()>;
}

impl Transport for TcpStream {
    fn shut(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A connection after its TLS handshake.
#[derive(Debug)]
pub struct Tls<T = TcpStream> {
    pub(crate) stream: T,
    connection: ServerConnection,
    /// Nothing more is written; the sending half is shut when everything is sent.
    finishing: bool,
    /// The sending half is shut.
    shut: bool,
}

impl Tls {
    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    /// The address of the peer.
    pub(crate) fn peer(&self) -> io::Result<std::net::SocketAddr> {
        self.stream.peer_addr()
    }
}

impl<T: Transport> Tls<T> {
    /// Continues after a handshake over this stream. Bytes that `connection` holds, in either direction, are not lost.
    pub(crate) fn new(stream: T, mut connection: ServerConnection) -> Self {
        connection.set_buffer_limit(Some(RECORD));
        Self { stream, connection, finishing: false, shut: false }
    }

    /// Reads decrypted bytes; 0 at the end, with or without a `close_notify` of the peer.
    ///
    /// # Errors
    /// "Would block" if the socket has no input. "Interrupted" if more may be available, but other connections must be
    /// served. Errors of the socket. Invalid data if the input is not TLS, after an alert to the peer.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..MAX_EMPTY_READS {
            match self.connection.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            self.connection.read_tls(&mut self.stream)?;
            let state = self.connection.process_new_packets();
            if self.connection.wants_write() {
                // The next read reports a broken socket.
                let _ = self.flush();
            }
            state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Sends ciphertext; returns whether all of it is sent.
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

    /// Whether accepted bytes are not sent yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.connection.wants_write()
    }

    /// Sends `close_notify`, and shuts the sending half when everything is sent.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if !self.finishing {
            self.finishing = true;
            self.connection.send_close_notify();
        }
        self.flush().map(|_| ())
    }
}

impl<T: Transport> WriteLayer for Tls<T> {
    /// Encrypts one record, if all ciphertext before it is sent, and sends as much of it as the socket accepts.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.finishing || !self.flush()? {
            return Ok(0);
        }
        let taken = self.connection.writer().write_vectored(slices)?;
        if taken == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            // The keys of TLS 1.2 have a limit of records (2²⁴ with AES-GCM), and cannot be renewed as in TLS 1.3.
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

    /// A socket with input and capacity that the test controls.
    #[derive(Default)]
    struct Wire {
        /// The input, and the most bytes per read.
        input: VecDeque<u8>,
        piece: usize,
        ended: bool,
        /// The output, and the remaining capacity.
        sent: Vec<u8>,
        room: usize,
        shut: bool,
    }

    impl Read for Wire {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.input.len() {
                0 if self.ended => Ok(0),
                0 => Err(io::ErrorKind::WouldBlock.into()),
                len => {
                    let n = buffer.len().min(self.piece).min(len);
                    self.input.read(&mut buffer[..n])
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
            decrypt(&mut client, &flight);
        }
        (Tls::new(Wire { piece: usize::MAX, ..Wire::default() }, server), client)
    }

    /// Decrypts these bytes; returns the plaintext.
    fn decrypt(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
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

    /// Encrypts this plaintext.
    fn encrypt(client: &mut ClientConnection, plain: &[u8]) -> Vec<u8> {
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

    /// Reads until the socket has no input; returns the bytes, and how often the read was interrupted.
    fn read_all(tls: &mut Tls<Wire>, buffer: usize) -> (Vec<u8>, usize) {
        let (mut all, mut turns, mut buffer) = (Vec::new(), 0, vec![0; buffer]);
        loop {
            match tls.read(&mut buffer) {
                Ok(n) => {
                    assert!(n > 0, "an end without a close");
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
        fn accepted_bytes_arrive_completely_and_at_most_one_record_waits(
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
                prop_assert!(n == len || vectored || tls.is_behind(), "accepted less than possible");
                prop_assert!(pending(&mut tls) <= RECORD + 256);
                taken += n;
                got.extend(decrypt(&mut client, &std::mem::take(&mut tls.stream.sent)));
            }
            tls.stream.room = usize::MAX;
            prop_assert!(tls.flush().unwrap() && !tls.is_behind());
            got.extend(decrypt(&mut client, &std::mem::take(&mut tls.stream.sent)));
            prop_assert!(got == source[..taken]);
        }

        #[test]
        fn a_read_blocks_only_when_all_received_bytes_are_read(
            len in 0_usize..100_000, piece in 1_usize..9_000, buffer in 1_usize..20_000,
        ) {
            let (mut tls, mut client) = pair();
            let plain: Vec<u8> = (0..len).map(|i| (i / 5) as u8).collect();
            tls.stream.input.extend(encrypt(&mut client, &plain));
            tls.stream.piece = piece;
            let (got, _) = read_all(&mut tls, buffer);
            prop_assert!(got == plain);
        }
    }

    #[test]
    fn a_peer_that_sends_small_fragments_yields_to_others() {
        let (mut tls, mut client) = pair();
        let plain = vec![b'x'; 1_000];
        tls.stream.input.extend(encrypt(&mut client, &plain));
        tls.stream.piece = 1;
        let (got, turns) = read_all(&mut tls, 4096);
        assert_eq!(got, plain);
        assert!(turns >= 1_000 / MAX_EMPTY_READS, "{turns}");
    }

    #[test]
    fn close_notify_is_sent_last_and_then_the_socket_is_shut() {
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
        assert_eq!(decrypt(&mut client, &sent).len(), RECORD);
        // A regular end instead of a broken connection.
        assert_eq!(client.reader().read(&mut [0; 10]).unwrap(), 0);
        tls.finish().unwrap();
        assert!(tls.stream.sent.is_empty());
    }

    #[test]
    fn a_peer_may_close_with_or_without_close_notify() {
        for with_close_notify in [true, false] {
            let (mut tls, mut client) = pair();
            tls.stream.input.extend(encrypt(&mut client, b"bye"));
            if with_close_notify {
                client.send_close_notify();
                let mut bytes = Vec::new();
                client.write_tls(&mut bytes).unwrap();
                tls.stream.input.extend(bytes);
            } else {
                tls.stream.ended = true;
            }
            let mut buffer = [0; 100];
            assert_eq!(tls.read(&mut buffer).unwrap(), 3);
            assert_eq!(tls.read(&mut buffer).unwrap(), 0);
            // Output is still possible.
            tls.stream.room = usize::MAX;
            assert_eq!(tls.write_some(b"answer").unwrap(), 6);
            assert_eq!(decrypt(&mut client, &std::mem::take(&mut tls.stream.sent)), b"answer");
        }
    }

    #[test]
    fn input_that_is_not_tls_is_an_error_and_sends_an_alert() {
        let (mut tls, mut client) = pair();
        tls.stream.room = usize::MAX;
        tls.stream.input.extend(b"PING\r\nPING\r\n");
        let error = tls.read(&mut [0; 100]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let alert = std::mem::take(&mut tls.stream.sent);
        client.read_tls(&mut &alert[..]).unwrap();
        let alert_error = client.process_new_packets().unwrap_err();
        assert!(matches!(alert_error, rustls::Error::AlertReceived(_)), "{alert_error}");
    }
}
