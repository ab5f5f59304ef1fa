//! The page: the parts that the server renders, and the responses for its files.

use tidings_testkit::{LineClient, PATIENCE, RedisServer, wait_until};

use crate::support::TestServer;

/// All values of an attribute.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let begin = format!(" {name}=\"");
    page.split(&begin).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn the_page_shows_the_state_and_commands_to_try_the_server() {
    let server = TestServer::start(&["ready.canary_interval=20ms"]);
    wait_until(PATIENCE, "ready", || server.get("/ready").status == 200);
    let mut client = LineClient::connect(server.tcp());
    client.send("SUBSCRIBE scores");
    client.expect("CONFIRMED");
    wait_until(PATIENCE, "numbers", || {
        let page = server.get("/").body;
        page.contains("<dt>connections</dt><dd>1</dd>") && page.contains("<dt>subscriptions</dt><dd>2</dd>")
    });
    let answer = server.get("/");
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    let page = answer.body;
    let port = server.tcp().port();
    for expected in [
        format!("tidings {}</small>", env!("CARGO_PKG_VERSION")),
        "<strong>Ready.</strong>".into(),
        "<strong>A workbench.</strong>".into(),
        format!("<code>127.0.0.1:{port}</code>"),
        format!("<code>{}</code>", server.announced("http")),
        "<code>memory</code>".into(),
        format!("nc 127.0.0.1 {port}"),
        format!("redis-cli -p {port} PUBLISH updates &quot;hello world&quot;"),
        format!("tidings connect 127.0.0.1:{port}"),
    ] {
        assert!(page.contains(&expected), "{expected} is not in {page}");
    }
}

#[test]
fn all_links_of_the_page_work_at_each_of_its_addresses() {
    let server = TestServer::start(&["ready.canary_interval=20ms"]);
    wait_until(PATIENCE, "ready", || server.get("/ready").status == 200);
    let paths = ["/", "/parser/", "/tables/0c6ec8e5-1b7e-4c0f-9d6c-3f1f8f5d7a10", "/parser/share/x"];
    for (path, up) in paths.into_iter().zip(["./", "../", "../", "../../"]) {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "text/html; charset=utf-8"),
            "{path}"
        );
        let names = [attributes(&answer.body, "href"), attributes(&answer.body, "src")].concat();
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            let name = name.strip_prefix(up).unwrap_or_else(|| panic!("{name} in {path}"));
            assert_eq!(server.get(&format!("/{name}")).status, 200, "{name}");
        }
        assert!(!answer.body.contains('{'), "a placeholder without a value: {path}");
    }
    assert!(server.get("/assets/style.css").header("content-type").starts_with("text/css"));
    assert!(server.get("/assets/main.js").header("content-type").starts_with("text/javascript"));
    assert_eq!(server.get("/assets/icon.svg").header("content-type"), "image/svg+xml");
    assert_eq!(server.get("/assets/package.json").status, 404);
}

#[test]
fn unchanged_files_get_304_and_others_are_compressed() {
    let server = TestServer::start(&[]);
    for path in ["/assets/table.js", "/tables/x"] {
        let ask = |more: &str| {
            server.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n"))
        };
        let plain = ask("");
        let tag = plain.header("etag");
        assert!(tag.len() > 10, "{tag:?}");
        assert_eq!(plain.header("vary"), "accept-encoding");
        let again = ask(&format!("If-None-Match: {tag}\r\n"));
        assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", tag));
        let head = server.send(format!(
            "HEAD {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(head.header("content-encoding"), "gzip");
        let length: usize = head.header("content-length").parse().expect("a length");
        assert!(length < plain.body.len() / 2, "{length} bytes");
    }
}

#[test]
fn the_content_security_policy_allows_this_server_only() {
    let server = TestServer::start(&[]);
    let pages = ["/", "/tables/x", "/assets/style.css", "/assets/main.js"];
    for path in pages.into_iter().chain(["/health", "/ready", "/metrics", "/nothing"]) {
        let answer = server.get(path);
        let policy = answer.header("content-security-policy");
        for rule in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]
        {
            assert!(policy.contains(rule), "{path}: {rule} is not in {policy:?}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let runs = policy.contains("script-src 'self'") && policy.contains("trusted-types 'none'");
        assert_eq!(runs, pages.contains(&path), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        assert!(answer.header("cache-control").starts_with("no-"), "{path}");
    }
    for path in ["/", "/tables/x"] {
        let page = server.get(path).body;
        assert!(page.matches("<script").count() == 1 && !page.contains("style="), "{page}");
    }
}

#[test]
fn the_page_of_a_server_with_keys_and_redis_shows_no_secret() {
    let redis = RedisServer::absent();
    let broker = format!("broker=redis://user:hunter2@127.0.0.1:{}", redis.port());
    let server =
        TestServer::start(&[&broker, "http_api.key=swordfish", "client.token.hmac_secret_key=mellon"]);
    wait_until(PATIENCE, "a reason", || server.get("/").body.contains("refused"));
    let page = server.get("/").body;
    assert!(page.contains("<strong>Not ready:</strong> broker unavailable: "), "{page}");
    assert!(page.contains(&format!("<code>redis://***@127.0.0.1:{}</code></dd><dd>away</dd>", redis.port())));
    assert!(page.contains("--askpass") && page.contains("AUTH"), "{page}");
    assert!(!page.contains("workbench"), "{page}");
    for secret in ["hunter2", "swordfish", "mellon"] {
        for path in ["/", "/ready", "/metrics"] {
            assert!(!server.get(path).body.contains(secret), "{secret} is shown in {path}");
        }
    }
}
