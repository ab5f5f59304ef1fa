//! Length-prefixed messages: one byte that marks a compressed message, four bytes of length (big-endian), the message.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::compression::{self, MessageEncoding};
use crate::status::{Code, Status};

/// Bytes before each message.
pub const PREFIX: usize = 5;
/// Shortest message that is compressed, in bytes. gzip adds 18 bytes, and a packet has room for a short message anyway.
const MIN_COMPRESSED: usize = 512;
/// Longest message that is compressed, in bytes: the thread does nothing else meanwhile, for 10 ms at most.
const MAX_COMPRESSED: usize = 1 << 20;

/// What the prefix of a message states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The bytes of the message, as it is sent.
    pub length: usize,
    /// Whether it is compressed.
    pub is_compressed: bool,
}

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

/// A message with its prefix, compressed if `encoding` permits that and the message is not short.
///
/// # Panics
/// As [`write_with`].
pub fn framed(message: &[u8], encoding: MessageEncoding) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX + message.len());
    if encoding == MessageEncoding::Gzip && (MIN_COMPRESSED..=MAX_COMPRESSED).contains(&message.len()) {
        write_with(&mut out, |out| out.extend_from_slice(&compression::gzip(message)));
        out[0] = 1;
    } else {
        write_with(&mut out, |out| out.extend_from_slice(message));
    }
    out
}

/// The message of a body that contains exactly one, in a call with this compression.
///
/// # Errors
/// [`Code::InvalidArgument`] for a body of another shape; those of [`MessageEncoding::decode`].
pub fn single(mut body: Bytes, encoding: MessageEncoding, most: usize) -> Result<Bytes, Status> {
    let announced = read_prefix(&body)?.filter(|announced| announced.length == body.len() - PREFIX);
    let Announced { is_compressed, .. } = announced.ok_or_else(not_single)?;
    body.advance(PREFIX);
    encoding.decode(body, is_compressed, most)
}

/// The status for a body that is not exactly one message.
pub fn not_single() -> Status {
    Status::new(Code::InvalidArgument, "the body is not exactly one message")
}

/// The prefix of the message that begins with these bytes; `None` without a complete one.
///
/// # Errors
/// [`Code::Unimplemented`] for unknown flags, [`Code::ResourceExhausted`] for a message of more than `most` bytes.
pub fn announced(bytes: &[u8], most: usize) -> Result<Option<Announced>, Status> {
    match read_prefix(bytes)? {
        Some(announced) if announced.length > most => {
            Err(Status::new(Code::ResourceExhausted, format!("a message is longer than {most} bytes")))
        }
        announced => Ok(announced),
    }
}

/// Removes the next complete message from a buffer, in a call with this compression; `None` if it is incomplete.
///
/// # Errors
/// As [`announced`]; those of [`MessageEncoding::decode`].
pub fn next(buffer: &mut BytesMut, encoding: MessageEncoding, most: usize) -> Result<Option<Bytes>, Status> {
    let Some(Announced { length, is_compressed }) = announced(buffer, most)? else { return Ok(None) };
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    encoding.decode(buffer.split_to(length).freeze(), is_compressed, most).map(Some)
}

/// A prefix; `None` if it is incomplete.
fn read_prefix(bytes: &[u8]) -> Result<Option<Announced>, Status> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let [flags, length @ ..] = *prefix;
    if flags > 1 {
        return Err(Status::new(Code::Unimplemented, "a message has unknown flags"));
    }
    // The length of a message that the address space cannot hold is above every limit.
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    Ok(Some(Announced { length, is_compressed: flags == 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: MessageEncoding = MessageEncoding::Identity;

    fn framed(message: &[u8]) -> Vec<u8> {
        super::framed(message, PLAIN)
    }

    fn single(body: Bytes) -> Result<Bytes, Status> {
        super::single(body, PLAIN, 10)
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
        assert_eq!(compressed.code, Code::Internal);
        let unknown = single(Bytes::from_static(b"\x02\0\0\0\x01a")).expect_err("unknown flags");
        assert_eq!(unknown.code, Code::Unimplemented);
    }

    #[test]
    fn messages_are_read_one_by_one_within_a_limit() {
        let all = [framed(b"a"), framed(b""), framed(b"bcd")].concat();
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        for byte in all {
            buffer.extend_from_slice(&[byte]);
            read.extend(next(&mut buffer, PLAIN, 3).expect("short messages"));
        }
        assert_eq!(read, [&b"a"[..], b"", b"bcd"]);
        buffer.extend_from_slice(b"\0\0\0\0\x04");
        assert_eq!(next(&mut buffer, PLAIN, 3).expect_err("too long").code, Code::ResourceExhausted);
    }

    #[test]
    fn a_long_message_is_compressed_in_a_call_with_gzip_and_a_short_one_is_not() {
        for (length, is_compressed) in [(0, false), (511, false), (512, true), (100_000, true)] {
            let message = vec![b'a'; length];
            let sent = super::framed(&message, MessageEncoding::Gzip);
            assert_eq!(sent[0] == 1, is_compressed, "{length}");
            let mut buffer = BytesMut::from(&sent[..]);
            let read = next(&mut buffer, MessageEncoding::Gzip, 100_000).expect("a message");
            assert_eq!(read.as_deref(), Some(&message[..]));
            assert_eq!(super::single(sent.into(), MessageEncoding::Gzip, length), Ok(message.into()));
        }
    }
}
