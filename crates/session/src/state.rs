//! The protocol's part of a session: a link and flags, and state that exists only while the session is not idle.

use tidings_hub::{LossReport, ServerSubscription};
use tidings_wire::body::DataFormat;
use tidings_wire::client::Encoding;
use tidings_wire::plain::telnet::Telnet;
use tidings_wire::resp::Decoder;
use tidings_wire::{Channel, Form, Publication};

use crate::frames::Frames;
use crate::input_buffer::InputBuffer;
use crate::link::Link;
use crate::resp::{PendingHello, Transaction};
use crate::stomp::Stomp;

/// A boolean of a session's protocol.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum PeerFlag {
    /// The automatic subscriptions wait for the first byte.
    AutoSubscribePending = 1,
    /// The first plain line was received.
    FirstLineReceived = 1 << 1,
    /// The last plain line ended in `\r`: a `\n` that follows belongs to it.
    AfterCarriageReturn = 1 << 2,
    /// The stream of plain events is open.
    StreamOpen = 1 << 3,
}

/// The link of a session and the flags of its protocol; two bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// Framing, protocol and direction.
    pub link: Link,
    flags: u8,
}

impl Peer {
    pub(crate) fn has(self, flag: PeerFlag) -> bool {
        self.flags & flag as u8 != 0
    }

    /// Sets or clears a flag; returns its previous value.
    pub(crate) fn set(&mut self, flag: PeerFlag, on: bool) -> bool {
        let before = self.has(flag);
        self.flags = if on { self.flags | flag as u8 } else { self.flags & !(flag as u8) };
        before
    }
}

impl From<Link> for Peer {
    fn from(link: Link) -> Self {
        Self { link, flags: 0 }
    }
}

impl tidings_hub::Peer for Peer {
    fn form(self) -> Form {
        self.link.form()
    }

    fn name(self) -> &'static str {
        self.link.name()
    }

    fn encoding(self) -> Encoding {
        self.link.encoding()
    }

    fn publication_len(self, publication: &Publication, format: DataFormat) -> usize {
        self.link.encoding().publication_len(publication, format)
    }

    fn loss_report(self) -> LossReport {
        (self.link.protocol().module().loss_report)(self.link)
    }

    fn server_subscription(self, channel: &Channel) -> ServerSubscription {
        (self.link.protocol().module().server_subscription)(channel)
    }

    fn has_connect(self) -> bool {
        self.link.protocol().module().has_connect
    }

    fn answers_pings(self) -> bool {
        self.link.protocol().module().answers_pings && !self.link.is_one_way()
    }
}

/// State of the protocol that an idle session does not have.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) input_buffer: InputBuffer,
    pub(crate) decoder: Decoder,
    /// The name of the connection (`CLIENT SETNAME`).
    pub(crate) name: Option<Box<str>>,
    /// The transaction of RESP (`MULTI`).
    pub(crate) transaction: Option<Box<Transaction>>,
    /// The position in a telnet sequence at the end of the input.
    pub(crate) telnet: Telnet,
    /// The `HELLO` with a token that is being verified.
    pub(crate) pending_hello: Option<Box<PendingHello>>,
    /// A partial WebSocket message, or one with commands that are not executed yet.
    pub(crate) frames: Option<Box<Frames>>,
    /// The state of a STOMP session.
    pub(crate) stomp: Option<Box<Stomp>>,
}

impl State {
    /// Bytes of unused input.
    pub(crate) fn kept(&self) -> usize {
        let transaction = self.transaction.as_ref().map_or(0, |transaction| transaction.len());
        let stomp = self.stomp.as_ref().map_or(0, |stomp| stomp.kept());
        self.input_buffer.len() + self.frames.as_ref().map_or(0, |frames| frames.len()) + transaction + stomp
    }

    /// Keeps a copy of unused input; the first `searched` bytes contain no line break.
    pub(crate) fn keep(&mut self, bytes: &[u8], searched: usize) {
        self.input_buffer.keep_copy(bytes, searched);
    }
}

impl tidings_hub::State for State {
    fn is_empty(&self) -> bool {
        self.input_buffer.is_empty()
            && self.transaction.is_none()
            && self.telnet == Telnet::Text
            && self.name.is_none()
            && self.frames.is_none()
            && self.stomp.is_none()
    }
}

#[cfg(test)]
mod tests {
    use crate::protocols::Protocols;

    #[test]
    fn an_idle_session_is_small() {
        let size = size_of::<tidings_hub::Session<Protocols>>();
        assert!(size <= 24, "{size}");
    }
}
