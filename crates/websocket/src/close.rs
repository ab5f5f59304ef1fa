//! Reasons for closing a WebSocket (RFC 6455 §7.4).

use crate::Control;

/// The code and the reason of a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close(pub(crate) Control);

impl Close {
    /// The code; `None` if the frame has none.
    pub fn code(&self) -> Option<CloseCode> {
        self.0.first_chunk().map(|code| CloseCode(u16::from_be_bytes(*code)))
    }

    /// The reason; may be empty.
    pub fn reason(&self) -> &str {
        // Checked when it was read.
        self.0.get(2..).and_then(|reason| std::str::from_utf8(reason).ok()).unwrap_or_default()
    }
}

/// The code of a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The server stops, or the client leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// The peer sent an unsupported kind of message.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Text was not UTF-8.
    pub const INVALID: Self = Self(1007);
    /// The peer broke a rule without a code of its own.
    pub const POLICY: Self = Self(1008);
    /// A message was longer than allowed.
    pub const TOO_BIG: Self = Self(1009);
    /// An internal error.
    pub const INTERNAL: Self = Self(1011);

    /// Whether a close frame may contain it: a code that the RFC or its registry defines for that, or a code of
    /// libraries (from 3000) or applications (from 4000).
    pub const fn is_allowed(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_codes_are_not_allowed_in_close_frames() {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4999]
        {
            assert!(CloseCode(code).is_allowed(), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!CloseCode(code).is_allowed(), "{code}");
        }
    }
}
