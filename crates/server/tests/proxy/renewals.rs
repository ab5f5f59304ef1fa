//! The hooks that renew connections and subscriptions which expire.

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, metric, wait_until};

use crate::application::Application;
use crate::server_with_hooks::{Client, ServerWithHooks, now, token};

/// Without a time in which clients could send new tokens.
const NO_GRACE: [(&str, &str); 2] =
    [("client.expired_close_delay", "0s"), ("client.expired_sub_close_delay", "0s")];

fn connections(application: &Application) -> ServerWithHooks {
    let hook = [
        ("client.proxy.refresh.enabled", "true"),
        ("client.proxy.refresh.endpoint", &*application.url("/refresh")),
    ];
    ServerWithHooks::with_key(&[&NO_GRACE[..], &hook].concat())
}

/// A server where subscriptions expire after at most three seconds unless the application renews them, and a subscriber.
fn subscribed(application: &Application, response: Value) -> (ServerWithHooks, Client) {
    application.respond("/subscribe", json!({"result": {"expire_at": now() + 3, "info": {"n": 1}}}));
    application.respond("/sub_refresh", response);
    let hooks = [
        ("channel.proxy.subscribe.endpoint", &*application.url("/subscribe")),
        ("channel.proxy.sub_refresh.endpoint", &*application.url("/sub_refresh")),
        ("channel.without_namespace.subscribe_proxy_enabled", "true"),
        ("channel.without_namespace.sub_refresh_proxy_enabled", "true"),
        ("channel.without_namespace.allow_publish_for_subscriber", "true"),
    ];
    let server = ServerWithHooks::with_key(&[&NO_GRACE[..], &hooks].concat());
    let mut client = server.connected(json!({"token": token(json!({"sub": "42"}))}));
    let reply = client.call_ok("subscribe", json!({"channel": "news"}));
    assert_eq!(
        (reply.get("expires"), reply.get("ttl")),
        (None, None),
        "the client does not renew it: {reply}"
    );
    (server, client)
}

#[test]
fn the_application_renews_a_connection_that_expires() {
    let application = Application::start();
    let end = now() + 600;
    application.respond("/refresh", json!({"result": {"expire_at": end, "info": {"name": "Ann"}}}));
    let server = connections(&application);
    let mut client = server.client();
    let reply = client.call_ok("connect", json!({"token": token(json!({"sub": "42", "exp": now() + 2}))}));
    assert_eq!(
        (reply.get("expires"), reply.get("ttl")),
        (None, None),
        "the client does not renew it: {reply}"
    );
    application.wait_for("/refresh", 1);
    let call = application.only_call("/refresh");
    assert_eq!((&call.body["user"], &call.body["transport"]), (&json!("42"), &json!("tcp")), "{}", call.body);
    assert_eq!(call.body["client"], reply["client"], "{}", call.body);
    // The connection is in use after its first expiry.
    wait_until(PATIENCE, "the expiry", || now() > end - 597);
    assert_eq!(client.call_error("rpc", json!({"method": "m"})).0, 108);
    assert_eq!(application.calls("/refresh").len(), 1);
}

#[test]
fn a_connection_that_the_application_does_not_renew_is_closed_as_expired() {
    for response in [
        json!({"result": {"expired": true}}),
        json!({"result": {"expire_at": 1}}),
        json!({}),
        json!({"error": {"code": 1000, "message": "no"}}),
    ] {
        let application = Application::start();
        application.respond("/refresh", &response);
        let server = connections(&application);
        let mut client = server.connected(json!({"token": token(json!({"sub": "42", "exp": now() + 3}))}));
        let push = client.message();
        assert_eq!(push["push"]["disconnect"]["code"], 3005, "{response}: {push}");
        assert_eq!(application.calls("/refresh").len(), 1);
    }
}

#[test]
fn a_connection_continues_for_a_minute_while_the_refresh_hook_fails() {
    let application = Application::start();
    application.respond_with("/refresh", 500, "");
    let server = connections(&application);
    let mut client = server.connected(json!({"token": token(json!({"sub": "42", "exp": now() + 3}))}));
    wait_until(PATIENCE, "the failure", || {
        metric(server.http(), "tidings_hook_failures_total{hook=\"refresh\"}") == 1
    });
    assert_eq!(client.call_error("rpc", json!({"method": "m"})).0, 108, "it is open");
    assert_eq!(application.calls("/refresh").len(), 1);
}

#[test]
fn the_refresh_hook_replaces_the_meta_of_a_connection_for_later_hooks() {
    let application = Application::start();
    application.respond("/refresh", json!({"result": {"meta": {"role": "admin"}}}));
    application.respond("/rpc", json!({"result": {}}));
    let options = [
        ("client.proxy.refresh.enabled", "true"),
        ("client.proxy.refresh.endpoint", &*application.url("/refresh")),
        ("client.proxy.refresh.include_connection_meta", "true"),
        ("rpc.proxy.endpoint", &*application.url("/rpc")),
        ("rpc.proxy.include_connection_meta", "true"),
    ];
    let server = ServerWithHooks::with_key(&[&NO_GRACE[..], &options].concat());
    let claims = json!({"sub": "42", "exp": now() + 3, "meta": {"role": "guest"}});
    let mut client = server.connected(json!({"token": token(claims)}));
    application.wait_for("/refresh", 1);
    assert_eq!(application.only_call("/refresh").body["meta"], json!({"role": "guest"}));
    // The response to the hook arrives after its request.
    wait_until(PATIENCE, "the new meta", || {
        client.call_ok("rpc", json!({"method": "m"}));
        application.calls("/rpc").last().is_some_and(|call| call.body["meta"] == json!({"role": "admin"}))
    });
}

#[test]
fn a_client_without_an_expiry_causes_no_request() {
    let application = Application::start();
    let server = connections(&application);
    let mut client = server.connected(json!({"token": token(json!({"sub": "42"}))}));
    // An expiring client shows that expiries are checked meanwhile.
    application.respond("/refresh", json!({"result": {"expired": true}}));
    let mut other = server.connected(json!({"token": token(json!({"sub": "43", "exp": now() + 3}))}));
    assert_eq!(other.message()["push"]["disconnect"]["code"], 3005);
    assert_eq!(client.call_error("rpc", json!({"method": "m"})).0, 108);
    assert_eq!(application.only_call("/refresh").body["user"], "43");
}

#[test]
fn the_application_renews_a_subscription_with_new_information() {
    let application = Application::start();
    let renewal = json!({"result": {"expire_at": now() + 600, "info": {"n": 2}}});
    let (_server, mut client) = subscribed(&application, renewal);
    application.wait_for("/sub_refresh", 1);
    let call = application.only_call("/sub_refresh");
    assert_eq!((&call.body["channel"], &call.body["user"]), (&json!("news"), &json!("42")), "{}", call.body);
    wait_until(PATIENCE, "the new information", || {
        client.send("publish", json!({"channel": "news", "data": 1}));
        let mut info = Value::Null;
        // The reply and the publication, in any order.
        for _ in 0..2 {
            let message = client.message();
            assert!(message.get("error").is_none(), "{message}");
            if message["push"]["pub"].is_object() {
                info = message["push"]["pub"]["info"]["chan_info"].clone();
            }
        }
        info == json!({"n": 2})
    });
}

#[test]
fn a_subscription_that_the_application_does_not_renew_ends_as_expired() {
    let application = Application::start();
    let (server, mut client) = subscribed(&application, json!({"result": {"expired": true}}));
    let push = client.message();
    assert_eq!(push["push"]["unsubscribe"]["code"], 2501, "{push}");
    assert_eq!(client.call_error("publish", json!({"channel": "news", "data": 1})).0, 103, "no subscriber");
    drop(server);
}

#[test]
fn a_subscription_continues_while_the_sub_refresh_hook_fails() {
    let application = Application::start();
    let (server, mut client) = subscribed(&application, json!("no result"));
    wait_until(PATIENCE, "the failure", || {
        metric(server.http(), "tidings_hook_failures_total{hook=\"sub_refresh\"}") == 1
    });
    client.send("publish", json!({"channel": "news", "data": 1}));
    assert!(client.message().get("error").is_none());
}

#[test]
fn a_response_for_a_subscription_that_ended_meanwhile_has_no_effect() {
    let application = Application::start();
    let (_server, mut client) = subscribed(&application, json!({"result": {}}));
    application.hold("/sub_refresh");
    application.wait_for("/sub_refresh", 1);
    client.call_ok("unsubscribe", json!({"channel": "news"}));
    application.respond("/subscribe", json!({"result": {}}));
    client.call_ok("subscribe", json!({"channel": "news"}));
    application.respond("/sub_refresh", json!({"result": {"expired": true}}));
    // The new subscription has no expiry.
    client.send("publish", json!({"channel": "news", "data": 1}));
    let messages = [client.message(), client.message()];
    assert!(messages.iter().any(|message| message["push"]["pub"]["data"] == 1), "{messages:?}");
}

#[test]
fn after_a_reload_connections_are_renewed_by_the_new_hook() {
    let (old, new) = (Application::start(), Application::start());
    new.respond("/refresh", json!({"result": {"expired": true}}));
    new.respond("/sub_refresh", json!({"result": {"expired": true}}));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    let write = |application: &Application, more: &str, meta: &str| {
        let text = format!(
            "client.token.hmac_secret_key = \"{}\"\nclient.expired_close_delay = \"0s\"\nclient.expired_sub_close_delay = \"0s\"\n\
             [client.proxy.refresh]\nenabled = true\nendpoint = \"{}\"\n{more}{meta}\n\
             [channel.proxy.sub_refresh]\nendpoint = \"{}\"\n{more}{meta}\n\
             [channel.without_namespace]\nsub_refresh_proxy_enabled = true\n",
            crate::server_with_hooks::KEY,
            application.url("/refresh"),
            application.url("/sub_refresh"),
        );
        std::fs::write(&path, text).expect("a file");
    };
    write(&old, "", "");
    let server = ServerWithHooks::with_file(&path);
    let claims = json!({"sub": "42", "exp": now() + 4, "meta": {"role": "editor"}});
    let mut client = server.connected(json!({"token": token(claims)}));
    let subscription = token(json!({"sub": "42", "channel": "news", "exp": now() + 3}));
    client.call_ok("subscribe", json!({"channel": "news", "token": subscription}));
    let more = "timeout = \"5s\"\nhttp_headers = [\"Cookie\"]\nbinary_encoding = true\nhttp.static_headers = { X-App = \"two\" }\n";
    write(&new, more, "include_connection_meta = true\n");
    let report = server.runtime.block_on(server.server().reload()).expect("a reload");
    assert_eq!((report.changed.len(), report.restart_required), (2 * 6, vec![]), "{:?}", report.changed);
    assert_eq!(client.message()["push"]["unsubscribe"]["code"], 2501);
    assert_eq!(client.message()["push"]["disconnect"]["code"], 3005);
    for path in ["/refresh", "/sub_refresh"] {
        let call = new.only_call(path);
        assert_eq!(call.header("x-app"), Some("two"), "{path}");
        assert_eq!(
            (&call.body["meta"], &call.body["encoding"]),
            (&json!({"role": "editor"}), &json!("binary"))
        );
        assert!(old.calls(path).is_empty(), "the old application");
    }
}
