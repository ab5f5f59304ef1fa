//! Tests of `tidings subscribe`.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tidings_testkit::{LineClient, PATIENCE, Proxy, RedisServer, RespClient, Tidings, free_port, wait_until};

use crate::tool::{TIDINGS, Tool, command, run, server};

/// Starts `subscribe` and waits until the server has the subscription.
fn subscribed(server: &Tidings, args: &[&str]) -> Tool {
    let addr = server.tcp().to_string();
    let tool = Tool::start(command(&[&["subscribe", "--server", &addr], args].concat()));
    let mut client = RespClient::connect(server.tcp());
    // A client without full access cannot list channels.
    if let Some(at) = args.iter().position(|arg| *arg == "--key") {
        assert_eq!(client.command(&["AUTH", args[at + 1]]).text(), "OK");
    }
    wait_until(PATIENCE, "a subscription", || {
        let channels = client.command(&["PUBSUB", "CHANNELS"]).texts().len();
        channels > 0 || client.command(&["PUBSUB", "NUMPAT"]).int() > 0
    });
    tool
}

fn publish(server: &Tidings, channel: &str, body: &[u8]) {
    let command = [b"PUBLISH", channel.as_bytes(), body];
    assert!(RespClient::connect(server.tcp()).command(&command).int() > 0, "nobody got it");
}

#[test]
fn any_bytes_are_printed_on_one_line_each() {
    let server = server(&[]);
    let tool = subscribed(&server, &["raw", "--count", "5"]);
    publish(&server, "raw", b"plain text");
    publish(&server, "raw", b"two\r\nlines and a back\\slash");
    publish(&server, "raw", b"\xff\x00\x1b[31m");
    publish(&server, "raw", "tab\tand – dash".as_bytes());
    publish(&server, "raw", b"");
    let done = tool.finish();
    assert_eq!(done.code, Some(0));
    assert_eq!(
        done.text(),
        "plain text\ntwo\\r\\nlines and a back\\\\slash\n\\xff\\x00\\x1b[31m\ntab\tand – dash\n\n"
    );
}

#[test]
fn json_output_distinguishes_json_text_and_bytes() {
    let server = server(&[]);
    let tool = subscribed(&server, &["raw", "--json", "--count", "3"]);
    publish(&server, "raw", br#"{"LAL": 101}"#);
    publish(&server, "raw", b"line\nbreak");
    publish(&server, "raw", b"\xff\xfe");
    let done = tool.finish();
    let lines: Vec<serde_json::Value> =
        done.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let expected = [
        serde_json::json!({"channel": "raw", "data": {"LAL": 101}}),
        serde_json::json!({"channel": "raw", "data": "line\nbreak"}),
        serde_json::json!({"channel": "raw", "data": {"b64": "//4="}}),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_message_is_printed_the_same_over_every_protocol() {
    let server = server(&[]);
    let bodies: [&[u8]; 11] = [
        b"plain text",
        b"\"quoted\"",
        b"\"a\\u0062\\nc\" ",
        b"say \"hi\"",
        b"{\"a\":\n \"b\"}",
        b"[1, 2]\n",
        b" 42 ",
        b"{\"b64\":\"/w==\"}",
        b"\xff\"\n",
        b"two\nlines",
        b"",
    ];
    let texts = [
        "plain text",
        "quoted",
        "ab\\nc",
        "say \"hi\"",
        "{\"a\": \"b\"}",
        "[1, 2]",
        "42",
        "\\xff",
        "\\xff\"\\n",
        "two\\nlines",
        "",
    ];
    let count = bodies.len().to_string();
    let (ws, http) = (format!("ws://{}", server.http()), format!("http://{}", server.http()));
    let (tcp, mut in_json) = (server.tcp().to_string(), Vec::new());
    for (kind, from) in [("line", &tcp), ("pattern", &tcp), ("ws", &ws), ("http", &http)] {
        let pattern: &[&str] = if kind == "pattern" { &["--pattern"] } else { &[] };
        let follow = |channel: &str, json: &[&str]| {
            let arguments = ["subscribe", channel, "--count", &count, "--server", from];
            Tool::start(command(&[&arguments[..], pattern, json].concat()))
        };
        let channel = format!("of-{kind}");
        // A server counts several subscribers of one pattern once.
        let other = if kind == "pattern" { "of-patter?" } else { &channel };
        let tools = [follow(&channel, &[]), follow(other, &["--json"])];
        let mut client = RespClient::connect(server.tcp());
        wait_until(PATIENCE, "both subscriptions", || {
            let subscribers = client.command(&["PUBSUB", "NUMSUB", &channel]);
            subscribers.texts().get(1).is_some_and(|count| count == "2")
                || kind == "pattern" && client.command(&["PUBSUB", "NUMPAT"]).int() > 1
        });
        bodies.iter().for_each(|body| publish(&server, &channel, body));
        let [text, json] = tools.map(Tool::finish);
        // With a pattern each line begins with the channel's name.
        let prefix = format!("{channel} ");
        let lines = text.text().lines().map(|line| line.strip_prefix(&prefix).unwrap_or(line));
        assert_eq!(lines.collect::<Vec<_>>(), texts, "{kind}");
        in_json.push(json.text().replace(&channel, ""));
    }
    in_json.dedup();
    assert_eq!(in_json.len(), 1, "{in_json:#?}");
}

#[test]
fn with_several_channels_or_a_pattern_each_line_contains_its_channel() {
    let server = server(&[]);
    for args in [&["news", "art", "--count", "2"][..], &["--pattern", "n*", "?rt", "--count", "2"]] {
        let tool = subscribed(&server, args);
        // The second topic may be confirmed slightly later.
        wait_until(PATIENCE, "both subscriptions", || {
            RespClient::connect(server.tcp()).command(&["PUBLISH", "art", "probe"]).int() > 0
        });
        publish(&server, "news", b"hi");
        let done = tool.finish();
        assert_eq!((done.code, done.text()), (Some(0), "art probe\nnews hi\n"));
    }
}

#[test]
fn ctrl_c_ends_with_success() {
    let server = server(&[]);
    let tool = subscribed(&server, &["news"]);
    publish(&server, "news", b"hi");
    tool.lines(1);
    tool.signal(Signal::INT);
    let done = tool.finish();
    assert_eq!((done.code, done.text(), done.stderr.as_str()), (Some(0), "hi\n", ""));
}

#[test]
fn the_client_reconnects_to_a_restarted_server_and_reports_the_gap() {
    let port = free_port();
    let addr = format!("127.0.0.1:{port}");
    let start = || Tidings::builder(TIDINGS).args(["--tcp", &addr, "--http", "off"]).start();
    let mut first = start();
    let tool = subscribed(&first, &["news"]);
    publish(&first, "news", b"before");
    tool.lines(1);
    assert_eq!(first.terminate(), 0);
    tool.wait_for_stderr("trying again in");
    let second = start();
    tool.wait_for_stderr("subscribed again; messages published meanwhile are missing");
    publish(&second, "news", b"after");
    assert_eq!(tool.lines(2), ["before", "after"]);
}

#[test]
fn it_waits_for_a_server_that_is_not_running_yet() {
    let redis = RedisServer::absent();
    let addr = redis.addr().to_string();
    let tool = Tool::start(command(&["subscribe", "news", "--count", "1", "--server", &addr]));
    tool.wait_for_stderr(&format!("cannot reach {addr}: Connection refused; trying again in"));
    let mut redis = redis;
    redis.restart();
    wait_until(PATIENCE, "a subscriber", || redis.cli(&["PUBLISH", "news", "hi"]).int() == 1);
    assert_eq!(tool.finish().text(), "hi\n");
}

#[test]
fn an_unresponsive_server_is_disconnected() {
    let server = server(&[]);
    let proxy = Proxy::to(server.tcp());
    proxy.black_hole();
    let tool = Tool::start(command(&["subscribe", "news", "--server", &proxy.addr().to_string()]));
    tool.wait_for_stderr("the server did not answer within 5 s; trying again");
}

#[test]
fn a_permanent_error_is_not_retried() {
    let server = server(&["--set", "http_api.key=secret"]);
    let addr = server.tcp().to_string();
    let done = run(&["subscribe", "news", "--server", &addr], b"");
    done.refused(1, &["refused"]);
    let wrong = run(&["subscribe", "news", "--server", &addr, "--key", "guess"], b"");
    wrong.refused(1, &["the server refused the greeting", "WRONGPASS"]);
    let tool = subscribed(&server, &["news", "--key", "secret", "--count", "1"]);
    let published = run(&["publish", "news", "hi", "--server", &addr, "--key", "secret"], b"");
    assert_eq!(published.code, Some(0), "{published:?}");
    assert_eq!(tool.finish().text(), "hi\n");
}

#[test]
fn wrong_usage_is_one_line() {
    run(&["subscribe"], b"").refused(2, &["CHANNEL"]);
    run(&["subscribe", "a\tb"], b"").refused(2, &["without control characters"]);
    run(&["subscribe", "a", "--count", "0"], b"").refused(2, &["--count"]);
    run(&["subscribe", "a", "--server", "nowhere"], b"").refused(2, &["nowhere", "HOST:PORT"]);
    run(&["subscribe", "a", "--jsno"], b"").refused(2, &["--jsno", "--json"]);
}

#[test]
fn another_protocol_is_reported_and_not_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        std::thread::park();
    });
    run(&["subscribe", "a", "--server", &addr], b"").refused(1, &["does not speak JSON lines", "ws://"]);
}

#[test]
fn a_limit_on_connections_is_reported_and_retried() {
    let server = server(&["--set", "limits.address.connections=1"]);
    let held = LineClient::connect(server.tcp());
    let (lines, mqtt) = (server.tcp().to_string(), format!("mqtt://{}", server.tcp()));
    for args in [
        ["news", "--server", &lines].as_slice(),
        &["n*", "--pattern", "--server", &lines],
        &["news", "--server", &mqtt],
    ] {
        let tool = Tool::start(command(&[&["subscribe"], args].concat()));
        tool.wait_for_stderr("too many requests: 1 connection of an address (limits.address.connections)");
        assert!(!tool.stderr().contains("does not speak"), "{args:?}: {}", tool.stderr());
    }
    drop(held);
}

#[test]
fn a_closed_stdout_ends_it_without_a_message() {
    let server = server(&[]);
    let mut tool = command(&["subscribe", "news", "--server", &server.tcp().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let head =
        Command::new("head").arg("-n1").stdin(tool.stdout.take().unwrap()).stdout(Stdio::piped()).spawn();
    let mut client = RespClient::connect(server.tcp());
    let mut code = None;
    wait_until(PATIENCE, "the end of subscribe", || {
        client.command(&["PUBLISH", "news", "hi"]);
        code = tool.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(0));
    let done = tool.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
    assert_eq!(head.unwrap().wait_with_output().unwrap().stdout, b"hi\n");
}
