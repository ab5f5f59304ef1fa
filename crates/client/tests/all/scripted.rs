//! Scripted servers: a test accepts one connection after another and writes every response.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;
use tidings_client::Server;
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::ws::{self, CloseCode, Event, Opcode, Reader, Role, Rules, handshake};

/// A listener for scripted connections.
pub(crate) struct Scripted(TcpListener);

impl Scripted {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    /// The address with this scheme.
    pub(crate) fn server(&self, scheme: &str) -> Server {
        let addr = self.0.local_addr().expect("a bound socket has an address");
        format!("{scheme}://{addr}").parse().expect("an address")
    }

    pub(crate) fn accept(&self) -> TcpStream {
        // Non-blocking with a deadline: a client that has failed never connects, and the test must end.
        self.0.set_nonblocking(true).expect("a socket of our own");
        let mut accepted = None;
        wait_until(PATIENCE, "a connection", || {
            accepted = self.0.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.expect("waited for");
        stream.set_nonblocking(false).expect("a socket of our own");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }

    /// Accepts the next connection and completes a WebSocket handshake.
    pub(crate) fn websocket(&self) -> Peer {
        let mut stream = self.accept();
        let head = head(&mut stream);
        assert!(head.starts_with("GET /connection/websocket HTTP/1.1\r\n"), "{head}");
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            handshake::accept(key)
        );
        stream.write_all(answer.as_bytes()).expect("written");
        Peer { stream, reader: Reader::default(), unread: Vec::new(), lines: Vec::new() }
    }

    /// Accepts the next connection and replies to `connect`.
    pub(crate) fn welcomed(&self) -> Peer {
        let mut peer = self.websocket();
        let connect = peer.command();
        assert_eq!(connect["id"], 1, "{connect}");
        assert!(connect["connect"].is_object(), "{connect}");
        peer.say(r#"{"id":1,"connect":{"client":"c","version":"v","ping":25,"pong":true}}"#);
        peer
    }
}

/// Reads the head of a request.
pub(crate) fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("the head of a request");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// The server's end of a WebSocket that speaks JSON.
pub(crate) struct Peer {
    stream: TcpStream,
    reader: Reader,
    unread: Vec<u8>,
    lines: Vec<Value>,
}

impl Peer {
    /// The next command of the client; an empty object is a pong.
    pub(crate) fn command(&mut self) -> Value {
        let rules = Rules { role: Role::Server, max_message: 1 << 20 };
        let mut message = Vec::new();
        while self.lines.is_empty() {
            if self.unread.is_empty() {
                let mut buf = [0; 4096];
                let n = self.stream.read(&mut buf).expect("a command");
                assert!(n > 0, "the client left");
                self.unread.extend_from_slice(&buf[..n]);
            }
            let (used, event) = self.reader.read(&self.unread, &rules, &mut message).expect("frames");
            self.unread.drain(..used);
            if let Event::Message(_) = event {
                let text = String::from_utf8(std::mem::take(&mut message)).expect("text");
                self.lines.extend(
                    text.lines().rev().map(|line| serde_json::from_str::<Value>(line).expect("JSON")),
                );
            }
        }
        self.lines.pop().expect("not empty")
    }

    /// The next command, which must be a subscribe command: its number and its parameters.
    pub(crate) fn subscribe(&mut self) -> (u64, Value) {
        let command = self.command();
        assert!(command["subscribe"].is_object(), "{command}");
        (command["id"].as_u64().expect("a number"), command["subscribe"].clone())
    }

    /// Sends a frame.
    pub(crate) fn say(&mut self, json: &str) {
        let mut frame = Vec::new();
        ws::frame(Opcode::Text, json.as_bytes(), &mut frame);
        self.stream.write_all(&frame).expect("written");
    }

    /// Publishes in channel `news`.
    pub(crate) fn publish(&mut self, offset: u64, body: &str) {
        let data = serde_json::json!({"push": {"channel": "news", "pub": {"data": body, "offset": offset}}});
        self.say(&data.to_string());
    }

    /// Closes with a code.
    pub(crate) fn close(mut self, code: u16, reason: &str) {
        let mut frame = Vec::new();
        ws::close(CloseCode(code), reason, &mut frame);
        self.stream.write_all(&frame).expect("written");
    }
}
