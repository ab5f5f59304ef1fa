//! Requests of the admin page.

use std::net::SocketAddr;

use serde_json::Value;
use tidings_testkit::{HttpResponse, post_http, send_http};

use crate::support::TestServer;

/// The header of requests that change something.
pub(crate) const CHANGE: &str = "X-Tidings-Admin: 1";
/// The password of [`with_password`].
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// The option with the hash of [`PASSWORD`].
pub(crate) fn password_option() -> String {
    format!("admin.password_hash={}", tidings_admin::hash_password(PASSWORD).expect("a hash"))
}

/// The response to a GET with these headers.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &[&str]) -> HttpResponse {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    send_http(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n"),
    )
}

/// A login; returns the response.
pub(crate) fn login(address: SocketAddr, password: &str) -> HttpResponse {
    let body = serde_json::json!({"password": password}).to_string();
    post_http(address, "/admin/api/login", &[CHANGE], body)
}

/// The header with the cookie of a login.
pub(crate) fn cookie(login: &HttpResponse) -> String {
    let set = login.header("set-cookie");
    format!("Cookie: {}", set.split(';').next().expect("a pair"))
}

/// The JSON of a response with the status 200.
pub(crate) fn json(response: &HttpResponse) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    serde_json::from_str(&response.body).expect("JSON")
}

/// The response of the page's data on a workbench.
pub(crate) fn query(server: &TestServer, path: &str, body: &Value) -> Value {
    json(&server.post(&format!("/admin/api/{path}"), &[CHANGE], &body.to_string()))
}
