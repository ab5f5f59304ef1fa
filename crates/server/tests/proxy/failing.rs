//! An application that is slow, broken or gone is an error to clients, counted, and no permission.

use serde_json::{Value, json};
use tidings_auth::sign_hs256;
use tidings_config::Secret;
use tidings_testkit::{PATIENCE, free_port, wait_until};

use crate::application::Application;
use crate::log;
use crate::world::{Client, World, token};

const TEMPORARY: (u64, bool) = (100, true);
/// How many questions of a hook may be under way.
const MOST: usize = 256;

fn asking(application: &Application, more: &[(&str, &str)]) -> World {
    let (connect, rpc) = (application.url("/connect"), application.url("/rpc"));
    let mut options = vec![
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &*connect),
        ("rpc.proxy.endpoint", &*rpc),
    ];
    options.extend_from_slice(more);
    World::with(&options)
}

fn failures(world: &World, hook: &str) -> u64 {
    world.metric(&format!("tidings_hook_failures_total{{hook=\"{hook}\"}}"))
}

#[test]
fn an_answer_that_is_not_understood_is_a_temporary_error_and_no_permission() {
    let application = Application::start();
    let world = asking(&application, &[]);
    let long = format!(r#"{{"result": {{"user": "{}"}}}}"#, "x".repeat(1 << 20));
    let mut failed = 0;
    for (status, body) in [
        (500, r#"{"result": {"user": "56"}}"#),
        (404, r#"{"result": {"user": "56"}}"#),
        (204, ""),
        (302, ""),
        (200, ""),
        (200, "<html>"),
        (200, "{}"),
        (200, r#"{"result": null}"#),
        (200, r#"{"result": {"user": 56}}"#),
        (200, &long),
    ] {
        application.answer_with("/connect", status, body);
        assert_eq!(world.client().refused("connect", json!({})), TEMPORARY, "{status} {body:.40}");
        failed += 1;
        assert_eq!(failures(&world, "connect"), failed);
    }
    assert_eq!(world.metric("tidings_hook_calls_total{hook=\"connect\"}"), failed);
    assert_eq!(failures(&world, "rpc"), 0);
    application.answer("/connect", json!({"result": {"user": "56"}}));
    world.connected(json!({}));
}

#[test]
fn an_application_that_is_gone_or_slow_is_a_temporary_error() {
    let gone = format!("http://127.0.0.1:{}/connect", free_port());
    let world =
        World::with(&[("client.proxy.connect.enabled", "true"), ("client.proxy.connect.endpoint", &gone)]);
    assert_eq!(world.client().refused("connect", json!({})), TEMPORARY);
    assert_eq!(failures(&world, "connect"), 1);

    let application = Application::start();
    let world = asking(&application, &[("client.proxy.connect.timeout", "100ms")]);
    application.hold("/connect");
    assert_eq!(world.client().refused("connect", json!({})), TEMPORARY);
    assert_eq!(failures(&world, "connect"), 1);
}

#[test]
fn a_slow_hook_holds_up_nobody_else() {
    let application = Application::start();
    let world = asking(&application, &[("rpc.proxy.timeout", "1m")]);
    application.answer("/connect", json!({"result": {"user": "56"}}));
    application.hold("/rpc");
    let mut slow = world.connected(json!({}));
    slow.send("rpc", json!({"method": "slow"}));
    application.wait_for("/rpc", 1);
    let mut other = world.connected(json!({}));
    other.done("publish", json!({"channel": "a", "data": 1}));
    application.answer("/rpc", json!({"result": {"data": "late"}}));
    assert_eq!(slow.message()["rpc"]["data"], json!("late"));
}

#[test]
fn past_so_many_questions_under_way_a_client_is_told_to_come_back() {
    let application = Application::start();
    let world = asking(&application, &[("rpc.proxy.timeout", "1m")]);
    application.answer("/connect", json!({"result": {"user": "56"}}));
    application.hold("/rpc");
    let mut waiting: Vec<Client> = (0..MOST).map(|_| world.connected(json!({}))).collect();
    for client in &mut waiting {
        client.send("rpc", json!({"method": "m"}));
    }
    wait_until(PATIENCE, "questions", || application.asked("/rpc").len() == MOST);
    let mut next = world.connected(json!({}));
    assert_eq!(next.refused("rpc", json!({"method": "m"})), (111, true));
    assert_eq!(world.metric("tidings_hook_refusals_total{hook=\"rpc\"}"), 1);
    // The other hooks have places of their own, and these are free again once they were answered.
    application.answer("/rpc", json!({"result": {}}));
    for client in &mut waiting {
        assert!(client.message().get("rpc").is_some_and(Value::is_object));
    }
    next.done("rpc", json!({"method": "m"}));
}

#[test]
fn a_client_that_goes_away_while_the_application_thinks_leaves_nothing_behind() {
    let application = Application::start();
    let world = asking(&application, &[("client.proxy.connect.timeout", "1m")]);
    application.hold("/connect");
    let mut gone = world.client();
    gone.send("connect", json!({}));
    application.wait_for("/connect", 1);
    drop(gone);
    // The place is another's, and the answer for the one before does not reach it.
    let mut other = world.client();
    other.send("connect", json!({}));
    application.wait_for("/connect", 2);
    application.answer("/connect", json!({"result": {"user": "56"}}));
    assert!(other.message().get("connect").is_some());
    application.answer("/rpc", json!({"result": {}}));
    other.done("rpc", json!({"method": "m"}));
    assert_eq!(application.asked_once("/rpc").body["user"], json!("56"));
}

#[test]
fn the_log_says_which_hook_failed_and_why_and_repeats_nothing_that_could_be_secret() {
    log::keep();
    let application = Application::start();
    let url = application.url("/secretive?key=hunter2");
    let world = World::with_key(&[
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &url),
        ("client.proxy.connect.emulated_headers", "Cookie"),
        ("client.proxy.connect.http.static_headers", r#"{"X-Key": "hunter2"}"#),
    ]);
    application.answer("/secretive", r#"{"result": {"user": ["hunter2"]}}"#);
    let hello = json!({"data": "hunter2", "name": "hunter2", "headers": {"Cookie": "hunter2"}});
    assert_eq!(world.client().refused("connect", hello), TEMPORARY);
    let claims = json!({"sub": "hunter2", "aud": "hunter2", "exp": 1});
    let expired = token(claims.clone());
    assert_eq!(world.client().refused("connect", json!({"token": expired})), (109, false));
    let forged = sign_hs256(&Secret::new("another"), &claims).expect("a token");
    assert_eq!(world.client().refused("connect", json!({"token": forged})), (101, false));
    let log = log::kept();
    let entry = log.lines().find(|line| line.contains(&application.url("/secretive"))).expect("a complaint");
    assert!(entry.contains("hook=\"connect\"") && entry.contains("JSON of another shape"), "{entry}");
    assert!(log.contains("expired") && log.contains("the signature is wrong"), "{log}");
    for secret in ["hunter2", &expired, &forged] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_hook_that_keeps_failing_does_not_fill_the_log() {
    log::keep();
    let application = Application::start();
    let world = asking(&application, &[]);
    for _ in 0..20 {
        assert_eq!(world.client().refused("connect", json!({})), TEMPORARY);
    }
    let address = application.url("/connect");
    assert_eq!(log::kept().lines().filter(|line| line.contains(&address)).count(), 1);
    assert_eq!(failures(&world, "connect"), 20);
}
