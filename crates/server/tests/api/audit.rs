//! The audit log of a server: its events over real sockets.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, wait_until};

use crate::api_server::{ApiServer, json_of, token_with};

/// The events in the file so far, without their times.
fn events(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("the audit log");
    let event = |line: &str| {
        let mut event: Value = serde_json::from_str(line).expect("JSON");
        let time = event.as_object_mut().expect("an object").remove("time");
        assert!(time.is_some_and(|time| time.as_str().is_some_and(|time| time.ends_with('Z'))), "{line}");
        event
    };
    text.lines().map(event).collect()
}

/// Waits until the file has an event.
fn wait_for(path: &Path, event: &Value) {
    wait_until(PATIENCE, &format!("{event} in the audit log"), || events(path).contains(event));
}

#[test]
fn orders_and_failed_authentications_are_recorded_without_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.log");
    let server = ApiServer::with(&[
        &format!("log.audit={}", path.display()),
        "http_api.key=an-api-key-of-the-test",
        "client.token.hmac_secret_key=users",
        "cluster.secret=0123456789abcdef",
    ]);
    let key = ["X-API-Key: an-api-key-of-the-test"];
    let call = |method: &str, params: &Value| {
        let answer = server.post(&format!("/api/{method}"), &key, &params.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        json_of(&answer)
    };
    call("disconnect", &json!({"user": "ann"}));
    let order = |method: &str, more: Value| {
        let mut event = json!({
            "event": "api_command", "method": method, "key": "http_api.key", "address": "127.0.0.1", "result": "ok",
        });
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        event
    };
    wait_for(&path, &order("disconnect", json!({"user": "ann"})));
    call("block_user", &json!({"user": "bob"}));
    wait_for(&path, &order("block_user", json!({"user": "bob"})));
    call("revoke_token", &json!({"jti": "token-7"}));
    wait_for(&path, &order("revoke_token", json!({"id": "token-7"})));
    call("unsubscribe", &json!({"user": "ann", "channel": "tidings.x"}));
    let failed = json!({"channel": "tidings.x", "user": "ann", "result": "failed", "code": 103});
    wait_for(&path, &order("unsubscribe", failed));
    // Each order of a batch is an event; publications and reads are none.
    call(
        "batch",
        &json!({"commands": [
            {"publish": {"channel": "a", "data": {}}}, {"info": {}}, {"unblock_user": {"user": "bob"}},
        ]}),
    );
    wait_for(&path, &order("unblock_user", json!({"user": "bob"})));
    call("publish", &json!({"channel": "a", "data": {}}));

    // A reload names its cause and its sender.
    server.post("/api/reload", &key, "{}");
    wait_until(PATIENCE, "the reload in the audit log", || {
        events(&path).iter().any(|event| {
            let has = |field: &str, value: &str| event[field] == value;
            has("event", "configuration_reloaded")
                && has("cause", "api")
                && has("key", "http_api.key")
                && has("address", "127.0.0.1")
        })
    });

    server.post("/api/info", &["X-API-Key: a-guess"], "{}");
    let failure = |credential: &str, reason: &str| {
        json!({
            "event": "authentication_failed", "credential": credential, "address": "127.0.0.1",
            "result": "failed", "reason": reason,
        })
    };
    wait_for(&path, &failure("api_key", "wrong"));
    server.post("/api/info", &[], "{}");
    wait_for(&path, &failure("api_key", "missing"));
    let mut line = server.line();
    line.send("AUTH another-guess");
    line.line();
    // With a key of tokens, AUTH takes a token.
    wait_for(&path, &failure("token", "wrong"));
    let forged = token_with(&json!({"sub": "eve"})) + "x";
    let mut line = server.line();
    line.send(&json!({"id": 1, "connect": {"token": forged}}).to_string());
    line.line();
    let tokens = || events(&path).iter().filter(|event| **event == failure("token", "wrong")).count();
    wait_until(PATIENCE, "both tokens in the audit log", || tokens() == 2);

    let all = fs::read_to_string(&path).expect("the audit log");
    for secret in ["an-api-key-of-the-test", "a-guess", "another-guess", &forged] {
        assert!(!all.contains(secret), "{all}");
    }
    assert!(!all.contains("publish") && !all.contains("\"info\""), "{all}");
}

/// A stolen key is tried out.
#[test]
fn a_key_that_is_used_outside_of_its_scopes_is_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.log");
    let server = ApiServer::with(&[
        &format!("log.audit={}", path.display()),
        "http_api.keys=shop",
        "http_api.keys.shop.key=a-key-of-the-shop",
        "http_api.keys.shop.scopes=publish",
    ]);
    let key = ["X-API-Key: a-key-of-the-shop"];
    let denied = |method: &str, scope: &str| {
        json!({
            "event": "permission_denied", "method": method, "key": "shop", "scope": scope, "address": "127.0.0.1",
            "result": "failed",
        })
    };
    assert_eq!(server.post("/api/disconnect", &key, "{\"user\":\"ann\"}").status, 403);
    wait_for(&path, &denied("disconnect", "manage"));
    let batch = "{\"commands\":[{\"publish\":{\"channel\":\"a\",\"data\":1}},{\"info\":{}}]}";
    assert_eq!(server.post("/api/batch", &key, batch).status, 403);
    wait_for(&path, &denied("batch", "read"));
    assert_eq!(server.post("/api/publish", &key, "{\"channel\":\"a\",\"data\":1}").status, 200);
    assert_eq!(events(&path).len(), 2, "{:?}", events(&path));
    assert!(!fs::read_to_string(&path).expect("the audit log").contains("a-key-of-the-shop"));
}

#[test]
fn an_audit_log_that_cannot_be_opened_refuses_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let option = format!("log.audit={}/missing/audit.log", folder.path().display());
    let config =
        crate::support::load(&["tcp.listen=127.0.0.1:0", "http.listen=off", &option]).expect("options");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let error = runtime.block_on(tidings_server::Server::start(config)).err().expect("an error").to_string();
    assert!(error.starts_with("log.audit") && error.contains("missing/audit.log"), "{error}");
}
