//! Running servers, clients of the client protocol, and calls of the server API.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use tidings_testkit::{HttpResponse, LineClient, PATIENCE, wait_until};

use crate::support::TestServer;

/// Options of a server with token authentication for users, and an API without a key.
pub(crate) const USERS: [&str; 4] = [
    "client.token.hmac_secret_key=users",
    "http_api.insecure=true",
    "channel.without_namespace.allow_subscribe_for_client=true",
    "channel.without_namespace.presence=true",
];

/// A connection token for [`USERS`].
fn token(user: &str) -> String {
    token_with(&json!({"sub": user}))
}

/// A connection token for [`USERS`] with these claims.
pub(crate) fn token_with(claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let text = format!("{}.{}", part(&json!({"alg": "HS256"})), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"users");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes())))
}

/// A connected client of the client protocol, in JSON lines.
pub(crate) struct JsonClient {
    line: LineClient,
    next: u64,
    /// The client id.
    pub(crate) client: String,
}

impl JsonClient {
    /// A client that is connected without a token.
    pub(crate) fn anonymous(server: SocketAddr) -> Self {
        let mut client = Self { line: LineClient::connect(server), next: 0, client: String::new() };
        client.call("connect", &json!({}));
        client
    }

    /// The result of a command that must succeed. Earlier pushes are skipped.
    pub(crate) fn call(&mut self, command: &str, params: &Value) -> Value {
        self.next += 1;
        self.line.send(&json!({"id": self.next, command: params}).to_string());
        loop {
            let mut message: Value = serde_json::from_str(&self.line.line()).expect("JSON");
            if message["id"] == self.next {
                assert!(message.get(command).is_some(), "{message}");
                return message[command].take();
            }
        }
    }

    /// The result or the error of a command. Earlier pushes are skipped.
    pub(crate) fn try_call(&mut self, command: &str, params: &Value) -> Result<Value, Value> {
        self.next += 1;
        self.line.send(&json!({"id": self.next, command: params}).to_string());
        loop {
            let mut message: Value = serde_json::from_str(&self.line.line()).expect("JSON");
            match message["id"] == self.next {
                true if message.get("error").is_some() => return Err(message["error"].take()),
                true => return Ok(message[command].take()),
                false => {}
            }
        }
    }

    /// The error of a command that must fail. The reply must be the next message.
    pub(crate) fn call_error(&mut self, command: &str, params: &Value) -> Value {
        self.next += 1;
        self.line.send(&json!({"id": self.next, command: params}).to_string());
        let mut message: Value = serde_json::from_str(&self.line.line()).expect("JSON");
        assert!(message["id"] == self.next && message.get("error").is_some(), "{message}");
        message["error"].take()
    }

    /// The next push, which must be of this kind: its channel and content. Pings are skipped.
    pub(crate) fn push(&mut self, kind: &str) -> (String, Value) {
        loop {
            let text = self.line.line();
            let mut message: Value = serde_json::from_str(&text).expect("JSON");
            if message == json!({}) {
                continue;
            }
            let push = message.get_mut("push").unwrap_or_else(|| panic!("no {kind}, but {text}"));
            let channel = push["channel"].as_str().unwrap_or_default().to_owned();
            assert!(push.get(kind).is_some(), "no {kind}, but {text}");
            return (channel, push[kind].take());
        }
    }

    /// Waits until the server has closed the connection.
    pub(crate) fn expect_close(&mut self) {
        self.line.expect_closed();
    }

    /// Asserts that no message has arrived, except pings.
    pub(crate) fn expect_nothing(&mut self) {
        // Earlier messages of the server would arrive before this reply.
        self.next += 1;
        self.line.send(&json!({"id": self.next, "presence_stats": {"channel": "none"}}).to_string());
        let message: Value = serde_json::from_str(&self.line.line()).expect("JSON");
        assert_eq!(message["id"], self.next, "{message}");
    }
}

/// A server with quick canaries and two shards.
pub(crate) struct ApiServer(TestServer);

impl Deref for ApiServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.0
    }
}

impl ApiServer {
    /// Starts a server with these options, each `KEY=VALUE`, and waits until it is ready.
    pub(crate) fn with(options: &[&str]) -> Self {
        let server = Self::without_broker(options);
        server.wait_until_ready();
        server
    }

    /// Starts a server that does not become ready, because its broker does not run.
    pub(crate) fn without_broker(options: &[&str]) -> Self {
        let usual: &[&str] = &["tcp.auto_subscribe=", "shards=2", "ready.canary_interval=20ms"];
        Self(TestServer::start(&[usual, options].concat()))
    }

    /// A client of the client protocol that is connected as this user: the server has [`USERS`].
    pub(crate) fn user(&self, user: &str) -> JsonClient {
        self.json_client(&token(user))
    }

    /// A client that is connected with this token.
    pub(crate) fn json_client(&self, token: &str) -> JsonClient {
        let mut member = JsonClient { line: LineClient::connect(self.tcp()), next: 0, client: String::new() };
        let connected = member.call("connect", &json!({"token": token}));
        member.client = connected["client"].as_str().expect("a client id").to_owned();
        member
    }

    /// Whether a connection with these claims is rejected with 103.
    pub(crate) fn rejects(&self, claims: &Value) -> bool {
        let mut line = LineClient::connect(self.tcp());
        line.send(&json!({"id": 1, "connect": {"token": token_with(claims)}}).to_string());
        let message: Value = serde_json::from_str(&line.line()).expect("JSON");
        message["error"]["code"] == 103
    }

    /// Waits until `info` reports these numbers of connections, users, subscriptions and channels.
    pub(crate) fn wait_for_counts(&self, headers: &[&str], numbers: [u64; 4]) {
        let keys = ["num_clients", "num_users", "num_subs", "num_channels"];
        wait_until(PATIENCE, &format!("{keys:?} to be {numbers:?}"), || {
            let info = json_of(&self.post("/api/info", headers, "{}"));
            keys.map(|key| info["result"]["nodes"][0][key].as_u64().expect("a number")) == numbers
        });
    }

    /// The result of a method that must succeed.
    pub(crate) fn call(&self, method: &str, params: &Value) -> Value {
        let answer = self.post(&format!("/api/{method}"), &[], &params.to_string());
        assert_eq!(answer.status, 200, "{method} {params}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/json");
        let mut json = json_of(&answer);
        let is_single = json_len(&json) == 1;
        match json.get_mut("result") {
            Some(result) if is_single => result.take(),
            _ => panic!("{method} {params}: {}", answer.body),
        }
    }

    /// The code and the message of a method that must fail.
    pub(crate) fn call_error(&self, method: &str, params: &Value) -> (u64, String) {
        let answer = self.post(&format!("/api/{method}"), &[], &params.to_string());
        assert_eq!(answer.status, 200, "{method} {params}: {}", answer.body);
        let json = json_of(&answer);
        let error = json.get("error").unwrap_or_else(|| panic!("{method} {params}: {}", answer.body));
        (error["code"].as_u64().expect("a code"), error["message"].as_str().expect("a message").to_owned())
    }

    /// The replies to a batch.
    pub(crate) fn batch(&self, batch: &Value) -> Vec<Value> {
        let answer = self.post("/api/batch", &[], &batch.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        json_of(&answer)["replies"].as_array().unwrap_or_else(|| panic!("{}", answer.body)).clone()
    }

    /// Stops the server gracefully.
    pub(crate) fn stop(mut self) {
        self.0.stop();
    }
}

/// The body of a response, which is JSON.
pub(crate) fn json_of(response: &HttpResponse) -> Value {
    serde_json::from_str(&response.body).unwrap_or_else(|e| panic!("{e}: {}", response.body))
}

fn json_len(json: &Value) -> usize {
    json.as_object().map_or(0, serde_json::Map::len)
}

/// The next packet of MQTT, of less than 130 bytes.
pub(crate) fn mqtt_packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a packet");
    assert!(head[1] < 128, "a short packet");
    let mut rest = vec![0; head[1].into()];
    stream.read_exact(&mut rest).expect("a packet");
    [&head[..], &rest].concat()
}
