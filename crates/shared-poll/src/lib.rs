//! Shared polls: channels whose subscribers track keys. This node requests the values of all tracked keys from the
//! application, in batches and at an interval, and sends each change to the subscribers that track its key.
//!
//! [`Polls`] is the state machine, without I/O and without a clock. [`run`] is the task that has it: it verifies signatures
//! ([`SignatureKeys`]), calls the application, and posts updates to the shards. [`SharedPolls`] passes messages to the task.
//!
//! Invariants:
//! - A key is requested once per interval and node, however many subscribers track it; a key without subscribers is not
//!   requested, and its value is dropped.
//! - A subscriber gets only keys that it tracks, each version at most once, and never an older one after a newer one.
//! - A value that cannot be delivered at once is tried again, with the newest value then; no subscriber stays behind.
//! - While the application fails, subscribers keep the last values, and requests back off.
//! - Values, keys, requests under way and bytes to one subscriber are bounded.

mod channel;
mod counters;
mod delivery;
mod entry;
mod methods;
mod namespace;
mod polls;
mod service;
mod signature;
mod values;

pub use counters::Counters;
pub use delivery::{Batch, Sink, Subscriber, Update, Value, Values};
pub use methods::publication;
pub use namespace::{apply, limits, signature_keys};
pub use polls::{MAX_KEY, Polls, TrackError, TrackedKey};
pub use service::{Application, Mailboxes, PollTask, SharedPolls, run};
pub use signature::{GRACE, SignatureError, SignatureKeys};
pub use values::Published;

/// The time after which values that could not be delivered are tried again, and in which a subscriber gets at most
/// [`Limits::burst`] bytes, in milliseconds.
pub const RETRY: u64 = 100;

/// The bounds of all shared polls of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most requests under way.
    pub requests: usize,
    /// Most bytes of all values.
    pub bytes: usize,
    /// Most bytes of values for one subscriber within [`RETRY`], but always one value.
    pub burst: usize,
}
