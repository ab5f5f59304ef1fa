//! The part of a session that every session of a protocol has: its link and flags.

use crate::link::Link;

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

/// The link of a session, and a byte of its protocol: flags, or a parameter that its transport has set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// Framing, protocol and direction.
    pub link: Link,
    flags: u8,
}

impl Peer {
    /// A connection with a parameter of its protocol.
    pub fn with_parameter(link: Link, parameter: u8) -> Self {
        Self { link, flags: parameter }
    }

    /// The parameter of [`Self::with_parameter`].
    pub(crate) fn parameter(self) -> u8 {
        self.flags
    }

    /// Replaces the parameter.
    pub(crate) fn set_parameter(&mut self, parameter: u8) {
        self.flags = parameter;
    }

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
