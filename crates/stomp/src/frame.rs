//! A frame and its headers.

use std::borrow::Cow;

/// The command of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `CONNECT`.
    Connect,
    /// `STOMP`: as `CONNECT`, with escapes in its headers.
    Stomp,
    /// `SEND`.
    Send,
    /// `SUBSCRIBE`.
    Subscribe,
    /// `UNSUBSCRIBE`.
    Unsubscribe,
    /// `ACK`.
    Ack,
    /// `NACK`.
    Nack,
    /// `BEGIN`.
    Begin,
    /// `COMMIT`.
    Commit,
    /// `ABORT`.
    Abort,
    /// `DISCONNECT`.
    Disconnect,
}

impl Command {
    /// All commands of clients.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::Stomp,
        Self::Send,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Ack,
        Self::Nack,
        Self::Begin,
        Self::Commit,
        Self::Abort,
        Self::Disconnect,
    ];

    /// Its word in a frame.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Stomp => "STOMP",
            Self::Send => "SEND",
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Ack => "ACK",
            Self::Nack => "NACK",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Abort => "ABORT",
            Self::Disconnect => "DISCONNECT",
        }
    }

    /// The command of a word; words are case-sensitive.
    pub(crate) fn from_word(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.as_str().as_bytes() == word)
    }

    /// Whether the headers of its frames contain escapes. Those of `CONNECT` do not, for STOMP 1.0.
    pub(crate) const fn has_escapes(self) -> bool {
        !matches!(self, Self::Connect)
    }

    /// Whether its frames may have a body.
    pub(crate) const fn has_body(self) -> bool {
        matches!(self, Self::Send)
    }
}

/// The headers of a frame, in their order. A name may occur repeatedly; the first occurrence counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a>(pub(crate) Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Headers<'_> {
    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// The headers that count: each name once, in the order of the frame.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_first = |at: usize, name: &str| self.0[..at].iter().all(|(earlier, _)| earlier != name);
        self.0
            .iter()
            .enumerate()
            .filter(move |(at, (name, _))| is_first(*at, name))
            .map(|(_, (name, value))| (&**name, &**value))
    }
}

/// A frame of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its command.
    pub command: Command,
    /// Its headers.
    pub headers: Headers<'a>,
    /// Its body; empty for every command but `SEND`.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}
