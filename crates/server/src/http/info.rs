//! The text of RESP's `INFO`, in the form of Redis: sections of `key:value` lines, so that clients which parse Redis'
//! answer parse this one. It says what is known here and leaves out the rest.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_shard::Metrics;

use super::process;
use crate::node::Node;

/// The version of Redis whose Pub/Sub commands this server answers like; clients decide by it what they may use.
const LIKE_REDIS: &str = "7.2.0";

/// The text of `INFO`. Called on shard threads: it waits for nothing.
pub(crate) fn info(node: &Node) -> String {
    let sum = |which: fn(&Metrics) -> &AtomicU64| -> u64 {
        node.shards.iter().map(|shard| which(shard).load(Ordering::Relaxed)).sum()
    };
    let uptime = node.began.elapsed().as_secs();
    let (channels, patterns) = node.router.subscribed();
    let mut out = Info(String::with_capacity(512));

    out.section("Server");
    out.field("redis_version", LIKE_REDIS);
    out.field("tidings_version", env!("CARGO_PKG_VERSION"));
    out.field("redis_mode", "standalone");
    out.field("os", std::env::consts::OS);
    out.field("arch_bits", usize::BITS);
    out.field("process_id", std::process::id());
    out.field("uptime_in_seconds", uptime);
    out.field("uptime_in_days", uptime / (24 * 60 * 60));

    out.section("Clients");
    out.field("connected_clients", node.process.connections.load(Ordering::Relaxed));

    if let Some(bytes) = process::resident_bytes() {
        out.section("Memory");
        out.field("used_memory_rss", bytes);
    }

    out.section("Stats");
    out.field("total_connections_received", sum(|m| &m.accepted));
    out.field("rejected_connections", sum(|m| &m.refused));
    out.field("total_net_input_bytes", sum(|m| &m.bytes_in));
    out.field("total_net_output_bytes", sum(|m| &m.bytes_out));
    out.field("pubsub_channels", channels);
    out.field("pubsub_patterns", patterns);

    out.section("Replication");
    out.field("role", "master");
    out.field("connected_slaves", 0);
    out.0
}

struct Info(String);

impl Info {
    fn section(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\r\n" };
        let _ = write!(self.0, "{gap}# {name}\r\n");
    }

    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }
}
