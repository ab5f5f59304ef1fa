//! Channels that are maps: a state of keys with values, and the stream of the changes of that state.
//!
//! A [`Maps`] has the maps of a set of channels. Every change of a key gets the next offset of its channel, is added to
//! the stream, and is returned as a [`Publication`](tidings_wire::Publication) for the subscribers. A client reads the
//! state in pages, then the stream after the position of its first page; from then on it receives the changes.
//! This crate has no clock and no lock: each call takes the time. With Redis, `broker/src/redis/maps.lua` does the same for a map; a test
//! compares both (`broker/tests/all/maps_model.rs`).
//!
//! Invariants:
//! - The pages of a state, read one after the other while it changes, and then the stream after the position of the first
//!   page, give the state: a key that does not change is in exactly one page, and every change is in the stream.
//! - The publications of the stream have consecutive offsets, the last of which is the position of the channel; a stream
//!   that had to drop publications reports positions before them as unrecoverable.
//! - A key that has expired is removed by a change as any other.
//! - Every stored byte is reserved in the [`Budget`] and released with its owner.

mod budget;
mod change;
mod cursor;
mod map;
mod maps;
mod state;
mod stream;

pub use budget::Budget;
pub use change::{Applied, KeyChange, KeyMode, MapError, MapOptions, SetKey, Suppression, Version};
pub use cursor::Cursor;
pub use maps::Maps;
pub use state::{StatePage, StateQuery};

/// Longest key in bytes.
pub const MAX_KEY_BYTES: usize = 255;
/// Most keys that expire in one step of a channel.
pub const EXPIRY_BATCH: usize = 1_000;
