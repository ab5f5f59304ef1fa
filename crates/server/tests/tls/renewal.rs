//! Certificates that are renewed while the server runs.

use tidings_testkit::{PATIENCE, wait_until};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::world::{A_WHILE, Client, World, renew};

/// The certificate that a new connection is shown.
fn shown(mut client: Client) -> CertificateDer<'static> {
    client.send(b"\r\n");
    client.stream.conn.peer_certificates().expect("a certificate")[0].clone()
}

const TAKEN_UP: &str = "tidings_tls_reloads_total{outcome=\"done\"}";
const NOT_USABLE: &str = "tidings_tls_reloads_total{outcome=\"failed\"}";

#[test]
fn a_renewed_certificate_is_shown_to_who_comes_and_nobody_has_to_go() {
    let world = World::with(&["tls.reload_interval=100ms"]);
    let mut stays = world.line();
    stays.subscribe("news");
    let (line, web) = (shown(world.line()), shown(world.web()));
    assert_eq!(line, web);
    renew(world.path("cert.pem").parent().expect("a folder"), &world.authority.certificate());
    // Half of it may be seen for a moment: a certificate without its key.
    wait_until(PATIENCE, "the new certificate", || shown(world.line()) != line);
    assert_ne!(shown(world.web()), web);
    assert!(world.metric(TAKEN_UP) >= 1);
    stays.send(b"PUBLISH news still here\r\n");
    stays.expect("MESSAGE news still here");
    stays.expect("CONFIRMED");
}

#[test]
fn a_certificate_that_cannot_be_used_changes_nothing_and_is_counted_once() {
    let world = World::with(&["tls.reload_interval=100ms"]);
    let before = shown(world.line());
    // Another one's key.
    let (_, key) = world.authority.certificate();
    std::fs::write(world.path("key.pem"), key).expect("a file");
    world.wait_for_metric(NOT_USABLE, 1);
    std::thread::sleep(A_WHILE);
    assert_eq!(world.metric(NOT_USABLE), 1);
    assert_eq!(shown(world.line()), before);
    std::fs::remove_file(world.path("cert.pem")).expect("a file");
    world.wait_for_metric(NOT_USABLE, 2);
    assert_eq!(shown(world.line()), before);
    renew(world.path("key.pem").parent().expect("a folder"), &world.authority.certificate());
    wait_until(PATIENCE, "the new certificate", || shown(world.line()) != before);
}

#[test]
fn who_asks_has_the_certificate_read_at_once() {
    let world = World::with(&["tls.reload_interval=24h"]);
    let before = shown(world.line());
    renew(world.path("cert.pem").parent().expect("a folder"), &world.authority.certificate());
    std::thread::sleep(A_WHILE);
    assert_eq!(shown(world.line()), before);
    world.server().reload_certificates();
    wait_until(PATIENCE, "the new certificate", || shown(world.line()) != before);
}

#[test]
fn who_comes_back_is_spared_the_certificate() {
    use tokio_rustls::rustls::{HandshakeKind, version};
    let world = World::with(&[]);
    let config = world.trusting(&version::TLS13);
    let kind = |port| {
        let mut client = Client::connect(port, config.clone());
        client.send(b"PING\r\n");
        client.line();
        client.stream.conn.handshake_kind().expect("a handshake")
    };
    assert_eq!(kind(world.tcp()), HandshakeKind::Full);
    assert_eq!(kind(world.tcp()), HandshakeKind::Resumed);
}
