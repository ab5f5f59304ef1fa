//! The protocol state that all sessions of one hub share.

use std::fmt;
use std::sync::Arc;

use tidings_wire::resp::Decoder;
use tidings_wire::ws::deflate::{Counts, Inflater};

use crate::frame_state::Frames;
use crate::link::Link;
use crate::pusher::roster::Rosters;
use crate::settings::ProtocolSettings;

/// Protocol state that the sessions of one hub share.
pub struct Protocols {
    pub(crate) settings: Arc<ProtocolSettings>,
    /// Number of sessions per link, in the order of [`Link::index`].
    pub(crate) links: [u64; Link::COUNT],
    /// Number of changes of `links`.
    pub(crate) link_changes: u64,
    /// Bytes of unused input of all sessions.
    pub(crate) kept: usize,
    /// The decoder for RESP sessions without a partial command.
    pub(crate) decoder: Decoder,
    /// The frame reader for WebSocket sessions without a partial message.
    pub(crate) frames: Option<Box<Frames>>,
    /// Decompresses messages of WebSocket clients.
    pub(crate) inflater: Inflater,
    /// The members of the presence channels with Pusher sessions.
    pub(crate) rosters: Rosters,
}

impl fmt::Debug for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocols")
            .field("links", &self.links)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

/// Protocol counters of a hub, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of partial commands and of commands that are held back.
    pub input_bytes: u64,
    /// Compressed messages of clients: bytes before and after decompression, since the start.
    pub inflated: Counts,
}

impl Protocols {
    /// Replaces the settings, for input from now on.
    pub fn set_settings(&mut self, settings: Arc<ProtocolSettings>) {
        self.settings = settings;
    }

    /// The state without sessions.
    pub fn new(settings: Arc<ProtocolSettings>) -> Self {
        Self {
            settings,
            links: [0; Link::COUNT],
            link_changes: 0,
            kept: 0,
            decoder: Decoder::default(),
            frames: None,
            inflater: Inflater::default(),
            rosters: Rosters::default(),
        }
    }

    /// The counters for metrics.
    pub fn stats(&self) -> Stats {
        Stats { input_bytes: self.kept as u64, inflated: self.inflater.counts() }
    }

    /// Number of sessions per link, in the order of [`Link::index`].
    pub fn sessions(&self) -> &[u64; Link::COUNT] {
        &self.links
    }

    /// A number that changes whenever [`Self::sessions`] changes.
    pub fn session_changes(&self) -> u64 {
        self.link_changes
    }

    /// Bytes of clients' messages after decompression, since the start.
    pub fn inflated(&self) -> u64 {
        self.inflater.counts().plain
    }

    /// Counts the change of a session's link.
    pub(crate) fn link_changed(&mut self, from: Link, to: Link) {
        self.links[from.index()] -= 1;
        self.links[to.index()] += 1;
        self.link_changes += 1;
    }
}
