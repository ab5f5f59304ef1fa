//! Publishes numbers at a steady rate through the nodes in turn, and records which were acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidings_testkit::{PATIENCE, Reply, RespClient};

/// The channel of the publications.
pub(crate) const CHANNEL: &str = "storm";
/// Numbers from here on mark the last publication.
pub(crate) const LAST: u64 = 1_000_000_000;

pub(crate) struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl Publisher {
    pub(crate) fn start(nodes: Vec<SocketAddr>, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || publish(&nodes, rate, &stopped));
        Self { stop, thread }
    }

    /// Stops publishing. Returns the acknowledged numbers.
    pub(crate) fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the publisher")
    }
}

fn publish(nodes: &[SocketAddr], rate: u32, stop: &AtomicBool) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    let began = Instant::now();
    let mut client: Option<RespClient> = None;
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        // Each number is used once: a number without an acknowledgement may have been published.
        number += 1;
        let due = Duration::from_secs(number) / rate;
        thread::sleep(due.saturating_sub(began.elapsed()));
        let node = nodes[usize::try_from(number / 100).expect("small") % nodes.len()];
        if number.is_multiple_of(100) {
            client = None;
        }
        if client.is_none() {
            client = RespClient::try_connect(node).ok();
        }
        let Some(connection) = &mut client else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let sent = connection.try_send(&["PUBLISH", CHANNEL, &number.to_string()]);
        match sent.and_then(|()| connection.try_reply()) {
            Ok(Reply::Int(_)) => acknowledged.push(number),
            // The broker is unavailable.
            Ok(_) => thread::sleep(Duration::from_millis(5)),
            Err(_) => client = None,
        }
    }
    acknowledged
}

/// Publishes the last number until it is acknowledged.
pub(crate) fn publish_last(node: &SocketAddr) -> u64 {
    let end = Instant::now() + PATIENCE;
    for number in LAST.. {
        assert!(Instant::now() < end, "the last publication is not taken");
        if let Ok(mut client) = RespClient::try_connect(node) {
            let sent = client.try_send(&["PUBLISH", CHANNEL, &number.to_string()]);
            if let Ok(Reply::Int(_)) = sent.and_then(|()| client.try_reply()) {
                return number;
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    unreachable!("the deadline comes first")
}
