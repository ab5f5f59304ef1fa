//! The form of the files: a header, then frames.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

/// The version of the form of the files and of the records in their frames.
const VERSION: u8 = 1;
/// The first bytes of a file, before its version.
const MAGIC: [u8; 7] = *b"tidings";
/// Bytes of the header of a file.
pub(super) const HEADER: usize = MAGIC.len() + 1;
/// Bytes of the head of a frame.
const HEAD: usize = 8;

/// Appends the header of a file.
pub(super) fn write_header(to: &mut impl Write) -> io::Result<u64> {
    let mut header = [VERSION; HEADER];
    header[..MAGIC.len()].copy_from_slice(&MAGIC);
    to.write_all(&header)?;
    Ok(HEADER as u64)
}

/// Appends a frame with this content, which is not empty. Returns its bytes.
pub(super) fn write_frame(content: &[u8], to: &mut impl Write) -> io::Result<u64> {
    let length = u32::try_from(content.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a frame has at most 4 GiB"))?;
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    if content.len() <= 64 * 1024 {
        // One call of the operating system.
        to.write_all(&[&head[..], content].concat())?;
    } else {
        to.write_all(&head)?;
        to.write_all(content)?;
    }
    Ok((HEAD + content.len()) as u64)
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With a frame.
    Complete,
    /// With these bytes of an incomplete frame: the process, or the machine, ended while it was written.
    Incomplete(u64),
    /// With these bytes from the first invalid frame on.
    Damaged(u64),
}

/// Passes the frames of a file to `apply`, which returns whether a frame is valid.
///
/// # Errors
/// The file cannot be read, or has another version.
pub(super) fn read(path: &Path, apply: &mut impl FnMut(&[u8]) -> bool) -> io::Result<End> {
    let file = File::open(path)?;
    let mut left = file.metadata()?.len();
    let mut file = BufReader::new(file);
    if left < HEADER as u64 {
        return Ok(End::Incomplete(left));
    }
    let mut header = [0; HEADER];
    file.read_exact(&mut header)?;
    if !header.starts_with(&MAGIC) {
        return Ok(End::Damaged(left));
    }
    let version = header[MAGIC.len()];
    if version != VERSION {
        let file = path.display();
        let words = format!("{file} has version {version}; this program reads version {VERSION}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    left -= HEADER as u64;
    while left >= HEAD as u64 {
        let mut head = [0; HEAD];
        file.read_exact(&mut head)?;
        let [length, checksum] =
            [0, 4].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        // The file bounds the allocation.
        if u64::from(length) > left - HEAD as u64 {
            break;
        }
        let mut content = vec![0; length as usize];
        file.read_exact(&mut content)?;
        // No frame is empty: zeros, which a loss of power may leave, are none.
        if length == 0 || crc32fast::hash(&content) != checksum || !apply(&content) {
            return Ok(End::Damaged(left));
        }
        left -= HEAD as u64 + u64::from(length);
    }
    Ok(if left == 0 { End::Complete } else { End::Incomplete(left) })
}
