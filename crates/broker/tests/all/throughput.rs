//! Measures publications with a history through Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tidings_broker::redis::Options;
use tidings_broker::{BrokerError, PublishOptions, Published, Stateful};
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::node::{Node, history_of, name};

/// `cargo test --release -p tidings-broker throughput -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, for a quiet machine and an optimized build"]
fn publishing_with_history() {
    const COUNT: usize = 300_000;
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let cpu = || {
        let info = redis.cli(&["INFO", "cpu"]).text();
        let field = |key: &str| -> f64 {
            info.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().parse().unwrap()
        };
        field("used_cpu_sys:") + field("used_cpu_user:")
    };
    for (what, history) in [("plain", None), ("with history", Some(history_of(100)))] {
        let settled = Arc::new(AtomicUsize::new(0));
        let (began, before) = (Instant::now(), cpu());
        for sent in 0..COUNT {
            wait_until(PATIENCE, "room", || sent - settled.load(Ordering::Relaxed) < 2_048);
            let count = Arc::clone(&settled);
            let done = move |outcome: Result<Published, BrokerError>| {
                outcome.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            };
            let options = PublishOptions { history, ..PublishOptions::default() };
            node.broker.publish_with(&name("a"), vec![b'x'; 100].into(), options, Box::new(done));
        }
        wait_until(PATIENCE, "the last", || settled.load(Ordering::Relaxed) == COUNT);
        let (time, cpu) = (began.elapsed().as_secs_f64(), cpu() - before);
        println!(
            "{what}: {:.0}/s; Redis {:.1} us of CPU each",
            COUNT as f64 / time,
            cpu / COUNT as f64 * 1e6
        );
    }
}
