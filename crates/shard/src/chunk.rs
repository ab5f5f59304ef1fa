//! Chunks of an HTTP response (RFC 9112 §7.1).

use std::io::Write as _;

/// Most bytes of a chunk. Several are written at once; only the rest of a partially sent one is kept.
pub(crate) const CHUNK: usize = 4096;
/// The first line of a chunk of the full size.
pub(crate) const FULL_CHUNK: &[u8] = b"1000\r\n";

/// The last chunk, which ends a body.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends bytes of a body. Empty bytes append nothing, because an empty chunk ends the body.
pub(crate) fn append_chunk(bytes: &[u8], chunked: bool, out: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    if !chunked {
        return out.extend_from_slice(bytes);
    }
    out.extend_from_slice(ChunkHeader::default().write(bytes.len()));
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// The first line of a chunk.
#[derive(Default)]
pub(crate) struct ChunkHeader([u8; 18]);

impl ChunkHeader {
    /// The bytes of the line for a chunk of `len` bytes.
    pub(crate) fn write(&mut self, len: usize) -> &[u8] {
        let mut left = &mut self.0[..];
        write!(left, "{len:x}\r\n").expect("sixteen digits at most");
        let used = 18 - left.len();
        &self.0[..used]
    }
}
