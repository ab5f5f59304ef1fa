//! Random cuts: connections are cut, and nodes and Redis are killed and restarted during publications. Every subscriber
//! receives all publications, once, in order, or a report that some are missing.
//!
//! Subscribers recover from their position, as the SDKs do. They connect to any node, over JSON lines or a WebSocket,
//! and are cut without a close a hundred times each.

mod publisher;
mod subscriber;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidings_testkit::{RedisServer, Tidings, free_port};

use publisher::Publisher;
use subscriber::{ReceivedLog, Subscriber};

/// The duration of publishing.
const STORM: Duration = Duration::from_secs(5);
/// Publications a second.
const RATE: u32 = 1_000;

/// A node on fixed ports, so that it has the same addresses after a restart.
struct Node {
    tcp: SocketAddr,
    http: SocketAddr,
    broker: String,
    history: usize,
    program: Option<Tidings>,
}

impl Node {
    fn start(broker: &str, history: usize) -> Self {
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (tcp, http) = (address(), address());
        let mut node = Self { tcp, http, broker: broker.to_owned(), history, program: None };
        node.restart();
        node
    }

    /// Kills the node if it is running, and starts it again.
    fn restart(&mut self) {
        self.program = None;
        let program = Tidings::builder(env!("CARGO_BIN_EXE_tidings"))
            .args(["--tcp", &self.tcp.to_string(), "--http", &self.http.to_string()])
            .args(["--broker", &self.broker])
            .env("TIDINGS_CHANNEL_WITHOUT_NAMESPACE_HISTORY_SIZE", &self.history.to_string())
            .env("TIDINGS_CHANNEL_WITHOUT_NAMESPACE_HISTORY_TTL", "10m");
        self.program = Some(program.start());
    }
}

/// The addresses of a node: the line port, and the HTTP port.
type Addresses = (SocketAddr, SocketAddr);

fn addresses(nodes: &[Node]) -> Vec<Addresses> {
    nodes.iter().map(|node| (node.tcp, node.http)).collect()
}

/// The result of a run.
struct Outcome {
    stories: Vec<ReceivedLog>,
    acknowledged: Vec<u64>,
}

/// Runs subscribers and a publisher during `trouble`, and lets all subscribers catch up at the end.
fn storm(addresses: &[Addresses], subscribers: u64, trouble: impl FnOnce(&dyn Fn() -> bool)) -> Outcome {
    // All subscribers begin before the first publication.
    let calm = Arc::new(AtomicBool::new(true));
    let threads: Vec<_> = (0..subscribers)
        .map(|seed| {
            let subscriber = Subscriber::new(seed, addresses.to_vec(), Arc::clone(&calm));
            thread::spawn(move || subscriber.begin())
        })
        .collect();
    let begun: Vec<Subscriber> = threads.into_iter().map(|t| t.join().expect("it has begun")).collect();
    calm.store(false, Ordering::Relaxed);
    let publisher = Publisher::start(addresses.iter().map(|(tcp, _)| *tcp).collect(), RATE);
    let running: Vec<_> = begun.into_iter().map(|s| thread::spawn(move || s.run())).collect();
    let end = Instant::now() + STORM;
    trouble(&|| Instant::now() < end);
    thread::sleep(end.saturating_duration_since(Instant::now()));
    let acknowledged = publisher.stop();
    // No further cuts: subscribers catch up with a last publication.
    calm.store(true, Ordering::Relaxed);
    let last = publisher::publish_last(&addresses[0].0);
    let stories =
        running.into_iter().map(|t| t.join().expect("a subscriber saw a gap or a double")).collect();
    Outcome { stories, acknowledged: acknowledged.into_iter().chain([last]).collect() }
}

/// Checks that nothing was lost, duplicated or disordered, and that there were enough cuts.
fn expect_everything(outcome: &Outcome, cuts: usize) {
    let Outcome { stories, acknowledged } = outcome;
    let log: &BTreeMap<u64, u64> = &stories[0].seen;
    let first = log.keys().next().copied().expect("publications");
    for (index, story) in stories.iter().enumerate() {
        assert_eq!(story.unrecovered, 0, "subscriber {index}: the history reaches back far enough");
        assert!(story.seen == *log, "subscriber {index} saw something else");
    }
    let offsets: Vec<u64> = log.keys().copied().collect();
    assert_eq!(offsets, (first..first + log.len() as u64).collect::<Vec<_>>(), "no offset is missing");
    let mut numbers: Vec<u64> = log.values().copied().collect();
    assert!(numbers.is_sorted(), "in the order they were published");
    numbers.dedup();
    assert_eq!(numbers.len(), log.len(), "nothing twice");
    for number in acknowledged {
        assert!(numbers.binary_search(number).is_ok(), "{number} was acknowledged and is lost");
    }
    let cut: usize = stories.iter().map(|story| story.cuts).sum();
    assert!(cut >= cuts, "only {cut} cuts");
    assert!(acknowledged.len() > 1_000, "only {} publications", acknowledged.len());
}

#[test]
fn cut_subscribers_of_one_node_receive_everything_once_and_in_order() {
    let nodes = [Node::start("memory", 100_000)];
    let outcome = storm(&addresses(&nodes), 6, |_| {});
    expect_everything(&outcome, 300);
}

#[test]
fn cut_subscribers_of_two_nodes_on_one_redis_receive_everything_once_and_in_order() {
    let redis = RedisServer::start();
    let nodes = [Node::start(&redis.url(), 100_000), Node::start(&redis.url(), 100_000)];
    let outcome = storm(&addresses(&nodes), 6, |_| {});
    expect_everything(&outcome, 300);
}

#[test]
fn connections_to_redis_that_are_killed_lose_nothing() {
    let redis = RedisServer::start();
    let nodes = [Node::start(&redis.url(), 100_000), Node::start(&redis.url(), 100_000)];
    let outcome = storm(&addresses(&nodes), 6, |goes_on| {
        while goes_on() {
            thread::sleep(Duration::from_millis(400));
            redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            thread::sleep(Duration::from_millis(400));
            redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        }
    });
    expect_everything(&outcome, 100);
}

#[test]
fn a_redis_that_is_restarted_with_its_data_loses_nothing() {
    let mut redis = RedisServer::persistent();
    let nodes = [Node::start(&redis.url(), 100_000), Node::start(&redis.url(), 100_000)];
    let outcome = storm(&addresses(&nodes), 4, |goes_on| {
        while goes_on() {
            thread::sleep(Duration::from_millis(1_500));
            redis.restart();
        }
    });
    expect_everything(&outcome, 50);
}

#[test]
fn a_node_that_is_killed_and_started_again_loses_nothing() {
    let redis = RedisServer::start();
    let mut nodes = [Node::start(&redis.url(), 100_000), Node::start(&redis.url(), 100_000)];
    let addresses = addresses(&nodes);
    let outcome = storm(&addresses, 6, |goes_on| {
        while goes_on() {
            thread::sleep(Duration::from_millis(700));
            nodes[1].restart();
        }
    });
    expect_everything(&outcome, 100);
}

#[test]
fn with_a_history_that_is_too_short_every_gap_is_reported() {
    let nodes = [Node::start("memory", 5)];
    let outcome = storm(&addresses(&nodes), 6, |_| {});
    let unrecovered: usize = outcome.stories.iter().map(|story| story.unrecovered).sum();
    let holes: usize = outcome.stories.iter().map(ReceivedLog::holes).sum();
    assert!(unrecovered > 0 && holes > 0, "five publications are gone in five milliseconds");
    for story in &outcome.stories {
        assert!(story.holes() <= story.unrecovered, "a hole was not told");
        assert!(story.seen.values().is_sorted(), "in order");
    }
}
