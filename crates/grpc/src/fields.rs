//! The fields of a message one by one, without the memory of the decoded message.
//!
//! A repeated field of two bytes can take kilobytes when it is decoded, so a bound on its number is checked here first.

use bytes::{Buf as _, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::status::{Code, Status};

/// Calls `visit` with the bytes of each field `tag` of a message, which is a text, bytes or a message. Other fields are skipped.
///
/// # Errors
/// [`Code::InvalidArgument`] for bytes that are not a message; the first error of `visit`.
pub fn visit(
    mut message: Bytes,
    tag: u32,
    mut visit: impl FnMut(Bytes) -> Result<(), Status>,
) -> Result<(), Status> {
    while message.has_remaining() {
        let (found, wire_type) = decode_key(&mut message).map_err(|error| malformed(&error))?;
        if found == tag && wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut message).map_err(|error| malformed(&error))?;
            let length = usize::try_from(length).ok().filter(|length| *length <= message.len());
            let length = length.ok_or_else(|| {
                Status::new(Code::InvalidArgument, "a field is longer than the message that contains it")
            })?;
            visit(message.split_to(length))?;
        } else {
            skip_field(wire_type, found, &mut message, DecodeContext::default())
                .map_err(|error| malformed(&error))?;
        }
    }
    Ok(())
}

fn malformed(error: &DecodeError) -> Status {
    Status::new(Code::InvalidArgument, format!("the message cannot be decoded: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(message: &'static [u8]) -> Result<Vec<Bytes>, Code> {
        let mut found = Vec::new();
        let visited = visit(Bytes::from_static(message), 1, |field| {
            found.push(field);
            Ok(())
        });
        visited.map(|()| found).map_err(|status| status.code)
    }

    #[test]
    fn fields_are_visited_in_their_order_and_others_are_skipped() {
        assert_eq!(fields(b""), Ok(vec![]));
        let all = fields(b"\x0a\x01a\x10\x05\x0a\x00\x1a\x02xy\x0a\x01b").expect("a message");
        assert_eq!(all, [&b"a"[..], b"", b"b"]);
        // The same number with another type is another field.
        assert_eq!(fields(b"\x08\x01"), Ok(vec![]));
    }

    #[test]
    fn bytes_that_are_no_message_are_invalid() {
        for wrong in
            [&b"\xff"[..], b"\x0a", b"\x0a\x02a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x10"]
        {
            assert_eq!(fields(wrong), Err(Code::InvalidArgument), "{wrong:?}");
        }
        let refused = visit(Bytes::from_static(b"\x0a\0\xff"), 1, |_| Err(Status::new(Code::Aborted, "no")));
        assert_eq!(refused.expect_err("an error").code, Code::Aborted);
    }
}
