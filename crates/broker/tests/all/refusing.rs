//! A Redis that accepts no writes, or responds with errors for another reason.

use std::time::Duration;

use tidings_broker::redis::{Options, failures};
use tidings_broker::{BrokerError, PublishOptions, Stateful};
use tidings_testkit::{PATIENCE, RedisServer, Reply, wait_until};
use tidings_wire::ClientInfo;

use crate::node::{Node, after, channel, history_of, keep, name, page, publish_with, wait};

fn kept() -> PublishOptions {
    PublishOptions { history: Some(history_of(9)), ..PublishOptions::default() }
}

/// The outcome of a publication with a history.
fn publish(node: &Node) -> Result<(), BrokerError> {
    publish_with(&*node.broker, "a", "x", kept()).map(drop)
}

fn set(redis: &RedisServer, option: &str, value: &str) {
    assert_eq!(redis.cli(&["CONFIG", "SET", option, value]), Reply::Simple("OK".to_owned()), "{option}");
}

#[test]
fn a_redis_without_writes_serves_reads_and_its_errors_are_temporary() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let info = ClientInfo { client: "c".to_owned(), ..ClientInfo::default() };
    wait(|done| node.broker.presence_add(&name("a"), &info, Duration::from_secs(60), done)).unwrap();
    keep(&*node.broker, "a", "1", 9);
    for (option, value, back, code) in
        [("maxmemory", "1", "0", "OOM"), ("min-replicas-to-write", "1", "0", "NOREPLICAS")]
    {
        set(&redis, option, value);
        assert_eq!(publish(&node), Err(BrokerError::Failed(code)), "{option}");
        let add = wait(|done| node.broker.presence_add(&name("a"), &info, Duration::from_secs(60), done));
        assert_eq!(add, Err(BrokerError::Failed(code)));
        let members = wait(|done| node.broker.presence(&name("a"), usize::MAX, done));
        assert_eq!(members.as_deref(), Ok(&[info.clone()][..]), "reads go on: {option}");
        // A node that subscribes now gets the channel's position, and a plain publication succeeds.
        let other = Node::connected(Options::new(redis.url()));
        other.subscribe(&channel("a"));
        node.publish("a", b"plain").unwrap();
        wait_until(PATIENCE, "the message", || other.sink.bodies("a") == ["plain"]);
        assert_eq!(other.sink.gaps(), []);
        set(&redis, option, back);
        let index = failures::CODES.iter().position(|known| *known == code).unwrap();
        assert_eq!(node.broker.counters().failures.totals()[index], 2);
    }
    publish(&node).unwrap();
}

#[test]
fn a_busy_redis_is_a_temporary_error_and_nothing_is_lost() {
    let redis = RedisServer::start_with(&["--busy-reply-threshold", "10"]);
    let node = Node::connected(Options::new(redis.url()));
    node.subscribe(&channel("a"));
    let mut busy = redis.client();
    busy.send(&["EVAL", "while true do end", "0"]);
    wait_until(PATIENCE, "the error", || publish(&node) == Err(BrokerError::Failed("BUSY")));
    redis.cli(&["SCRIPT", "KILL"]);
    wait_until(PATIENCE, "that it goes on", || publish(&node).is_ok());
    wait_until(PATIENCE, "the message", || !node.sink.offsets("a").is_empty());
    assert_eq!(node.sink.gaps(), []);
}

#[test]
fn a_missing_library_is_loaded_again_and_the_request_is_carried_out() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    keep(&*node.broker, "a", "1", 9);
    redis.cli(&["FUNCTION", "FLUSH"]);
    assert_eq!(keep(&*node.broker, "a", "2", 9).offset, 2);
    // Where it cannot be loaded, the error is temporary and other requests succeed.
    set(&redis, "maxmemory", "1");
    redis.cli(&["FUNCTION", "FLUSH"]);
    assert!(matches!(publish(&node), Err(BrokerError::Failed(_))));
    node.publish("a", b"plain").unwrap();
    set(&redis, "maxmemory", "0");
    publish(&node).unwrap();
}

#[test]
fn a_forbidden_publication_stores_nothing_and_a_repeat_is_not_delivered_twice() {
    let redis =
        RedisServer::start_with(&["--user", "ann", "on", ">pw", "~*", "resetchannels", "&ok*", "+@all"]);
    let node = Node::start(Options::new(format!("redis://ann:pw@{}", redis.addr())));
    node.sink.wait_up(1);
    node.wait_until_it_may_publish("ok");
    let once = || PublishOptions { idempotency_key: Some("k".to_owned()), ..kept() };
    let keys = redis.cli(&["DBSIZE"]).int();
    for options in [once(), kept(), PublishOptions { history: None, ..once() }] {
        assert_eq!(publish_with(&*node.broker, "a", "1", options), Err(BrokerError::NotPermitted));
    }
    assert_eq!(redis.cli(&["DBSIZE"]).int(), keys, "{:?}", redis.cli(&["KEYS", "*"]).texts());
    // A stream that cannot be appended to, or a key that cannot be written, changes nothing either.
    keep(&*node.broker, "ok2", "1", 9);
    redis.cli(&["SET", "tidings:stream:{ok2}", "not a stream"]);
    assert!(publish_with(&*node.broker, "ok2", "2", once()).is_err());
    redis.cli(&["DEL", "tidings:stream:{ok2}"]);
    assert_eq!(keep(&*node.broker, "ok2", "2", 9).offset, 2);
    redis.cli(&["ACL", "SETUSER", "ann", "resetkeys", "~ok*", "~tidings:meta:*", "~tidings:stream:*"]);
    assert_eq!(publish_with(&*node.broker, "ok1", "1", once()), Err(BrokerError::NotPermitted));
    redis.cli(&["ACL", "SETUSER", "ann", "allkeys", "allchannels"]);
    for channel in ["a", "ok1"] {
        let first = publish_with(&*node.broker, channel, "1", once()).unwrap();
        assert_eq!((first.position.unwrap().offset, first.repeated), (1, false), "{channel}");
        assert!(publish_with(&*node.broker, channel, "1", once()).unwrap().repeated);
        assert_eq!(page(&*node.broker, channel, after(None)).publications.len(), 1, "{channel}");
    }
}

#[test]
fn without_permission_for_one_command_of_publishing_nothing_is_stored() {
    let redis = RedisServer::start_with(&["--user", "ann", "on", ">pw", "~*", "&*", "+@all"]);
    let node = Node::start(Options::new(format!("redis://ann:pw@{}", redis.addr())));
    node.sink.wait_up(1);
    node.wait_until_it_may_publish("ok");
    let once = || PublishOptions { idempotency_key: Some("k".to_owned()), ..kept() };
    keep(&*node.broker, "known", "1", 9);
    let keys = redis.cli(&["DBSIZE"]).int();
    for command in ["xadd", "hset", "pexpire", "set", "publish"] {
        redis.cli(&["ACL", "SETUSER", "ann", &format!("-{command}")]);
        for channel in ["known", "new"] {
            let refused = publish_with(&*node.broker, channel, "2", once());
            assert_eq!(refused, Err(BrokerError::NotPermitted), "{command} in {channel}");
        }
        redis.cli(&["ACL", "SETUSER", "ann", &format!("+{command}")]);
        assert_eq!(redis.cli(&["DBSIZE"]).int(), keys, "{command}: {:?}", redis.cli(&["KEYS", "*"]).texts());
    }
    assert_eq!(keep(&*node.broker, "known", "2", 9).offset, 2);
    assert_eq!(keep(&*node.broker, "new", "1", 9).offset, 1);
}

#[test]
fn keys_of_channels_with_a_common_suffix_are_distinct() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let with = |key: &str| PublishOptions { idempotency_key: Some(key.to_owned()), ..kept() };
    let first = publish_with(&*node.broker, "chat:x", "1", with("y}:k")).unwrap();
    let second = publish_with(&*node.broker, "chat:x}:y", "2", with("k")).unwrap();
    assert!(!first.repeated && !second.repeated);
    assert_ne!(first.position, second.position);
}
