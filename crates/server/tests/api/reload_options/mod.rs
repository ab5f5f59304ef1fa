//! Every option with the mark `reload`: after a reload, a server behaves as one that was started with the new value.
//!
//! Each row has an option, two values, and a probe: an observation from outside, as text. What the probe returns must change at
//! the reload, and must then be what it returns on a server that was started with the second value.
//!
//! Invariant: every reloadable option has a row, or is listed in [`ELSEWHERE`].

mod probes;
mod rows;

use std::collections::BTreeSet;

use crate::reload::Reloading;
use rows::{Row, rows};

/// Options that other tests of reloads observe, and options that are used where one with a row is used.
const ELSEWHERE: &[(&str, &str)] = &[
    ("http_api.key", "reload.rs"),
    ("grpc_api.key", "grpc.rs"),
    ("log.level", "cli/tests/cli/serve.rs"),
    ("tls.cert_pem", "tests/tls/renewal.rs: all of tls is prepared as one value"),
    ("tls.cert_pem_file", "tests/tls/renewal.rs"),
    ("tls.key_pem", "tests/tls/renewal.rs"),
    ("tls.key_pem_file", "tests/tls/renewal.rs"),
    ("tls.client_ca_pem", "tests/tls/renewal.rs"),
    ("tls.client_ca_pem_file", "tests/tls/renewal.rs"),
    ("tls.min_version", "tests/tls/renewal.rs"),
    ("client.token.rsa_public_key", "with hmac_secret_key"),
    ("client.token.ecdsa_public_key", "with hmac_secret_key"),
    ("client.token.jwks_public_endpoint", "with hmac_secret_key"),
    ("client.subscription_token.rsa_public_key", "with hmac_secret_key"),
    ("client.subscription_token.ecdsa_public_key", "with hmac_secret_key"),
    ("client.subscription_token.jwks_public_endpoint", "with hmac_secret_key"),
    ("pusher.activity_timeout", "tests/http/pusher_reload.rs"),
    ("mqtt.max_inflight", "with default_qos: the settings of MQTT are one value"),
    ("mqtt.session_queue_size", "with default_qos"),
    ("mqtt.sessions_max_bytes", "with sessions_limit: the bounds of sessions are one value"),
    ("client.broker_down_delay", "read for each sweep"),
    ("shutdown.lame_duck", "read when the server stops"),
    ("shutdown.drain", "read when the server stops"),
    ("tables.allow_upload", "tests/tables/reload.rs"),
    ("tables.user_max_total", "tests/tables/reload.rs"),
    ("tables.address_max_total", "tests/tables/reload.rs"),
    ("tables.user_upload_limit", "tests/tables/reload.rs"),
    ("tables.address_upload_limit", "tests/tables/reload.rs"),
    ("tables.address_download_limit", "tests/tables/reload.rs"),
    ("channel.without_namespace.match", "tests/proxy/named.rs: of a namespace alone"),
    ("channel.without_namespace.pattern", "tests/proxy/named.rs: of a namespace alone"),
    ("channel.without_namespace.user_variable", "tests/proxy/named.rs: of a namespace alone"),
    ("client.proxy.connect.enabled", "tests/proxy/reload.rs"),
    ("client.proxy.connect.endpoint", "tests/proxy/reload.rs"),
    ("client.proxy.connect.timeout", "tests/proxy/reload.rs"),
    ("client.proxy.connect.http_headers", "tests/proxy/reload.rs"),
    ("client.proxy.connect.emulated_headers", "tests/proxy/reload.rs"),
    ("client.proxy.connect.binary_encoding", "tests/proxy/reload.rs"),
    ("client.proxy.connect.http.static_headers", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.endpoint", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.timeout", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.http_headers", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.include_connection_meta", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.binary_encoding", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.http.static_headers", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.endpoint", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.timeout", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.http_headers", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.include_connection_meta", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.binary_encoding", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.http.static_headers", "tests/proxy/reload.rs"),
    ("rpc.proxy.endpoint", "tests/proxy/reload.rs"),
    ("rpc.proxy.timeout", "tests/proxy/reload.rs"),
    ("rpc.proxy.http_headers", "tests/proxy/reload.rs"),
    ("rpc.proxy.include_connection_meta", "tests/proxy/reload.rs"),
    ("rpc.proxy.binary_encoding", "tests/proxy/reload.rs"),
    ("rpc.proxy.http.static_headers", "tests/proxy/reload.rs"),
    ("rpc.without_namespace.proxy_enabled", "tests/proxy/reload.rs"),
    ("rpc.without_namespace.proxy_name", "tests/proxy/named.rs"),
    ("rpc.namespace_boundary", "tests/proxy/named.rs: the hooks of methods are one value"),
    ("channel.without_namespace.subscribe_proxy_name", "tests/proxy/named.rs"),
    ("channel.without_namespace.publish_proxy_name", "with subscribe_proxy_name: the hooks are one value"),
    ("channel.without_namespace.sub_refresh_proxy_name", "with subscribe_proxy_name"),
    (
        "client.proxy.connect.http.status_to_code_transforms",
        "tests/proxy/failing.rs: a hook is replaced as one value",
    ),
    (
        "client.proxy.refresh.http.status_to_code_transforms",
        "tests/proxy/failing.rs: a hook is replaced as one value",
    ),
    (
        "channel.proxy.subscribe.http.status_to_code_transforms",
        "tests/proxy/failing.rs: a hook is replaced as one value",
    ),
    (
        "channel.proxy.publish.http.status_to_code_transforms",
        "tests/proxy/failing.rs: a hook is replaced as one value",
    ),
    (
        "channel.proxy.sub_refresh.http.status_to_code_transforms",
        "tests/proxy/failing.rs: a hook is replaced as one value",
    ),
    ("rpc.proxy.http.status_to_code_transforms", "tests/proxy/failing.rs: a hook is replaced as one value"),
    ("client.proxy.refresh.enabled", "tests/proxy/renewals.rs"),
    ("client.proxy.refresh.endpoint", "tests/proxy/renewals.rs"),
    ("client.proxy.refresh.timeout", "tests/proxy/renewals.rs"),
    ("client.proxy.refresh.http_headers", "tests/proxy/renewals.rs"),
    ("client.proxy.refresh.include_connection_meta", "tests/proxy/renewals.rs"),
    ("client.proxy.refresh.binary_encoding", "tests/proxy/renewals.rs"),
    ("client.proxy.refresh.http.static_headers", "tests/proxy/renewals.rs"),
    ("channel.proxy.sub_refresh.endpoint", "tests/proxy/renewals.rs"),
    ("channel.proxy.sub_refresh.timeout", "tests/proxy/renewals.rs"),
    ("channel.proxy.sub_refresh.http_headers", "tests/proxy/renewals.rs"),
    ("channel.proxy.sub_refresh.include_connection_meta", "tests/proxy/renewals.rs"),
    ("channel.proxy.sub_refresh.binary_encoding", "tests/proxy/renewals.rs"),
    ("channel.proxy.sub_refresh.http.static_headers", "tests/proxy/renewals.rs"),
    ("channel.without_namespace.sub_refresh_proxy_enabled", "tests/proxy/renewals.rs"),
    ("channel.without_namespace.subscribe_stream_proxy_enabled", "tests/proxy/streams.rs"),
    ("channel.without_namespace.subscribe_stream_proxy_name", "with subscribe_proxy_name"),
    ("channel.without_namespace.subscribe_stream_bidirectional", "tests/proxy/streams.rs"),
    ("channel.proxy.subscribe_stream_limit", "tests/proxy/streams.rs"),
    ("channel.proxy.subscribe_stream.endpoint", "tests/proxy/streams.rs: a hook is replaced as one value"),
    ("channel.proxy.subscribe_stream.timeout", "tests/proxy/streams.rs"),
    ("channel.proxy.subscribe_stream.http_headers", "tests/proxy/streams.rs"),
    ("channel.proxy.subscribe_stream.include_connection_meta", "tests/proxy/streams.rs"),
    ("channel.proxy.subscribe_stream.binary_encoding", "tests/proxy/streams.rs"),
    ("channel.proxy.subscribe_stream.http.static_headers", "tests/proxy/streams.rs"),
    ("channel.proxy.subscribe_stream.http.status_to_code_transforms", "has no effect over gRPC"),
    ("channel.proxy.shared_poll_refresh.endpoint", "tests/proxy/polls.rs: a hook is replaced as one value"),
    ("channel.proxy.shared_poll_refresh.timeout", "tests/proxy/polls.rs"),
    ("channel.proxy.shared_poll_refresh.http_headers", "tests/proxy/polls.rs"),
    ("channel.proxy.shared_poll_refresh.include_connection_meta", "tests/proxy/polls.rs"),
    ("channel.proxy.shared_poll_refresh.binary_encoding", "tests/proxy/polls.rs"),
    ("channel.proxy.shared_poll_refresh.http.static_headers", "tests/proxy/polls.rs"),
    ("channel.proxy.shared_poll_refresh.http.status_to_code_transforms", "tests/proxy/polls.rs"),
    ("client.proxy.connect.grpc.compression", "tests/proxy/grpc.rs: a hook is replaced as one value"),
    ("client.proxy.refresh.grpc.compression", "tests/proxy/grpc.rs: a hook is replaced as one value"),
    ("channel.proxy.subscribe.grpc.compression", "tests/proxy/grpc.rs: a hook is replaced as one value"),
    ("channel.proxy.publish.grpc.compression", "tests/proxy/grpc.rs: a hook is replaced as one value"),
    ("channel.proxy.sub_refresh.grpc.compression", "tests/proxy/grpc.rs: a hook is replaced as one value"),
    (
        "channel.proxy.subscribe_stream.grpc.compression",
        "tests/proxy/grpc.rs: a hook is replaced as one value",
    ),
    (
        "channel.proxy.shared_poll_refresh.grpc.compression",
        "tests/proxy/grpc.rs: a hook is replaced as one value",
    ),
    ("rpc.proxy.grpc.compression", "tests/proxy/grpc.rs: a hook is replaced as one value"),
    ("shared_poll.hmac_secret_key", "tests/proxy/polls.rs"),
    ("shared_poll.hmac_previous_secret_key", "tests/proxy/polls.rs"),
    ("shared_poll.hmac_previous_secret_key_valid_until", "tests/proxy/polls.rs"),
    ("shared_poll.max_total", "tests/proxy/polls.rs"),
    ("shared_poll.concurrency_limit", "with max_total: the bounds are one value"),
];

/// Options of every server here. Clients with a token have the user `ann`.
const BASE: &str = r#"
http_api.key = "first-s3cret"
client.token.hmac_secret_key = "users"
client.allow_anonymous_connect_without_token = true
tcp.auto_subscribe = []
shards = 2
"#;
/// The lines `KEY = VALUE` of several texts; a later value of a key replaces an earlier one.
fn file(texts: &[&str]) -> String {
    let mut lines: Vec<(&str, &str)> = Vec::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        lines.retain(|(known, _)| *known != key);
        lines.push((key, value));
    }
    lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

fn check(row: &Row) -> Result<(), String> {
    let Row { option, values, with, probe, waits } = row;
    let text = |value: &str| file(&[BASE, with, &format!("{option} = {value}\n")]);
    let world = Reloading::start(&text(values[0]));
    let before = (!waits).then(|| probe(&world.server));
    world.write(&text(values[1]));
    let report = world
        .server
        .runtime
        .block_on(world.server.server().reload())
        .map_err(|error| format!("{option}: {error}"))?;
    if report.changed != [*option] {
        return Err(format!("{option}: the reload has changed {:?}", report.changed));
    }
    let after = probe(&world.server);
    drop(world);
    let started = Reloading::start(&text(values[1]));
    let expected = probe(&started.server);
    if after != expected {
        return Err(format!("{option}: {after:?} after a reload, {expected:?} after a start"));
    }
    match before {
        Some(before) if before == after => {
            Err(format!("{option}: the probe does not observe it: {before:?}"))
        }
        _ => Ok(()),
    }
}

#[test]
fn after_a_reload_a_server_behaves_as_one_that_was_started_with_the_new_value() {
    let failures: Vec<String> = rows().iter().filter_map(|row| check(row).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_reloadable_option_is_observed() {
    let docs = tidings_config::docs();
    let mut reloadable = BTreeSet::new();
    let mut option = "";
    for line in docs.lines() {
        if let Some(name) = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`')) {
            option = name;
        } else if line.contains("; reloadable;") && !option.is_empty() {
            reloadable.insert(option.to_owned());
            option = "";
        }
    }
    assert!(reloadable.len() > 100, "{}", reloadable.len());
    let rows = rows();
    let observed: BTreeSet<String> = rows
        .iter()
        .map(|row| row.option)
        .chain(ELSEWHERE.iter().map(|(option, _)| *option))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = reloadable.difference(&observed).collect();
    let unknown: Vec<_> = observed.difference(&reloadable).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "without a row: {missing:#?}; not reloadable: {unknown:?}"
    );
}
