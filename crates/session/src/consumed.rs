//! The result of parsing and executing input.

/// The result of executing the commands in some bytes.
pub(crate) struct Consumed {
    /// Number of consumed bytes.
    pub(crate) used: usize,
    pub(crate) stop: StopReason,
}

/// Why execution stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The remaining bytes are an incomplete command, or there are none.
    Partial,
    /// The next command must wait for responses to earlier ones.
    Hold,
    /// The session has ended.
    End,
}
