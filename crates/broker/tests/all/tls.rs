//! `rediss://` is spoken, and the server's certificate is verified.

use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tidings_broker::redis::Options;
use tidings_testkit::{PATIENCE, RedisServer, free_port, wait_until};

use crate::node::{Node, channel};

/// Tells the test below that it runs as its own child, and where Redis is.
const URL: &str = "TIDINGS_TEST_TLS_URL";

/// Writes an authority, and a certificate of it for `localhost`.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let authority = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("server.pem"), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
    std::fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
}

#[test]
fn a_tls_connection_is_made_when_its_certificate_is_trusted_and_only_then() {
    if let Ok(url) = std::env::var(URL) {
        let node = Node::connected(Options::new(url));
        node.subscribe(&channel("a"));
        node.publish("a", b"in secret").unwrap();
        return wait_until(PATIENCE, "the message", || node.sink.bodies("a") == ["in secret"]);
    }
    let dir = TempDir::new().unwrap();
    certificates(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let port = free_port();
    let _redis = RedisServer::start_with(&[
        "--tls-port".to_owned(),
        port.to_string(),
        "--tls-cert-file".to_owned(),
        path("server.pem"),
        "--tls-key-file".to_owned(),
        path("server.key"),
        "--tls-auth-clients".to_owned(),
        "no".to_owned(),
    ]);
    let url = format!("rediss://localhost:{port}");
    let node = Node::start(Options::new(url.as_str()));
    assert!(node.sink.wait_down().to_lowercase().contains("certificate"), "the authority is unknown here");
    // The authority is named in the environment, which only a process of its own may have changed.
    let name = "tls::a_tls_connection_is_made_when_its_certificate_is_trusted_and_only_then";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(URL, &url)
        .env("SSL_CERT_FILE", path("ca.pem"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}
