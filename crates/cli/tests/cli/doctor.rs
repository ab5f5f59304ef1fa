//! `tidings doctor`, in front of the server itself and in front of a real nginx that is configured well and badly.

use tidings_testkit::free_port;

use crate::nginx::{GOOD, Nginx};
use crate::tool::{Done, run, server};

fn doctor(url: &str, more: &[&str]) -> Done {
    run(&[&["doctor", url], more].concat(), b"")
}

/// The word that the check of this name got.
#[track_caller]
fn verdict<'a>(done: &'a Done, name: &str) -> &'a str {
    let line = done.text().lines().find(|line| line.get(8..).is_some_and(|rest| rest.starts_with(name)));
    let line = line.unwrap_or_else(|| panic!("no check of {name}: {}", done.text()));
    line.split_whitespace().next().unwrap()
}

#[test]
fn a_server_that_is_reached_as_it_should_be_has_nothing_wrong() {
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
        assert!(done.text().contains("nothing wrong found in "), "{done:?}");
    }
}

#[test]
fn what_a_proxy_does_wrong_is_found_and_comes_with_the_line_to_write() {
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
fn connections_that_are_cut_while_they_are_idle_are_found() {
    let server = server(&[]);
    let nginx = Nginx::start(&server, &format!("{GOOD} proxy_read_timeout 1s;"));
    let done = doctor(&nginx.url("http"), &["--idle", "20s"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(verdict(&done, "idle"), "FAIL");
    assert!(done.text().contains("a WebSocket ended after 1."), "{done:?}");
    assert!(done.text().contains("proxy_read_timeout 75s;"), "{done:?}");
}

#[test]
fn what_needs_a_token_is_skipped_without_one_and_made_with_it() {
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
fn an_address_where_nothing_or_something_else_answers_is_said() {
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
