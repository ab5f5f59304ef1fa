//! Streams of subscriptions: an application with grpcio of Python (`tests/clients/grpc/application.py`).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, wait_until};

use crate::grpc::Application;
use crate::server_with_hooks::{Client, ServerWithHooks, load};

const OPEN: &str = "tidings_hook_streams";
const REFUSALS: &str = "tidings_hook_refusals_total{hook=\"subscribe_stream\"}";
const FAILURES: &str = "tidings_hook_failures_total{hook=\"subscribe_stream\"}";

fn ends(server: &ServerWithHooks, reason: &str) -> u64 {
    server.metric(&format!("tidings_hook_stream_ends_total{{reason=\"{reason}\"}}"))
}

/// A server whose namespaces `one` and `both` have streams of the application, without and with publications of clients.
fn server(application: &Application, more: &[(&str, &str)]) -> ServerWithHooks {
    let endpoint = &*application.endpoint;
    let mut options = vec![
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", endpoint),
        ("channel.proxy.subscribe_stream.endpoint", endpoint),
        ("channel.proxy.subscribe_stream.timeout", "2s"),
        ("channel.proxy.subscribe_stream.http.static_headers", r#"{"X-Key": "s3cret"}"#),
        ("rpc.proxy.endpoint", endpoint),
        // The application subscribes its clients to a channel of `chat`.
        ("channel.namespaces", "one,both,chat"),
        ("channel.namespaces.one.subscribe_stream_proxy_enabled", "true"),
        ("channel.namespaces.one.allow_publish_for_client", "true"),
        ("channel.namespaces.both.subscribe_stream_proxy_enabled", "true"),
        ("channel.namespaces.both.subscribe_stream_bidirectional", "true"),
        ("http_api.key", "k"),
    ];
    options.extend_from_slice(more);
    ServerWithHooks::with_key(&options)
}

/// What the application counts.
fn state(client: &mut Client) -> Value {
    client.call_ok("rpc", json!({"method": "streams"}))["data"].take()
}

/// Waits until the application has this number of open streams.
fn wait_for_open(client: &mut Client, open: u64) {
    wait_until(PATIENCE, "streams of the application", || state(client)["open"] == json!(open));
}

/// The data of the next publication of a channel.
fn publication(client: &mut Client, channel: &str) -> Value {
    let mut push = client.message();
    assert_eq!(push["push"]["channel"], json!(channel), "{push}");
    push["push"]["pub"].take()
}

#[test]
fn publications_of_a_stream_go_to_its_subscription_alone_behind_the_response_of_the_application() {
    let application = Application::start(&[]);
    let server = server(&application, &[]);
    let (mut ann, mut eve) = (server.connected(json!({})), server.connected(json!({})));
    let subscribed = ann.call_ok("subscribe", json!({"channel": "one:a", "data": {"count": 3}}));
    assert_eq!(subscribed["data"], json!({"user": "7", "data": {"count": 3}, "key": "s3cret"}));
    eve.call_ok("subscribe", json!({"channel": "one:a", "data": {"empty": 1}}));
    for number in 0..3 {
        let publication = publication(&mut ann, "one:a");
        assert_eq!(publication["data"]["n"], json!(number));
        assert_eq!(publication["tags"], json!({"by": "stream"}));
    }
    // What is published to the channel goes to all of its subscribers, and eve has received nothing before.
    let body = r#"{"channel":"one:a","data":"to all"}"#;
    assert_eq!(server.post("/api/publish", &["X-API-Key: k"], body).status, 200);
    for client in [&mut ann, &mut eve] {
        assert_eq!(publication(client, "one:a")["data"], json!("to all"));
    }
    ann.call_ok("publish", json!({"channel": "one:b", "data": 1}));
    assert_eq!(server.metric(OPEN), 2);
    assert_eq!(server.metric("tidings_hook_stream_publications_total{direction=\"to_client\"}"), 3);
}

#[test]
fn unsubscribing_and_disconnecting_cancel_the_stream() {
    let application = Application::start(&[]);
    let server = server(&application, &[]);
    let (mut ann, mut eve) = (server.connected(json!({})), server.connected(json!({})));
    for channel in ["one:a", "both:a"] {
        ann.call_ok("subscribe", json!({"channel": channel}));
        eve.call_ok("subscribe", json!({"channel": channel}));
    }
    wait_for_open(&mut ann, 4);
    for (channel, open) in [("one:a", 3), ("both:a", 2)] {
        ann.call_ok("unsubscribe", json!({"channel": channel}));
        wait_for_open(&mut ann, open);
    }
    drop(eve);
    wait_for_open(&mut ann, 0);
    wait_until(PATIENCE, "the ends", || server.metric(OPEN) == 0 && ends(&server, "unsubscribed") == 4);
    // The application ends a subscription by the server API as well.
    ann.call_ok("subscribe", json!({"channel": "one:a"}));
    wait_for_open(&mut ann, 1);
    let body = r#"{"user":"7","channel":"one:a"}"#;
    assert_eq!(server.post("/api/unsubscribe", &["X-API-Key: k"], body).status, 200);
    assert_eq!(ann.message()["push"]["unsubscribe"]["code"], json!(2000));
    wait_for_open(&mut ann, 0);
}

#[test]
fn the_end_of_a_stream_ends_the_subscription_with_a_temporary_code_behind_its_publications() {
    let application = Application::start(&[]);
    let server = server(&application, &[]);
    let mut client = server.connected(json!({}));
    for (end, reason) in [("end", "ended"), ("fail", "failed")] {
        client.call_ok("subscribe", json!({"channel": "one:a", "data": {"count": 200, end: 1}}));
        for number in 0..200 {
            assert_eq!(publication(&mut client, "one:a")["data"]["n"], json!(number));
        }
        let ended = client.message();
        assert_eq!(ended["push"]["unsubscribe"]["code"], json!(2500), "{ended}");
        wait_until(PATIENCE, reason, || ends(&server, reason) == 1);
    }
    client.call_ok("subscribe", json!({"channel": "one:a"}));
    drop(application);
    assert_eq!(client.message()["push"]["unsubscribe"]["code"], json!(2500));
    wait_until(PATIENCE, "the failure", || ends(&server, "failed") == 2 && server.metric(OPEN) == 0);
}

#[test]
fn a_bidirectional_stream_gets_the_publications_of_its_client_in_order() {
    let application = Application::start(&[]);
    let server = server(&application, &[]);
    let (mut ann, mut eve) = (server.connected(json!({})), server.connected(json!({})));
    ann.call_ok("subscribe", json!({"channel": "both:a"}));
    assert_eq!(eve.call_error("publish", json!({"channel": "both:a", "data": 1})), (103, false));
    eve.call_ok("subscribe", json!({"channel": "both:a"}));
    for number in 0..100 {
        ann.send("publish", json!({"channel": "both:a", "data": {"n": number}}));
    }
    let (mut echoed, mut replied) = (0, 0);
    while echoed < 100 || replied < 100 {
        let message = ann.message();
        if message.get("id").is_some() {
            assert!(message.get("publish").is_some(), "{message}");
            replied += 1;
        } else {
            assert_eq!(message["push"]["pub"]["data"], json!({"echo": {"n": echoed}}));
            echoed += 1;
        }
    }
    // Nothing of it was published to the other subscriber.
    eve.call_ok("publish", json!({"channel": "both:a", "data": "mine"}));
    assert_eq!(publication(&mut eve, "both:a")["data"], json!({"echo": "mine"}));
    assert_eq!(server.metric("tidings_hook_stream_publications_total{direction=\"to_application\"}"), 101);
}

#[test]
fn publications_that_the_application_does_not_read_are_refused_in_bounded_memory() {
    let application = Application::start(&[]);
    let server = server(&application, &[]);
    let mut client = server.connected(json!({}));
    client.call_ok("subscribe", json!({"channel": "both:deaf"}));
    let data = "x".repeat(30_000);
    let refused = (0..2_000).find_map(|count| {
        let reply = client.call("publish", json!({"channel": "both:deaf", "data": data}));
        reply.get("error").map(|error| (count, error["code"].clone(), error["temporary"].clone()))
    });
    let (count, code, temporary) = refused.expect("a refusal");
    assert_eq!((code, temporary), (json!(111), json!(true)), "after {count}");
    client.call_ok("unsubscribe", json!({"channel": "both:deaf"}));
    wait_for_open(&mut client, 0);
}

#[test]
fn errors_and_time_limits_of_the_first_message_are_those_of_hooks() {
    let application = Application::start(&[]);
    let server = server(&application, &[]);
    let mut client = server.connected(json!({}));
    assert_eq!(client.call_error("subscribe", json!({"channel": "one:refused"})), (1001, true));
    let began = Instant::now();
    assert_eq!(client.call_error("subscribe", json!({"channel": "one:late"})), (100, true));
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(server.metric(FAILURES), 1);
    wait_for_open(&mut client, 0);
    // A connection that ends meanwhile cancels the stream as well.
    client.send("subscribe", json!({"channel": "one:late"}));
    let mut other = server.connected(json!({}));
    wait_for_open(&mut other, 1);
    drop(client);
    wait_for_open(&mut other, 0);
    wait_until(PATIENCE, "no stream", || server.metric(OPEN) == 0);
    drop(application);
    assert_eq!(other.call_error("subscribe", json!({"channel": "one:a"})), (100, true));
}

#[test]
fn publications_of_a_compressed_stream_are_delivered() {
    let application = Application::start_compressed();
    let server = server(&application, &[("channel.proxy.subscribe_stream.grpc.compression", "true")]);
    let mut client = server.connected(json!({}));
    client.call_ok("subscribe", json!({"channel": "one:a", "data": {"count": 20, "size": 5_000}}));
    for number in 0..20 {
        let publication = publication(&mut client, "one:a");
        assert_eq!(publication["data"], json!({"n": number, "padding": "x".repeat(5_000)}));
    }
}

#[test]
fn the_number_of_streams_is_limited() {
    let application = Application::start(&[]);
    let server = server(&application, &[("channel.proxy.subscribe_stream_limit", "2")]);
    let mut client = server.connected(json!({}));
    for channel in ["one:a", "both:a"] {
        client.call_ok("subscribe", json!({"channel": channel}));
    }
    assert_eq!(client.call_error("subscribe", json!({"channel": "one:b"})), (111, true));
    assert_eq!(server.metric(REFUSALS), 1);
    client.call_ok("unsubscribe", json!({"channel": "one:a"}));
    wait_until(PATIENCE, "room for a stream", || server.metric(OPEN) == 1);
    client.call_ok("subscribe", json!({"channel": "one:b"}));
}

#[test]
fn a_client_that_does_not_read_stops_its_own_stream_and_no_other_one() {
    let application = Application::start(&[]);
    let server = server(&application, &[]);
    let (mut slow, mut fast) = (server.connected(json!({})), server.connected(json!({})));
    // 64 MiB, far more than the buffers of sockets and of Python.
    let (count, size) = (4_096, 16_384);
    slow.send("subscribe", json!({"channel": "one:slow", "data": {"count": count, "size": size}}));
    let sent = |client: &mut Client| state(client)["sent"]["one:slow"].as_u64().unwrap_or_default();
    let mut last = (0, Instant::now());
    wait_until(PATIENCE, "the stream stops", || {
        let now = sent(&mut fast);
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_millis(500)
    });
    assert!(
        last.0 < count * 3 / 4,
        "{} of {count} publications were sent to a client that reads none",
        last.0
    );
    fast.call_ok("subscribe", json!({"channel": "one:fast", "data": {"count": 500}}));
    for number in 0..500 {
        assert_eq!(publication(&mut fast, "one:fast")["data"]["n"], json!(number));
    }
    let still = sent(&mut fast);
    assert!(still < count * 3 / 4, "{still} of {count}: the stream of the slow client has not continued");
    // It gets everything, in order, when it reads.
    assert!(slow.message()["subscribe"].is_object());
    for number in 0..count {
        assert_eq!(publication(&mut slow, "one:slow")["data"]["n"], json!(number));
    }
}

#[test]
fn more_streams_than_one_connection_permits_are_open_at_the_same_time() {
    // The application permits 100 streams on each connection.
    let application = Application::start(&[]);
    let server = server(&application, &[("client.channel_limit", "200")]);
    let mut client = server.connected(json!({}));
    for number in 0..150 {
        client.call_ok("subscribe", json!({"channel": format!("one:{number}"), "data": {"empty": 1}}));
    }
    assert_eq!(server.metric(OPEN), 150);
    drop(client);
    wait_until(PATIENCE, "no stream", || server.metric(OPEN) == 0);
}

#[test]
fn after_a_reload_streams_are_opened_by_the_new_hook_and_open_ones_stay() {
    let (old, new) = (Application::start(&[]), Application::start(&[]));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    let write = |application: &Application, more: &str, namespace: &str| {
        let text = format!(
            "client.insecure = true\n[rpc.proxy]\nendpoint = \"{}\"\n\
             [channel.proxy]\n{more}\n[channel.proxy.subscribe_stream]\nendpoint = \"{}\"\n\
             [[channel.namespaces]]\nname = \"one\"\nsubscribe_stream_proxy_enabled = true\n{namespace}\n",
            old.endpoint, application.endpoint,
        );
        std::fs::write(&path, text).expect("a file");
    };
    write(&old, "", "");
    let server = ServerWithHooks::with_file(&path);
    let mut client = server.connected(json!({}));
    client.call_ok("subscribe", json!({"channel": "one:a"}));
    write(&new, "subscribe_stream_limit = 2", "subscribe_stream_bidirectional = true");
    let report = server.runtime.block_on(server.server().reload()).expect("a reload");
    assert_eq!((report.changed.len(), report.restart_required), (3, vec![]), "{:?}", report.changed);
    client.call_ok("subscribe", json!({"channel": "one:b"}));
    client.call_ok("publish", json!({"channel": "one:b", "data": 1}));
    assert_eq!(publication(&mut client, "one:b")["data"], json!({"echo": 1}));
    assert_eq!(client.call_error("subscribe", json!({"channel": "one:c"})), (111, true));
    assert_eq!(state(&mut client)["open"], json!(1), "of the old application");
    drop(old);
    assert_eq!(client.message()["push"]["unsubscribe"]["code"], json!(2500));
}

#[test]
fn streams_need_grpc_and_no_other_hook_of_the_same_channels() {
    let namespace = ("channel.namespaces", "one");
    let enabled = ("channel.namespaces.one.subscribe_stream_proxy_enabled", "true");
    let grpc = ("channel.proxy.subscribe_stream.endpoint", "grpc://localhost:12000");
    load(&[namespace, enabled, grpc]).expect("a configuration");
    for (more, part) in [
        (("channel.proxy.subscribe_stream.endpoint", "http://localhost"), "is not grpc://HOST:PORT"),
        (
            ("channel.proxy.subscribe_stream.endpoint", ""),
            "channel.proxy.subscribe_stream.endpoint is not set",
        ),
        (("channel.namespaces.one.publish_proxy_enabled", "true"), "are both true"),
        (("channel.namespaces.one.subscription_type", "map"), "subscription_type is not stream"),
        (("channel.namespaces.one.subscribe_stream_proxy_name", "other"), "has no proxy of this name"),
    ] {
        let error = load(&[namespace, enabled, grpc, more]).expect_err("an error");
        assert!(error.contains(part), "{more:?}: {error}");
    }
}
