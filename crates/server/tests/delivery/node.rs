//! A server in this process with two shards, and its counters.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::TestServer;

/// A running server; stopped when dropped.
pub(crate) struct TestNode(TestServer);

/// Starts a server with these options over the defaults.
pub(crate) fn start_node(options: &[(&str, &str)]) -> TestNode {
    let options: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let all: Vec<&str> = ["shards=2"].into_iter().chain(options.iter().map(String::as_str)).collect();
    TestNode(TestServer::start(&all))
}

/// Starts a server as in part III of the articles: without echo and automatic subscriptions.
pub(crate) fn start_quiet_node(options: &[(&str, &str)]) -> TestNode {
    let mut all = vec![("tcp.echo", "false"), ("tcp.auto_subscribe", "")];
    all.extend_from_slice(options);
    start_node(&all)
}

impl Deref for TestNode {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.0
    }
}

impl TestNode {
    /// The sum of a counter over the shards.
    pub(crate) fn sum(&self, counter: impl Fn(&tidings_shard::Metrics) -> &AtomicU64) -> u64 {
        self.server().shard_metrics().iter().map(|m| counter(m).load(Ordering::Relaxed)).sum()
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.server().process().connections.load(Ordering::Relaxed)
    }

    /// Bytes in all queues.
    pub(crate) fn queued(&self) -> usize {
        self.server().process().queued.load(Ordering::Relaxed)
    }

    /// Stops the server gracefully.
    pub(crate) fn stop(mut self) {
        self.0.stop();
    }
}
