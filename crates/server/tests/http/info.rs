//! RESP's `INFO`.

use std::collections::BTreeMap;

use tidings_testkit::{PATIENCE, RespClient, wait_until};

use crate::support::TestServer;

/// Parses sections and fields like the clients of Redis.
fn parse(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections = BTreeMap::new();
    let mut section = String::new();
    for line in text.split_terminator("\r\n").filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ") {
            Some(name) => section = name.to_owned(),
            None => {
                let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line:?} is no field"));
                let fields: &mut BTreeMap<_, _> = sections.entry(section.clone()).or_default();
                assert_eq!(fields.insert(name.to_owned(), value.to_owned()), None, "{name} occurs twice");
            }
        }
    }
    sections
}

#[test]
fn info_has_the_format_of_redis_and_correct_values() {
    let server = TestServer::start(&[]);
    let mut client = RespClient::connect(server.tcp());
    let mut subscriber = RespClient::connect(server.tcp());
    subscriber.command(&["SUBSCRIBE", "a"]);
    subscriber.command(&["PSUBSCRIBE", "b*"]);
    let info = parse(&client.command(&["INFO"]).text());
    let sections: Vec<_> = info.keys().map(String::as_str).collect();
    assert_eq!(sections, ["Clients", "Memory", "Replication", "Server", "Stats"]);
    assert_eq!(info["Server"]["process_id"], std::process::id().to_string());
    assert_eq!(info["Server"]["redis_mode"], "standalone");
    assert_eq!(info["Clients"]["connected_clients"], "2");
    assert_eq!(info["Stats"]["total_connections_received"], "2");
    assert_eq!(info["Stats"]["pubsub_channels"], "1");
    assert_eq!(info["Stats"]["pubsub_patterns"], "1");
    assert_eq!(info["Replication"]["role"], "master");
    assert!(info["Memory"]["used_memory_rss"].parse::<u64>().expect("bytes") > 1_000_000);

    subscriber.command(&["UNSUBSCRIBE", "a"]);
    wait_until(PATIENCE, "a channel less", || {
        parse(&client.command(&["INFO"]).text())["Stats"]["pubsub_channels"] == "0"
    });
}
