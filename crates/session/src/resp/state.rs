//! The state of a RESP session that an idle session does not have.

use tidings_wire::resp::{Decoder, Version};

/// What a RESP session keeps between commands.
#[derive(Debug, Default)]
pub(crate) struct Resp {
    pub(super) decoder: Decoder,
    /// The name of the connection (`CLIENT SETNAME`).
    pub(super) name: Option<Box<str>>,
    /// The transaction (`MULTI`).
    pub(crate) transaction: Option<Box<Transaction>>,
    /// The `HELLO` with a token that is being verified.
    pub(super) pending_hello: Option<Box<PendingHello>>,
}

impl Resp {
    /// Whether it is the default. A decoder has a position only in kept input, for which the state lives anyway.
    pub(crate) fn is_empty(&self) -> bool {
        self.name.is_none() && self.transaction.is_none() && self.pending_hello.is_none()
    }
}

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
