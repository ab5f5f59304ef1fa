//! RESP: `MULTI` and `EXEC`.

use crate::test_hub::{Broker, TestHub, part_three, settings};
use tidings_hub::{Flow, Settings, Slot};
use tidings_session::ProtocolSettings;
use tidings_session::Response;

fn command(words: &[&str]) -> String {
    let bulks: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{bulks}", words.len())
}

fn all(commands: &[&[&str]]) -> String {
    commands.iter().map(|words| command(words)).collect()
}

fn exchange(w: &mut TestHub, slot: Slot, words: &[&str]) -> String {
    w.exchange(slot, command(words))
}

#[test]
fn no_command_is_executed_before_exec_and_the_replies_are_one_array() {
    let mut w = TestHub::new(settings());
    let (c, listener) = (w.open(), w.open());
    exchange(&mut w, listener, &["SUBSCRIBE", "news"]);
    w.output(listener);
    assert_eq!(exchange(&mut w, c, &["MULTI"]), "+OK\r\n");
    assert_eq!(exchange(&mut w, c, &["PUBLISH", "news", "1"]), "+QUEUED\r\n");
    assert_eq!(exchange(&mut w, c, &["PING"]), "+QUEUED\r\n");
    assert_eq!(exchange(&mut w, c, &["PUBLISH", "news", "2\r\n"]), "+QUEUED\r\n");
    assert_eq!(w.output(listener), "");
    assert_eq!(exchange(&mut w, c, &["EXEC"]), "*3\r\n:1\r\n+PONG\r\n:1\r\n");
    assert!(w.output(listener).ends_with("$4\r\nnews\r\n$3\r\n2\r\n\r\n"));
    assert_eq!(exchange(&mut w, c, &["PING"]), "+PONG\r\n");
    assert_eq!(w.hub.protocols.stats().input_bytes, 0);
}

#[test]
fn delayed_replies_keep_their_order_and_commands_after_exec_wait() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    w.respond_at_once = false;
    let c = w.open();
    let pipeline = all(&[
        &["MULTI"],
        &["PUBLISH", "a", "1"],
        &["PING"],
        &["PUBLISH", "a", "2"],
        &["EXEC"],
        &["ECHO", "x"],
    ]);
    assert_eq!(w.input(c, pipeline), Flow::Stop);
    assert_eq!(w.output(c), "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    w.respond_next(Response::Published(7));
    assert_eq!(w.output(c), "");
    w.respond_next(Response::Published(8));
    assert_eq!(w.output(c), "*3\r\n:7\r\n+PONG\r\n:8\r\n$1\r\nx\r\n");
    assert_eq!(w.hub.protocols.stats().input_bytes, 0);
}

#[test]
fn a_publication_during_a_transaction_is_not_inside_the_array() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    exchange(&mut w, c, &["HELLO", "3"]);
    exchange(&mut w, c, &["SUBSCRIBE", "news"]);
    w.output(c);
    exchange(&mut w, c, &["MULTI"]);
    exchange(&mut w, c, &["PING"]);
    exchange(&mut w, c, &["PUBLISH", "news", "x"]);
    let push = ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n";
    assert_eq!(exchange(&mut w, c, &["EXEC"]), format!("{push}*2\r\n+PONG\r\n:1\r\n"));
}

#[test]
fn exec_executes_nothing_after_a_refused_command() {
    let mut w = TestHub::new(settings());
    let (c, listener) = (w.open(), w.open());
    exchange(&mut w, listener, &["SUBSCRIBE", "news"]);
    w.output(listener);
    for bad in [&["NOSUCH"][..], &["PUBLISH", "one"], &["CLIENT", "NOSUCH"], &["PUBSUB", "NUMPAT", "x"]] {
        exchange(&mut w, c, &["MULTI"]);
        assert_eq!(exchange(&mut w, c, &["PUBLISH", "news", "1"]), "+QUEUED\r\n");
        assert!(exchange(&mut w, c, bad).starts_with("-ERR "), "{bad:?}");
        assert_eq!(exchange(&mut w, c, &["PUBLISH", "news", "2"]), "+QUEUED\r\n");
        let exec = exchange(&mut w, c, &["EXEC"]);
        assert_eq!(exec, "-EXECABORT Transaction discarded because of previous errors.\r\n");
        assert_eq!(exchange(&mut w, c, &["EXEC"]), "-ERR EXEC without MULTI\r\n");
    }
    assert_eq!(w.output(listener), "");
    assert_eq!(w.hub.protocols.stats().input_bytes, 0);
}

#[test]
fn an_error_during_exec_is_an_element_of_the_array() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    let c = w.open();
    exchange(&mut w, c, &["MULTI"]);
    exchange(&mut w, c, &["PUBLISH", "", "x"]);
    exchange(&mut w, c, &["PING"]);
    w.set_broker(Broker::Down);
    exchange(&mut w, c, &["PUBLISH", "news", "x"]);
    let replies = exchange(&mut w, c, &["EXEC"]);
    assert!(replies.starts_with("*3\r\n-ERR 107 channel name is empty\r\n+PONG\r\n-ERR 100 "), "{replies}");
}

#[test]
fn a_subscription_in_a_transaction_stays_after_exec() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    w.broker = Broker::Slow;
    let c = w.open();
    w.input(c, all(&[&["MULTI"], &["SUBSCRIBE", "a", "b"], &["PING"], &["EXEC"]]));
    assert_eq!(w.output(c), "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    w.set_broker(Broker::Up);
    let subscribed =
        |name: &str, count: u32| format!("*3\r\n$9\r\nsubscribe\r\n$1\r\n{name}\r\n:{count}\r\n");
    let pong = "*2\r\n$4\r\npong\r\n$0\r\n\r\n";
    assert_eq!(w.output(c), format!("*2\r\n{}{}{pong}", subscribed("a", 1), subscribed("b", 2)));
    w.publish("a", "x");
    assert_eq!(w.output(c), "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n");
}

#[test]
fn a_transaction_has_bounds_in_commands_and_in_bytes() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    exchange(&mut w, c, &["MULTI"]);
    let ping = command(&["PING"]).repeat(16_384);
    w.input(c, ping);
    assert!(w.output(c).ends_with("+QUEUED\r\n"));
    assert_eq!(exchange(&mut w, c, &["PING"]), "-ERR transaction longer than 16384 commands\r\n");
    assert!(exchange(&mut w, c, &["EXEC"]).starts_with("-EXECABORT "));
    assert_eq!(w.hub.protocols.stats().input_bytes, 0);

    let mut w = TestHub::new(Settings { recovery_bytes: 1000, ..settings() });
    let c = w.open();
    exchange(&mut w, c, &["MULTI"]);
    assert_eq!(exchange(&mut w, c, &["ECHO", &"x".repeat(900)]), "+QUEUED\r\n");
    let excess = exchange(&mut w, c, &["ECHO", &"x".repeat(100)]);
    assert_eq!(excess, "-ERR transaction longer than 1000 bytes (client.queue_max_size)\r\n");
    assert!(exchange(&mut w, c, &["EXEC"]).starts_with("-EXECABORT "));
    // Short commands can have long replies.
    exchange(&mut w, c, &["MULTI"]);
    for _ in 0..10 {
        exchange(&mut w, c, &["HELLO"]);
    }
    let ended = "-ERR replies of a transaction longer than 1000 bytes (client.queue_max_size)\r\n";
    assert_eq!(exchange(&mut w, c, &["EXEC"]), ended);
    assert!(w.closed.contains(&c));
    w.close(c);
    assert_eq!(w.hub.protocols.stats().input_bytes, 0);
}

#[test]
fn transactions_of_all_clients_stay_within_the_input_limit() {
    let mut w = TestHub::with_protocols(
        settings(),
        ProtocolSettings { input_limit: 10_000, ..ProtocolSettings::workbench() },
    );
    let (a, b) = (w.open(), w.open());
    for c in [a, b] {
        exchange(&mut w, c, &["MULTI"]);
        exchange(&mut w, c, &["ECHO", &"x".repeat(4_000)]);
    }
    w.output(b);
    assert_eq!(exchange(&mut w, b, &["ECHO", &"x".repeat(4_000)]), "-ERR 3013 too many requests\r\n");
    assert!(w.closed.contains(&b));
    w.close(b);
    assert!(w.hub.protocols.stats().input_bytes < 5_000);
    assert_eq!(exchange(&mut w, a, &["DISCARD"]), "+OK\r\n");
    assert_eq!(w.hub.protocols.stats().input_bytes, 0);
}
