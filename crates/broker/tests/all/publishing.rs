//! Every publication completes exactly once, in bounded memory, whatever happens to the connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidings_broker::redis::{Options, Redis};
use tidings_broker::{Broker, BrokerError, Published};
use tidings_testkit::{PATIENCE, Proxy, RedisServer, wait_until};
use tidings_wire::Channel;

use crate::node::{Node, channel, impatient};

/// The number of a publication and its outcome.
type Outcome = (usize, Result<Published, BrokerError>);

/// The outcomes of many publications.
#[derive(Default)]
struct Outcomes(Arc<Mutex<Vec<Outcome>>>);

impl Outcomes {
    fn publish(&self, broker: &Redis, number: usize, body: &[u8]) {
        let outcomes = Arc::clone(&self.0);
        let done = Box::new(move |outcome| outcomes.lock().unwrap().push((number, outcome)));
        broker.publish(&Channel::new("a").unwrap(), Bytes::copy_from_slice(body), done);
    }

    fn wait(&self, count: usize) -> Vec<Outcome> {
        wait_until(PATIENCE, "every outcome", || self.0.lock().unwrap().len() >= count);
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn a_publication_is_answered_with_the_receivers_that_redis_counted() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    assert_eq!(node.publish("a", b"hi"), Ok(Published { receivers: 0, ..Published::default() }));
    node.subscribe(&channel("a"));
    let mut other = redis.client();
    other.command(&["SUBSCRIBE", "a"]);
    assert_eq!(node.publish("a", b"hi"), Ok(Published { receivers: 2, ..Published::default() }));
    assert_eq!(other.reply().texts(), ["message", "a", "hi"]);
}

#[test]
fn waiting_publications_are_sent_together_and_in_order() {
    const COUNT: usize = 5_000;
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let mut subscriber = redis.client();
    subscriber.command(&["SUBSCRIBE", "a"]);
    let outcomes = Outcomes::default();
    for number in 0..COUNT {
        outcomes.publish(&node.broker, number, number.to_string().as_bytes());
    }
    for number in 0..COUNT {
        assert_eq!(subscriber.reply().texts(), ["message", "a", &number.to_string()]);
    }
    let expected = (0..COUNT).map(|number| (number, Ok(Published { receivers: 1, ..Published::default() })));
    assert!(outcomes.wait(COUNT).into_iter().eq(expected));
}

#[test]
fn publications_beyond_the_budget_are_overloaded_and_those_in_flight_unavailable() {
    const COUNT: usize = 200;
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.addr());
    let options = Options { publish_budget: 64 * 1024, ..impatient(format!("redis://{}", proxy.addr())) };
    let node = Node::connected(options);
    proxy.black_hole();
    let outcomes = Outcomes::default();
    for number in 0..COUNT {
        outcomes.publish(&node.broker, number, &[b'x'; 1024]);
    }
    let waiting = node.broker.counters().bytes_waiting.load(Ordering::Relaxed);
    assert!(waiting <= 64 * 1024, "{waiting} bytes wait");
    let mut all = outcomes.wait(COUNT);
    all.sort_by_key(|(number, _)| *number);
    assert!(all.iter().map(|(number, _)| *number).eq(0..COUNT), "each exactly once");
    let count = |error: BrokerError| all.iter().filter(|(_, outcome)| *outcome == Err(error.clone())).count();
    let (overloaded, unavailable) = (count(BrokerError::Overloaded), count(BrokerError::Unavailable));
    assert_eq!(overloaded + unavailable, COUNT);
    assert!((40..64).contains(&unavailable), "{unavailable} fit the budget");
    assert_eq!(node.broker.counters().bytes_waiting.load(Ordering::Relaxed), 0);
    proxy.resume();
    node.wait_until_it_publishes();
}

#[test]
fn a_lost_connection_causes_no_repeated_publication() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.addr());
    let node = Node::connected(impatient(format!("redis://{}", proxy.addr())));
    let mut subscriber = redis.client();
    subscriber.command(&["SUBSCRIBE", "a"]);
    let outcomes = Outcomes::default();
    let mut sent = 0;
    for _ in 0..5 {
        for _ in 0..300 {
            outcomes.publish(&node.broker, sent, sent.to_string().as_bytes());
            sent += 1;
        }
        proxy.cut();
        wait_until(PATIENCE, "a connection to publish on", || {
            outcomes.publish(&node.broker, sent, sent.to_string().as_bytes());
            sent += 1;
            matches!(outcomes.wait(sent).last(), Some((_, Ok(_))))
        });
    }
    outcomes.publish(&node.broker, sent, b"last");
    let all = outcomes.wait(sent + 1);
    assert_eq!(all.len(), sent + 1);
    let mut received = Vec::new();
    loop {
        let body = subscriber.reply().texts()[2].clone();
        if body == "last" {
            break;
        }
        received.push(body.parse::<usize>().unwrap());
    }
    assert!(received.is_sorted_by(|a, b| a < b), "in order, none twice");
    for (number, outcome) in &all[..sent] {
        if outcome.is_ok() {
            assert!(received.binary_search(number).is_ok(), "{number} was answered as published");
        }
    }
}

#[test]
fn waiting_publications_complete_when_the_runtime_or_the_broker_ends() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.addr());
    let node = Node::connected(Options::new(format!("redis://{}", proxy.addr())));
    proxy.black_hole();
    let outcomes = Outcomes::default();
    for number in 0..1_000 {
        outcomes.publish(&node.broker, number, b"waiting");
    }
    let (broker, _sink) = node.stop_runtime();
    assert_eq!(outcomes.wait(1_000).len(), 1_000);
    outcomes.publish(&broker, 1_000, b"too late");
    drop(broker);
    let all = outcomes.wait(1_001);
    assert!(all.iter().all(|(_, outcome)| *outcome == Err(BrokerError::Unavailable)));
    assert_eq!(all.len(), 1_001);
}

#[test]
fn a_callback_may_publish() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let reported = Arc::new(AtomicUsize::new(0));
    let (broker, count) = (Arc::clone(&node.broker), Arc::clone(&reported));
    let name = Channel::new("a").unwrap();
    let again = name.clone();
    let done = Box::new(move |_| {
        let inner = Box::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        broker.publish(&again, Bytes::from_static(b"second"), inner);
    });
    node.broker.publish(&name, Bytes::from_static(b"first"), done);
    wait_until(PATIENCE, "the second outcome", || reported.load(Ordering::SeqCst) == 1);
}
