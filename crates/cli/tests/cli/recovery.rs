//! `tidings subscribe` over the transports with recovery, on a link that is cut.

use rustix::process::Signal;
use tidings_testkit::{PATIENCE, Proxy, RespClient, Tidings, free_port, wait_until};

use crate::tool::{TIDINGS, Tool, command, run, server};

/// A history of this many publications for subscribers that return.
const HISTORY: &[&str] = &[
    "--set",
    "channel.without_namespace.history_size=5000",
    "--set",
    "channel.without_namespace.history_ttl=60s",
    "--set",
    "channel.without_namespace.force_recovery=true",
];

/// Starts `subscribe` at `url` for `channel`, which has no other subscriber, and waits until the server has the
/// subscription.
fn following(server: &Tidings, url: &str, channel: &str, args: &[&str]) -> Tool {
    let tool = Tool::start(command(&[&["subscribe", "--server", url, channel], args].concat()));
    wait_for_subscribers(server, channel, 1);
    tool
}

fn wait_for_subscribers(server: &Tidings, channel: &str, count: usize) {
    let mut client = RespClient::connect(server.tcp());
    wait_until(PATIENCE, "subscribers", || {
        client.command(&["PUBSUB", "NUMSUB", channel]).texts() == [channel, &count.to_string()]
    });
}

/// The three kinds of addresses with recovery, through links to the server.
fn urls(tcp: &Proxy, http: &Proxy) -> [String; 3] {
    [tcp.addr().to_string(), format!("ws://{}", http.addr()), format!("http://{}", http.addr())]
}

#[test]
fn no_message_is_lost_or_repeated_on_a_link_that_is_cut_repeatedly() {
    let server = server(HISTORY);
    let (tcp, http) = (Proxy::to(server.tcp()), Proxy::to(server.http()));
    const COUNT: usize = 600;
    let count = COUNT.to_string();
    let tools = urls(&tcp, &http).map(|url| {
        let args = ["subscribe", "numbers", "--count", &count, "--server", &url];
        Tool::start(command(&args))
    });
    wait_for_subscribers(&server, "numbers", 3);
    let mut publisher = RespClient::connect(server.tcp());
    for n in 0..COUNT {
        if n % 60 == 30 {
            tcp.cut();
            http.cut();
        }
        publisher.command(&["PUBLISH", "numbers", &n.to_string()]);
    }
    let expected: String = (0..COUNT).map(|n| format!("{n}\n")).collect();
    for tool in tools {
        let done = tool.finish();
        assert_eq!((done.code, done.text()), (Some(0), &*expected), "{}", done.stderr);
        assert!(done.stderr.contains("subscribed again"), "{}", done.stderr);
        assert!(!done.stderr.contains("missing"), "{}", done.stderr);
    }
}

#[test]
fn a_history_that_is_too_short_is_reported() {
    let settings = [&HISTORY[2..], &["--set", "channel.without_namespace.history_size=2"]].concat();
    let server = server(&settings);
    let (tcp, http) = (Proxy::to(server.tcp()), Proxy::to(server.http()));
    for (channel, url) in ["line", "ws", "events"].into_iter().zip(urls(&tcp, &http)) {
        let tool = following(&server, &url, channel, &[]);
        let mut publisher = RespClient::connect(server.tcp());
        publisher.command(&["PUBLISH", channel, "before"]);
        tool.lines(1);
        // Disconnected while more is published than the history keeps.
        tcp.black_hole();
        http.black_hole();
        tcp.cut();
        http.cut();
        tool.wait_for_stderr("trying again in");
        for n in 0..9 {
            publisher.command(&["PUBLISH", channel, &n.to_string()]);
        }
        tcp.resume();
        http.resume();
        tool.wait_for_stderr("the history is too short: messages are missing here");
        // The server may repeat earlier publications; new ones arrive in any case.
        publisher.command(&["PUBLISH", channel, "after"]);
        wait_until(PATIENCE, "what came after", || tool.stdout().ends_with("after\n"));
        tool.signal(Signal::INT);
        assert_eq!(tool.finish().code, Some(0));
    }
}

#[test]
fn without_a_history_missed_messages_are_reported() {
    let server = server(&[]);
    let (tcp, http) = (Proxy::to(server.tcp()), Proxy::to(server.http()));
    for (channel, url) in ["line", "ws", "events"].into_iter().zip(urls(&tcp, &http)) {
        let tool = following(&server, &url, channel, &[]);
        RespClient::connect(server.tcp()).command(&["PUBLISH", channel, "before"]);
        tool.lines(1);
        tcp.cut();
        http.cut();
        tool.wait_for_stderr(&format!(
            "{channel}: subscribed again; messages published meanwhile are missing"
        ));
    }
}

#[test]
fn the_client_reconnects_to_a_restarted_server_over_websocket_and_event_streams() {
    let http = format!("127.0.0.1:{}", free_port());
    let start = || Tidings::builder(TIDINGS).args(["--tcp", "127.0.0.1:0", "--http", &http]).start();
    for scheme in ["ws", "http"] {
        let mut first = start();
        let tool = following(&first, &format!("{scheme}://{http}"), "news", &["--count", "1"]);
        assert_eq!(first.terminate(), 0);
        tool.wait_for_stderr("trying again in");
        let second = start();
        tool.wait_for_stderr("subscribed again");
        let mut publisher = RespClient::connect(second.tcp());
        publisher.command(&["PUBLISH", "news", "after"]);
        let done = tool.finish();
        assert_eq!((done.code, done.text()), (Some(0), "after\n"), "{done:?}");
    }
}

#[test]
fn bodies_are_exact_over_websocket_and_event_streams() {
    let server = server(&[]);
    let http = server.http();
    for (channel, url) in [("ws", format!("ws://{http}")), ("events", format!("http://{http}"))] {
        let tool = following(&server, &url, channel, &["--count", "4"]);
        let mut publisher = RespClient::connect(server.tcp());
        let bodies: [&[u8]; 4] = [b"\"quoted\"", b"two\nlines", b"\xff\0", br#"{"a": 1.50}"#];
        for body in bodies {
            publisher.command(&[b"PUBLISH", channel.as_bytes(), body]);
        }
        let expected = "quoted\ntwo\\nlines\n\\xff\\x00\n{\"a\": 1.50}\n";
        let done = tool.finish();
        assert_eq!((done.code, done.text()), (Some(0), expected), "{url}: {done:?}");
    }
}

#[test]
fn several_channels_are_named_also_in_json() {
    let server = server(&[]);
    let http = server.http();
    for url in [format!("ws://{http}"), format!("http://{http}"), server.tcp().to_string()] {
        let args = ["a", "b", "--json", "--count", "2"];
        let tool = Tool::start(command(&[&["subscribe", "--server", &url], &args[..]].concat()));
        let mut client = RespClient::connect(server.tcp());
        wait_until(PATIENCE, "two subscriptions", || {
            let answer = client.command(&["PUBSUB", "NUMSUB", "a", "b"]).texts();
            answer == ["a", "1", "b", "1"]
        });
        client.command(&["PUBLISH", "a", "[1]"]);
        tool.lines(1);
        client.command(&["PUBLISH", "b", "text"]);
        let done = tool.finish();
        let expected = "{\"channel\":\"a\",\"data\":[1]}\n{\"channel\":\"b\",\"data\":\"text\"}\n";
        assert_eq!((done.code, done.text()), (Some(0), expected), "{url}: {done:?}");
        wait_until(PATIENCE, "their end", || {
            client.command(&["PUBSUB", "NUMSUB", "a", "b"]).texts() == ["a", "0", "b", "0"]
        });
    }
}

#[test]
fn a_token_admits_a_client_and_an_invalid_one_is_reported() {
    let secret = "client.token.hmac_secret_key=key";
    let server = server(&[
        "--set",
        secret,
        "--set",
        "http_api.key=api",
        "--set",
        "channel.without_namespace.allow_subscribe_for_client=true",
    ]);
    let made = run(&["token", "connection", "--user", "42", "--secret", "key"], b"");
    let token = made.text().trim();
    let http = server.http();
    for url in [format!("ws://{http}"), format!("http://{http}"), server.tcp().to_string()] {
        let none = run(&["subscribe", "news", "--server", &url], b"");
        none.refused(1, &["refused"]);
        assert_eq!(none.stderr.contains("--token gives"), url.contains("://"), "{none:?}");
        let wrong = run(&["subscribe", "news", "--server", &url, "--token", "a.b.c"], b"");
        wrong.refused(1, &["refused"]);
        let args = ["news", "--count", "1", "--server", &url, "--token", token];
        let tool = Tool::start(command(&[&["subscribe"], &args[..]].concat()));
        let mut backend = RespClient::connect(server.tcp());
        assert_eq!(backend.command(&["AUTH", "api"]).text(), "OK");
        wait_until(PATIENCE, "a subscription", || backend.command(&["PUBLISH", "news", "hi"]).int() > 0);
        assert_eq!(tool.finish().text(), "hi\n", "{url}");
    }
}
