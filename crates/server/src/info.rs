//! The response to RESP's `INFO`, in the format of Redis: sections of `key:value` lines, so that clients of Redis can
//! parse it. Fields without a counterpart in this server are omitted.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::lifecycle::Lifecycle;
use crate::process;
use crate::router::Router;
use crate::shards::Shards;

/// This server implements the Pub/Sub commands of this version of Redis. Clients choose their commands by it.
const REDIS_VERSION: &str = "7.2.0";

/// The sources of the response to `INFO`.
pub(crate) struct ServerInfo {
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) router: Arc<Router>,
}

impl ServerInfo {
    /// The text of `INFO`. Called on shard threads: it does not block.
    pub(crate) fn text(&self) -> String {
        let uptime = self.lifecycle.uptime().as_secs();
        let (channels, patterns) = self.router.subscribed_counts();
        let mut out = Sections(String::with_capacity(512));

        out.section("Server");
        out.field("redis_version", REDIS_VERSION);
        out.field("tidings_version", env!("CARGO_PKG_VERSION"));
        out.field("redis_mode", "standalone");
        out.field("os", std::env::consts::OS);
        out.field("arch_bits", usize::BITS);
        out.field("process_id", std::process::id());
        out.field("uptime_in_seconds", uptime);
        out.field("uptime_in_days", uptime / (24 * 60 * 60));

        out.section("Clients");
        out.field("connected_clients", self.shards.connections());

        if let Some(bytes) = process::resident_bytes() {
            out.section("Memory");
            out.field("used_memory_rss", bytes);
        }

        out.section("Stats");
        out.field("total_connections_received", self.shards.sum(|m| &m.accepted));
        out.field("rejected_connections", self.shards.sum(|m| &m.refused));
        out.field("total_net_input_bytes", self.shards.sum(|m| &m.bytes_in));
        out.field("total_net_output_bytes", self.shards.sum(|m| &m.bytes_out));
        out.field("pubsub_channels", channels);
        out.field("pubsub_patterns", patterns);

        out.section("Replication");
        out.field("role", "master");
        out.field("connected_slaves", 0);
        out.0
    }
}

struct Sections(String);

impl Sections {
    fn section(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\r\n" };
        let _ = write!(self.0, "{gap}# {name}\r\n");
    }

    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }
}
