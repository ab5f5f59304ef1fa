//! Access control of the API.

use std::time::{Duration, Instant};

use serde_json::json;
use tidings_testkit::LineClient;

use crate::api_server::{ApiServer, json_of};

const PUBLISH: &str = r#"{"channel":"news","data":1}"#;

#[test]
fn requests_without_the_configured_key_are_rejected() {
    let server = ApiServer::with(&["http_api.key=s3cret"]);
    for headers in [
        &[][..],
        &["X-API-Key: wrong"],
        &["X-API-Key: s3cre"],
        &["X-API-Key: "],
        &["Authorization: apikey wrong"],
        &["Authorization: Bearer s3cret"],
        &["Cookie: api_key=s3cret"],
    ] {
        for path in ["/api/publish", "/api", "/api/batch", "/api/info", "/api/publish?api_key=s3cret"] {
            let answer = server.post(path, headers, PUBLISH);
            assert_eq!(answer.status, 401, "{path} {headers:?}");
            assert!(answer.body.contains("http_api.key"), "{}", answer.body);
        }
    }
    for header in ["X-API-Key: s3cret", "x-api-key: s3cret", "Authorization: apikey s3cret"] {
        let answer = server.post("/api/publish", &[header], PUBLISH);
        assert_eq!((answer.status, &*answer.body), (200, r#"{"result":{}}"#), "{header}");
    }
    // With the right key the origin is not checked, because no page has the key.
    let answer = server.post("/api/publish", &["X-API-Key: s3cret", "Origin: https://example.com"], PUBLISH);
    assert_eq!(answer.status, 200);
}

#[test]
fn wrong_keys_of_an_address_are_delayed_more_and_more_and_counted() {
    let server = ApiServer::with(&["http_api.key=0123456789abcdef", "trusted_proxies=127.0.0.0/8"]);
    let post = |key: &str, client: &str| {
        let (key, client) = (format!("X-API-Key: {key}"), format!("X-Forwarded-For: {client}"));
        server.post("/api/publish", &[&key, &client], PUBLISH).status
    };
    let begin = Instant::now();
    for _ in 0..3 {
        assert_eq!(post("wrong", "192.0.2.9"), 401);
    }
    assert!(begin.elapsed() >= Duration::from_millis(200 + 400 + 800), "{:?}", begin.elapsed());
    assert_eq!(post("0123456789abcdef", "192.0.2.9"), 200);
    let metrics = server.get("/metrics");
    let counted = |line: &str| metrics.body.lines().any(|l| l == line);
    assert!(counted(r#"tidings_auth_failures_total{credential="api_key"} 3"#), "{}", metrics.body);
}

#[test]
fn the_error_for_a_wrong_password_on_the_line_port_is_delayed_in_order_and_counted() {
    let server = ApiServer::with(&["http_api.key=0123456789abcdef"]);
    let mut client = LineClient::connect(server.tcp());
    client.send_bytes(b"AUTH wrong\r\nPING\r\nAUTH 0123456789abcdef\r\n");
    for answer in ["ERROR 101 unauthorized", "PONG", "CONFIRMED"] {
        client.expect(answer);
    }
    let metrics = server.get("/metrics");
    let line = r#"tidings_auth_failures_total{credential="password"} 1"#;
    assert!(metrics.body.lines().any(|l| l == line), "{}", metrics.body);
}

#[test]
fn without_the_key_the_body_is_not_read() {
    let server = ApiServer::with(&["http_api.key=s3cret"]);
    // The body never comes.
    let answer = server.send(
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4000000\r\n\r\n",
    );
    assert_eq!(answer.status, 401);
}

#[test]
fn a_server_with_a_token_key_and_no_api_key_keeps_the_api_closed() {
    let token = "client.token.hmac_secret_key=secret";
    let server = ApiServer::with(&[token]);
    let answer = server.post("/api/publish", &["X-API-Key: secret"], PUBLISH);
    assert_eq!(answer.status, 401);
    assert!(answer.body.contains("http_api.key"), "{}", answer.body);
    let server = ApiServer::with(&[token, "http_api.insecure=true"]);
    assert_eq!(server.post("/api/publish", &[], PUBLISH).status, 200);
}

#[test]
fn without_a_key_requests_of_pages_of_other_sites_are_rejected() {
    for options in [&[][..], &["http_api.insecure=true", "http_api.key=s3cret"]] {
        let server = ApiServer::with(options);
        let mut client = (options.is_empty()).then(|| server.subscriber("news"));
        for header in [
            "Origin: https://example.com",
            "Origin: null",
            "Origin: http://localhost:1",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ] {
            // The content type of a form, or of a `fetch` without a CORS preflight.
            let answer = server.post("/api/publish", &[header, "Content-Type: text/plain"], PUBLISH);
            assert_eq!(answer.status, 403, "{header}");
        }
        let own = ["Origin: http://localhost", "Sec-Fetch-Site: same-origin"];
        assert_eq!(server.post("/api/publish", &own, PUBLISH).status, 200);
        if let Some(client) = &mut client {
            client.expect("MESSAGE news 1");
        }
    }
}

#[test]
fn the_api_accepts_only_post_and_lists_its_methods() {
    let server = ApiServer::with(&[]);
    for path in ["/api", "/api/publish", "/api/batch"] {
        for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let answer = server.send(&request);
            assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method} {path}");
        }
    }
    let answer = server.post("/api/nothing", &[], "{}");
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("history_remove"), "{}", answer.body);
    assert_eq!(server.post("/api/publish/more", &[], "{}").status, 404);
}

#[test]
fn with_the_error_mode_transport_errors_are_statuses() {
    let server = ApiServer::with(&["channel.namespaces=kept"]);
    let mode = ["X-Centrifugo-Error-Mode: transport"];
    for (method, request, status, code) in [
        ("publish", json!({}), 400, 107),
        ("publish", json!({"channel": "none:a", "data": 1}), 404, 102),
        ("history", json!({"channel": "a"}), 400, 108),
        ("publish", json!({"channel": "tidings.node.a", "data": 1}), 403, 103),
    ] {
        let answer = server.post(&format!("/api/{method}"), &mode, &request.to_string());
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(json_of(&answer)["code"], code, "{}", answer.body);
        assert!(json_of(&answer)["message"].is_string(), "{}", answer.body);
    }
    let answer = server.post("/api/publish", &mode, PUBLISH);
    assert_eq!((answer.status, &*answer.body), (200, r#"{"result":{}}"#));
}
