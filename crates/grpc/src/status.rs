//! The status of a call, in the trailers `grpc-status` and `grpc-message`.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use thiserror::Error;

/// The trailer with the code.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The trailer with the reason, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Longest reason in a trailer, in bytes before the encoding. Clients limit headers to 8 KiB.
const MAX_MESSAGE: usize = 1_024;

/// The codes (gRPC, "Status codes and their use in gRPC").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of gRPC")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code of an HTTP response that is an error.
    pub fn from_http(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::InvalidArgument,
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::PermissionDenied,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Self::Unimplemented,
            StatusCode::REQUEST_TIMEOUT => Self::DeadlineExceeded,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Self::ResourceExhausted,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Self::Unavailable
            }
            _ => Self::Unknown,
        }
    }
}

/// The status of a call: a code and a reason.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{code:?}: {message}")]
pub struct Status {
    /// The code.
    pub code: Code,
    /// The reason, for the caller; empty for none.
    pub message: String,
}

impl Status {
    /// A status with a reason.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The status of a call that has succeeded.
    pub fn ok() -> Self {
        Self::new(Code::Ok, "")
    }

    /// The trailers.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        self.write(&mut trailers);
        trailers
    }

    /// Sets the trailers, or the headers of a response without a message.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, HeaderValue::from(self.code as u16));
        if !self.message.is_empty() {
            let encoded = HeaderValue::try_from(percent_encode(&self.message));
            headers.insert(GRPC_MESSAGE, encoded.expect("visible ASCII"));
        }
    }

    /// The status in trailers; `None` if they have none. A number that is not a code is [`Code::Unknown`].
    pub fn read(trailers: &HeaderMap) -> Option<Self> {
        let code = trailers.get(GRPC_STATUS)?.to_str().ok().and_then(|code| code.parse::<usize>().ok());
        let code = code.and_then(|code| Code::ALL.get(code).copied()).unwrap_or(Code::Unknown);
        let message =
            trailers.get(GRPC_MESSAGE).map_or_else(String::new, |text| percent_decode(text.as_bytes()));
        Some(Self { code, message })
    }
}

/// Encodes all bytes but visible ASCII and spaces, and `%` itself. Cuts a text of more than [`MAX_MESSAGE`] bytes.
fn percent_encode(text: &str) -> String {
    let end = (0..=text.len().min(MAX_MESSAGE)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let text = &text[..end];
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => {
                let _ = write!(out, "%{byte:02X}");
            }
            byte => out.push(char::from(byte)),
        }
    }
    out
}

/// Decodes a text; what is not encoded correctly stays as it is.
fn percent_decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let decoded = hex.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_with_any_text_survives_its_trailers() {
        for code in Code::ALL {
            for message in ["", "plain", "50 % off\r\nü", "%41", "\u{0}\u{7f}"] {
                let status = Status::new(code, message);
                assert_eq!(Status::read(&status.trailers()), Some(status));
            }
        }
        assert_eq!(Code::ALL.map(|code| code as usize), std::array::from_fn(|index| index));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let long = "ü".repeat(MAX_MESSAGE);
        let read = Status::read(&Status::new(Code::Internal, &long).trailers()).expect("a status");
        assert!(long.starts_with(&read.message) && read.message.len() <= MAX_MESSAGE);
    }

    #[test]
    fn unknown_codes_and_broken_encodings_are_read() {
        let trailers = |status: &'static str, message: &'static str| {
            HeaderMap::from_iter([
                (GRPC_STATUS, HeaderValue::from_static(status)),
                (GRPC_MESSAGE, HeaderValue::from_static(message)),
            ])
        };
        for (status, message, code, text) in [
            ("16", "a%20b", Code::Unauthenticated, "a b"),
            ("17", "100%", Code::Unknown, "100%"),
            ("x", "%zz", Code::Unknown, "%zz"),
        ] {
            assert_eq!(Status::read(&trailers(status, message)), Some(Status::new(code, text)));
        }
        assert_eq!(Status::read(&HeaderMap::new()), None);
    }
}
