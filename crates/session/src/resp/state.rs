//! The state of a RESP session that an idle session does not have.

use tidings_wire::resp::Version;

/// The kept part of a transaction.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// The commands, encoded as clients send them.
    pub(super) commands: Vec<u8>,
    pub(super) count: usize,
    /// A command was rejected: `EXEC` executes none.
    pub(super) refused: bool,
    /// Present after `EXEC`.
    pub(super) execution: Option<Execution>,
}

/// The progress of `EXEC`.
#[derive(Debug, Default)]
pub(super) struct Execution {
    /// Bytes of the executed commands.
    pub(super) done: usize,
    pub(super) replies: Vec<u8>,
}

impl Transaction {
    /// Number of kept bytes.
    pub(crate) fn len(&self) -> usize {
        self.commands.len() + self.execution.as_ref().map_or(0, |execution| execution.replies.len())
    }
}

/// The options of a `HELLO` with a token that is being verified.
#[derive(Debug)]
pub(crate) struct PendingHello {
    pub(super) version: Option<Version>,
    /// The new name of the connection; `Some(None)` removes it.
    pub(super) name: Option<Option<Box<str>>>,
}
