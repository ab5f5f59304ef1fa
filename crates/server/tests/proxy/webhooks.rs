//! Webhooks for all protocols: events of channels on one node. `crates/cli/tests/sdk/pusher.rs` tests those of the Pusher
//! protocol, on two nodes with kills.

use serde_json::{Value, json};
use tidings_pusher::Key;
use tidings_testkit::{PATIENCE, wait_until};

use crate::application::{Application, HookCall};
use crate::server_with_hooks::{ServerWithHooks, load, token};

const SECRET: &str = "the secret of the receiver of webhooks";

/// The options of a server with this receiver.
fn options<'a>(endpoint: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [
        ("webhooks.endpoints", endpoint),
        ("webhooks.secret", SECRET),
        ("webhooks.interval", "100ms"),
        ("webhooks.grace", "200ms"),
        ("channel.without_namespace.allow_subscribe_for_client", "true"),
        ("channel.without_namespace.allow_publish_for_client", "true"),
        ("channel.without_namespace.presence", "true"),
    ];
    usual.into_iter().chain(more.iter().copied()).collect()
}

/// All events of these requests.
fn events(calls: &[HookCall]) -> Vec<Value> {
    calls.iter().flat_map(|call| call.body["events"].as_array().expect("events").clone()).collect()
}

/// The events of these kinds so far, without changes of numbers.
fn received(application: &Application) -> Vec<Value> {
    let mut events = events(&application.calls("/hook"));
    events.retain(|event| event["event"] != "subscription_count");
    events
}

#[track_caller]
fn wait_for(application: &Application, expected: &[Value]) {
    wait_until(PATIENCE, "events", || received(application).len() >= expected.len());
    assert_eq!(received(application), expected);
}

#[test]
fn a_receiver_gets_the_life_of_a_channel_in_order_and_signed() {
    let application = Application::start();
    application.respond("/hook", "");
    let server = ServerWithHooks::with_key(&options(&application.url("/hook"), &[]));
    let mut ann = server.connected(json!({"token": token(json!({"sub": "ann"}))}));
    ann.call_ok("subscribe", json!({"channel": "room"}));
    let mut expected = vec![
        json!({"event": "occupied", "channel": "room"}),
        json!({"event": "joined", "channel": "room", "user": "ann"}),
    ];
    wait_for(&application, &expected);
    // A second connection of the user is no event but another number.
    let mut again = server.connected(json!({"token": token(json!({"sub": "ann"}))}));
    again.call_ok("subscribe", json!({"channel": "room"}));
    wait_until(PATIENCE, "the number", || {
        let count = json!({"event": "subscription_count", "channel": "room", "count": 2});
        events(&application.calls("/hook")).contains(&count)
    });
    let publish = json!({"channel": "room", "data": {"text": "hello"}});
    again.send("publish", publish);
    let is_published = |events: &[Value]| events.last().is_some_and(|event| event["event"] == "published");
    wait_until(PATIENCE, "the publication", || is_published(&received(&application)));
    let published = received(&application).pop().expect("an event");
    assert_eq!((&published["user"], &published["data"]), (&json!("ann"), &json!({"text": "hello"})));
    assert!(published["client"].is_string(), "{published}");
    expected.push(published);
    drop(again);
    drop(ann);
    expected.push(json!({"event": "left", "channel": "room", "user": "ann"}));
    expected.push(json!({"event": "vacated", "channel": "room"}));
    wait_for(&application, &expected);
    for call in application.calls("/hook") {
        let (time, events) = (&call.body["time_ms"], &call.body["events"]);
        let text = format!("{{\"time_ms\":{time},\"events\":{events}}}");
        let signature = format!("sha256={}", Key::new(SECRET).sign(text.as_bytes()));
        assert_eq!(call.header("x-tidings-signature"), Some(&*signature), "{text}");
        assert_eq!(call.header("content-type"), Some("application/json"));
        assert!(call.body["time_ms"].is_u64(), "{}", call.body);
    }
    assert_eq!(server.metric("tidings_webhook_events_total{outcome=\"dropped\"}"), 0);
}

#[test]
fn a_request_is_repeated_until_the_receiver_accepts_it_and_events_stay_in_order() {
    let application = Application::start();
    application.respond_with("/hook", 500, "");
    let server = ServerWithHooks::with_key(&options(&application.url("/hook"), &[]));
    let mut ann = server.connected(json!({"token": token(json!({"sub": "ann"}))}));
    ann.call_ok("subscribe", json!({"channel": "one"}));
    application.wait_for("/hook", 1);
    ann.call_ok("subscribe", json!({"channel": "two"}));
    application.respond_with("/hook", 204, "");
    let is_accepted = || server.metric("tidings_webhook_events_total{outcome=\"delivered\"}") >= 6;
    wait_until(PATIENCE, "accepted requests", is_accepted);
    let calls = application.calls("/hook");
    assert_eq!(calls[0].body["events"], calls[1].body["events"], "the request is repeated");
    let occupied: Vec<_> =
        events(&calls[1..]).into_iter().filter(|event| event["event"] == "occupied").collect();
    assert_eq!(occupied.iter().map(|event| &event["channel"]).collect::<Vec<_>>(), ["one", "two"]);
    assert!(server.metric("tidings_webhook_requests_failed_total") >= 1);
}

#[test]
fn events_that_no_receiver_accepts_in_time_are_lost_and_counted() {
    let application = Application::start();
    application.respond_with("/hook", 503, "");
    let url = application.url("/hook");
    let server = ServerWithHooks::with_key(&options(&url, &[("webhooks.retry_for", "1s")]));
    let mut ann = server.connected(json!({"token": token(json!({"sub": "ann"}))}));
    ann.call_ok("subscribe", json!({"channel": "one"}));
    let expired = || server.metric("tidings_webhook_events_total{outcome=\"expired\"}");
    wait_until(PATIENCE, "lost events", || expired() >= 3);
    application.respond("/hook", "");
    ann.call_ok("subscribe", json!({"channel": "two"}));
    wait_until(PATIENCE, "a delivery", || {
        received(&application).contains(&json!({"event": "occupied", "channel": "two"}))
    });
}

#[test]
fn a_full_queue_loses_the_oldest_events_and_delays_no_client() {
    let application = Application::start();
    application.hold("/hook");
    let url = application.url("/hook");
    let server = ServerWithHooks::with_key(&options(&url, &[("webhooks.queue_max_size", "64KiB")]));
    let mut ann = server.connected(json!({"token": token(json!({"sub": "ann"}))}));
    let text = "x".repeat(10_000);
    for n in 0..50 {
        ann.call_ok("publish", json!({"channel": "room", "data": {"n": n, "text": text}}));
    }
    let dropped = || server.metric("tidings_webhook_events_total{outcome=\"dropped\"}");
    wait_until(PATIENCE, "dropped events", || dropped() >= 10);
    assert!(server.metric("tidings_webhook_queue_bytes") <= 64 << 10);
    application.respond("/hook", "");
    let newest = || received(&application).iter().any(|event| event["data"]["n"] == 49);
    wait_until(PATIENCE, "the newest event", newest);
}

#[test]
fn a_receiver_gets_its_kinds_of_events_and_its_channels_only() {
    let application = Application::start();
    application.respond("/hook", "");
    let endpoint = format!(r#"[{{"url": "{}", "events": ["occupied"]}}]"#, application.url("/hook"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.json");
    let config = format!(
        r#"{{"webhooks": {{"endpoints": {endpoint}, "secret": "{SECRET}", "interval": "100ms", "channel_prefixes": ["chat:"]}},
            "channel": {{"namespaces": [{{"name": "chat", "presence": true}}]}}}}"#
    );
    std::fs::write(&file, config).expect("a file");
    let server = ServerWithHooks::with_file(&file);
    let mut one = server.connected(json!({}));
    one.call_ok("subscribe", json!({"channel": "news"}));
    one.call_ok("subscribe", json!({"channel": "chat:1"}));
    wait_until(PATIENCE, "an event", || !application.calls("/hook").is_empty());
    one.call_ok("subscribe", json!({"channel": "chat:2"}));
    let all = || events(&application.calls("/hook"));
    wait_until(PATIENCE, "the second event", || all().len() >= 2);
    let occupied = |channel: &str| json!({"event": "occupied", "channel": channel});
    assert_eq!(all(), [occupied("chat:1"), occupied("chat:2")]);
}

#[test]
fn a_subscriber_of_an_empty_cache_channel_is_a_cache_miss() {
    let application = Application::start();
    application.respond("/hook", "");
    let server = ServerWithHooks::with_key(&options(
        &application.url("/hook"),
        &[
            ("channel.without_namespace.history_size", "1"),
            ("channel.without_namespace.history_ttl", "1m"),
            ("channel.without_namespace.force_recovery", "true"),
            ("channel.without_namespace.force_recovery_mode", "cache"),
        ],
    ));
    let mut ann = server.connected(json!({"token": token(json!({"sub": "ann"}))}));
    let subscribe = json!({"channel": "price", "recover": true, "epoch": "", "offset": 0});
    ann.call_ok("subscribe", subscribe.clone());
    let misses = || {
        let all = received(&application);
        all.into_iter().filter(|event| event["event"] == "cache_miss").collect::<Vec<_>>()
    };
    wait_until(PATIENCE, "the miss", || misses().len() == 1);
    assert_eq!(misses(), [json!({"event": "cache_miss", "channel": "price"})]);
    ann.send("publish", json!({"channel": "price", "data": 1}));
    wait_until(PATIENCE, "the publication", || {
        received(&application).iter().any(|event| event["event"] == "published")
    });
    let mut bob = server.connected(json!({"token": token(json!({"sub": "bob"}))}));
    bob.call_ok("subscribe", subscribe);
    wait_until(PATIENCE, "the second user", || {
        received(&application).contains(&json!({"event": "joined", "channel": "price", "user": "bob"}))
    });
    assert_eq!(misses().len(), 1);
}

#[test]
fn receivers_without_a_secret_are_refused_with_the_line_to_add() {
    let error = load(&[("webhooks.endpoints", "http://localhost:3000/hook")]).expect_err("no secret");
    assert!(error.contains("webhooks.secret is empty; add"), "{error}");
}
