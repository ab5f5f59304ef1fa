//! Exchanges of packets of MQTT, as suites of interoperability make them, and client certificates.

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tidings_testkit::{RedisServer, Tidings, test_tool};

use crate::test_servers::{TIDINGS, root};

/// Runs the exchanges with a server that has these features.
fn exchanges_succeed(mut server: Tidings, address: &str, features: &[&str]) {
    let (host, port) = address.rsplit_once(':').expect("an address");
    let output = Command::new(test_tool("mqtt-python").join("bin/python"))
        .arg(root().join("tests/clients/mqtt/interoperability.py"))
        // Leaves no __pycache__ of packets.py.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args([host, port])
        .args(features)
        .output()
        .expect("python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.terminate(), 0, "the server has not ended before");
}

#[test]
fn exchanges_of_packets_with_a_server_without_options_are_as_specified() {
    let server = Tidings::start(TIDINGS, &[]);
    let address = server.tcp().to_string();
    exchanges_succeed(server, &address, &["sessions", "shared"]);
}

#[test]
fn exchanges_of_packets_without_files_and_on_a_listener_of_its_own_are_as_specified() {
    let server = Tidings::start(TIDINGS, &["--data-dir", "off", "--set", "mqtt.listen=127.0.0.1:0"]);
    let address = server.listeners("mqtt").remove(0);
    exchanges_succeed(server, &address, &["sessions", "shared"]);
}

#[test]
fn exchanges_of_packets_with_redis_are_as_specified() {
    let redis = RedisServer::start();
    let server = Tidings::start(TIDINGS, &["--broker", &redis.url()]);
    let address = server.tcp().to_string();
    exchanges_succeed(server, &address, &["sessions", "shared"]);
}

/// An authority and its certificate, which is written to a file.
fn authority(file: &Path) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL treats a certificate with equal issuer and subject as self-signed.
    params.distinguished_name.push(DnType::CommonName, "an authority of tests");
    let key = KeyPair::generate().expect("a key");
    fs::write(file, params.self_signed(&key).expect("a certificate").pem()).expect("a file");
    Issuer::new(params, key)
}

/// Writes a certificate and its key: `NAME.pem`, `NAME.key`.
fn certificate(issuer: &Issuer<'_, KeyPair>, folder: &Path, name: &str) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    let made = params.signed_by(&key, issuer).expect("a certificate");
    fs::write(folder.join(format!("{name}.pem")), made.pem()).expect("a file");
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
}

#[test]
fn with_a_client_authority_paho_needs_a_certificate_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let known = authority(&folder.path().join("ca.pem"));
    let other = authority(&folder.path().join("other-ca.pem"));
    certificate(&known, folder.path(), "server");
    certificate(&known, folder.path(), "client");
    certificate(&other, folder.path(), "other");
    let options = [
        "tls.enabled=true".to_owned(),
        format!("tls.cert_pem_file={}", path("server.pem")),
        format!("tls.key_pem_file={}", path("server.key")),
        format!("tls.client_ca_pem_file={}", path("ca.pem")),
        "mqtt.listen=127.0.0.1:0".to_owned(),
    ];
    let server = Tidings::start(TIDINGS, &options.each_ref().map(|option| ["--set", option]).concat());
    let output = Command::new(test_tool("mqtt-python").join("bin/python"))
        .arg(root().join("tests/clients/mqtt/tls.py"))
        .args([path(""), server.listeners("mqtt")[0].clone(), server.tcp().to_string()])
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
