//! Connections to Redis: URLs, connections to one server, to the master that Sentinels name and to nodes of a cluster,
//! and times between attempts.
//!
//! Invariants:
//! - No password appears in an error or in a log line.
//! - Each attempt to connect is bounded in time.

pub mod addr;
pub mod dial;
pub mod redirect;
pub mod url;
