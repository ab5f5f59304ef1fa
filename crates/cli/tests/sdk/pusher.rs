//! The clients and server libraries of the Pusher protocol: pusher-js in Node and in Chromium, laravel-echo, and `pusher` of
//! JavaScript and Python, against two nodes on one Redis.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::{RedisServer, Tidings, free_port, test_tool};

use crate::test_servers::{API_KEY, SECRET, TIDINGS, root};

/// Two nodes of one deployment with two apps.
struct Nodes {
    nodes: [Tidings; 2],
    _redis: RedisServer,
    _folder: TempDir,
}

impl Nodes {
    fn start() -> Self {
        let redis = RedisServer::start();
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("two.toml");
        let text = format!(
            "[client.token]\nhmac_secret_key = \"{SECRET}\"\n[http_api]\nkey = \"{API_KEY}\"\n\
             [[pusher.apps]]\nid = \"1\"\nkey = \"app-key\"\nsecret = \"the secret of the first app here\"\nclient_events = true\n\
             watchlist_events = true\n\
             [[pusher.apps]]\nid = \"shop\"\nkey = \"shop-key\"\nsecret = \"the secret of the second app here\"\n\
             channel_prefix = \"shop:\"\nsubscription_count = true\n"
        );
        std::fs::write(&file, text).expect("a file");
        let flags = ["--config", file.to_str().expect("a path in UTF-8"), "--broker", &redis.url()];
        let nodes = [Tidings::start(TIDINGS, &flags), Tidings::start(TIDINGS, &flags)];
        Self { nodes, _redis: redis, _folder: folder }
    }

    /// The addresses for a script.
    fn place(&self) -> Value {
        json!({
            "nodes": self.nodes.each_ref().map(Tidings::http_url),
            "line": self.nodes[1].tcp().to_string(),
            "apiKey": API_KEY,
            "victim": self.nodes[1].pid(),
            "apps": [
                {"id": "1", "key": "app-key", "secret": "the secret of the first app here"},
                {"id": "shop", "key": "shop-key", "secret": "the secret of the second app here"},
            ],
        })
    }
}

/// Runs a script to its end.
fn run(mut command: Command, place: &Value) {
    command
        .env("TIDINGS_NODE_MODULES", test_tool("pusher-node"))
        .env("TIDINGS_BROWSER_MODULES", test_tool("browser"))
        .arg(place.to_string())
        .args(std::env::var_os("TIDINGS_SCENARIO"));
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(root().join("tests/clients/pusher").join(script));
    command
}

#[test]
fn pusher_js_and_laravel_echo_work_unchanged_on_two_nodes() {
    let nodes = Nodes::start();
    run(node("pusher.mjs"), &nodes.place());
}

#[test]
fn pusher_js_works_unchanged_in_a_browser_without_any_option() {
    let server = Tidings::start(TIDINGS, &[]);
    run(node("chromium.mjs"), &json!({"node": server.http_url()}));
}

#[test]
fn laravel_echo_works_unchanged_in_a_browser_as_the_documentation_of_laravel_has_it() {
    let server = Tidings::start(TIDINGS, &[]);
    run(node("echo.mjs"), &json!({"node": server.http_url()}));
}

#[test]
fn the_server_library_of_python_works_unchanged() {
    let nodes = Nodes::start();
    let mut command = Command::new(test_tool("pusher-python").join("bin/python"));
    command.arg(root().join("tests/clients/pusher/server.py"));
    run(command, &nodes.place());
}

/// Runs the scenario of webhooks, and kills the node with this number in the end.
fn webhooks_arrive_once(victim: usize) {
    let (redis, folder, port) = (RedisServer::start(), TempDir::new().expect("a folder"), free_port());
    let (file, secret) = (folder.path().join("hooks.toml"), "the secret of an app with webhooks");
    let text = format!(
        "[webhooks]\ninterval = \"200ms\"\ngrace = \"1s\"\n\
         [[pusher.apps]]\nid = \"1\"\nkey = \"app-key\"\nsecret = \"{secret}\"\nclient_events = true\n\
         webhooks = [{{ url = \"http://127.0.0.1:{port}/webhooks\" }}]\n[cluster]\nsecret = \"a secret of the nodes\"\n"
    );
    std::fs::write(&file, text).expect("a file");
    let flags = ["--config", file.to_str().expect("a path in UTF-8"), "--broker", &redis.url()];
    let nodes = [Tidings::start(TIDINGS, &flags), Tidings::start(TIDINGS, &flags)];
    let place = json!({
        "nodes": nodes.each_ref().map(Tidings::http_url),
        "app": {"id": "1", "key": "app-key", "secret": secret},
        "port": port,
        "victim": nodes[victim].pid(),
        "victimAt": victim,
    });
    run(node("webhooks.mjs"), &place);
}

#[test]
fn webhooks_arrive_once_for_two_nodes_also_when_the_first_is_killed() {
    webhooks_arrive_once(0);
}

#[test]
fn webhooks_arrive_once_for_two_nodes_also_when_the_second_is_killed() {
    webhooks_arrive_once(1);
}
