//! Checks of the options of hooks.

use tidings_config::Config;

use crate::server_with_hooks::load;

#[test]
fn an_enabled_hook_without_an_endpoint_is_an_error() {
    for (switch, endpoint) in [
        ("client.proxy.connect.enabled", "client.proxy.connect.endpoint"),
        ("channel.without_namespace.subscribe_proxy_enabled", "channel.proxy.subscribe.endpoint"),
        ("channel.without_namespace.publish_proxy_enabled", "channel.proxy.publish.endpoint"),
        ("client.proxy.refresh.enabled", "client.proxy.refresh.endpoint"),
        ("channel.without_namespace.sub_refresh_proxy_enabled", "channel.proxy.sub_refresh.endpoint"),
    ] {
        let error = load(&[(switch, "true")]).expect_err(switch);
        let what = format!("{switch} is true, but {endpoint} is not set");
        assert_eq!(error, format!("--set {switch}: {what}"));
        assert!(load(&[(switch, "true"), (endpoint, "http://localhost:3000/")]).is_ok());
    }
    let named = [
        ("channel.namespaces", "chat"),
        ("channel.namespaces.chat.publish_proxy_enabled", "true"),
        ("channel.proxy.subscribe.endpoint", "http://localhost:3000/"),
    ];
    assert!(
        load(&named)
            .expect_err("no endpoint")
            .contains("channel.namespaces.chat.publish_proxy_enabled is true")
    );
}

#[test]
fn an_endpoint_of_another_scheme_is_an_error() {
    let error = load(&[("rpc.proxy.endpoint", "ftp://localhost:9000")]).expect_err("ftp");
    assert!(error.contains("another scheme than http and https and grpc"), "{error}");
}

#[test]
fn a_hop_by_hop_header_cannot_be_listed() {
    for option in ["client.proxy.connect.http_headers", "rpc.proxy.http_headers"] {
        let error = load(&[(option, "Cookie,Transfer-Encoding")]).expect_err("a header");
        assert!(error.contains("transfer-encoding belongs to the connection"), "{error}");
    }
}

#[test]
fn the_namespace_of_personal_channels_must_exist() {
    let enabled = ("client.subscribe_to_user_personal_channel.enabled", "true");
    let namespace = ("client.subscribe_to_user_personal_channel.personal_channel_namespace", "mine");
    assert!(load(&[enabled]).is_ok());
    let error = load(&[enabled, namespace]).expect_err("no namespace");
    assert!(error.contains("(\"mine\") is not a namespace"), "{error}");
    assert!(load(&[enabled, namespace, ("channel.namespaces", "mine")]).is_ok());
}

#[test]
fn hooks_are_disabled_by_default() {
    let config = Config::default();
    assert!(!config.client.proxy.connect.enabled);
    assert_eq!(config.client.proxy.connect.endpoint, None);
    assert_eq!(config.rpc.proxy.endpoint, None);
    assert_eq!(config.channel.private_prefix, "$");
    assert!(load(&[("channel.private_prefix", "")]).expect("none").channel.private_prefix.is_empty());
}
