//! Apps of the Pusher protocol that a reload adds, changes and removes, while clients are connected.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_pusher::Key;
use tidings_testkit::{HttpResponse, PATIENCE, wait_until};
use tidings_wire::ws::{Kind, Opcode};

use crate::support::TestServer;
use crate::support::websocket::{Client, Received};

/// A server with apps in a file.
struct Apps {
    server: TestServer,
    path: PathBuf,
    _folder: TempDir,
}

impl Apps {
    fn start(text: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).expect("a file");
        Self { server: TestServer::start_with_file(Some(&path), &[]), path, _folder: folder }
    }

    /// Reloads with another file. Returns the options that need a restart.
    fn reload(&self, text: &str) -> Vec<String> {
        std::fs::write(&self.path, text).expect("a file");
        let report = self.server.runtime.block_on(self.server.server().reload()).expect("a reload");
        report.restart_required
    }

    fn post(&self, app: [&str; 3], channel: &str) -> HttpResponse {
        let [id, key, secret] = app;
        let path = format!("/apps/{id}/events");
        let body = json!({"name": "e", "data": "1", "channel": channel}).to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let query = Key::new(secret).sign_request(key, "POST", &path, body.as_bytes(), now);
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.server.post(&format!("{path}?{}", query.join("&")), &[], &body)
    }

    fn connections(&self, app: &str) -> u64 {
        self.server.metric(&format!("tidings_pusher_connections{{app=\"{app}\"}}"))
    }
}

/// The table of an app.
fn app(id: &str, key: &str, secret: &str, more: &str) -> String {
    format!("[[pusher.apps]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n{more}\n")
}

/// A client of an app.
struct PusherClient {
    client: Client,
    /// The data of `pusher:connection_established`.
    established: Value,
}

impl PusherClient {
    fn open(server: &TestServer, key: &str) -> Client {
        Client::open(server, &format!("/app/{key}?protocol=7"), "", &[])
    }

    fn connect(server: &TestServer, key: &str) -> Self {
        let mut client = Self { client: Self::open(server, key), established: Value::Null };
        let message = client.event("pusher:connection_established");
        client.established = serde_json::from_str(message["data"].as_str().expect("a text")).expect("JSON");
        client
    }

    /// Subscribes, to a private channel with a signature. Returns the name of the answer.
    fn subscribe(&mut self, channel: &str, key: &str, secret: &str) -> String {
        let socket = self.established["socket_id"].as_str().expect("a socket id");
        let auth = format!("{key}:{}", Key::new(secret).sign(format!("{socket}:{channel}").as_bytes()));
        let data = json!({"channel": channel, "auth": auth});
        let message = json!({"event": "pusher:subscribe", "data": data}).to_string();
        self.client.send(Opcode::Text, message.as_bytes());
        self.message()["event"].as_str().expect("a name").to_owned()
    }

    fn message(&mut self) -> Value {
        self.client.json().remove(0)
    }

    fn event(&mut self, name: &str) -> Value {
        let message = self.message();
        assert_eq!(message["event"], name, "{message}");
        message
    }
}

/// Asserts that the server reports an error and closes the connection with its code.
fn assert_closed(client: &mut Client, code: u16) {
    let error = client.json().remove(0);
    assert_eq!((&error["event"], &error["data"]["code"]), (&json!("pusher:error"), &json!(code)), "{error}");
    let close = client.next();
    assert!(matches!(close, Received::Close(number, _) if number == code), "{close:?}");
}

const SUCCEEDED: &str = "pusher_internal:subscription_succeeded";

#[test]
fn a_new_app_serves_at_once_and_other_connections_are_not_touched() {
    let first = app("1", "k1", "s1", "");
    let apps = Apps::start(&first);
    let mut client = PusherClient::connect(&apps.server, "k1");
    assert_eq!(client.subscribe("news", "k1", "s1"), SUCCEEDED);
    let second = format!("{first}{}", app("2", "k2", "s2", "channel_prefix = \"two:\""));
    assert_eq!(apps.reload(&second), [""; 0]);
    let mut new = PusherClient::connect(&apps.server, "k2");
    assert_eq!(new.subscribe("private-news", "k2", "s2"), SUCCEEDED);
    assert_eq!(apps.post(["2", "k2", "s2"], "private-news").status, 200);
    assert_eq!(new.event("e")["channel"], "private-news");
    assert_eq!(apps.post(["1", "k1", "s1"], "news").status, 200);
    assert_eq!(client.event("e")["channel"], "news");
    assert_eq!((apps.connections("1"), apps.connections("2")), (1, 1));
}

#[test]
fn apps_are_added_to_a_server_that_had_none() {
    let apps = Apps::start("http_api.key = \"s3cret\"\n");
    assert_eq!(apps.post(["1", "k1", "s1"], "news").status, 404);
    apps.reload(&format!("http_api.key = \"s3cret\"\n{}", app("1", "k1", "s1", "")));
    let mut client = PusherClient::connect(&apps.server, "k1");
    assert_eq!(client.subscribe("news", "k1", "s1"), SUCCEEDED);
    assert_eq!(apps.post(["1", "k1", "s1"], "news").status, 200);
    client.event("e");
}

#[test]
fn the_connections_of_a_removed_app_are_closed_with_4001_and_no_others() {
    let kept = app("1", "k1", "s1", "");
    let both = format!("{kept}{}", app("2", "k2", "s2", "channel_prefix = \"two:\""));
    let apps = Apps::start(&both);
    let mut client = PusherClient::connect(&apps.server, "k1");
    let mut removed = PusherClient::connect(&apps.server, "k2");
    assert_eq!(client.subscribe("news", "k1", "s1"), SUCCEEDED);
    let mut line = apps.server.line();
    apps.reload(&kept);
    assert_closed(&mut removed.client, 4001);
    assert_closed(&mut PusherClient::open(&apps.server, "k2"), 4001);
    assert_eq!(apps.post(["2", "k2", "s2"], "news").status, 404);
    assert_eq!(apps.post(["1", "k1", "s1"], "news").status, 200);
    client.event("e");
    line.send("PING");
    line.expect("PONG");
    // Its connections are not counted when it returns.
    apps.reload(&both);
    assert_eq!(apps.connections("2"), 0);
    let _again = PusherClient::connect(&apps.server, "k2");
    assert_eq!(apps.connections("2"), 1);
}

#[test]
fn the_connections_of_a_changed_key_are_closed_with_4001_and_counted_once() {
    let apps = Apps::start(&app("1", "k1", "s1", ""));
    let mut before = PusherClient::connect(&apps.server, "k1");
    apps.reload(&app("1", "new", "s1", ""));
    assert_closed(&mut before.client, 4001);
    let mut client = PusherClient::connect(&apps.server, "new");
    assert_eq!(client.subscribe("news", "new", "s1"), SUCCEEDED);
    drop(before);
    wait_until(PATIENCE, "the end of the first connection", || {
        apps.server.metric("tidings_sessions{dialect=\"pusher\"}") == 1
    });
    assert_eq!(apps.connections("1"), 1);
}

#[test]
fn clients_connect_again_when_the_channels_of_their_app_get_other_names() {
    let apps = Apps::start(&app("1", "k1", "s1", ""));
    let mut client = PusherClient::connect(&apps.server, "k1");
    apps.reload(&app("1", "k1", "s1", "channel_prefix = \"one:\""));
    assert_closed(&mut client.client, 4200);
    let mut client = PusherClient::connect(&apps.server, "k1");
    assert_eq!(client.subscribe("news", "k1", "s1"), SUCCEEDED);
    let mut line = apps.server.line();
    line.send("SUBSCRIBE one:news");
    line.expect("ERROR 103 permission denied");
}

#[test]
fn a_new_secret_is_used_for_everything_that_is_signed_later() {
    let apps = Apps::start(&app("1", "k1", "old", ""));
    let mut client = PusherClient::connect(&apps.server, "k1");
    assert_eq!(client.subscribe("private-a", "k1", "old"), SUCCEEDED);
    apps.reload(&app("1", "k1", "new", ""));
    assert_eq!(client.subscribe("private-b", "k1", "old"), "pusher:subscription_error");
    assert_eq!(client.subscribe("private-b", "k1", "new"), SUCCEEDED);
    assert_eq!(apps.post(["1", "k1", "old"], "private-a").status, 401);
    assert_eq!(apps.post(["1", "k1", "new"], "private-a").status, 200);
    assert_eq!(client.event("e")["channel"], "private-a");
}

#[test]
fn limits_origins_and_times_change_at_once() {
    let apps = Apps::start(&app("1", "k1", "s1", ""));
    let mut client = PusherClient::connect(&apps.server, "k1");
    assert_eq!(client.established["activity_timeout"], 120);
    let more = "client_events = true\nallowed_origins = [\"https://a.example\"]\n\
                limits = { connections = 1, client_event_rate = 1 }\n[pusher]\nactivity_timeout = \"30s\"\n";
    apps.reload(&app("1", "k1", "s1", more));
    assert_closed(&mut PusherClient::open(&apps.server, "k1"), 4004);
    assert_eq!(client.subscribe("private-a", "k1", "s1"), SUCCEEDED);
    let event = json!({"event": "client-a", "channel": "private-a", "data": 1}).to_string();
    for _ in 0..3 {
        client.client.send(Opcode::Text, event.as_bytes());
    }
    let error = client.event("pusher:error");
    assert!(error["data"]["message"].as_str().is_some_and(|text| text.contains("limits.client_event_rate")));
    drop(client);
    wait_until(PATIENCE, "the end of the connection", || apps.connections("1") == 0);
    let origin = "Origin: https://a.example\r\n";
    let mut client = Client::open(&apps.server, "/app/k1?protocol=7", origin, &[]);
    let Received::Message(Kind::Text, text) = client.next() else { panic!("a message was expected") };
    assert!(String::from_utf8_lossy(&text).contains(r#"\"activity_timeout\":30"#), "{text:?}");
}
