//! The control plane, and the assembly of all parts.
//!
//! [`Server::start`] binds the configured listeners, or uses listeners that are bound already ([`Server::start_with`]), starts
//! the shards and the broker, and serves HTTP. [`Server::stop`] drains. The library does not touch signals, the environment or
//! standard output; the binary does.
//!
//! Invariants:
//! - No listener is bound before the whole configuration has been checked.
//! - Each part is constructed complete, after the parts that it uses (`server/assembly.rs`). No part is set later, and no
//!   object gives access to all others.
//! - Topics, shards and the broker meet in the topic table. Of its locks, only the one that orders calls to the broker is
//!   held over such a call.
//! - `/ready` is 200 only while the canary observes that everything in use works through the broker.

mod admin;
mod api;
mod authority;
mod blocklist_sync;
mod connections;
mod consumers;
mod control;
mod http;
mod inbound;
mod info;
mod internal;
mod lifecycle;
mod line_handshakes;
mod listen;
mod local_node;
mod log_summary;
mod mqtt_sessions;
mod mqtt_storage;
mod mqtt_sys;
mod namespace_metrics;
mod process;
mod pusher;
mod random;
mod readiness;
mod rebalance;
mod reload;
mod router;
mod server;
mod shards;
mod start_log;
mod tables;
mod webhooks;

pub use listen::{PassedListener, PassedListeners};
pub use readiness::{NotReady, Readiness};
pub use reload::ProcessOptions;
pub use server::{Server, ShutdownProgress, StartError};
pub use tidings_outbound::TlsError;
pub use tidings_reload::{ReloadError, ReloadReport, Reloadable};
pub use tidings_tls::MaterialError;
