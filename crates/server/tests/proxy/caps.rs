//! Capabilities that the application grants by its hooks.

use serde_json::{Value, json};

use crate::application::Application;
use crate::server_with_hooks::{Client, ServerWithHooks, now};

/// The codes of a subscribe and a publish; 0 without an error.
fn codes(client: &mut Client, channel: &str) -> [u64; 2] {
    ["subscribe", "publish"].map(|method| {
        let id = client.send(method, json!({"channel": channel, "data": 1}));
        loop {
            // A subscriber gets its own publication too.
            let message = client.message();
            if message["id"] == json!(id) {
                return message["error"]["code"].as_u64().unwrap_or(0);
            }
        }
    })
}

fn server(application: &Application, more: &[(&str, &str)]) -> ServerWithHooks {
    let hooks = [
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &*application.url("/connect")),
        ("client.proxy.refresh.enabled", "true"),
        ("client.proxy.refresh.endpoint", &*application.url("/refresh")),
        ("channel.proxy.subscribe.endpoint", &*application.url("/subscribe")),
        ("client.expired_close_delay", "0s"),
    ];
    ServerWithHooks::with_key(&[&hooks[..], more].concat())
}

#[test]
fn the_connect_hook_grants_capabilities_and_the_refresh_hook_replaces_them() {
    let application = Application::start();
    let caps = |channel: &str, allow: Value| json!([{"channels": [channel], "allow": allow}]);
    let granted = caps("news", json!(["sub", "pub"]));
    application
        .respond("/connect", json!({"result": {"user": "7", "expire_at": now() + 3, "caps": granted}}));
    let renewed = json!({"result": {"expire_at": now() + 600, "caps": caps("chat", json!(["pub"]))}});
    application.hold("/refresh");
    let server = server(&application, &[]);
    let mut client = server.connected(json!({}));
    assert_eq!(codes(&mut client, "news"), [0, 0]);
    assert_eq!(codes(&mut client, "chat"), [103, 103]);
    application.wait_for("/refresh", 1);
    application.respond("/refresh", renewed);
    // The subscription that only the former capabilities permitted ends.
    let push = client.message();
    assert_eq!(push["push"]["channel"], "news", "{push}");
    assert_eq!(push["push"]["unsubscribe"]["code"], 2000, "{push}");
    assert_eq!(codes(&mut client, "news"), [103, 103]);
    assert_eq!(codes(&mut client, "chat"), [103, 0]);
}

#[test]
fn the_subscribe_hook_permits_operations_in_its_channel_and_capabilities_do_not_bypass_it() {
    let application = Application::start();
    let all = json!([{"channels": ["*"], "match": "wildcard", "allow": ["sub"]}]);
    application.respond("/connect", json!({"result": {"user": "7", "caps": all}}));
    application.respond("/subscribe", json!({"error": {"code": 1001, "message": "not today"}}));
    let server = server(&application, &[("channel.without_namespace.subscribe_proxy_enabled", "true")]);
    let mut client = server.connected(json!({}));
    assert_eq!(codes(&mut client, "news"), [1001, 103], "the hook decides");
    application.respond("/subscribe", json!({"result": {"allow": ["pub"]}}));
    assert_eq!(codes(&mut client, "news"), [0, 0], "the hook permits publications");
    application.respond("/subscribe", json!({"result": {}}));
    assert_eq!(codes(&mut client, "chat"), [0, 103], "each subscription has its own rights");
    client.call_ok("unsubscribe", json!({"channel": "news"}));
    assert_eq!(client.call_error("publish", json!({"channel": "news", "data": 1})).0, 103);
}

#[test]
fn capabilities_that_are_not_valid_fail_the_connect_hook() {
    let application = Application::start();
    let caps = json!([{"channels": ["a"], "allow": ["subscribe"]}]);
    application.respond("/connect", json!({"result": {"user": "7", "caps": caps}}));
    let server = server(&application, &[]);
    let mut client = server.client();
    let (code, is_temporary) = client.call_error("connect", json!({}));
    assert_eq!((code, is_temporary), (100, true));
}
