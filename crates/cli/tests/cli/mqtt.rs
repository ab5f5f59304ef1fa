//! Tests of `tidings subscribe`, `publish` and `bench` over MQTT.

use std::io::Write as _;

use tidings_testkit::{PATIENCE, RespClient, Tidings, get_http, wait_until};

use crate::tool::{TIDINGS, Tool, command, run, server};

/// Starts `subscribe` and waits until the server has so many channels and patterns.
fn subscribed(server: &Tidings, args: &[&str], patterns: i64, channels: usize) -> Tool {
    let url = format!("mqtt://{}", server.tcp());
    let tool = Tool::start(command(&[&["subscribe", "--server", &url], args].concat()));
    let mut client = RespClient::connect(server.tcp());
    wait_until(PATIENCE, "the subscriptions", || {
        client.command(&["PUBSUB", "NUMPAT"]).int() == patterns
            && client.command(&["PUBSUB", "CHANNELS"]).texts().len() == channels
    });
    tool
}

#[test]
fn messages_of_topic_filters_are_printed_with_their_topics() {
    let server = server(&[]);
    let url = format!("mqtt://{}", server.tcp());
    let all = subscribed(&server, &["home/+/t", "news", "--count", "3"], 1, 1);
    let one = subscribed(&server, &["news", "--json", "--count", "1"], 1, 1);
    let lines = b"first line\nsecond line\n";
    let done = run(&["publish", "home/a/t", "-", "--server", &url], lines);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let done = run(&["publish", "news", "{\"a\":1}", "--server", &url], b"");
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = all.finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.text(), "home/a/t first line\nhome/a/t second line\nnews {\"a\":1}\n");
    assert_eq!(one.finish().text(), "{\"channel\":\"news\",\"data\":{\"a\":1}}\n");
}

#[test]
fn more_messages_than_the_server_accepts_without_acknowledgement_are_published() {
    let server = Tidings::builder(TIDINGS)
        .args(["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .env("TIDINGS_MQTT_RECEIVE_MAXIMUM", "3")
        .start();
    let url = format!("mqtt://{}", server.tcp());
    let subscriber = subscribed(&server, &["many", "--count", "2000"], 0, 1);
    let lines: String = (0..2000).map(|number| format!("{number}\n")).collect();
    let done = run(&["publish", "many", "-", "--server", &url], lines.as_bytes());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    assert_eq!(subscriber.finish().text(), lines);
}

#[test]
fn a_publisher_without_input_stays_connected() {
    let server = Tidings::builder(TIDINGS)
        .args(["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .env("TIDINGS_MQTT_MAX_KEEP_ALIVE", "1")
        .start();
    let url = format!("mqtt://{}", server.tcp());
    let subscriber = subscribed(&server, &["news", "--count", "1"], 0, 1);
    let mut publisher = Tool::start(command(&["publish", "news", "-", "--server", &url]));
    // The subscriber alone sends them in five times the keep-alive time.
    wait_until(PATIENCE, "pings", || {
        let metrics = get_http(server.http(), "/metrics").body;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("tidings_mqtt_packets_received_total{type=\"pingreq\"} "));
        line.is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number >= 10))
    });
    let mut input = publisher.stdin.take().expect("a piped stdin");
    input.write_all(b"late\n").expect("it reads");
    drop(input);
    let done = publisher.finish();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    assert_eq!(subscriber.finish().text(), "late\n");
}

#[test]
fn a_key_is_the_password_and_refusals_have_the_reason_of_the_server() {
    let server = Tidings::builder(TIDINGS)
        .args(["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .env("TIDINGS_HTTP_API_KEY", "the key")
        .start();
    let url = format!("mqtt://{}", server.tcp());
    run(&["publish", "a", "x", "--server", &url], b"").refused(1, &["the connection", "0x87"]);
    run(&["subscribe", "a", "--server", &url, "--key", "wrong"], b"").refused(1, &["the connection", "0x86"]);
    let done = run(&["publish", "a", "x", "--server", &url, "--key", "the key"], b"");
    assert_eq!(done.code, Some(0), "{done:?}");
    run(&["subscribe", "a*", "--pattern", "--server", &url], b"").refused(2, &["topic filter"]);
    let done = run(&["publish", "a+b", "x", "--server", &url, "--key", "the key"], b"");
    assert_ne!(done.code, Some(0), "a topic has no wildcards: {done:?}");
}

#[test]
fn a_subscription_is_made_again_when_the_server_returns() {
    let first = server(&[]);
    let address = first.tcp().to_string();
    let subscriber = subscribed(&first, &["news", "--count", "1"], 0, 1);
    drop(first);
    subscriber.wait_for_stderr("trying again");
    let second = Tidings::start(TIDINGS, &["--tcp", &address]);
    subscriber.wait_for_stderr("subscribed again; messages published meanwhile are missing");
    let url = format!("mqtt://{}", second.tcp());
    assert_eq!(run(&["publish", "news", "back", "--server", &url], b"").code, Some(0));
    assert_eq!(subscriber.finish().text(), "back\n");
}

#[test]
fn every_delivery_is_counted_over_mqtt() {
    let server = server(&[]);
    let addresses = [server.tcp().to_string(), format!("mqtt://{}", server.tcp())];
    for address in &addresses {
        let args = ["--subscribers", "20", "--messages", "500", "--publishers", "2", "--transport", "mqtt"];
        let done = run(&[&["bench", "--server", address, "--json"], &args[..]].concat(), b"");
        assert_eq!(done.code, Some(0), "{done:?}");
        let result: serde_json::Value = serde_json::from_str(done.text()).expect("JSON");
        for (key, count) in [("sent", 500), ("deliveries", 10_000), ("lost", 0), ("duplicated", 0)] {
            assert_eq!(result[key], count, "{key}: {result}");
        }
    }
    run(&["bench", "--server", &addresses[1]], b"").refused(2, &["needs --transport mqtt"]);
}
