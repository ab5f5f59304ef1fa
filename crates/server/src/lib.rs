//! The control plane: everything that waits for something else, and the joining of the parts.
//!
//! [`Server::start`] binds what the configuration names, starts the shards and the broker, and serves HTTP;
//! [`Server::stop`] drains. The library never touches signals, the environment or standard output: the binary
//! does.
//!
//! Invariants:
//! - Nothing is bound before the whole configuration has been checked.
//! - The router is the one place where topics, shards and the broker meet; no lock of its is held over a call to
//!   the broker but the one that puts those calls in order.
//! - `/ready` says 200 only while everything in use is seen to work through the broker: see the canary.

mod api;
mod auth_failures;
mod authority;
mod blocklist;
mod canary;
mod cluster;
mod http;
mod interest;
mod listen;
mod node;
mod proxy;
mod random;
mod router;
mod server;
mod settings;
mod summary;
mod sync;
mod tables;
mod tls;

pub use node::{Node, NotReady, Readiness};
pub use server::{Server, ShutdownProgress, StartError};
pub use tidings_auth as auth;
pub use tidings_config as config;
pub use tidings_outbound::TlsError;
pub use tls::MaterialError;
