//! Output to stdout.

use std::io::{self, Write as _};

use crate::failure::Failure;

/// Writes all of `text` to stdout.
///
/// # Errors
/// See [`Failure::stdout`].
pub(crate) fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}
