//! What the application is asked, to the letter, and what its answers bring about.

use axum::http::Method;
use serde_json::{Value, json};

use crate::application::Application;
use crate::world::{World, now, token};

/// A server whose hooks all lead to an application, in whose channels nothing else allows anything.
fn world(application: &Application, more: &[(&str, &str)]) -> World {
    let url = |path| application.url(path);
    let (connect, subscribe, publish, rpc) =
        (url("/connect"), url("/subscribe"), url("/publish"), url("/rpc"));
    let mut options = vec![
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &*connect),
        ("channel.proxy.subscribe.endpoint", &*subscribe),
        ("channel.proxy.publish.endpoint", &*publish),
        ("channel.without_namespace.subscribe_proxy_enabled", "true"),
        ("channel.without_namespace.publish_proxy_enabled", "true"),
        ("channel.without_namespace.allow_publish_for_client", "true"),
        ("rpc.proxy.endpoint", &*rpc),
    ];
    options.extend_from_slice(more);
    World::with_key(&options)
}

#[expect(clippy::needless_pass_by_value, reason = "json!(…) in place")]
fn yes(result: Value) -> Value {
    json!({"result": result})
}

/// What every question says of a client that speaks JSON lines.
fn about(client: &Value, user: &str) -> Value {
    json!({"client": client, "transport": "tcp", "protocol": "json", "encoding": "json", "user": user})
}

fn with(mut question: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("no object") };
    question.as_object_mut().expect("an object").extend(fields);
    question
}

#[test]
fn the_application_lets_a_client_in_and_says_who_it_is() {
    let application = Application::start();
    let world = world(&application, &[]);
    let end = now() + 600;
    application.answer(
        "/connect",
        yes(json!({"user": "56", "expire_at": end, "data": {"hello": 1}, "channels": ["news"]})),
    );
    let mut client = world.client();
    let hello = json!({"data": {"cookie": "monster"}, "name": "js", "version": "5.2"});
    let result = client.done("connect", hello);
    assert_eq!(result["data"], json!({"hello": 1}), "{result}");
    assert!((590..=600).contains(&result["ttl"].as_u64().expect("seconds")), "{result}");
    assert!(result["subs"].get("news").is_some(), "{result}");
    let asked = application.asked_once("/connect");
    assert_eq!((&asked.method, asked.header("content-type")), (&Method::POST, Some("application/json")));
    let expected = json!({
        "client": result["client"], "transport": "tcp", "protocol": "json", "encoding": "json",
        "data": {"cookie": "monster"}, "name": "js", "version": "5.2"
    });
    assert_eq!(asked.body, expected);
    // The user is told to the other hooks.
    application.answer("/subscribe", yes(json!({})));
    client.done("subscribe", json!({"channel": "a"}));
    let expected = with(about(&result["client"], "56"), json!({"channel": "a"}));
    assert_eq!(application.asked_once("/subscribe").body, expected);
}

#[test]
fn a_client_that_shows_a_token_is_not_asked_about() {
    let application = Application::start();
    let world = world(&application, &[]);
    world.connected(json!({"token": token(json!({"sub": "42"}))}));
    assert_eq!(world.client().refused("connect", json!({"token": "hunter2"})), (101, false));
    assert!(application.asked("/connect").is_empty());
}

#[test]
fn an_error_and_a_disconnect_of_the_application_reach_the_client_as_they_are() {
    let application = Application::start();
    let world = world(&application, &[]);
    application.answer("/connect", json!({"error": {"code": 1000, "message": "no", "temporary": true}}));
    let reply = world.client().ask("connect", json!({}));
    assert_eq!(reply["error"], json!({"code": 1000, "message": "no", "temporary": true}));
    application.answer("/connect", json!({"disconnect": {"code": 4501, "reason": "unauthorized"}}));
    let mut client = world.client();
    client.send("connect", json!({}));
    client.expect_end(4501);
    application.answer("/connect", yes(json!({"user": "56", "expire_at": 7})));
    assert_eq!(world.client().refused("connect", json!({})), (110, false));
}

#[test]
fn the_application_says_who_may_subscribe_and_how() {
    let application = Application::start();
    let world = world(&application, &[]);
    let mut client = world.client();
    let id = client.done("connect", json!({"token": token(json!({"sub": "42"}))}))["client"].take();
    let end = now() + 600;
    application.answer("/subscribe", yes(json!({"data": [1], "expire_at": end})));
    let result = client.done("subscribe", json!({"channel": "a", "data": {"why": "not"}}));
    assert_eq!((&result["data"], &result["expires"]), (&json!([1]), &json!(true)), "{result}");
    let expected = with(about(&id, "42"), json!({"channel": "a", "data": {"why": "not"}}));
    assert_eq!(application.asked_once("/subscribe").body, expected);
    application.answer("/subscribe", json!({"error": {"code": 403, "message": "permission denied"}}));
    let reply = client.ask("subscribe", json!({"channel": "b"}));
    assert_eq!(reply["error"], json!({"code": 403, "message": "permission denied"}));
    // With a token it is not asked.
    let claims = json!({"sub": "42", "channel": "c"});
    client.done("subscribe", json!({"channel": "c", "token": token(claims)}));
    assert_eq!(application.asked("/subscribe").len(), 2);
    application.answer("/subscribe", json!({"disconnect": {"code": 4000, "reason": "go"}}));
    client.send("subscribe", json!({"channel": "d"}));
    client.expect_end(4000);
}

#[test]
fn the_application_says_what_may_be_published_and_may_change_it() {
    let application = Application::start();
    let world = world(&application, &[]);
    let mut client = world.client();
    let id = client.done("connect", json!({"token": token(json!({"sub": "42"}))}))["client"].take();
    application.answer("/subscribe", yes(json!({})));
    let mut reader = world.connected(json!({"token": token(json!({"sub": "43"}))}));
    reader.done("subscribe", json!({"channel": "a"}));
    application.answer("/publish", yes(json!({})));
    client.done("publish", json!({"channel": "a", "data": {"n": 1}}));
    let expected = with(about(&id, "42"), json!({"channel": "a", "data": {"n": 1}}));
    assert_eq!(application.asked_once("/publish").body, expected);
    let push = reader.message();
    assert_eq!(push["push"]["pub"]["data"], json!({"n": 1}), "{push}");
    assert_eq!(push["push"]["pub"]["info"], json!({"user": "42", "client": id}), "{push}");
    application.answer("/publish", yes(json!({"data": {"n": "changed"}, "tags": {"by": "app"}})));
    client.done("publish", json!({"channel": "a", "data": {"n": 2}}));
    let push = reader.message();
    assert_eq!(push["push"]["pub"]["data"], json!({"n": "changed"}), "{push}");
    assert_eq!(push["push"]["pub"]["tags"], json!({"by": "app"}), "{push}");
    application.answer("/publish", json!({"error": {"code": 450, "message": "no"}}));
    assert_eq!(client.refused("publish", json!({"channel": "a", "data": 3})), (450, false));
    // Nothing of it was published.
    application.answer("/publish", yes(json!({"data": "last"})));
    client.done("publish", json!({"channel": "a", "data": 4}));
    assert_eq!(reader.message()["push"]["pub"]["data"], json!("last"));
}

#[test]
fn the_application_may_have_a_publication_left_out_of_the_history() {
    let application = Application::start();
    let world = world(
        &application,
        &[
            ("channel.without_namespace.history_size", "10"),
            ("channel.without_namespace.history_ttl", "1m"),
            ("channel.without_namespace.allow_history_for_client", "true"),
        ],
    );
    let mut client = world.connected(json!({"token": token(json!({"sub": "42"}))}));
    for (skip, data) in [(false, 1), (true, 2), (false, 3)] {
        application.answer("/publish", yes(json!({"skip_history": skip})));
        client.done("publish", json!({"channel": "a", "data": data}));
    }
    let result = client.done("history", json!({"channel": "a", "limit": 10}));
    let kept: Vec<_> = result["publications"].as_array().expect("some").iter().map(|p| &p["data"]).collect();
    assert_eq!(kept, [&json!(1), &json!(3)], "{result}");
}

#[test]
fn the_application_answers_rpc() {
    let application = Application::start();
    let world = world(&application, &[("rpc.proxy.include_connection_meta", "true")]);
    let mut client = world.client();
    let claims = json!({"sub": "42", "meta": {"role": "admin"}});
    let id = client.done("connect", json!({"token": token(claims)}))["client"].take();
    application.answer("/rpc", yes(json!({"data": {"answer": "2019"}})));
    let result = client.done("rpc", json!({"method": "price", "data": {"id": 12}}));
    assert_eq!(result, json!({"data": {"answer": "2019"}}));
    let expected =
        with(about(&id, "42"), json!({"method": "price", "data": {"id": 12}, "meta": {"role": "admin"}}));
    assert_eq!(application.asked_once("/rpc").body, expected);
    application.answer("/rpc", json!({"error": {"code": 404, "message": "no such method"}}));
    assert_eq!(client.refused("rpc", json!({"data": 1})), (404, false));
    let nameless = &application.asked("/rpc")[1].body;
    assert_eq!((nameless.get("method"), &nameless["data"]), (None, &json!(1)));
}

#[test]
fn rpc_without_a_hook_is_not_available() {
    let world = World::with(&[]);
    let mut client = world.connected(json!({}));
    assert_eq!(client.refused("rpc", json!({"method": "price", "data": {}})), (108, false));
    let application = Application::start();
    let off = World::with(&[
        ("rpc.proxy.endpoint", &application.url("/rpc")),
        ("rpc.without_namespace.proxy_enabled", "false"),
    ]);
    let mut client = off.connected(json!({}));
    assert_eq!(client.refused("rpc", json!({"method": "price", "data": {}})), (108, false));
    assert!(application.asked("/rpc").is_empty());
}

#[test]
fn binary_encoding_puts_the_clients_data_into_base64() {
    let application = Application::start();
    let world = world(
        &application,
        &[("client.proxy.connect.binary_encoding", "true"), ("rpc.proxy.binary_encoding", "true")],
    );
    application.answer("/connect", yes(json!({"user": "", "b64data": "eyJhIjoxfQ=="})));
    let mut client = world.client();
    let result = client.done("connect", json!({"data": {"a": 1}}));
    assert_eq!(result["data"], json!({"a": 1}));
    let asked = application.asked_once("/connect").body;
    assert_eq!((asked.get("data"), &asked["b64data"]), (None, &json!("eyJhIjoxfQ==")));
    application.answer("/rpc", yes(json!({"b64data": "WzFd"})));
    assert_eq!(client.done("rpc", json!({"method": "m", "data": [1]})), json!({"data": [1]}));
    assert_eq!(application.asked_once("/rpc").body["b64data"], json!("WzFd"));
}
