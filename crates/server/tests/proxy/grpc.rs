//! Hooks over gRPC: an application with grpcio of Python (`tests/clients/grpc/application.py`), whose responses contain what it has got.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::{PATIENCE, test_tool, wait_until};

use crate::server_with_hooks::ServerWithHooks;

/// The application, until it is dropped.
pub(crate) struct Application {
    process: Child,
    pub(crate) endpoint: String,
}

impl Application {
    /// Starts it, with the files of a certificate and its key for TLS.
    pub(crate) fn start(tls: &[&str]) -> Self {
        Self::start_at("0", tls)
    }

    /// Starts it with compressed responses.
    pub(crate) fn start_compressed() -> Self {
        Self::start_with(&[("PORT", "0"), ("GZIP", "1")], &[])
    }

    /// Starts it on a port.
    fn start_at(port: &str, tls: &[&str]) -> Self {
        Self::start_with(&[("PORT", port)], tls)
    }

    fn start_with(variables: &[(&str, &str)], tls: &[&str]) -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut process = Command::new(test_tool("grpc-python").join("bin/python"))
            .arg(root.join("tests/clients/grpc/application.py"))
            .arg(root.join("proto"))
            .args(tls)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let mut port = String::new();
        let stdout = process.stdout.take().expect("a piped stdout");
        BufReader::new(stdout).read_line(&mut port).expect("the port");
        Self { process, endpoint: format!("grpc://localhost:{}", port.trim()) }
    }

    /// A server whose hooks all have this application.
    fn server(&self, more: &[(&str, &str)]) -> ServerWithHooks {
        let endpoint = &*self.endpoint;
        let headers = r#"{"X-Key": "s3cret"}"#;
        let mut options = vec![
            ("client.proxy.connect.enabled", "true"),
            ("client.proxy.connect.endpoint", endpoint),
            ("client.proxy.connect.http.static_headers", headers),
            ("client.proxy.connect.emulated_headers", "X-Agent"),
            ("client.proxy.refresh.enabled", "true"),
            ("client.proxy.refresh.endpoint", endpoint),
            ("client.proxy.refresh.include_connection_meta", "true"),
            ("client.expired_close_delay", "0s"),
            ("client.expired_sub_close_delay", "0s"),
            ("channel.proxy.subscribe.endpoint", endpoint),
            ("channel.proxy.publish.endpoint", endpoint),
            ("channel.proxy.sub_refresh.endpoint", endpoint),
            ("channel.namespaces", "chat,caps"),
            ("channel.namespaces.chat.subscribe_proxy_enabled", "true"),
            ("channel.namespaces.chat.publish_proxy_enabled", "true"),
            ("channel.namespaces.chat.sub_refresh_proxy_enabled", "true"),
            ("channel.namespaces.chat.allow_publish_for_client", "true"),
            ("channel.namespaces.chat.presence", "true"),
            ("channel.namespaces.chat.allow_presence_for_subscriber", "true"),
            ("http_api.key", "k"),
            ("rpc.proxy.endpoint", endpoint),
            ("rpc.proxy.include_connection_meta", "true"),
            ("rpc.proxy.http.static_headers", headers),
        ];
        options.extend_from_slice(more);
        ServerWithHooks::with_key(&options)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn an_application_with_grpc_decides_about_connections_subscriptions_and_publications() {
    let application = Application::start(&[]);
    let server = application.server(&[]);
    let mut client = server.client();
    let connected = client.call_ok("connect", json!({"name": "js", "headers": {"X-Agent": "a"}}));
    let seen = json!({"transport": "tcp", "protocol": "json", "encoding": "json", "key": "s3cret", "agent": "a",
        "deadline": true, "client": true, "name": "js"});
    assert_eq!(connected["data"], seen);
    let subs: Vec<_> = connected["subs"].as_object().expect("channels").keys().collect();
    assert_eq!(subs, ["chat:own", "news"]);
    assert_eq!(connected["subs"]["chat:own"]["data"], json!({"own": 1}));

    let subscribed = client.call_ok("subscribe", json!({"channel": "chat:a", "data": [1]}));
    assert_eq!(subscribed["data"], json!({"channel": "chat:a", "data": [1]}));
    let presence = client.call_ok("presence", json!({"channel": "chat:a"}));
    let info = &presence["presence"][connected["client"].as_str().expect("an id")];
    assert_eq!((&info["conn_info"], &info["chan_info"]), (&json!({"name": "Ann"}), &json!({"sub": 1})));
    assert_eq!(client.call_error("subscribe", json!({"channel": "chat:no"})), (1001, true));
    client.call_ok("subscribe", json!({"channel": "caps:a"}));

    let id = client.send("publish", json!({"channel": "chat:a", "data": {"x": 1}}));
    let messages = [client.message(), client.message()];
    assert!(messages.iter().any(|message| message["id"] == json!(id)), "{messages:?}");
    let publication = messages.iter().find_map(|message| message.get("push")).expect("a push");
    assert_eq!(publication["pub"]["data"], json!({"changed": {"x": 1}, "channel": "chat:a"}));
    assert_eq!(publication["pub"]["tags"], json!({"by": "application"}));
    assert_eq!(client.call_error("publish", json!({"channel": "chat:a", "data": "no"})), (1002, false));

    let reply = client.call_ok("rpc", json!({"method": "count", "data": {"n": 1}}));
    let expected = json!({"transport": "tcp", "protocol": "json", "encoding": "json", "key": "s3cret", "agent": null,
        "deadline": true, "method": "count", "user": "7", "meta": {"role": "admin"}, "data": {"n": 1}, "b64data": ""});
    assert_eq!(reply["data"], expected);
}

#[test]
fn subscriptions_over_grpc_have_filters_and_end_with_the_response_of_the_application() {
    let application = Application::start(&[]);
    let server = application.server(&[]);
    let mut client = server.connected(json!({}));
    client.call_ok("subscribe", json!({"channel": "chat:filtered"}));
    for (team, text) in [("b", "\"hidden\""), ("a", "\"shown\"")] {
        let body = format!(r#"{{"channel":"chat:filtered","data":{text},"tags":{{"team":"{team}"}}}}"#);
        assert_eq!(server.post("/api/publish", &["X-API-Key: k"], &body).status, 200);
    }
    assert_eq!(client.message()["push"]["pub"]["data"], json!("shown"));
    client.call_ok("subscribe", json!({"channel": "chat:short"}));
    let ended = client.message();
    assert_eq!(ended["push"]["channel"], json!("chat:short"), "{ended}");
    assert!(ended["push"].get("unsubscribe").is_some(), "{ended}");
}

#[test]
fn a_connection_that_expires_is_renewed_over_grpc() {
    let application = Application::start(&[]);
    let server = application.server(&[]);
    let mut client = server.connected(json!({"data": {"ttl": 1}}));
    wait_until(PATIENCE, "the renewal", || server.metric("tidings_hook_calls_total{hook=\"refresh\"}") == 1);
    let reply = client.call_ok("rpc", json!({"method": "still here"}));
    assert_eq!(reply["data"]["user"], json!("7"));
}

#[test]
fn messages_of_hooks_are_compressed_in_both_directions() {
    let application = Application::start_compressed();
    let server = application
        .server(&[("rpc.proxy.grpc.compression", "true"), ("client.proxy.connect.grpc.compression", "true")]);
    let mut client = server.connected(json!({}));
    let sent = "to and fro ".repeat(2_000);
    for data in [json!(sent), json!("short")] {
        let reply = client.call_ok("rpc", json!({"method": "m", "data": data}));
        assert_eq!(reply["data"]["data"], data);
    }
}

#[test]
fn errors_over_grpc_are_those_of_hooks_over_http() {
    let application = Application::start(&[]);
    let server = application.server(&[("client.proxy.connect.timeout", "2s")]);
    let connect = |data: Value| server.client().call_error("connect", json!({ "data": data }));
    assert_eq!(connect(json!({"error": 1})), (1000, false));
    let mut client = server.client();
    client.send("connect", json!({"data": {"disconnect": 1}}));
    client.expect_end(4500);
    for failing in ["nothing", "status", "slow"] {
        assert_eq!(connect(json!({ failing: 1 })), (100, true), "{failing}");
    }
    assert_eq!(server.metric("tidings_hook_failures_total{hook=\"connect\"}"), 3);
    drop(application);
    assert_eq!(connect(json!({})), (100, true));
}

#[test]
fn a_new_application_at_the_same_address_is_called() {
    let application = Application::start(&[]);
    let server = application.server(&[]);
    server.client().call_ok("connect", json!({}));
    let port = application.endpoint.rsplit_once(':').expect("a port").1.to_owned();
    drop(application);
    assert_eq!(server.client().call_error("connect", json!({})), (100, true));
    let _application = Application::start_at(&port, &[]);
    wait_until(PATIENCE, "a connection to the new application", || {
        server.client().call("connect", json!({})).get("connect").is_some()
    });
}

#[test]
fn an_application_with_grpc_and_tls_is_verified() {
    let folder = TempDir::new().expect("a folder");
    let certificate = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let write = |suffix: &str, text: String| {
            let path = folder.path().join(format!("{name}.{suffix}")).display().to_string();
            std::fs::write(&path, text).expect("a file");
            path
        };
        (write("pem", made.cert.pem()), write("key", made.signing_key.serialize_pem()))
    };
    let (right, key) = certificate("right");
    let (other, _) = certificate("other");
    let application = Application::start(&[&right, &key]);
    for (authority, outcome) in [(&right, "connect"), (&other, "error")] {
        let server = application.server(&[
            ("client.proxy.connect.grpc.tls.enabled", "true"),
            ("client.proxy.connect.grpc.tls.server_ca_pem_file", authority),
        ]);
        let reply = server.client().call("connect", json!({}));
        assert!(reply.get(outcome).is_some(), "{reply}");
    }
}
