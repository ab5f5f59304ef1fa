//! A server in this process, tokens for it, and clients that use JSON lines.

use std::io::{Read as _, Write as _};
use std::ops::Deref;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidings_auth::sign_hs256;
use tidings_config::{Config, Secret};
use tidings_testkit::LineClient;

use crate::support::{self, TestServer};

/// The key of the tests' tokens.
pub(crate) const KEY: &str = "a secret of thirty-two bytes or more";

/// The configuration with these options, or the error.
pub(crate) fn load(options: &[(&str, &str)]) -> Result<Config, String> {
    let options: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    support::load(&options.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A running server; stopped when dropped.
pub(crate) struct ServerWithHooks(TestServer);

impl Deref for ServerWithHooks {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.0
    }
}

impl std::ops::DerefMut for ServerWithHooks {
    fn deref_mut(&mut self) -> &mut TestServer {
        &mut self.0
    }
}

impl ServerWithHooks {
    /// Starts a server with these options over the defaults.
    pub(crate) fn with(options: &[(&str, &str)]) -> Self {
        let options: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let usual = ["shards=1", "tcp.auto_subscribe="].into_iter();
        Self(TestServer::start(&usual.chain(options.iter().map(String::as_str)).collect::<Vec<_>>()))
    }

    /// Starts a server with a configuration file, which a reload reads again.
    pub(crate) fn with_file(path: &std::path::Path) -> Self {
        Self(TestServer::start_with_file(Some(path), &["shards=1", "tcp.auto_subscribe="]))
    }

    /// Starts a server that verifies tokens with [`KEY`].
    pub(crate) fn with_key(options: &[(&str, &str)]) -> Self {
        let mut all = vec![("client.token.hmac_secret_key", KEY)];
        all.extend_from_slice(options);
        Self::with(&all)
    }

    /// A client that has sent nothing yet.
    pub(crate) fn client(&self) -> Client {
        Client { line: self.line(), last: 0 }
    }

    /// A client that is connected with these fields of `connect`.
    pub(crate) fn connected(&self, connect: Value) -> Client {
        let mut client = self.client();
        let reply = client.call("connect", connect);
        assert!(reply.get("connect").is_some(), "{reply}");
        client
    }

    /// Sends an HTTP request with these headers and this body. Returns the response up to the first text that contains
    /// `until`.
    pub(crate) fn stream(&self, request: &str, headers: &str, body: &str, until: &str) -> String {
        let address = self.http();
        let mut stream = self.connect();
        let length = body.len();
        let head =
            format!("{request} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all((head + body).as_bytes()).expect("sent");
        let mut response = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let n = stream.read(&mut chunk).expect("more of the response");
            response.extend_from_slice(&chunk[..n]);
            let text = String::from_utf8_lossy(&response);
            if text.contains(until) {
                return text.into_owned();
            }
            assert_ne!(n, 0, "the response ended without {until:?}: {text}");
        }
    }
}

/// A client that uses JSON lines.
pub(crate) struct Client {
    line: LineClient,
    last: u64,
}

impl Client {
    /// Sends a command. Returns its id.
    pub(crate) fn send(&mut self, method: &str, params: Value) -> u64 {
        self.last += 1;
        let mut command = json!({"id": self.last});
        command[method] = params;
        self.line.send(&command.to_string());
        self.last
    }

    /// Sends a command. Returns its reply, which must be the next message.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        let reply = self.message();
        assert_eq!(reply["id"], json!(id), "{reply}");
        reply
    }

    /// Sends a command that must fail. Returns the error code, and whether the error is temporary.
    #[track_caller]
    pub(crate) fn call_error(&mut self, method: &str, params: Value) -> (u64, bool) {
        let reply = self.call(method, params);
        let code = reply["error"]["code"].as_u64().unwrap_or_else(|| panic!("no error: {reply}"));
        (code, reply["error"]["temporary"] == json!(true))
    }

    /// Sends a command that must succeed. Returns its result.
    #[track_caller]
    pub(crate) fn call_ok(&mut self, method: &str, params: Value) -> Value {
        let mut reply = self.call(method, params);
        assert!(reply.get(method).is_some(), "{reply}");
        reply[method].take()
    }

    /// The next message that is not a ping.
    pub(crate) fn message(&mut self) -> Value {
        loop {
            let message: Value = serde_json::from_str(&self.line.line()).expect("JSON");
            if message != json!({}) {
                return message;
            }
        }
    }

    /// Asserts that the server closes the connection with this code.
    #[track_caller]
    pub(crate) fn expect_end(mut self, code: u64) {
        let rest = String::from_utf8(self.line.expect_closed()).expect("UTF-8");
        let ends = |line: &str| {
            let message: Value = serde_json::from_str(line).expect("JSON");
            message["push"]["disconnect"]["code"] == json!(code)
        };
        assert!(rest.lines().any(ends), "no disconnect {code} in {rest:?}");
    }
}

/// The current time, in Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A token with these claims, signed with [`KEY`].
#[expect(clippy::needless_pass_by_value, reason = "json!(…) in place")]
pub(crate) fn token(claims: Value) -> String {
    sign_hs256(&Secret::new(KEY), &claims).expect("a token")
}
