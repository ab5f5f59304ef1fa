//! A client of streamed HTTP responses.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;
use tidings_testkit::HttpResponse;

use super::TestServer;

/// A client of a streamed response.
pub(crate) struct Stream {
    pub(crate) peer: TcpStream,
    pub(crate) head: HttpResponse,
    /// The decoded body so far.
    pub(crate) body: Vec<u8>,
}

impl Stream {
    /// Sends a request and reads the head of the response.
    pub(crate) fn open(server: &TestServer, request: &str) -> Self {
        let mut peer = server.connect();
        peer.write_all(request.as_bytes()).expect("a request sent");
        let head = HttpResponse::read_head(&mut peer);
        Self { peer, head, body: Vec::new() }
    }

    /// Reads and removes the text up to `end`.
    pub(crate) fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.body.windows(end.len()).position(|w| w == end.as_bytes()) {
                let rest = self.body.split_off(at + end.len());
                let text = std::mem::replace(&mut self.body, rest);
                return String::from_utf8(text).expect("text");
            }
            assert!(self.read_chunk(), "an end before {end:?}: {:?}", String::from_utf8_lossy(&self.body));
        }
    }

    /// The rest of the body.
    pub(crate) fn rest(&mut self) -> String {
        while self.read_chunk() {}
        String::from_utf8(std::mem::take(&mut self.body)).expect("text")
    }

    /// Reads more of the body. Returns `false` at its end.
    pub(crate) fn read_chunk(&mut self) -> bool {
        if self.head.header("transfer-encoding") != "chunked" {
            let mut bytes = [0; 4096];
            let n = self.peer.read(&mut bytes).expect("more of the answer");
            self.body.extend_from_slice(&bytes[..n]);
            return n > 0;
        }
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.peer.read_exact(&mut byte).expect("a chunk's first line");
            line.push(byte[0]);
        }
        let len = std::str::from_utf8(&line).ok().and_then(|l| usize::from_str_radix(l.trim(), 16).ok());
        let mut chunk = vec![0; len.expect("a length") + 2];
        self.peer.read_exact(&mut chunk).expect("a chunk");
        assert!(chunk.ends_with(b"\r\n"));
        chunk.truncate(chunk.len() - 2);
        self.body.extend_from_slice(&chunk);
        !chunk.is_empty()
    }

    /// The next line, as JSON.
    pub(crate) fn line(&mut self) -> Value {
        let line = self.until("\n");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"))
    }

    /// The data of the next event that has some, as JSON.
    pub(crate) fn event(&mut self) -> Value {
        loop {
            let event = self.until("\n\n");
            if let Some(data) = event.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap_or_else(|e| panic!("{event:?}: {e}"));
            }
        }
    }
}

/// A request with a body.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    let len = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n{headers}\r\n{body}")
}

/// A request without a body.
pub(crate) fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// Percent-encodes text for a URI.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}
