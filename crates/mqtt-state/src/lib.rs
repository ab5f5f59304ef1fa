//! State of MQTT that outlives connections: the retained message of each topic, and the sessions of clients that are not
//! connected.

mod retained;
mod sessions;

pub use retained::{Limits, Retained, RetainedFull, TooMany, Undo};
pub use sessions::{Outcome, SessionEffects, SessionLimits, Sessions};
