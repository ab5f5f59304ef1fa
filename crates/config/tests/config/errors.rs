//! Error messages: the place, the problem, the expected value, and never a secret.

use std::path::Path;

use tidings_config::{self as config, Overrides};

use crate::support::{error_line, load_env, load_sets, load_text, no_overrides};

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
        assert_eq!(error_line(load_text("c.toml", text)), expected, "{text}");
    }
    assert_eq!(
        error_line(load_env(&[("TIDINGS_TCP_ECKO", "true")])),
        "unknown environment variable `TIDINGS_TCP_ECKO`; did you mean `TIDINGS_TCP_ECHO`?"
    );
    assert_eq!(
        error_line(load_env(&[("TIDINGS_CONFG", "x.toml")])),
        "unknown environment variable `TIDINGS_CONFG`; did you mean `TIDINGS_CONFIG`?"
    );
    assert_eq!(
        error_line(load_sets(&["tcp.ecko=true"])),
        "--set tcp.ecko: unknown key `tcp.ecko`; did you mean `tcp.echo`?"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_reported_with_its_place_and_the_expectation() {
    let yaml = "tcp:\n  echo: 'yes'\n";
    assert_eq!(
        error_line(load_text("c.yaml", yaml)),
        "c.yaml:2: tcp.echo: expected true or false, got \"yes\""
    );
    let json = "{\n\"tcp\": {\n\"max_line\": true}}";
    assert_eq!(
        error_line(load_text("c.json", json)),
        "c.json:3: tcp.max_line: expected a size in bytes, such as 65536 or \"64KiB\", got true"
    );
    assert_eq!(
        error_line(load_env(&[("TIDINGS_TCP_ECHO", "1")])),
        "environment variable TIDINGS_TCP_ECHO: expected true or false, got \"1\""
    );
    let mut overrides = Overrides::default();
    overrides.flag("--log-format", "log.format", ["xml"]);
    assert_eq!(
        error_line(config::load(None, [], &overrides)),
        "--log-format: expected one of `text`, `json`, got \"xml\""
    );
    assert_eq!(
        error_line(load_text("c.yaml", "just text")),
        "c.yaml:1: expected options (`key = value`), got text"
    );
    assert_eq!(
        no_overrides().set("tcp.echo").expect_err("no value").to_string(),
        "--set: expected KEY=VALUE, got an argument without `=`"
    );
}

#[test]
fn a_value_out_of_its_bounds_is_rejected_with_the_bounds() {
    for (set, expected) in [
        ("tcp.max_line=63", "--set tcp.max_line: expected 64 bytes to 16 MiB, got \"63\""),
        ("tcp.max_line=17MiB", "--set tcp.max_line: expected 64 bytes to 16 MiB, got \"17MiB\""),
        ("shards=65", "--set shards: expected 0 to 63, got \"65\""),
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
        assert_eq!(error_line(load_sets(&[set])), expected);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_line() {
    let missing = error_line(config::load(Some(Path::new("/no/such/tidings.toml")), [], &no_overrides()));
    assert_eq!(missing, "tidings.toml: cannot be read: No such file or directory (os error 2)");
    let ending = error_line(config::load(Some(Path::new("tidings.conf")), [], &no_overrides()));
    assert_eq!(ending, "tidings.conf: the name of a configuration file ends in .toml, .json, .yaml or .yml");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, b"shards = 1\n# \xff\n").expect("a file in it");
    assert_eq!(error_line(config::load(Some(&path), [], &no_overrides())), "c.toml: line 2 is not UTF-8");
    std::fs::write(&path, " ".repeat((1 << 20) + 1)).expect("a file in it");
    assert_eq!(
        error_line(config::load(Some(&path), [], &no_overrides())),
        "c.toml: longer than 1048576 bytes"
    );
    assert!(error_line(load_text("c.toml", "shards = \n")).starts_with("c.toml:1: "));
}

#[test]
fn no_error_and_no_debug_output_contains_a_secret() {
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
        let error = error_line(load_sets(&[bad]));
        assert!(!error.contains("hunter2"), "{error}");
    }
    for text in
        ["http_api: {key: 31337}", "http_api: {key: [31337]}", "broker: 31337", "http_api: {key: \"31337}"]
    {
        let error = error_line(load_text("c.yaml", text));
        assert!(!error.contains("31337"), "{error}");
    }
    assert!(!no_overrides().set("hunter2").expect_err("no key").to_string().contains("hunter2"));
}
