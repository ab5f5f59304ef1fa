//! A key set over `https`: its certificate is verified.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use tidings_auth::SetupError;

use crate::fixtures::{connect, fixture, try_verifier};
use crate::provider::{Answer, Provider};

/// Marks the child process of the test below, and names the URL of the key set.
const URL: &str = "TIDINGS_TEST_JWKS_URL";

/// An identity provider at `https://localhost`. The certificate of its authority is written to `ca`.
fn provider(ca: &Path) -> Provider {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    std::fs::write(ca, params.self_signed(&key).expect("a certificate").pem()).expect("a file");
    let authority = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a certificate that fits its key");
    let config = Arc::new(config);
    Provider::start_with(Answer::of(&["rsa"]), move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).ok()?;
        Some(StreamOwned::new(session, stream))
    })
}

#[test]
fn a_key_set_is_fetched_over_tls_when_its_certificate_is_trusted_and_only_then() {
    if let Ok(url) = std::env::var(URL) {
        match try_verifier(&[("token.jwks_public_endpoint", &url)]) {
            Ok(verifier) => match connect(&verifier, &fixture("RS256")) {
                Ok(_) => println!("outcome: taken"),
                Err(error) => println!("outcome: {error}"),
            },
            Err(error @ SetupError::Tls(_)) => println!("outcome: {error}"),
            Err(error) => panic!("{error}"),
        }
        return;
    }
    let dir = TempDir::new().expect("a folder");
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let provider = provider(Path::new(&path("ca.pem")));
    let other = self::provider(Path::new(&path("other.pem")));
    drop(other);
    std::fs::write(path("empty.pem"), "").expect("a file");
    let outcome = |host: &str, trusted: &str| {
        let name = "secure::a_key_set_is_fetched_over_tls_when_its_certificate_is_trusted_and_only_then";
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "--nocapture", name])
            .env(URL, format!("https://{host}:{}/keys", provider.port()))
            .env("SSL_CERT_FILE", path(trusted))
            .env_remove("SSL_CERT_DIR")
            .output()
            .expect("this test as a child");
        assert!(child.status.success(), "{child:?}");
        let printed = String::from_utf8(child.stdout).expect("UTF-8");
        let outcome = printed.lines().find_map(|line| line.split_once("outcome: ")).expect("an outcome");
        outcome.1.to_owned()
    };
    assert_eq!(outcome("localhost", "ca.pem"), "taken");
    // Another authority; the right authority and another name.
    for (host, trusted) in [("localhost", "other.pem"), ("127.0.0.1", "ca.pem")] {
        let refused = outcome(host, trusted);
        assert!(refused.contains("TLS") && refused.contains("certificate"), "{refused}");
    }
    let none = outcome("localhost", "empty.pem");
    assert!(none.starts_with("client.token.jwks_public_endpoint is an https address, but"), "{none}");
}
