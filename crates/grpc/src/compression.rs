//! Compression of messages: gzip (RFC 1952), the one that every implementation of gRPC has.
//!
//! The headers `grpc-encoding` and `grpc-accept-encoding` name the compression of a call; a bit in the prefix of each message states
//! whether that message is compressed (gRPC, "Compression").

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::status::{Code, Status};

/// The header with the compression of the messages of a call.
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The header with the compressions that a peer accepts.
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip,identity");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// The compression of the messages of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageEncoding {
    /// No message is compressed.
    #[default]
    Identity,
    /// Messages may be compressed with gzip.
    Gzip,
}

impl MessageEncoding {
    /// The compression that the headers of a call name.
    ///
    /// # Errors
    /// [`Code::Unimplemented`] for one that is not known here.
    pub fn read(headers: &HeaderMap) -> Result<Self, Status> {
        match headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip),
            Some(_) => Err(Status::new(
                Code::Unimplemented,
                "the compression of the messages is not gzip or identity",
            )),
        }
    }

    /// Sets the header, if messages may be compressed.
    pub fn write(self, headers: &mut HeaderMap) {
        if self == Self::Gzip {
            headers.insert(GRPC_ENCODING, GZIP);
        }
    }

    /// Checks that a message may be compressed, if it is.
    ///
    /// # Errors
    /// [`Code::Internal`] for a compressed message in a call without compression.
    pub fn check(self, is_compressed: bool) -> Result<(), Status> {
        if is_compressed && self == Self::Identity {
            return Err(Status::new(Code::Internal, "a message is compressed, and grpc-encoding is missing"));
        }
        Ok(())
    }

    /// The bytes of a message from the content of its frame, of which `is_compressed` is the bit in its prefix.
    ///
    /// # Errors
    /// [`Code::ResourceExhausted`] for more than `most` bytes; [`Code::Internal`] for a compressed message in a call without
    /// compression; [`Code::InvalidArgument`] for bytes that are not gzip.
    pub fn decode(self, content: Bytes, is_compressed: bool, most: usize) -> Result<Bytes, Status> {
        self.check(is_compressed)?;
        if !is_compressed {
            return Ok(content);
        }
        let mut message = Vec::new();
        let bounded = MultiGzDecoder::new(&*content).take((most as u64).saturating_add(1));
        { bounded }
            .read_to_end(&mut message)
            .map_err(|_| Status::new(Code::InvalidArgument, "a message is not gzip"))?;
        if message.len() > most {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("a message is longer than {most} bytes when it is not compressed"),
            ));
        }
        Ok(message.into())
    }
}

/// Sets the header with the compressions that are accepted here.
pub fn write_accepted(headers: &mut HeaderMap) {
    headers.insert(GRPC_ACCEPT_ENCODING, ACCEPTED);
}

/// Compresses a message.
pub fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(message.len() / 4 + 32), Compression::fast());
    encoder.write_all(message).and_then(|()| encoder.finish()).expect("a vector accepts all bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_message_is_bounded_when_it_is_decompressed() {
        let message = vec![b'a'; 1 << 20];
        let content = Bytes::from(gzip(&message));
        assert!(content.len() < 10_000);
        let gzip = MessageEncoding::Gzip;
        assert_eq!(gzip.decode(content.clone(), true, 1 << 20).expect("in the bound"), message);
        let error = gzip.decode(content.clone(), true, (1 << 20) - 1).expect_err("too long");
        assert_eq!(error.code, Code::ResourceExhausted);
        assert_eq!(gzip.decode(content.clone(), false, 1), Ok(content.clone()));
        let error =
            MessageEncoding::Identity.decode(content.clone(), true, 1 << 20).expect_err("no encoding");
        assert_eq!(error.code, Code::Internal);
        for broken in [&b""[..], b"x", &content[..content.len() - 1]] {
            let error = gzip.decode(Bytes::copy_from_slice(broken), true, 1 << 20).expect_err("not gzip");
            assert_eq!(error.code, Code::InvalidArgument);
        }
    }

    #[test]
    fn a_call_names_its_compression() {
        let mut headers = HeaderMap::new();
        assert_eq!(MessageEncoding::read(&headers), Ok(MessageEncoding::Identity));
        MessageEncoding::Gzip.write(&mut headers);
        assert_eq!(MessageEncoding::read(&headers), Ok(MessageEncoding::Gzip));
        headers.insert(GRPC_ENCODING, HeaderValue::from_static("snappy"));
        assert_eq!(MessageEncoding::read(&headers).expect_err("unknown").code, Code::Unimplemented);
    }
}
