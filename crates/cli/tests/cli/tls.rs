//! Commands over TLS, through a real nginx.

use tidings_testkit::{PATIENCE, RespClient, wait_until};

use crate::nginx::{GOOD, Nginx};
use crate::tool::{Done, Tool, command, run, server};

/// Starts a command that trusts this nginx.
fn trusting(nginx: &Nginx, args: &[&str]) -> Tool {
    let mut command = command(args);
    command.env("SSL_CERT_FILE", nginx.authority()).env_remove("SSL_CERT_DIR");
    Tool::start(command)
}

#[test]
fn subscribing_publishing_and_sharing_work_over_tls_and_under_a_path() {
    let server = server(&["--set", "client.insecure=true"]);
    let nginx = Nginx::start_tls(&server, GOOD);
    for scheme in ["ws", "http"] {
        let url = nginx.url(scheme);
        let tool = trusting(&nginx, &["subscribe", "news", "--count", "1", "--server", &url]);
        let mut client = RespClient::connect(server.tcp());
        wait_until(PATIENCE, "a subscription", || {
            client.command(&["PUBSUB", "NUMSUB", "news"]).texts() == ["news", "1"]
        });
        let done = trusting(&nginx, &["publish", "news", scheme, "--server", &url]).finish();
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        assert_eq!(tool.finish().text(), format!("{scheme}\n"));
    }
    let mut tool = trusting(&nginx, &["share", "-", "--server", &nginx.url("http")]);
    drop(tool.stdin.take().map(|mut stdin| std::io::Write::write_all(&mut stdin, b"a,b\n1,2\n")));
    let Done { code, stdout, stderr } = tool.finish();
    assert_eq!(code, Some(0), "{stderr}");
    let out = String::from_utf8(stdout).unwrap();
    assert!(out.starts_with(&format!("{}/tables/", nginx.url("http"))), "{out}");
}

#[test]
fn an_untrusted_certificate_is_reported_and_not_retried() {
    let server = server(&[]);
    let nginx = Nginx::start_tls(&server, GOOD);
    for scheme in ["ws", "http"] {
        let url = nginx.url(scheme);
        let done = run(&["subscribe", "news", "--server", &url], b"");
        done.refused(1, &["no TLS with", "SSL_CERT_FILE"]);
        let done = run(&["publish", "news", "hi", "--server", &url], b"");
        done.refused(1, &["no TLS with"]);
    }
}
