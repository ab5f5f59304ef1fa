//! A client of WebSockets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;
use tidings_testkit::HttpResponse;
use tidings_wire::ws::{self, Event, Kind, Opcode, Reader, Role, Rules};

use super::TestServer;

/// A client of a WebSocket.
pub(crate) struct Client {
    pub(crate) peer: TcpStream,
    reader: Reader,
    message: Vec<u8>,
    input: Vec<u8>,
}

/// A message of the server.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Message(Kind, Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

fn handshake(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

/// A masked frame.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ws::masked_frame(opcode, payload, [1, 2, 3, 4], &mut out);
    out
}

impl Client {
    /// Sends a handshake, immediately followed by these bytes.
    pub(crate) fn open(server: &TestServer, path: &str, headers: &str, following: &[u8]) -> Self {
        let mut peer = server.connect();
        let request = handshake(path, headers);
        peer.write_all(&[request.as_bytes(), following].concat()).expect("a request sent");
        assert_eq!(HttpResponse::read_head(&mut peer).status, 101);
        Self { peer, reader: Reader::default(), message: Vec::new(), input: Vec::new() }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        self.peer.write_all(&frame(opcode, payload)).expect("a frame sent");
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Received {
        let rules = Rules { role: Role::Client, max_message: 1 << 20 };
        loop {
            let (used, event) =
                self.reader.read(&self.input, &rules, &mut self.message).expect("frames of a server");
            self.input.drain(..used);
            match event {
                Event::Partial => {}
                Event::Message(kind) => return Received::Message(kind, std::mem::take(&mut self.message)),
                Event::Pong(payload) => return Received::Pong(payload.to_vec()),
                Event::Ping(_) => panic!("pings are messages here"),
                Event::Close(close) => {
                    let code = close.code().map_or(1005, |code| code.0);
                    return Received::Close(code, close.reason().to_owned());
                }
            }
            let mut bytes = [0; 4096];
            let n = self.peer.read(&mut bytes).expect("more frames");
            assert!(n > 0, "an end");
            self.input.extend_from_slice(&bytes[..n]);
        }
    }

    /// The messages of the next text frame.
    pub(crate) fn json(&mut self) -> Vec<Value> {
        match self.next() {
            Received::Message(Kind::Text, text) => text
                .split(|b| *b == b'\n')
                .map(|line| serde_json::from_slice(line).unwrap_or_else(|e| panic!("{line:?}: {e}")))
                .collect(),
            other => panic!("{other:?}"),
        }
    }
}
