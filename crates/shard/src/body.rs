//! The body of an HTTP response as a connection: what a session sends becomes parts of the body, until the client
//! disconnects.
//!
//! The request was read elsewhere. Its answer is written here, head and all, so the connection costs no more than any
//! other: the same shared bytes go to the same kind of socket, with a chunk's length before them (RFC 9112 §7.1).
//!
//! Invariants:
//! - What was begun is finished: of a chunk that the socket takes only half, the other half is kept, less than
//!   [`CHUNK`] bytes; until it is gone, nothing more is taken. So whoever writes sees a socket that would block, and the
//!   queue before it, with its bounds and policies, is that of any connection. (Of several channels' plain events,
//!   which are made for one client, the last one is kept whole.)
//! - A body that is not behind owns no memory beyond itself.
//! - What the client sends behind its request is thrown away, and too much of that ends the connection.

use std::io::{self, IoSlice, Write as _};

use mio::{Registry, Token};
use tidings_wire::code::HttpStatus;

use crate::events::Events;
use crate::socket::{Socket, Wrapping};

/// Most bytes of a chunk. Several go out at once; only what is left of one that was begun has to be kept.
pub(crate) const CHUNK: usize = 4096;
/// Most chunks written at once.
const CHUNKS: usize = 16;
/// Most slices of which they are made.
const SLICES: usize = 64;
/// The first line of a whole one.
const WHOLE: &[u8] = b"1000\r\n";
/// How often bytes of a client are discarded before the connection ends.
const READS: usize = 16;

/// How an answer begins.
#[derive(Debug, Default)]
pub struct Opening {
    /// Its status line and header, with the empty line behind them.
    pub head: Vec<u8>,
    /// The first bytes of its body; may be empty.
    pub first: Vec<u8>,
    /// Whether the body is sent in chunks, which the head then declares. Otherwise it ends with the connection.
    pub chunked: bool,
    /// For plain server-sent events.
    pub events: Option<Events>,
}

/// An answer that has begun.
#[derive(Debug)]
pub struct Body {
    socket: Socket,
    /// What was begun, and how much of that the socket has taken; empty when it has all.
    rest: Vec<u8>,
    sent: usize,
    chunked: bool,
    /// The body ends with what is kept.
    finishing: bool,
    events: Option<Box<Events>>,
}

impl Body {
    /// The address of the peer, if it has one.
    pub(crate) fn peer(&self) -> Option<std::net::IpAddr> {
        self.socket.peer()
    }

    pub(crate) fn new(socket: Socket, opening: Opening) -> Self {
        let Opening { mut head, first, chunked, events } = opening;
        let (mut events, mut rest) = (events.map(Box::new), Vec::new());
        match &mut events {
            Some(events) => events.prepare(head, &first, chunked),
            None => {
                frame(&first, chunked, &mut head);
                rest = head;
            }
        }
        Self { socket, rest, sent: 0, chunked, finishing: false, events }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token)
    }

    /// Answers otherwise than was meant, in these words. Nothing may have been sent yet.
    pub(crate) fn refuse(&mut self, notice: &[u8]) -> io::Result<()> {
        let len = notice.len();
        let head = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len}\r\n\
             retry-after: 1\r\nconnection: close\r\n\r\n"
        );
        self.rest = [head.as_bytes(), notice].concat();
        (self.chunked, self.events) = (false, None);
        self.flush().map(|_| ())
    }

    /// Plain events: everything that was requested is there, so the response is a 200.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        if let Some(events) = &mut self.events {
            events.open(&mut self.rest);
            self.drop_events_when_done();
        }
        self.flush().map(|_| ())
    }

    /// Plain events: the response is this status with the error as its body. Gives `false`, and does nothing, if a
    /// response has begun.
    pub(crate) fn refuse_stream(&mut self, status: HttpStatus, error: &[u8]) -> io::Result<bool> {
        let is_refused = match &mut self.events {
            Some(events) => events.refuse(status, error, &mut self.rest),
            None => false,
        };
        self.flush().map(|_| is_refused)
    }

    fn drop_events_when_done(&mut self) {
        if self.events.as_ref().is_some_and(|events| events.are_as_they_come()) {
            self.events = None;
        }
    }

    /// Throws away what the client sends; 0 when it is gone.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..READS {
            if self.socket.read(buffer)? == 0 {
                return Ok(0);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the client of a stream goes on sending"))
    }

    /// Nothing may be kept.
    fn write_chunks(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices = &slices[..slices.len().min(SLICES)];
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        if all == 0 {
            return Ok(0);
        }
        let mut size = Size::default();
        let last = size.of((all - 1) % CHUNK + 1);
        let mut parts = [IoSlice::new(&[]); SLICES + 3 * CHUNKS];
        let (mut n, mut left) = (0, all.min(CHUNKS * CHUNK));
        let mut slices = slices.iter().map(|slice| &**slice);
        let mut slice: &[u8] = &[];
        // Where each chunk ends among the parts, and with how many bytes of the slices.
        let mut chunks = [(0, 0); CHUNKS];
        let mut count = 0;
        while left > 0 {
            let len = left.min(CHUNK);
            parts[n] = IoSlice::new(if len == CHUNK { WHOLE } else { last });
            n += 1;
            let mut missing = len;
            while missing > 0 {
                while slice.is_empty() {
                    slice = slices.next().unwrap_or_default();
                }
                let (piece, behind) = slice.split_at(slice.len().min(missing));
                slice = behind;
                parts[n] = IoSlice::new(piece);
                n += 1;
                missing -= piece.len();
            }
            parts[n] = IoSlice::new(b"\r\n");
            n += 1;
            chunks[count] = (n, len);
            count += 1;
            left -= len;
        }
        let mut sent = blocked_is_none(self.socket.write_vectored(&parts[..n]))?;
        let (mut taken, mut from) = (0, 0);
        for (to, len) in &chunks[..count] {
            if sent == 0 {
                break;
            }
            for part in &parts[from..*to] {
                self.rest.extend_from_slice(&part[sent.min(part.len())..]);
                sent = sent.saturating_sub(part.len());
            }
            from = *to;
            taken += len;
        }
        Ok(taken)
    }

    /// Writes what is kept; gives whether that was all of it.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if !self.socket.flush()? {
            return Ok(false);
        }
        while self.sent < self.rest.len() {
            match self.socket.write_some(&self.rest[self.sent..])? {
                0 => return Ok(false),
                n => self.sent += n,
            }
        }
        if self.sent > 0 {
            self.rest = Vec::new();
            self.sent = 0;
            if self.finishing {
                self.socket.finish()?;
            }
        }
        Ok(true)
    }

    /// Whether something that was taken is not sent yet.
    pub(crate) fn is_behind(&self) -> bool {
        !self.rest.is_empty() || self.socket.is_behind()
    }

    /// Ends the body, and the sending half of the connection once everything is sent.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.finishing = true;
        match &mut self.events {
            Some(events) => events.finish(&mut self.rest),
            None if self.chunked => self.rest.extend_from_slice(LAST_CHUNK),
            None => {}
        }
        if self.rest.is_empty() { self.socket.finish() } else { self.flush().map(|_| ()) }
    }
}

impl Wrapping for Body {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.flush()? {
            return Ok(0);
        }
        if let Some(events) = &mut self.events {
            let Some(bytes) = slices.first() else { return Ok(0) };
            let taken = events.take(bytes, &mut self.rest);
            self.drop_events_when_done();
            self.flush()?;
            return Ok(taken);
        }
        if self.chunked {
            self.write_chunks(slices)
        } else {
            blocked_is_none(self.socket.write_vectored(slices))
        }
    }
}

fn blocked_is_none(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        other => other,
    }
}

/// What ends a body in chunks.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends bytes of a body. No bytes are no chunk: that would be the last one.
pub(crate) fn frame(bytes: &[u8], chunked: bool, out: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    if !chunked {
        return out.extend_from_slice(bytes);
    }
    out.extend_from_slice(Size::default().of(bytes.len()));
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A chunk's first line.
#[derive(Default)]
struct Size([u8; 18]);

impl Size {
    fn of(&mut self, len: usize) -> &[u8] {
        let mut left = &mut self.0[..];
        write!(left, "{len:x}\r\n").expect("sixteen digits at most");
        let used = 18 - left.len();
        &self.0[..used]
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A body that is about to begin, and its client.
    fn body(opening: Opening) -> (Body, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Body::new(Socket::unix(ours), opening), theirs)
    }

    fn chunked() -> Opening {
        Opening { head: b"HEAD\r\n\r\n".to_vec(), first: b"first".to_vec(), chunked: true, events: None }
    }

    /// What the client can read now; `None` behind it at the end.
    fn read(from: &mut UnixStream, into: &mut Vec<u8>) -> Option<()> {
        let mut buffer = [0; 4096];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => into.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Some(()),
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// The body in chunks, put together.
    fn put_together(mut chunks: &[u8]) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        while !chunks.is_empty() {
            let line = chunks.windows(2).position(|w| w == b"\r\n").expect("a chunk's first line");
            let len = std::str::from_utf8(&chunks[..line]).unwrap();
            let len = usize::from_str_radix(len, 16).unwrap();
            let (data, rest) = chunks[line + 2..].split_at(len);
            all.extend_from_slice(data);
            chunks = rest.strip_prefix(b"\r\n").expect("a line break behind a chunk");
            if len == 0 {
                return (all, chunks.is_empty());
            }
        }
        (all, false)
    }

    #[test]
    fn the_head_goes_before_the_first_bytes_and_the_last_chunk_ends_it() {
        let (mut body, mut client) = body(chunked());
        assert!(body.flush().unwrap());
        assert_eq!(body.write_some(b"hello").unwrap(), 5);
        assert_eq!(body.write_vectored(&[IoSlice::new(b"a"), IoSlice::new(b"bc")]).unwrap(), 3);
        assert_eq!(body.write_some(b"").unwrap(), 0);
        body.finish().unwrap();
        let mut got = Vec::new();
        assert_eq!(read(&mut client, &mut got), None);
        let expected = "HEAD\r\n\r\n5\r\nfirst\r\n5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(String::from_utf8(got).unwrap(), expected);
    }

    #[test]
    fn without_chunks_bytes_are_sent_as_they_are() {
        let (mut body, mut client) = body(Opening { chunked: false, ..chunked() });
        assert_eq!(body.write_some(b"hello").unwrap(), 5);
        body.finish().unwrap();
        let mut got = Vec::new();
        assert_eq!(read(&mut client, &mut got), None);
        assert_eq!(got, b"HEAD\r\n\r\nfirsthello");
    }

    #[test]
    fn a_body_that_is_behind_takes_no_more_and_loses_nothing() {
        let (mut body, mut client) = body(chunked());
        let sent: Vec<u8> = (0..8 << 20).map(|i: u32| (i / 7) as u8).collect();
        let (mut taken, mut got, mut blocked) = (0, Vec::new(), 0);
        while taken < sent.len() {
            let rest = &sent[taken..];
            let n = match taken % 3 {
                0 => body.write_some(&rest[..rest.len().min(100_000)]).unwrap(),
                _ => {
                    let (a, b) = rest.split_at(rest.len().min(1000));
                    let slices = [IoSlice::new(a), IoSlice::new(b)];
                    match body.write_vectored(&slices) {
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                        written => written.unwrap(),
                    }
                }
            };
            assert!(body.rest.len() < CHUNK + WHOLE.len() + 2, "{}", body.rest.len());
            taken += n;
            if n == 0 {
                blocked += 1;
                read(&mut client, &mut got).unwrap();
            }
        }
        assert!(blocked > 3, "the socket took everything");
        body.finish().unwrap();
        while read(&mut client, &mut got).is_some() {
            body.flush().unwrap();
        }
        assert_eq!(body.rest.capacity(), 0, "memory that is not needed");
        let (all, ended) = put_together(got.strip_prefix(b"HEAD\r\n\r\n").unwrap());
        assert!(ended && all == [b"first", &sent[..]].concat());
    }

    #[test]
    fn who_is_not_let_in_after_all_gets_a_whole_answer_that_says_so() {
        for events in [None, Some(Events::default())] {
            let (mut body, mut client) = body(Opening { events, ..chunked() });
            body.refuse(b"ERROR 3001 shutdown\r\n").unwrap();
            body.finish().unwrap();
            let mut got = Vec::new();
            assert_eq!(read(&mut client, &mut got), None);
            let got = String::from_utf8(got).unwrap();
            assert!(
                got.starts_with("HTTP/1.1 503 ") && got.ends_with("\r\n\r\nERROR 3001 shutdown\r\n"),
                "{got}"
            );
        }
    }

    #[test]
    fn what_the_client_sends_is_thrown_away_and_its_leaving_is_seen() {
        use std::io::Write;
        let (mut body, mut client) = body(chunked());
        let mut buffer = [0; 64];
        let blocked = body.read(&mut buffer).unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let blocked = body.read(&mut buffer).unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        client.write_all(&[b'x'; 64 * READS]).unwrap();
        assert_eq!(body.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(client);
        assert_eq!(body.read(&mut buffer).unwrap(), 0);
    }
}
