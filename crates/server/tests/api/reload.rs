//! Reloads of the configuration while clients are connected.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::{HttpResponse, LineClient, PATIENCE, wait_until};

use crate::api_server::{JsonClient, json_of};
use crate::support::TestServer;

pub(crate) const KEY: &str = "X-API-Key: first-s3cret";

/// A server with a configuration file.
pub(crate) struct Reloading {
    pub(crate) server: TestServer,
    path: PathBuf,
    _folder: TempDir,
}

impl Reloading {
    pub(crate) fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).expect("a file");
        Self { server: TestServer::start_with_file(Some(&path), &[]), path, _folder: folder }
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(&self.path, text).expect("a file");
    }

    /// Changes the file and reloads it with a key. Returns the result.
    pub(crate) fn reload(&self, text: &str, key: &str) -> Value {
        self.write(text);
        let answer = self.server.post("/api/reload", &[key], "{}");
        assert_eq!(answer.status, 200, "{}", answer.body);
        json_of(&answer)["result"].take()
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> HttpResponse {
        self.server.post(path, &[key], &body.to_string())
    }
}

/// Opens a stream of a channel with further headers. Returns the status, and the stream after the head.
fn open_events(server: &TestServer, channel: &str, headers: &str) -> (u16, BufReader<TcpStream>) {
    let mut stream = BufReader::new(server.connect());
    let request = format!("GET /events?channel={channel} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    stream.get_mut().write_all(request.as_bytes()).expect("sent");
    (HttpResponse::read_head(&mut stream).status, stream)
}

pub(crate) const BASE: &str = "\
http_api.key = \"first-s3cret\"
[client]
allow_anonymous_connect_without_token = true
[channel.without_namespace]
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
";

#[test]
fn a_subscription_stays_and_new_operations_use_the_new_options_on_every_transport() {
    let world = Reloading::start(BASE);
    let server = &world.server;
    let mut line = server.subscriber("news");
    let mut json = JsonClient::anonymous(server.tcp());
    json.call("subscribe", &json!({"channel": "news"}));
    let mut resp = server.resp();
    resp.command(&["SUBSCRIBE", "news"]);
    let (status, mut events) = open_events(server, "news", "");
    assert_eq!(status, 200);
    wait_until(PATIENCE, "four subscriptions", || server.metric("tidings_subscriptions") >= 4);

    let result = world.reload(&BASE.replace("allow_subscribe_for_client = true", ""), KEY);
    assert_eq!(result["changed"], json!(["channel.without_namespace.allow_subscribe_for_client"]));
    let sent = world.post("/api/publish", KEY, &json!({"channel": "news", "data": "after"}));
    assert_eq!(sent.status, 200);
    line.expect("MESSAGE news \"after\"");
    assert_eq!(json.push("pub").0, "news");
    assert_eq!(resp.reply().texts(), ["message", "news", "\"after\""]);
    let mut data = String::new();
    while !data.starts_with("data:") || !data.contains("after") {
        data.clear();
        assert!(events.read_line(&mut data).expect("an event") > 0, "the stream has ended");
    }
    line.send("SUBSCRIBE sport");
    line.expect("ERROR 103 permission denied");
    let refused = json.try_call("subscribe", &json!({"channel": "sport"})).expect_err("denied");
    assert_eq!(refused["code"], 103);
    assert_eq!(open_events(server, "sport", "").0, 403);
}

#[test]
fn namespaces_limits_and_origins_change_without_a_restart() {
    let world = Reloading::start(BASE);
    let server = &world.server;
    let mut line = server.line();
    line.send("SUBSCRIBE chat:1");
    line.expect("CONFIRMED");
    let more = |address: &str| {
        let client = "[client]\nchannel_limit = 3\nallowed_origins = [\"https://a.example\"]\n";
        let namespace = "[[channel.namespaces]]\nname = \"chat\"\nhistory_size = 10\nhistory_ttl = \"1m\"\n";
        format!("{}{address}[tcp]\nmax_line = 100\n{namespace}", BASE.replace("[client]\n", client))
    };
    let result = world.reload(&more("[limits.address]\ncommands = 3\n"), KEY);
    for option in [
        "client.channel_limit",
        "client.allowed_origins",
        "limits.address.commands",
        "channel.namespaces.chat",
    ] {
        assert!(result["changed"].as_array().expect("a list").contains(&json!(option)), "{result}");
    }
    // The limit of commands applies to the connection that began without one.
    let mut refused = 0;
    for _ in 0..10 {
        line.send("PING");
        refused += usize::from(line.line().starts_with("ERROR 111"));
    }
    assert!(refused >= 5, "{refused}");
    world.reload(&more(""), KEY);
    // With the automatic subscription, these are three and four.
    for (channel, answer) in [("sport", "CONFIRMED"), ("more", "ERROR 106")] {
        line.send(&format!("SUBSCRIBE {channel}"));
        assert!(line.line().starts_with(answer), "{channel}");
    }
    let mut other = server.line();
    for (channel, answer) in [("chat:2", "ERROR 103"), ("other:1", "ERROR 102")] {
        other.send(&format!("SUBSCRIBE {channel}"));
        assert!(other.line().starts_with(answer), "{channel}");
    }
    let sent = world.post("/api/publish", KEY, &json!({"channel": "chat:1", "data": 1}));
    assert_eq!(json_of(&sent)["result"]["offset"], 1, "the namespace has a history now");
    let cross = |origin: &str| open_events(server, "news", &format!("Origin: {origin}\r\n")).0;
    assert_eq!([cross("https://a.example"), cross("https://b.example")], [200, 403]);
    other.send(&"x".repeat(101));
    assert!(other.line().contains("100 bytes"));
}

#[test]
fn keys_rotate_without_an_interruption_and_a_removed_key_ends_its_connections() {
    let world = Reloading::start(BASE);
    let server = &world.server;
    let mut old = server.line();
    old.send("AUTH first-s3cret");
    old.expect("CONFIRMED");
    let publish = |key: &str| {
        world
            .post("/api/publish", &format!("X-API-Key: {key}"), &json!({"channel": "news", "data": 1}))
            .status
    };
    let second = "[[http_api.keys]]\nname = \"second\"\nkey = \"second-s3cret\"\nscopes = [\"publish\", \"read\", \"manage\"]\n";
    let result = world.reload(&format!("{BASE}{second}"), KEY);
    assert_eq!(result["changed"], json!(["http_api.keys.second"]));
    assert_eq!([publish("first-s3cret"), publish("second-s3cret")], [200, 200]);
    let mut new = server.line();
    new.send("AUTH second-s3cret");
    new.expect("CONFIRMED");
    world.reload(&format!("{}{second}", BASE.replace("first-s3cret", "")), KEY);
    assert_eq!([publish("first-s3cret"), publish("second-s3cret")], [401, 200]);
    assert!(old.line().contains("the API key is no longer valid"));
    old.expect_closed();
    new.send("PUBLISH news still");
    new.expect("CONFIRMED");
}

#[test]
fn a_file_with_errors_changes_nothing_and_the_answer_has_all_of_them() {
    let world = Reloading::start(BASE);
    let digest = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("tidings_config_info{")).expect("a digest");
        line.to_owned()
    };
    let before = digest(&world.server.get("/metrics").body);
    world.write(&format!("{BASE}[tcp]\nechoo = true\nmax_line = 1\n"));
    let answer = world.post("/api/reload", KEY, &json!({}));
    let error = json_of(&answer)["error"].take();
    assert_eq!((answer.status, &error["code"]), (200, &json!(107)));
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("echoo") && message.contains("64 bytes to 16 MiB"), "{message}");
    assert!(!message.contains("s3cret"), "{message}");
    let metrics = world.server.get("/metrics").body;
    assert_eq!(digest(&metrics), before);
    assert_eq!(world.server.metric("tidings_config_reloads_total{result=\"failure\"}"), 1);
    assert_eq!(world.server.metric("tidings_config_last_reload_successful"), 0);
    // An error that only a part of the server finds.
    let client = "[client]\nchannel_limit = 1\n";
    world.write(&format!(
        "{}[client.subscription_token]\nenabled = true\n",
        BASE.replace("[client]\n", client)
    ));
    let error = json_of(&world.post("/api/reload", KEY, &json!({})))["error"].take();
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains("client.subscription_token")),
        "{error}"
    );
    let mut line = world.server.line();
    for channel in ["a", "b"] {
        line.send(&format!("SUBSCRIBE {channel}"));
        line.expect("CONFIRMED");
    }
}

#[test]
fn options_that_need_a_restart_are_named_until_then() {
    let world = Reloading::start(BASE);
    for _ in 0..2 {
        let result = world.reload(&format!("shards = 5\n{BASE}[memory]\nmax_total = \"200MiB\"\n"), KEY);
        assert_eq!(result["restart_required"], json!(["shards", "memory.max_total"]));
        assert_eq!(result["changed"], json!([]));
    }
    assert_eq!(world.server.metric("tidings_config_reloads_total{result=\"success\"}"), 2);
}

#[test]
fn reloads_at_the_same_time_all_get_an_answer() {
    let world = Reloading::start(BASE);
    let address = world.server.http();
    let requests: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                tidings_testkit::post_http(address, "/api/reload", &[KEY], "{}").status
            })
        })
        .collect();
    for request in requests {
        assert_eq!(request.join().expect("no panic"), 200);
    }
}

#[test]
fn a_workbench_becomes_protected_by_a_key() {
    let world = Reloading::start("");
    let mut line = LineClient::connect(world.server.tcp());
    line.send("SUBSCRIBE news");
    line.expect("CONFIRMED");
    let other_host = "GET / HTTP/1.1\r\nHost: push.example\r\nConnection: close\r\n\r\n";
    assert_eq!(world.server.send(other_host).status, 421);
    world.reload("http_api.key = \"first-s3cret\"\n", "X-None: 1");
    assert_eq!(world.post("/api/info", "X-None: 1", &json!({})).status, 401);
    assert_eq!(world.post("/api/info", KEY, &json!({})).status, 200);
    assert_eq!(world.server.send(other_host).status, 200);
    line.send("PUBLISH news no");
    line.expect("ERROR 103 permission denied");
    let sent = world.post("/api/publish", KEY, &json!({"channel": "news", "data": "yes"}));
    assert_eq!(sent.status, 200);
    line.expect("MESSAGE news \"yes\"");
}
