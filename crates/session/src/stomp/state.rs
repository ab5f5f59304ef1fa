//! What a STOMP session keeps: its subscriptions, the receipts that it owes, and its heart-beats.

use std::collections::VecDeque;

use tidings_hub::TopicKey;
use tidings_wire::Channel;

/// The longest id of a subscription and of a receipt, in bytes: they are kept.
pub(super) const MAX_ID: usize = 255;

/// A subscription of the client. Several may have the same channel: each gets every message.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The client's name for it.
    pub(super) id: Box<str>,
    pub(super) channel: Channel,
    pub(super) progress: Progress,
}

/// How far a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The command with this number is under way.
    Subscribing(u32),
    /// Made.
    Made(TopicKey),
}

/// What must arrive before the kept bytes are decoded again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Awaited {
    /// Nothing: complete frames wait for their turn.
    #[default]
    Nothing,
    /// A NUL.
    Nul,
    /// This number of bytes in all.
    Bytes(usize),
}

impl Awaited {
    /// Whether it has arrived, with `kept` bytes of which `message` arrived last.
    pub(super) fn has_arrived(self, kept: usize, message: &[u8]) -> bool {
        match self {
            Self::Nothing => true,
            Self::Nul => message.contains(&0),
            Self::Bytes(whole) => kept >= whole,
        }
    }
}

/// The state of a session, from its first byte on.
#[derive(Debug, Default)]
pub(crate) struct Stomp {
    pub(super) subscriptions: Vec<Subscription>,
    /// The beginning of a frame that continues in the next message.
    pub(super) partial: Vec<u8>,
    /// The end of that frame.
    pub(super) awaited: Awaited,
    /// Receipts by the number of their command, oldest first.
    receipts: VecDeque<(u32, Box<str>)>,
    last_command: u32,
    /// Messages that were sent: each has a number of its own.
    pub(super) messages: u64,
    pub(super) heart_beats: HeartBeats,
}

impl Stomp {
    /// Bytes of input that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.partial.len()
    }

    /// A number for a command, with the receipt that it requests.
    pub(super) fn begin(&mut self, receipt: Option<&str>) -> u32 {
        self.last_command = self.last_command.wrapping_add(1).max(1);
        if let Some(receipt) = receipt {
            self.receipts.push_back((self.last_command, receipt.into()));
        }
        self.last_command
    }

    /// Takes the receipt of a command, if it requested one.
    pub(super) fn take_receipt(&mut self, command: u32) -> Option<Box<str>> {
        let at = self.receipts.iter().position(|(number, _)| *number == command)?;
        self.receipts.remove(at).map(|(_, receipt)| receipt)
    }

    /// The place of the subscription with this id.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.subscriptions.iter().position(|subscription| &*subscription.id == id)
    }
}

/// The heart-beats that were agreed on in `CONNECT` and `CONNECTED`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeartBeats {
    /// The client expects some.
    pub(super) sends: bool,
    /// Pings of the server for which the client may be silent; `None` when it sends no heart-beats.
    allowed: Option<u32>,
    /// Pings since the last input.
    silent: u32,
}

impl HeartBeats {
    /// A client that sends a heart-beat every `sends` milliseconds at most (0: never) may be silent for two intervals of
    /// its own or of the server's pings, whichever is longer (STOMP 1.2, "Heart-beating": with tolerance for late ones).
    pub(super) fn new(expects: bool, sends: u32, ping_interval: u64) -> Self {
        let interval = u64::from(sends).max(ping_interval);
        let allowed = (sends > 0 && ping_interval > 0).then(|| (2 * interval).div_ceil(ping_interval));
        let allowed = allowed.map(|pings| u32::try_from(pings).unwrap_or(u32::MAX));
        Self { sends: expects, allowed, silent: 0 }
    }

    /// Bytes came.
    pub(super) fn received(&mut self) {
        self.silent = 0;
    }

    /// A ping is due; gives whether the client was silent for too long.
    pub(super) fn is_overdue(&mut self) -> bool {
        self.silent = self.silent.saturating_add(1);
        self.allowed.is_some_and(|allowed| self.silent > allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_be_silent_for_two_intervals() {
        // Pings every 10 s; the client sends every 25 s: 50 s of silence are five pings.
        for (sends, allowed) in [(1, 2), (10_000, 2), (25_000, 5)] {
            let mut beats = HeartBeats::new(true, sends, 10_000);
            assert!((0..allowed).all(|_| !beats.is_overdue()), "{sends}");
            assert!(beats.is_overdue(), "{sends}");
            beats.received();
            assert!(!beats.is_overdue(), "{sends}");
        }
        let mut never = HeartBeats::new(true, 0, 10_000);
        assert!((0..1000).all(|_| !never.is_overdue()));
    }

    #[test]
    fn a_receipt_belongs_to_one_command() {
        let mut stomp = Stomp::default();
        let (first, second) = (stomp.begin(Some("a")), stomp.begin(None));
        assert_ne!(first, second);
        assert_eq!(stomp.take_receipt(second), None);
        assert_eq!(stomp.take_receipt(first).as_deref(), Some("a"));
        assert_eq!(stomp.take_receipt(first), None);
    }
}
