//! The sessions of MQTT in Redis: the source of the functions that the broker loads with its library, and their names.
//!
//! The functions match publications with the subscriptions of all sessions, and keep the messages of each session. Their
//! arguments and answers are described in `sessions.lua`; an answer is a list of texts.

mod messages;

pub use messages::{QueuedEntry, entries};

/// The source of the functions, which follows that of the broker's library and uses its helpers.
pub const SOURCE: &str = include_str!("sessions.lua");

/// A function for the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// A client connects.
    Open,
    /// A connection changes its session.
    Steps,
    /// A connection reads the messages of its session.
    Read,
    /// A connection has ended.
    Close,
    /// Adds a publication to the sessions that get it.
    Append,
    /// Renews the lease of a node, and ends sessions that have expired.
    Sweep,
}
