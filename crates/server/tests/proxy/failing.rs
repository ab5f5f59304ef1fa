//! A failure of the application is an error for clients, is counted, and never gives a permission.

use serde_json::{Value, json};
use tidings_auth::sign_hs256;
use tidings_config::Secret;
use tidings_testkit::{PATIENCE, free_port, wait_until};

use crate::application::Application;
use crate::log;
use crate::server_with_hooks::{Client, ServerWithHooks, token};

const TEMPORARY: (u64, bool) = (100, true);
/// Most requests of one hook under way.
const MAX_CALLS: usize = 256;

fn server_with_hooks(application: &Application, more: &[(&str, &str)]) -> ServerWithHooks {
    let (connect, rpc) = (application.url("/connect"), application.url("/rpc"));
    let mut options = vec![
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &*connect),
        ("rpc.proxy.endpoint", &*rpc),
    ];
    options.extend_from_slice(more);
    ServerWithHooks::with(&options)
}

fn failures(server: &ServerWithHooks, hook: &str) -> u64 {
    server.metric(&format!("tidings_hook_failures_total{{hook=\"{hook}\"}}"))
}

#[test]
fn an_invalid_response_is_a_temporary_error_and_no_permission() {
    let application = Application::start();
    let server = server_with_hooks(&application, &[]);
    let long = format!(r#"{{"result": {{"user": "{}"}}}}"#, "x".repeat(1 << 20));
    let mut failed = 0;
    for (status, body) in [
        (500, r#"{"result": {"user": "56"}}"#),
        (404, r#"{"result": {"user": "56"}}"#),
        (204, ""),
        (302, ""),
        (200, ""),
        (200, "<html>"),
        (200, "{}"),
        (200, r#"{"result": null}"#),
        (200, r#"{"result": {"user": 56}}"#),
        (200, &long),
    ] {
        application.respond_with("/connect", status, body);
        assert_eq!(server.client().call_error("connect", json!({})), TEMPORARY, "{status} {body:.40}");
        failed += 1;
        assert_eq!(failures(&server, "connect"), failed);
    }
    assert_eq!(server.metric("tidings_hook_calls_total{hook=\"connect\"}"), failed);
    assert_eq!(server.metric("tidings_hook_duration_seconds_count{hook=\"connect\"}"), failed);
    assert_eq!(failures(&server, "rpc"), 0);
    application.respond("/connect", json!({"result": {"user": "56"}}));
    server.connected(json!({}));
}

#[test]
fn a_status_becomes_the_error_or_disconnect_that_the_configuration_states() {
    let application = Application::start();
    let transforms = r#"[{"status_code": 404, "to_error": {"code": 1404, "message": "no such user"}},
        {"status_code": 429, "to_error": {"code": 429, "temporary": true}},
        {"status_code": 302, "to_disconnect": {"code": 4302, "reason": "elsewhere"}}]"#;
    let server = server_with_hooks(
        &application,
        &[("client.proxy.connect.http.status_to_code_transforms", transforms)],
    );
    application.respond_with("/connect", 404, "{}");
    let reply = server.client().call("connect", json!({}));
    assert_eq!(reply["error"], json!({"code": 1404, "message": "no such user"}), "{reply}");
    application.respond_with("/connect", 429, "");
    assert_eq!(server.client().call_error("connect", json!({})), (429, true));
    application.respond_with("/connect", 302, "");
    let mut client = server.client();
    client.send("connect", json!({}));
    let push = client.message();
    let disconnect = &push["push"]["disconnect"];
    assert_eq!((&disconnect["code"], &disconnect["reason"]), (&json!(4302), &json!("elsewhere")), "{push}");
    assert_eq!(failures(&server, "connect"), 0, "these are answers of the application");
    application.respond_with("/connect", 500, "");
    assert_eq!(server.client().call_error("connect", json!({})), TEMPORARY);
    assert_eq!(failures(&server, "connect"), 1);
}

#[test]
fn after_a_reload_the_new_transforms_apply() {
    let application = Application::start();
    application.respond_with("/rpc", 404, "");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    let write = |code: u16| {
        let text = format!(
            "[rpc.proxy]\nendpoint = \"{}\"\n[[rpc.proxy.http.status_to_code_transforms]]\nstatus_code = 404\n\
             to_error = {{ code = {code} }}\n",
            application.url("/rpc")
        );
        std::fs::write(&path, text).expect("a file");
    };
    write(1000);
    let server = ServerWithHooks::with_file(&path);
    let mut client = server.connected(json!({}));
    assert_eq!(client.call_error("rpc", json!({"method": "m"})).0, 1000);
    write(1001);
    let report = server.runtime.block_on(server.server().reload()).expect("a reload");
    assert_eq!(report.changed, ["rpc.proxy.http.status_to_code_transforms"]);
    assert_eq!(client.call_error("rpc", json!({"method": "m"})).0, 1001);
}

#[test]
fn the_server_answers_the_method_for_pings_itself() {
    let application = Application::start();
    let server =
        server_with_hooks(&application, &[("rpc.ping.enabled", "true"), ("rpc.ping.method", "echo")]);
    application.respond("/connect", json!({"result": {"user": "56"}}));
    application.respond("/rpc", json!({"result": {"data": 1}}));
    let mut client = server.connected(json!({}));
    assert_eq!(client.call_ok("rpc", json!({"method": "echo", "data": {"x": 1}})), json!({}));
    assert_eq!(client.call_ok("rpc", json!({"method": "ping"})), json!({"data": 1}));
    assert_eq!(application.only_call("/rpc").body["method"], "ping");
}

#[test]
fn an_application_that_is_gone_or_slow_is_a_temporary_error() {
    let gone = format!("http://127.0.0.1:{}/connect", free_port());
    let server = ServerWithHooks::with(&[
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &gone),
    ]);
    assert_eq!(server.client().call_error("connect", json!({})), TEMPORARY);
    assert_eq!(failures(&server, "connect"), 1);

    let application = Application::start();
    let server = server_with_hooks(&application, &[("client.proxy.connect.timeout", "100ms")]);
    application.hold("/connect");
    assert_eq!(server.client().call_error("connect", json!({})), TEMPORARY);
    assert_eq!(failures(&server, "connect"), 1);
}

#[test]
fn a_slow_hook_does_not_delay_other_clients() {
    let application = Application::start();
    let server = server_with_hooks(&application, &[("rpc.proxy.timeout", "1m")]);
    application.respond("/connect", json!({"result": {"user": "56"}}));
    application.hold("/rpc");
    let mut slow = server.connected(json!({}));
    slow.send("rpc", json!({"method": "slow"}));
    application.wait_for("/rpc", 1);
    let mut other = server.connected(json!({}));
    other.call_ok("publish", json!({"channel": "a", "data": 1}));
    application.respond("/rpc", json!({"result": {"data": "late"}}));
    assert_eq!(slow.message()["rpc"]["data"], json!("late"));
}

#[test]
fn beyond_the_limit_of_requests_under_way_clients_get_a_temporary_error() {
    let application = Application::start();
    let server = server_with_hooks(&application, &[("rpc.proxy.timeout", "1m")]);
    application.respond("/connect", json!({"result": {"user": "56"}}));
    application.hold("/rpc");
    let mut waiting: Vec<Client> = (0..MAX_CALLS).map(|_| server.connected(json!({}))).collect();
    for client in &mut waiting {
        client.send("rpc", json!({"method": "m"}));
    }
    wait_until(PATIENCE, "requests of the hook", || application.calls("/rpc").len() == MAX_CALLS);
    let mut next = server.connected(json!({}));
    assert_eq!(next.call_error("rpc", json!({"method": "m"})), (111, true));
    assert_eq!(server.metric("tidings_hook_refusals_total{hook=\"rpc\"}"), 1);
    // The other hooks have limits of their own, and a request no longer counts after its response.
    application.respond("/rpc", json!({"result": {}}));
    for client in &mut waiting {
        assert!(client.message().get("rpc").is_some_and(Value::is_object));
    }
    next.call_ok("rpc", json!({"method": "m"}));
}

#[test]
fn the_response_for_a_client_that_has_disconnected_reaches_no_other_client() {
    let application = Application::start();
    let server = server_with_hooks(&application, &[("client.proxy.connect.timeout", "1m")]);
    application.hold("/connect");
    let mut gone = server.client();
    gone.send("connect", json!({}));
    application.wait_for("/connect", 1);
    drop(gone);
    // The next client has the same slot, and must not get the response for the earlier one.
    let mut other = server.client();
    other.send("connect", json!({}));
    application.wait_for("/connect", 2);
    application.respond("/connect", json!({"result": {"user": "56"}}));
    assert!(other.message().get("connect").is_some());
    application.respond("/rpc", json!({"result": {}}));
    other.call_ok("rpc", json!({"method": "m"}));
    assert_eq!(application.only_call("/rpc").body["user"], json!("56"));
}

#[test]
fn the_log_names_the_failed_hook_and_the_reason_and_contains_no_secret() {
    log::capture();
    let application = Application::start();
    let url = application.url("/secretive?key=hunter2");
    let server = ServerWithHooks::with_key(&[
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &url),
        ("client.proxy.connect.emulated_headers", "Cookie"),
        ("client.proxy.connect.http.static_headers", r#"{"X-Key": "hunter2"}"#),
    ]);
    application.respond("/secretive", r#"{"result": {"user": ["hunter2"]}}"#);
    let connect = json!({"data": "hunter2", "name": "hunter2", "headers": {"Cookie": "hunter2"}});
    assert_eq!(server.client().call_error("connect", connect), TEMPORARY);
    let claims = json!({"sub": "hunter2", "aud": "hunter2", "exp": 1});
    let expired = token(claims.clone());
    assert_eq!(server.client().call_error("connect", json!({"token": expired})), (109, false));
    let forged = sign_hs256(&Secret::new("another"), &claims).expect("a token");
    assert_eq!(server.client().call_error("connect", json!({"token": forged})), (101, false));
    let log = log::captured();
    let entry = log
        .lines()
        .find(|line| line.contains(&application.url("/secretive")))
        .expect("a line about the failure");
    assert!(entry.contains("hook=\"connect\"") && entry.contains("JSON of another shape"), "{entry}");
    assert!(log.contains("expired") && log.contains("the signature is wrong"), "{log}");
    for secret in ["hunter2", &expired, &forged] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn repeated_failures_of_a_hook_are_logged_once() {
    log::capture();
    let application = Application::start();
    let server = server_with_hooks(&application, &[]);
    for _ in 0..20 {
        assert_eq!(server.client().call_error("connect", json!({})), TEMPORARY);
    }
    let address = application.url("/connect");
    assert_eq!(log::captured().lines().filter(|line| line.contains(&address)).count(), 1);
    assert_eq!(failures(&server, "connect"), 20);
}
