//! The control plane: everything that waits for something else, and the joining of the parts.
//!
//! [`Server::start`] binds what the configuration names, starts the shards and the broker, and serves HTTP;
//! [`Server::stop`] drains. The library never touches signals, the environment or standard output: the binary
//! does.
//!
//! Invariants:
//! - Nothing is bound before the whole configuration has been checked.
//! - Parts are constructed complete, each after those that it uses (`server/assembly.rs`): no part is set later, and no
//!   object gives access to all others.
//! - The interest table is where topics, shards and the broker meet; of its locks only the one that orders calls to the
//!   broker is held over such a call.
//! - `/ready` says 200 only while everything in use is seen to work through the broker: see the canary.

mod api;
mod auth_failures;
mod authority;
mod blocking;
mod broker_metrics;
mod canary;
mod control;
mod http;
mod inbound;
mod info;
mod interest;
mod internal;
mod lifecycle;
mod line_handshakes;
mod listen;
mod local_node;
mod process;
mod random;
mod readiness;
mod router;
mod server;
mod settings;
mod shards;
mod summary;
mod sync;
mod tables;

pub use readiness::{NotReady, Readiness};
pub use server::{Server, ShutdownProgress, StartError};
pub use tidings_outbound::TlsError;
pub use tidings_tls::MaterialError;
