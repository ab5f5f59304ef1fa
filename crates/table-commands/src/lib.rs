//! Messages of viewers of shared tables: commands and their checks, and the people that messages are about.
//!
//! ```text
//! command.rs    text messages as commands      private.rs                the message that replaces a private view
//! checks.rs     checks of their values         condition.rs, pattern.rs  checks of filters and searches
//! people.rs     names, colours, cursors        layout.rs                 checks of the layout of columns
//! ```
//!
//! The crate uses the types of the engine and the record of a table, and no room, socket or clock.
//!
//! Invariant: a command that was parsed is within the limits of its values; whether its columns exist depends on the file,
//! and is checked by the room.

pub mod checks;
pub mod command;
mod condition;
mod layout;
mod pattern;
pub mod people;
pub mod private;

use tidings_table_group::InvalidGroup;
use tidings_table_store::InvalidDialect;

/// A message that is no valid command. The text says what is wrong and what is expected.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidCommand(pub String);

impl InvalidCommand {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<InvalidGroup> for InvalidCommand {
    fn from(error: InvalidGroup) -> Self {
        Self(error.0)
    }
}

impl From<InvalidDialect> for InvalidCommand {
    fn from(error: InvalidDialect) -> Self {
        Self(error.to_string())
    }
}
