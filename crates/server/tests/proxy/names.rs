//! Rules of names of channels, and the numbers of publications that a client receives at once.

use serde_json::{Value, json};

use crate::server_with_hooks::{Client, ServerWithHooks, token};

const OPEN: [(&str, &str); 6] = [
    ("channel.namespaces", "chat"),
    ("channel.namespaces.chat.allow_subscribe_for_client", "true"),
    ("channel.namespaces.chat.allow_publish_for_client", "true"),
    ("channel.namespaces.chat.allow_history_for_client", "true"),
    ("channel.namespaces.chat.history_size", "100"),
    ("channel.namespaces.chat.history_ttl", "1m"),
];

fn server(options: &[(&str, &str)]) -> (ServerWithHooks, Client) {
    let server = ServerWithHooks::with_key(&[&OPEN[..], options].concat());
    let client = server.connected(json!({"token": token(json!({"sub": "42"}))}));
    (server, client)
}

#[test]
fn boundaries_in_names_of_channels_are_those_of_the_configuration() {
    let options = [
        ("channel.namespaces", "chat"),
        ("channel.namespaces.chat.allow_user_limited_channels", "true"),
        ("channel.namespace_boundary", "//"),
        ("channel.user_boundary", "@@"),
        ("channel.user_separator", "+"),
        ("client.subscribe_to_user_personal_channel.enabled", "true"),
        ("client.subscribe_to_user_personal_channel.personal_channel_namespace", "chat"),
    ];
    let server = ServerWithHooks::with_key(&options);
    let connect = |user: &str| json!({"token": token(json!({"sub": user}))});
    let mut client = server.client();
    let connected = client.call_ok("connect", connect("42"));
    assert!(connected["subs"]["chat//@@42"].is_object(), "the personal channel: {connected}");
    client.call_ok("subscribe", json!({"channel": "chat//dialog@@17+42"}));
    for (channel, error) in [
        ("chat//dialog@@17,42", 103),
        ("chat//@@17", 103),
        ("news//dialog@@42", 102),
        ("chat:dialog@@42", 103),
    ] {
        assert_eq!(client.call_error("subscribe", json!({"channel": channel})).0, error, "{channel}");
    }
    // A part of a boundary at the beginning of an id would make a name ambiguous.
    assert_eq!(server.client().call_error("connect", connect("@42")).0, 103);
}

fn error_text(client: &mut Client, method: &str, params: Value) -> String {
    let reply = client.call(method, params);
    assert_eq!(reply["error"]["code"], 107, "{reply}");
    reply["error"]["message"].as_str().expect("a text").to_owned()
}

#[test]
fn clients_use_only_names_that_match_the_pattern_of_their_namespace() {
    let (_server, mut client) = server(&[("channel.namespaces.chat.channel_regex", "^[0-9]+$")]);
    client.call_ok("publish", json!({"channel": "chat:7", "data": 1}));
    client.call_ok("history", json!({"channel": "chat:7", "limit": 1}));
    client.call_ok("subscribe", json!({"channel": "chat:7"}));
    let wrong = "bad request: the name of the channel does not match channel_regex of its namespace";
    let subscription = token(json!({"sub": "42", "channel": "chat:a"}));
    for (method, params) in [
        ("subscribe", json!({"channel": "chat:a"})),
        ("subscribe", json!({"channel": "chat:a", "token": subscription})),
        ("publish", json!({"channel": "chat:a", "data": 1})),
        ("history", json!({"channel": "chat:a", "limit": 1})),
    ] {
        assert_eq!(error_text(&mut client, method, params), wrong);
    }
}

#[test]
fn the_application_subscribes_and_publishes_to_names_of_any_pattern() {
    let (server, _) = server(&[
        ("channel.namespaces.chat.channel_regex", "^[0-9]+$"),
        ("http_api.key", "key"),
        ("channel.max_length", "6"),
    ]);
    let connect = json!({"token": token(json!({"sub": "42", "channels": ["chat:lobby"]}))});
    let mut client = server.client();
    let connected = client.call_ok("connect", connect);
    assert!(connected["subs"]["chat:lobby"].is_object(), "{connected}");
    let body = json!({"channel": "chat:lobby", "data": 1}).to_string();
    assert_eq!(server.post("/api/publish", &["X-API-Key: key"], &body).status, 200);
    assert_eq!(client.message()["push"]["pub"]["data"], 1);
}

#[test]
fn clients_use_only_names_up_to_the_limit() {
    let (_server, mut client) = server(&[("channel.max_length", "8")]);
    client.call_ok("subscribe", json!({"channel": "chat:777"}));
    let text = error_text(&mut client, "subscribe", json!({"channel": "chat:7777"}));
    assert_eq!(text, "bad request: the name of the channel has more than 8 bytes (channel.max_length)");
    error_text(&mut client, "publish", json!({"channel": "chat:7777", "data": 1}));
}

#[test]
fn a_history_has_as_many_publications_as_the_limit() {
    let (_server, mut client) = server(&[("client.history_max_publication_limit", "3")]);
    for n in 0..5 {
        client.call_ok("publish", json!({"channel": "chat:7", "data": n}));
    }
    for limit in [-1, 4, 100] {
        let history = client.call_ok("history", json!({"channel": "chat:7", "limit": limit}));
        assert_eq!(history["publications"].as_array().map(Vec::len), Some(3), "{limit}: {history}");
    }
    let history = client.call_ok("history", json!({"channel": "chat:7", "limit": 2}));
    assert_eq!(history["publications"].as_array().map(Vec::len), Some(2));
    // The next page begins behind the last publication.
    let epoch = history["epoch"].clone();
    let since = json!({"channel": "chat:7", "limit": -1, "since": {"offset": 3, "epoch": epoch}});
    let history = client.call_ok("history", since);
    assert_eq!(history["publications"].as_array().map(Vec::len), Some(2), "{history}");
}

#[test]
fn a_client_that_missed_more_publications_than_the_limit_recovers_none() {
    let (_server, mut client) = server(&[
        ("client.recovery_max_publication_limit", "3"),
        ("channel.namespaces.chat.force_recovery", "true"),
    ]);
    let first = client.call_ok("subscribe", json!({"channel": "chat:7"}));
    client.call_ok("unsubscribe", json!({"channel": "chat:7"}));
    for n in 0..4 {
        client.call_ok("publish", json!({"channel": "chat:7", "data": n}));
    }
    for (offset, recovered, count) in [(0, false, 0), (1, true, 3)] {
        let since = json!({"channel": "chat:7", "recover": true, "offset": offset, "epoch": first["epoch"]});
        let reply = client.call_ok("subscribe", since);
        let publications = reply["publications"].as_array().map_or(0, Vec::len);
        assert_eq!((reply["recovered"] == json!(true), publications), (recovered, count), "{reply}");
        client.call_ok("unsubscribe", json!({"channel": "chat:7"}));
    }
}

#[test]
fn zero_is_no_limit_of_publications() {
    let (_server, mut client) = server(&[
        ("client.history_max_publication_limit", "0"),
        ("client.recovery_max_publication_limit", "0"),
    ]);
    for n in 0..5 {
        client.call_ok("publish", json!({"channel": "chat:7", "data": n}));
    }
    let history = client.call_ok("history", json!({"channel": "chat:7", "limit": -1}));
    assert_eq!(history["publications"].as_array().map(Vec::len), Some(5));
}
