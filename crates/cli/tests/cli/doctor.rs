//! Tests of `tidings doctor`, with the server itself and with a real nginx, HAProxy and Caddy in correct and
//! incorrect configurations.

use tidings_testkit::free_port;

use crate::nginx::{GOOD, Nginx};
use crate::proxies::{DEFAULTS, Haproxy, Proxy};
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

/// Asserts that the check `name` has this verdict and that the output contains all of `words`.
#[track_caller]
fn expect(done: &Done, name: &str, expected: &str, words: &[&str]) {
    assert_eq!(verdict(done, name), expected, "{}", done.text());
    for word in words {
        assert!(done.text().contains(word), "{word:?} is missing: {}", done.text());
    }
}

#[test]
fn wrong_settings_of_haproxy_are_recognised_by_name() {
    let server = server(&[]);
    let good = Haproxy::default();
    let done = doctor(&Proxy::haproxy(&server, &good).url(), &["--idle", "0"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    expect(&done, "proxy", "ok", &["HAProxy, recognised by its error page"]);
    expect(&done, "upload", "ok", &[]);
    expect(&done, "latency", "ok", &[]);
    expect(&done, "address", "note", &["`option forwardfor` is missing"]);
    let stating = Haproxy { frontend: "option forwardfor", ..Haproxy::default() };
    let done = doctor(&Proxy::haproxy(&server, &stating).url(), &["--idle", "0"]);
    expect(&done, "address", "note", &["trusted_proxies = [\"127.0.0.1\"]"]);
    for (config, name, expected, words) in [
        (
            Haproxy { frontend: "option http-buffer-request", ..Haproxy::default() },
            "upload",
            "note",
            ["`option http-buffer-request`", "no option http-buffer-request"],
        ),
        (
            Haproxy { defaults: "timeout client 75s\n timeout server 75s", ..Haproxy::default() },
            "latency",
            "note",
            ["`option http-no-delay` is missing", "option http-no-delay"],
        ),
        (
            Haproxy { frontend: "http-request set-header Host localhost", ..Haproxy::default() },
            "own origin",
            "FAIL",
            ["`http-request set-header Host`", "http-request set-header Host %[req.hdr(host)]"],
        ),
        (
            Haproxy { frontend: "http-request del-header Upgrade", ..Haproxy::default() },
            "websocket",
            "FAIL",
            ["instead of an upgrade: ", "`http-request del-header`"],
        ),
        (
            Haproxy { server: "send-proxy-v2", ..Haproxy::default() },
            "health",
            "FAIL",
            ["a PROXY protocol header that the server does not expect", "http.proxy_protocol = true"],
        ),
        (
            Haproxy { server: "send-proxy", ..Haproxy::default() },
            "health",
            "FAIL",
            ["Remove `send-proxy`", "server node1 127.0.0.1:8000"],
        ),
    ] {
        let done = doctor(&Proxy::haproxy(&server, &config).url(), &["--idle", "0"]);
        expect(&done, name, expected, &words);
        assert_eq!(done.code, Some(i32::from(expected == "FAIL")), "{done:?}");
    }
}

#[test]
fn a_proxy_header_that_the_server_expects_or_refuses_is_recognised() {
    let with = |trusted: &str| {
        let trusted = format!("trusted_proxies={trusted}");
        server(&["--set", "http.proxy_protocol=true", "--set", &trusted])
    };
    let server = with("127.0.0.1");
    let done = doctor(&Proxy::haproxy(&server, &Haproxy::default()).url(), &[]);
    assert_eq!(done.code, Some(1), "{done:?}");
    expect(&done, "health", "FAIL", &["and HAProxy sends none", "server node1 127.0.0.1:8000 send-proxy-v2"]);
    let done = doctor(&Proxy::caddy(&server, "", "").url(), &[]);
    expect(&done, "health", "FAIL", &["and Caddy sends none", "proxy_protocol v2"]);
    let other = with("10.0.0.1");
    let sending = Haproxy { server: "send-proxy-v2", ..Haproxy::default() };
    let done = doctor(&Proxy::haproxy(&other, &sending).url(), &[]);
    expect(&done, "health", "FAIL", &["its trusted_proxies must contain the address of HAProxy"]);
    other.wait_for_log("reason=\"its address is not in trusted_proxies\"");
    let done = doctor(&Proxy::haproxy(&server, &sending).url(), &["--idle", "0"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    expect(&done, "address", "ok", &["(PROXY protocol)"]);
}

#[test]
fn paths_of_operators_may_be_on_another_port() {
    let server = server(&["--set", "internal.listen=127.0.0.1:0"]);
    let done = doctor(&server.http_url(), &["--idle", "0"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    expect(&done, "health", "skip", &["internal.listen", "the server sees the address 127.0.0.1"]);
}

#[test]
fn short_timeouts_of_haproxy_are_recognised_by_name() {
    let server = server(&[]);
    let tunnel = DEFAULTS.replace("tunnel 75s", "tunnel 1s");
    let proxy = Proxy::haproxy(&server, &Haproxy { defaults: &tunnel, ..Haproxy::default() });
    let done = doctor(&proxy.url(), &["--idle", "5s"]);
    expect(&done, "idle", "FAIL", &["a WebSocket ended after ", "`timeout tunnel`", "timeout tunnel 75s"]);
    assert!(done.text().contains("an event stream stayed open"), "{}", done.text());
    let client = DEFAULTS.replace("server 75s", "server 1s");
    let proxy = Proxy::haproxy(&server, &Haproxy { defaults: &client, ..Haproxy::default() });
    let done = doctor(&proxy.url(), &["--idle", "5s"]);
    expect(&done, "idle", "ok", &["an event stream ended after ", "`timeout server` or `timeout client`"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    // The lines for another proxy, on request.
    let done = doctor(&proxy.url(), &["--idle", "5s", "--proxy", "traefik"]);
    expect(&done, "proxy", "ok", &["Traefik (--proxy)", "`respondingTimeouts`", "idleTimeout: 75s"]);
    run(&["doctor", &proxy.url(), "--proxy", "apache"], b"")
        .refused(2, &["nginx, haproxy, caddy or traefik"]);
}

#[test]
fn wrong_settings_of_caddy_are_recognised_by_name() {
    let server = server(&[]);
    let done = doctor(&Proxy::caddy(&server, "", "").url(), &["--idle", "0"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    expect(&done, "proxy", "ok", &["Caddy, recognised by its Server header"]);
    for (site, proxy, name, words) in [
        ("", "transport http {\n read_timeout 1s\n}", "idle", ["`read_timeout`", "read_timeout 75s"]),
        (
            "request_body {\n max_size 1MB\n}",
            "",
            "body size",
            ["`max_size` of `request_body`", "max_size 16MiB"],
        ),
        ("", "buffer_responses", "websocket", ["Remove `buffer_responses`", "flush_interval -1"]),
        (
            "",
            "header_up Host {upstream_hostport}",
            "own origin",
            ["remove `header_up Host`", "header_up Host {host}"],
        ),
    ] {
        let caddy = Proxy::caddy(&server, site, proxy);
        let done = doctor(&caddy.url(), &["--idle", if name == "idle" { "5s" } else { "0" }]);
        assert_eq!(done.code, Some(1), "{done:?}");
        expect(&done, name, "FAIL", &words);
    }
}

#[test]
fn nginx_is_recognised_and_its_request_buffering_is_noted() {
    let server = server(&[]);
    let done = doctor(&Nginx::start(&server, GOOD).url("http"), &["--idle", "0"]);
    expect(&done, "proxy", "ok", &["nginx, recognised by its Server header"]);
    expect(&done, "upload", "note", &["proxy_request_buffering on", "proxy_request_buffering off;"]);
    let unbuffered = format!("{GOOD} proxy_request_buffering off;");
    let done = doctor(&Nginx::start(&server, &unbuffered).url("http"), &["--idle", "0"]);
    expect(&done, "upload", "ok", &[]);
}

#[test]
fn closed_idle_connections_are_found() {
    let server = server(&[]);
    let nginx = Nginx::start(&server, &format!("{GOOD} proxy_read_timeout 1s;"));
    let done = doctor(&nginx.url("http"), &["--idle", "20s"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(verdict(&done, "idle"), "FAIL");
    assert!(done.text().contains("a WebSocket ended after "), "{done:?}");
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
    // The last line shows how much was not tested: the proxy, messages, streaming and idle connections.
    assert!(without.text().ends_with("; 4 skipped\n"), "{}", without.text());
    assert!(with.text().ends_with("; 2 skipped\n"), "{}", with.text());
}

#[test]
fn a_channel_of_a_namespace_and_an_api_on_another_port_can_be_given() {
    let server = server(
        &[
            "client.token.hmac_secret_key=key",
            "http_api.key=api",
            "internal.listen=127.0.0.1:0",
            "channel.namespaces=chat",
            "channel.namespaces.chat.allow_subscribe_for_client=true",
        ]
        .map(|option| ["--set", option])
        .concat(),
    );
    let made = run(&["token", "connection", "--user", "42", "--secret", "key"], b"");
    let token = ["--idle", "0", "--token", made.text().trim(), "--key", "api"];
    let doctor = |more: &[&str]| doctor(&server.http_url(), &[&token[..], more].concat());
    let without = doctor(&[]);
    assert_eq!(without.code, Some(0), "{without:?}");
    expect(&without, "streaming", "skip", &["answered 403: ", "give a --channel"]);
    let with = doctor(&["--channel", "chat:doctor"]);
    expect(&with, "streaming", "ok", &[]);
    expect(&with, "latency", "skip", &["give --api"]);
    let api = server.listeners("internal").pop().expect("a listener");
    let with = doctor(&["--channel", "chat:doctor", "--api", &api]);
    assert_eq!((with.code, verdict(&with, "latency")), (Some(0), "ok"), "{with:?}");
    let other = doctor(&["--channel", "news"]);
    assert_eq!((other.code, verdict(&other, "streaming")), (Some(1), "FAIL"), "{other:?}");
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
