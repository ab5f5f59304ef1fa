//! STOMP 1.2 (<https://stomp.github.io/stomp-specification-1.2.html>) without I/O: frames of clients, and frames of a server.
//!
//! A frame is a command line, header lines, an empty line, a body and a NUL. The body ends at the first NUL, unless the
//! frame has a `content-length`. Line ends between frames are heart-beats.
//!
//! Invariants:
//! - [`decode()`] reads a prefix of its input and never panics; the result for a whole frame does not depend on the bytes
//!   behind it.
//! - A header that an encoder writes is escaped, so that no value can end a header, a frame or add one.

mod decode;
mod encode;
mod frame;

pub use decode::{Decoded, Malformed, decode};
pub use encode::{HEART_BEAT, Header, connected, error, message, receipt, shared_message};
pub use frame::{Command, Frame, Headers};

/// The WebSocket sub-protocol of this version (registered with IANA).
pub const SUBPROTOCOL: &str = "v12.stomp";
/// The version in `accept-version` and `version` headers.
pub const VERSION: &str = "1.2";

/// A `heart-beat` header: the shortest time in which the sender sends something, and the time in which it requests
/// something, in milliseconds; 0 means never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeartBeat {
    /// The sender guarantees this interval.
    pub sends: u32,
    /// The sender requests this interval.
    pub expects: u32,
}

impl HeartBeat {
    /// Parses the value of a header, such as `10000,0`.
    ///
    /// # Errors
    /// `None` when it is not two numbers of milliseconds below 2³², separated by a comma.
    pub fn parse(value: &str) -> Option<Self> {
        let (sends, expects) = value.split_once(',')?;
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
            is_number.then(|| digits.parse().ok())?
        };
        Some(Self { sends: number(sends)?, expects: number(expects)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heart_beat_is_two_numbers_of_milliseconds() {
        assert_eq!(HeartBeat::parse("10000,0"), Some(HeartBeat { sends: 10_000, expects: 0 }));
        for wrong in ["", "1", "1,", ",1", "1,2,3", "-1,0", "+1,0", "1, 2", "4294967296,0"] {
            assert_eq!(HeartBeat::parse(wrong), None, "{wrong:?}");
        }
    }
}
