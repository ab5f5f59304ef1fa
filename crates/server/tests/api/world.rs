//! Running servers, and their API by hand.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use tidings_server::config::{self, Overrides};
use tidings_server::{Readiness, Server};
use tidings_testkit::{LineClient, PATIENCE, RespClient, wait_until};
use tokio::runtime::Runtime;

/// The options of a server that lets users in by their tokens, and any backend without a key.
pub(crate) const USERS: [&str; 4] = [
    "client.token.hmac_secret_key=users",
    "http_api.insecure=true",
    "channel.without_namespace.allow_subscribe_for_client=true",
    "channel.without_namespace.presence=true",
];

/// A connection token for [`USERS`].
fn token(user: &str) -> String {
    claimed(&json!({"sub": user}))
}

/// A connection token for [`USERS`] with these claims.
pub(crate) fn claimed(claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let text = format!("{}.{}", part(&json!({"alg": "HS256"})), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"users");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes())))
}

/// A client of the client protocol, in JSON lines.
pub(crate) struct Member {
    line: LineClient,
    next: u64,
    /// Its id.
    pub(crate) client: String,
}

impl Member {
    /// What is answered to a command that succeeds. Pushes that come before are passed over.
    pub(crate) fn ask(&mut self, command: &str, params: &Value) -> Value {
        self.next += 1;
        self.line.send(&json!({"id": self.next, command: params}).to_string());
        loop {
            let mut said: Value = serde_json::from_str(&self.line.line()).expect("JSON");
            if said["id"] == self.next {
                assert!(said.get(command).is_some(), "{said}");
                return said[command].take();
            }
        }
    }

    /// What is answered to a command that fails.
    pub(crate) fn fail(&mut self, command: &str, params: &Value) -> Value {
        self.next += 1;
        self.line.send(&json!({"id": self.next, command: params}).to_string());
        let mut said: Value = serde_json::from_str(&self.line.line()).expect("JSON");
        assert!(said["id"] == self.next && said.get("error").is_some(), "{said}");
        said["error"].take()
    }

    /// The next push of this kind: its channel, and what it says. Pings are passed over.
    pub(crate) fn push(&mut self, kind: &str) -> (String, Value) {
        loop {
            let text = self.line.line();
            let mut said: Value = serde_json::from_str(&text).expect("JSON");
            if said == json!({}) {
                continue;
            }
            let push = said.get_mut("push").unwrap_or_else(|| panic!("no {kind}, but {text}"));
            let channel = push["channel"].as_str().unwrap_or_default().to_owned();
            assert!(push.get(kind).is_some(), "no {kind}, but {text}");
            return (channel, push[kind].take());
        }
    }

    /// Waits until the server has closed the connection.
    pub(crate) fn expect_close(&mut self) {
        self.line.expect_closed();
    }

    /// Makes sure that nothing but pings comes.
    pub(crate) fn expect_nothing(&mut self) {
        // Whatever was on its way before this is answered comes before the answer.
        self.next += 1;
        self.line.send(&json!({"id": self.next, "presence_stats": {"channel": "nobody"}}).to_string());
        let said: Value = serde_json::from_str(&self.line.line()).expect("JSON");
        assert_eq!(said["id"], self.next, "{said}");
    }
}

/// A server of this process, stopped when it is dropped.
pub(crate) struct World {
    runtime: Runtime,
    server: Option<Server>,
}

impl World {
    /// Starts a server with free ports on 127.0.0.1 and these options, each `KEY=VALUE`, and waits until it is ready.
    pub(crate) fn with(options: &[&str]) -> Self {
        let world = Self::absent_broker(options);
        world.wait_until_ready();
        world
    }

    /// The same, also while there is no broker.
    pub(crate) fn absent_broker(options: &[&str]) -> Self {
        Self::start(options)
    }

    fn wait_until_ready(&self) {
        let ready = || matches!(self.server().node().readiness(), Readiness::Ready(_));
        wait_until(PATIENCE, "a server that is ready", ready);
    }

    fn start(options: &[&str]) -> Self {
        let mut overrides = Overrides::default();
        let usual = [
            "tcp.listen=127.0.0.1:0",
            "http.listen=127.0.0.1:0",
            "tcp.auto_subscribe=",
            "shards=2",
            "ready.canary_interval=20ms",
        ];
        for option in usual.iter().chain(options) {
            overrides.set(option).unwrap_or_else(|e| panic!("{option}: {e}"));
        }
        let config = config::load(None, [], &overrides).unwrap_or_else(|e| panic!("{e}"));
        let runtime = Runtime::new().expect("a runtime");
        let server = runtime.block_on(Server::start(config)).unwrap_or_else(|e| panic!("{e}"));
        Self { runtime, server: Some(server) }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("a server that runs")
    }

    fn announced(&self, kind: &str) -> &str {
        let mut lines = self.server().announcements().iter().filter_map(|line| line.split_once(' '));
        lines.find(|(of, _)| *of == kind).unwrap_or_else(|| panic!("no {kind} listener")).1
    }

    pub(crate) fn http(&self) -> SocketAddr {
        let url = self.announced("http");
        url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address")
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        self.announced("tcp").parse().expect("an address")
    }

    /// A plain client that is subscribed to a channel.
    pub(crate) fn subscriber(&self, channel: &str) -> LineClient {
        let mut client = LineClient::connect(self.tcp());
        client.send(&format!("SUBSCRIBE {channel}"));
        client.expect("CONFIRMED");
        client
    }

    /// A client of the client protocol that is connected as this user: the server has [`USERS`].
    pub(crate) fn user(&self, user: &str) -> Member {
        self.member(&token(user))
    }

    /// One that is connected with this token.
    pub(crate) fn member(&self, token: &str) -> Member {
        let mut member = Member { line: LineClient::connect(self.tcp()), next: 0, client: String::new() };
        let connected = member.ask("connect", &json!({"token": token}));
        member.client = connected["client"].as_str().expect("a client id").to_owned();
        member
    }

    /// Whether a client with these claims is refused for what it claims (103).
    pub(crate) fn refuses(&self, claims: &Value) -> bool {
        let mut line = LineClient::connect(self.tcp());
        line.send(&json!({"id": 1, "connect": {"token": claimed(claims)}}).to_string());
        let said: Value = serde_json::from_str(&line.line()).expect("JSON");
        said["error"]["code"] == 103
    }

    /// Waits until the node's own numbers have caught up with its clients: connections, users, subscriptions, channels.
    pub(crate) fn until_it_counts(&self, headers: &[&str], numbers: [u64; 4]) {
        let keys = ["num_clients", "num_users", "num_subs", "num_channels"];
        wait_until(PATIENCE, &format!("{keys:?} to be {numbers:?}"), || {
            let info = self.post("/api/info", headers, "{}").json();
            keys.map(|key| info["result"]["nodes"][0][key].as_u64().expect("a number")) == numbers
        });
    }

    pub(crate) fn resp(&self) -> RespClient {
        RespClient::connect(self.tcp())
    }

    /// What is answered to a method that succeeds.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> Value {
        let answer = self.post(&format!("/api/{method}"), &[], &params.to_string());
        assert_eq!(answer.status, 200, "{method} {params}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/json");
        let mut json = answer.json();
        match json.get_mut("result") {
            Some(result) if json_len(&answer.json()) == 1 => result.take(),
            _ => panic!("{method} {params}: {}", answer.body),
        }
    }

    /// The code and the message of a method that fails.
    pub(crate) fn fail(&self, method: &str, params: &Value) -> (u64, String) {
        let answer = self.post(&format!("/api/{method}"), &[], &params.to_string());
        assert_eq!(answer.status, 200, "{method} {params}: {}", answer.body);
        let json = answer.json();
        let error = json.get("error").unwrap_or_else(|| panic!("{method} {params}: {}", answer.body));
        (error["code"].as_u64().expect("a code"), error["message"].as_str().expect("a message").to_owned())
    }

    /// The replies to a batch.
    pub(crate) fn batch(&self, batch: &Value) -> Vec<Value> {
        let answer = self.post("/api/batch", &[], &batch.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["replies"].as_array().unwrap_or_else(|| panic!("{}", answer.body)).clone()
    }

    /// Posts a body with these headers.
    pub(crate) fn post(&self, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut peer = self.connect();
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        peer.write_all(head.as_bytes()).expect("a head sent");
        // The answer may come before the body is taken.
        let _ = peer.write_all(body.as_bytes());
        Answer::read(&mut peer)
    }

    /// Asks with a request that says `Connection: close`, written out.
    pub(crate) fn send(&self, request: &str) -> Answer {
        let mut peer = self.connect();
        peer.write_all(request.as_bytes()).expect("a request sent");
        Answer::read(&mut peer)
    }

    fn connect(&self) -> TcpStream {
        let peer = TcpStream::connect(self.http()).expect("a connection");
        peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        peer
    }

    /// Stops the server in the orderly way.
    pub(crate) fn stop(mut self) {
        let server = self.server.take().expect("a server that runs");
        self.runtime.block_on(server.stop());
    }
}

fn json_len(json: &Value) -> usize {
    json.as_object().map_or(0, serde_json::Map::len)
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let stop =
                async { tokio::time::timeout(std::time::Duration::from_millis(300), server.stop()).await };
            let _ = self.runtime.block_on(stop);
        }
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Reads until the peer closes, or has sent all that it announced.
    fn read(peer: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A peer that did not read all of the body may reset the connection behind its answer.
        let _ = peer.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}
