//! Tests of `tidings doctor`, with the server itself and with a real nginx in correct and incorrect configurations.

use tidings_testkit::free_port;

use crate::nginx::{GOOD, Nginx};
use crate::tool::{Done, run, server};

fn doctor(url: &str, more: &[&str]) -> Done {
    run(&[&["doctor", url], more].concat(), b"")
}

/// The verdict of the check with this name.
#[track_caller]
fn verdict<'a>(done: &'a Done, name: &str) -> &'a str {
    let line = done.text().lines().find(|line| line.get(8..).is_some_and(|rest| rest.starts_with(name)));
    let line = line.unwrap_or_else(|| panic!("no check of {name}: {}", done.text()));
    line.split_whitespace().next().unwrap()
}

#[test]
fn a_correctly_configured_server_has_no_problem() {
    let server = server(&[]);
    let nginx = Nginx::start(&server, GOOD);
    for url in [server.http_url(), nginx.url("http")] {
        let done = doctor(&url, &["--idle", "1s"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(done.stderr, "");
        for name in [
            "reach",
            "health",
            "ready",
            "body size",
            "websocket",
            "messages",
            "message size",
            "own origin",
            "other origin",
            "streaming",
            "latency",
            "idle",
        ] {
            assert_eq!(verdict(&done, name), "ok", "{name}: {}", done.text());
        }
        assert!(done.text().contains("no problem found in "), "{done:?}");
    }
}

#[test]
fn problems_of_a_proxy_are_found_and_reported_with_the_lines_to_add() {
    let server = server(&[]);
    for (location, name, line) in [
        ("proxy_set_header Host $http_host;", "websocket", "proxy_set_header Upgrade $http_upgrade;"),
        (
            "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrade_or_close;
             proxy_set_header Host localhost;",
            "own origin",
            "proxy_set_header Host $http_host;",
        ),
        (
            "client_max_body_size 1m; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
             proxy_set_header Connection $upgrade_or_close; proxy_set_header Host $http_host;",
            "body size",
            "client_max_body_size 16m;",
        ),
        (
            "proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_types text/event-stream; proxy_http_version 1.1; proxy_set_header Host $http_host;
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrade_or_close;",
            "streaming",
            "proxy_buffering off;",
        ),
        (
            "gzip on; gzip_types text/event-stream; proxy_http_version 1.1; proxy_set_header Host $http_host;
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrade_or_close;",
            "streaming",
            "gzip off;",
        ),
    ] {
        let nginx = Nginx::start(&server, location);
        let done = doctor(&nginx.url("http"), &["--idle", "0"]);
        assert_eq!(done.code, Some(1), "{location}: {}", done.text());
        assert_eq!(verdict(&done, name), "FAIL", "{location}: {}", done.text());
        assert!(done.text().contains(line), "{location}: {}", done.text());
        assert!(done.stderr.contains(" checks failed"), "{done:?}");
    }
}

#[test]
fn closed_idle_connections_are_found() {
    let server = server(&[]);
    let nginx = Nginx::start(&server, &format!("{GOOD} proxy_read_timeout 1s;"));
    let done = doctor(&nginx.url("http"), &["--idle", "20s"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(verdict(&done, "idle"), "FAIL");
    assert!(done.text().contains("a WebSocket ended after 1."), "{done:?}");
    assert!(done.text().contains("proxy_read_timeout 75s;"), "{done:?}");
}

#[test]
fn checks_that_need_a_token_run_only_with_one() {
    let server = server(&[
        "--set",
        "client.token.hmac_secret_key=key",
        "--set",
        "http_api.key=api",
        "--set",
        "channel.without_namespace.allow_subscribe_for_client=true",
    ]);
    let url = server.http_url();
    let without = doctor(&url, &["--idle", "0"]);
    assert_eq!(without.code, Some(0), "{without:?}");
    assert_eq!(verdict(&without, "messages"), "skip", "{without:?}");
    let made = run(&["token", "connection", "--user", "42", "--secret", "key"], b"");
    let with = doctor(&url, &["--idle", "0", "--token", made.text().trim(), "--key", "api"]);
    assert_eq!(with.code, Some(0), "{with:?}");
    assert_eq!((verdict(&with, "messages"), verdict(&with, "latency")), ("ok", "ok"), "{with:?}");
}

#[test]
fn an_unreachable_or_unknown_server_is_reported() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let done = doctor(&nobody, &[]);
    assert_eq!(done.code, Some(1));
    assert_eq!(verdict(&done, "reach"), "FAIL");
    let server = server(&[]);
    let nginx = Nginx::start(&server, GOOD);
    let root = nginx.url("http").replace("/push", "");
    let done = doctor(&root, &[]);
    assert_eq!((done.code, verdict(&done, "health")), (Some(1), "FAIL"), "{done:?}");
    assert!(done.text().contains("proxy_pass http://127.0.0.1:8000/;"), "{done:?}");
    run(&["doctor", "gopher://x"], b"").refused(2, &["unknown scheme"]);
}
