//! TLS on the server's own ports: the accepted certificates, and every command with it.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tidings_testkit::{PATIENCE, RespClient, Tidings, wait_until};

use crate::tool::{Done, TIDINGS, Tool, command, run};

/// A certificate, and servers that use it.
struct TlsServers {
    dir: TempDir,
}

impl TlsServers {
    fn new() -> Self {
        let servers = Self { dir: TempDir::new().expect("a folder") };
        servers.renew();
        servers
    }

    /// Creates a new certificate and its key.
    fn renew(&self) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        fs::write(self.path("cert.pem"), made.cert.pem()).expect("a file");
        fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).expect("a file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    fn flags(&self, more: &[&str]) -> Vec<String> {
        let mut flags = Vec::new();
        for option in [
            "tls.enabled=true".to_owned(),
            format!("tls.cert_pem_file={}", self.text("cert.pem")),
            format!("tls.key_pem_file={}", self.text("key.pem")),
        ]
        .into_iter()
        .chain(more.iter().map(|option| (*option).to_owned()))
        {
            flags.extend(["--set".to_owned(), option]);
        }
        flags
    }

    fn server(&self, more: &[&str]) -> Tidings {
        Tidings::start(TIDINGS, &self.flags(more).iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a server that must reject its options.
    fn refused(&self, more: &[&str]) -> Done {
        let listeners = ["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"].map(str::to_owned);
        let flags = listeners.into_iter().chain(self.flags(more));
        let (code, stdout, stderr) = Tidings::builder(TIDINGS).args(flags).run_to_end();
        Done { code: Some(code), stdout: stdout.into_bytes(), stderr }
    }

    /// A command that trusts the certificate.
    fn trusting(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.arg("--cafile").arg(self.path("cert.pem"));
        command
    }
}

/// The addresses of a server: its line port, and its HTTP port with both schemes.
fn addresses(server: &Tidings) -> [String; 3] {
    [
        format!("tls://{}", server.tcp()),
        format!("wss://localhost:{}", server.http().port()),
        format!("https://{}", server.http()),
    ]
}

#[test]
fn the_http_port_is_announced_with_its_scheme() {
    let servers = TlsServers::new();
    let server = servers.server(&[]);
    let lines = server.stdout_lines();
    assert!(
        lines[0].starts_with("tcp 127.0.0.1:") && lines[1].starts_with("http https://127.0.0.1:"),
        "{lines:?}"
    );
}

#[test]
fn subscribing_and_publishing_work_on_both_ports() {
    let servers = TlsServers::new();
    let server = servers.server(&[]);
    for url in addresses(&server) {
        let tool = Tool::start(servers.trusting(&["subscribe", "news", "--count", "2", "--server", &url]));
        let mut client = RespClient::connect(server.tcp());
        wait_until(PATIENCE, "a subscription", || {
            client.command(&["PUBSUB", "NUMSUB", "news"]).texts() == ["news", "1"]
        });
        let long = "x".repeat(50_000);
        let publish = servers.trusting(&["publish", "news", &url, &long, "--server", &url]);
        let done = Tool::start(publish).finish();
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        assert_eq!(tool.finish().text(), format!("{url}\n{long}\n"));
        wait_until(PATIENCE, "it to have left", || {
            client.command(&["PUBSUB", "NUMSUB", "news"]).texts() == ["news", "0"]
        });
    }
}

#[test]
fn lines_go_both_ways_with_connect() {
    let servers = TlsServers::new();
    let server = servers.server(&["tcp.auto_subscribe="]);
    let [line, ..] = addresses(&server);
    let mut tool = Tool::start(servers.trusting(&["connect", &line]));
    tool.stdin.take().expect("piped").write_all(b"PING\nhello\n").expect("sent");
    let done = tool.finish();
    assert_eq!((done.code, done.text()), (Some(0), "PONG\nhello\n"), "{done:?}");
}

#[test]
fn connect_may_only_read() {
    let delay = Duration::from_millis(200);
    let servers = TlsServers::new();
    let server = servers.server(&["client.stale_close_delay=200ms"]);
    let [line, ..] = addresses(&server);
    let mut reader = Tool::start(servers.trusting(&["connect", &line]));
    let mut publisher = RespClient::connect(server.tcp());
    wait_until(PATIENCE, "it to be subscribed", || {
        publisher.command(&["PUBSUB", "NUMSUB", "updates"]).texts() == ["updates", "1"]
    });
    let began = Instant::now();
    wait_until(PATIENCE, "the time of silent connections to be over", || began.elapsed() > delay * 4);
    publisher.command(&["PUBLISH", "updates", "still here"]);
    assert_eq!(reader.lines(1), ["still here"]);
    drop(reader.stdin.take());
    assert_eq!(reader.finish().code, Some(0));
}

#[test]
fn a_table_is_shared_and_a_deployment_examined() {
    let servers = TlsServers::new();
    let server = servers.server(&[]);
    let [.., web] = addresses(&server);
    let file = servers.path("table.csv");
    fs::write(&file, "a,b\n".to_owned() + &"1,2\n".repeat(500_000)).expect("a file");
    let share = servers.trusting(&["share", file.to_str().expect("UTF-8"), "--server", &web]);
    let done = Tool::start(share).finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.text().starts_with(&format!("{web}/tables/")), "{done:?}");
    let doctor = servers.trusting(&["doctor", &web, "--idle", "0"]);
    let done = Tool::start(doctor).finish();
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn an_untrusted_server_is_rejected_unless_insecure_is_set() {
    let servers = TlsServers::new();
    let server = servers.server(&[]);
    for url in addresses(&server) {
        let done = run(&["publish", "news", "hi", "--server", &url], b"");
        done.refused(1, &["no TLS with", "--cafile"]);
        // The certificate of another authority.
        let other = TlsServers::new();
        let done = Tool::start(other.trusting(&["publish", "news", "hi", "--server", &url])).finish();
        done.refused(1, &["no TLS with"]);
        let done = run(&["publish", "news", "hi", "--server", &url, "--insecure"], b"");
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    }
    let missing = servers.text("missing.pem");
    let done = run(&["publish", "news", "hi", "--cafile", &missing], b"");
    done.refused(2, &["--cafile", &missing, "No such file"]);
    let done = run(&["publish", "news", "hi", "--cafile", &servers.text("key.pem")], b"");
    done.refused(2, &["--cafile", "no certificate in PEM"]);
}

#[test]
fn tls_to_a_plain_port_is_a_clear_error() {
    let server = Tidings::start(TIDINGS, &[]);
    let servers = TlsServers::new();
    for url in [format!("tls://{}", server.tcp()), format!("https://{}", server.http())] {
        let done =
            Tool::start(servers.trusting(&["publish", "news", "hi", "--server", &url, "--retry", "0"]))
                .finish();
        done.refused(1, &["no TLS"]);
    }
}

#[test]
fn a_self_signed_certificate_of_openssl_is_accepted_only_for_its_name() {
    let servers = TlsServers::new();
    let made = |name: &str| {
        let out = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=tidings", "-addext", &format!("subjectAltName={name}")])
            .args(["-keyout", &servers.text("key.pem"), "-out", &servers.text("cert.pem")])
            .output()
            .expect("openssl is installed");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    for (name, is_ours) in [("IP:127.0.0.1", true), ("DNS:elsewhere.example", false)] {
        made(name);
        let server = servers.server(&[]);
        let [line, ..] = addresses(&server);
        let done = Tool::start(servers.trusting(&["publish", "news", "hi", "--server", &line])).finish();
        if is_ours {
            assert_eq!(done.code, Some(0), "{done:?}");
        } else {
            done.refused(1, &["no TLS", "elsewhere.example"]);
        }
    }
}

#[test]
fn an_unusable_certificate_is_one_error_with_its_name() {
    let servers = TlsServers::new();
    let (cert, key) = (servers.text("cert.pem"), servers.text("key.pem"));
    servers.renew();
    let other = TlsServers::new();
    fs::write(servers.path("empty.pem"), "").expect("a file");
    fs::write(servers.path("broken.pem"), "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n")
        .expect("a file");
    fs::write(
        servers.path("encrypted.pem"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .expect("a file");
    let at = |name: &str| servers.text(name);
    for (option, words) in [
        (
            format!("tls.cert_pem_file={}", at("missing.pem")),
            vec!["tls.cert_pem_file", "missing.pem", "No such file"],
        ),
        (format!("tls.cert_pem_file={}", at("")), vec!["tls.cert_pem_file", "Is a directory"]),
        (format!("tls.cert_pem_file={}", at("empty.pem")), vec!["empty.pem", "no certificate"]),
        (format!("tls.cert_pem_file={}", at("broken.pem")), vec!["broken.pem", "not valid PEM"]),
        (
            format!("tls.cert_pem_file={key}"),
            vec!["tls.cert_pem_file", "private key, which tls.key_pem_file is for"],
        ),
        (
            format!("tls.key_pem_file={cert}"),
            vec!["tls.key_pem_file", "certificate, which tls.cert_pem_file is for"],
        ),
        (format!("tls.key_pem_file={}", at("encrypted.pem")), vec!["encrypted.pem", "passphrase"]),
        (
            format!("tls.key_pem_file={}", other.text("key.pem")),
            vec!["is not that of the certificate in", &cert],
        ),
        (
            format!("tls.client_ca_pem_file={}", at("empty.pem")),
            vec!["tls.client_ca_pem_file", "no certificate"],
        ),
        ("tls.cert_pem=there.pem".to_owned(), vec!["tls.cert_pem", "both given"]),
        ("tls.min_version=1.1".to_owned(), vec!["1.2", "1.3"]),
        ("tls.required=perhaps".to_owned(), vec!["auto", "true or false"]),
    ] {
        servers.refused(&[&option]).refused(2, &words);
    }
    let (code, _, stderr) = Tidings::builder(TIDINGS).args(["--set", "tls.enabled=true"]).run_to_end();
    assert_eq!(code, 2);
    assert!(stderr.contains("tls.cert_pem_file is not given"), "{stderr}");
}

#[test]
fn a_certificate_may_be_in_the_environment_as_pem_or_in_base64() {
    let servers = TlsServers::new();
    let read = |name: &str| fs::read_to_string(servers.path(name)).expect("a file");
    let in_base_64 = |name: &str| {
        let out =
            Command::new("base64").arg("-w0").arg(servers.path(name)).output().expect("base64 is installed");
        String::from_utf8(out.stdout).expect("text")
    };
    let path = |name: &str| servers.text(name);
    let forms: [&dyn Fn(&str) -> String; 3] = [&read, &in_base_64, &path];
    for form in forms {
        let server = Tidings::builder(TIDINGS)
            .args(["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .env("TIDINGS_TLS_ENABLED", "true")
            .env("TIDINGS_TLS_CERT_PEM", &form("cert.pem"))
            .env("TIDINGS_TLS_KEY_PEM", &form("key.pem"))
            .start();
        let [line, ..] = addresses(&server);
        let done = Tool::start(servers.trusting(&["publish", "news", "hi", "--server", &line])).finish();
        assert_eq!(done.code, Some(0), "{done:?}");
    }
}

#[test]
fn sighup_reloads_the_certificate() {
    let servers = TlsServers::new();
    let server = servers.server(&["tls.reload_interval=24h"]);
    let [line, ..] = addresses(&server);
    let mut stays = Tool::start(servers.trusting(&["connect", &line]));
    let mut stdin = stays.stdin.take().expect("piped");
    stdin.write_all(b"PING\n").expect("sent");
    stays.lines(1);
    servers.renew();
    let publish = || {
        Tool::start(servers.trusting(&["publish", "news", "hi", "--server", &line, "--retry", "0"])).finish()
    };
    assert_eq!(publish().code, Some(1), "the new certificate is not in use yet");
    server.signal(Signal::HUP);
    server.wait_for_log("was read again");
    assert_eq!(publish().code, Some(0));
    stdin.write_all(b"PING\n").expect("sent");
    drop(stdin);
    assert_eq!(stays.finish().text(), "PONG\nPONG\n");
}
