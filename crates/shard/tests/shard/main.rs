//! A shard with socket pairs as connections, and a control plane that the tests implement.

mod pipes;
mod test_shard;

use tidings_session::{Request, Response};
use tidings_shard::{Limits, ShardMessage};

use test_shard::{Client, TestShard, limits, topic};
use tidings_testkit::{PATIENCE, wait_until};

/// The number of messages in `ERROR 3008 slow: N messages dropped`.
fn dropped(line: &str) -> usize {
    let number = line.strip_prefix("ERROR 3008 slow: ").and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line:?}"))
}

#[test]
fn a_subscription_is_confirmed_when_its_topic_is_live_and_misses_nothing_afterwards() {
    let shard = TestShard::new(limits());
    let mut client = shard.client();
    client.send("SUBSCRIBE news");
    shard.wait_for_topic("news");
    // Published before the confirmation, so it is not for the client.
    shard.publish("news", "early");
    shard.mailbox.post(ShardMessage::Live(topic("news")));
    assert!(shard.deliver("news", "first"));
    shard.publish("news", "second");
    assert_eq!(client.line(), "CONFIRMED");
    assert_eq!(client.line(), "MESSAGE news first");
    assert_eq!(client.line(), "MESSAGE news second");
    client.send("PING");
    assert_eq!(client.line(), "PONG");
}

#[test]
fn a_response_for_an_earlier_session_of_a_slot_is_discarded() {
    let shard = TestShard::new(limits());
    let mut first = shard.subscriber("news");
    first.send("PUBLISH news hello");
    let (request, late) = shard.request();
    assert!(matches!(request, Request::Publish(..)), "{request:?}");
    // A connection that is closed with unread bytes is reset, so it does not wait for the response.
    shard.publish("news", "unread");
    wait_until(PATIENCE, "a delivery", || shard.deliveries() == 1);
    drop(first);
    wait_until(PATIENCE, "the end of the first connection", || shard.connections() == 0);

    let mut second = shard.client();
    second.send("PUBLISH news again");
    let (_, reply) = shard.request();
    late.send(Response::Published(9));
    second.send("PING");
    reply.send(Response::Published(1));
    assert_eq!(second.line(), "CONFIRMED");
    assert_eq!(second.line(), "PONG");
}

#[test]
fn a_subscriber_that_does_not_read_gets_the_number_of_dropped_messages_and_delays_no_other() {
    let shard = TestShard::new(Limits { queue: 64 << 10, ..limits() });
    let mut slow = shard.subscriber("news");
    let mut fast = shard.subscriber("news");
    let body = "x".repeat(1_000);
    let all = 2_000;
    for number in 0..all {
        shard.publish("news", format!("{number} {body}"));
        assert_eq!(fast.line(), format!("MESSAGE news {number} {body}"));
    }
    let (mut received, mut last) = (0, String::new());
    let mut lost = 0;
    while received + lost < all {
        let line = slow.line();
        if line.starts_with("ERROR") {
            lost += dropped(&line);
        } else {
            received += 1;
            last = line;
        }
    }
    assert!(lost > 0, "the queue was never full");
    assert_eq!(last, format!("MESSAGE news {} {body}", all - 1), "the newest message is kept");
}

#[test]
fn a_slow_subscriber_of_a_channel_that_cuts_is_closed_with_a_code_that_requests_reconnecting() {
    let shard = TestShard::new(Limits { queue: 64 << 10, ..limits() });
    let mut slow = shard.subscriber("cut:news");
    wait_until(PATIENCE, "the subscription in the metrics", || shard.subscriptions() == 1);
    let body = "x".repeat(1_000);
    let mut number = 0;
    wait_until(PATIENCE, "the end of the slow subscription", || {
        shard.publish("cut:news", format!("{number} {body}"));
        number += 1;
        shard.subscriptions() == 0
    });
    let mut last = String::new();
    loop {
        match slow.line() {
            line if line.is_empty() => break,
            line => last = line,
        }
    }
    assert!(last.starts_with("ERROR 3008 "), "{last:?}");
}

#[test]
fn publications_beyond_the_bound_of_a_mailbox_are_reported_to_their_subscribers() {
    let shard = TestShard::new(Limits { mailbox: 64 << 10, ..limits() });
    let mut client = shard.subscriber("news");
    let mut other = shard.subscriber("quiet");
    let body = "x".repeat(1_000);
    let mut full = 0;
    // The shard may take publications out meanwhile, so the number that fits is not known.
    while full == 0 {
        full += (0..1_000).filter(|_| !shard.deliver("news", body.clone())).count();
    }
    shard.mailbox.wake();
    loop {
        let line = client.line();
        if line.starts_with("ERROR") {
            full -= dropped(&line);
            if full == 0 {
                break;
            }
        } else {
            assert_eq!(line, format!("MESSAGE news {body}"));
        }
    }
    shard.publish("quiet", "still here");
    assert_eq!(other.line(), "MESSAGE quiet still here");
}

#[test]
fn rebalancing_moves_the_oldest_clients_first() {
    let shard = TestShard::new(Limits { move_age: std::time::Duration::ZERO, ..limits() });
    let connect = || {
        let mut client = shard.client();
        client.send(r#"{"id":1,"connect":{}}"#);
        assert!(client.line().contains("connect"));
        client
    };
    let first = connect();
    let mut clients = vec![connect(), connect(), connect()];
    drop(first);
    wait_until(PATIENCE, "a free slot", || shard.connections() == 3);
    // The youngest client is in the first slot.
    clients.push(connect());
    let ping = |client: &mut Client| {
        client.send(r#"{"id":2,"ping":{}}"#);
        client.line()
    };
    let moved = || shard.metrics.rebalanced.load(std::sync::atomic::Ordering::Relaxed);
    wait_until(PATIENCE, "clients to be moved", || {
        if moved() == 0 {
            let over = std::time::Duration::from_millis(1);
            shard.mailbox.post(ShardMessage::Rebalance(2, over));
        }
        // After this answer the shard has read its mailbox.
        ping(&mut clients[3]);
        moved() == 2
    });
    for client in &mut clients[..2] {
        let line = client.line();
        assert!(line.contains("3011"), "{line:?}");
    }
    for client in &mut clients[2..] {
        let line = ping(client);
        assert!(line.contains("ping"), "{line:?}");
    }
}

#[test]
fn a_drain_requests_every_client_to_reconnect_and_closes_it() {
    let shard = TestShard::new(limits());
    let mut clients = [shard.subscriber("news"), shard.client()];
    clients[1].send("PING");
    assert_eq!(clients[1].line(), "PONG");
    shard.mailbox.post(ShardMessage::Drain(std::time::Duration::from_millis(50)));
    for client in &mut clients {
        let notice = client.line();
        assert!(notice.starts_with("ERROR 3001 shutdown"), "{notice:?}");
        assert_eq!(client.line(), "", "the connection is closed");
    }
    wait_until(PATIENCE, "no connection", || shard.connections() == 0);
}
