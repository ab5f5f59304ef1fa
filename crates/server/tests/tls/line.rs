//! The line port: every protocol over TLS, and plaintext where it is allowed.

use std::io::Read as _;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::process::Command;

use tidings_testkit::{LineClient, PATIENCE, RespClient, wait_until};
use tokio_rustls::rustls::version;

use crate::tls_server::{A_WHILE, Client, TlsServer, drain};

#[test]
fn the_first_byte_inside_of_tls_selects_the_protocol() {
    let server = TlsServer::with(&[]);
    let mut plain = server.line();
    plain.send(b"PING\r\n");
    plain.expect("PONG");
    let mut resp = server.line();
    resp.send(b"*1\r\n$4\r\nPING\r\n");
    resp.expect("+PONG");
    let mut json = server.line();
    json.send(b"{\"id\":1,\"connect\":{}}\n");
    let answer = json.line();
    assert!(answer.starts_with("{\"id\":1,\"connect\":{"), "{answer}");
    assert_eq!(server.metric("tidings_connections{transport=\"tls\"}"), 3);
    assert_eq!(server.metric("tidings_sessions{dialect=\"resp2\"}"), 1);
}

#[test]
fn tls_1_2_is_spoken_unless_that_is_too_old() {
    let server = TlsServer::with(&[]);
    let mut old = Client::connect(server.tcp(), server.trusting(&version::TLS12));
    old.send(b"PING\r\n");
    old.expect("PONG");
    let server = TlsServer::with(&["tls.min_version=1.3"]);
    let mut old = Client::connect(server.tcp(), server.trusting(&version::TLS12));
    let error = old.try_send(b"PING\r\n").expect_err("no handshake");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    let mut new = server.line();
    new.send(b"PING\r\n");
    new.expect("PONG");
}

#[test]
fn redis_cli_subscribes_and_publishes_over_tls() {
    let server = TlsServer::with(&[]);
    let redis_cli = |args: &[&str]| {
        let mut command = Command::new("redis-cli");
        let port = server.tcp().port().to_string();
        command
            .args(["-h", "127.0.0.1", "-p", &port, "--tls", "--cacert"])
            .arg(server.path("ca.pem"))
            .args(args);
        command
    };
    let mut subscriber = redis_cli(&["SUBSCRIBE", "news"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("redis-cli is installed");
    let publish = || redis_cli(&["PUBLISH", "news", "over TLS"]).output().expect("redis-cli is installed");
    let mut received = String::new();
    wait_until(PATIENCE, "a subscriber", || {
        let out = publish();
        received = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        received == "1"
    });
    let mut output = String::new();
    let mut stdout = subscriber.stdout.take().expect("piped");
    let mut buffer = [0; 1024];
    while !output.contains("over TLS") {
        let n = stdout.read(&mut buffer).expect("output");
        assert!(n > 0, "{output}");
        output.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    subscriber.kill().expect("it runs");
    subscriber.wait().expect("it ends");
}

#[test]
fn plaintext_works_on_loopback_unless_tls_is_required() {
    let server = TlsServer::with(&[]);
    let mut secure = server.line();
    secure.subscribe("news");
    let mut plain = LineClient::connect(server.tcp());
    plain.send("PUBLISH news from the open");
    plain.expect("CONFIRMED");
    secure.expect("MESSAGE news from the open");

    let server =
        TlsServer::with(&["tls.required=true", "tcp.auto_subscribe=updates", "tcp.first_byte_wait=0s"]);
    for (command, notice) in [
        ("PING\r\n", "ERROR 107 this port speaks TLS alone\r\n"),
        ("*1\r\n$4\r\nPING\r\n", "-ERR this port speaks TLS alone\r\n"),
    ] {
        let mut plain = TcpStream::connect(server.tcp()).expect("a connection");
        plain.write_all(command.as_bytes()).expect("sent");
        assert_eq!(String::from_utf8_lossy(&drain(&mut plain)), notice);
    }
    server.wait_for_metric("tidings_tls_handshakes_total{outcome=\"plaintext\"}", 2);
    // A silent connection receives nothing.
    let mut silent = LineClient::connect(server.tcp());
    let mut secure = server.line();
    secure.send(b"PUBLISH updates secret\r\n");
    secure.expect("secret");
    secure.expect("CONFIRMED");
    silent.expect_silence(A_WHILE);
}

#[test]
fn plaintext_is_rejected_on_a_public_address_by_default() {
    let server = TlsServer::with(&["tcp.listen=0.0.0.0:0", "client.insecure=true"]);
    let at = ("127.0.0.1", server.tcp().port());
    let mut plain = TcpStream::connect(at).expect("a connection");
    plain.write_all(b"PING\r\n").expect("sent");
    assert_eq!(drain(&mut plain), b"ERROR 107 this port speaks TLS alone\r\n");
    let server = TlsServer::with(&["tcp.listen=0.0.0.0:0", "client.insecure=true", "tls.required=false"]);
    let mut plain = RespClient::connect(("127.0.0.1", server.tcp().port()));
    assert_eq!(plain.command(&["PING"]).text(), "PONG");
}

#[test]
fn a_silent_tls_connection_is_closed_like_an_unauthenticated_one() {
    let server = TlsServer::with(&["client.stale_close_delay=300ms", "tcp.auto_subscribe=updates"]);
    let mut talking = server.line();
    talking.send(b"PING\r\n");
    talking.expect("PONG");
    let mut silent = server.line();
    // Reading completes the handshake without sending data.
    assert_eq!(silent.rest(), "ERROR 3502 stale\r\n");
    talking.send(b"PING\r\n");
    talking.expect("PONG");
    server.wait_for_metric("tidings_tls_handshakes_total{outcome=\"done\"}", 2);
}

#[test]
fn a_connection_without_a_handshake_is_closed_where_tls_is_required() {
    let server = TlsServer::with(&["tls.required=true", "tls.handshake_timeout=300ms"]);
    let mut silent = TcpStream::connect(server.tcp()).expect("a connection");
    assert_eq!(drain(&mut silent), b"");
    let mut half = TcpStream::connect(server.tcp()).expect("a connection");
    half.write_all(b"\x16\x03\x01").expect("sent");
    assert_eq!(drain(&mut half), b"");
    server.wait_for_metric("tidings_tls_handshakes_total{outcome=\"timed_out\"}", 2);
}

#[test]
fn a_long_line_is_sent_and_received_whole() {
    let server = TlsServer::with(&[]);
    let mut subscriber = server.line();
    subscriber.subscribe("news");
    let mut publisher = server.line();
    let body = "0123456789".repeat(6_000);
    for _ in 0..5 {
        publisher.send(format!("PUBLISH news {body}\r\n").as_bytes());
        publisher.expect("CONFIRMED");
        subscriber.expect(&format!("MESSAGE news {body}"));
    }
}

#[test]
fn commands_before_a_close_get_responses_and_a_close_notify() {
    let server = TlsServer::with(&[]);
    let mut leaving = server.line();
    leaving.send(b"PING\r\nEXIT\r\n");
    assert_eq!(leaving.rest(), "PONG\r\n");
    // One client sends close_notify, the other only shuts down the connection.
    for announced in [true, false] {
        let mut leaving = server.line();
        leaving.send(b"PING\r\nPING\r\n");
        if announced {
            leaving.stream.conn.send_close_notify();
            leaving.stream.flush().expect("sent");
        }
        leaving.stream.sock.shutdown(Shutdown::Write).expect("shut");
        assert_eq!(leaving.rest(), "PONG\r\nPONG\r\n");
    }
    let name = "tidings_connections{transport=\"tls\"}";
    wait_until(PATIENCE, "the connections to end", || server.metric(name) == 0);
}

#[test]
fn a_thousand_tls_connections_get_every_message_in_order() {
    const CLIENTS: usize = 1_000;
    const MESSAGES: usize = 100;
    let server = TlsServer::with(&[]);
    let config = server.trusting(&version::TLS13);
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::connect(server.tcp(), config.clone());
            client.subscribe("news");
            client
        })
        .collect();
    let mut publisher = server.line();
    for n in 0..MESSAGES {
        publisher.send(format!("PUBLISH news {n}\r\n").as_bytes());
    }
    for _ in 0..MESSAGES {
        publisher.expect("CONFIRMED");
    }
    for client in &mut clients {
        for n in 0..MESSAGES {
            client.expect(&format!("MESSAGE news {n}"));
        }
    }
}

/// Publishes numbered messages until some are dropped. Returns how many were published.
fn publish_until_dropped(server: &TlsServer) -> usize {
    let mut publisher = RespClient::connect(server.tcp());
    let mut n = 0;
    loop {
        let commands: Vec<Vec<Vec<u8>>> = (n..n + 100)
            .map(|i| {
                vec![b"PUBLISH".to_vec(), b"news".to_vec(), format!("{i:08}{}", "x".repeat(992)).into_bytes()]
            })
            .collect();
        publisher.pipeline(&commands);
        n += 100;
        let dropped: u64 = ["cut", "drop_oldest"]
            .map(|policy| server.metric(&format!("tidings_deliveries_dropped_total{{policy=\"{policy}\"}}")))
            .iter()
            .sum();
        if dropped > 0 {
            return n;
        }
        assert!(n < 100_000, "no message was dropped");
    }
}

#[test]
fn a_slow_reader_misses_exactly_the_reported_messages() {
    let server = TlsServer::with(&[
        "client.queue_max_size=65536",
        "channel.without_namespace.slow_consumer=drop_oldest",
    ]);
    let mut slow = server.line();
    slow.subscribe("news");
    let mut beside = server.line();
    beside.subscribe("other");
    let total = publish_until_dropped(&server);
    let mut publisher = RespClient::connect(server.tcp());
    publisher.command(&["PUBLISH", "other", "not delayed"]);
    beside.expect("MESSAGE other not delayed");
    let (mut count, mut dropped, mut last) = (0, 0, None);
    while last != Some(total - 1) {
        let line = slow.line();
        if let Some(n) =
            line.strip_prefix("ERROR 3008 slow: ").and_then(|l| l.strip_suffix(" messages dropped"))
        {
            dropped += n.parse::<usize>().expect("a number");
            continue;
        }
        let body = line.strip_prefix("MESSAGE news ").unwrap_or_else(|| panic!("{line}"));
        assert_eq!(body.len(), 1_000, "a message arrives whole");
        let n = body[..8].parse::<usize>().expect("a number");
        assert!(last.is_none_or(|last| n > last), "{n} after {last:?}");
        last = Some(n);
        count += 1;
    }
    assert!(dropped > 0);
    assert_eq!(count + dropped, total);
    assert_eq!(server.metric("tidings_connections_stalled"), 0);
    assert_eq!(server.metric("tidings_queue_bytes"), 0);
}

#[test]
fn a_cut_slow_reader_gets_the_notice_after_the_message_in_progress() {
    let server =
        TlsServer::with(&["client.queue_max_size=65536", "channel.without_namespace.slow_consumer=cut"]);
    let mut slow = server.line();
    slow.subscribe("news");
    publish_until_dropped(&server);
    let rest = slow.rest();
    let last = rest.trim_end().lines().last().expect("a line");
    assert!(last.starts_with("ERROR 3008 slow"), "{last}");
    for (n, line) in rest.lines().filter(|line| line.starts_with("MESSAGE")).enumerate() {
        assert_eq!(line.len(), "MESSAGE news ".len() + 1_000);
        assert!(line.starts_with(&format!("MESSAGE news {n:08}")), "{}", &line[..30]);
    }
}

#[test]
fn with_a_client_authority_clients_must_present_a_certificate() {
    let server = TlsServer::with(&["tls.client_ca_pem_file=CA"]);
    let mut anonymous = server.line();
    // In TLS 1.3 the client finishes before the server notices the missing certificate.
    let rejected =
        anonymous.try_send(b"PING\r\n").and_then(|()| anonymous.stream.read(&mut [0; 100]).map(drop));
    let error = rejected.expect_err("no connection").to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    let (certificate, key) = server.authority.certificate();
    let config = server.client(&version::TLS13, Some((&certificate, &key)));
    let mut known = Client::connect(server.tcp(), config.into());
    known.send(b"PING\r\n");
    known.expect("PONG");
}

#[test]
fn tls_follows_a_proxy_header_and_the_connection_counts_for_its_address() {
    for required in ["true", "false"] {
        let server = TlsServer::with(&[
            "tcp.proxy_protocol=true",
            "trusted_proxies=127.0.0.1",
            "limits.address.connections=1",
            &format!("tls.required={required}"),
        ]);
        let through_proxy = |client: &str| {
            let mut stream = TcpStream::connect(server.tcp()).expect("a connection");
            write!(stream, "PROXY TCP4 {client} 127.0.0.1 40000 5567\r\n").expect("a header");
            Client::over(stream, server.trusting(&version::TLS13))
        };
        let mut ann = through_proxy("198.51.100.7");
        ann.send(b"PING\r\n");
        ann.expect("PONG");
        let mut again = through_proxy("198.51.100.7");
        // A connection that must begin with TLS is refused before its handshake, others after it.
        let notice = again.try_send(b"PING\r\n").map(|()| again.rest());
        assert!(notice.is_err() || notice.is_ok_and(|text| text.contains("limits.address.connections")));
        let mut bob = through_proxy("198.51.100.8");
        bob.send(b"PING\r\n");
        bob.expect("PONG");
    }
}
