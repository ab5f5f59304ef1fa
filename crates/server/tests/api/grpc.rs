//! The server API over gRPC, called with the server's own client of gRPC; `cli/tests/sdk/grpc.rs` calls it with that of Python.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use prost::Message as _;
use tidings_grpc::messages::api;
use tidings_grpc::{Code, Status};
use tidings_outbound::{GrpcOutbound, OutboundError};
use tidings_testkit::{PATIENCE, wait_until};

use crate::api_server::ApiServer;
use crate::reload::Reloading;
use crate::support::TestServer;

/// Options of a port of gRPC.
pub(crate) const GRPC: [&str; 2] = ["grpc_api.enabled=true", "grpc_api.port=0"];

/// Calls a method of `CentrifugoApi` with a key.
fn call(server: &TestServer, key: &str, method: &str, message: &[u8]) -> Result<Bytes, Status> {
    call_within(server, key, method, message, PATIENCE)
}

/// As [`call`], with a deadline.
pub(crate) fn call_within(
    server: &TestServer,
    key: &str,
    method: &str,
    message: &[u8],
    deadline: Duration,
) -> Result<Bytes, Status> {
    let address = format!("http://{}", server.announced("grpc")).parse().expect("an address");
    let client = GrpcOutbound::new(&address, None, Duration::from_secs(1));
    let request =
        Request::builder().header("authorization", format!("apikey {key}")).body(()).expect("a key");
    let path = format!("/centrifugal.centrifugo.api.CentrifugoApi/{method}");
    // The client needs the runtime when it is dropped, too.
    server.runtime.block_on(async {
        client.call(&path, request, message, deadline, 1 << 20).await.map_err(|error| match error {
            OutboundError::Grpc(status) => status,
            other => panic!("{method}: {other}"),
        })
    })
}

fn code(outcome: Result<Bytes, Status>) -> Code {
    outcome.map_or_else(|status| status.code, |_| Code::Ok)
}

#[test]
fn the_key_of_the_port_is_not_a_key_of_the_http_api() {
    let server =
        ApiServer::with(&[&GRPC[..], &["grpc_api.key=only-grpc-s3cret", "http_api.key=every-port"]].concat());
    assert_eq!(code(call(&server, "only-grpc-s3cret", "Info", b"")), Code::Ok);
    assert_eq!(code(call(&server, "every-port", "Info", b"")), Code::Ok);
    assert_eq!(code(call(&server, "other", "Info", b"")), Code::Unauthenticated);
    assert_eq!(server.post("/api/info", &["X-API-Key: only-grpc-s3cret"], "{}").status, 401);
    assert_eq!(server.post("/api/info", &["X-API-Key: every-port"], "{}").status, 200);
}

#[test]
fn a_port_with_a_key_of_its_own_closes_the_http_api_of_a_workbench() {
    let server = ApiServer::with(&[&GRPC[..], &["grpc_api.key=only-grpc-s3cret"]].concat());
    assert_eq!(code(call(&server, "only-grpc-s3cret", "Info", b"")), Code::Ok);
    assert_eq!(server.post("/api/info", &[], "{}").status, 401);
}

#[test]
fn a_reload_replaces_the_key_of_the_port() {
    let file = |key: &str| {
        format!(
            "http_api.key = \"first-s3cret\"\ngrpc_api.enabled = true\ngrpc_api.port = 0\ngrpc_api.key = \"{key}\"\n"
        )
    };
    let world = Reloading::start(&file("old-s3cret"));
    assert_eq!(code(call(&world.server, "old-s3cret", "Info", b"")), Code::Ok);
    let report = world.reload(&file("new-s3cret"), crate::reload::KEY);
    assert_eq!(report["changed"], serde_json::json!(["grpc_api.key"]));
    assert_eq!(code(call(&world.server, "old-s3cret", "Info", b"")), Code::Unauthenticated);
    assert_eq!(code(call(&world.server, "new-s3cret", "Info", b"")), Code::Ok);
}

#[test]
fn calls_have_the_rate_limit_and_the_audit_log_of_the_http_api() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.log");
    let audit = format!("log.audit={}", path.display());
    let options = [&GRPC[..], &[&audit, "http_api.key=a-key-of-the-test", "http_api.rate_limit=2"]].concat();
    let server = ApiServer::with(&options);
    let block = api::BlockUserRequest { user: "bob".to_owned(), expire_at: 0 }.encode_to_vec();
    let answer = call(&server, "a-key-of-the-test", "BlockUser", &block).expect("an answer");
    assert_eq!(api::BlockUserResponse::decode(answer).expect("a message").error, None);
    let event = r#""method":"block_user","key":"http_api.key","address":"127.0.0.1","user":"bob""#;
    wait_until(PATIENCE, "the event of the audit log", || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains(event))
    });
    let mut codes = Vec::new();
    wait_until(PATIENCE, "a call above the rate limit", || {
        codes.push(code(call(&server, "a-key-of-the-test", "Info", b"")));
        codes.contains(&Code::ResourceExhausted)
    });
    assert!(server.metric("tidings_grpc_api_calls_total{status=\"RESOURCE_EXHAUSTED\"}") > 0);
}

#[test]
fn fields_that_would_change_the_meaning_of_a_request_are_refused() {
    let server = ApiServer::with(&[&GRPC[..], &["http_api.key=a-key-of-the-test"]].concat());
    let error = |method, message: Vec<u8>| {
        let response = call(&server, "a-key-of-the-test", method, &message).expect("a response");
        // Every response has its error in the field 1.
        api::PublishResponse::decode(response).expect("a message").error.map(|error| error.code)
    };
    let request = |channel: &str| {
        let user = "bob".to_owned();
        api::InvalidateUserTokensRequest { user, channel: channel.to_owned(), ..Default::default() }
    };
    assert_eq!(error("InvalidateUserTokens", request("news").encode_to_vec()), Some(108));
    assert_eq!(error("InvalidateUserTokens", request("").encode_to_vec()), None);
    let refresh = |info: &'static [u8]| api::RefreshRequest {
        user: "bob".to_owned(),
        info: info.into(),
        ..Default::default()
    };
    assert_eq!(error("Refresh", refresh(b"{}").encode_to_vec()), Some(108));
    assert_eq!(error("Refresh", refresh(b"").encode_to_vec()), None);
    let key = "X-API-Key: a-key-of-the-test";
    for (method, body) in [
        ("refresh", r#"{"user": "bob", "info": {}}"#),
        ("invalidate_user_tokens", r#"{"user": "bob", "channel": "news"}"#),
    ] {
        let response = server.post(&format!("/api/{method}"), &[key], body);
        assert!(response.body.contains("\"code\":108"), "{method}: {}", response.body);
    }
}

#[test]
fn a_port_of_grpc_answers_other_requests_in_plain_http() {
    let server = ApiServer::with(&GRPC);
    let address = server.announced("grpc").parse().expect("an address");
    let answer = tidings_testkit::get_http(address, "/centrifugal.centrifugo.api.CentrifugoApi/Info");
    assert_eq!(answer.status, 505, "{}", answer.body);
    assert!(answer.body.contains("gRPC"), "{}", answer.body);
}
