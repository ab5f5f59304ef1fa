//! State of MQTT that outlives connections: the retained message of each topic, and the sessions of clients that are not
//! connected; with a data directory, in files that outlive the process. Retained messages, sessions, and the wills of connections
//! may be at a broker that several servers share instead.

mod codec;
mod journal;
mod retained;
mod sessions;
mod shared_sessions;
mod storage;
mod wills;

pub use journal::StorageError;
pub use retained::{
    Continuation, Limits, ReadResult, Retained, RetainedFull, RetainedReads, RetainedStore, SharedRetained,
    TooMany, Undo,
};
pub use sessions::{Outcome, SessionEffects, SessionLimits, Sessions};
pub use shared_sessions::{SharedError, SharedSessions, WakeSession};
pub use storage::Storage;
pub use wills::{PublishWill, SharedWills};
