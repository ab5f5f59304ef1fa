//! A blocking client of the line port.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::PATIENCE;

/// A blocking connection that sends and reads lines.
#[derive(Debug)]
pub struct LineClient {
    stream: TcpStream,
    /// The input that was not returned yet.
    heard: Vec<u8>,
}

impl LineClient {
    /// Connects.
    ///
    /// # Panics
    /// Without a listener at the address.
    pub fn connect(addr: impl ToSocketAddrs) -> Self {
        let stream = TcpStream::connect(addr).expect("connect");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, heard: Vec::new() }
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// Sends a line; its ending (`\r\n`) is added.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\r\n").as_bytes());
    }

    /// Sends bytes unchanged.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("write");
    }

    /// The next line without its ending, which must be `\r\n` (or `\n` after a line of JSON).
    ///
    /// # Panics
    /// When none arrives within [`PATIENCE`], the connection ends, or the line is not UTF-8 with the ending `\r\n`.
    pub fn line(&mut self) -> String {
        self.line_within(PATIENCE).expect("a line in time")
    }

    /// The next line, or `None` when none arrives within this time.
    ///
    /// # Panics
    /// When the connection ends, or the line is not UTF-8 with the ending `\r\n`.
    pub fn line_within(&mut self, deadline: Duration) -> Option<String> {
        let bytes = self.line_bytes_within(deadline)?;
        Some(String::from_utf8(bytes).expect("a line is UTF-8"))
    }

    /// The next line as bytes, without its `\r\n`, or `None` when none arrives within this time.
    ///
    /// # Panics
    /// When the connection ends, or the line does not end with `\r\n`.
    pub fn line_bytes_within(&mut self, deadline: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + deadline;
        let mut searched = 0;
        loop {
            if let Some(at) = self.heard[searched..].iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.heard.drain(..=searched + at).collect();
                // JSON lines end in a bare \n.
                let ending = if line.ends_with(b"\r\n") { 2 } else { 1 };
                assert!(
                    ending == 2 || line.starts_with(b"{"),
                    "a line ends with \\r\\n: {:?}",
                    String::from_utf8_lossy(&line)
                );
                line.truncate(line.len() - ending);
                return Some(line);
            }
            searched = self.heard.len();
            match self.read_until(end) {
                Heard::Bytes => {}
                Heard::Nothing => return None,
                Heard::End => {
                    panic!("the connection ended; {:?} was left", String::from_utf8_lossy(&self.heard))
                }
            }
        }
    }

    /// Asserts that this is the next line.
    ///
    /// # Panics
    /// When it is another one, or none arrives within [`PATIENCE`].
    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        let got = self.line();
        assert_eq!(got, line);
    }

    /// Asserts that nothing arrives for this long.
    ///
    /// # Panics
    /// When something arrives, or the connection ends.
    #[track_caller]
    pub fn expect_silence(&mut self, how_long: Duration) {
        if self.heard.is_empty() {
            match self.read_until(Instant::now() + how_long) {
                Heard::Nothing => return,
                Heard::End => panic!("silence was expected, but the connection ended"),
                Heard::Bytes => {}
            }
        }
        panic!("silence was expected, not {:?}", String::from_utf8_lossy(&self.heard));
    }

    /// Asserts that the peer closes the connection. Returns the bytes that it still sends.
    ///
    /// # Panics
    /// When the connection is still open after [`PATIENCE`].
    #[track_caller]
    pub fn expect_closed(&mut self) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.read_until(end) {
                Heard::Bytes => {}
                Heard::End => return std::mem::take(&mut self.heard),
                Heard::Nothing => panic!("the connection is still open"),
            }
        }
    }

    /// Shuts down the output; input can still be read.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a connection to finish");
    }

    /// The socket, for other operations.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads once, with the deadline `end`.
    fn read_until(&mut self, end: Instant) -> Heard {
        let mut chunk = [0; 16 * 1024];
        loop {
            // A timeout of zero is invalid.
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("a time-out above zero");
            return match self.stream.read(&mut chunk) {
                Ok(0) => Heard::End,
                Ok(n) => {
                    self.heard.extend_from_slice(&chunk[..n]);
                    Heard::Bytes
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Heard::Nothing,
                // A reset is an end too: the peer closed with unread input.
                Err(_) => Heard::End,
            };
        }
    }
}

/// The result of a read.
enum Heard {
    Bytes,
    Nothing,
    End,
}
