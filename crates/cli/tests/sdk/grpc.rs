//! gRPC, with grpcio of Python: its clients of this server's ports, and its servers as applications behind hooks.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::{PATIENCE, Tidings, metric, test_tool, wait_until};

use crate::test_servers::{API_KEY, SECRET, TIDINGS, root};

/// Runs a script of `tests/clients/grpc` to its end.
fn run(script: &str, args: &[&str]) {
    let mut command = Command::new(test_tool("grpc-python").join("bin/python"));
    command.arg(root().join("tests/clients/grpc").join(script)).args(args);
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{script}: {}\n{}", text(&output.stdout), text(&output.stderr));
}

/// A connection token of the user 7.
fn token() -> String {
    let output = Command::new(TIDINGS)
        .args(["token", "connection", "7"])
        .env("TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY", SECRET)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// Runs the script against a server with the port of the API over gRPC, and with a subscribed client.
fn server_api(more: &[&str], certificate: Option<&str>) {
    let keys = format!("http_api.key={API_KEY}");
    let secret = format!("client.token.hmac_secret_key={SECRET}");
    let options = [
        "grpc_api.enabled=true",
        "grpc_api.port=0",
        "grpc_api.reflection=true",
        "grpc_api.key=a key of this port alone",
        "grpc_api.max_receive_message_size=65536",
        &keys,
        &secret,
        "http_api.keys=reader",
        "http_api.keys.reader.key=a key that may read alone",
        "http_api.keys.reader.scopes=read",
        "channel.namespaces=chat,board",
        "channel.namespaces.chat.history_size=100",
        "channel.namespaces.chat.history_ttl=60s",
        "channel.namespaces.chat.presence=true",
        "channel.namespaces.chat.allow_subscribe_for_client=true",
        "channel.namespaces.board.subscription_type=map",
        "channel.namespaces.board.map.mode=persistent",
    ];
    let flags: Vec<_> = options.iter().chain(more).flat_map(|option| ["--set", option]).collect();
    let server = Tidings::start(TIDINGS, &flags);
    let listeners = server.listeners("grpc");
    let mut client = tidings_testkit::LineClient::connect(server.tcp());
    client.send(&json!({"id": 1, "connect": {"token": token()}}).to_string());
    client.send(&json!({"id": 2, "subscribe": {"channel": "chat:live"}}).to_string());
    for id in [1, 2] {
        let reply: Value = serde_json::from_str(&client.line()).expect("JSON");
        assert!(reply["id"] == json!(id) && reply.get("error").is_none(), "{reply}");
    }
    let place = json!({
        "grpc": listeners[0].replace("127.0.0.1", "localhost"),
        "http": server.http_url(),
        "key": API_KEY,
        "grpcKey": "a key of this port alone",
        "readKey": "a key that may read alone",
        "certificate": certificate,
    });
    let proto = root().join("proto");
    run("server_api.py", &[&place.to_string(), proto.to_str().expect("UTF-8")]);
    let calls =
        |status| metric(server.http(), &format!("tidings_grpc_api_calls_total{{status=\"{status}\"}}"));
    assert!(
        calls("OK") > 30 && calls("UNAUTHENTICATED") == 2,
        "{} {}",
        calls("OK"),
        calls("UNAUTHENTICATED")
    );
}

#[test]
fn grpcio_calls_every_method_of_the_server_api() {
    server_api(&[], None);
}

#[test]
fn grpcio_calls_the_server_api_over_tls() {
    let dir = TempDir::new().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let certificate = write("cert.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    let options =
        [format!("grpc_api.tls.cert_pem_file={certificate}"), format!("grpc_api.tls.key_pem_file={key}")];
    server_api(&["grpc_api.tls.enabled=true", &options[0], &options[1]], Some(&certificate));
}

#[test]
fn a_port_of_grpc_that_other_machines_can_reach_needs_a_key() {
    let refused = Command::new(TIDINGS)
        .args(["serve", "--set", "grpc_api.enabled=true", "--set", "grpc_api.address=0.0.0.0"])
        .output()
        .expect("the program runs");
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("0.0.0.0:10000 is not a loopback address"), "{error}");
    for (option, reason) in [
        ("grpc_api.address=a b", "grpc_api.address"),
        ("grpc_api.tls.enabled=true", "grpc_api.tls.cert_pem_file"),
    ] {
        let refused = Command::new(TIDINGS)
            .args(["serve", "--set", "grpc_api.enabled=true", "--set", option])
            .output()
            .expect("the program runs");
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && error.contains(reason), "{option}: {error}");
    }
}

/// An application with gRPC, until it is dropped.
struct Application(std::process::Child);

impl Application {
    /// Starts it; returns its endpoint.
    fn start() -> (Self, String) {
        let mut process = Command::new(test_tool("grpc-python").join("bin/python"))
            .arg(root().join("tests/clients/grpc/application.py"))
            .arg(root().join("proto"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let mut port = String::new();
        let stdout = process.stdout.take().expect("a piped stdout");
        BufReader::new(stdout).read_line(&mut port).expect("the port");
        (Self(process), format!("grpc://localhost:{}", port.trim()))
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn streams_of_subscriptions_work_with_centrifuge_js_unchanged() {
    let (_application, endpoint) = Application::start();
    let endpoints =
        ["channel.proxy.subscribe_stream", "rpc.proxy"].map(|hook| format!("{hook}.endpoint={endpoint}"));
    let options = [
        &endpoints[0],
        &endpoints[1],
        "client.insecure=true",
        "channel.namespaces=one,both",
        "channel.namespaces.one.subscribe_stream_proxy_enabled=true",
        "channel.namespaces.both.subscribe_stream_proxy_enabled=true",
        "channel.namespaces.both.subscribe_stream_bidirectional=true",
    ];
    let flags: Vec<_> = options.iter().flat_map(|option| ["--set", option]).collect();
    let server = Tidings::start(TIDINGS, &flags);
    let mut command = Command::new("node");
    command
        .env("TIDINGS_NODE_MODULES", test_tool("sdk-node"))
        .arg(root().join("tests/clients/grpc/streams.mjs"))
        .arg(server.http_url().replace("http", "ws").trim_end_matches('/'));
    let output = command.output().expect("node runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_until(PATIENCE, "no stream", || metric(server.http(), "tidings_hook_streams") == 0);
}

/// Runs the script of the one-way transport against a server, which stops at the end of the script.
fn one_way(more: &[&str], certificate: Option<&str>) {
    let keys = format!("http_api.key={API_KEY}");
    let secret = format!("client.token.hmac_secret_key={SECRET}");
    let options = [
        "uni_grpc.enabled=true",
        "uni_grpc.port=0",
        &keys,
        &secret,
        "client.ping_interval=1s",
        "client.subscribe_to_user_personal_channel.enabled=true",
        "channel.without_namespace.allow_subscribe_for_client=true",
        "channel.without_namespace.slow_consumer=cut",
        "channel.namespaces=chat",
        "channel.namespaces.chat.history_size=1000",
        "channel.namespaces.chat.history_ttl=60s",
        "channel.namespaces.chat.force_recovery=true",
        "channel.namespaces.chat.allow_subscribe_for_client=true",
    ];
    let flags: Vec<_> = options.iter().chain(more).flat_map(|option| ["--set", option]).collect();
    let mut server = Tidings::start(TIDINGS, &flags);
    let listeners = server.listeners("uni_grpc");
    let place = json!({
        "grpc": listeners[0].replace("127.0.0.1", "localhost"),
        "http": server.http_url(),
        "key": API_KEY,
        "token": token(),
        "certificate": certificate,
        "drain": true,
    });
    let mut client = Command::new(test_tool("grpc-python").join("bin/python"))
        .arg(root().join("tests/clients/grpc/uni.py"))
        .args([&place.to_string(), root().join("proto").to_str().expect("UTF-8")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let mut line = String::new();
    let stdout = client.stdout.take().expect("a piped stdout");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    if line.trim() == "ready" {
        wait_until(PATIENCE, "one session", || {
            metric(server.http(), "tidings_sessions{dialect=\"uni_grpc\"}") == 1
        });
        assert_eq!(server.terminate(), 0);
    }
    let status = client.wait().expect("the script ends");
    assert!(status.success() && line.trim() == "ready", "{status}");
}

#[test]
fn grpcio_receives_pushes_over_the_one_way_transport() {
    one_way(&[], None);
}

#[test]
fn grpcio_receives_pushes_over_the_one_way_transport_with_tls() {
    let dir = TempDir::new().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let certificate = write("cert.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    let options =
        [format!("uni_grpc.tls.cert_pem_file={certificate}"), format!("uni_grpc.tls.key_pem_file={key}")];
    one_way(&["uni_grpc.tls.enabled=true", &options[0], &options[1]], Some(&certificate));
}
