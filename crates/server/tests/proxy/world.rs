//! A server in this process, tokens for it, and clients that speak JSON lines.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidings_server::Server;
use tidings_server::auth::sign_hs256;
use tidings_server::config::{self, Config, Overrides, Secret};
use tidings_testkit::{LineClient, PATIENCE};
use tokio::runtime::Runtime;

/// The key of the tests' tokens.
pub(crate) const KEY: &str = "a secret of thirty-two bytes or more";

/// The configuration that these options make, or what is wrong with them.
pub(crate) fn load(options: &[(&str, &str)]) -> Result<Config, String> {
    let mut overrides = Overrides::default();
    for (key, value) in options {
        overrides.set(&format!("{key}={value}")).expect("KEY=VALUE");
    }
    config::load(None, [], &overrides).map_err(|e| e.to_string())
}

/// A running server; stopped when dropped.
pub(crate) struct World {
    runtime: Runtime,
    server: Option<Server>,
}

impl World {
    /// One with these options over the defaults.
    pub(crate) fn with(options: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("tcp.listen", "127.0.0.1:0"),
            ("http.listen", "127.0.0.1:0"),
            ("shards", "1"),
            ("tcp.auto_subscribe", ""),
        ];
        all.extend_from_slice(options);
        let config = load(&all).unwrap_or_else(|e| panic!("{e}"));
        let runtime = Runtime::new().expect("a runtime");
        let server = runtime.block_on(Server::start(config)).expect("a server");
        Self { runtime, server: Some(server) }
    }

    /// One that trusts [`KEY`].
    pub(crate) fn with_key(options: &[(&str, &str)]) -> Self {
        let mut all = vec![("client.token.hmac_secret_key", KEY)];
        all.extend_from_slice(options);
        Self::with(&all)
    }

    fn address(&self, kind: &str) -> SocketAddr {
        let server = self.server.as_ref().expect("running");
        let line = server.announcements().iter().find(|line| line.starts_with(kind)).expect("a listener");
        let address = line.rsplit_once(' ').expect("an address").1;
        address.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address")
    }

    /// A plain client.
    pub(crate) fn line(&self) -> LineClient {
        LineClient::connect(self.address("tcp"))
    }

    /// A client that has said nothing yet.
    pub(crate) fn client(&self) -> Client {
        Client { line: self.line(), last: 0 }
    }

    /// A client that was let in with these fields of `connect`.
    pub(crate) fn connected(&self, connect: Value) -> Client {
        let mut client = self.client();
        let reply = client.ask("connect", connect);
        assert!(reply.get("connect").is_some(), "{reply}");
        client
    }

    /// Sends an HTTP request, with this head behind its first line and this body, and gives what comes until `until` has.
    pub(crate) fn http(&self, request: &str, headers: &str, body: &str, until: &str) -> String {
        let address = self.address("http");
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let length = body.len();
        let head =
            format!("{request} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all((head + body).as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let n = stream.read(&mut chunk).expect("more of an answer");
            answer.extend_from_slice(&chunk[..n]);
            let text = String::from_utf8_lossy(&answer);
            if text.contains(until) {
                return text.into_owned();
            }
            assert_ne!(n, 0, "the answer ended without {until:?}: {text}");
        }
    }

    /// A metric with its labels, by what `/metrics` says.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let address = self.address("http");
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name}")).trim().parse().expect("a number")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let stop = async { tokio::time::timeout(Duration::from_millis(500), server.stop()).await };
            let _ = self.runtime.block_on(stop);
        }
    }
}

/// A client that speaks JSON lines.
pub(crate) struct Client {
    line: LineClient,
    last: u64,
}

impl Client {
    /// Sends a command and gives its id.
    pub(crate) fn send(&mut self, method: &str, params: Value) -> u64 {
        self.last += 1;
        let mut command = json!({"id": self.last});
        command[method] = params;
        self.line.send(&command.to_string());
        self.last
    }

    /// Sends a command and gives its reply, which must be the next message.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        let reply = self.message();
        assert_eq!(reply["id"], json!(id), "{reply}");
        reply
    }

    /// Sends a command that must be answered with an error; gives its code and whether it is temporary.
    #[track_caller]
    pub(crate) fn refused(&mut self, method: &str, params: Value) -> (u64, bool) {
        let reply = self.ask(method, params);
        let code = reply["error"]["code"].as_u64().unwrap_or_else(|| panic!("no error: {reply}"));
        (code, reply["error"]["temporary"] == json!(true))
    }

    /// Sends a command that must succeed; gives its result.
    #[track_caller]
    pub(crate) fn done(&mut self, method: &str, params: Value) -> Value {
        let mut reply = self.ask(method, params);
        assert!(reply.get(method).is_some(), "{reply}");
        reply[method].take()
    }

    /// The next message that is no ping.
    pub(crate) fn message(&mut self) -> Value {
        loop {
            let message: Value = serde_json::from_str(&self.line.line()).expect("JSON");
            if message != json!({}) {
                return message;
            }
        }
    }

    /// Asserts that the server ends the connection, with this code.
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

/// The time, in Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A token with these claims, signed with [`KEY`].
#[expect(clippy::needless_pass_by_value, reason = "json!(…) in place")]
pub(crate) fn token(claims: Value) -> String {
    sign_hs256(&Secret::new(KEY), &claims).expect("a token")
}
