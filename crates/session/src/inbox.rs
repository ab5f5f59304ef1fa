//! Bytes that were read and not used yet: the beginning of a command, or commands held back.

/// Empty, and without memory, whenever everything read was used.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// How many of them are known to hold no line break.
    searched: usize,
}

impl Inbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes everything out; [`Inbox::keep`] brings back what stays.
    pub(crate) fn take(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.searched))
    }

    /// Keeps all but the first `used` bytes of `bytes`; `searched` of what is kept hold no line break.
    pub(crate) fn keep(&mut self, mut bytes: Vec<u8>, used: usize, searched: usize) {
        if used == bytes.len() {
            return;
        }
        bytes.drain(..used);
        self.bytes = bytes;
        self.searched = searched;
    }

    /// Keeps a copy of `bytes`, of which `searched` hold no line break.
    pub(crate) fn keep_copy(&mut self, bytes: &[u8], searched: usize) {
        self.bytes = bytes.to_vec();
        self.searched = searched;
    }
}
