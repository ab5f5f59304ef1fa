//! Configurations of Centrifugo: the results of `config check` and `config import`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidings_config::{
    self as config, AllowedOrigin, BrokerUrl, Config, ConfigErrors, ConsumerType, HookUrl, Imported,
    ListenAddr, LogLevel, Overrides, RedisKey,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A file in a temporary folder.
fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file in it");
    (folder, path)
}

fn load(path: &Path) -> Result<config::Loaded, ConfigErrors> {
    config::load_with_warnings(Some(path), [], &Overrides::default())
}

fn errors(name: &str, text: &str) -> Vec<String> {
    let (_folder, path) = file(name, text);
    match load(&path) {
        Ok(loaded) => panic!("accepted: {loaded:?}"),
        Err(errors) => errors.lines().map(|line| line.replace(&format!("{}:", path.display()), "")).collect(),
    }
}

/// The configuration that a server loads from a converted file.
fn reload(imported: &Imported) -> Config {
    let (_folder, path) = file("tidings.toml", &imported.text);
    load(&path).unwrap_or_else(|e| panic!("{e}\n{}", imported.text)).config
}

fn import(name: &str, text: &str) -> (Config, Imported) {
    let (_folder, path) = file(name, text);
    let imported = config::import(&path).expect("a file");
    (reload(&imported), imported)
}

#[test]
fn all_errors_of_a_file_and_its_environment_are_reported_in_one_run() {
    let (_folder, path) = file(
        "c.toml",
        "brokr = \"x\"\n[tcp]\necho = 5\nmax_line = 1\n[shutdown]\ntimeout = \"1s\"\ndrain = \"2s\"\n\
         [[channel.namespaces]]\nnme = \"chat\"\n[[channel.namespaces]]\nname = \"news\"\nhistory_size = 5\n",
    );
    let env = [("TIDINGS_TCP_ECKO".to_owned(), "1".to_owned())];
    let errors = config::load(Some(&path), env, &Overrides::default()).expect_err("many errors");
    let lines: Vec<String> = errors.lines().collect();
    assert_eq!(lines.len(), 7, "{lines:#?}");
    for part in [
        "brokr",
        "tcp.echo",
        "tcp.max_line",
        "TIDINGS_TCP_ECKO",
        "shutdown.drain",
        "needs a name",
        "history_ttl",
    ] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part}: {lines:#?}");
    }
}

#[test]
fn a_file_with_every_option_of_centrifugo_at_its_default_is_valid() {
    let loaded = load(&fixture("defaults-6.json")).unwrap_or_else(|e| panic!("{e}"));
    assert!(!loaded.config.sse.enabled);
    assert_eq!(loaded.config.log.level, LogLevel::Info);
    let [first, .., last] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    assert!(first.contains("`http_server.tls` is ignored"), "{first}");
    assert!(loaded.warnings.len() == 11 && last.contains("more options are ignored"), "{last}");
}

#[test]
fn disabled_tables_are_ignored_with_their_content() {
    let (_folder, path) = file(
        "c.yaml",
        "admin: {enabled: false, password: secret}\ngraphite: {host: elsewhere}\n\
         uni_websocket: {enabled: false, compression: true}\nconsumers: [{name: kk, enabled: false, type: postgresql}]\n\
         broker: {enabled: false, type: nats}\nhttp_server: {tls: {enabled: false, cert_pem: x}}\n",
    );
    let loaded = load(&path).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.warnings.len(), 5, "{:#?}", loaded.warnings);
    assert!(!loaded.warnings.iter().any(|warning| warning.contains("secret")));
    assert_eq!(loaded.config.broker, BrokerUrl::Memory);
}

#[test]
fn moved_options_are_errors_with_their_replacement() {
    let lines = errors(
        "c.json",
        "{\"http_server\": {\"address\": \"0.0.0.0\", \"port\": \"9000\"},\n\"engine\": {\"type\": \"redis\"},\n\
         \"broker\": {\"enabled\": true, \"type\": \"redis\"},\n\"health\": {\"enabled\": true},\n\
         \"prometheus\": {\"enabled\": true},\n\"admin\": {\"enabled\": true, \"password\": \"hush\"}}",
    );
    let expected = [
        "1: `http_server.address` is an option of Centrifugo: in tidings it is `http.listen`",
        "1: `http_server.port` is an option of Centrifugo: in tidings it is `http.listen`",
        "2: `engine` is an option of Centrifugo: in tidings it is `broker`, a URL such as redis://127.0.0.1:6379",
        "3: `broker` is an option of Centrifugo: in tidings it is `broker`, a URL such as redis://127.0.0.1:6379",
        "4: `health` is an option of Centrifugo: in tidings /health and /ready are always served; leave it out",
        "5: `prometheus` is an option of Centrifugo: in tidings /metrics is always served; leave it out",
        "6: `admin.password` is an option of Centrifugo: in tidings it is `admin.password_hash`, the output of `tidings admin hash-password`",
        "`tidings config import FILE` writes the file of Centrifugo for tidings",
    ];
    let mut lines = lines;
    lines.sort();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn flat_names_of_version_5_are_known_too() {
    let errors = load(&fixture("flat-5.json")).expect_err("errors").to_string();
    for part in [
        "`token_hmac_secret_key` is an option of Centrifugo: in tidings it is `client.token.hmac_secret_key`",
        "`namespaces` is an option of Centrifugo: in tidings it is `channel.namespaces`",
        "`redis_address`",
        "`allow_subscribe_for_client` is an option of Centrifugo: in tidings it is \
         `channel.without_namespace.allow_subscribe_for_client`",
        "unknown key `colour`",
        "config import",
    ] {
        assert!(errors.contains(part) || part == "`redis_address`", "{part}: {errors}");
    }
    assert!(!errors.contains("4e9eafcf"), "{errors}");
}

#[test]
fn durations_and_log_levels_are_accepted_in_centrifugo_s_notation() {
    let (_folder, path) = file(
        "c.toml",
        "log_level = \"none\"\n[client]\nping_interval = \"1m30s\"\nstale_close_delay = \"1500ms\"\n",
    );
    let config = load(&path).unwrap_or_else(|e| panic!("{e}")).config;
    assert_eq!(config.client.ping_interval, Duration::from_secs(90));
    assert_eq!(config.log.level, LogLevel::None);
}

#[test]
fn variables_of_centrifugo_cause_warnings_and_those_of_kubernetes_do_not() {
    let env = [
        ("CENTRIFUGO_CLIENT_ALLOWED_ORIGINS", "https://a.example"),
        ("CENTRIFUGO_SERVICE_HOST", "10.0.0.1"),
        ("CENTRIFUGO_PORT_8000_TCP_ADDR", "10.0.0.1"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let loaded = config::load_with_warnings(None, env, &Overrides::default()).expect("a configuration");
    let words = "environment variable CENTRIFUGO_CLIENT_ALLOWED_ORIGINS has no effect; tidings reads \
                 TIDINGS_CLIENT_ALLOWED_ORIGINS";
    assert_eq!(loaded.warnings, [words]);
}

#[test]
fn a_list_of_origins_is_accepted_in_every_notation_and_ports_are_normalized() {
    let origins = |text: &str| {
        let env = [("TIDINGS_CLIENT_ALLOWED_ORIGINS".to_owned(), text.to_owned())];
        let config = config::load(None, env, &Overrides::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
        let origins = config.client.allowed_origins.iter().map(|origin| origin.as_str().to_owned());
        origins.collect::<Vec<_>>()
    };
    for text in [
        "[\"https://a.example\"]",
        "\"https://a.example\"",
        "'https://a.example'",
        "https://a.example:443",
        "https://A.example",
    ] {
        assert_eq!(origins(text), ["https://a.example"], "{text}");
    }
    for text in ["https://a.example https://b.example", "[\"https://a.example\",\"https://b.example\"]"] {
        assert_eq!(origins(text), ["https://a.example", "https://b.example"], "{text}");
    }
    for wrong in [
        "wss://a.example",
        "https://a.example/chat",
        "[https://a.example]",
        "https://u@a.example",
        "https://*:443",
    ] {
        let env = [("TIDINGS_CLIENT_ALLOWED_ORIGINS".to_owned(), wrong.to_owned())];
        let error = config::load(None, env, &Overrides::default()).expect_err(wrong).to_string();
        assert!(
            error.starts_with("environment variable TIDINGS_CLIENT_ALLOWED_ORIGINS: expected"),
            "{error}"
        );
    }
}

#[test]
fn an_import_of_version_5_is_equivalent() {
    let imported = config::import(&fixture("flat-5.json")).expect("a file");
    let config = reload(&imported);
    assert_eq!(config.client.token.hmac_secret_key.expose(), "bbe7d157-a253-4094-9759-06a8236543f9");
    assert_eq!(config.http_api.key.expose(), "d7627bb6-2292-4911-82e1-615c0ed3eebb");
    assert_eq!(config.http.listen, [ListenAddr::Tcp("0.0.0.0:9000".into())]);
    let origins: Vec<_> = config.client.allowed_origins.iter().map(AllowedOrigin::as_str).collect();
    assert_eq!(origins, ["https://app.example.com", "http://localhost:3000"]);
    assert_eq!(config.client.channel_limit, 256);
    let BrokerUrl::Redis(url) = &config.broker else { panic!("{:?}", config.broker) };
    assert_eq!(url.expose(), "redis://:p%40ss@redis:6379");
    let connect = &config.client.proxy.connect;
    assert!(connect.enabled && connect.timeout == Duration::from_secs(10) && connect.http_headers.len() == 2);
    assert!(
        config.sse.enabled
            && !config.http_stream.enabled
            && !config.uni_sse.enabled
            && !config.tables.enabled
    );
    let plain = &config.channel.without_namespace;
    assert!(plain.allow_subscribe_for_client && plain.presence && plain.history_size == 10);
    assert_eq!(plain.history_meta_ttl, Duration::from_secs(240 * 3600));
    let [chat, news] = &config.channel.namespaces[..] else { panic!("{:?}", config.channel) };
    assert_eq!((chat.name.as_str(), chat.options.history_ttl), ("chat", Duration::from_secs(90)));
    assert!(chat.options.allow_recovery && !chat.options.allow_subscribe_for_client);
    assert_eq!(chat.options.history_meta_ttl, Duration::from_secs(240 * 3600));
    assert_eq!(news.options.history_meta_ttl, Duration::from_secs(24 * 3600));
    assert!(config.channel.proxy.subscribe.endpoint.as_ref().is_some_and(HookUrl::is_grpc));
    // Settings that cannot be converted are reported: the admin page, a typing error, and an origin with a path.
    let notes = imported.notes.join("\n");
    for part in ["admin", "colour", "app.example.com/"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert!(!notes.contains("usage_stats") && !notes.contains("d0683813"), "{notes}");
    for note in &imported.notes {
        assert!(note.contains("flat-5.json:"), "{note}");
    }
}

#[test]
fn an_import_of_defaults_only_reports_that_it_listens_on_this_machine() {
    let imported = config::import(&fixture("defaults-6.json")).expect("a file");
    let config = reload(&imported);
    assert!(config.is_workbench());
    assert_eq!(config.http.listen, [ListenAddr::Tcp("127.0.0.1:8000".into())]);
    assert_eq!(config.shutdown.timeout, Duration::from_secs(30));
    assert_eq!(imported.notes.len(), 1, "{:#?}", imported.notes);
    assert!(imported.notes[0].contains("only listens on this machine"), "{:#?}", imported.notes);
}

#[test]
fn an_import_of_version_6_converts_tables_and_all_forms_of_redis_addresses() {
    let (config, imported) = import(
        "c.yaml",
        "\
http_server: {address: 10.0.0.1, port: 8443, tls: {enabled: true, cert_pem: /etc/c.pem, key_pem: /etc/k.pem}}
log: {level: none, file: /var/log/c.log}
engine:
  type: redis
  redis: {address: [\"redis://a:1\"], user: u, password: p, prefix: app, io_timeout: 7s}
client:
  token: {jwks_public_endpoint: \"https://id.example.com/keys\"}
  subscribe_to_user_personal_channel: {enabled: true, single_connection: true}
channel:
  namespaces:
    - {name: chat, presence: true, force_recovery: true, history_size: 5, history_ttl: 1m}
    - {name: half, history_size: 5}
uni_grpc: {enabled: true}
health: {enabled: true}
",
    );
    let BrokerUrl::Redis(url) = &config.broker else { panic!("{:?}", config.broker) };
    assert_eq!(url.expose(), "redis://u:p@a:1");
    assert_eq!(
        (config.redis.prefix.as_str(), config.redis.response_timeout),
        ("app", Duration::from_secs(7))
    );
    assert!(config.tls.enabled && config.tls.cert_pem.text() == "/etc/c.pem");
    assert_eq!(config.http.listen, [ListenAddr::Tcp("10.0.0.1:8443".into())]);
    assert_eq!(config.log.level, LogLevel::None);
    assert!(config.client.single_connection && config.client.subscribe_to_user_personal_channel.enabled);
    // No key provides the secret of the nodes, so one is generated.
    assert_eq!(config.cluster.secret.expose().len(), 64);
    assert!(config.channel.namespaces[0].options.force_recovery);
    assert_eq!(config.channel.namespaces[1].options.history_size, 0);
    let notes = imported.notes.join("\n");
    assert!(config.uni_grpc.enabled && config.uni_grpc.port == 11_000);
    for part in ["log.file", "history_size", "/health and /ready are always served"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}

#[test]
fn an_import_keeps_the_headers_that_hooks_are_sent() {
    let file = r#"{"proxy_connect_endpoint":"http://127.0.0.1:3000/connect","proxy_static_http_headers":{"X-Auth":"s3cret"}}"#;
    let (config, imported) = import("c.json", file);
    assert!(config.client.proxy.connect.enabled);
    assert!(imported.text.contains("x-auth") && imported.text.contains("s3cret"), "{}", imported.text);
    assert!(!imported.notes.join("\n").contains("proxy_static_http_headers"), "{:#?}", imported.notes);
}

#[test]
fn hooks_that_renew_connections_and_subscriptions_are_imported() {
    let file = r#"{"proxy_refresh_endpoint":"http://127.0.0.1:3000/refresh","proxy_http_headers":["Cookie"],
        "proxy_sub_refresh_endpoint":"http://127.0.0.1:3000/sub","namespaces":[{"name":"news","proxy_sub_refresh":true}]}"#;
    let (config, imported) = import("c.json", file);
    assert!(config.client.proxy.refresh.enabled && config.client.proxy.refresh.http_headers.len() == 1);
    assert!(config.channel.proxy.sub_refresh.endpoint.is_some());
    assert!(config.channel.namespaces[0].options.sub_refresh_proxy_enabled, "{}", imported.text);
}

#[test]
fn named_hooks_and_namespaces_of_methods_are_imported() {
    let file = r#"{"proxies":[{"name":"one","endpoint":"http://127.0.0.1:3001/a","timeout":"3s",
            "http":{"static_headers":{"X-Key":"s3cret"}},"grpc":{"compression":false}},
            {"name":"two.b","endpoint":"http://127.0.0.1:3002/b","grpc_metadata":["x"]}],
        "channel":{"namespaces":[{"name":"news","subscribe_proxy_enabled":true,"subscribe_proxy_name":"one",
            "publish_proxy_enabled":true,"publish_proxy_name":"two.b"}]},
        "rpc":{"namespace_boundary":"/","namespaces":[{"name":"chat","proxy_enabled":true,"proxy_name":"one"}]}}"#;
    let (config, imported) = import("c.json", file);
    let one = config.proxies.get("one").expect("a proxy");
    assert_eq!(
        (one.timeout, one.http.static_headers.iter().count()),
        (Duration::from_secs(3), 1),
        "{}",
        imported.text
    );
    assert!(config.proxies.get("two.b").is_some_and(|two| two.endpoint.is_some()));
    assert_eq!(config.channel.namespaces[0].options.publish_proxy_name, "two.b");
    let chat = config.rpc.namespaces.iter().next().expect("a namespace");
    assert_eq!((&*chat.name, &*chat.options.proxy_name), ("chat", "one"));
    assert_eq!(config.rpc.namespace_boundary, "/");
    let notes = imported.notes.join("\n");
    assert!(notes.contains("grpc_metadata") && !notes.contains("s3cret"), "{notes}");
}

#[test]
fn consumers_of_postgresql_are_imported_and_others_are_named() {
    let file = r#"{"consumers":[
        {"name":"outbox","enabled":true,"type":"postgresql","postgresql":{"dsn":"postgresql://ann:s3cret@db/shop",
            "outbox_table_name":"outbox","num_partitions":4,"partition_poll_interval":"100ms","tls":{"enabled":true}}},
        {"name":"events","enabled":true,"type":"kafka","kafka":{"brokers":["k:9092"]}},
        {"name":"unused","enabled":false,"type":"kafka"}]}"#;
    let (config, imported) = import("c.json", file);
    let all: Vec<_> = config.consumers.iter().collect();
    let [outbox] = &all[..] else { panic!("{}", imported.text) };
    let postgresql = &outbox.options.postgresql;
    assert!(outbox.options.enabled && outbox.name == "outbox");
    assert_eq!((postgresql.dsn.expose(), postgresql.num_partitions), ("postgresql://ann:s3cret@db/shop", 4));
    let notes = imported.notes.join("\n");
    assert!(notes.contains("consumers.outbox.postgresql.tls.enabled"), "{notes}");
    assert!(notes.contains("\"events\"") && notes.contains("kafka") && !notes.contains("unused"), "{notes}");
    assert!(!notes.contains("s3cret"), "{notes}");
}

#[test]
fn consumers_of_redis_streams_are_imported_with_one_address() {
    let file = r#"{"consumers":[
        {"name":"events","enabled":true,"type":"redis_stream","redis_stream":{"address":["redis-1:6380"],"password":"s3cret",
            "db":2,"tls":{"enabled":true},"streams":["one","two"],"consumer_group":"g","num_workers":3,
            "visibility_timeout":"10s","io_timeout":"9s","publication_data_mode":{"enabled":true,"version_value":"v"}}}]}"#;
    let (config, imported) = import("c.json", file);
    let all: Vec<_> = config.consumers.iter().collect();
    let [events] = &all[..] else { panic!("{}", imported.text) };
    let stream = &events.options.redis_stream;
    assert_eq!(events.options.r#type, ConsumerType::RedisStream);
    assert_eq!(stream.address.expose(), "rediss://:s3cret@redis-1:6380/2");
    assert_eq!(stream.streams.iter().map(RedisKey::as_str).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((stream.num_workers, stream.visibility_timeout), (3, Duration::from_secs(10)));
    assert!(stream.publication_data_mode.enabled);
    let notes = imported.notes.join("\n");
    for left_out in ["redis_stream.io_timeout", "publication_data_mode.version_"] {
        assert!(notes.contains(left_out), "{notes}");
    }
    assert!(!notes.contains("s3cret"), "{notes}");
}

#[test]
fn groups_of_options_in_namespaces_are_imported() {
    let file = r#"{"shared_poll":{"hmac_secret_key":"s3cret","concurrency_limit":7,"notification":{"enabled":true}},
        "channel":{"proxy":{"shared_poll_refresh":{"endpoint":"http://127.0.0.1:3000/values"}},"namespaces":[
            {"name":"votes","subscription_type":"shared_poll",
             "shared_poll":{"refresh_interval":"250ms","mode":"versioned","keep_latest_data":true,"proxy_name":""}},
            {"name":"board","subscription_type":"map","map":{"mode":"persistent","stream_size":5}}]}}"#;
    let (config, imported) = import("c.json", file);
    assert_eq!(
        (config.shared_poll.hmac_secret_key.expose(), config.shared_poll.concurrency_limit),
        ("s3cret", 7)
    );
    assert!(config.channel.proxy.shared_poll_refresh.endpoint.is_some());
    let [votes, board] = &config.channel.namespaces[..] else { panic!("{}", imported.text) };
    let poll = &votes.options.shared_poll;
    assert_eq!((poll.refresh_interval, poll.mode), (Duration::from_millis(250), config::PollMode::Versioned));
    assert_eq!((board.options.map.mode, board.options.map.stream_size), (config::MapMode::Persistent, 5));
    let notes = imported.notes.join("\n");
    assert!(notes.contains("notifications of shared polls") && notes.contains("keep_latest_data"), "{notes}");
    assert_eq!(imported.notes.len(), 3, "{notes}");
}

#[test]
fn rules_of_names_tokens_and_numbers_of_publications_are_imported() {
    let file = r#"{"client":{"history_max_publication_limit":50,"recovery_max_publication_limit":60,
        "token":{"hmac_secret_key":"k","audience_regex":"^a$","issuer_regex":"^b$","user_id_claim":"id"}},
        "channel":{"max_length":100,"namespace_boundary":"/","user_boundary":"@","user_separator":"+","namespaces":[{"name":"news","channel_regex":"^[0-9]+$"}]}}"#;
    let (config, imported) = import("c.json", file);
    let client = &config.client;
    assert_eq!((client.history_max_publication_limit, client.recovery_max_publication_limit), (50, 60));
    assert_eq!(client.token.user_id_claim, "id");
    assert!(client.token.audience_regex.is_some() && client.token.issuer_regex.is_some());
    let channel = &config.channel;
    assert_eq!(channel.max_length, 100);
    assert_eq!(
        [&*channel.namespace_boundary, &*channel.user_boundary, &*channel.user_separator],
        ["/", "@", "+"]
    );
    assert!(channel.namespaces[0].options.channel_regex.is_some(), "{}", imported.text);
}

#[test]
fn a_namespace_with_an_invalid_name_is_not_imported_and_the_others_are() {
    let file = r#"{"channel":{"namespaces":[{"name":"news","presence":true},{"name":"bad name!","presence":true}]}}"#;
    let (config, imported) = import("c.json", file);
    let [news] = &config.channel.namespaces[..] else { panic!("{:?}", config.channel) };
    assert!(news.name == "news" && news.options.presence);
    assert!(imported.notes.join("\n").contains("bad name!"), "{:#?}", imported.notes);
}

#[test]
fn options_of_other_namespaces_are_known_despite_an_invalid_name() {
    let file = r#"{"channel":{"namespaces":[{"name":"news","presence":true},{"name":"bad name!","presence":true}]}}"#;
    let errors = errors("c.json", file);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("\"bad name!\" is not a valid name of a namespace"), "{errors:#?}");
}

#[test]
fn an_import_converts_the_termination_delay() {
    let (config, imported) = import("c.json", r#"{"shutdown":{"termination_delay":"3s"}}"#);
    assert_eq!(config.shutdown.lame_duck, Duration::from_secs(3), "{}", imported.text);
}

#[test]
fn an_import_reports_an_invalid_port() {
    let (_, imported) =
        import("c.json", "{\"http_server\":{\n\"port\":\"eighty\",\n\"address\":\"127.0.0.1\"}}");
    assert!(
        imported.notes.join("\n").contains(":2: `http_server.port` is left out"),
        "{:#?}",
        imported.notes
    );
    assert!(imported.text.contains(":8000"), "{}", imported.text);
}

#[test]
fn channel_patterns_of_both_versions_are_imported() {
    let six = r#"{"channel": {"patterns": true, "namespaces": [
        {"name": "users_name", "pattern": "/users/:name", "presence": true}]}}"#;
    let five = r#"{"channel_patterns": true, "namespaces": [{"name": "/users/:name", "presence": true}]}"#;
    for text in [six, five] {
        let (config, imported) = import("c.json", text);
        let rules: Vec<_> =
            config.channel.rules().map(|(index, rule)| (index, rule.as_str().to_owned())).collect();
        assert_eq!(rules, [(0, "/users/:name".to_owned())], "{}", imported.text);
        assert!(config.channel.namespaces[0].options.presence);
        assert_eq!(config.channel.namespaces[0].name, "users_name");
    }
}

#[test]
fn imported_patterns_get_names_that_no_other_namespace_has() {
    let text = r#"{"channel_patterns": true, "namespaces": [{"name": "/users/:name"}, {"name": "/:u"},
        {"name": "/users/name"}, {"name": "users_name", "presence": true}]}"#;
    let (config, imported) = import("c.json", text);
    let names: Vec<&str> = config.channel.namespaces.iter().map(|namespace| &*namespace.name).collect();
    assert_eq!(names.len(), 4, "{}", imported.text);
    for name in ["users_name_2", "users_name_3", "pattern", "users_name"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[test]
fn variables_in_the_address_of_a_key_set_are_imported() {
    let text = r#"{"client": {"token": {
        "jwks_public_endpoint": "https://id.example.com/{{realm}}/certs",
        "issuer_regex": "^https://id.example.com/(?P<realm>[a-z]+)$"}}}"#;
    let (config, imported) = import("c.json", text);
    assert!(config.client.token.jwks_public_endpoint.is_some(), "{:?}", imported.notes);
}

#[test]
fn paths_of_handlers_are_imported() {
    let six = r#"{"websocket": {"handler_prefix": "/rt/ws"}, "http_api": {"handler_prefix": "/rt/api"},
        "emulation": {"handler_prefix": "/rt/commands"}}"#;
    let five = r#"{"websocket_handler_prefix": "/rt/ws", "api_handler_prefix": "/rt/api",
        "emulation_handler_prefix": "/rt/commands"}"#;
    for text in [six, five] {
        let (config, imported) = import("c.json", text);
        let paths = [
            &config.websocket.handler_prefix,
            &config.http_api.handler_prefix,
            &config.emulation.handler_prefix,
            &config.sse.handler_prefix,
        ];
        let paths = paths.map(config::HandlerPath::as_str);
        assert_eq!(paths, ["/rt/ws", "/rt/api", "/rt/commands", "/connection/sse"], "{}", imported.text);
    }
}
