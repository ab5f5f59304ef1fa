//! Live traces of users and channels.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::Signal;
use serde_json::{Value, json};
use tidings_testkit::{
    HttpResponse, LineClient, PATIENCE, Tidings, connect_http, get_http, post_http, wait_until,
};

use crate::tool::{Tool, command, run};

const TOKEN_KEY: &str = "a-key-of-tokens-0123456789abcdef";

/// A node with keys: `ann` may subscribe to `news`, and no user to `secret:…`.
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

    /// Reads to the end of the response, which is complete: its last chunk is empty.
    fn expect_end(&mut self) {
        let mut line = self.line();
        while line != "0\r\n" {
            assert!(!line.is_empty(), "the connection was closed before the end of the response");
            line = self.line();
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
    let done = run(&["token", "connection", user, "--secret", TOKEN_KEY], b"");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mut client = LineClient::connect(node.tcp());
    client.send(&format!("AUTH {}", done.text().trim()));
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
    short.expect_end();
    assert_eq!(node.terminate(), 0);
    long.expect_end();
}

#[test]
fn a_client_that_does_not_read_keeps_no_trace_after_its_time_and_does_not_delay_the_stop() {
    let mut node = node();
    let channel = "c".repeat(200);
    let stalled: Vec<_> = (0..16)
        .map(|number| {
            let mut peer = connect_http(node.http());
            set_socket_recv_buffer_size(&peer, 4096).expect("a smaller buffer");
            let seconds = if number == 0 { 3600 } else { 2 };
            let head = "Host: localhost\r\nX-API-Key: reader-key-0123456789";
            let request =
                format!("GET /api/trace?channel={channel}&seconds={seconds} HTTP/1.1\r\n{head}\r\n\r\n");
            peer.write_all(request.as_bytes()).expect("a request");
            assert_eq!(HttpResponse::read_head(&mut peer).status, 200);
            peer
        })
        .collect();
    let mut ann = client(&node, "ann");
    ann.send(&format!("SUBSCRIBE {channel}"));
    ann.expect("CONFIRMED");
    let subscriber = std::thread::spawn(move || (0..20_000).for_each(|_| drop(ann.line())));
    let publish = json!({"publish": {"channel": channel, "data": 1}});
    let batch = json!({ "commands": vec![publish; 500] }).to_string();
    for _ in 0..40 {
        let key = "X-API-Key: publisher-key-0123456789";
        assert_eq!(post_http(node.http(), "/api/batch", &[key], &batch).status, 200);
    }
    subscriber.join().expect("all publications");
    wait_until(PATIENCE, "the end of traces without a reader", || {
        let mut peer = connect_http(node.http());
        let head = "Host: localhost\r\nX-API-Key: reader-key-0123456789";
        let request = format!("GET /api/trace?user=ann&seconds=1 HTTP/1.1\r\n{head}\r\n\r\n");
        peer.write_all(request.as_bytes()).expect("a request");
        HttpResponse::read_head(&mut peer).status == 200
    });
    let began = Instant::now();
    assert_eq!(node.terminate(), 0);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    drop(stalled);
}

#[test]
fn the_command_trace_prints_the_events_of_one_node_until_it_is_interrupted_or_its_time_has_passed() {
    let mut node = node();
    let url = node.http_url();
    let url = url.trim_end_matches('/');
    let trace = |args: &[&str]| {
        let with_key = ["--server", url, "--key", "reader-key-0123456789"];
        Tool::start(command(&[&["trace"], args, &with_key].concat()))
    };
    let (user, channel) = (trace(&["user", "ann"]), trace(&["channel", "news"]));
    let short = trace(&["user", "ann", "--time", "1s"]);
    for (tool, subject) in [(&user, "user ann"), (&channel, "channel news"), (&short, "user ann")] {
        tool.wait_for_stderr(&format!("events of the {subject} at the node of {url} alone"));
    }
    let mut ann = client(&node, "ann");
    ann.send("SUBSCRIBE news");
    ann.expect("CONFIRMED");
    let events = |tool: &Tool, count: usize| {
        let lines = tool.lines(count);
        let event = |line: &String| serde_json::from_str::<Value>(line).expect("JSON")["event"].clone();
        lines.iter().map(event).collect::<Vec<_>>()
    };
    assert_eq!(events(&user, 2), ["connected", "subscribed"]);
    assert_eq!(events(&channel, 1), ["subscribed"]);
    assert_eq!(short.finish().code, Some(0));
    user.signal(Signal::INT);
    assert_eq!(user.finish().code, Some(0));
    assert_eq!(node.terminate(), 0);
    let done = channel.finish();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("the server stops"), "{}", done.stderr);
}

#[test]
fn the_command_trace_reports_a_key_without_the_scope_and_an_invalid_time() {
    let node = node();
    let url = node.http_url();
    let with = |more: &[&str]| run(&[&["trace", "user", "ann", "--server", &*url], more].concat(), b"");
    with(&[]).refused(1, &["401", "--key"]);
    with(&["--key", "publisher-key-0123456789"]).refused(1, &["403", "scope read"]);
    with(&["--time", "2h"]).refused(2, &["from 1s to 1h"]);
}
