//! The landing page.

use tidings_testkit::{LineClient, RedisServer};

use crate::world::{World, eventually};

/// The values of an attribute, wherever they stand.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let begin = format!(" {name}=\"");
    page.split(&begin).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn the_page_says_what_runs_here_and_how_to_try_it() {
    let world = World::with(&["ready.canary_interval=20ms"]);
    eventually("ready", || world.get("/ready").status == 200);
    let mut client = LineClient::connect(world.tcp());
    client.send("SUBSCRIBE scores");
    client.expect("CONFIRMED");
    eventually("numbers", || {
        let page = world.get("/").body;
        page.contains("<dt>connections</dt><dd>1</dd>") && page.contains("<dt>subscriptions</dt><dd>2</dd>")
    });
    let answer = world.get("/");
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    let page = answer.body;
    let port = world.tcp().port();
    for said in [
        format!("tidings <small>{}</small>", env!("CARGO_PKG_VERSION")),
        "<strong>Ready.</strong>".into(),
        "<strong>A workbench.</strong>".into(),
        format!("<code>127.0.0.1:{port}</code>"),
        format!("<code>{}</code>", world.announced("http")),
        "<code>memory</code>".into(),
        format!("nc 127.0.0.1 {port}"),
        format!("redis-cli -p {port} PUBLISH updates &quot;follow the white rabbit&quot;"),
        format!("tidings connect 127.0.0.1:{port}"),
    ] {
        assert!(page.contains(&said), "{said} is not in {page}");
    }
}

#[test]
fn everything_the_page_names_is_here() {
    let world = World::with(&["ready.canary_interval=20ms"]);
    eventually("ready", || world.get("/ready").status == 200);
    let page = world.get("/").body;
    let names = [attributes(&page, "href"), attributes(&page, "src")].concat();
    assert_eq!(names, ["icon.svg", "style.css", "ready", "health", "metrics"]);
    for name in names {
        assert_eq!(world.get(&format!("/{name}")).status, 200, "{name}");
    }
    assert!(world.get("/style.css").header("content-type").starts_with("text/css"));
    assert_eq!(world.get("/icon.svg").header("content-type"), "image/svg+xml");
}

#[test]
fn a_browser_is_told_to_run_nothing_and_to_ask_nobody_else() {
    let world = World::with(&[]);
    for path in ["/", "/style.css", "/health", "/ready", "/metrics", "/nothing"] {
        let answer = world.get(path);
        let policy = answer.header("content-security-policy");
        for rule in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]
        {
            assert!(policy.contains(rule), "{path}: {rule} is not in {policy:?}");
        }
        assert!(
            !policy.contains("script") && !policy.contains("unsafe") && !policy.contains("http"),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        assert!(answer.header("cache-control").starts_with("no-"), "{path}");
    }
    let page = world.get("/").body;
    assert!(!page.contains("<script") && !page.contains("style="), "{page}");
}

#[test]
fn the_page_of_a_server_with_keys_and_redis_shows_no_secret() {
    let redis = RedisServer::absent();
    let broker = format!("broker=redis://user:hunter2@127.0.0.1:{}", redis.port());
    let world = World::with(&[&broker, "http_api.key=swordfish", "client.token.hmac_secret_key=mellon"]);
    eventually("a reason", || world.get("/").body.contains("refused"));
    let page = world.get("/").body;
    assert!(page.contains("<strong>Not ready:</strong> broker unavailable: "), "{page}");
    assert!(page.contains(&format!("<code>redis://***@127.0.0.1:{}</code></td><td>away</td>", redis.port())));
    assert!(page.contains("--askpass") && page.contains("AUTH"), "{page}");
    assert!(!page.contains("workbench"), "{page}");
    for secret in ["hunter2", "swordfish", "mellon"] {
        for path in ["/", "/ready", "/metrics"] {
            assert!(!world.get(path).body.contains(secret), "{secret} is shown in {path}");
        }
    }
}
