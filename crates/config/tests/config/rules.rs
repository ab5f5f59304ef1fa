//! Rules between options.

use std::time::Duration;

use crate::support::{error_line, load_env, load_sets, load_text};

#[test]
fn no_option_accepts_an_internal_channel() {
    for (set, option) in [
        ("tcp.auto_subscribe=news,tidings.node.control", "tcp.auto_subscribe"),
        ("tcp.default_channel=tidings.x", "tcp.default_channel"),
        ("channel.namespaces=tidings.x", "channel.namespaces"),
    ] {
        let words = error_line(load_sets(&[set]));
        assert!(words.contains(option) && words.contains("are internal"), "{set}: {words}");
    }
    assert!(load_sets(&["tcp.auto_subscribe=tidings", "channel.namespaces=tidings"]).is_ok());
}

#[test]
fn boundaries_that_make_names_of_channels_ambiguous_are_rejected() {
    let namespace = "channel.namespaces=a.b";
    for (sets, what) in [
        (&["channel.namespace_boundary="][..], "channel.namespace_boundary is empty"),
        (&["channel.user_boundary="], "channel.user_boundary is empty"),
        (&["channel.user_separator="], "channel.user_separator is empty"),
        (&["channel.user_separator=#"], "channel.user_separator (\"#\") and channel.user_boundary (\"#\")"),
        (&["channel.user_boundary=,,"], "contain one another"),
        (&[namespace, "channel.namespace_boundary=."], "a part of the namespace's name \"a.b\""),
    ] {
        let words = error_line(load_sets(sets));
        assert!(words.contains(what), "{sets:?}: {words}");
    }
    assert!(load_sets(&[namespace, "channel.namespace_boundary=//", "channel.user_boundary=::"]).is_ok());
}

#[test]
fn plain_lines_get_no_channel_with_a_space() {
    for (set, option) in [
        ("tcp.auto_subscribe=news,my room", "tcp.auto_subscribe"),
        ("tcp.default_channel=my room", "tcp.default_channel"),
    ] {
        let words = error_line(load_sets(&[set]));
        assert!(words.contains(&format!("{option}: \"my room\" contains a space")), "{set}: {words}");
    }
    assert!(load_sets(&["tcp.auto_subscribe=naïve,☕"]).is_ok());
}

#[test]
fn proxy_headers_over_tcp_require_a_trusted_proxy_and_the_error_contains_the_line_to_add() {
    let text = "[tcp]\nproxy_protocol = true\n";
    let error = error_line(load_text("c.toml", text));
    assert_eq!(
        error,
        "c.toml:2: tcp.proxy_protocol: trusted_proxies is empty, so every connection would be refused; add at \
         the top of the file: trusted_proxies = \"127.0.0.1\" with the address of the proxy"
    );
    let line =
        error.split_once("the file: ").and_then(|(_, rest)| rest.split_once(" with")).expect("a line").0;
    let config = load_text("c.toml", &format!("{line}\n{text}")).expect(line);
    assert!(config.tcp.proxy_protocol && !config.http.proxy_protocol);
    let web = error_line(load_sets(&["http.proxy_protocol=true"]));
    assert!(web.contains("add --set trusted_proxies=127.0.0.1 with"), "{web}");
    // The permissions of a Unix socket decide about its peers.
    assert!(load_sets(&["tcp.proxy_protocol=true", "tcp.listen=unix:/tmp/x"]).is_ok());
}

#[test]
fn a_public_listener_requires_a_key_and_the_error_contains_the_line_to_add() {
    assert_eq!(
        error_line(load_text("c.toml", "[http]\nlisten = \"0.0.0.0:8000\"\n")),
        "c.toml:2: http.listen: 0.0.0.0:8000 is not a loopback address, and no key is configured; add at the top \
         of the file: http_api.key = \"A-SECRET\" (or client.token.hmac_secret_key = \"A-SECRET\"; or \
         client.insecure = true, and every client has all permissions)"
    );
    let from_env = error_line(load_env(&[("TIDINGS_TCP", "[::]:5567")]));
    assert!(from_env.contains("add to the environment: TIDINGS_HTTP_API_KEY=A-SECRET (or"), "{from_env}");
    let from_flag = error_line(load_sets(&["tcp.listen=192.168.1.1:5567"]));
    assert!(from_flag.contains("add --set http_api.key=A-SECRET (or"), "{from_flag}");

    // The line in the error is sufficient, in each language.
    for (name, before) in [
        ("c.toml", "http = \"0.0.0.0:8000\"\n"),
        ("c.yaml", "http: 0.0.0.0:8000\n"),
        ("c.json", "\"http\": \"0.0.0.0:8000\",\n"),
    ] {
        let whole = |text: &str| if name == "c.json" { format!("{{{text}}}") } else { text.to_owned() };
        let error = error_line(load_text(name, &whole(before.trim_end_matches([',', '\n']))));
        let (_, lines) = error.split_once("the file: ").expect("what to add");
        let (key, rest) = lines.split_once(" (or ").expect("two more");
        let (token, rest) = rest.split_once("; or ").expect("one more");
        let (insecure, _) = rest.split_once(", and").expect("a consequence");
        for line in [key, token, insecure] {
            let config = load_text(name, &whole(&format!("{before}{line}"))).expect(line);
            assert!(!config.is_workbench());
        }
    }
}

#[test]
fn loopback_addresses_and_unix_sockets_need_no_key() {
    for local in
        ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "unix:/tmp/x"]
    {
        let set = format!("tcp.listen={local}");
        assert!(load_sets(&[&set]).expect(local).is_workbench(), "{local}");
    }
    for other in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
        let set = format!("tcp.listen={other}");
        assert!(error_line(load_sets(&[&set])).contains("not a loopback address"), "{other}");
    }
    // A key ends the workbench on loopback too; an empty key does not count.
    assert!(!load_sets(&["http_api.key=k"]).expect("good").is_workbench());
    assert!(load_sets(&["http_api.key="]).expect("good").is_workbench());
    assert!(load_sets(&["http=0.0.0.0:1", "http_api.key="]).is_err());
}

#[test]
fn a_default_is_adjusted_to_given_options_and_a_given_value_is_not() {
    let config = load_sets(&[
        "shutdown.timeout=2s",
        "client.ping_interval=4s",
        "ready.canary_limit=500ms",
        "client.queue_max_total=64KiB",
    ])
    .expect("good");
    assert_eq!(config.shutdown.drain, Duration::from_secs(1));
    assert_eq!(config.client.pong_timeout, Duration::from_secs(2));
    assert_eq!(config.ready.canary_interval, Duration::from_millis(250));
    assert_eq!(config.client.queue_max_size, 65_536);

    assert_eq!(
        error_line(load_sets(&["ready.canary_interval=3s"])),
        "--set ready.canary_interval: ready.canary_interval (3s) must be less than ready.canary_limit (3s)"
    );
    assert_eq!(
        error_line(load_text("c.toml", "[shutdown]\ntimeout = 2\ndrain = \"3s\"\n")),
        "c.toml:3: shutdown.drain: shutdown.drain (3s) must be at most shutdown.timeout (2s)"
    );
    assert!(
        error_line(load_sets(&["client.pong_timeout=25s"]))
            .contains("must be less than client.ping_interval (25s)")
    );
    assert!(load_sets(&["shutdown.drain=10s"]).is_ok());
    assert_eq!(
        error_line(load_sets(&["client.channel_limit=1", "tcp.auto_subscribe=a,b"])),
        "--set tcp.auto_subscribe: tcp.auto_subscribe contains 2 channels, more than client.channel_limit (1)"
    );
}

#[test]
fn options_that_require_a_history_are_rejected_without_one() {
    let namespace = "[[channel.namespaces]]\nname = \"chat\"\n";
    let error = error_line(load_text("c.toml", &format!("{namespace}force_recovery = true\n")));
    assert_eq!(
        error,
        "c.toml:3: channel.namespaces.chat.force_recovery: has no effect: a channel has a history only with both \
         history_size and history_ttl; add history_size = 100 and history_ttl = \"10m\", or leave it out"
    );
    let added = "force_recovery = true\nhistory_size = 100\nhistory_ttl = \"10m\"\n";
    assert!(load_text("c.toml", &format!("{namespace}{added}")).is_ok());
    let from_env = error_line(load_env(&[
        ("TIDINGS_CHANNEL_WITHOUT_NAMESPACE_FORCE_POSITIONING", "true"),
        ("TIDINGS_CHANNEL_WITHOUT_NAMESPACE_HISTORY_TTL", "1m"),
        ("TIDINGS_CHANNEL_WITHOUT_NAMESPACE_HISTORY_SIZE", "0"),
    ]));
    let variable = "TIDINGS_CHANNEL_WITHOUT_NAMESPACE_HISTORY_SIZE=100";
    assert!(from_env.contains(&format!("; add {variable}, or")), "{from_env}");
    let set = |option: &str| format!("channel.without_namespace.{option}");
    for (option, missing) in [
        ("force_recovery_mode=cache", "history_size=100 and --set channel.without_namespace.history_ttl=10m"),
        ("history_size=5", "history_ttl=10m"),
        ("history_ttl=5s", "history_size=100"),
    ] {
        let error = error_line(load_sets(&[&set(option)]));
        assert!(error.contains(&format!("add --set {}, or", set(missing))), "{error}");
    }
    // An explicit zero is not an error.
    assert!(load_sets(&[&set("history_size=0"), &set("history_ttl=5s")]).is_ok());
    assert!(load_sets(&[&set("force_recovery=false"), &set("force_recovery_mode=stream")]).is_ok());
}

#[test]
fn nodes_on_redis_require_a_secret_if_no_key_can_be_derived() {
    const REDIS: &str = "broker=redis://127.0.0.1:1";
    const KEY_SET: &str = "client.token.jwks_public_endpoint=https://id.example.com/keys";
    let error = error_line(load_sets(&[REDIS, KEY_SET]));
    assert!(error.contains("add --set cluster.secret=A-SECRET (at least 16 bytes"), "{error}");
    for enough in [
        "cluster.secret=0123456789abcdef",
        "http_api.key=k",
        "client.token.hmac_secret_key=k",
        "broker=memory",
    ] {
        load_sets(&[REDIS, KEY_SET, enough]).expect(enough);
    }
    // Without any key no secret is required.
    load_sets(&[REDIS]).expect("a workbench");
    let short = error_line(load_sets(&["cluster.secret=0123456789abcde"]));
    assert!(short.contains("cluster.secret is shorter than 16 bytes"), "{short}");
}

#[test]
fn shared_polls_are_rejected_without_a_key_an_application_or_a_namespace_or_with_options_without_effect() {
    let key = "[shared_poll]\nhmac_secret_key = \"0123456789abcdef\"\n";
    let hook = "[channel.proxy.shared_poll_refresh]\nendpoint = \"http://127.0.0.1:3000/\"\n";
    let namespace = "[[channel.namespaces]]\nname = \"votes\"\nsubscription_type = \"shared_poll\"\n";
    assert!(load_text("c.toml", &format!("{key}{hook}{namespace}")).is_ok());
    let broker = "broker = \"redis://127.0.0.1:1\"\n";
    let with_broker = load_text("c.toml", &format!("{broker}{key}{hook}{namespace}"));
    assert!(with_broker.is_ok(), "{with_broker:?}");
    let error = error_line(load_text("c.toml", &format!("{hook}{namespace}")));
    assert!(error.contains("shared_poll.hmac_secret_key is empty; add"), "{error}");
    let error = error_line(load_text("c.toml", &format!("{key}{namespace}")));
    assert!(error.contains("channel.proxy.shared_poll_refresh.endpoint is not set"), "{error}");
    let named = format!("{key}{namespace}shared_poll.proxy_name = \"other\"\n");
    let error = error_line(load_text("c.toml", &named));
    assert!(error.contains("votes.shared_poll.proxy_name is \"other\", but proxies has no proxy"), "{error}");
    let named = format!("{named}[[proxies]]\nname = \"other\"\nendpoint = \"http://127.0.0.1:3000/\"\n");
    assert!(load_text("c.toml", &named).is_ok());
    for (more, expected) in [
        ("history_size = 5\n", "history_size: has no effect in a shared poll"),
        ("allow_tags_filter = true\n", "allow_tags_filter: has no effect in a shared poll"),
        ("slow_consumer = \"latest\"\n", "slow_consumer: a subscriber of a shared poll"),
        ("shared_poll.mode = \"fast\"\n", "shared_poll.mode: expected"),
        ("shared_poll.refresh_interval = \"1ms\"\n", "shared_poll.refresh_interval"),
    ] {
        let outcome = load_text("c.toml", &format!("{key}{hook}{namespace}{more}")).unwrap_err().to_string();
        assert!(outcome.contains(expected), "{outcome}");
    }
    let without =
        ["channel.without_namespace.subscription_type=shared_poll", "shared_poll.hmac_secret_key=k"];
    let hook = "channel.proxy.shared_poll_refresh.endpoint=http://127.0.0.1:3000/";
    let error = error_line(load_sets(&[without[0], without[1], hook]));
    assert!(error.contains("a shared poll needs a namespace"), "{error}");
}

#[test]
fn tables_of_channels_without_a_stream_of_publications_are_rejected() {
    let poll = "[shared_poll]\nhmac_secret_key = \"0123456789abcdef\"\n[channel.proxy.shared_poll_refresh]\nendpoint = \"http://127.0.0.1:3000/\"\n";
    let load = |channel: &str, options: &str| {
        let feed = format!("[tables]\nfrom_channel = [{{ channel = \"{channel}\", key = [\"id\"] }}]\n");
        let namespace = format!("[[channel.namespaces]]\nname = \"board\"\n{options}\n");
        load_text("c.toml", &format!("{poll}{feed}{namespace}"))
    };
    for kind in ["map", "shared_poll"] {
        let kind = format!("subscription_type = \"{kind}\"");
        for channel in ["board:prices", "$board:prices", "home/prices"] {
            let options = format!("{kind}\nmatch = [\"home/+\"]");
            let error = error_line(load(channel, &options));
            assert!(error.contains("tables.from_channel needs channels with subscription_type"), "{error}");
            assert!(error.contains("in the namespace \"board\""), "{error}");
        }
        assert!(load("prices", &kind).is_ok(), "another namespace");
    }
    let stream = load("board:prices", "");
    assert!(stream.is_ok(), "{stream:?}");
}

#[test]
fn maps_are_rejected_where_they_are_not_available_or_options_have_no_effect() {
    let namespace = "[[channel.namespaces]]\nname = \"board\"\nsubscription_type = \"map\"\n";
    assert!(load_text("c.toml", namespace).is_ok());
    assert!(load_text("c.toml", &format!("broker = \"redis://127.0.0.1:1\"\n{namespace}")).is_ok());
    let error = error_line(load_sets(&["channel.without_namespace.subscription_type=map"]));
    assert!(error.contains("a map needs a namespace"), "{error}");
    for (more, expected) in [
        (
            "history_size = 5\nhistory_ttl = \"1m\"\n",
            "history_size: has no effect in a map; map.stream_size has its place",
        ),
        (
            "force_recovery = true\nhistory_size = 0\n",
            "force_recovery: has no effect in a map; map.mode has its place",
        ),
        ("slow_consumer = \"latest\"\n", "slow_consumer: a subscriber of a map that lacks changes"),
        (
            "map.mode = \"persistent\"\nmap.key_ttl = \"1m\"\n",
            "map.key_ttl: has no effect in a persistent map",
        ),
        ("map.meta_ttl = \"10s\"\n", "map.meta_ttl must be at least map.stream_ttl"),
        ("map.max_page_size = 50\n", "map.min_page_size must be at most map.max_page_size"),
        ("map.mode = \"fast\"\n", "map.mode: expected"),
    ] {
        let outcome = load_text("c.toml", &format!("{namespace}{more}")).unwrap_err().to_string();
        assert!(outcome.contains(expected), "{outcome}");
    }
}

#[test]
fn presence_as_a_map_needs_a_namespace_of_its_kind_whose_keys_end() {
    let text = |room: &str, clients: &str, map: &str| {
        format!(
            "[[channel.namespaces]]\nname = \"room\"\n{room}\n[[channel.namespaces]]\nname = \"clients\"\n\
             subscription_type = \"{clients}\"\n[channel.namespaces.map]\n{map}\n"
        )
    };
    let prefix = "map_clients_presence_channel_prefix = \"clients:\"";
    assert!(load_text("c.toml", &text(prefix, "map_clients", "mode = \"recoverable\"")).is_ok());
    let wrong = "must begin with the name of a namespace with subscription_type = \"map_clients\"";
    for (room, clients, map, error) in [
        (prefix, "map", "ordered = true", wrong),
        ("map_clients_presence_channel_prefix = \"clients\"", "map_clients", "ordered = true", wrong),
        ("map_clients_presence_channel_prefix = \"other:\"", "map_clients", "ordered = true", wrong),
        (prefix, "map_clients", "mode = \"persistent\"", "map.mode: the keys of presence end"),
        (prefix, "map_clients", "key_ttl = \"49s\"", "map.key_ttl: must be at least 50s"),
        (prefix, "map_clients", "allow_publish_for_client = true", "the server maintains the keys"),
        (prefix, "map_clients", "client_key = \"user_id\"", "the server maintains the keys"),
    ] {
        let words = error_line(load_text("c.toml", &text(room, clients, map)));
        assert!(words.contains(error), "{room} {clients} {map}: {words}");
    }
}

#[test]
fn a_variable_of_a_key_set_is_a_group_of_one_pattern() {
    let with = |issuer: &str| {
        let url = "client.token.jwks_public_endpoint=https://id.example.com/{{realm}}/certs";
        load_sets(&[url, &format!("client.token.issuer_regex={issuer}")])
    };
    assert!(with("^https://id.example.com/(?P<realm>[a-z]+)$").is_ok());
    let line = error_line(with("^https://id.example.com/"));
    assert!(
        line.contains("{{realm}} needs a group (?P<realm>…) in either issuer_regex or audience_regex"),
        "{line}"
    );
}

#[test]
fn each_handler_has_paths_of_its_own() {
    let refused = |text: &str, option: &str| {
        let error = load_text("c.toml", text).expect_err(text).to_string();
        assert!(error.contains(option) && error.contains("another handler has the path"), "{error}");
    };
    refused("sse.handler_prefix = \"/a\"\nuni_sse.handler_prefix = \"/a\"\n", "uni_sse.handler_prefix");
    refused("sse.handler_prefix = \"/connection/websocket\"\n", "sse.handler_prefix");
    refused("http_api.handler_prefix = \"/emulation\"\n", "http_api.handler_prefix");
    refused("websocket.handler_prefix = \"/api/publish\"\n", "websocket.handler_prefix");
    let below = "http_api.handler_prefix = \"/b\"\nwebsocket.handler_prefix = \"/b/websocket\"\n";
    refused(below, "websocket.handler_prefix");
    let error = load_text("c.toml", "sse.handler_prefix = \"/admin/sse\"\n").expect_err("taken").to_string();
    assert!(error.contains("paths that begin with /admin have another handler"), "{error}");
    let config = load_text("c.toml", "sse.handler_prefix = \"/rt/sse\"\n").expect("a path");
    assert_eq!(config.sse.handler_prefix.as_str(), "/rt/sse");
}
