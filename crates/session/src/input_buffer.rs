//! Unused input of a session: an incomplete command, or commands that are held back.

/// Empty, and without memory, unless there is unused input.
#[derive(Debug, Default)]
pub(crate) struct InputBuffer {
    bytes: Vec<u8>,
    /// The first bytes that are known to contain no line break.
    searched: usize,
}

impl InputBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the bytes out; [`InputBuffer::keep`] puts the unused ones back.
    pub(crate) fn take(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.searched))
    }

    /// Keeps all but the first `used` bytes; the first `searched` of the kept bytes contain no line break.
    pub(crate) fn keep(&mut self, mut bytes: Vec<u8>, used: usize, searched: usize) {
        if used == bytes.len() {
            return;
        }
        bytes.drain(..used);
        self.bytes = bytes;
        self.searched = searched;
    }

    /// Keeps a copy of `bytes`; the first `searched` contain no line break.
    pub(crate) fn keep_copy(&mut self, bytes: &[u8], searched: usize) {
        self.bytes = bytes.to_vec();
        self.searched = searched;
    }
}
