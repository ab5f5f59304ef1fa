//! What an operator may rely on when configuring a server: where values come from, which of them holds, and what
//! is said about a wrong one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidings_config::{
    self as config, BrokerUrl, Config, ListenAddr, LogFormat, LogLevel, Overrides, SlowConsumer, TablesStore,
};
use tidings_wire::Channel;
use tidings_wire::body::DataFormat;

/// Nothing said.
fn silent() -> Overrides {
    Overrides::default()
}

/// Overrides of `--set KEY=VALUE`.
fn sets(assignments: &[&str]) -> Overrides {
    let mut overrides = Overrides::default();
    for assignment in assignments {
        overrides.set(assignment).expect("KEY=VALUE");
    }
    overrides
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A folder with one file in it.
struct OneFile {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn file(name: &str, text: &str) -> OneFile {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file in it");
    OneFile { _folder: folder, path }
}

fn load_text(name: &str, text: &str) -> Result<Config, config::ConfigErrors> {
    config::load(Some(&file(name, text).path), [], &silent())
}

fn load_env(pairs: &[(&str, &str)]) -> Result<Config, config::ConfigErrors> {
    config::load(None, env(pairs), &silent())
}

fn load_sets(assignments: &[&str]) -> Result<Config, config::ConfigErrors> {
    config::load(None, [], &sets(assignments))
}

/// The error of a load, which is one line, without the folder of the file.
fn complaint(result: Result<Config, config::ConfigErrors>) -> String {
    let error = match result {
        Ok(config) => panic!("accepted as {config:?}"),
        Err(error) => error.to_string(),
    };
    assert!(!error.contains('\n'), "{error:?} is more than one line");
    match error.split_once(": ") {
        Some((place, what)) => {
            let name = Path::new(place).file_name().map_or(place, |name| name.to_str().expect("UTF-8"));
            if place.starts_with('/') { format!("{name}: {what}") } else { error }
        }
        None => error,
    }
}

fn tcp(address: &str) -> ListenAddr {
    ListenAddr::Tcp(address.to_owned())
}

#[test]
fn nothing_said_gives_the_defaults_of_the_contract() {
    let config = config::load(None, [], &silent()).expect("defaults");
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
fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
    let file = file("tidings.toml", "[tcp]\nmax_line = 1000\nfirst_byte_wait = \"1s\"\necho = false\n");
    let env = env(&[("TIDINGS_TCP_MAX_LINE", "2000"), ("TIDINGS_TCP_FIRST_BYTE_WAIT", "2s")]);
    let config = config::load(Some(&file.path), env, &sets(&["tcp.max_line=3000"])).expect("good");
    assert_eq!(config.tcp.max_line, 3000);
    assert_eq!(config.tcp.first_byte_wait, Duration::from_secs(2));
    assert!(!config.tcp.echo);
    assert_eq!(config.tcp.default_channel.as_str(), "updates");
}

#[test]
fn the_environment_may_name_the_file_and_the_command_line_goes_before_it() {
    let (first, second) = (file("a.toml", "shards = 1"), file("b.json", "{\"shards\": 2}"));
    let named = env(&[("TIDINGS_CONFIG", first.path.to_str().expect("UTF-8"))]);
    assert_eq!(config::load(None, named.clone(), &silent()).expect("good").shards, 1);
    assert_eq!(config::load(Some(&second.path), named, &silent()).expect("good").shards, 2);
    assert_eq!(load_env(&[("TIDINGS_CONFIG", "")]).expect("none"), Config::default());
}

#[test]
fn the_three_languages_say_the_same() {
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
fn a_list_in_the_environment_has_commas_and_empty_means_none() {
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
fn repeated_flags_make_a_list_and_a_later_flag_goes_before_an_earlier_one() {
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
fn an_unknown_key_names_the_nearest_known_one() {
    for (text, expected) in [
        ("[tcp]\necko = true", "c.toml:2: unknown key `tcp.ecko`; did you mean `tcp.echo`?"),
        ("max_line = 5", "c.toml:1: unknown key `max_line`; did you mean `tcp.max_line`?"),
        ("[tpc]\necho = true", "c.toml:2: unknown key `tpc.echo`; did you mean `tcp.echo`?"),
        ("brokr = 1", "c.toml:1: unknown key `brokr`; did you mean `broker`?"),
        (
            "[log.level]\nx = 1",
            "c.toml:1: log.level: expected one of `none`, `error`, `warn`, `info`, `debug`, `trace`, got a table",
        ),
        ("client = 5", "c.toml:1: client: expected a table of options, got a number"),
        (
            "[[channel.namespaces]]\nname = \"chat\"\nalow_publish_for_client = true",
            "c.toml:3: unknown key `channel.namespaces.chat.alow_publish_for_client`; did you mean \
             `channel.namespaces.chat.allow_publish_for_client`?",
        ),
    ] {
        assert_eq!(complaint(load_text("c.toml", text)), expected, "{text}");
    }
    assert_eq!(
        complaint(load_env(&[("TIDINGS_TCP_ECKO", "true")])),
        "unknown environment variable `TIDINGS_TCP_ECKO`; did you mean `TIDINGS_TCP_ECHO`?"
    );
    assert_eq!(
        complaint(load_env(&[("TIDINGS_CONFG", "x.toml")])),
        "unknown environment variable `TIDINGS_CONFG`; did you mean `TIDINGS_CONFIG`?"
    );
    assert_eq!(
        complaint(load_sets(&["tcp.ecko=true"])),
        "--set tcp.ecko: unknown key `tcp.ecko`; did you mean `tcp.echo`?"
    );
}

#[test]
fn a_value_of_the_wrong_type_says_where_it_stands_and_what_was_expected() {
    let yaml = "tcp:\n  echo: 'yes'\n";
    assert_eq!(
        complaint(load_text("c.yaml", yaml)),
        "c.yaml:2: tcp.echo: expected true or false, got \"yes\""
    );
    let json = "{\n\"tcp\": {\n\"max_line\": true}}";
    assert_eq!(
        complaint(load_text("c.json", json)),
        "c.json:3: tcp.max_line: expected a size in bytes, such as 65536 or \"64KiB\", got true"
    );
    assert_eq!(
        complaint(load_env(&[("TIDINGS_TCP_ECHO", "1")])),
        "environment variable TIDINGS_TCP_ECHO: expected true or false, got \"1\""
    );
    let mut overrides = Overrides::default();
    overrides.flag("--log-format", "log.format", ["xml"]);
    assert_eq!(
        complaint(config::load(None, [], &overrides)),
        "--log-format: expected one of `text`, `json`, got \"xml\""
    );
    assert_eq!(
        complaint(load_text("c.yaml", "just text")),
        "c.yaml:1: expected options (`key = value`), got text"
    );
    assert_eq!(
        silent().set("tcp.echo").expect_err("no value").to_string(),
        "--set: expected KEY=VALUE, got an argument without `=`"
    );
}

#[test]
fn a_value_out_of_its_bounds_is_refused_with_the_bounds() {
    for (set, expected) in [
        ("tcp.max_line=63", "--set tcp.max_line: expected 64 bytes to 16 MiB, got \"63\""),
        ("tcp.max_line=17MiB", "--set tcp.max_line: expected 64 bytes to 16 MiB, got \"17MiB\""),
        ("shards=65", "--set shards: expected 0 to 64, got \"65\""),
        ("client.channel_limit=0", "--set client.channel_limit: expected 1 to 1000000, got \"0\""),
        ("redis.connect_timeout=0", "--set redis.connect_timeout: expected 10ms to 1m, got \"0\""),
        (
            "tcp.default_channel=a\tb",
            "--set tcp.default_channel: \"a\\tb\": channel name must be UTF-8 without control characters",
        ),
        ("tcp.auto_subscribe=a,,b", "--set tcp.auto_subscribe: channel name is empty"),
        (
            "redis.prefix=a b",
            "--set redis.prefix: expected at most 128 bytes of printable ASCII without spaces, got \"a b\"",
        ),
        (
            "client.allowed_origins=https://example.com/",
            "--set client.allowed_origins: expected an origin such as \"https://example.com\" (no path) or \"*\", \
             got \"https://example.com/\"",
        ),
    ] {
        assert_eq!(complaint(load_sets(&[set])), expected);
    }
}

#[test]
fn listen_addresses_are_checked_before_anything_binds() {
    for good in ["127.0.0.1:0", "[::1]:0", "localhost:80", "unix:/run/t.sock", "off"] {
        let set = format!("tcp.listen={good}");
        assert!(load_sets(&[&set]).is_ok(), "{good}");
    }
    for (bad, why) in [
        ("5567", "has no port"),
        ("127.0.0.1:", "has no port from 0 to 65535"),
        ("127.0.0.1:65536", "has no port from 0 to 65535"),
        (":8000", "has no host (0.0.0.0 or [::] stand for every address)"),
        ("::1:80", "needs brackets around its IPv6 address"),
        ("[::g]:80", "has no IPv6 address in its brackets"),
        ("1.2.3:80", "has a host that is neither a name nor an IP address"),
        ("http://x:80", "has a host that is neither a name nor an IP address"),
        ("unix:", "has no path behind unix:"),
    ] {
        let set = format!("tcp.listen={bad}");
        let expected = format!("--set tcp.listen: \"{bad}\" {why}; expected HOST:PORT, unix:PATH or off");
        assert_eq!(complaint(load_sets(&[&set])), expected);
    }
    assert_eq!(
        complaint(load_sets(&["tcp.listen=off,127.0.0.1:1"])),
        "--set tcp.listen: `off` stands alone: it means no listener"
    );
    assert_eq!(
        complaint(load_sets(&["tcp=off", "http=off"])),
        "--set http: tcp.listen and http.listen are both off, so nobody could reach the server"
    );
}

#[test]
fn brokers_are_known_by_their_scheme() {
    for good in [
        "redis://h",
        "rediss://u:p@h:1/2",
        "redis+sentinel://a,b/m",
        "redis+cluster://h:1,i:2",
        "rediss+cluster://u:p@h",
    ] {
        let set = format!("broker={good}");
        assert!(matches!(load_sets(&[&set]).expect(good).broker, BrokerUrl::Redis(_)));
    }
    assert!(complaint(load_sets(&["broker=nats://x"])).ends_with("got the scheme \"nats\""));
    assert!(complaint(load_sets(&["broker=localhost:6379"])).ends_with("got text without a scheme"));
    assert!(complaint(load_sets(&["broker=redis://"])).contains("expected redis://HOST:PORT"));
}

#[test]
fn namespaces_can_be_named_and_set_in_the_environment() {
    let config = load_env(&[
        ("TIDINGS_CHANNEL_NAMESPACES", "chat,big-news,v1.2"),
        ("TIDINGS_CHANNEL_NAMESPACES_CHAT_ALLOW_PUBLISH_FOR_CLIENT", "true"),
        ("TIDINGS_CHANNEL_NAMESPACES_BIG_NEWS_SLOW_CONSUMER", "latest"),
        ("TIDINGS_CHANNEL_NAMESPACES_V1_2_PUBLICATION_DATA_FORMAT", "binary"),
        ("TIDINGS_CHANNEL_WITHOUT_NAMESPACE_ALLOW_SUBSCRIBE_FOR_CLIENT", "true"),
    ])
    .expect("good");
    let namespaces = &config.channel.namespaces;
    let names: Vec<_> = namespaces.iter().map(|namespace| namespace.name.as_str()).collect();
    assert_eq!(names, ["chat", "big-news", "v1.2"]);
    assert!(namespaces[0].options.allow_publish_for_client);
    assert_eq!(namespaces[1].options.slow_consumer, SlowConsumer::Latest);
    assert_eq!(namespaces[2].options.publication_data_format, DataFormat::Binary);
    assert!(config.channel.without_namespace.allow_subscribe_for_client);
}

#[test]
fn the_environment_replaces_the_names_of_the_files_namespaces_and_keeps_their_options() {
    let toml = "[[channel.namespaces]]\nname = \"chat\"\nallow_publish_for_client = true\n\
                [[channel.namespaces]]\nname = \"news\"\nslow_consumer = \"cut\"\n";
    let file = file("c.toml", toml);
    let names = env(&[
        ("TIDINGS_CHANNEL_NAMESPACES", "more,news"),
        ("TIDINGS_CHANNEL_NAMESPACES_NEWS_ALLOW_SUBSCRIBE_FOR_CLIENT", "true"),
    ]);
    let config = config::load(Some(&file.path), names, &silent()).expect("good");
    let [more, news] = &config.channel.namespaces[..] else { panic!("{:?}", config.channel) };
    assert_eq!(more.options, config::ChannelOptions::default());
    assert_eq!(news.options.slow_consumer, SlowConsumer::Cut);
    assert!(news.options.allow_subscribe_for_client);

    let sets = sets(&["channel.namespaces.chat.slow_consumer=latest"]);
    let config = config::load(Some(&file.path), [], &sets).expect("good");
    assert_eq!(config.channel.namespaces[0].options.slow_consumer, SlowConsumer::Latest);
}

#[test]
fn the_server_s_own_channels_are_named_by_no_option() {
    for (set, option) in [
        ("tcp.auto_subscribe=news,tidings.node.control", "tcp.auto_subscribe"),
        ("tcp.default_channel=tidings.x", "tcp.default_channel"),
        ("channel.namespaces=tidings.x", "channel.namespaces"),
    ] {
        let words = complaint(load_sets(&[set]));
        assert!(words.contains(option) && words.contains("are the server's own"), "{set}: {words}");
    }
    assert!(load_sets(&["tcp.auto_subscribe=tidings", "channel.namespaces=tidings"]).is_ok());
}

#[test]
fn plain_lines_are_given_no_channel_that_they_cannot_name() {
    for (set, option) in [
        ("tcp.auto_subscribe=news,my room", "tcp.auto_subscribe"),
        ("tcp.default_channel=my room", "tcp.default_channel"),
    ] {
        let words = complaint(load_sets(&[set]));
        assert!(words.contains(&format!("{option}: \"my room\" contains a space")), "{set}: {words}");
    }
    assert!(load_sets(&["tcp.auto_subscribe=naïve,☕"]).is_ok());
}

#[test]
fn a_namespace_has_one_valid_name() {
    let two = "[[channel.namespaces]]\nname = \"chat\"\n[[channel.namespaces]]\nname = \"chat\"\n";
    assert_eq!(
        complaint(load_text("c.toml", two)),
        "c.toml:1: channel.namespaces: two namespaces are named \"chat\""
    );
    let none = "channel:\n  namespaces:\n  - slow_consumer: cut\n";
    assert_eq!(
        complaint(load_text("c.yaml", none)),
        "c.yaml:3: channel.namespaces[0]: a namespace needs a name"
    );
    assert!(
        complaint(load_env(&[("TIDINGS_CHANNEL_NAMESPACES", "a")]))
            .contains("\"a\" is no name of a namespace")
    );
    assert!(
        complaint(load_env(&[("TIDINGS_CHANNEL_NAMESPACES", "a b")])).contains("is no name of a namespace")
    );
    assert_eq!(
        complaint(load_env(&[
            ("TIDINGS_CHANNEL_NAMESPACES", "my-ns,my_ns"),
            ("TIDINGS_CHANNEL_NAMESPACES_MY_NS_SLOW_CONSUMER", "cut"),
        ])),
        "environment variable TIDINGS_CHANNEL_NAMESPACES_MY_NS_SLOW_CONSUMER: may mean \
         channel.namespaces.my-ns.slow_consumer or channel.namespaces.my_ns.slow_consumer; say it in a file"
    );
}

#[test]
fn one_source_says_a_thing_once() {
    let twice = complaint(load_text("c.toml", "log_level = \"info\"\n[log]\nlevel = \"warn\"\n"));
    assert!(twice.starts_with("c.toml:3: log.level: `log.level` was already given by "), "{twice}");
    assert!(twice.ends_with("c.toml:1"), "{twice}");
    let json = "{\"shards\": 1,\n\"shards\": 2}";
    assert_eq!(complaint(load_text("c.json", json)), "c.json:2: `shards` stands here a second time");
    let yaml = "tcp:\n  echo: true\n  echo: false\n";
    assert_eq!(complaint(load_text("c.yaml", yaml)), "c.yaml:3: `tcp.echo` stands here a second time");
    assert!(complaint(load_text("c.toml", "shards = 1\nshards = 2\n")).starts_with("c.toml:2: "));
    assert!(
        complaint(load_env(&[("TIDINGS_TCP", "off"), ("TIDINGS_TCP_LISTEN", "off")]))
            .ends_with("was already given by environment variable TIDINGS_TCP")
    );
}

#[test]
fn a_listener_that_others_reach_needs_a_key_and_the_error_says_what_to_add() {
    assert_eq!(
        complaint(load_text("c.toml", "[http]\nlisten = \"0.0.0.0:8000\"\n")),
        "c.toml:2: http.listen: 0.0.0.0:8000 is no loopback address, and no key is configured; add at the top \
         of the file: http_api.key = \"A-SECRET\" (or client.token.hmac_secret_key = \"A-SECRET\"; or \
         client.insecure = true, and everybody may do everything)"
    );
    let from_env = complaint(load_env(&[("TIDINGS_TCP", "[::]:5567")]));
    assert!(from_env.contains("add to the environment: TIDINGS_HTTP_API_KEY=A-SECRET (or"), "{from_env}");
    let from_flag = complaint(load_sets(&["tcp.listen=192.168.1.1:5567"]));
    assert!(from_flag.contains("add --set http_api.key=A-SECRET (or"), "{from_flag}");

    // What the error says to add is enough, in each language.
    for (name, before) in [
        ("c.toml", "http = \"0.0.0.0:8000\"\n"),
        ("c.yaml", "http: 0.0.0.0:8000\n"),
        ("c.json", "\"http\": \"0.0.0.0:8000\",\n"),
    ] {
        let whole = |text: &str| if name == "c.json" { format!("{{{text}}}") } else { text.to_owned() };
        let error = complaint(load_text(name, &whole(before.trim_end_matches([',', '\n']))));
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
        assert!(complaint(load_sets(&[&set])).contains("no loopback address"), "{other}");
    }
    // A key ends the workbench on loopback too; an empty one is none.
    assert!(!load_sets(&["http_api.key=k"]).expect("good").is_workbench());
    assert!(load_sets(&["http_api.key="]).expect("good").is_workbench());
    assert!(load_sets(&["http=0.0.0.0:1", "http_api.key="]).is_err());
}

#[test]
fn a_default_gives_way_to_what_was_given_and_a_given_value_does_not() {
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
        complaint(load_sets(&["ready.canary_interval=3s"])),
        "--set ready.canary_interval: ready.canary_interval (3s) must be less than ready.canary_limit (3s)"
    );
    assert_eq!(
        complaint(load_text("c.toml", "[shutdown]\ntimeout = 2\ndrain = \"3s\"\n")),
        "c.toml:3: shutdown.drain: shutdown.drain (3s) must be at most shutdown.timeout (2s)"
    );
    assert!(
        complaint(load_sets(&["client.pong_timeout=25s"]))
            .contains("must be less than client.ping_interval (25s)")
    );
    assert!(load_sets(&["shutdown.drain=10s"]).is_ok());
    assert_eq!(
        complaint(load_sets(&["client.channel_limit=1", "tcp.auto_subscribe=a,b"])),
        "--set tcp.auto_subscribe: tcp.auto_subscribe names 2 channels, past client.channel_limit (1)"
    );
}

#[test]
fn what_needs_a_history_is_refused_without_one_and_the_error_says_what_to_add() {
    let namespace = "[[channel.namespaces]]\nname = \"chat\"\n";
    let error = complaint(load_text("c.toml", &format!("{namespace}force_recovery = true\n")));
    assert_eq!(
        error,
        "c.toml:3: channel.namespaces.chat.force_recovery: has no effect: a channel has a history only with both \
         history_size and history_ttl; add history_size = 100 and history_ttl = \"10m\", or leave it out"
    );
    let added = "force_recovery = true\nhistory_size = 100\nhistory_ttl = \"10m\"\n";
    assert!(load_text("c.toml", &format!("{namespace}{added}")).is_ok());
    let from_env = complaint(load_env(&[
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
        let error = complaint(load_sets(&[&set(option)]));
        assert!(error.contains(&format!("add --set {}, or", set(missing))), "{error}");
    }
    // What is switched off on purpose is no mistake.
    assert!(load_sets(&[&set("history_size=0"), &set("history_ttl=5s")]).is_ok());
    assert!(load_sets(&[&set("force_recovery=false"), &set("force_recovery_mode=stream")]).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_line() {
    let missing = complaint(config::load(Some(Path::new("/no/such/tidings.toml")), [], &silent()));
    assert_eq!(missing, "tidings.toml: cannot be read: No such file or directory (os error 2)");
    let ending = complaint(config::load(Some(Path::new("tidings.conf")), [], &silent()));
    assert_eq!(ending, "tidings.conf: the name of a configuration file ends in .toml, .json, .yaml or .yml");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, b"shards = 1\n# \xff\n").expect("a file in it");
    assert_eq!(complaint(config::load(Some(&path), [], &silent())), "c.toml: line 2 is not UTF-8");
    std::fs::write(&path, " ".repeat((1 << 20) + 1)).expect("a file in it");
    assert_eq!(complaint(config::load(Some(&path), [], &silent())), "c.toml: longer than 1048576 bytes");
    assert!(complaint(load_text("c.toml", "shards = \n")).starts_with("c.toml:1: "));
}

#[test]
fn no_error_and_no_debug_output_shows_a_secret() {
    let config = load_sets(&[
        "broker=redis://user:hunter2@localhost:6379/1",
        "http_api.key=hunter2",
        "client.token.hmac_secret_key=hunter2",
    ])
    .expect("good");
    let shown = format!("{config:?} {}", config.broker);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("***"), "{shown}");
    assert_eq!(config.broker.to_string(), "redis://***@localhost:6379/1");
    assert_eq!(config.http_api.key.expose(), "hunter2");

    for url in [
        "redis://u:hunter2/x@h",
        "redis://u:hunter2?x@h",
        "redis://h/?password=hunter2",
        "redis://h?p=hunter2@x",
        "redis://h?p=x@hunter2",
    ] {
        let set = format!("broker={url}");
        let shown = load_sets(&[&set]).expect(url).broker.to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    for bad in
        ["http_api.kye=hunter2", "broker=hunter2", "broker=http://u:hunter2@h", "broker=redis://u:hunter2 @h"]
    {
        let error = complaint(load_sets(&[bad]));
        assert!(!error.contains("hunter2"), "{error}");
    }
    for text in
        ["http_api: {key: 31337}", "http_api: {key: [31337]}", "broker: 31337", "http_api: {key: \"31337}"]
    {
        let error = complaint(load_text("c.yaml", text));
        assert!(!error.contains("31337"), "{error}");
    }
    assert!(!silent().set("hunter2").expect_err("no key").to_string().contains("hunter2"));
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_named_tidings_are_no_mistake() {
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

#[test]
fn tables_are_kept_in_a_folder_or_in_a_bucket() {
    let store = |text: &str| {
        let config = load_sets(&[&format!("tables.store={text}")]).expect("a configuration");
        config.tables.store.expect("a store")
    };
    assert_eq!(store("/var/lib/tables"), TablesStore::Folder("/var/lib/tables".into()));
    let in_bucket =
        |bucket: &str, prefix: &str| TablesStore::S3 { bucket: bucket.into(), prefix: prefix.into() };
    assert_eq!(store("s3://tables"), in_bucket("tables", ""));
    assert_eq!(store("s3://tables/"), in_bucket("tables", ""));
    assert_eq!(store("s3://my.tables/some/prefix/"), in_bucket("my.tables", "some/prefix"));
    assert_eq!(store("s3://my.tables/some/prefix/").to_string(), "s3://my.tables/some/prefix");
    for wrong in ["s3://", "s3:///prefix", "s3://a b", "s3://tables/../x", "s3://tables/a//b", "gs://tables"]
    {
        let words = complaint(load_sets(&[&format!("tables.store={wrong}")]));
        assert!(words.contains("s3://BUCKET/PREFIX"), "{wrong}: {words}");
    }
    let words = complaint(load_sets(&["tables.s3.endpoint=http://minio:9000"]));
    assert!(words.contains("tables.s3.allow_http = true"), "{words}");
    let words = complaint(load_sets(&["tables.s3.access_key_id=me"]));
    assert!(words.contains("tables.s3.secret_access_key is not"), "{words}");
    let config = load_sets(&["tables.s3.access_key_id=me", "tables.s3.secret_access_key=hush"]);
    assert!(!format!("{:?}", config.expect("a configuration")).contains("hush"));
}

#[test]
fn nodes_on_redis_need_a_secret_once_keys_are_set_that_none_can_be_derived_from() {
    const REDIS: &str = "broker=redis://127.0.0.1:1";
    const KEY_SET: &str = "client.token.jwks_public_endpoint=https://id.example.com/keys";
    let error = complaint(load_sets(&[REDIS, KEY_SET]));
    assert!(error.contains("add --set cluster.secret=A-SECRET (at least 16 bytes"), "{error}");
    for enough in [
        "cluster.secret=0123456789abcdef",
        "http_api.key=k",
        "client.token.hmac_secret_key=k",
        "broker=memory",
    ] {
        load_sets(&[REDIS, KEY_SET, enough]).expect(enough);
    }
    // Where nothing is protected there is nothing to add.
    load_sets(&[REDIS]).expect("a workbench");
    let short = complaint(load_sets(&["cluster.secret=0123456789abcde"]));
    assert!(short.contains("cluster.secret is shorter than 16 bytes"), "{short}");
}
