//! Permissions of viewers on a table.

use tidings_table_commands::command::Command;
use tidings_table_store::Locks;

use crate::failure::Failure;

/// Whether a viewer may execute a command on a table.
///
/// # Errors
/// 403, with the restriction.
pub(super) fn check(is_owner: bool, locks: Locks, command: &Command) -> Result<(), Failure> {
    match command {
        _ if is_owner => Ok(()),
        Command::Lock { .. } | Command::Delete => {
            Err(Failure::new(403, "only the table's owner may do this"))
        }
        // They change nothing for other viewers.
        Command::Me(_) | Command::Cursor(_) | Command::Private(_) => Ok(()),
        Command::Restore | Command::Key(_) if locks.uploads => {
            Err(Failure::new(403, "the owner has locked uploads"))
        }
        _ if locks.view => Err(Failure::new(403, "the owner has locked the view; only they turn its pages")),
        _ => Ok(()),
    }
}
