//! The reloadable options, with their probes.

use std::io::Read as _;
use std::time::{Duration, Instant};

use serde_json::json;
use tidings_testkit::{PATIENCE, wait_until};

use super::probes::*;
use crate::api_server::token_with;
use crate::reload::KEY;
use crate::support::TestServer;

const HISTORY: &str =
    "channel.without_namespace.history_size = 100\nchannel.without_namespace.history_ttl = \"1m\"\n";
const SUBSCRIBE: &str = "channel.without_namespace.allow_subscribe_for_client = true\n";
const ANONYMOUS: &str = "channel.without_namespace.allow_subscribe_for_client = true\n\
                         channel.without_namespace.allow_subscribe_for_anonymous = true\n";

type Probe = Box<dyn Fn(&TestServer) -> String>;

pub(super) struct Row {
    pub(super) option: &'static str,
    pub(super) values: [&'static str; 2],
    /// Further options of both values.
    pub(super) with: String,
    pub(super) probe: Probe,
    /// The probe waits for something that does not happen with the first value, and is not run with it.
    pub(super) waits: bool,
}

/// A probe that returns at once.
fn row(
    option: &'static str,
    values: [&'static str; 2],
    with: &[&str],
    probe: impl Fn(&TestServer) -> String + 'static,
) -> Row {
    Row { option, values, with: with.concat(), probe: Box::new(probe), waits: false }
}

/// A probe that waits.
fn event(
    option: &'static str,
    values: [&'static str; 2],
    with: &[&str],
    probe: impl Fn(&TestServer) -> String + 'static,
) -> Row {
    Row { waits: true, ..row(option, values, with, probe) }
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    const NO: &str = "false";
    const YES: &str = "true";
    const SUB: Commands = &[("subscribe", r#"{"channel":"news"}"#)];
    const PUB: Commands = &[("publish", r#"{"channel":"news","data":1}"#)];
    const SUB_PUB: Commands = &[SUB[0], PUB[0]];
    const READ_HISTORY: Commands = &[("history", r#"{"channel":"news","limit":1}"#)];
    const READ_PRESENCE: Commands = &[("presence_stats", r#"{"channel":"news"}"#)];
    const SUB_HISTORY: Commands = &[SUB[0], READ_HISTORY[0]];
    const SUB_PRESENCE: Commands = &[SUB[0], READ_PRESENCE[0]];
    const PRESENCE: &str = "channel.without_namespace.presence = true\n";
    const HOOKS: &str = "channel.proxy.subscribe.endpoint = \"http://127.0.0.1:9/\"\nchannel.proxy.publish.endpoint = \"http://127.0.0.1:9/\"\n";
    const PUBLISH: &str = "channel.without_namespace.allow_publish_for_client = true\n";
    const READ: &str = "channel.without_namespace.allow_history_for_client = true\n";
    const OTHER_KEY: &str =
        "client.subscription_token.enabled = true\nclient.subscription_token.hmac_secret_key = \"other\"\n";
    const SAME_KEY: &str =
        "client.subscription_token.enabled = true\nclient.subscription_token.hmac_secret_key = \"users\"\n";
    macro_rules! channel {
        ($option:literal) => {
            concat!("channel.without_namespace.", $option)
        };
    }
    vec![
        row(channel!("allow_subscribe_for_client"), [NO, YES], &[], user(SUB)),
        row(channel!("allow_subscribe_for_anonymous"), [NO, YES], &[SUBSCRIBE], anonymous(SUB)),
        row(channel!("allow_publish_for_client"), [NO, YES], &[], user(PUB)),
        row(channel!("allow_publish_for_subscriber"), [NO, YES], &[SUBSCRIBE], user(SUB_PUB)),
        row(channel!("allow_publish_for_anonymous"), [NO, YES], &[PUBLISH], anonymous(PUB)),
        row(channel!("history_size"), ["0", "10"], &[HISTORY], fields_of_publish),
        row(channel!("history_ttl"), ["\"0s\"", "\"1m\""], &[HISTORY], fields_of_publish),
        event(
            channel!("history_meta_ttl"),
            ["\"1h\"", "\"1s\""],
            &[HISTORY, "channel.without_namespace.history_ttl = \"1s\"\n"],
            |server| {
                let epoch = publish(server, &json!(1))["epoch"].clone();
                let query = json!({"channel": "news", "limit": 0});
                wait_until(PATIENCE, "the end of the position", || {
                    api(server, "history", &query)["result"]["epoch"] != epoch
                });
                String::new()
            },
        ),
        row(
            channel!("allow_recovery"),
            [NO, YES],
            &[SUBSCRIBE, HISTORY],
            user(&[("subscribe", r#"{"channel":"news","recoverable":true}"#)]),
        ),
        row(
            channel!("allow_positioning"),
            [NO, YES],
            &[SUBSCRIBE, HISTORY],
            user(&[("subscribe", r#"{"channel":"news","positioned":true}"#)]),
        ),
        row(channel!("force_recovery"), [NO, YES], &[SUBSCRIBE, HISTORY], user(SUB)),
        row(channel!("force_positioning"), [NO, YES], &[SUBSCRIBE, HISTORY], user(SUB)),
        row(
            channel!("force_recovery_mode"),
            ["\"stream\"", "\"cache\""],
            &[SUBSCRIBE, HISTORY, "channel.without_namespace.force_recovery = true\n"],
            recovery,
        ),
        row(channel!("presence"), [NO, YES], &[], |server| {
            api(server, "presence_stats", &json!({"channel": "news"})).to_string()
        }),
        row(
            channel!("join_leave"),
            [NO, YES],
            &[SUBSCRIBE, PRESENCE, "channel.without_namespace.allow_presence_for_subscriber = true\n"],
            joins(r#"{"channel":"news","join_leave":true}"#),
        ),
        row(
            channel!("force_push_join_leave"),
            [NO, YES],
            &[SUBSCRIBE, PRESENCE, "channel.without_namespace.join_leave = true\n"],
            joins(r#"{"channel":"news"}"#),
        ),
        row(channel!("allow_history_for_subscriber"), [NO, YES], &[SUBSCRIBE, HISTORY], user(SUB_HISTORY)),
        row(channel!("allow_history_for_client"), [NO, YES], &[HISTORY], user(READ_HISTORY)),
        row(
            channel!("allow_history_for_anonymous"),
            [NO, YES],
            &[HISTORY, "channel.without_namespace.allow_history_for_client = true\n"],
            anonymous(READ_HISTORY),
        ),
        row(channel!("allow_presence_for_subscriber"), [NO, YES], &[SUBSCRIBE, PRESENCE], user(SUB_PRESENCE)),
        row(channel!("allow_presence_for_client"), [NO, YES], &[PRESENCE], user(READ_PRESENCE)),
        row(
            channel!("allow_presence_for_anonymous"),
            [NO, YES],
            &[PRESENCE, "channel.without_namespace.allow_presence_for_client = true\n"],
            anonymous(READ_PRESENCE),
        ),
        row(
            channel!("allow_user_limited_channels"),
            [NO, YES],
            &[],
            user(&[("subscribe", r##"{"channel":"dialog#ann"}"##)]),
        ),
        row(
            "channel.namespace_boundary",
            ["\":\"", "\"/\""],
            &[SUBSCRIBE, "channel.namespaces = [{ name = \"chat\" }]\n"],
            user(&[("subscribe", r#"{"channel":"chat/news"}"#)]),
        ),
        row(
            "channel.user_boundary",
            ["\"#\"", "\"@\""],
            &["channel.without_namespace.allow_user_limited_channels = true\n"],
            user(&[("subscribe", r#"{"channel":"dialog@ann"}"#)]),
        ),
        row(
            "channel.user_separator",
            ["\",\"", "\"+\""],
            &["channel.without_namespace.allow_user_limited_channels = true\n"],
            user(&[("subscribe", r##"{"channel":"dialog#ann+bob"}"##)]),
        ),
        row(channel!("channel_regex"), ["\"\"", "\"^[0-9]+$\""], &[SUBSCRIBE], user(SUB)),
        row("channel.max_length", ["255", "3"], &[SUBSCRIBE], user(SUB)),
        row(
            channel!("allowed_delta_types"),
            ["[]", "[\"fossil\"]"],
            &[SUBSCRIBE],
            user(&[("subscribe", r#"{"channel":"news","delta":"fossil"}"#)]),
        ),
        row(
            channel!("delta_publish"),
            [NO, YES],
            &[SUBSCRIBE, "channel.without_namespace.allowed_delta_types = [\"fossil\"]\n"],
            delta_delivered,
        ),
        row(
            channel!("allow_tags_filter"),
            [NO, YES],
            &[SUBSCRIBE],
            user(&[("subscribe", r#"{"channel":"news","tf":{"key":"k","cmp":"ex"}}"#)]),
        ),
        row(
            channel!("tags_filter_limit"),
            ["1", "100"],
            &[SUBSCRIBE, "channel.without_namespace.allow_tags_filter = true\n"],
            different_filters,
        ),
        row(channel!("subscribe_proxy_enabled"), [NO, YES], &[SUBSCRIBE, HOOKS], user(SUB)),
        row(channel!("publish_proxy_enabled"), [NO, YES], &[PUBLISH, HOOKS], user(PUB)),
        row(channel!("publication_data_format"), ["\"auto\"", "\"text\""], &[SUBSCRIBE], delivered),
        row(
            channel!("slow_consumer"),
            ["\"drop_oldest\"", "\"cut\""],
            &[ANONYMOUS, "client.queue_max_size = \"256KiB\"\n"],
            slow_consumer,
        ),
        row("channel.private_prefix", ["\"$\"", "\"news\""], &[SUBSCRIBE], user(SUB)),
        row(
            "client.allowed_origins",
            ["[]", "[\"https://a.example\"]"],
            &[ANONYMOUS],
            status("/events?channel=news", "Origin: https://a.example"),
        ),
        row("client.insecure", [NO, YES], &[], anonymous(PUB)),
        row("client.insecure_skip_token_signature_verify", [NO, YES], &[], |server| {
            // The claims `{"sub":"ann"}`, and no signature.
            let token = json!({"token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ."});
            Peer::open(server).call("connect", &token)["connect"].is_object().to_string()
        }),
        row("client.disallow_anonymous_connection_tokens", [NO, YES], &[], |server| {
            connect(server, &json!({"token": token_with(&json!({}))}))
        }),
        row("client.allow_anonymous_connect_without_token", [YES, NO], &[], |server| {
            connect(server, &json!({}))
        }),
        row(
            "client.queue_max_size",
            ["\"1MiB\"", "\"1KiB\""],
            &[SUBSCRIBE, HISTORY, "channel.without_namespace.force_recovery = true\n"],
            recovery,
        ),
        row("client.channel_limit", ["128", "1"], &[ANONYMOUS], lines(&["SUBSCRIBE a", "SUBSCRIBE b"])),
        row("client.connection_limit", ["0", "1"], &[], two_connections),
        row("client.connection_rate_limit", ["0", "1"], &[], many_connections),
        row("client.user_connection_limit", ["0", "1"], &[], two_of_a_user),
        event("client.single_connection", [NO, YES], &[], |server| {
            let mut first = connected(server, &ann());
            let _second = connected(server, &ann());
            first.push("disconnect").to_string()
        }),
        event("client.stale_close_delay", ["\"1h\"", "\"50ms\""], &[], silent_websocket),
        event(
            "client.slow_close_delay",
            ["\"1m\"", "\"10ms\""],
            &[
                ANONYMOUS,
                "client.queue_max_size = \"256KiB\"\nchannel.without_namespace.slow_consumer = \"cut\"\n",
            ],
            |server| {
                let mut peer = Peer::open(server);
                assert_eq!(peer.answer("SUBSCRIBE news"), "CONFIRMED");
                let body = json!("x".repeat(60_000));
                wait_until(PATIENCE, "the end of a connection with unsent bytes", || {
                    publish(server, &body);
                    server.metric("tidings_connections{transport=\"tcp\"}") == 0
                });
                String::new()
            },
        ),
        event("client.expired_close_delay", ["\"1h\"", "\"50ms\""], &[], |server| {
            let claims = json!({"sub": "ann", "exp": now() + 2});
            let mut peer = connected(server, &json!({"token": token_with(&claims)}));
            peer.push("disconnect").to_string()
        }),
        event("client.expired_sub_close_delay", ["\"1h\"", "\"50ms\""], &[], |server| {
            let mut peer = connected(server, &ann());
            let claims = json!({"sub": "ann", "channel": "$x", "exp": now() + 2});
            peer.call("subscribe", &json!({"channel": "$x", "token": token_with(&claims)}));
            peer.push("unsubscribe").to_string()
        }),
        row("rpc.ping.enabled", [NO, YES], &[], user(&[("rpc", r#"{"method":"ping"}"#)])),
        row(
            "rpc.ping.method",
            ["\"ping\"", "\"echo\""],
            &["rpc.ping.enabled = true\n"],
            user(&[("rpc", r#"{"method":"ping"}"#)]),
        ),
        row("client.connect_include_server_time", [NO, YES], &[], |server| {
            Peer::open(server).call("connect", &ann())["connect"]["time"].is_u64().to_string()
        }),
        row("client.history_max_publication_limit", ["2", "3"], &[HISTORY, READ], |server| {
            (0..4).for_each(|n| _ = publish(server, &json!(n)));
            let query = json!({"channel": "news", "limit": -1});
            let reply = connected(server, &ann()).call("history", &query);
            reply["history"]["publications"].as_array().map_or(0, Vec::len).to_string()
        }),
        row(
            "client.recovery_max_publication_limit",
            ["1", "100"],
            &[HISTORY, SUBSCRIBE, "channel.without_namespace.force_recovery = true\n"],
            recovery,
        ),
        row(
            "client.user_id_http_header",
            ["\"\"", "\"X-User-Id\""],
            &[
                "trusted_proxies = [\"127.0.0.1\"]\n",
                "channel.without_namespace.allow_user_limited_channels = true\n",
            ],
            status("/events?channel=dialog%23ann", "X-User-Id: ann"),
        ),
        row("client.subscribe_to_user_personal_channel.enabled", [NO, YES], &[], |server| {
            connect(server, &ann())
        }),
        row(
            "client.subscribe_to_user_personal_channel.personal_channel_namespace",
            ["\"\"", "\"chat\""],
            &[
                "client.subscribe_to_user_personal_channel.enabled = true\n",
                "channel.namespaces = [{name = \"chat\"}]\n",
            ],
            |server| connect(server, &ann()),
        ),
        row("client.token.hmac_secret_key", ["\"other\"", "\"users\""], &[], |server| {
            connect(server, &ann())
        }),
        row(
            "client.token.hmac_previous_secret_key",
            ["\"\"", "\"users\""],
            &["client.token.hmac_secret_key = \"other\"\n"],
            |server| connect(server, &ann()),
        ),
        row(
            "client.token.hmac_previous_secret_key_valid_until",
            ["0", "1"],
            &[
                "client.token.hmac_secret_key = \"other\"\n",
                "client.token.hmac_previous_secret_key = \"users\"\n",
            ],
            |server| connect(server, &ann()),
        ),
        row("client.token.audience", ["\"\"", "\"x\""], &[], |server| connect(server, &ann())),
        row("client.token.issuer", ["\"\"", "\"x\""], &[], |server| connect(server, &ann())),
        row("client.token.audience_regex", ["\"\"", "\"x\""], &[], |server| connect(server, &ann())),
        row("client.token.issuer_regex", ["\"\"", "\"x\""], &[], |server| connect(server, &ann())),
        row(
            "client.token.user_id_claim",
            ["\"\"", "\"account\""],
            &["channel.without_namespace.allow_user_limited_channels = true\n"],
            user(&[("subscribe", r##"{"channel":"dialog#ann"}"##)]),
        ),
        row(
            "client.subscription_token.enabled",
            [NO, YES],
            &["client.subscription_token.hmac_secret_key = \"other\"\n"],
            subscribe_with_token,
        ),
        row(
            "client.subscription_token.hmac_secret_key",
            ["\"other\"", "\"users\""],
            &[OTHER_KEY],
            subscribe_with_token,
        ),
        row(
            "client.subscription_token.hmac_previous_secret_key",
            ["\"\"", "\"users\""],
            &[OTHER_KEY],
            subscribe_with_token,
        ),
        row(
            "client.subscription_token.hmac_previous_secret_key_valid_until",
            ["0", "1"],
            &[OTHER_KEY, "client.subscription_token.hmac_previous_secret_key = \"users\"\n"],
            subscribe_with_token,
        ),
        row("client.subscription_token.audience", ["\"\"", "\"x\""], &[SAME_KEY], subscribe_with_token),
        row("client.subscription_token.issuer", ["\"\"", "\"x\""], &[SAME_KEY], subscribe_with_token),
        row("client.subscription_token.audience_regex", ["\"\"", "\"x\""], &[SAME_KEY], subscribe_with_token),
        row("client.subscription_token.issuer_regex", ["\"\"", "\"x\""], &[SAME_KEY], subscribe_with_token),
        row(
            "client.subscription_token.user_id_claim",
            ["\"\"", "\"account\""],
            &[SAME_KEY],
            subscribe_with_token,
        ),
        row("limits.address.connections", ["0", "1"], &[], two_connections),
        row("limits.address.connection_rate", ["0", "1"], &[], many_connections),
        row("limits.address.commands", ["0", "3"], &[], many_lines("PING")),
        row(
            "limits.address.publications",
            ["0", "3"],
            &["client.insecure = true\n"],
            many_lines("PUBLISH news x"),
        ),
        row("limits.address.bytes", ["0", "\"30B\""], &[], many_lines("a line of some length, echoed")),
        row("limits.user.connections", ["0", "1"], &[], two_of_a_user),
        row("limits.user.connection_rate", ["0", "1"], &[], |server| {
            let refused = |_| !Peer::open(server).call("connect", &ann())["connect"].is_object();
            (0..30).any(refused).to_string()
        }),
        row("limits.user.commands", ["0", "3"], &[], many_commands("presence_stats")),
        row("limits.user.publications", ["0", "3"], &[PUBLISH], many_commands("publish")),
        row("limits.user.bytes", ["0", "300"], &[PUBLISH], many_commands("publish")),
        row("tcp.echo", [YES, NO], &[], lines(&["hello"])),
        row("tcp.auto_subscribe", ["[]", "[\"news\"]"], &[ANONYMOUS], lines(&["SUBSCRIBE news"])),
        row(
            "tcp.default_channel",
            ["\"updates\"", "\"sport\""],
            &[ANONYMOUS],
            lines(&["SUBSCRIBE", "SUBSCRIBE sport"]),
        ),
        row("tcp.escape", ["\"auto\"", "\"always\""], &[ANONYMOUS], |server| {
            let mut peer = Peer::open(server);
            peer.answer("SUBSCRIBE news");
            publish(server, &json!("a\\b"));
            peer.line()
        }),
        row(
            "tcp.max_line",
            ["65536", "64"],
            &[],
            lines(&["a line of more than sixty-four bytes, which the server sends back to its client"]),
        ),
        row(
            "tcp.first_byte_wait",
            ["\"10s\"", "\"1ms\""],
            &[ANONYMOUS, "tcp.auto_subscribe = [\"news\"]\n"],
            {
                |server| {
                    // A client that sends nothing is subscribed after this time.
                    let began = Instant::now();
                    let mut peer = Peer::open(server);
                    peer.0.get_ref().set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
                    let mut byte = [0];
                    while peer.0.read(&mut byte).is_err() && began.elapsed() < Duration::from_secs(5) {
                        publish(server, &json!(1));
                    }
                    (began.elapsed() < Duration::from_secs(5)).to_string()
                }
            },
        ),
        row("mqtt.max_packet_size", ["65536", "1024"], &[], mqtt_properties),
        row("mqtt.receive_maximum", ["1024", "5"], &[], mqtt_properties),
        row("mqtt.topic_alias_maximum", ["16", "3"], &[], mqtt_properties),
        row("mqtt.max_keep_alive", ["0", "60"], &[], mqtt_properties),
        row("mqtt.session_expiry_max", ["\"168h\"", "\"1m\""], &[], mqtt_session),
        row("mqtt.sessions_limit", ["100000", "0"], &[], mqtt_session),
        row("mqtt.default_qos", ["1", "0"], &[ANONYMOUS], mqtt_qos),
        row("websocket.message_size_limit", ["65536", "64"], &[], long_message),
        row("websocket.compression", [NO, YES], &[], websocket_extensions),
        row("sse.max_request_body_size", ["65536", "64"], &[], long_body("/connection/sse")),
        row("http_stream.max_request_body_size", ["65536", "64"], &[], long_body("/connection/http_stream")),
        row("emulation.max_request_body_size", ["65536", "64"], &[], long_body("/emulation")),
        row(
            "uni_sse.max_request_body_size",
            ["65536", "64"],
            &["uni_sse.enabled = true\n"],
            long_body("/connection/uni_sse"),
        ),
        row(
            "uni_http_stream.max_request_body_size",
            ["65536", "64"],
            &["uni_http_stream.enabled = true\n"],
            long_body("/connection/uni_http_stream"),
        ),
        row("http_api.insecure", [NO, YES], &[], |server| {
            server.post("/api/info", &[], "{}").status.to_string()
        }),
        row("http_api.rate_limit", ["0", "10"], &[], |server| {
            let refused = |_| server.post("/api/info", &[KEY], "{}").status == 429;
            (0..60).any(refused).to_string()
        }),
        row("trusted_proxies", ["[]", "[\"127.0.0.0/8\"]"], &[], |server| {
            let request = "GET /connection/address HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 198.51.100.7\r\n\
                           Connection: close\r\n\r\n";
            server.send(request).body
        }),
    ]
}
