//! Errors of the client, and whether a retry may succeed.

use std::io;

use thiserror::Error;
use tidings_wire::code;

/// An error of a connection or a request.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// No connection can be established.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// The address.
        address: String,
        /// The operating system's reason.
        why: String,
    },
    /// The TLS handshake failed.
    #[error(
        "no TLS with {address}: {why} (trusted are this machine's certificates, those in SSL_CERT_FILE, or those in the \
         file that --cafile names)"
    )]
    Untrusted {
        /// The address.
        address: String,
        /// The problem with the certificate or the handshake.
        why: String,
    },
    /// The connection ended.
    #[error("connection lost: {0}")]
    Lost(String),
    /// A response or a ping of the server is overdue.
    #[error("the server did not answer within {0} s")]
    Timeout(u64),
    /// The server speaks another protocol.
    #[error("the server does not speak {what}: {why}")]
    Protocol {
        /// The expected protocol.
        what: &'static str,
        /// The difference.
        why: String,
    },
    /// The server rejected the request.
    #[error("the server refused {what}: {text}")]
    Refused {
        /// The request.
        what: String,
        /// The server's text.
        text: String,
        /// Whether the same request may succeed later.
        temporary: bool,
    },
    /// The server rejected the content of the request. The same content would be rejected again.
    #[error("the server refused {what}: {text}")]
    ContentRejected {
        /// The request.
        what: String,
        /// The server's text.
        text: String,
    },
    /// The server closed the connection with a reason.
    #[error("the server ended the connection: {text} (code {code})")]
    Closed {
        /// A number of [`tidings_wire::code`], or a close code of WebSocket.
        code: u16,
        /// The server's text.
        text: String,
    },
    /// Too many publications are queued for the caller.
    #[error("more than {0} bytes of publications are queued")]
    Overflow(usize),
}

impl Error {
    /// Whether the last message or request was too long: WebSocket close code 1009 (RFC 6455 §7.4.1), or HTTP status
    /// 413.
    pub fn is_too_long(&self) -> bool {
        match self {
            Self::Closed { code, .. } => *code == 1009,
            Self::Refused { text, .. } => text.starts_with("413"),
            _ => false,
        }
    }

    /// Whether a new connection may succeed. Where the server sent a code, the code decides: codes from 3500 to 3999
    /// and from 4500 to 4999 forbid reconnecting (the protocol's documentation, "Disconnect codes"), and a message that
    /// was too long (1009) would be too long again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost(_) | Self::Timeout(_) => true,
            Self::Untrusted { .. }
            | Self::Protocol { .. }
            | Self::Overflow(_)
            | Self::ContentRejected { .. } => false,
            Self::Refused { temporary, .. } => *temporary,
            Self::Closed { code, .. } => !matches!(code, 1009 | 3500..=3999 | 4500..=4999),
        }
    }

    /// Whether the error depends on the content, so that other content may succeed.
    pub fn is_content_rejected(&self) -> bool {
        matches!(self, Self::ContentRejected { .. })
    }

    /// The error in a line of plain text, `ERROR CODE TEXT`. A server that refuses a connection at a limit, or while it stops, sends
    /// one before the protocol of the client is known. `None` for any other input, and for an incomplete line.
    pub(crate) fn from_notice(input: &[u8]) -> Option<Self> {
        let line = input.strip_prefix(b"ERROR ")?;
        let end = line.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(&line[..end]);
        let (code, text) = line.trim_end().split_once(' ')?;
        let (code, text) = (code.parse().ok()?, text.to_owned());
        Some(match code {
            3000.. => Self::Closed { code, text },
            _ => {
                let temporary = [code::INTERNAL.number, code::TOO_MANY_REQUESTS.number].contains(&code);
                Self::Refused { what: "the connection".to_owned(), text, temporary }
            }
        })
    }

    /// The rejection of `what` with a code and text of the protocol.
    pub(crate) fn refused(what: impl Into<String>, refusal: &crate::ServerError) -> Self {
        let temporary = refusal.temporary || refusal.code == u32::from(code::INTERNAL.number);
        Self::Refused { what: what.into(), text: refusal.to_string(), temporary }
    }
}

/// The text of an operating system error without its number.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_in_plain_text_has_its_code_and_text() {
        let at_limit = Error::from_notice(b"ERROR 3013 too many requests: a limit\r\n").expect("an error");
        assert_eq!(at_limit, Error::Closed { code: 3013, text: "too many requests: a limit".to_owned() });
        assert!(at_limit.is_retryable());
        let expected = "the server refused the connection: this port expects a PROXY protocol header";
        let header =
            Error::from_notice(b"ERROR 107 this port expects a PROXY protocol header\r\n").expect("an error");
        assert!(header.to_string() == expected && !header.is_retryable(), "{header}");
        for input in [&b"ERROR 3013 cut"[..], b"ERROR x y\r\n", b"HTTP/1.1 400\r\n", b"-ERR no\r\n", b""] {
            assert_eq!(Error::from_notice(input), None);
        }
    }

    #[test]
    fn the_server_s_code_decides_whether_to_reconnect() {
        let ended = |code| Error::Closed { code, text: String::new() }.is_retryable();
        for code in [1000, 1006, 1012, 3000, 3001, 3012, 3499, 4000, 4499] {
            assert!(ended(code), "{code}");
        }
        for code in [1009, 3500, 3503, 3999, 4500, 4999] {
            assert!(!ended(code), "{code}");
        }
    }
}
