//! `connections`: filters and pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api_server::{ApiServer, USERS};

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
