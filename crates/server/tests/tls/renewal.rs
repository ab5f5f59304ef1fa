//! Renewal of certificates while the server runs.

use tidings_testkit::{PATIENCE, wait_until};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::tls_server::{A_WHILE, Client, TlsServer, renew};

/// The certificate that a new connection receives.
fn received_certificate(mut client: Client) -> CertificateDer<'static> {
    client.send(b"\r\n");
    client.stream.conn.peer_certificates().expect("a certificate")[0].clone()
}

const TAKEN_UP: &str = "tidings_tls_reloads_total{outcome=\"done\"}";
const NOT_USABLE: &str = "tidings_tls_reloads_total{outcome=\"failed\"}";

#[test]
fn a_renewed_certificate_is_used_for_new_connections_and_keeps_open_ones() {
    let server = TlsServer::with(&["tls.reload_interval=100ms"]);
    let mut stays = server.line();
    stays.subscribe("news");
    let (line, web) = (received_certificate(server.line()), received_certificate(server.web()));
    assert_eq!(line, web);
    renew(server.path("cert.pem").parent().expect("a folder"), &server.authority.certificate());
    // The server may read a new certificate before its key is written.
    wait_until(PATIENCE, "the new certificate", || received_certificate(server.line()) != line);
    assert_ne!(received_certificate(server.web()), web);
    assert!(server.metric(TAKEN_UP) >= 1);
    stays.send(b"PUBLISH news still here\r\n");
    stays.expect("MESSAGE news still here");
    stays.expect("CONFIRMED");
}

#[test]
fn a_certificate_that_cannot_be_used_changes_nothing_and_is_counted_once() {
    let server = TlsServer::with(&["tls.reload_interval=100ms"]);
    let before = received_certificate(server.line());
    // The key of another certificate.
    let (_, key) = server.authority.certificate();
    std::fs::write(server.path("key.pem"), key).expect("a file");
    server.wait_for_metric(NOT_USABLE, 1);
    std::thread::sleep(A_WHILE);
    assert_eq!(server.metric(NOT_USABLE), 1);
    assert_eq!(received_certificate(server.line()), before);
    std::fs::remove_file(server.path("cert.pem")).expect("a file");
    server.wait_for_metric(NOT_USABLE, 2);
    assert_eq!(received_certificate(server.line()), before);
    renew(server.path("key.pem").parent().expect("a folder"), &server.authority.certificate());
    wait_until(PATIENCE, "the new certificate", || received_certificate(server.line()) != before);
}

#[test]
fn a_requested_reload_happens_at_once() {
    let server = TlsServer::with(&["tls.reload_interval=24h"]);
    let before = received_certificate(server.line());
    renew(server.path("cert.pem").parent().expect("a folder"), &server.authority.certificate());
    std::thread::sleep(A_WHILE);
    assert_eq!(received_certificate(server.line()), before);
    server.runtime.block_on(server.server().reload()).expect("a reload");
    wait_until(PATIENCE, "the new certificate", || received_certificate(server.line()) != before);
}

#[test]
fn a_reconnecting_client_resumes_its_tls_session() {
    use tokio_rustls::rustls::{HandshakeKind, version};
    let server = TlsServer::with(&[]);
    let config = server.trusting(&version::TLS13);
    let kind = |port| {
        let mut client = Client::connect(port, config.clone());
        client.send(b"PING\r\n");
        client.line();
        client.stream.conn.handshake_kind().expect("a handshake")
    };
    assert_eq!(kind(server.tcp()), HandshakeKind::Full);
    assert_eq!(kind(server.tcp()), HandshakeKind::Resumed);
}
