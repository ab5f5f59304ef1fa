//! Queries of the page to nodes, and the responses. Nodes exchange them as JSON.
//!
//! Nodes of different versions run side by side during a rolling update: unknown fields are skipped, and a query of an
//! unknown kind gets `null`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most rows in a response.
pub const MAX_ROWS: usize = 200;
/// Most names of channels of one connection.
pub const MAX_NAMES: usize = 200;

/// A query to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeQuery {
    /// The state of the node, with samples of its rates.
    Overview {
        /// Only samples after this time, in Unix seconds.
        after: u64,
    },
    /// Connections of the node.
    Connections(ConnectionsQuery),
    /// Channels with subscribers on the node.
    Channels(ChannelsQuery),
    /// The last warnings and errors in the log.
    Log {},
    /// Tables that are open on the node.
    Tables {},
    /// Tables in the store of the node, open or not.
    StoredTables(StoredTablesQuery),
}

/// Which connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionsQuery {
    /// The user.
    pub user: Option<String>,
    /// The client id.
    pub client: Option<String>,
    /// Text in the user, client id, address, transport or protocol.
    pub text: Option<String>,
    /// A channel that the client is subscribed to.
    pub channel: Option<String>,
    /// A filter that the labels pass, in the form of filters by tags.
    pub label_filter: Option<Value>,
    /// Only connections with queued bytes, the longest queues first.
    pub queued: bool,
    /// Where to continue on each node, by its uid; other nodes begin with their first connection.
    pub cursors: std::collections::BTreeMap<String, Cursor>,
    /// Most connections.
    pub limit: usize,
    /// Most names of channels for each connection.
    pub names: usize,
}

/// The place of a connection on a node: its shard and slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor(pub u32, pub u32);

/// Connections of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionsReport {
    /// The connections.
    pub connections: Vec<ConnectionRow>,
    /// Where the next page begins; `None` after the last connection.
    pub next: Option<Cursor>,
}

/// A connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionRow {
    /// The client id.
    pub client: String,
    /// Its place.
    pub at: Option<Cursor>,
    /// The user; empty for an anonymous client.
    pub user: String,
    /// The address of the client, if it is known.
    pub address: Option<String>,
    /// The transport.
    pub transport: String,
    /// The protocol.
    pub protocol: String,
    /// Whether the client is a backend with the API key.
    pub backend: bool,
    /// When it began, in Unix seconds.
    pub since: u64,
    /// Bytes in its queue.
    pub queued: u64,
    /// Received bytes, as the kernel counts them.
    pub received: Option<u64>,
    /// Sent bytes that the client has acknowledged, as the kernel counts them.
    pub sent: Option<u64>,
    /// Round-trip time in seconds, as the kernel measures it.
    pub rtt: Option<f64>,
    /// The number of subscriptions.
    pub subscriptions: u64,
    /// The labels, by name.
    pub labels: Vec<(String, String)>,
    /// Names of channels.
    pub channels: Vec<String>,
}

/// Which channels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelsQuery {
    /// A glob, or text in the name.
    pub text: String,
    /// Only this channel.
    pub name: Option<String>,
    /// Only channels after this name.
    pub after: String,
    /// Most channels.
    pub limit: usize,
}

/// Channels of a node, in the order of their names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChannelsReport {
    /// The first channels, with their numbers of subscribers.
    pub channels: Vec<(String, u64)>,
    /// The number of channels of the node that meet the condition, on all pages.
    pub total: u64,
}

/// The state of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overview {
    /// The version of the program.
    pub version: String,
    /// Seconds since the start.
    pub uptime: u64,
    /// Whether the node should get new clients.
    pub ready: bool,
    /// The failing part, and the reason, of a node that is not ready.
    pub not_ready: Option<(String, String)>,
    /// The kind of broker.
    pub broker: String,
    /// Why the broker is unavailable.
    pub broker_down: Option<String>,
    /// Connections of clients.
    pub connections: u64,
    /// Connections by protocol; only those that exist.
    pub protocols: Vec<(String, u64)>,
    /// Users of these connections.
    pub users: u64,
    /// Subscriptions of these connections.
    pub subscriptions: u64,
    /// Channels with subscribers.
    pub channels: u64,
    /// Resident memory in bytes, if it is known.
    pub memory: Option<u64>,
    /// Open files, and the most that may be open.
    pub files: (Option<u64>, Option<u64>),
    /// Bytes in the queues of all connections.
    pub queued: u64,
    /// Connections with queued bytes.
    pub stalled: u64,
    /// Stored tables, and the size of their files in bytes.
    pub tables: (u64, u64),
    /// Warnings and errors in the log since the start.
    pub warnings: (u64, u64),
    /// Rates of the last minutes.
    pub samples: Vec<Sample>,
}

/// Rates at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The end of the interval, in Unix seconds; a multiple of [`crate::SAMPLE_INTERVAL`].
    pub at: u64,
    /// Publications for clients of the node, per second.
    pub publications: f64,
    /// Deliveries to its clients, per second.
    pub deliveries: f64,
    /// Connections.
    pub connections: u64,
    /// Connections that were closed because they read too slowly, per second.
    pub cut: f64,
    /// Cores in use.
    pub cpu: f64,
    /// The time of a publication through the broker, in seconds, as the canary measures it.
    pub lag: f64,
}

/// A line of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written, in Unix milliseconds.
    pub at: u64,
    /// `WARN` or `ERROR`.
    pub level: String,
    /// The part of the program.
    pub target: String,
    /// The text with its fields.
    pub text: String,
}

/// Which stored tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredTablesQuery {
    /// Only tables with an id after this one; empty for the first page.
    pub after: String,
    /// Most tables.
    pub limit: usize,
}

/// Stored tables of a node, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredTablesReport {
    /// The first tables.
    pub tables: Vec<StoredTableRow>,
    /// The id after which the next page of the node begins; `None` after the last table.
    pub next: Option<String>,
    /// Why the node has listed none.
    pub error: Option<String>,
}

/// A stored table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredTableRow {
    /// The id.
    pub id: String,
    /// The name of its file; `None` if its record cannot be read.
    pub name: Option<String>,
    /// The size of its files in bytes, as `tables.max_total` counts it.
    pub size: u64,
    /// Its last use, in Unix seconds.
    pub used: Option<u64>,
}

/// An open table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableRow {
    /// The id.
    pub id: String,
    /// The name of its file.
    pub name: String,
    /// The size of its file in bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// Viewers on the node.
    pub viewers: u64,
    /// Whether the table has not responded in time: only its id is known.
    pub is_unresponsive: bool,
}
