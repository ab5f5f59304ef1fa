//! The room of a shared live table: the state that all viewers of a table share, and the values that it exchanges with
//! its task.
//!
//! ```text
//! room/         the state machine: `now` and events in, effects out
//! access.rs     permissions of viewers           failure.rs        errors for users
//! message.rs    messages to viewers              node_messages.rs  messages between nodes
//! broadcast.rs  the shared view, encoded once    outbox.rs         the queue of one viewer
//! page.rs, view_rows.rs  pages and windows         rows.rs           rows that a backend appends
//! upload.rs     handles of uploads               rate.rs           data rates of transfers
//! counters.rs, summary.rs                        for metrics and operators
//! ```
//!
//! Invariants:
//! - The room uses no network, no disk and no clock: a task carries out its effects, and the results return as events.
//!   Pages are computed by the engine, on the threads of the task ([`page`]).
//! - A view is encoded once for all its viewers. A slow viewer receives the newest view and delays no other viewer.
//! - Everything is bounded: queued responses ([`outbox`]), uploads ([`upload`]), private views and the history of a view
//!   (the room).

pub mod access;
pub mod broadcast;
pub mod counters;
pub mod failure;
pub mod message;
pub mod node_messages;
pub mod outbox;
pub mod page;
pub mod rate;
pub mod room;
pub mod rows;
pub mod summary;
pub mod upload;
pub mod view_rows;

use tidings_table_commands::{command, people};
