//! RESP: Redis clients.

use crate::test_hub::{Broker, TestHub, part_three, settings, with_key};
use tidings_hub::{Flow, Namespaces, Slot};

fn command(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text
}

fn exchange(w: &mut TestHub, slot: Slot, words: &[&str]) -> String {
    w.exchange(slot, command(words))
}

#[test]
fn subscribe_publish_and_unsubscribe_work_as_in_redis() {
    let mut w = TestHub::new(settings());
    let (a, b) = (w.open(), w.open());
    assert_eq!(
        exchange(&mut w, a, &["SUBSCRIBE", "news", "scores:nba"]),
        "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$10\r\nscores:nba\r\n:2\r\n"
    );
    assert_eq!(exchange(&mut w, b, &["PUBLISH", "news", "hi"]), ":1\r\n");
    assert_eq!(w.output(a), "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    assert_eq!(
        exchange(&mut w, a, &["UNSUBSCRIBE", "news"]),
        "*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:1\r\n"
    );
    assert_eq!(
        exchange(&mut w, a, &["UNSUBSCRIBE"]),
        "*3\r\n$11\r\nunsubscribe\r\n$10\r\nscores:nba\r\n:0\r\n"
    );
    assert_eq!(exchange(&mut w, a, &["UNSUBSCRIBE"]), "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n");
    assert_eq!(exchange(&mut w, a, &["QUIT"]), "+OK\r\n");
    assert!(w.closed.contains(&a));
}

#[test]
fn a_redis_client_has_no_automatic_subscriptions() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    exchange(&mut w, c, &["PING"]);
    w.publish("updates", "stray");
    assert_eq!(w.output(c), "");
}

#[test]
fn messages_of_a_pattern_name_the_pattern() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    assert_eq!(
        exchange(&mut w, c, &["PSUBSCRIBE", "news.*"]),
        "*3\r\n$10\r\npsubscribe\r\n$6\r\nnews.*\r\n:1\r\n"
    );
    w.publish("news.art", "x");
    w.publish("old.art", "y");
    assert_eq!(w.output(c), "*4\r\n$8\r\npmessage\r\n$6\r\nnews.*\r\n$8\r\nnews.art\r\n$1\r\nx\r\n");
    assert_eq!(exchange(&mut w, c, &["PUNSUBSCRIBE"]), "*3\r\n$12\r\npunsubscribe\r\n$6\r\nnews.*\r\n:0\r\n");
}

#[test]
fn version_three_gets_pushes_and_may_use_other_commands() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    let hello = exchange(&mut w, c, &["HELLO", "3"]);
    assert!(hello.starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n"), "{hello}");
    assert!(hello.contains("$5\r\nproto\r\n:3\r\n"));
    assert_eq!(exchange(&mut w, c, &["SUBSCRIBE", "news"]), ">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    w.publish("news", "hi");
    assert_eq!(w.output(c), ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    assert_eq!(exchange(&mut w, c, &["ECHO", "x"]), "$1\r\nx\r\n");
    assert_eq!(exchange(&mut w, c, &["CLIENT", "GETNAME"]), "_\r\n");
    // Back to version 2; the subscription stays.
    assert!(exchange(&mut w, c, &["HELLO", "2"]).starts_with("*14\r\n"));
    w.publish("news", "hi");
    assert_eq!(w.output(c), "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
}

#[test]
fn a_subscribed_client_of_version_two_may_use_few_commands() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    exchange(&mut w, c, &["SUBSCRIBE", "news"]);
    assert_eq!(
        exchange(&mut w, c, &["PUBLISH", "news", "x"]),
        "-ERR Can't execute 'publish': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n"
    );
    assert_eq!(exchange(&mut w, c, &["PING"]), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    assert_eq!(exchange(&mut w, c, &["PING", "x"]), "*2\r\n$4\r\npong\r\n$1\r\nx\r\n");
    assert_eq!(exchange(&mut w, c, &["RESET"]), "+RESET\r\n");
    assert_eq!(exchange(&mut w, c, &["PING"]), "+PONG\r\n");
    w.publish("news", "gone");
    assert_eq!(w.output(c), "");
}

#[test]
fn several_subscribes_are_confirmed_in_order_in_any_order_of_the_broker() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    let c = w.open();
    w.broker = Broker::Slow;
    assert_eq!(exchange(&mut w, c, &["SUBSCRIBE", "a", "b", "c"]), "");
    let live = |w: &mut TestHub, name: &str| {
        let topic = tidings_wire::Channel::new(name).unwrap().into();
        w.with(|hub, fx| hub.on_topic_live(&topic, fx));
    };
    live(&mut w, "c");
    live(&mut w, "b");
    w.publish("b", "not before its confirmation");
    assert_eq!(w.output(c), "");
    live(&mut w, "a");
    let confirmed = w.output(c);
    let order: Vec<_> = ["$1\r\na\r\n:1", "$1\r\nb\r\n:2", "$1\r\nc\r\n:3"].map(|s| confirmed.find(s)).into();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{confirmed}");
}

#[test]
fn when_the_broker_becomes_unavailable_a_pending_subscribe_fails_completely_and_in_order() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    let c = w.open();
    w.broker = Broker::Slow;
    exchange(&mut w, c, &["SUBSCRIBE", "a", "b"]);
    let topic = tidings_wire::Channel::new("b").unwrap().into();
    w.with(|hub, fx| hub.on_topic_live(&topic, fx));
    w.set_broker(Broker::Down);
    assert_eq!(w.output(c), "-ERR 100 broker unavailable\r\n-ERR 100 broker unavailable\r\n");
    assert_eq!(exchange(&mut w, c, &["PING"]), "+PONG\r\n");
    assert!(w.subscribed_topics.is_empty(), "{:?}", w.subscribed_topics);
}

#[test]
fn a_subscription_confirmed_after_another_is_removed_completely() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    let (holder, c) = (w.open(), w.open());
    exchange(&mut w, holder, &["SUBSCRIBE", "old"]);
    w.broker = Broker::Slow;
    exchange(&mut w, c, &["SUBSCRIBE", "new", "old", "old"]);
    let topic = tidings_wire::Channel::new("new").unwrap().into();
    w.with(|hub, fx| hub.on_topic_live(&topic, fx));
    assert!(w.output(c).ends_with("$3\r\nold\r\n:2\r\n"));
    w.close(holder);
    w.close(c);
    assert!(w.subscribed_topics.is_empty(), "{:?}", w.subscribed_topics);
    assert_eq!(w.hub.stats().topics, 0);
}

#[test]
fn without_the_key_channels_cannot_be_listed() {
    let mut w = TestHub::new(with_key(Namespaces::default()));
    let c = w.open();
    for words in [&["PUBSUB", "CHANNELS"][..], &["PUBSUB", "NUMPAT"], &["PUBSUB", "NUMSUB", "a"], &["INFO"]] {
        assert_eq!(exchange(&mut w, c, words), "-NOPERM 103 permission denied\r\n", "{words:?}");
    }
    exchange(&mut w, c, &["AUTH", "sesame"]);
    assert_eq!(
        exchange(&mut w, c, &["PUBSUB", "NUMSUB", "a b", "c"]),
        "*4\r\n$3\r\na b\r\n:0\r\n$1\r\nc\r\n:0\r\n"
    );
}

#[test]
fn internal_channels_are_denied_to_redis_clients() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    let denied = "-NOPERM 103 permission denied\r\n";
    assert_eq!(exchange(&mut w, c, &["SUBSCRIBE", "tidings.canary.0"]), denied);
    assert_eq!(exchange(&mut w, c, &["PUBLISH", "tidings.canary.0", "x"]), denied);
}

#[test]
fn connection_commands_have_the_responses_of_redis() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    for (words, response) in [
        (&["CLIENT", "SETINFO", "LIB-NAME", "redis-py"][..], "+OK\r\n"),
        (&["CLIENT", "SETINFO", "FOO", "x"], "-ERR Unrecognized option 'FOO'\r\n"),
        (&["CLIENT", "SETNAME", "me"], "+OK\r\n"),
        (&["CLIENT", "GETNAME"], "$2\r\nme\r\n"),
        (
            &["CLIENT", "SETNAME", "a b"],
            "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        ),
        (&["CLIENT", "FOO"], "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n"),
        (&["CLIENT"], "-ERR wrong number of arguments for 'client' command\r\n"),
        (&["CLIENT", "SETNAME"], "-ERR wrong number of arguments for 'client|setname' command\r\n"),
        (&["HELLO", "4"], "-NOPROTO unsupported protocol version\r\n"),
        (&["HELLO", "x"], "-ERR Protocol version is not an integer or out of range\r\n"),
        (&["HELLO", "2", "FOO"], "-ERR Syntax error in HELLO option 'FOO'\r\n"),
        (&["SELECT", "0"], "+OK\r\n"),
        (&["SELECT", "1"], "-ERR DB index is out of range\r\n"),
        (&["SELECT", "x"], "-ERR value is not an integer or out of range\r\n"),
        (&["ECHO", "hi"], "$2\r\nhi\r\n"),
        (&["ECHO"], "-ERR wrong number of arguments for 'echo' command\r\n"),
        (&["PING", "hi"], "$2\r\nhi\r\n"),
        (&["PING", ""], "$0\r\n\r\n"),
        (&["COMMAND", "NOSUCH"], "-ERR unknown subcommand 'NOSUCH'. Try COMMAND HELP.\r\n"),
        (&["PUBLISH", "x"], "-ERR wrong number of arguments for 'publish' command\r\n"),
        (&["SUBSCRIBE"], "-ERR wrong number of arguments for 'subscribe' command\r\n"),
        (&["GET", "a"], "-ERR unknown command 'GET', with args beginning with: 'a' \r\n"),
        (&["PUBSUB", "NUMPAT"], ":0\r\n"),
        (&["PUBSUB", "NUMSUB", "a"], "*2\r\n$1\r\na\r\n:0\r\n"),
        (&["PUBSUB", "FOO"], "-ERR unknown subcommand 'FOO'. Try PUBSUB HELP.\r\n"),
        (&["COMMAND", "COUNT"], ":21\r\n"),
        (&["INFO"], "$10\r\n# Server\r\n\r\n"),
    ] {
        assert_eq!(exchange(&mut w, c, words), response, "{words:?}");
    }
}

#[test]
fn a_password_is_refused_if_none_is_configured_and_the_api_key_makes_a_backend() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    assert!(
        exchange(&mut w, c, &["AUTH", "x"]).starts_with("-ERR AUTH <password> called without any password")
    );
    assert!(exchange(&mut w, c, &["AUTH", "u", "x"]).starts_with("-WRONGPASS "));
    assert_eq!(
        exchange(&mut w, c, &["AUTH", "default", "any"]),
        "+OK\r\n",
        "Redis' default user has no password"
    );
    let mut w = TestHub::new(with_key(Namespaces::default()));
    let c = w.open();
    assert_eq!(exchange(&mut w, c, &["PUBLISH", "a", "x"]), "-NOPERM 103 permission denied\r\n");
    assert_eq!(exchange(&mut w, c, &["PSUBSCRIBE", "*"]), "-NOPERM 103 permission denied\r\n");
    assert!(exchange(&mut w, c, &["AUTH", "wrong"]).starts_with("-WRONGPASS "));
    assert!(exchange(&mut w, c, &["HELLO", "3", "AUTH", "default", "sesame"]).starts_with("%7"));
    assert_eq!(exchange(&mut w, c, &["PUBLISH", "a", "x"]), ":1\r\n");
}

#[test]
fn invalid_input_ends_the_session_with_the_error_of_redis() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    assert_eq!(w.exchange(c, "*1\r\n+PING\r\n"), "-ERR Protocol error: expected '$', got '+'\r\n");
    assert!(w.closed.contains(&c));
    let c = w.open();
    assert_eq!(
        w.exchange(c, "*2\r\n$4\r\nECHO\r\n$65537\r\n"),
        "-ERR Protocol error: invalid bulk length\r\n"
    );
    let c = w.open();
    let body = "x".repeat(65536);
    assert_eq!(exchange(&mut w, c, &["ECHO", &body]), format!("$65536\r\n{body}\r\n"));
}

#[test]
fn publishes_are_pipelined_and_answered_in_order() {
    let mut w = TestHub::new(settings());
    w.respond_at_once = false;
    let c = w.open();
    let all: String = (0..1500).map(|i| command(&["PUBLISH", "a", &i.to_string()])).collect();
    assert_eq!(w.input(c, &all), Flow::Stop);
    assert_eq!(w.pending_publishes.len(), 1024, "bounded");
    let mut heard = Vec::new();
    while let Some((.., body)) = w.pending_publishes.front().cloned() {
        heard.push(String::from_utf8(body).unwrap().parse::<u32>().unwrap());
        w.respond_next(tidings_hub::Response::Published(u64::from(*heard.last().unwrap())));
    }
    assert!(heard.into_iter().eq(0..1500));
    let expected: String = (0..1500).map(|i| format!(":{i}\r\n")).collect();
    assert_eq!(w.output(c), expected);
}
