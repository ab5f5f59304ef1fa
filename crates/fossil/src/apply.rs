//! Applying a delta.

use thiserror::Error;

use crate::{checksum, number};

/// Why a delta cannot be applied.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DeltaError {
    /// It is not in the format.
    #[error("delta is malformed")]
    Malformed,
    /// Its target is longer than the limit.
    #[error("target of a delta has {0} bytes, which is more than the limit")]
    TooLong(u32),
    /// It copies a part that the source does not have.
    #[error("delta copies bytes behind the end of the source")]
    PastSource,
    /// Its copies and literals do not have the length that it states.
    #[error("target of a delta does not have the stated length")]
    WrongLength,
    /// The checksum of the target is another one, so it is a delta for another source.
    #[error("checksum of the target of a delta is wrong")]
    WrongChecksum,
}

/// The target of a delta; at most `limit` bytes.
///
/// # Errors
/// [`DeltaError`].
pub fn apply(source: &[u8], delta: &[u8], limit: usize) -> Result<Vec<u8>, DeltaError> {
    let mut rest = delta;
    let length = number::read(&mut rest).ok_or(DeltaError::Malformed)?;
    expect(&mut rest, b'\n')?;
    if length as usize > limit {
        return Err(DeltaError::TooLong(length));
    }
    // Not reserved at once: a short delta would allocate what it only states.
    let mut target = Vec::new();
    loop {
        let count = number::read(&mut rest).ok_or(DeltaError::Malformed)?;
        let (&command, after) = rest.split_first().ok_or(DeltaError::Malformed)?;
        rest = after;
        if command != b';' && count as usize > length as usize - target.len() {
            return Err(DeltaError::WrongLength);
        }
        match command {
            b'@' => {
                let offset = number::read(&mut rest).ok_or(DeltaError::Malformed)? as usize;
                expect(&mut rest, b',')?;
                let end = offset.checked_add(count as usize).ok_or(DeltaError::PastSource)?;
                target.extend_from_slice(source.get(offset..end).ok_or(DeltaError::PastSource)?);
            }
            b':' => {
                let (text, after) = rest.split_at_checked(count as usize).ok_or(DeltaError::Malformed)?;
                target.extend_from_slice(text);
                rest = after;
            }
            b';' if target.len() != length as usize => return Err(DeltaError::WrongLength),
            b';' if count != checksum(&target) => return Err(DeltaError::WrongChecksum),
            b';' if rest.is_empty() => return Ok(target),
            _ => return Err(DeltaError::Malformed),
        }
    }
}

fn expect(rest: &mut &[u8], byte: u8) -> Result<(), DeltaError> {
    *rest = rest.strip_prefix(&[byte]).ok_or(DeltaError::Malformed)?;
    Ok(())
}
