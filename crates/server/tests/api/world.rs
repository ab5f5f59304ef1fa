//! Running servers, and their API by hand.

use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use tidings_testkit::{HttpResponse, LineClient, PATIENCE, wait_until};

use crate::support::TestServer;

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

    /// What is answered to a command: its result, or the error.
    pub(crate) fn outcome(&mut self, command: &str, params: &Value) -> Result<Value, Value> {
        self.next += 1;
        self.line.send(&json!({"id": self.next, command: params}).to_string());
        loop {
            let mut said: Value = serde_json::from_str(&self.line.line()).expect("JSON");
            match said["id"] == self.next {
                true if said.get("error").is_some() => return Err(said["error"].take()),
                true => return Ok(said[command].take()),
                false => {}
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

/// A server with quick canaries and two shards.
pub(crate) struct World(TestServer);

impl Deref for World {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.0
    }
}

impl World {
    /// Starts a server with these options, each `KEY=VALUE`, and waits until it is ready.
    pub(crate) fn with(options: &[&str]) -> Self {
        let world = Self::absent_broker(options);
        world.wait_until_ready();
        world
    }

    /// Starts a server that does not become ready, because its broker is missing.
    pub(crate) fn absent_broker(options: &[&str]) -> Self {
        let usual: &[&str] = &["tcp.auto_subscribe=", "shards=2", "ready.canary_interval=20ms"];
        Self(TestServer::start(&[usual, options].concat()))
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
            let info = json_of(&self.post("/api/info", headers, "{}"));
            keys.map(|key| info["result"]["nodes"][0][key].as_u64().expect("a number")) == numbers
        });
    }

    /// What is answered to a method that succeeds.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> Value {
        let answer = self.post(&format!("/api/{method}"), &[], &params.to_string());
        assert_eq!(answer.status, 200, "{method} {params}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/json");
        let mut json = json_of(&answer);
        let alone = json_len(&json) == 1;
        match json.get_mut("result") {
            Some(result) if alone => result.take(),
            _ => panic!("{method} {params}: {}", answer.body),
        }
    }

    /// The code and the message of a method that fails.
    pub(crate) fn fail(&self, method: &str, params: &Value) -> (u64, String) {
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

    /// Stops the server in the orderly way.
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
