//! RESP answers, held against those of a real Redis, byte for byte.

use tidings_testkit::{RedisServer, RespClient};

use crate::up::quiet;

/// Commands whose answers do not depend on which server it is.
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

/// Transactions, in a row on one connection, and whether that speaks version 2 or 3.
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

/// How many answers a command has.
fn answers(command: &[&str]) -> usize {
    match command {
        ["SUBSCRIBE" | "PSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE", names @ ..] => names.len().max(1),
        _ => 1,
    }
}

fn play(client: &mut RespClient, version: &str, commands: &[&[&str]]) -> Vec<String> {
    let mut heard = Vec::new();
    if version == "3" {
        client.command(&["HELLO", "3"]);
    }
    for command in commands {
        client.send(command);
        for _ in 0..answers(command) {
            heard.push(format!("{command:?} → {:?}", client.reply()));
        }
    }
    assert!(client.try_reply().is_err(), "closed after QUIT");
    heard
}

#[test]
fn every_answer_is_the_one_that_redis_gives() {
    let redis = RedisServer::start();
    let node = quiet(&[]);
    for (version, commands) in [("2", COMMANDS), ("3", COMMANDS), ("2", TRANSACTIONS), ("3", TRANSACTIONS)] {
        let expected = play(&mut redis.client(), version, commands);
        let got = play(&mut node.resp(), version, commands);
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got, expected, "RESP{version}");
        }
        assert_eq!(got.len(), expected.len());
    }
}

#[test]
fn counts_of_subscribers_are_right_while_they_come_and_go() {
    let node = quiet(&[]);
    let mut asker = node.resp();
    let mut clients: Vec<_> = (0..5).map(|_| node.subscriber("here")).collect();
    assert_eq!(asker.command(&["PUBSUB", "NUMSUB", "here", "there"]).texts(), ["here", "5", "there", "0"]);
    assert_eq!(asker.command(&["PUBSUB", "CHANNELS"]).texts(), ["here"]);
    assert_eq!(asker.command(&["PUBLISH", "here", "x"]).int(), 5);
    let mut pattern = node.resp();
    pattern.command(&["PSUBSCRIBE", "he*"]);
    assert_eq!(asker.command(&["PUBSUB", "NUMPAT"]).int(), 1);
    assert_eq!(asker.command(&["PUBLISH", "here", "x"]).int(), 6);
    clients[0].expect("MESSAGE here x");
    clients[0].send("UNSUBSCRIBE here");
    clients[0].expect("MESSAGE here x");
    clients[0].expect("CONFIRMED");
    assert_eq!(asker.command(&["PUBLISH", "here", "x"]).int(), 5);
}
