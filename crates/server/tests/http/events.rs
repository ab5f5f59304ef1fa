//! `/events`: a browser's `EventSource`, and `curl`.

use serde_json::{Value, json};

use crate::streams::publish;
use crate::support::TestServer;
use crate::support::stream::{Stream, escaped, get, post};

const HISTORY: [&str; 2] =
    ["channel.without_namespace.history_size=100", "channel.without_namespace.history_ttl=300s"];

/// Opens a stream and reads until all channels are subscribed. Returns the stream and the text before.
fn open(server: &TestServer, query: &str, headers: &str) -> (Stream, String) {
    let mut stream = Stream::open(server, &get(&format!("/events?{query}"), headers));
    assert_eq!(stream.head.status, 200, "{query}: {:?}", stream.head);
    assert_eq!(stream.head.header("content-type"), "text/event-stream");
    let before = stream.until(":ok\n\n");
    (stream, before)
}

/// The id of an event, and its data.
fn parts(event: &str) -> (String, String) {
    let line = |name: &str| {
        let all = event.lines().filter_map(|line| line.strip_prefix(name));
        all.collect::<Vec<_>>().join("\n")
    };
    (line("id: "), line("data: "))
}

#[test]
fn a_publication_is_the_data_of_an_event() {
    let server = TestServer::start(&[]);
    let (mut stream, before) = open(&server, "channel=a&channel=b&channel=a", "");
    assert!(before.starts_with("retry: "), "{before}");
    publish(&server, "a", "{\"x\":1}");
    assert_eq!(stream.until("\n\n"), "data: {\"x\":1}\n\n");
    publish(&server, "b", "two\nlines");
    assert_eq!(stream.until("\n\n"), "data: two\ndata: lines\n\n");
}

#[test]
fn a_reconnecting_event_source_recovers_every_channel() {
    let server = TestServer::start(&HISTORY);
    let query = "channel=a&channel=b";
    let (mut stream, before) = open(&server, query, "");
    let (mut last, _) = parts(&before);
    assert!(last.ends_with(".b") || last.contains(".a"), "a position of each channel: {before}");
    for (channel, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
        publish(&server, channel, body);
        let event = stream.until("\n\n");
        let (id, data) = parts(&event);
        assert_eq!(data, body);
        assert!(id.contains(".a") && id.contains(".b"), "{event}");
        last = id;
    }
    drop(stream);
    for (channel, body) in [("b", "4"), ("a", "5"), ("b", "6")] {
        publish(&server, channel, body);
    }
    let came_back = [
        (query.to_owned(), format!("Last-Event-ID: {last}\r\n")),
        (format!("{query}&last_event_id={}", last.replace(' ', "+")), String::new()),
        // The header of the browser is newer than the parameter.
        (format!("{query}&last_event_id=1.x.a"), format!("Last-Event-ID: {last}\r\n")),
    ];
    for (query, headers) in came_back {
        let (mut stream, mut missed) = open(&server, &query, &headers);
        publish(&server, "a", "7");
        loop {
            let event = stream.until("\n\n");
            missed.push_str(&event);
            if parts(&event).1 == "7" {
                break;
            }
        }
        let mut data: Vec<_> =
            missed.split("\n\n").map(|event| parts(event).1).filter(|d| !d.is_empty()).collect();
        data.sort();
        assert_eq!(data[..3], ["4", "5", "6"], "{query}: {missed}");
        assert!(!missed.contains("gap"), "{missed}");
    }
}

#[test]
fn a_reconnecting_event_source_recovers_channels_with_any_name() {
    let server = TestServer::start(&HISTORY);
    let query = "channel=my%20room%20%E2%98%95&channel=100%25";
    let (mut stream, _) = open(&server, query, "");
    publish(&server, "my room ☕", "1");
    publish(&server, "100%", "2");
    assert_eq!(parts(&stream.until("\n\n")).1, "1");
    let (id, data) = parts(&stream.until("\n\n"));
    assert_eq!(data, "2");
    assert!(id.is_ascii() && id.contains(".my%20room%20%E2%98%95") && id.contains(".100%25"), "{id}");
    drop(stream);
    publish(&server, "my room ☕", "3");
    let (mut stream, mut missed) = open(&server, query, &format!("Last-Event-ID: {id}\r\n"));
    publish(&server, "100%", "4");
    while !missed.contains("data: 4") {
        missed.push_str(&stream.until("\n\n"));
    }
    assert!(missed.contains("data: 3") && !missed.contains("gap") && !missed.contains("data: 2"), "{missed}");
}

#[test]
fn an_unknown_position_causes_a_gap_event_and_the_stream_continues() {
    let server = TestServer::start(&HISTORY);
    publish(&server, "a", "0");
    let (mut stream, before) = open(&server, "channel=a", "Last-Event-ID: 7.nowhere.a\r\n");
    assert!(before.contains("event: gap\ndata: a\n\n"), "{before}");
    publish(&server, "a", "1");
    assert_eq!(parts(&stream.until("\n\n")).1, "1");
}

#[test]
fn an_id_without_a_position_causes_a_gap_event_in_channels_with_a_history() {
    let server = TestServer::start(&[
        "channel.namespaces=kept",
        "channel.namespaces.kept.history_size=100",
        "channel.namespaces.kept.history_ttl=300s",
    ]);
    let gap = |before: &str, channel: &str| before.contains(&format!("event: gap\ndata: {channel}\n\n"));
    let query = "channel=kept:a&channel=kept:b&channel=plain";
    for nonsense in ["garbage", "1.2", "x.epoch.kept:a", "-", "0..kept:a"] {
        let (_, before) = open(&server, query, &format!("Last-Event-ID: {nonsense}\r\n"));
        assert!(gap(&before, "kept:a") || nonsense == "0..kept:a", "{nonsense}: {before}");
        assert!(gap(&before, "kept:b") && !gap(&before, "plain"), "{nonsense}: {before}");
    }
    let (mut stream, before) = open(&server, query, "");
    assert!(!before.contains("gap"), "{before}");
    publish(&server, "kept:a", "1");
    let (id, _) = parts(&stream.until("\n\n"));
    let (_, before) = open(&server, query, &format!("Last-Event-ID: {id}\r\n"));
    assert!(!before.contains("gap"), "{id}: {before}");
    let of_a = id.split(' ').find(|part| part.ends_with(".kept:a")).expect("a position in it");
    let (_, before) = open(&server, query, &format!("Last-Event-ID: {of_a}\r\n"));
    assert!(!gap(&before, "kept:a") && gap(&before, "kept:b"), "{id}: {before}");
}

#[test]
fn a_forged_id_is_not_echoed_in_the_stream() {
    let server = TestServer::start(&HISTORY);
    for forged in ["1.e\ndata: forged\n\n.a", "1.e forged.a 2.f.c", "x.e.a", "1.\u{e9}.a"] {
        let query = format!("channel=a&channel=b&last_event_id={}", escaped(forged));
        let (mut stream, before) = open(&server, &query, "");
        publish(&server, "b", "1");
        let event = stream.until("\n\n");
        for line in format!("{before}{event}").lines() {
            let id = line.strip_prefix("id: ").unwrap_or_default();
            for part in id.split(' ').filter(|part| !part.is_empty()) {
                let parts: Vec<_> = part.split('.').collect();
                assert!(matches!(parts[..], [_, epoch, "a" | "b"] if epoch != "e"), "{forged:?}: {line}");
            }
            assert!(!line.contains("forged"), "{forged:?}: {line}");
        }
    }
}

#[test]
fn without_permission_for_the_history_a_gap_event_is_sent_instead() {
    let options = |more: &[&'static str]| {
        let rest =
            ["client.token.hmac_secret_key=secret", "client.allow_anonymous_connect_without_token=true"];
        let subscribe = [
            "http_api.insecure=true",
            "channel.without_namespace.allow_subscribe_for_client=true",
            "channel.without_namespace.allow_subscribe_for_anonymous=true",
        ];
        TestServer::start(&[&HISTORY[..], &rest, &subscribe, more].concat())
    };
    for (more, right) in [
        (&[][..], false),
        (&["channel.without_namespace.allow_history_for_anonymous=true"], false),
        (&["channel.without_namespace.allow_recovery=true"], true),
        (&["channel.without_namespace.force_recovery=true"], true),
    ] {
        let server = options(more);
        let publish = |data: &str| {
            let body = format!("{{\"channel\":\"a\",\"data\":\"{data}\"}}");
            let answer = server.send(post("/api/publish", "Connection: close\r\n", &body));
            assert_eq!(answer.status, 200, "{answer:?}");
        };
        publish("first");
        let (mut stream, _) = open(&server, "channel=a", "");
        publish("second");
        let (id, data) = parts(&stream.until("\n\n"));
        assert_eq!(data, "\"second\"");
        drop(stream);
        publish("missed");
        let (mut stream, mut before) = open(&server, "channel=a", &format!("Last-Event-ID: {id}\r\n"));
        publish("last");
        while !before.contains("last") {
            before.push_str(&stream.until("\n\n"));
        }
        assert_eq!(before.contains("missed"), right, "{more:?}: {before}");
        assert_eq!(before.contains("event: gap\ndata: a\n\n"), !right, "{more:?}: {before}");
    }
}

/// The status and the error of a rejected request.
fn rejected(server: &TestServer, query: &str, headers: &str) -> (u16, Value) {
    let path = format!("/events?{query}");
    let answer = server.send(get(&path, headers));
    let error = serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{query}: {answer:?}: {e}"));
    assert_eq!(answer.header("content-type"), "application/json");
    (answer.status, error)
}

#[test]
fn a_rejection_is_an_http_status_with_an_error_code() {
    let server = TestServer::start(&[
        "client.token.hmac_secret_key=secret",
        "client.allow_anonymous_connect_without_token=true",
        "channel.namespaces=open",
        "channel.namespaces.open.allow_subscribe_for_client=true",
        "channel.namespaces.open.allow_subscribe_for_anonymous=true",
    ]);
    let (_, before) = open(&server, "channel=open:a", "");
    assert!(before.starts_with("retry: "));
    for (query, headers, status, code) in [
        ("channel=closed", "", 403, 103),
        ("channel=open:a&channel=closed", "", 403, 103),
        ("channel=nothing:a", "", 404, 102),
        ("channel=", "", 400, 107),
        ("channel=a%09b", "", 400, 107),
    ] {
        let (actual, error) = rejected(&server, query, headers);
        assert_eq!((actual, &error["code"]), (status, &json!(code)), "{query} {headers}: {error}");
        assert!(error["message"].is_string());
    }
    for (query, headers) in
        [("channel=open:a&token=nonsense", ""), ("channel=open:a", "Authorization: Bearer nonsense\r\n")]
    {
        assert_eq!(rejected(&server, query, headers).0, 401, "{query} {headers}");
    }
    let closed = TestServer::start(&["client.token.hmac_secret_key=secret"]);
    assert_eq!(rejected(&closed, "channel=a", "").0, 401);
}

#[test]
fn without_a_broker_the_answer_is_503() {
    let server = TestServer::start(&[&format!("broker={}", tidings_testkit::RedisServer::absent().url())]);
    let (status, error) = rejected(&server, "channel=a", "");
    assert_eq!((status, &error["code"]), (503, &json!(100)), "{error}");
}

#[test]
fn more_channels_than_fit_into_an_id_are_rejected_with_a_text() {
    let server = TestServer::start(&[]);
    let channels: Vec<_> = (0..100).map(|i| format!("channel={i:0100}")).collect();
    let answer = server.send(get(&format!("/events?{}", channels.join("&")), "Connection: close\r\n"));
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("8192 bytes"), "{answer:?}");
}
