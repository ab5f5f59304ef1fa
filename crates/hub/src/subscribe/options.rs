//! What a subscription is to have besides publications: as it is requested, and as it is granted.

use std::sync::Arc;

use tidings_wire::grant::ChannelOverrides;
use tidings_wire::{History, Position, Publication, RecoveryMode};

use crate::namespace::NamespaceOptions;

/// What a subscriber is to have besides publications: first as it was requested, then, after [`SubscribeOptions::grant`], as it is
/// granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Recovery from this position.
    pub since: Option<RecoverFrom>,
    /// Recovery later, after a reconnect.
    pub recoverable: bool,
    /// Detection of missed publications.
    pub positioned: bool,
    /// Joins and leaves of other subscribers.
    pub join_leave: bool,
    /// Error 112 in place of a subscription that could not be recovered.
    pub all_or_error: bool,
    /// Whether the client itself requested the above, so that its rights count. What the server subscribes a client to
    /// has what the options of the channel and of the subscription set.
    pub by_client: bool,
    /// Whether recovery was requested, granted or not.
    pub returns: bool,
}

/// What a client may request of a channel with its subscription.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rights {
    pub(crate) history: bool,
    pub(crate) presence: bool,
}

impl SubscribeOptions {
    /// Reduces the request to what `rights` and the options of the channel allow, and adds what the options force.
    /// A history is not read for a client that has no right to it: without one, there is no recovery.
    pub(crate) fn grant(&mut self, options: &NamespaceOptions, own: &ChannelOverrides, rights: Rights) {
        let requested = |what: bool, allowed: bool| self.by_client && what && allowed;
        let (history, presence) = (rights.history, rights.presence && options.join_leave);
        let recoverable = self.recoverable || self.since.is_some();
        let recoverable = own.force_recovery.unwrap_or(options.force_recovery)
            || requested(recoverable, options.allow_recovery || history);
        let positioned = recoverable
            || own.force_positioning.unwrap_or(options.force_positioning)
            || requested(self.positioned, options.allow_positioning || history);
        let join_leave = own.force_push_join_leave.unwrap_or(options.force_push_join_leave)
            || requested(self.join_leave, presence);
        self.returns = self.since.is_some();
        self.since = self.since.take().filter(|_| recoverable);
        (self.recoverable, self.positioned, self.join_leave) = (recoverable, positioned, join_leave);
    }
}

/// The last publication that a client has seen. Its epoch may be empty: then any will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverFrom {
    /// Its offset.
    pub offset: u64,
    /// Its epoch; empty for any.
    pub epoch: String,
}

impl RecoverFrom {
    /// The position in the history, where the client gave the epoch.
    pub(crate) fn position(&self) -> Option<Position> {
        let Self { offset, epoch } = self;
        (!epoch.is_empty()).then(|| Position { offset: *offset, epoch: epoch.as_str().into() })
    }
}

/// What a reading of the history means to a client that comes back: what it missed, and whether that is all.
pub(super) fn recover(
    since: &RecoverFrom,
    history: &History,
    mode: RecoveryMode,
    limits: (usize, usize),
    length: impl Fn(&Publication) -> usize,
) -> (Vec<Arc<Publication>>, bool) {
    let Some(publications) = history.publications() else { return (Vec::new(), false) };
    let position = history.position();
    let same = since.epoch.is_empty() || since.epoch == position.epoch.as_str();
    let (count, bytes) = limits;
    if mode == RecoveryMode::Cache {
        let newest = publications.first().filter(|newest| length(newest) <= bytes);
        let seen = same && since.offset == position.offset;
        let missed = newest.filter(|_| !seen).cloned();
        return (missed.into_iter().collect(), newest.is_some());
    }
    let missed: Vec<_> =
        publications.iter().filter(|p| p.offset().is_some_and(|o| o > since.offset)).cloned().collect();
    // All or nothing: the first must follow what was seen, and the last be where the channel stands.
    let first = missed.first().and_then(|p| p.offset());
    let whole = match first {
        None => position.offset <= since.offset,
        Some(first) => {
            let last = missed.last().and_then(|p| p.offset());
            first == since.offset + 1 && last == Some(position.offset)
        }
    };
    let fits = missed.len() <= count && missed.iter().map(|p| length(p)).sum::<usize>() <= bytes;
    if same && whole && fits && since.offset <= position.offset {
        (missed, true)
    } else {
        (Vec::new(), false)
    }
}
