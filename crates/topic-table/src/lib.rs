//! The topic table: which shards are subscribed to which topics, and which topics the broker has confirmed.
//!
//! Subscribing and publishing meet in this table. Locks have one order: the order of changes, then the broker's own
//! locks, then the table. The table is never locked during a call to the broker.
//!
//! Invariants:
//! - Messages to shards about a topic are posted while the table is locked, so they arrive in the order of the changes.
//!   A publication that follows the confirmation of a topic therefore reaches every shard that got the confirmation.
//! - A topic in the table is subscribed at the broker, or is about to be. A topic that a sweep removes is unsubscribed
//!   at the broker before it can be added again.

mod sync;
mod table;

pub use table::{FEEDS, MAX_SHARDS, Route, SESSIONS, ShardSet, TopicRejection, TopicTable, Topics};
