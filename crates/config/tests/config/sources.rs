//! Sources of values and their precedence: flags, the environment, the file, defaults.

use std::time::Duration;

use tidings_config::{
    self as config, BrokerUrl, Config, ListenAddr, LogFormat, LogLevel, Overrides, SlowConsumer,
};
use tidings_wire::Channel;
use tidings_wire::body::DataFormat;

use crate::support::{env, error_line, file, load_env, load_text, no_overrides, sets, tcp};

#[test]
fn no_source_gives_the_documented_defaults() {
    let config = config::load(None, [], &no_overrides()).expect("defaults");
    assert_eq!(config, Config::default());
    assert_eq!(config.tcp.listen, [tcp("127.0.0.1:5567")]);
    assert_eq!(config.http.listen, [tcp("127.0.0.1:8000")]);
    assert_eq!(config.broker, BrokerUrl::Memory);
    assert!(config.tcp.echo);
    assert_eq!(config.tcp.auto_subscribe, [Channel::new("updates").expect("a name")]);
    assert_eq!(config.tcp.default_channel.as_str(), "updates");
    assert_eq!(config.tcp.max_line, 65_536);
    assert_eq!(config.tcp.first_byte_wait, Duration::from_millis(250));
    assert_eq!(config.client.queue_max_size, 1_048_576);
    assert_eq!(config.client.channel_limit, 128);
    assert_eq!(config.client.ping_interval, Duration::from_secs(25));
    assert_eq!(config.shutdown.timeout, Duration::from_secs(10));
    assert_eq!(config.channel.without_namespace.slow_consumer, SlowConsumer::Auto);
    assert_eq!(config.data_dir, config::DataDir::User);
    assert!(config.is_workbench());
}

#[test]
fn a_flag_overrides_the_environment_then_the_file_then_the_default() {
    let file = file("tidings.toml", "[tcp]\nmax_line = 1000\nfirst_byte_wait = \"1s\"\necho = false\n");
    let env = env(&[("TIDINGS_TCP_MAX_LINE", "2000"), ("TIDINGS_TCP_FIRST_BYTE_WAIT", "2s")]);
    let config = config::load(Some(&file.path), env, &sets(&["tcp.max_line=3000"])).expect("good");
    assert_eq!(config.tcp.max_line, 3000);
    assert_eq!(config.tcp.first_byte_wait, Duration::from_secs(2));
    assert!(!config.tcp.echo);
    assert_eq!(config.tcp.default_channel.as_str(), "updates");
}

#[test]
fn the_environment_may_contain_the_file_and_the_command_line_overrides_it() {
    let (first, second) = (file("a.toml", "shards = 1"), file("b.json", "{\"shards\": 2}"));
    let named = env(&[("TIDINGS_CONFIG", first.path.to_str().expect("UTF-8"))]);
    assert_eq!(config::load(None, named.clone(), &no_overrides()).expect("good").shards, 1);
    assert_eq!(config::load(Some(&second.path), named, &no_overrides()).expect("good").shards, 2);
    assert_eq!(load_env(&[("TIDINGS_CONFIG", "")]).expect("none"), Config::default());
}

#[test]
fn the_three_languages_are_equivalent() {
    let toml = r#"
        broker = "redis://:secret@localhost:6379"
        log_level = "debug"
        log = { format = "json" }
        http = ["127.0.0.1:1", "unix:/run/tidings.sock"]
        tcp = "off"
        [client]
        ping_interval = 10
        queue_max_size = "2MiB"
        allowed_origins = ["https://example.com"]
        [[channel.namespaces]]
        name = "chat"
        allow_publish_for_client = true
        publication_data_format = "json"
    "#;
    let json = r#"{
        "broker": "redis://:secret@localhost:6379", "log_level": "debug", "log": {"format": "json"},
        "http": ["127.0.0.1:1", "unix:/run/tidings.sock"], "tcp": "off",
        "client": {"ping_interval": 10, "queue_max_size": "2MiB", "allowed_origins": ["https://example.com"]},
        "channel": {"namespaces": [
            {"name": "chat", "allow_publish_for_client": true, "publication_data_format": "json"}
        ]}
    }"#;
    let yaml = "\
broker: redis://:secret@localhost:6379
log_level: debug
log: {format: json}
http: ['127.0.0.1:1', unix:/run/tidings.sock]
tcp: off
client:
  ping_interval: 10
  queue_max_size: 2MiB
  allowed_origins: [https://example.com]
channel:
  namespaces:
    - name: chat
      allow_publish_for_client: true
      publication_data_format: json
redis:
";
    let config = load_text("c.toml", toml).expect("TOML");
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.http.listen, [tcp("127.0.0.1:1"), ListenAddr::Unix("/run/tidings.sock".into())]);
    assert!(config.tcp.listen.is_empty());
    assert_eq!(config.client.ping_interval, Duration::from_secs(10));
    assert_eq!(config.client.queue_max_size, 2 << 20);
    assert_eq!(config.client.allowed_origins[0].as_str(), "https://example.com");
    let chat = &config.channel.namespaces[0];
    assert_eq!(chat.name, "chat");
    assert!(chat.options.allow_publish_for_client);
    assert!(!chat.options.allow_subscribe_for_client);
    assert_eq!(chat.options.publication_data_format, DataFormat::Json);
    let BrokerUrl::Redis(url) = &config.broker else { panic!("{:?}", config.broker) };
    assert_eq!(url.expose(), "redis://:secret@localhost:6379");

    assert_eq!(load_text("c.json", json).expect("JSON"), config);
    assert_eq!(load_text("c.yaml", yaml).expect("YAML"), config);
    assert_eq!(load_text("c.YML", yaml).expect("YAML"), config);
}

#[test]
fn a_list_in_the_environment_has_commas_and_empty_text_is_an_empty_list() {
    let config = load_env(&[
        ("TIDINGS_TCP_AUTO_SUBSCRIBE", "news, scores:nba"),
        ("TIDINGS_TCP", "127.0.0.1:0,unix:/tmp/t.sock"),
        ("TIDINGS_LOG_LEVEL", "warn"),
        ("TIDINGS_SERVER", "elsewhere:5567"),
        ("PATH", "/bin"),
    ])
    .expect("good");
    let names: Vec<_> = config.tcp.auto_subscribe.iter().map(Channel::as_str).collect();
    assert_eq!(names, ["news", "scores:nba"]);
    assert_eq!(config.tcp.listen, [tcp("127.0.0.1:0"), ListenAddr::Unix("/tmp/t.sock".into())]);
    assert_eq!(config.log.level, LogLevel::Warn);

    let none = load_env(&[("TIDINGS_TCP_AUTO_SUBSCRIBE", ""), ("TIDINGS_HTTP_LISTEN", "off")]).expect("good");
    assert!(none.tcp.auto_subscribe.is_empty());
    assert!(none.http.listen.is_empty());
}

#[test]
fn repeated_flags_form_a_list_and_a_later_flag_overrides_an_earlier_one() {
    let mut overrides = Overrides::default();
    overrides.flag("--tcp", "tcp.listen", ["127.0.0.1:1", "[::1]:2"]);
    let mut with_space = Overrides::default();
    with_space.flag("--tcp", "tcp.listen", ["unix:/tmp/two words", "127.0.0.1:1"]);
    let config = config::load(None, [], &with_space).expect("good");
    assert_eq!(config.tcp.listen, [ListenAddr::Unix("/tmp/two words".into()), tcp("127.0.0.1:1")]);
    overrides.flag("--http", "http.listen", Vec::<String>::new());
    overrides.flag("--log-level", "log.level", ["trace"]);
    overrides.set("log_level=error").expect("KEY=VALUE");
    overrides.set("redis.prefix=a=b").expect("KEY=VALUE");
    let config = config::load(None, [], &overrides).expect("good");
    assert_eq!(config.tcp.listen, [tcp("127.0.0.1:1"), tcp("[::1]:2")]);
    assert_eq!(config.http.listen, [tcp("127.0.0.1:8000")]);
    assert_eq!(config.log.level, LogLevel::Error);
    assert_eq!(config.redis.prefix, "a=b");
}

#[test]
fn one_source_sets_an_option_once() {
    let twice = error_line(load_text("c.toml", "log_level = \"info\"\n[log]\nlevel = \"warn\"\n"));
    assert!(twice.starts_with("c.toml:3: log.level: `log.level` was already given by "), "{twice}");
    assert!(twice.ends_with("c.toml:1"), "{twice}");
    let json = "{\"shards\": 1,\n\"shards\": 2}";
    assert_eq!(error_line(load_text("c.json", json)), "c.json:2: `shards` is repeated here");
    let yaml = "tcp:\n  echo: true\n  echo: false\n";
    assert_eq!(error_line(load_text("c.yaml", yaml)), "c.yaml:3: `tcp.echo` is repeated here");
    assert!(error_line(load_text("c.toml", "shards = 1\nshards = 2\n")).starts_with("c.toml:2: "));
    assert!(
        error_line(load_env(&[("TIDINGS_TCP", "off"), ("TIDINGS_TCP_LISTEN", "off")]))
            .ends_with("was already given by environment variable TIDINGS_TCP")
    );
}

#[test]
fn variables_of_kubernetes_for_a_service_named_tidings_are_ignored() {
    let made = [
        ("TIDINGS_SERVICE_HOST", "10.0.0.11"),
        ("TIDINGS_SERVICE_PORT", "8000"),
        ("TIDINGS_SERVICE_PORT_HTTP", "8000"),
        ("TIDINGS_PORT", "tcp://10.0.0.11:8000"),
        ("TIDINGS_PORT_8000_TCP", "tcp://10.0.0.11:8000"),
        ("TIDINGS_PORT_8000_TCP_PROTO", "tcp"),
        ("TIDINGS_HTTP_SERVICE_HOST", "10.0.0.12"),
        ("TIDINGS_HTTP_PORT_8000_TCP_ADDR", "10.0.0.12"),
    ];
    assert_eq!(load_env(&made).expect("passed over"), Config::default());
    assert!(load_env(&[("TIDINGS_PORT", "8000")]).is_err());
}
