//! Length-prefixed messages: one byte that marks a compressed message, four bytes of length (big-endian), the message.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::status::{Code, Status};

/// Bytes before each message.
pub const PREFIX: usize = 5;

/// Appends a message; `write` appends its bytes.
///
/// # Panics
/// If the message is longer than 4 GiB.
pub fn write_with(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    write(out);
    let length = u32::try_from(out.len() - begin - PREFIX).expect("a message of less than 4 GiB");
    out[begin + 1..begin + PREFIX].copy_from_slice(&length.to_be_bytes());
}

/// The message of a body that contains exactly one.
///
/// # Errors
/// [`Code::Unimplemented`] for a compressed message, [`Code::InvalidArgument`] for a body of another shape.
pub fn single(mut body: Bytes) -> Result<Bytes, Status> {
    let length = length(&body)?.filter(|length| *length == body.len() - PREFIX);
    if length.is_none() {
        return Err(not_single());
    }
    body.advance(PREFIX);
    Ok(body)
}

/// The status for a body that is not exactly one message.
pub fn not_single() -> Status {
    Status::new(Code::InvalidArgument, "the body is not exactly one message")
}

/// The length of the message that begins with these bytes; `None` without its complete prefix.
///
/// # Errors
/// [`Code::Unimplemented`] for a compressed message, [`Code::ResourceExhausted`] for one of more than `most` bytes.
pub fn announced(bytes: &[u8], most: usize) -> Result<Option<usize>, Status> {
    match length(bytes)? {
        Some(length) if length > most => {
            Err(Status::new(Code::ResourceExhausted, format!("a message is longer than {most} bytes")))
        }
        length => Ok(length),
    }
}

/// Removes the next complete message from a buffer; `None` if it is incomplete.
///
/// # Errors
/// As [`announced`].
pub fn next(buffer: &mut BytesMut, most: usize) -> Result<Option<Bytes>, Status> {
    let Some(length) = announced(buffer, most)? else { return Ok(None) };
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The length in a prefix; `None` without a complete one.
fn length(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let [flags, length @ ..] = *prefix;
    if flags != 0 {
        return Err(Status::new(Code::Unimplemented, "compressed messages are not supported"));
    }
    // The length of a message that the address space cannot hold is above every limit.
    Ok(Some(usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_with(&mut out, |out| out.extend_from_slice(message));
        out
    }

    #[test]
    fn a_message_has_its_length_before_it() {
        assert_eq!(framed(b"abc"), b"\0\0\0\0\x03abc");
        assert_eq!(framed(b""), b"\0\0\0\0\0");
    }

    #[test]
    fn a_body_with_anything_but_one_message_is_refused() {
        assert_eq!(single(framed(b"abc").into()), Ok(Bytes::from_static(b"abc")));
        assert_eq!(single(framed(b"").into()), Ok(Bytes::new()));
        for wrong in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab", b"\0\0\0\0\0\0\0\0\0\0"] {
            let status = single(Bytes::copy_from_slice(wrong)).expect_err("no message");
            assert_eq!(status.code, Code::InvalidArgument, "{wrong:?}");
        }
        let compressed = single(Bytes::from_static(b"\x01\0\0\0\x01a")).expect_err("compressed");
        assert_eq!(compressed.code, Code::Unimplemented);
    }

    #[test]
    fn messages_are_read_one_by_one_within_a_limit() {
        let all = [framed(b"a"), framed(b""), framed(b"bcd")].concat();
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        for byte in all {
            buffer.extend_from_slice(&[byte]);
            read.extend(next(&mut buffer, 3).expect("short messages"));
        }
        assert_eq!(read, [&b"a"[..], b"", b"bcd"]);
        buffer.extend_from_slice(b"\0\0\0\0\x04");
        assert_eq!(next(&mut buffer, 3).expect_err("too long").code, Code::ResourceExhausted);
    }
}
