//! Shared polls on a running server: requests to the application, bounds, failures, and reloads.

use std::time::{Duration, Instant};

use ring::{digest, hmac};
use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, RedisServer, metric, wait_until};

use crate::application::Application;
use crate::server_with_hooks::{Client, ServerWithHooks, now};

fn file(application: &Application, secret: &str, more: &str) -> String {
    let url = application.url("/values");
    format!(
        "client.insecure = true\nhttp_api.insecure = true\n\
         [shared_poll]\nhmac_secret_key = \"{secret}\"\n{more}\n\
         [channel.proxy.shared_poll_refresh]\nendpoint = \"{url}\"\ntimeout = \"300ms\"\n\
         [[channel.namespaces]]\nname = \"votes\"\nsubscription_type = \"shared_poll\"\n\
         [channel.namespaces.shared_poll]\nmode = \"versioned\"\nrefresh_interval = \"100ms\"\nrefresh_batch_size = 2\n"
    )
}

/// A server with this file, which a reload reads again.
fn server(text: String) -> (tempfile::TempDir, ServerWithHooks) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).expect("a file");
    let server = ServerWithHooks::with_file(&path);
    (folder, server)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tracks keys of `votes:1` with a signature by this key.
fn track(secret: &str, keys: &[&str]) -> Value {
    let hash = hex(digest::digest(&digest::SHA256, keys.join("\0").as_bytes()).as_ref());
    let (issued, expires) = (now(), now() + 600);
    let message = format!("{issued}\0{expires}\0\0votes:1\0{hash}");
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
    let signature = format!("{issued}:{expires}:{}", hex(mac.as_ref()));
    let items: Vec<Value> = keys.iter().map(|key| json!({ "key": key })).collect();
    json!({"channel": "votes:1", "type": 1, "track": [{"signature": signature, "items": items}]})
}

fn subscribed(server: &ServerWithHooks) -> Client {
    let mut client = server.connected(json!({}));
    let reply = client.call_ok("subscribe", json!({"channel": "votes:1", "type": 4}));
    assert_eq!(reply, json!({"type": 4}));
    client
}

fn values(items: &[(&str, Value, u64)]) -> Value {
    let item =
        |(key, data, version): &(&str, Value, u64)| json!({"key": key, "data": data, "version": version});
    json!({"result": {"items": items.iter().map(item).collect::<Vec<_>>()}})
}

/// The next value: its key, the value, and its version.
fn next(client: &mut Client) -> (String, Value, u64) {
    let message = client.message();
    let publication = &message["push"]["pub"];
    let key = publication["key"].as_str().unwrap_or_else(|| panic!("no value: {message}"));
    (key.to_owned(), publication["data"].clone(), publication["version"].as_u64().unwrap_or(0))
}

#[test]
fn requests_have_the_versions_and_at_most_the_keys_of_a_batch() {
    let application = Application::start();
    application.respond("/values", values(&[("a", json!(1), 5), ("b", json!(2), 6), ("c", json!(3), 7)]));
    let (_folder, server) = server(file(&application, "k", ""));
    let mut client = subscribed(&server);
    let reply = client.call_ok("sub_refresh", track("k", &["a", "b", "c"]));
    assert_eq!(reply["expires"], true);
    let mut got: Vec<_> = (0..3).map(|_| next(&mut client)).collect();
    got.sort_by_key(|(.., version)| *version);
    let wanted = [("a", json!(1), 5), ("b", json!(2), 6), ("c", json!(3), 7)];
    assert_eq!(got, wanted.map(|(key, data, version)| (key.to_owned(), data, version)));
    let later =
        json!({"channel": "votes:1", "items": [{"key": "a", "version": 5}, {"key": "b", "version": 6}]});
    wait_until(PATIENCE, "a request with versions", || {
        application.calls("/values").iter().any(|call| call.body == later)
    });
    let sizes = application
        .calls("/values")
        .into_iter()
        .map(|call| call.body["items"].as_array().map_or(0, Vec::len));
    assert!(sizes.into_iter().all(|keys| (1..=2).contains(&keys)));
    // After the subscriber has left, nothing is requested any more.
    client.call_ok("unsubscribe", json!({"channel": "votes:1"}));
    wait_until(PATIENCE, "no shared poll", || metric(server.http(), "tidings_shared_poll_channels") == 0);
    let count = application.calls("/values").len();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(application.calls("/values").len(), count, "requests without a subscriber");
}

#[test]
fn while_the_application_fails_the_last_values_stay_and_requests_back_off() {
    let application = Application::start();
    application.respond("/values", values(&[("a", json!(1), 1)]));
    let (_folder, server) = server(file(&application, "k", ""));
    let mut client = subscribed(&server);
    client.call_ok("sub_refresh", track("k", &["a"]));
    assert_eq!(next(&mut client), ("a".to_owned(), json!(1), 1));
    application.respond("/values", json!({"error": {"code": 1000, "message": "down"}}));
    let failures = "tidings_hook_failures_total{hook=\"shared_poll_refresh\"}";
    wait_until(PATIENCE, "failures", || metric(server.http(), failures) >= 3);
    let mut other = subscribed(&server);
    other.call_ok("sub_refresh", track("k", &["a"]));
    assert_eq!(next(&mut other), ("a".to_owned(), json!(1), 1), "the last value");
    let began = Instant::now();
    let reply = loop {
        let reply = other.call("sub_refresh", track("k", &["new"]));
        if reply.get("error").is_some() {
            break reply["error"].clone();
        }
        assert!(began.elapsed() < PATIENCE);
        other.call_ok("sub_refresh", json!({"channel": "votes:1", "type": 2, "untrack": ["new"]}));
    };
    assert_eq!((&reply["code"], &reply["temporary"]), (&json!(100), &json!(true)), "{reply}");
    assert!(
        reply["message"].as_str().is_some_and(|text| text.contains("application does not respond")),
        "{reply}"
    );
    application.respond("/values", values(&[("a", json!(2), 2)]));
    assert_eq!(next(&mut client), ("a".to_owned(), json!(2), 2));
    assert_eq!(next(&mut other), ("a".to_owned(), json!(2), 2));
}

#[test]
fn after_a_reload_the_keys_of_signatures_the_application_and_the_bounds_are_the_new_ones() {
    let (old, new) = (Application::start(), Application::start());
    old.respond("/values", values(&[("a", json!("old"), 1)]));
    new.respond("/values", values(&[("a", json!("new"), 2)]));
    let (folder, server) = server(file(&old, "first", ""));
    let mut client = subscribed(&server);
    client.call_ok("sub_refresh", track("first", &["a"]));
    assert_eq!(next(&mut client), ("a".to_owned(), json!("old"), 1));
    let reload = |text: String| {
        std::fs::write(folder.path().join("c.toml"), text).expect("a file");
        let report = server.runtime.block_on(server.server().reload()).expect("a reload");
        assert_eq!(report.restart_required, Vec::<String>::new());
    };
    reload(file(&new, "second", "hmac_previous_secret_key = \"first\"\nconcurrency_limit = 1\n"));
    assert_eq!(next(&mut client), ("a".to_owned(), json!("new"), 2));
    for secret in ["first", "second"] {
        client.call_ok("sub_refresh", track(secret, &["b"]));
    }
    let ended = "hmac_previous_secret_key = \"first\"\nhmac_previous_secret_key_valid_until = 1000\n";
    reload(file(&new, "second", &format!("{ended}max_total = \"1KiB\"\n")));
    assert_eq!(client.call_error("sub_refresh", track("first", &["b"])), (103, false));
    client.call_ok("sub_refresh", track("second", &["b"]));
    new.respond("/values", values(&[("b", json!("x".repeat(2_000)), 1)]));
    let refused = "tidings_shared_poll_values_total{effect=\"refused\"}";
    wait_until(PATIENCE, "a refused value", || metric(server.http(), refused) > 0);
    new.respond("/values", values(&[("b", json!("short"), 1)]));
    // The version that the client sent with the last `track` is 0.
    assert_eq!(next(&mut client), ("b".to_owned(), json!("short"), 1));
}

#[test]
fn a_published_value_reaches_the_clients_of_all_nodes_and_another_epoch_ends_their_subscriptions() {
    let redis = RedisServer::start();
    let application = Application::start();
    application.respond("/values", json!({"result": {}}));
    let (broker, url) = (redis.url(), application.url("/values"));
    let servers = [(); 2].map(|()| {
        ServerWithHooks::with(&[
            ("broker", &broker),
            ("client.insecure", "true"),
            ("http_api.insecure", "true"),
            ("shared_poll.hmac_secret_key", "k"),
            ("channel.proxy.shared_poll_refresh.endpoint", &url),
            ("channel.namespaces", "votes"),
            ("channel.namespaces.votes.subscription_type", "shared_poll"),
            ("channel.namespaces.votes.shared_poll.mode", "versioned"),
            ("channel.namespaces.votes.shared_poll.publish_enabled", "true"),
            ("channel.namespaces.votes.shared_poll.refresh_interval", "1h"),
        ])
    });
    let publish = |version: u64, epoch: &str| {
        let request =
            json!({"channel": "votes:1", "key": "a", "data": version, "version": version, "epoch": epoch});
        let head = "Content-Type: application/json\r\nConnection: close\r\n";
        let path = "POST /api/shared_poll_publish";
        servers[0].stream(path, head, &request.to_string(), "\r\n\r\n{\"result\":{}}")
    };
    let mut clients = servers.each_ref().map(|server| {
        let mut client = subscribed(server);
        client.call_ok("sub_refresh", track("k", &["a"]));
        client
    });
    application.wait_for("/values", 2);
    let pending = "tidings_shared_poll_requests_pending{state=\"sent\"}";
    for server in &servers {
        wait_until(PATIENCE, "the responses", || metric(server.http(), pending) == 0);
    }
    publish(5, "");
    for client in &mut clients {
        assert_eq!(next(client), ("a".to_owned(), json!(5), 5));
    }
    publish(1, "second");
    for client in &mut clients {
        assert_eq!(client.message()["push"]["unsubscribe"]["code"], 2500);
        let reply = client.call_ok("subscribe", json!({"channel": "votes:1", "type": 4}));
        assert_eq!(reply, json!({"type": 4, "epoch": "second"}));
        client.call_ok("sub_refresh", track("k", &["a"]));
    }
    // The application has another epoch, as long as it responds without one.
    for client in &mut clients {
        assert_eq!(client.message()["push"]["unsubscribe"]["code"], 2500);
    }
}
