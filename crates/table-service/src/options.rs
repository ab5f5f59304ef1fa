//! The options of the service. Messages to users name them as the server's configuration does (`tables.max_size`, …).

use std::time::Duration;

use tidings_table_store::StoreOptions;

/// The configuration of tables, except permissions and quotas, which [`crate::Access`] decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store.
    pub store: StoreOptions,
    /// The largest file, in received bytes (`tables.max_size`).
    pub max_size: u64,
    /// The largest ratio of decompressed to compressed bytes of a file (`tables.max_unpack_ratio`).
    pub max_unpack_ratio: u64,
    /// The lowest rate of a transfer while other transfers wait, in bytes per second (`tables.min_data_rate`).
    pub min_data_rate: u64,
    /// The longest pause of an upload (`tables.upload_timeout`).
    pub upload_timeout: Duration,
    /// The time for which a replaced file can be restored (`tables.keep_previous`).
    pub keep_previous: Duration,
    /// Whether downloads of views disarm formulas (`tables.disarm_formulas`).
    pub disarm_formulas: bool,
    /// The interval of pings to a viewer (`client.ping_interval`).
    pub ping_interval: Duration,
    /// The timeout of the response to a ping (`client.pong_timeout`).
    pub pong_timeout: Duration,
}
