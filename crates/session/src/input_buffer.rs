//! Unused input of a session: an incomplete command, or commands that are held back.

/// Without memory, unless there is unused input.
#[derive(Debug, Default)]
pub(crate) struct InputBuffer(Option<Box<Unused>>);

#[derive(Debug)]
struct Unused {
    bytes: Vec<u8>,
    /// The first bytes that are known to contain no line break.
    searched: usize,
}

impl InputBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |unused| unused.bytes.len())
    }

    /// Takes the bytes out, with the number of bytes that contain no line break; [`InputBuffer::keep`] puts the unused ones
    /// back.
    pub(crate) fn take(&mut self) -> Option<(Vec<u8>, usize)> {
        self.0.take().map(|unused| (unused.bytes, unused.searched))
    }

    /// Keeps all but the first `used` bytes; the first `searched` of the kept bytes contain no line break.
    pub(crate) fn keep(&mut self, mut bytes: Vec<u8>, used: usize, searched: usize) {
        bytes.drain(..used);
        self.set(bytes, searched);
    }

    /// Keeps a copy of `bytes`; the first `searched` contain no line break.
    pub(crate) fn keep_copy(&mut self, bytes: &[u8], searched: usize) {
        self.set(bytes.to_vec(), searched);
    }

    fn set(&mut self, bytes: Vec<u8>, searched: usize) {
        self.0 = if bytes.is_empty() { None } else { Some(Box::new(Unused { bytes, searched })) };
    }
}
