//! Who may use the page.

use std::time::Instant;

use tidings_testkit::{get_http, post_http};

use crate::requests::{CHANGE, PASSWORD, cookie, get, json, login, password_option};
use crate::support::{TestServer, load};

const KEY: &str = "http_api.key=a key of this test alone";
const WITH_KEY: &str = "X-API-Key: a key of this test alone";
const DATA: &str = "/admin/api/overview";

#[test]
fn on_a_workbench_the_page_is_open_to_programs_of_this_machine_and_to_no_other_site() {
    let server = TestServer::start(&[]);
    let page = server.get("/admin/");
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").contains("script-src 'self'"), "{}", page.head);
    assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"), "{}", page.head);
    assert_eq!(server.get("/admin").header("location"), "admin/", "relative, for a path prefix");
    assert_eq!(server.get("/admin/assets/main.js").status, 200);
    assert_eq!(server.get("/admin/assets/none.js").status, 404);
    assert_eq!(json(&server.get("/admin/api/session")), serde_json::json!({"login": false, "open": true}));
    assert_eq!(server.get(DATA).status, 200);
    assert_eq!(server.get(DATA).header("cache-control"), "no-store");
    assert_eq!(get(server.http(), DATA, &["Sec-Fetch-Site: cross-site"]).status, 403);
    let publish = r#"{"channel":"news","data":1}"#;
    let path = "/admin/api/command/publish";
    assert_eq!(server.post(path, &[], publish).status, 403, "without the header");
    assert_eq!(server.post(path, &[CHANGE, "Sec-Fetch-Site: same-site"], publish).status, 403);
    assert_eq!(server.post(path, &[CHANGE, "Sec-Fetch-Site: same-origin"], publish).status, 200);
    assert_eq!(
        server.post("/admin/api/command/block_user", &[CHANGE], "{}").status,
        404,
        "no method of the page"
    );
    assert_eq!(server.post("/admin/api/login", &[CHANGE], "{}").status, 404, "there is no password");
}

#[test]
fn without_a_password_and_without_the_key_there_is_no_page() {
    for options in [&[KEY][..], &[KEY, "http_api.insecure=true"], &["admin.enabled=false"]] {
        let server = TestServer::start(options);
        for path in
            ["/admin", "/admin/", "/admin/assets/main.js", "/admin/api/session", DATA, "/admin/api/log"]
        {
            assert_eq!(server.get(path).status, 404, "{path} with {options:?}");
        }
        assert_eq!(login(server.http(), PASSWORD).status, 404, "{options:?}");
    }
    let server = TestServer::start(&["admin.enabled=false", KEY]);
    assert_eq!(get(server.http(), DATA, &[WITH_KEY]).status, 404, "off is off");
    let server = TestServer::start(&[KEY, "http_api.insecure=true"]);
    assert_eq!(
        get(server.http(), DATA, &["X-API-Key: any"]).status,
        404,
        "an API without a key opens no page"
    );
}

#[test]
fn the_api_key_opens_the_page_to_programs() {
    let server = TestServer::start(&[KEY]);
    assert_eq!(get(server.http(), DATA, &[WITH_KEY]).status, 200);
    assert_eq!(get(server.http(), "/admin/", &[WITH_KEY]).status, 200);
    let began = Instant::now();
    assert_eq!(get(server.http(), DATA, &["X-API-Key: a guess"]).status, 401);
    assert!(began.elapsed().as_millis() >= 150, "a guess is answered late");
    let publish = r#"{"channel":"news","data":1}"#;
    assert_eq!(server.post("/admin/api/command/publish", &[WITH_KEY], publish).status, 200);
}

#[test]
fn a_login_lasts_until_the_logout_or_its_end() {
    let server = TestServer::start(&[&password_option(), "admin.session_ttl=1s"]);
    assert_eq!(server.get("/admin/").status, 200, "the page with the login");
    assert_eq!(server.get(DATA).status, 401, "a workbench with a password requires it");
    assert_eq!(get(server.http(), DATA, &["Cookie: tidings_admin=guess"]).status, 401);
    assert_eq!(post_http(server.http(), "/admin/api/login", &[], "{}").status, 403, "without the header");
    let first = login(server.http(), PASSWORD);
    assert_eq!(first.status, 200, "{}", first.body);
    let set = first.header("set-cookie");
    assert!(set.contains("; HttpOnly; SameSite=Strict") && !set.contains("Secure"), "{set}");
    let first = cookie(&first);
    assert_eq!(get(server.http(), DATA, &[&first]).status, 200);
    let publish = r#"{"channel":"news","data":1}"#;
    assert_eq!(
        server.post("/admin/api/command/publish", &[&first], publish).status,
        403,
        "without the header"
    );
    assert_eq!(server.post("/admin/api/command/publish", &[&first, CHANGE], publish).status, 200);
    assert_eq!(server.metric("tidings_admin_sessions"), 1);
    let second = cookie(&login(server.http(), PASSWORD));
    assert_eq!(server.post("/admin/api/logout", &[&second, CHANGE], "{}").status, 200);
    assert_eq!(get(server.http(), DATA, &[&second]).status, 401, "after the logout");
    tidings_testkit::wait_until(tidings_testkit::PATIENCE, "the end of the session", || {
        get(server.http(), DATA, &[&first]).status == 401
    });
    assert_eq!(server.metric("tidings_admin_logins_total{outcome=\"succeeded\"}"), 2);
    assert_eq!(server.metric("tidings_admin_sessions"), 0);
}

#[test]
fn wrong_passwords_are_answered_late_and_then_not_checked_at_all() {
    let server = TestServer::start(&[&password_option()]);
    let began = Instant::now();
    let wrong = login(server.http(), "guess");
    assert_eq!((wrong.status, &*wrong.body), (401, "the password is wrong\n"));
    assert!(began.elapsed().as_millis() >= 150, "a guess is answered late");
    for _ in 0..4 {
        assert_eq!(login(server.http(), "guess").status, 401);
    }
    let throttled = login(server.http(), PASSWORD);
    assert_eq!(throttled.status, 429, "even the right password is not checked");
    let wait: u64 = throttled.header("retry-after").parse().expect("seconds");
    assert!((1..=13).contains(&wait), "{wait}");
    assert_eq!(server.metric("tidings_admin_logins_total{outcome=\"failed\"}"), 5);
    assert_eq!(server.metric("tidings_admin_logins_total{outcome=\"throttled\"}"), 1);
    assert_eq!(server.metric("tidings_auth_failures_total{credential=\"admin_password\"}"), 5);
    assert_eq!(post_http(server.http(), "/admin/api/login", &[CHANGE], "x".repeat(9_000)).status, 429);
}

#[test]
fn with_an_internal_port_the_page_is_there_only() {
    let server = TestServer::start(&["internal.listen=127.0.0.1:0", &password_option()]);
    let port = server
        .announced("internal")
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()
        .expect("an address");
    for path in ["/admin", "/admin/", DATA, "/admin/assets/main.js"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    assert_eq!(get_http(port, "/admin/").status, 200);
    assert_eq!(get_http(port, "/admin/assets/style.css").status, 200);
    let cookie = cookie(&login(port, PASSWORD));
    assert_eq!(get(port, DATA, &[&cookie]).status, 200);
}

#[test]
fn a_password_in_place_of_its_hash_is_a_configuration_error_that_does_not_repeat_it() {
    let error = load(&["admin.password_hash=hunter2hunter2"]).expect_err("no hash");
    assert!(
        error.contains("admin.password_hash") && error.contains("tidings admin hash-password"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}
