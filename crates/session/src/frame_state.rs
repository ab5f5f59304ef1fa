//! The state of a WebSocket between two reads.

use tidings_wire::ws::Reader;

/// A partial message, or one with commands that are not executed yet.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub(crate) reader: Reader,
    pub(crate) message: Vec<u8>,
    /// Bytes of the executed commands of the message.
    pub(crate) consumed: usize,
    /// The message is complete.
    pub(crate) complete: bool,
    /// Further input is discarded: the client has sent its Close frame, or an invalid frame.
    pub(crate) ended: bool,
}

impl Frames {
    /// Number of kept bytes.
    pub(crate) fn len(&self) -> usize {
        self.message.len()
    }

    /// Whether the message is complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.message.is_empty() && self.reader.is_idle()
    }

    pub(crate) fn clear(&mut self) {
        self.message.clear();
        self.consumed = 0;
        self.complete = false;
    }
}
