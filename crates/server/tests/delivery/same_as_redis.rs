//! RESP replies, compared with those of a real Redis byte for byte.

use tidings_testkit::{RedisServer, RespClient};

use crate::node::start_quiet_node;

/// Commands with the same reply on every server.
const COMMANDS: &[&[&str]] = &[
    &["PING"],
    &["PING", "hello"],
    &["ECHO", "hello"],
    &["ECHO"],
    &["PING", "too", "many"],
    &["SELECT", "0"],
    &["SELECT", "nonsense"],
    &["GETT", "a", "b"],
    &["NOSUCH"],
    &["CLIENT", "SETNAME", "tester"],
    &["CLIENT", "GETNAME"],
    &["CLIENT", "SETNAME", "with space"],
    &["CLIENT", "NOSUCH"],
    &["CLIENT", "GETNAME", "extra"],
    &["AUTH", "nobody", "knows"],
    &["AUTH", "unasked"],
    &["PUBLISH", "nobody-listens", "x"],
    &["PUBLISH", "one-argument"],
    &["PUBSUB", "NUMPAT"],
    &["PUBSUB", "NUMSUB"],
    &["PUBSUB", "NUMSUB", "here", "there"],
    &["PUBSUB", "CHANNELS", "nothing-*"],
    &["PUBSUB", "NOSUCH"],
    &["PUBSUB"],
    &["SUBSCRIBE"],
    &["SUBSCRIBE", "here", "there", "here"],
    &["PSUBSCRIBE", "h?re", "*"],
    &["PING"],
    &["PING", "listening"],
    &["ECHO", "not now"],
    &["UNSUBSCRIBE", "never-was"],
    &["UNSUBSCRIBE", "here"],
    &["PUNSUBSCRIBE", "*"],
    &["UNSUBSCRIBE"],
    &["PUNSUBSCRIBE"],
    &["UNSUBSCRIBE"],
    &["PUNSUBSCRIBE"],
    &["PING"],
    &["HELLO", "7"],
    &["HELLO", "three"],
    &["HELLO", "2", "NOSUCH"],
    &["RESET"],
    &["PING"],
    &["QUIT"],
];

/// Commands of transactions, in a row on one connection.
const TRANSACTIONS: &[&[&str]] = &[
    &["EXEC"],
    &["DISCARD"],
    &["UNWATCH"],
    &["WATCH"],
    &["EXEC", "x"],
    &["DISCARD", "x"],
    &["MULTI", "x"],
    &["MULTI"],
    &["EXEC"],
    &["WATCH", "a", "b"],
    &["MULTI"],
    &["MULTI"],
    &["WATCH", "a"],
    &["PUBLISH", "nobody-listens", "x"],
    &["UNWATCH"],
    &["ECHO", "a\r\nb"],
    &["SELECT", "nonsense"],
    &["SELECT", "0"],
    &["CLIENT", "SETNAME", "with space"],
    &["AUTH", "unasked"],
    &["HELLO", "9"],
    &["PUBSUB", "NUMSUB", "here"],
    &["EXEC"],
    &["MULTI"],
    &["PING"],
    &["DISCARD"],
    &["EXEC"],
    &["MULTI"],
    &["GETT", "a"],
    &["PING"],
    &["EXEC"],
    &["MULTI"],
    &["PUBLISH", "a"],
    &["EXEC"],
    &["MULTI"],
    &["SUBSCRIBE"],
    &["EXEC"],
    &["MULTI"],
    &["CLIENT", "NOSUCH"],
    &["EXEC"],
    &["MULTI"],
    &["CLIENT", "GETNAME", "x"],
    &["PUBSUB", "NUMPAT", "x"],
    &["EXEC"],
    &["MULTI"],
    &["MULTI", "x"],
    &["EXEC"],
    &["MULTI"],
    &["EXEC", "x"],
    &["EXEC"],
    &["MULTI"],
    &["PING"],
    &["RESET"],
    &["EXEC"],
    &["MULTI"],
    &["SUBSCRIBE", "here"],
    &["PING"],
    &["UNSUBSCRIBE", "here"],
    &["PING"],
    &["EXEC"],
    &["SUBSCRIBE", "here"],
    &["MULTI"],
    &["EXEC"],
    &["WATCH", "a"],
    &["UNWATCH"],
    &["DISCARD"],
    &["UNSUBSCRIBE", "here"],
    &["MULTI"],
    &["QUIT"],
];

/// The number of replies to a command.
fn reply_count(command: &[&str]) -> usize {
    match command {
        ["SUBSCRIBE" | "PSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE", names @ ..] => names.len().max(1),
        _ => 1,
    }
}

fn play(client: &mut RespClient, version: &str, commands: &[&[&str]]) -> Vec<String> {
    let mut replies = Vec::new();
    if version == "3" {
        client.command(&["HELLO", "3"]);
    }
    for command in commands {
        client.send(command);
        for _ in 0..reply_count(command) {
            replies.push(format!("{command:?} → {:?}", client.reply()));
        }
    }
    assert!(client.try_reply().is_err(), "closed after QUIT");
    replies
}

#[test]
fn every_reply_is_the_one_of_redis() {
    let redis = RedisServer::start();
    let node = start_quiet_node(&[]);
    for (version, commands) in [("2", COMMANDS), ("3", COMMANDS), ("2", TRANSACTIONS), ("3", TRANSACTIONS)] {
        let expected = play(&mut redis.client(), version, commands);
        let actual = play(&mut node.resp(), version, commands);
        for (actual, expected) in actual.iter().zip(&expected) {
            assert_eq!(actual, expected, "RESP{version}");
        }
        assert_eq!(actual.len(), expected.len());
    }
}

#[test]
fn counts_of_subscribers_follow_subscribes_and_unsubscribes() {
    let node = start_quiet_node(&[]);
    let mut resp = node.resp();
    let mut clients: Vec<_> = (0..5).map(|_| node.subscriber("here")).collect();
    assert_eq!(resp.command(&["PUBSUB", "NUMSUB", "here", "there"]).texts(), ["here", "5", "there", "0"]);
    assert_eq!(resp.command(&["PUBSUB", "CHANNELS"]).texts(), ["here"]);
    assert_eq!(resp.command(&["PUBLISH", "here", "x"]).int(), 5);
    let mut pattern = node.resp();
    pattern.command(&["PSUBSCRIBE", "he*"]);
    assert_eq!(resp.command(&["PUBSUB", "NUMPAT"]).int(), 1);
    assert_eq!(resp.command(&["PUBLISH", "here", "x"]).int(), 6);
    clients[0].expect("MESSAGE here x");
    clients[0].send("UNSUBSCRIBE here");
    clients[0].expect("MESSAGE here x");
    clients[0].expect("CONFIRMED");
    assert_eq!(resp.command(&["PUBLISH", "here", "x"]).int(), 5);
}
