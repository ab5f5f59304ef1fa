//! Scripted clients: of JSON lines, and of a receive-only WebSocket; and a backend with a fixed response.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidings_auth::sign_hs256;
use tidings_config::Secret;
use tidings_testkit::{LineClient, PATIENCE, Tidings, post_http};
use tidings_wire::ws::handshake::{self, Request};
use tidings_wire::ws::{self, Event, Opcode, Reader, Role, Rules};

/// A code as a client received it.
#[derive(Debug)]
pub(super) struct ReceivedCode {
    pub(super) code: u16,
    pub(super) words: String,
    /// Whether a retry may help, if the message contains it: `temporary` of an error, `reconnect` of a disconnect.
    pub(super) temporary: Option<bool>,
}

impl ReceivedCode {
    /// Parses an `error`, an `unsubscribe` or a `disconnect`.
    fn from(object: &Value) -> Self {
        let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok()).expect("a code");
        let words = ["message", "reason"].iter().find_map(|key| object[key].as_str()).unwrap_or_default();
        let temporary = match object.get("message") {
            Some(_) => Some(object["temporary"].as_bool().unwrap_or(false)),
            None if code >= 3000 => Some(object["reconnect"].as_bool().unwrap_or(false)),
            None => None,
        };
        Self { code, words: words.to_owned(), temporary }
    }
}

/// A client of JSON lines that sends nothing by itself, not even pongs.
pub(super) struct Client {
    line: LineClient,
    last: u32,
}

impl Client {
    pub(super) fn open(server: &Tidings) -> Self {
        Self { line: LineClient::connect(server.tcp()), last: 0 }
    }

    /// A client that has sent `connect`.
    pub(super) fn connected(server: &Tidings, connect: &Value) -> Self {
        let mut client = Self::open(server);
        let reply = client.request("connect", connect);
        assert!(reply["connect"].is_object(), "{reply}");
        client
    }

    /// Sends a command.
    pub(super) fn send(&mut self, method: &str, what: &Value) {
        self.last += 1;
        self.line.send_bytes(format!("{}\n", json!({"id": self.last, method: what})).as_bytes());
    }

    /// Sends bytes that need not be a command.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.line.send_bytes(bytes);
    }

    /// Sends a command, and returns the reply.
    pub(super) fn request(&mut self, method: &str, what: &Value) -> Value {
        self.send(method, what);
        let id = self.last;
        self.until(|message| (message["id"] == id).then(|| message.clone()))
    }

    /// The error in the reply to a command.
    pub(super) fn refused(&mut self, method: &str, what: &Value) -> ReceivedCode {
        let reply = self.request(method, what);
        assert!(reply["error"].is_object(), "{reply}");
        ReceivedCode::from(&reply["error"])
    }

    /// The first error.
    pub(super) fn first_error(&mut self) -> ReceivedCode {
        self.until(|message| message.get("error").map(ReceivedCode::from))
    }

    /// The first push of this kind.
    pub(super) fn pushed(&mut self, kind: &str) -> ReceivedCode {
        self.until(|message| message["push"].get(kind).map(ReceivedCode::from))
    }

    /// The disconnect, after which the connection ends.
    pub(super) fn ended(&mut self) -> ReceivedCode {
        let received = self.pushed("disconnect");
        self.line.expect_closed();
        received
    }

    /// The line that ends a connection before its protocol was detected.
    pub(super) fn rejected_line(&mut self) -> ReceivedCode {
        let line = self.line.line();
        let (code, words) =
            line.strip_prefix("ERROR ").and_then(|rest| rest.split_once(' ')).expect("an error");
        ReceivedCode { code: code.parse().expect("a code"), words: words.to_owned(), temporary: None }
    }

    fn until<T>(&mut self, look: impl Fn(&Value) -> Option<T>) -> T {
        loop {
            let line = self.line.line();
            let message = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            if let Some(found) = look(&message) {
                return found;
            }
        }
    }
}

/// The close of `/connection/uni_websocket` after this first message.
pub(super) fn closed_one_way(server: &Tidings, introduction: &Value) -> ReceivedCode {
    let mut stream = TcpStream::connect(server.http()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out above zero");
    let (host, key) = (server.http().to_string(), handshake::key([7; 16]));
    let request =
        Request { host: &host, target: "/connection/uni_websocket", key: &key, protocols: &[], headers: &[] };
    let mut bytes = Vec::new();
    request.write(&mut bytes);
    ws::masked_frame(Opcode::Text, introduction.to_string().as_bytes(), [1, 2, 3, 4], &mut bytes);
    stream.write_all(&bytes).expect("sent");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("an end in time");
    let accepted = handshake::read_answer(&received, &request).expect("a WebSocket").expect("a whole answer");
    let rules = Rules { role: Role::Client, max_message: 1 << 20 };
    let (mut reader, mut message, mut rest) = (Reader::default(), Vec::new(), &received[accepted.used..]);
    loop {
        let (used, event) = reader.read(rest, &rules, &mut message).expect("frames");
        rest = &rest[used..];
        match event {
            Event::Close(close) => {
                let code = close.code().expect("a code").0;
                return ReceivedCode { code, words: close.reason().to_owned(), temporary: None };
            }
            Event::Partial => panic!("no close frame in {received:?}"),
            _ => message.clear(),
        }
    }
}

/// Calls the server API.
pub(super) fn api(server: &Tidings, key: &str, method: &str, params: &Value) {
    let headers = [format!("X-API-Key: {key}"), "Content-Type: application/json".to_owned()];
    let headers = headers.each_ref().map(String::as_str);
    let response = post_http(server.http(), &format!("/api/{method}"), &headers, params.to_string());
    assert!(response.status == 200 && response.body.contains("\"result\""), "{response:?}");
}

/// A backend on its own port with this response to every request; returns its address. It runs until the process of the
/// test ends.
pub(super) fn backend(answer: &Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("a bound socket has an address"));
    let body = answer.to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The complete request, up to the end of its JSON.
            let (mut question, mut chunk) = (Vec::new(), [0; 4096]);
            while !question.ends_with(b"}") {
                match stream.read(&mut chunk) {
                    Ok(length @ 1..) => question.extend_from_slice(&chunk[..length]),
                    _ => break,
                }
            }
            // Fails if the client has closed.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

/// The key of [`token`].
pub(super) const KEY: &str = "a secret for these tests alone, long enough";

/// A token with these claims.
pub(super) fn token(claims: &Value) -> String {
    sign_hs256(&Secret::new(KEY), claims).expect("a token")
}

/// This many seconds from now, in Unix time.
pub(super) fn soon(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
    i64::try_from(now).expect("a time") + seconds
}
