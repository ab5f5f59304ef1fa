//! Namespaces in files and in the environment.

use tidings_config::{self as config, SlowConsumer};
use tidings_wire::body::DataFormat;

use crate::support::{env, error_line, file, load_env, load_sets, load_text, no_overrides, sets};

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
    let config = config::load(Some(&file.path), names, &no_overrides()).expect("good");
    let [more, news] = &config.channel.namespaces[..] else { panic!("{:?}", config.channel) };
    assert_eq!(more.options, config::ChannelOptions::default());
    assert_eq!(news.options.slow_consumer, SlowConsumer::Cut);
    assert!(news.options.allow_subscribe_for_client);

    let sets = sets(&["channel.namespaces.chat.slow_consumer=latest"]);
    let config = config::load(Some(&file.path), [], &sets).expect("good");
    assert_eq!(config.channel.namespaces[0].options.slow_consumer, SlowConsumer::Latest);
}

#[test]
fn a_namespace_has_one_valid_name() {
    let two = "[[channel.namespaces]]\nname = \"chat\"\n[[channel.namespaces]]\nname = \"chat\"\n";
    assert_eq!(
        error_line(load_text("c.toml", two)),
        "c.toml:1: channel.namespaces: two namespaces are named \"chat\""
    );
    let none = "channel:\n  namespaces:\n  - slow_consumer: cut\n";
    assert_eq!(
        error_line(load_text("c.yaml", none)),
        "c.yaml:3: channel.namespaces[0]: a namespace needs a name"
    );
    assert!(
        error_line(load_env(&[("TIDINGS_CHANNEL_NAMESPACES", "a")]))
            .contains("\"a\" is not a valid name of a namespace")
    );
    assert!(
        error_line(load_env(&[("TIDINGS_CHANNEL_NAMESPACES", "a b")]))
            .contains("is not a valid name of a namespace")
    );
    assert_eq!(
        error_line(load_env(&[
            ("TIDINGS_CHANNEL_NAMESPACES", "my-ns,my_ns"),
            ("TIDINGS_CHANNEL_NAMESPACES_MY_NS_SLOW_CONSUMER", "cut"),
        ])),
        "environment variable TIDINGS_CHANNEL_NAMESPACES_MY_NS_SLOW_CONSUMER: is ambiguous: \
         channel.namespaces.my-ns.slow_consumer or channel.namespaces.my_ns.slow_consumer; set the option in a file"
    );
}

#[test]
fn options_in_a_group_of_a_namespace_are_read_from_every_source() {
    let map = |config: &config::Config, name: &str| {
        let namespace = config.channel.namespaces.iter().find(|n| n.name == name).expect("a namespace");
        (namespace.options.map.stream_size, namespace.options.map.ordered)
    };
    let text = "[[channel.namespaces]]\nname = \"a.map\"\n[channel.namespaces.map]\nordered = true\n\
                [[channel.namespaces]]\nname = \"ab\"\nmap.stream_size = 7\n";
    let config = load_text("c.toml", text).unwrap();
    assert_eq!((map(&config, "a.map"), map(&config, "ab")), ((1_000, true), (7, false)));
    let sets = ["channel.namespaces=ab", "channel.namespaces.ab.map.stream_size=8"];
    assert_eq!(map(&load_sets(&sets).unwrap(), "ab"), (8, false));
}
