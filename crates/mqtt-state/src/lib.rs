//! State of MQTT that outlives connections: the retained message of each topic, and the sessions of clients that are not
//! connected; with a data directory, in files that outlive the process.

mod codec;
mod journal;
mod retained;
mod sessions;
mod storage;

pub use journal::StorageError;
pub use retained::{Limits, Retained, RetainedFull, TooMany, Undo};
pub use sessions::{Outcome, SessionEffects, SessionLimits, Sessions};
pub use storage::Storage;
