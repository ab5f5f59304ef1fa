//! Live traces of users and channels.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::Value;
use tidings_testkit::{HttpResponse, LineClient, PATIENCE, Tidings, connect_http, get_http, wait_until};

const TOKEN_KEY: &str = "a-key-of-tokens-0123456789abcdef";

/// A node with keys: `ann` may subscribe to `news`, nobody to `secret:…`.
fn node() -> Tidings {
    let set = [
        format!("client.token.hmac_secret_key={TOKEN_KEY}"),
        "http_api.keys=reader,publisher".to_owned(),
        "http_api.keys.reader.key=reader-key-0123456789".to_owned(),
        "http_api.keys.reader.scopes=read".to_owned(),
        "http_api.keys.publisher.key=publisher-key-0123456789".to_owned(),
        "http_api.keys.publisher.scopes=publish".to_owned(),
        "tcp.auto_subscribe=".to_owned(),
        "channel.namespaces=secret".to_owned(),
        "channel.without_namespace.allow_subscribe_for_client=true".to_owned(),
        "channel.without_namespace.allow_publish_for_client=true".to_owned(),
    ];
    let set = set.iter().flat_map(|option| ["--set", option.as_str()]);
    let fixed = ["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", "off"];
    Tidings::builder(env!("CARGO_BIN_EXE_tidings")).args(fixed.into_iter().chain(set)).start()
}

/// A trace whose response has begun.
struct Trace(BufReader<TcpStream>);

impl Trace {
    fn begin(node: &Tidings, query: &str) -> Self {
        let mut peer = connect_http(node.http());
        let request = format!(
            "GET /api/trace?{query} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: reader-key-0123456789\r\n\r\n"
        );
        peer.write_all(request.as_bytes()).expect("a request");
        let head = HttpResponse::read_head(&mut peer);
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), "application/x-ndjson");
        let mut trace = Self(BufReader::new(peer));
        // The first chunk is an empty line.
        for _ in 0..3 {
            trace.line();
        }
        trace
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line within the time limit of the socket");
        line
    }

    /// The next event; lines of the chunked coding and empty ones are skipped.
    fn event(&mut self) -> Value {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the trace has ended");
            if line.starts_with('{') {
                return serde_json::from_str(&line).expect("JSON");
            }
        }
    }

    /// The next event, with these values in its fields.
    fn expect(&mut self, expected: &[(&str, Value)]) -> Value {
        let event = self.event();
        for (field, value) in expected {
            assert_eq!(&event[field], value, "{event}");
        }
        event
    }
}

/// A client of the line port with the token of a user.
fn client(node: &Tidings, user: &str) -> LineClient {
    let args = ["token", "connection", user, "--secret", TOKEN_KEY];
    let (code, token, stderr) = Tidings::builder(env!("CARGO_BIN_EXE_tidings")).args(args).run_to_end();
    assert_eq!(code, 0, "{stderr}");
    let mut client = LineClient::connect(node.tcp());
    client.send(&format!("AUTH {}", token.trim()));
    client.expect("CONFIRMED");
    client
}

#[test]
fn a_trace_of_a_user_has_its_events_from_connect_to_disconnect_and_no_others() {
    let node = node();
    let mut trace = Trace::begin(&node, "user=ann&seconds=60");
    let mut bob = client(&node, "bob");
    let mut ann = client(&node, "ann");
    let connected = trace.expect(&[("event", "connected".into()), ("user", "ann".into())]);
    assert!(connected["client"].is_string() && connected["time"].is_u64(), "{connected}");
    bob.send("SUBSCRIBE news");
    bob.expect("CONFIRMED");
    ann.send("SUBSCRIBE news");
    ann.expect("CONFIRMED");
    trace.expect(&[
        ("event", "subscribed".into()),
        ("channel", "news".into()),
        ("client", connected["client"].clone()),
    ]);
    ann.send("SUBSCRIBE secret:1");
    assert!(ann.line().starts_with("ERROR 103"));
    trace.expect(&[("event", "error".into()), ("channel", "secret:1".into()), ("code", 103.into())]);
    ann.send("PUBLISH news hello");
    let publish =
        trace.expect(&[("event", "publish".into()), ("channel", "news".into()), ("bytes", 5.into())]);
    assert!(!publish.to_string().contains("hello"), "{publish}");
    ann.send("UNSUBSCRIBE news");
    trace.expect(&[("event", "unsubscribed".into()), ("channel", "news".into())]);
    ann.send("EXIT");
    trace.expect(&[("event", "disconnected".into()), ("user", "ann".into())]);
}

#[test]
fn a_trace_of_a_channel_has_its_subscribers_and_publications() {
    let node = node();
    let mut trace = Trace::begin(&node, "channel=news");
    let mut ann = client(&node, "ann");
    ann.send("SUBSCRIBE other");
    ann.expect("CONFIRMED");
    ann.send("SUBSCRIBE news");
    ann.expect("CONFIRMED");
    trace.expect(&[("event", "subscribed".into()), ("user", "ann".into()), ("channel", "news".into())]);
    ann.send("PUBLISH news hello");
    trace.expect(&[("event", "publish".into()), ("user", "ann".into())]);
    trace.expect(&[("event", "publication".into()), ("bytes", 5.into())]);
    drop(ann);
    trace.expect(&[("event", "unsubscribed".into()), ("user", "ann".into())]);
}

#[test]
fn a_trace_needs_the_scope_read_and_valid_parameters_and_their_number_is_bounded() {
    let node = node();
    assert_eq!(get_http(node.http(), "/api/trace?user=ann").status, 401);
    let get = |key: &str, query: &str| {
        let mut peer = connect_http(node.http());
        let request = format!(
            "GET /api/trace?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-API-Key: {key}\r\n\r\n"
        );
        peer.write_all(request.as_bytes()).expect("a request");
        HttpResponse::read(&mut peer)
    };
    assert_eq!(get("publisher-key-0123456789", "user=ann").status, 403);
    for query in
        ["", "user=", "user=a&channel=b", "user=a&seconds=0", "user=a&seconds=9999", "user=a&colour=red"]
    {
        assert_eq!(get("reader-key-0123456789", query).status, 400, "{query}");
    }
    let traces: Vec<_> = (0..16).map(|_| Trace::begin(&node, "user=ann")).collect();
    assert_eq!(get("reader-key-0123456789", "user=ann").status, 429);
    drop(traces);
    wait_until(PATIENCE, "traces that have ended", || {
        get("reader-key-0123456789", "user=ann&seconds=1").status == 200
    });
}

#[test]
fn a_trace_ends_after_its_time_and_when_the_server_stops() {
    let mut node = node();
    let mut short = Trace::begin(&node, "user=ann&seconds=1");
    let mut long = Trace::begin(&node, "user=ann&seconds=3600");
    // The last chunk is empty.
    while short.line() != "0\r\n" {}
    assert_eq!(node.terminate(), 0);
    while !matches!(&*long.line(), "0\r\n" | "") {}
}
