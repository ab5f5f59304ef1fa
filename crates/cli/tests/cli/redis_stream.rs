//! Consumers of streams of Redis.

use serde_json::json;
use tempfile::TempDir;
use tidings_testkit::{
    LineClient, PATIENCE, RedisCluster, RedisServer, Reply, RespClient, Tidings, get_http, metric, wait_until,
};

const GROUP: &str = "tidings";

/// A node with a consumer of the stream `commands`, and further options of the consumer and of the node.
fn node(address: &str, consumer: &str, flags: &[&str]) -> (Tidings, TempDir) {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("tidings.toml");
    let text = format!(
        "[[consumers]]\nname = \"events\"\nenabled = true\ntype = \"redis_stream\"\n[consumers.redis_stream]\n\
         address = \"{address}\"\nstreams = [\"commands\"]\nconsumer_group = \"{GROUP}\"\n{consumer}\n",
    );
    std::fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let all = ["--config", path, "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", "off"];
    (Tidings::builder(env!("CARGO_BIN_EXE_tidings")).args(all).args(flags).start(), dir)
}

fn subscriber(node: &Tidings) -> LineClient {
    wait_until(PATIENCE, "readiness", || get_http(node.http(), "/ready").status == 200);
    let mut client = LineClient::connect(node.tcp());
    client.send("SUBSCRIBE news");
    client.expect("CONFIRMED");
    client
}

/// The entry of a publication with this number.
fn entry(number: usize) -> [String; 7] {
    let payload = json!({ "channel": "news", "data": number }).to_string();
    ["XADD", "commands", "*", "method", "publish", "payload", &payload].map(str::to_owned)
}

/// Adds entries with these numbers in one step. Returns whether Redis has confirmed it.
fn add(redis: &RedisServer, numbers: impl IntoIterator<Item = usize>) -> bool {
    let Ok(mut client) = RespClient::try_connect(redis.addr()) else { return false };
    let mut sent = client.try_send(&["MULTI"]);
    for number in numbers {
        sent = sent.and_then(|()| client.try_send(&entry(number)));
    }
    let mut is_committed = sent.and_then(|()| client.try_send(&["EXEC"])).is_ok();
    while is_committed {
        match client.try_reply() {
            Ok(Reply::Array(_)) => return true,
            Ok(_) => {}
            Err(_) => is_committed = false,
        }
    }
    false
}

fn number(line: &str) -> usize {
    let number = line.strip_prefix("MESSAGE news ").and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("not a publication: {line}"))
}

/// The numbers of the next publications.
fn numbers(client: &mut LineClient, count: usize) -> Vec<usize> {
    (0..count).map(|_| number(&client.line())).collect()
}

/// The number of commands with this outcome.
fn commands(node: &Tidings, outcome: &str) -> u64 {
    metric(node.http(), &format!("tidings_consumer_commands_total{{outcome=\"{outcome}\"}}"))
}

fn pending(redis: &RedisServer) -> String {
    match redis.cli(&["XPENDING", "commands", GROUP]) {
        Reply::Array(parts) => format!("{:?}", parts.first()),
        other => other.text(),
    }
}

fn wait_until_acknowledged(redis: &RedisServer) {
    wait_until(PATIENCE, "a group without pending entries", || pending(redis) == "Some(Int(0))");
}

#[test]
fn entries_are_published_in_their_order_and_acknowledged() {
    let redis = RedisServer::start();
    assert!(add(&redis, 0..50), "entries from before the group exists");
    let (node, _dir) = node(&redis.url(), "", &[]);
    wait_until(PATIENCE, "the first entries", || commands(&node, "done") == 50);
    let mut client = subscriber(&node);
    assert!(add(&redis, 50..350));
    let received = numbers(&mut client, 300);
    assert!(received.iter().copied().eq(50..350), "{received:?}");
    wait_until_acknowledged(&redis);
    assert_eq!((commands(&node, "refused"), commands(&node, "retried")), (0, 0));
}

#[test]
fn an_entry_that_is_no_command_is_logged_and_does_not_stop_the_others() {
    let redis = RedisServer::start();
    let (node, _dir) = node(&redis.url(), "", &[]);
    let mut client = subscriber(&node);
    for fields in [
        &["method", "fly", "payload", "{}"][..],
        &["method", "history", "payload", "{\"channel\": \"news\"}"],
        &["payload", "[]"],
        &["colour", "red"],
    ] {
        redis.cli(&[&["XADD", "commands", "*"], fields].concat());
    }
    let whole = r#"{"method": "publish", "payload": {"channel": "news", "data": 7}}"#;
    redis.cli(&["XADD", "commands", "*", "payload", whole]);
    assert_eq!(client.line(), "MESSAGE news 7");
    wait_until_acknowledged(&redis);
    node.wait_for_log("method=\"fly\"");
    assert_eq!(commands(&node, "refused"), 4);
}

#[test]
fn entries_that_are_publications_have_their_channels_in_a_field() {
    let redis = RedisServer::start();
    let (node, _dir) = node(&redis.url(), "publication_data_mode = { enabled = true }", &[]);
    let mut client = subscriber(&node);
    let fields =
        ["payload", "plain text", "centrifugo-channels", "news,other", "centrifugo-idempotency-key", "k"];
    for _ in 0..2 {
        redis.cli(&[&["XADD", "commands", "*"], &fields[..]].concat());
    }
    redis.cli(&["XADD", "commands", "*", "payload", "8", "centrifugo-channels", "news"]);
    assert_eq!(client.line(), "MESSAGE news plain text");
    assert_eq!(client.line(), "MESSAGE news 8");
}

#[test]
fn no_entry_is_lost_or_published_twice_when_redis_is_killed_under_load() {
    let mut redis = RedisServer::persistent();
    let (node, _dir) = node(&redis.url(), "visibility_timeout = \"1s\"", &[]);
    let mut client = subscriber(&node);
    let mut committed = Vec::new();
    let mut next = 0;
    for _ in 0..3 {
        for _ in 0..10 {
            let numbers = next..next + 50;
            next += 50;
            if add(&redis, numbers.clone()) {
                committed.extend(numbers);
            }
        }
        // The worker is in the middle of the entries.
        redis.kill();
        redis.restart();
    }
    assert!(committed.len() >= 100, "{committed:?}");
    // An entry can be pending when its worker connects again, and is then published after later ones.
    let mut received = std::collections::BTreeSet::new();
    while !committed.iter().all(|number| received.contains(number)) {
        let number = number(&client.line());
        assert!(received.insert(number), "{number} twice");
    }
    wait_until_acknowledged(&redis);
    client.expect_silence(std::time::Duration::from_millis(1500));
    node.wait_for_log("a consumer cannot read its stream; it tries again");
}

#[test]
fn entries_of_a_node_that_was_killed_are_taken_over_and_counted_until_then() {
    let redis = RedisServer::start();
    let mut broker = RedisServer::start();
    let url = broker.url();
    let flags = ["--broker", &url, "--set", "redis.response_timeout=500ms"];
    let options = "visibility_timeout = \"1s\"";
    let (first, _one) = node(&redis.url(), options, &flags);
    wait_until(PATIENCE, "a group", || pending(&redis) == "Some(Int(0))");
    broker.kill();
    assert!(add(&redis, 0..20));
    wait_until(PATIENCE, "a command that failed", || commands(&first, "retried") > 0);
    let backlog = "tidings_consumer_backlog{consumer=\"events\"}";
    wait_until(PATIENCE, "the number of waiting entries", || metric(first.http(), backlog) == 20);
    assert_eq!(pending(&redis), "Some(Int(20))");
    // It is killed.
    drop(first);
    broker.restart();
    let (second, _two) = node(&redis.url(), options, &flags);
    let mut client = subscriber(&second);
    let received = numbers(&mut client, 20);
    assert!(received.iter().copied().eq(0..20), "{received:?}");
    wait_until_acknowledged(&redis);
    wait_until(PATIENCE, "no waiting entries", || metric(second.http(), backlog) == 0);
}

#[test]
fn a_group_that_was_deleted_continues_after_the_last_entry_that_was_run() {
    let redis = RedisServer::start();
    let (node, _dir) = node(&redis.url(), "", &[]);
    let mut client = subscriber(&node);
    assert!(add(&redis, 0..10));
    assert!(numbers(&mut client, 10).iter().copied().eq(0..10));
    wait_until_acknowledged(&redis);
    redis.cli(&["XGROUP", "DESTROY", "commands", GROUP]);
    wait_until_acknowledged(&redis);
    assert!(add(&redis, [10]));
    assert_eq!(number(&client.line()), 10);
    wait_until_acknowledged(&redis);
    assert_eq!(commands(&node, "done"), 11, "no entry was run again");
}

#[test]
fn an_entry_with_the_id_of_one_of_a_deleted_stream_is_published() {
    let redis = RedisServer::start();
    let (node, _dir) = node(&redis.url(), "", &[]);
    let mut client = subscriber(&node);
    for number in 0..3 {
        wait_until_acknowledged(&redis);
        let mut fields = entry(number);
        fields[2] = "1-0".to_owned();
        redis.cli(&fields.each_ref().map(|field| &**field));
        assert_eq!(self::number(&client.line()), number);
        wait_until_acknowledged(&redis);
        redis.cli(&["DEL", "commands"]);
    }
}

#[test]
fn a_node_that_stops_runs_no_commands_behind_its_current_one() {
    let redis = RedisServer::start();
    let broker = RedisServer::start();
    let url = broker.url();
    let (mut node, _dir) = node(&redis.url(), "", &["--broker", &url, "--set", "shutdown.drain=0s"]);
    wait_until(PATIENCE, "a group", || pending(&redis) == "Some(Int(0))");
    broker.cli(&["CLIENT", "PAUSE", "4000", "ALL"]);
    assert!(add(&redis, 0..50));
    wait_until(PATIENCE, "entries that were read", || pending(&redis) == "Some(Int(50))");
    assert_eq!(node.terminate(), 0);
    // The current command is acknowledged if it has ended within the time of the stop.
    let left = pending(&redis);
    assert!(["Some(Int(49))", "Some(Int(50))"].contains(&&*left), "{left}");
}

#[test]
fn two_nodes_with_several_workers_publish_each_entry_once_and_leave_the_group_when_they_stop() {
    let redis = RedisServer::start();
    let broker = RedisServer::start();
    let url = broker.url();
    let flags = ["--broker", &*url];
    let (mut first, _one) = node(&redis.url(), "num_workers = 2", &flags);
    let (second, _two) = node(&redis.url(), "num_workers = 2", &flags);
    let mut client = subscriber(&second);
    wait_until(PATIENCE, "four workers", || {
        [&first, &second].iter().all(|node| metric(node.http(), "tidings_consumer_connections") == 2)
    });
    for hundred in 0..5 {
        assert!(add(&redis, hundred * 100..(hundred + 1) * 100));
    }
    let mut received = numbers(&mut client, 500);
    received.sort_unstable();
    assert!(received.iter().copied().eq(0..500), "{received:?}");
    wait_until_acknowledged(&redis);
    let members = || match redis.cli(&["XINFO", "CONSUMERS", "commands", GROUP]) {
        Reply::Array(members) => members.len(),
        other => panic!("{other:?}"),
    };
    let before = members();
    assert_eq!(first.terminate(), 0);
    wait_until(PATIENCE, "a group without the members of the node that has stopped", || members() < before);
    assert!(add(&redis, [500]));
    assert_eq!(number(&client.line()), 500);
}

#[test]
fn a_stream_in_a_cluster_is_read_from_its_node_also_after_it_has_moved() {
    let cluster = RedisCluster::start(3);
    let (node, _dir) = node(&cluster.url(), "visibility_timeout = \"1s\"", &[]);
    let mut client = subscriber(&node);
    let from = cluster.primary_of("commands");
    assert!(add(cluster.node(from), 0..10));
    assert!(numbers(&mut client, 10).iter().copied().eq(0..10));
    wait_until_acknowledged(cluster.node(from));
    let to = (from + 1) % 3;
    cluster.move_slot(cluster.slot("commands"), from, to, || {});
    assert!(add(cluster.node(to), 10..20));
    assert!(numbers(&mut client, 10).iter().copied().eq(10..20));
    wait_until_acknowledged(cluster.node(to));
}

#[test]
fn an_enabled_consumer_needs_streams_and_a_group() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("tidings.toml");
    let text = "[[consumers]]\nname = \"events\"\nenabled = true\ntype = \"redis_stream\"\n";
    std::fs::write(&path, text).expect("a file");
    let run = |text: &str| {
        std::fs::write(&path, text).expect("a file");
        let builder = Tidings::builder(env!("CARGO_BIN_EXE_tidings"));
        let (code, _, stderr) = builder.args(["--config", path.to_str().expect("UTF-8")]).run_to_end();
        assert_ne!(code, 0);
        stderr
    };
    let stderr = run(text);
    for part in ["consumers.events.redis_stream.streams", "consumers.events.redis_stream.consumer_group"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let late =
        "[consumers.redis_stream]\nstreams = [\"a\"]\nconsumer_group = \"b\"\nvisibility_timeout = \"4m\"\n";
    let stderr = run(&format!("{text}{late}"));
    assert!(stderr.contains("redis_stream.visibility_timeout"), "{stderr}");
    let address = "[consumers.redis_stream]\nstreams = [\"a\"]\nconsumer_group = \"b\"\naddress = \"redis://u:hunter2@h/x\"\n";
    let stderr = run(&format!("{text}{address}"));
    assert!(stderr.contains("consumers.events.redis_stream.address: "), "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
}
