//! A channel's history, as it is queried: one vocabulary for brokers, hubs and the server API.

use std::sync::Arc;

use crate::publication::{Position, Publication};

/// A query for a part of a channel's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Most publications; zero returns the position alone. `None`: all.
    pub limit: Option<usize>,
    /// Publications after this position (before it with `reverse`); its epoch may be empty for the current one. `None`:
    /// from the oldest (from the newest with `reverse`).
    pub since: Option<Position>,
    /// From the newest publication backwards.
    pub reverse: bool,
    /// The query is for a subscriber of this node, so the messages that the node has received may answer it; that
    /// spares Redis when many clients reconnect. If the publications after `since` take more than `max_bytes`, the
    /// answer is unrecoverable, because such a subscriber needs all of them. Otherwise the answer includes everything
    /// that was published before the query.
    pub for_subscriber: bool,
    /// Most bytes: the sizes of publications, with an allowance for each. At least one publication is returned, so that
    /// a caller advances page by page.
    pub max_bytes: usize,
}

/// The answer to a [`HistoryQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum History {
    /// The requested publications, without a gap.
    Page(HistoryPage),
    /// Publications after the requested position are missing: its epoch has ended, or they were dropped. With the
    /// current position of the channel.
    Unrecoverable(Position),
}

/// A part of a channel's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// The channel's position: that of its newest publication, also if it is not stored any more. On a node that has
    /// the channel subscribed, everything delivered before the query is at or before it, and everything after it is
    /// delivered. Deliveries at or before it may still be on their way to the sink; a subscriber that gets this page
    /// must skip them.
    pub position: Position,
    /// In the requested order. Fewer than requested when they took too many bytes: the next page begins at the position
    /// of the last one.
    pub publications: Vec<Arc<Publication>>,
}

impl History {
    /// The channel's position.
    pub fn position(&self) -> &Position {
        match self {
            Self::Page(page) => &page.position,
            Self::Unrecoverable(position) => position,
        }
    }

    /// The publications, if all that were requested are there.
    pub fn publications(&self) -> Option<&[Arc<Publication>]> {
        match self {
            Self::Page(page) => Some(&page.publications),
            Self::Unrecoverable(_) => None,
        }
    }

    /// Bytes of the publications.
    pub fn size(&self) -> usize {
        self.publications().unwrap_or_default().iter().map(|publication| publication.size()).sum()
    }
}

/// The way of recovery for a client that returns to a channel with a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RecoveryMode {
    /// All missed publications, or the information that they are incomplete.
    #[default]
    Stream,
    /// The newest publication.
    Cache,
}
