//! The program's own client of a tidings server: where the server is, the connection, the RESP dialect over it,
//! and how long to wait before trying again.
//!
//! It speaks RESP3 to the line port, because bodies are exact bytes there; any server of that dialect will do,
//! Redis itself included. It prints nothing and decides nothing: commands do.
//!
//! Invariants: every wait has a bound; what has been handed to the kernel is never sent a second time.

mod address;
mod backoff;
mod resp;
mod stream;

use clap::Args;
use thiserror::Error;
use tidings_wire::resp::ProtocolError;

pub(crate) use address::{Address, DEFAULT};
pub(crate) use backoff::Backoff;
pub(crate) use resp::Connection;
pub(crate) use stream::{Incoming, Outgoing, open, reason};

/// Which server, and who asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// The server's line port: HOST:PORT, tcp://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL", env = "TIDINGS_SERVER", default_value = DEFAULT)]
    pub(crate) server: Address,

    /// The secret to authenticate with: the server's API key or a connection token
    #[arg(long, value_name = "KEY", env = "TIDINGS_HTTP_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
}

/// Why the server could not be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum ClientError {
    /// There is no connection.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Where it was tried.
        address: Address,
        /// The operating system's reason.
        why: String,
    },
    /// The connection ended.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The server let something wait longer than it may.
    #[error("the server did not answer within {0} s")]
    Silent(u64),
    /// The other side does not speak RESP.
    #[error("the server does not speak RESP: {0}")]
    Protocol(#[from] ProtocolError),
    /// The server said no, in its own words.
    #[error("the server refused {what}: {words}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// Its answer.
        words: String,
    },
}

impl ClientError {
    /// Whether another connection may fare better.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost(_) | Self::Silent(_) => true,
            Self::Protocol(_) => false,
            Self::Refused { words, .. } => is_temporary(words),
        }
    }
}

/// Whether a RESP error names a state of the server that passes: its broker is away, it is loading or
/// overloaded.
fn is_temporary(words: &str) -> bool {
    ["LOADING", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN", "BUSY"].iter().any(|code| words.starts_with(code))
        || words.contains("unavailable")
        || words.contains("overloaded")
}
