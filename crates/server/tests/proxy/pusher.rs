//! Clients of the Pusher protocol: the connect hook, and the webhooks of an app after a reload.

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_pusher::Key;
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::ws::Opcode;

use crate::application::Application;
use crate::server_with_hooks::{ServerWithHooks, load, now};
use crate::support::websocket::{Client, Received};

/// A server with the connect hook at this address, and two apps: the hook decides about connections of the first one.
fn server(connect: &str) -> ServerWithHooks {
    ServerWithHooks::with_key(&[
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", connect),
        ("client.expired_close_delay", "1s"),
        ("pusher.apps", "asks,open"),
        ("pusher.apps.asks.key", "asks"),
        ("pusher.apps.asks.secret", "s1"),
        ("pusher.apps.asks.connect_proxy_enabled", "true"),
        ("pusher.apps.open.key", "open"),
        ("pusher.apps.open.secret", "s2"),
        ("pusher.apps.open.channel_prefix", "open:"),
    ])
}

fn open(server: &ServerWithHooks, key: &str) -> Client {
    Client::open(server, &format!("/app/{key}?protocol=7"), "X-Page: news\r\n", &[])
}

fn event(client: &mut Client, name: &str) -> Value {
    let message = client.json().remove(0);
    assert_eq!(message["event"], name, "{message}");
    message
}

fn send(client: &mut Client, event: &str, data: &Value) {
    client.send(Opcode::Text, json!({"event": event, "data": data}).to_string().as_bytes());
}

#[test]
fn the_connect_hook_decides_about_connections_of_an_app_that_asks_it() {
    let application = Application::start();
    let server = server(&application.url("/connect"));
    application.respond("/connect", json!({"result": {"user": "56", "labels": {"plan": "pro"}}}));
    event(&mut open(&server, "asks"), "pusher:connection_established");
    let call = application.only_call("/connect");
    assert_eq!(
        (&call.body["transport"], &call.body["user"]),
        (&json!("pusher"), &Value::Null),
        "{}",
        call.body
    );
    assert!(call.body["client"].is_string(), "{}", call.body);
    // The other app does not ask it.
    event(&mut open(&server, "open"), "pusher:connection_established");
    assert_eq!(application.calls("/connect").len(), 1);
}

#[test]
fn a_connection_that_the_hook_refuses_is_closed_with_4009_and_one_that_it_cannot_decide_with_4100() {
    let application = Application::start();
    let server = server(&application.url("/connect"));
    let closed = |code: u16, text: &str| {
        let mut client = open(&server, "asks");
        let error = event(&mut client, "pusher:error");
        assert_eq!(error["data"]["code"], code, "{error}");
        assert!(error["data"]["message"].as_str().is_some_and(|found| found.contains(text)), "{error}");
        let close = client.next();
        assert!(matches!(close, Received::Close(number, _) if number == code), "{close:?}");
    };
    application.respond("/connect", json!({"disconnect": {"code": 4501, "reason": "not today"}}));
    closed(4009, "not today");
    application.respond("/connect", json!({"error": {"code": 1000, "message": "no seat"}}));
    closed(4009, "no seat");
    application.respond_with("/connect", 500, "");
    closed(4100, "");
    wait_until(PATIENCE, "no connection", || server.metric("tidings_pusher_connections{app=\"asks\"}") == 0);
}

#[test]
fn commands_wait_for_the_answer_of_the_connect_hook_and_a_user_who_signs_in_keeps_its_expiry() {
    let application = Application::start();
    let server = server(&application.url("/connect"));
    application.hold("/connect");
    let mut client = open(&server, "asks");
    send(&mut client, "pusher:subscribe", &json!({"channel": "news"}));
    application.wait_for("/connect", 1);
    assert_eq!(server.metric("tidings_subscriptions"), 0);
    application.respond("/connect", json!({"result": {"user": "", "expire_at": now() + 8}}));
    let established = event(&mut client, "pusher:connection_established");
    event(&mut client, "pusher_internal:subscription_succeeded");
    let data: Value = serde_json::from_str(established["data"].as_str().expect("a text")).expect("JSON");
    let socket = data["socket_id"].as_str().expect("a socket id");
    let user = r#"{"id":"ann"}"#;
    let auth = format!("asks:{}", Key::new("s1").sign(format!("{socket}::user::{user}").as_bytes()));
    send(&mut client, "pusher:signin", &json!({"auth": auth, "user_data": user}));
    event(&mut client, "pusher:signin_success");
    // The client connects again, and the hook is called again.
    let error = event(&mut client, "pusher:error");
    assert_eq!(error["data"]["code"], 4200, "{error}");
}

#[test]
fn an_app_cannot_ask_a_hook_that_does_not_exist() {
    let app = [("pusher.apps", "a"), ("pusher.apps.a.key", "k"), ("pusher.apps.a.secret", "s")];
    let error =
        load(&[&app[..], &[("pusher.apps.a.connect_proxy_enabled", "true")]].concat()).expect_err("no hook");
    assert!(error.contains("needs client.proxy.connect.enabled"), "{error}");
}

#[test]
fn webhooks_are_signed_with_the_secret_of_the_last_reload_and_end_with_their_app() {
    let application = Application::start();
    application.respond("/hook", "");
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("c.toml");
    let write = |secret: &str| {
        let app = format!(
            "[[pusher.apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"{secret}\"\nwebhooks = [\"{}\"]\n",
            application.url("/hook")
        );
        let text = format!(
            "http_api.key = \"s3cret\"\nwebhooks.interval = \"100ms\"\nwebhooks.grace = \"200ms\"\n{}",
            if secret.is_empty() { String::new() } else { app }
        );
        std::fs::write(&file, text).expect("a file");
    };
    write("old");
    let server = ServerWithHooks::with_file(&file);
    let mut client = open(&server, "k");
    event(&mut client, "pusher:connection_established");
    // The names of occupied channels in requests that are signed with a secret.
    let occupied = |secret: &str| -> Vec<Value> {
        let is_signed = |call: &crate::application::HookCall| {
            let (time, events) = (&call.body["time_ms"], &call.body["events"]);
            let text = format!("{{\"time_ms\":{time},\"events\":{events}}}");
            call.header("x-pusher-signature") == Some(&*Key::new(secret).sign(text.as_bytes()))
        };
        let calls = application.calls("/hook").into_iter().filter(is_signed);
        let events = calls.flat_map(|call| call.body["events"].as_array().expect("events").clone());
        let names = events.filter(|event| event["name"] == "channel_occupied");
        names.map(|event| event["channel"].clone()).collect()
    };
    send(&mut client, "pusher:subscribe", &json!({"channel": "one"}));
    wait_until(PATIENCE, "the first webhook", || occupied("old") == ["one"]);
    write("new");
    server.runtime.block_on(server.server().reload()).expect("a reload");
    send(&mut client, "pusher:subscribe", &json!({"channel": "two"}));
    wait_until(PATIENCE, "the second webhook", || occupied("new") == ["two"]);
    write("");
    server.runtime.block_on(server.server().reload()).expect("a reload");
    let mut line = server.line();
    line.send("AUTH s3cret");
    line.expect("CONFIRMED");
    line.send("SUBSCRIBE three");
    line.expect("CONFIRMED");
    // Longer than an observation and the time of grace.
    std::thread::sleep(std::time::Duration::from_millis(800));
    let calls = application.calls("/hook");
    assert!(
        !calls.iter().any(|call| call.body["events"].to_string().contains("three")),
        "its app is removed"
    );
}
