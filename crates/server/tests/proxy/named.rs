//! Named hooks, and namespaces of the methods of `rpc` commands.

use serde_json::{Value, json};

use crate::application::Application;
use crate::server_with_hooks::{KEY, ServerWithHooks, load, now, token};

const CHAT: [(&str, &str); 3] = [
    ("channel.namespaces", "chat,news"),
    ("channel.namespaces.chat.subscribe_proxy_enabled", "true"),
    ("channel.namespaces.chat.publish_proxy_enabled", "true"),
];

fn user(server: &ServerWithHooks) -> crate::server_with_hooks::Client {
    server.connected(json!({"token": token(json!({"sub": "42"}))}))
}

#[test]
fn a_namespace_selects_its_hooks_by_name() {
    let (one, two) = (Application::start(), Application::start());
    for application in [&one, &two] {
        for path in ["/subscribe", "/publish", "/renew"] {
            application.respond(path, json!({"result": {}}));
        }
    }
    one.respond("/subscribe", json!({"result": {"expire_at": now() + 3}}));
    let options = [
        ("proxies", "two-subscribe,two.publish,two-renew"),
        ("proxies.two-subscribe.endpoint", &*two.url("/subscribe")),
        ("proxies.two.publish.endpoint", &*two.url("/publish")),
        ("proxies.two.publish.http.static_headers", r#"{"X-Key": "k"}"#),
        ("proxies.two-renew.endpoint", &*two.url("/renew")),
        ("channel.proxy.subscribe.endpoint", &*one.url("/subscribe")),
        ("channel.proxy.publish.endpoint", &*one.url("/publish")),
        ("channel.namespaces.chat.sub_refresh_proxy_enabled", "true"),
        ("channel.namespaces.chat.sub_refresh_proxy_name", "two-renew"),
        ("channel.namespaces.chat.publish_proxy_name", "two.publish"),
        ("channel.namespaces.news.subscribe_proxy_enabled", "true"),
        ("channel.namespaces.news.publish_proxy_enabled", "true"),
        ("channel.namespaces.news.subscribe_proxy_name", "two-subscribe"),
    ];
    let server = ServerWithHooks::with_key(&[&CHAT[..], &options].concat());
    let mut client = user(&server);
    client.call_ok("subscribe", json!({"channel": "chat:a"}));
    client.call_ok("subscribe", json!({"channel": "news:a"}));
    client.call_ok("publish", json!({"channel": "chat:b", "data": 1}));
    client.call_ok("publish", json!({"channel": "news:b", "data": 1}));
    assert_eq!(one.only_call("/subscribe").body["channel"], "chat:a");
    assert_eq!(two.only_call("/subscribe").body["channel"], "news:a");
    assert_eq!(one.only_call("/publish").body["channel"], "news:b");
    let call = two.only_call("/publish");
    assert_eq!((&call.body["channel"], call.header("x-key")), (&json!("chat:b"), Some("k")));
    two.wait_for("/renew", 1);
    assert_eq!(two.only_call("/renew").body["channel"], "chat:a");
}

#[test]
fn the_namespace_of_a_method_selects_its_hook() {
    let (one, two) = (Application::start(), Application::start());
    one.respond("/rpc", json!({"result": {"data": 1}}));
    two.respond("/rpc", json!({"result": {"data": 2}}));
    let server = ServerWithHooks::with_key(&[
        ("rpc.proxy.endpoint", &one.url("/rpc")),
        ("proxies", "two"),
        ("proxies.two.endpoint", &two.url("/rpc")),
        ("rpc.namespace_boundary", "/"),
        ("rpc.namespaces", "chat,shop,shut"),
        ("rpc.namespaces.chat.proxy_enabled", "true"),
        ("rpc.namespaces.shop.proxy_enabled", "true"),
        ("rpc.namespaces.shop.proxy_name", "two"),
    ]);
    let mut client = user(&server);
    let mut rpc = |method: &str| client.call("rpc", json!({"method": method}));
    assert_eq!(rpc("plain")["rpc"]["data"], 1);
    assert_eq!(rpc("chat/typing")["rpc"]["data"], 1);
    assert_eq!(rpc("shop/price/now")["rpc"]["data"], 2);
    assert_eq!(rpc("shut/a")["error"]["code"], 108);
    assert_eq!(rpc("other/a")["error"]["code"], 104);
    assert_eq!(rpc("colon:a")["rpc"]["data"], 1, "only the boundary separates");
    assert_eq!(two.only_call("/rpc").body["method"], "shop/price/now");
}

#[test]
fn without_namespaces_of_methods_the_boundary_has_no_meaning() {
    let application = Application::start();
    application.respond("/rpc", json!({"result": {"data": 1}}));
    let server = ServerWithHooks::with_key(&[("rpc.proxy.endpoint", &application.url("/rpc"))]);
    assert_eq!(user(&server).call_ok("rpc", json!({"method": "chat:typing"})), json!({"data": 1}));
}

#[test]
fn a_name_without_a_proxy_or_an_endpoint_is_an_error() {
    let name = ("channel.without_namespace.subscribe_proxy_name", "one");
    let error = load(&[name]).expect_err("no proxy");
    assert!(
        error.contains("subscribe_proxy_name is \"one\", but proxies has no proxy of this name"),
        "{error}"
    );
    let error = load(&[name, ("proxies", "one")]).expect_err("no endpoint");
    assert!(error.contains("proxies.one.endpoint is not set"), "{error}");
    let endpoint = ("proxies.one.endpoint", "http://localhost:3000/");
    assert!(load(&[name, ("proxies", "one"), endpoint]).is_ok());
    for bad in ["default", "a", "a b", "x.http"] {
        assert!(load(&[("proxies", bad)]).is_err(), "{bad}");
    }
    let error = load(&[("rpc.namespaces", "chat"), ("rpc.namespaces.chat.proxy_enabled", "true")]);
    assert!(error.expect_err("no endpoint").contains("rpc.proxy.endpoint is not set"));
}

#[test]
fn after_a_reload_namespaces_use_their_new_hooks() {
    let (one, two) = (Application::start(), Application::start());
    for application in [&one, &two] {
        application.respond("/rpc", json!({"result": {"data": 1}}));
        application.respond("/subscribe", json!({"result": {}}));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    let write = |text: String| std::fs::write(&path, text).expect("a file");
    let key = format!("client.token.hmac_secret_key = \"{KEY}\"\n");
    let plain = format!(
        "{key}[rpc.proxy]\nendpoint = \"{}\"\n[channel.proxy.subscribe]\nendpoint = \"{}\"\n[channel.without_namespace]\n\
         subscribe_proxy_enabled = true\n",
        one.url("/rpc"),
        one.url("/subscribe")
    );
    write(plain.clone());
    let server = ServerWithHooks::with_file(&path);
    let mut client = user(&server);
    client.call_ok("rpc", json!({"method": "chat:a"}));
    client.call_ok("subscribe", json!({"channel": "a"}));
    write(format!(
        "{plain}subscribe_proxy_name = \"two-sub\"\n[rpc.without_namespace]\nproxy_name = \"two-rpc\"\n[[rpc.namespaces]]\n\
         name = \"chat\"\n[[proxies]]\nname = \"two-sub\"\nendpoint = \"{}\"\n[[proxies]]\nname = \"two-rpc\"\nendpoint = \"{}\"\n",
        two.url("/subscribe"),
        two.url("/rpc")
    ));
    let report = server.runtime.block_on(server.server().reload()).expect("a reload");
    assert_eq!(report.restart_required, Vec::<String>::new());
    assert_eq!(client.call_error("rpc", json!({"method": "chat:a"})), (108, false));
    client.call_ok("rpc", json!({"method": "a"}));
    client.call_ok("subscribe", json!({"channel": "b"}));
    let methods = |application: &Application| -> Vec<Value> {
        application.calls("/rpc").into_iter().map(|call| call.body["method"].clone()).collect()
    };
    assert_eq!((methods(&one), methods(&two)), (vec![json!("chat:a")], vec![json!("a")]));
    assert_eq!(two.only_call("/subscribe").body["channel"], "b");
}

#[test]
fn hooks_get_the_variables_of_the_pattern_and_a_reload_changes_the_pattern() {
    let application = Application::start();
    for path in ["/subscribe", "/publish"] {
        application.respond(path, json!({"result": {}}));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    let write = |rules: &str| {
        let (subscribe, publish) = (application.url("/subscribe"), application.url("/publish"));
        let text = format!(
            "http_api.insecure = true\nclient.token.hmac_secret_key = \"{KEY}\"\n\
             [channel.proxy]\nsubscribe.endpoint = \"{subscribe}\"\npublish.endpoint = \"{publish}\"\n\
             [[channel.namespaces]]\nname = \"events\"\n{rules}\n\
             subscribe_proxy_enabled = true\npublish_proxy_enabled = true\n"
        );
        std::fs::write(&path, text).expect("a file");
    };
    write("pattern = \"/events/:project/type_:type\"");
    let server = ServerWithHooks::with_file(&path);
    let mut client = user(&server);
    client.call_ok("subscribe", json!({"channel": "/events/42/type_news"}));
    client.call_ok("publish", json!({"channel": "/events/43/type_b", "data": 1}));
    client.call_ok("subscribe", json!({"channel": "events:a"}));
    let calls = application.calls("/subscribe");
    assert_eq!(calls[0].body["vars"], json!({"project": "42", "type": "news"}));
    assert_eq!(calls[1].body.get("vars"), None, "a channel with the prefix has none");
    assert_eq!(application.only_call("/publish").body["vars"], json!({"project": "43", "type": "b"}));
    write("pattern = \"/things/:thing\"\nmatch = [\"home/+\"]\nuser_variable = \"thing\"");
    let report = server.runtime.block_on(server.server().reload()).expect("a reload");
    assert_eq!((report.changed.len(), report.restart_required), (3, vec![]), "{:?}", report.changed);
    client.call_ok("subscribe", json!({"channel": "/things/42"}));
    assert_eq!(application.calls("/subscribe").len(), 2, "its own user needs no permission");
    assert_eq!(client.call_error("subscribe", json!({"channel": "/things/43"})).0, 103);
    assert_eq!(client.call_error("subscribe", json!({"channel": "/events/42/type_news2"})).0, 102);
    assert_eq!(client.call_error("subscribe", json!({"channel": "home/a"})).0, 103, "it has no variable");
}
