//! Hooks after a reload of the configuration.

use serde_json::{Value, json};

use crate::application::Application;
use crate::server_with_hooks::ServerWithHooks;

const GROUPS: [&str; 4] =
    ["client.proxy.connect", "channel.proxy.subscribe", "channel.proxy.publish", "rpc.proxy"];

/// A file with hooks at an application, each with these options.
fn file(application: &Application, enabled: bool, each: &str, others: &str) -> String {
    let group = |name: &&str| {
        let path = name.rsplit('.').find(|part| *part != "proxy").expect("a name");
        let url = application.url(&format!("/{path}"));
        let meta = if *name == GROUPS[0] { "" } else { others };
        format!("[{name}]\nendpoint = \"{url}\"\n{each}\n{meta}")
    };
    let groups = GROUPS.iter().map(group).collect::<String>();
    let connect = format!("[client.proxy.connect]\nenabled = {enabled}\n");
    groups.replacen("[client.proxy.connect]\n", &connect, 1)
        + &format!("[rpc.without_namespace]\nproxy_enabled = {enabled}\n")
        + "[channel.without_namespace]\nsubscribe_proxy_enabled = true\npublish_proxy_enabled = true\n\
           allow_publish_for_client = true\n"
}

#[test]
fn after_a_reload_all_options_of_hooks_apply_to_connected_clients_too() {
    let (old, new) = (Application::start(), Application::start());
    for (application, user) in [(&old, "1"), (&new, "2")] {
        application.respond("/connect", json!({"result": {"user": user, "meta": {"role": "editor"}}}));
        for path in ["/subscribe", "/publish", "/rpc"] {
            application.respond(path, json!({"result": {}}));
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    let key = "http_api.insecure = true\nclient.token.hmac_secret_key = \"other\"\n";
    let write = |text: String| std::fs::write(&path, format!("{key}{text}")).expect("a file");
    // With this time-out the request below would not end within the time of the test.
    write(file(&old, true, "timeout = \"1m\"", ""));
    let server = ServerWithHooks::with_file(&path);
    let reload = |options: usize| {
        let report = server.runtime.block_on(server.server().reload()).expect("a reload");
        assert_eq!(
            (report.changed.len(), report.restart_required),
            (options, vec![]),
            "{:?}",
            report.changed
        );
    };
    let mut client = server.connected(json!({}));
    client.call_ok("subscribe", json!({"channel": "a"}));
    assert_eq!(old.only_call("/subscribe").body.get("meta"), None);

    let each = "timeout = \"200ms\"\nhttp_headers = [\"Cookie\"]\nbinary_encoding = true\n\
                http.static_headers = { X-App = \"two\" }";
    let emulated = "[client.proxy.connect]\nemulated_headers = [\"X-Tenant\"]\n";
    let changed = file(&new, true, each, "include_connection_meta = true\n");
    write(changed.replacen("[client.proxy.connect]\n", emulated, 1));
    // Four groups with an endpoint, a time-out, headers, an encoding and static headers; one more option in each.
    reload(4 * 6);
    client.call_ok("subscribe", json!({"channel": "b", "data": {"x": 1}}));
    client.call_ok("publish", json!({"channel": "other", "data": [1]}));
    client.call_ok("rpc", json!({"method": "m", "data": [2]}));
    for path in ["/subscribe", "/publish", "/rpc"] {
        let call = new.only_call(path);
        assert_eq!(call.header("x-app"), Some("two"), "{path}");
        assert_eq!(call.body["meta"], json!({"role": "editor"}), "{path}: {}", call.body);
        assert!(call.body["b64data"].is_string() && call.body.get("data").is_none(), "{path}: {}", call.body);
    }
    assert_eq!([old.calls("/subscribe").len(), old.calls("/rpc").len()], [1, 0], "the old application");

    server.connected(json!({"headers": {"X-Tenant": "t", "X-Other": "o"}, "data": {"x": 1}}));
    let call = new.only_call("/connect");
    assert_eq!((call.header("x-tenant"), call.header("x-other")), (Some("t"), None));
    assert_eq!((call.header("x-app"), call.body["b64data"].is_string()), (Some("two"), true));
    let commands = [
        json!({"id": 1, "connect": {}}),
        json!({"id": 2, "subscribe": {"channel": "c"}}),
        json!({"id": 3, "publish": {"channel": "other", "data": 1}}),
        json!({"id": 4, "rpc": {"method": "m", "data": 1}}),
    ];
    let body = commands.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let answer = server.stream("POST /connection/http_stream", "Cookie: s=1\r\n", &body, r#""id":4"#);
    assert!(!answer.contains("error"), "{answer}");
    for path in ["/connect", "/subscribe", "/publish", "/rpc"] {
        new.wait_for(path, 2);
        assert_eq!(new.calls(path)[1].header("cookie"), Some("s=1"), "{path}");
    }

    for (path, method, params) in [
        ("/subscribe", "subscribe", json!({"channel": "d"})),
        ("/publish", "publish", json!({"channel": "d", "data": 1})),
        ("/rpc", "rpc", json!({"method": "m"})),
    ] {
        new.hold(path);
        assert_eq!(client.call_error(method, params), (100, true), "{path} has a time-out");
    }
    new.hold("/connect");
    assert_eq!(server.client().call_error("connect", json!({})), (100, true));

    write(file(&new, false, each, "include_connection_meta = true\n"));
    // The connect hook, the headers that only it passed on, and the methods without a namespace.
    reload(3);
    assert_eq!(client.call_error("rpc", json!({"method": "m"})), (108, false));
    assert!(!server.client().call_error("connect", json!({})).1, "not a failed request of a hook");
    assert_eq!(new.calls("/connect").len(), 3, "no further request");
}
