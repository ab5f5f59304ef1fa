//! Layers between a connection and its socket that wrap written bytes.

use std::io::{self, IoSlice};

/// A socket that wraps written bytes: in chunks, or in TLS records.
pub(crate) trait WriteLayer {
    /// Writes bytes from the start of the slices; returns the number of accepted bytes: sent ones, and those that are
    /// kept to complete a chunk or record. Only zero means that the socket accepts no more.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes as many bytes as the socket accepts; may be none.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.write(&[IoSlice::new(&bytes[taken..])])? {
                0 => break,
                n => taken += n,
            }
        }
        Ok(taken)
    }

    /// Writes bytes of several slices; possibly fewer than the socket accepts.
    ///
    /// # Errors
    /// As for a socket: "would block" if nothing is accepted.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.write(slices)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}
