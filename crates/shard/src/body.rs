//! A streamed HTTP response as a connection: the output of a session is the body of the response, until the client
//! disconnects.
//!
//! The HTTP server has read the request. The shard writes the response, head included, so the connection costs as much
//! as any other: the same shared bytes go to the same kind of socket, each chunk with its length before it (RFC 9112
//! §7.1).
//!
//! Invariants:
//! - A chunk is never left incomplete. If the socket accepts only a part of it, the body stores the rest (less than
//!   [`CHUNK`] bytes) and accepts no further bytes until the rest is sent. To its writer it is then a socket that would
//!   block, so the bounds and policies of a connection's queue apply. A plain event stream of several channels is
//!   encoded for one client; it stores the rest of one event.
//! - A body that has sent everything owns no memory beyond itself.
//! - Input after the request is discarded, and too much of it ends the connection.

use std::io::{self, IoSlice};

use mio::{Registry, Token};
use tidings_wire::code::HttpStatus;

use crate::chunk::{CHUNK, ChunkHeader, FULL_CHUNK, LAST_CHUNK, append_chunk};
use crate::event_stream::EventStream;
use crate::pipe::{Pipe, ResponseOutcome};
use crate::socket::Socket;
use crate::write_layer::WriteLayer;

/// Most chunks per write.
const CHUNKS: usize = 16;
/// Most slices per write.
const SLICES: usize = 64;
/// Number of discarded reads before the connection ends.
const MAX_DISCARDED_READS: usize = 16;

/// The start of an HTTP response.
#[derive(Debug, Default)]
pub struct ResponseStart {
    /// The status line and header, with the empty line after them. Empty for a stream of HTTP/2, whose head another
    /// component writes; see [`ResponseOutcome`].
    pub head: Vec<u8>,
    /// The first bytes of its body; may be empty.
    pub first: Vec<u8>,
    /// Whether the body is sent in chunks, as declared in the head. Otherwise it ends with the connection.
    pub chunked: bool,
    /// For plain server-sent events.
    pub events: Option<EventStream>,
}

/// An HTTP response in progress.
#[derive(Debug)]
pub struct Body {
    socket: Socket,
    /// Bytes that the socket has not accepted, of which `sent` are sent; empty if it has accepted all.
    kept: Vec<u8>,
    sent: usize,
    chunked: bool,
    /// The body ends after the kept bytes.
    finishing: bool,
    events: Option<Box<EventStream>>,
}

impl Body {
    /// The TCP connection below, if it is one.
    pub(crate) fn tcp(&self) -> Option<&mio::net::TcpStream> {
        self.socket.tcp_stream()
    }

    /// The address of the peer, if it has one.
    pub(crate) fn peer(&self) -> Option<std::net::IpAddr> {
        self.socket.peer()
    }

    pub(crate) fn new(socket: Socket, start: ResponseStart) -> Self {
        let ResponseStart { mut head, first, chunked, events } = start;
        let (mut events, mut kept) = (events.map(Box::new), Vec::new());
        match &mut events {
            Some(events) => events.prepare(head, &first, chunked, socket.as_pipe().is_some()),
            None => {
                append_chunk(&first, chunked, &mut head);
                kept = head;
            }
        }
        Self { socket, kept, sent: 0, chunked, finishing: false, events }
    }

    /// The stream of HTTP/2 that carries the response, if it is one.
    pub(crate) fn as_pipe(&self) -> Option<&Pipe> {
        match &self.socket {
            Socket::Pipe(pipe) => Some(pipe),
            _ => None,
        }
    }

    /// Reports the start of the response to the writer of its head, once the outcome is certain.
    fn report_outcome(&self) {
        let Some(pipe) = self.as_pipe() else { return };
        match self.events.as_ref().map(|events| events.outcome()) {
            None => pipe.start_response(ResponseOutcome::Open),
            Some(Some(outcome)) => pipe.start_response(outcome),
            Some(None) => {}
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token)
    }

    /// Replaces the response by an error with this status and text. Nothing may have been sent yet.
    pub(crate) fn refuse(&mut self, status: HttpStatus, notice: &[u8]) -> io::Result<()> {
        (self.chunked, self.events) = (false, None);
        if let Some(pipe) = self.as_pipe() {
            pipe.start_response(ResponseOutcome::Unavailable(status));
            self.kept = notice.to_vec();
            return self.flush().map(|_| ());
        }
        let len = notice.len();
        let HttpStatus { number, reason } = status;
        let head = format!(
            "HTTP/1.1 {number} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len}\r\n\
             retry-after: 1\r\nconnection: close\r\n\r\n"
        );
        self.kept = [head.as_bytes(), notice].concat();
        self.flush().map(|_| ())
    }

    /// Opens a plain event stream with the status 200. Called when all requested channels are subscribed.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        if let Some(events) = &mut self.events {
            events.open(&mut self.kept);
            self.drop_events_when_done();
        }
        self.flush().map(|_| ())
    }

    /// Rejects a plain event stream with this status, and the error as the body. Returns `false`, and does nothing, if
    /// the response has begun.
    pub(crate) fn refuse_stream(&mut self, status: HttpStatus, error: &[u8]) -> io::Result<bool> {
        let is_refused = match &mut self.events {
            Some(events) => events.refuse(status, error, &mut self.kept),
            None => false,
        };
        self.flush().map(|_| is_refused)
    }

    fn drop_events_when_done(&mut self) {
        if self.events.as_ref().is_some_and(|events| events.is_passthrough()) {
            self.events = None;
        }
    }

    /// Discards input of the client; 0 at its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..MAX_DISCARDED_READS {
            if self.socket.read(buffer)? == 0 {
                return Ok(0);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the client of a stream goes on sending"))
    }

    /// Writes chunks. Nothing may be kept.
    fn write_chunks(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices = &slices[..slices.len().min(SLICES)];
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        if all == 0 {
            return Ok(0);
        }
        let mut header = ChunkHeader::default();
        let last = header.write((all - 1) % CHUNK + 1);
        let mut parts = [IoSlice::new(&[]); SLICES + 3 * CHUNKS];
        let (mut n, mut left) = (0, all.min(CHUNKS * CHUNK));
        let mut slices = slices.iter().map(|slice| &**slice);
        let mut slice: &[u8] = &[];
        // For each chunk, its end among the parts, and its number of bytes from the slices.
        let mut chunks = [(0, 0); CHUNKS];
        let mut count = 0;
        while left > 0 {
            let len = left.min(CHUNK);
            parts[n] = IoSlice::new(if len == CHUNK { FULL_CHUNK } else { last });
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
        let mut sent = would_block_is_zero(self.socket.write_vectored(&parts[..n]))?;
        let (mut taken, mut from) = (0, 0);
        for (to, len) in &chunks[..count] {
            if sent == 0 {
                break;
            }
            for part in &parts[from..*to] {
                self.kept.extend_from_slice(&part[sent.min(part.len())..]);
                sent = sent.saturating_sub(part.len());
            }
            from = *to;
            taken += len;
        }
        Ok(taken)
    }

    /// Writes the kept bytes; returns whether all of them are sent.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        self.report_outcome();
        if !self.socket.flush()? {
            return Ok(false);
        }
        while self.sent < self.kept.len() {
            match self.socket.write_some(&self.kept[self.sent..])? {
                0 => return Ok(false),
                n => self.sent += n,
            }
        }
        if self.sent > 0 {
            self.kept = Vec::new();
            self.sent = 0;
            if self.finishing {
                self.socket.finish()?;
            }
        }
        Ok(true)
    }

    /// Whether accepted bytes are not sent yet.
    pub(crate) fn is_behind(&self) -> bool {
        !self.kept.is_empty() || self.socket.is_behind()
    }

    /// Ends the body, and the sending half of the connection when everything is sent.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.finishing = true;
        match &mut self.events {
            Some(events) => events.finish(&mut self.kept),
            None if self.chunked => self.kept.extend_from_slice(LAST_CHUNK),
            None => {}
        }
        self.report_outcome();
        if self.kept.is_empty() { self.socket.finish() } else { self.flush().map(|_| ()) }
    }
}

impl WriteLayer for Body {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.flush()? {
            return Ok(0);
        }
        if let Some(events) = &mut self.events {
            let Some(bytes) = slices.first() else { return Ok(0) };
            let taken = events.take(bytes, &mut self.kept);
            self.drop_events_when_done();
            self.flush()?;
            return Ok(taken);
        }
        if self.chunked {
            self.write_chunks(slices)
        } else {
            would_block_is_zero(self.socket.write_vectored(slices))
        }
    }
}

fn would_block_is_zero(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use tidings_wire::code;

    use super::*;

    /// A body before its first bytes, and its client.
    fn body(start: ResponseStart) -> (Body, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Body::new(Socket::unix(ours), start), theirs)
    }

    fn chunked() -> ResponseStart {
        ResponseStart {
            head: b"HEAD\r\n\r\n".to_vec(),
            first: b"first".to_vec(),
            chunked: true,
            events: None,
        }
    }

    /// Reads the available bytes of the client; `None` at the end.
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

    /// The content of a chunked body, and whether it ended with the last chunk.
    fn decode_chunks(mut chunks: &[u8]) -> (Vec<u8>, bool) {
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
    fn a_body_begins_with_its_head_and_ends_with_the_last_chunk() {
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
    fn without_chunks_bytes_are_sent_unchanged() {
        let (mut body, mut client) = body(ResponseStart { chunked: false, ..chunked() });
        assert_eq!(body.write_some(b"hello").unwrap(), 5);
        body.finish().unwrap();
        let mut got = Vec::new();
        assert_eq!(read(&mut client, &mut got), None);
        assert_eq!(got, b"HEAD\r\n\r\nfirsthello");
    }

    #[test]
    fn a_body_that_is_behind_accepts_no_bytes_and_loses_none() {
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
            assert!(body.kept.len() < CHUNK + FULL_CHUNK.len() + 2, "{}", body.kept.len());
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
        assert_eq!(body.kept.capacity(), 0, "the memory is freed");
        let (all, ended) = decode_chunks(got.strip_prefix(b"HEAD\r\n\r\n").unwrap());
        assert!(ended && all == [b"first", &sent[..]].concat());
    }

    #[test]
    fn a_refused_connection_gets_a_complete_response_with_the_reason() {
        for events in [None, Some(EventStream::default())] {
            let (mut body, mut client) = body(ResponseStart { events, ..chunked() });
            body.refuse(code::http_status(3013), b"ERROR 3013 too many requests\r\n").unwrap();
            body.finish().unwrap();
            let mut got = Vec::new();
            assert_eq!(read(&mut client, &mut got), None);
            let got = String::from_utf8(got).unwrap();
            assert!(
                got.starts_with("HTTP/1.1 429 ") && got.ends_with("\r\n\r\nERROR 3013 too many requests\r\n"),
                "{got}"
            );
        }
    }

    #[test]
    fn input_of_the_client_is_discarded_and_its_end_is_detected() {
        use std::io::Write;
        let (mut body, mut client) = body(chunked());
        let mut buffer = [0; 64];
        let blocked = body.read(&mut buffer).unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let blocked = body.read(&mut buffer).unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        client.write_all(&[b'x'; 64 * MAX_DISCARDED_READS]).unwrap();
        assert_eq!(body.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(client);
        assert_eq!(body.read(&mut buffer).unwrap(), 0);
    }
}
