//! `rediss://` uses TLS, and the server's certificate is verified.

use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tidings_broker::redis::Options;
use tidings_testkit::{PATIENCE, RedisServer, free_port, wait_until};

use crate::node::{Node, channel};

/// Marks the child process of the test below, and contains the URL of Redis.
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
    let tls = |port: u16, more: &[&str]| {
        let port = port.to_string();
        let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
        let flags = [
            "--tls-port",
            &port,
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
        ];
        RedisServer::start_with(&[&flags[..], more].concat())
    };
    let (port, cluster_port, bus) = (free_port(), free_port(), free_port().to_string());
    let _redis = tls(port, &[]);
    // A cluster of one node, identified by its name, which is in the certificate.
    let cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", &bus];
    let cluster = tls(cluster_port, &[&cluster[..], &["--cluster-announce-hostname", "localhost"]].concat());
    cluster.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let name = "tls::a_tls_connection_is_made_when_its_certificate_is_trusted_and_only_then";
    for url in [format!("rediss://localhost:{port}"), format!("rediss+cluster://localhost:{cluster_port}")] {
        let node = Node::start(Options::new(url.as_str()));
        assert!(
            node.sink.wait_down().to_lowercase().contains("certificate"),
            "the authority is unknown here"
        );
        // The authority is named in the environment, which is set only in a child process.
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(URL, &url)
            .env("SSL_CERT_FILE", path("ca.pem"))
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && output.contains("1 passed"), "{url}: {output}");
    }
}
