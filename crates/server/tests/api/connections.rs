//! `connections`: filters and pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api_server::{ApiServer, USERS, token_with};

fn ids(result: &Value) -> BTreeSet<String> {
    result["connections"].as_object().expect("an object").keys().cloned().collect()
}

#[test]
fn connections_are_filtered_by_user_client_and_channel() {
    let server = ApiServer::with(&USERS);
    let (mut ann, bob) = (server.user("ann"), server.user("bob"));
    ann.call("subscribe", &json!({"channel": "news"}));
    let list = |request: Value| ids(&server.call("connections", &request));
    assert_eq!(list(json!({})).len(), 2);
    assert_eq!(list(json!({"user": "ann"})), [ann.client.clone()].into());
    assert_eq!(list(json!({"client": bob.client})), [bob.client.clone()].into());
    assert_eq!(list(json!({"channel": "news"})), [ann.client.clone()].into());
    assert_eq!(list(json!({"channel": "news", "user": "bob"})), BTreeSet::new());
    let result = server.call("connections", &json!({"user": "ann"}));
    let connection = &result["connections"][&ann.client];
    assert_eq!((&connection["user"], &connection["transport"]), (&json!("ann"), &json!("tcp")));
    assert_eq!((&connection["address"], &connection["num_subs"]), (&json!("127.0.0.1"), &json!(1)));
    assert!(result.get("cursor").is_none(), "the last page");
    assert_eq!(server.call_error("connections", &json!({"expression": "x"})).0, 108);
    assert_eq!(server.call_error("connections", &json!({"cursor": "x"})).0, 107);
}

#[test]
fn pages_contain_each_connection_once() {
    let server = ApiServer::with(&USERS);
    let clients: Vec<_> = (0..7).map(|n| server.user(&format!("u{n}"))).collect();
    let (mut seen, mut cursor) = (BTreeSet::new(), String::new());
    for _ in 0..20 {
        let page = server.call("connections", &json!({"limit": 2, "cursor": cursor}));
        let new = ids(&page);
        assert!(new.len() <= 2 && new.is_disjoint(&seen));
        seen.extend(new);
        cursor = page["cursor"].as_str().unwrap_or_default().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(seen, clients.iter().map(|client| client.client.clone()).collect());
}

#[test]
fn connections_have_the_labels_of_their_tokens_and_are_filtered_by_them() {
    let server = ApiServer::with(&USERS);
    let client = |labels: Value| server.json_client(&token_with(&json!({"sub": "ann", "labels": labels})));
    let eu = client(json!({"region": "eu", "build": "300"}));
    let us = client(json!({"region": "us", "build": "99"}));
    let none = server.user("bob");
    let list = |filter: Value| ids(&server.call("connections", &json!({"label_filter": filter})));
    assert_eq!(list(json!(null)).len(), 3);
    assert_eq!(list(json!({"key": "region", "cmp": "eq", "val": "eu"})), [eu.client.clone()].into());
    assert_eq!(list(json!({"key": "build", "cmp": "lt", "val": "100"})), [us.client.clone()].into());
    assert_eq!(list(json!({"key": "region", "cmp": "nex"})), [none.client.clone()].into());
    let both = json!({"op": "and", "nodes": [{"key": "region", "cmp": "ex"}, {"key": "build", "cmp": "eq", "val": "300"}]});
    assert_eq!(list(both), [eu.client.clone()].into());
    let result = server.call("connections", &json!({}));
    assert_eq!(result["connections"][&eu.client]["labels"], json!({"region": "eu", "build": "300"}));
    assert_eq!(result["connections"][&none.client].get("labels"), None);
    assert_eq!(server.call_error("connections", &json!({"label_filter": {"cmp": "like"}})).0, 107);
}

#[test]
fn a_token_with_invalid_labels_is_refused() {
    let server = ApiServer::with(&USERS);
    for labels in [json!(["a"]), json!({"a": 1}), json!({"": "a"})] {
        let mut line = tidings_testkit::LineClient::connect(server.tcp());
        let token = token_with(&json!({"sub": "ann", "labels": labels}));
        line.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
        let message: Value = serde_json::from_str(&line.line()).expect("JSON");
        assert_eq!(message["error"]["code"], 101, "{labels}");
    }
}
