//! Why a server could not be used, and whether another attempt may fare better.

use thiserror::Error;
use tidings_wire::code;

/// Why the server could not be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// There is no connection.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Where it was tried.
        address: String,
        /// The operating system's reason.
        why: String,
    },
    /// There is no trust: TLS was not agreed on.
    #[error(
        "no TLS with {address}: {why} (trusted are this machine's certificates, those in SSL_CERT_FILE, or those in the \
         file that --cafile names)"
    )]
    Untrusted {
        /// Where it was tried.
        address: String,
        /// What is wrong with the certificate, or the handshake.
        why: String,
    },
    /// The connection ended.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The server let something wait longer than it may.
    #[error("the server did not answer within {0} s")]
    Silent(u64),
    /// The other side speaks another protocol.
    #[error("the server does not speak {what}: {why}")]
    Protocol {
        /// What was expected of it.
        what: &'static str,
        /// What came instead.
        why: String,
    },
    /// The server said no, in its own words.
    #[error("the server refused {what}: {words}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// Its answer.
        words: String,
        /// Whether it may say yes later.
        temporary: bool,
    },
    /// The server rejects the content; the same content fails again.
    #[error("the server refused {what}: {words}")]
    Unfit {
        /// What was asked of it.
        what: String,
        /// Its answer.
        words: String,
    },
    /// The server ended the connection, and said why.
    #[error("the server ended the connection: {words} (code {code})")]
    Ended {
        /// A number of [`tidings_wire::code`], or of WebSocket's own.
        code: u16,
        /// In words.
        words: String,
    },
    /// More has come than the caller has taken.
    #[error("more than {0} bytes of publications wait to be taken")]
    Behind(usize),
}

impl Error {
    /// Whether the last message or request was too long: WebSocket close code 1009 (RFC 6455 §7.4.1), or status 413 of
    /// HTTP.
    pub fn is_too_long(&self) -> bool {
        match self {
            Self::Ended { code, .. } => *code == 1009,
            Self::Refused { words, .. } => words.starts_with("413"),
            _ => false,
        }
    }

    /// Whether another connection may fare better. A server's own code decides where there is one: from 3500 to
    /// 3999 and from 4500 to 4999 it asks its clients not to come back (the protocol's documentation, "Disconnect
    /// codes"), and a message that is too long (1009) is too long the next time as well.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost(_) | Self::Silent(_) => true,
            Self::Untrusted { .. } | Self::Protocol { .. } | Self::Behind(_) | Self::Unfit { .. } => false,
            Self::Refused { temporary, .. } => *temporary,
            Self::Ended { code, .. } => !matches!(code, 1009 | 3500..=3999 | 4500..=4999),
        }
    }

    /// Whether the content was the reason, so that other content may succeed.
    pub fn is_about_content(&self) -> bool {
        matches!(self, Self::Unfit { .. })
    }

    /// A refusal of `what` with a number and words of the protocol.
    pub(crate) fn refused(what: impl Into<String>, refusal: &crate::ServerError) -> Self {
        let temporary = refusal.temporary || refusal.code == u32::from(code::INTERNAL.number);
        Self::Refused { what: what.into(), words: refusal.to_string(), temporary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_code_decides_whether_to_come_back() {
        let ended = |code| Error::Ended { code, words: String::new() }.may_pass();
        for code in [1000, 1006, 1012, 3000, 3001, 3012, 3499, 4000, 4499] {
            assert!(ended(code), "{code}");
        }
        for code in [1009, 3500, 3503, 3999, 4500, 4999] {
            assert!(!ended(code), "{code}");
        }
    }
}
