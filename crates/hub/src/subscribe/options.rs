//! The options of a subscription, as requested and as granted.

use std::sync::Arc;

use tidings_tags_filter::Filter;
use tidings_wire::{History, Position, Publication, RecoveryMode};

use crate::authorization::Admission;
use crate::map::MapSubscribe;
use crate::namespace::NamespaceOptions;
use crate::selections::passes;

/// The options of a subscription: first as requested, and after [`SubscribeOptions::grant`] as granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Recover the publications after this position.
    pub since: Option<RecoverFrom>,
    /// Allow recovery later, after a reconnect.
    pub recoverable: bool,
    /// Detect missed publications.
    pub positioned: bool,
    /// Receive joins and leaves of other subscribers.
    pub join_leave: bool,
    /// Respond with error 112 if the subscription cannot be recovered.
    pub all_or_error: bool,
    /// Whether the client requested the options, so that its rights apply. Subscriptions by the server get the options
    /// of the channel and of the admission.
    pub by_client: bool,
    /// Whether recovery was requested, granted or not.
    pub recovery_requested: bool,
    /// Do not receive publications with the session's own client id as their origin.
    pub no_local: bool,
    /// Receive only the publications that pass this filter; as granted, it includes the filter of the application.
    pub filter: Option<Arc<Filter>>,
    /// Receive publications as deltas of Fossil's format.
    pub delta: bool,
    /// The request of a subscription to a map.
    pub map: Option<Box<MapSubscribe>>,
    /// Whether a subscription to a shared poll is requested.
    pub shared_poll: bool,
}

/// The rights of a client in a channel that it subscribes to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rights {
    pub(crate) history: bool,
    pub(crate) presence: bool,
}

impl SubscribeOptions {
    /// Reduces the options to those that `rights` and the channel allow, and adds those that the channel or the application
    /// forces.
    /// Without the right to the history there is no recovery, because the history must not be read for that client.
    pub(crate) fn grant(&mut self, options: &NamespaceOptions, admission: &Admission, rights: Rights) {
        let overrides = &admission.overrides;
        let requested = |what: bool, allowed: bool| self.by_client && what && allowed;
        let (history, presence) = (rights.history, rights.presence && options.join_leave);
        let recoverable = self.recoverable || self.since.is_some();
        let recoverable = overrides.force_recovery.unwrap_or(options.force_recovery)
            || requested(recoverable, options.allow_recovery || history);
        let positioned = recoverable
            || overrides.force_positioning.unwrap_or(options.force_positioning)
            || requested(self.positioned, options.allow_positioning || history);
        let join_leave = overrides.force_push_join_leave.unwrap_or(options.force_push_join_leave)
            || requested(self.join_leave, presence);
        self.filter = match (&admission.filter, self.filter.take()) {
            (Some(first), Some(second)) => Some(Arc::new(first.and(&second))),
            (first, second) => second.or_else(|| first.clone()),
        };
        // The publications of a stream are no bases of deltas for those of the channel.
        self.delta = requested(self.delta, options.allow_fossil_delta) && admission.stream.is_none();
        self.recovery_requested = self.since.is_some();
        let since = self.since.take();
        self.since = since.clone().filter(|_| recoverable);
        (self.recoverable, self.positioned, self.join_leave) = (recoverable, positioned, join_leave);
        // A map is always followed from a position; the option alone decides whether a client may return to one.
        if let (Some(map), Some(_)) = (&options.map, &self.map) {
            (self.recoverable, self.positioned, self.all_or_error) = (map.recovers, true, true);
            self.since = since;
            // A delta would be to the value of another key.
            self.delta = false;
        }
        // Versions of keys have the place of positions.
        if options.shared_poll.is_some() {
            (self.recoverable, self.positioned, self.since) = (false, false, None);
            self.filter = None;
        }
    }
}

/// The last publication that a client has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverFrom {
    /// Its offset.
    pub offset: u64,
    /// Its epoch; empty matches any epoch.
    pub epoch: String,
}

impl RecoverFrom {
    /// The position in the history, if the client sent an epoch.
    pub(crate) fn position(&self) -> Option<Position> {
        let Self { offset, epoch } = self;
        (!epoch.is_empty()).then(|| Position { offset: *offset, epoch: epoch.as_str().into() })
    }
}

/// The missed publications of a client that recovers, and whether they are complete. Without those that do not pass `filter`,
/// which count as received. `limits` are the most publications and bytes.
pub(super) fn recover(
    since: &RecoverFrom,
    history: &History,
    mode: RecoveryMode,
    filter: Option<&Filter>,
    limits: (usize, usize),
    length: impl Fn(&Publication) -> usize,
) -> (Vec<Arc<Publication>>, bool) {
    let Some(publications) = history.publications() else { return (Vec::new(), false) };
    let passes = |publication: &Publication| filter.is_none_or(|filter| passes(filter, publication));
    let position = history.position();
    let same = since.epoch.is_empty() || since.epoch == position.epoch.as_str();
    let (count, bytes) = limits;
    if mode == RecoveryMode::Cache {
        let newest = publications.iter().find(|p| passes(p)).filter(|newest| length(newest) <= bytes);
        let seen = same && newest.and_then(|newest| newest.offset()).is_some_and(|o| o <= since.offset);
        let seen = seen || same && since.offset == position.offset;
        let missed = newest.filter(|_| !seen).cloned();
        return (missed.into_iter().collect(), newest.is_some());
    }
    let mut missed: Vec<_> =
        publications.iter().filter(|p| p.offset().is_some_and(|o| o > since.offset)).cloned().collect();
    // All or nothing: the first must follow the client's position, and the last must be at the channel's position.
    let first = missed.first().and_then(|p| p.offset());
    let whole = match first {
        None => position.offset <= since.offset,
        Some(first) => {
            let last = missed.last().and_then(|p| p.offset());
            first == since.offset + 1 && last == Some(position.offset)
        }
    };
    let is_within_limit = missed.len() <= count;
    missed.retain(|publication| passes(publication));
    let fits = is_within_limit && missed.iter().map(|p| length(p)).sum::<usize>() <= bytes;
    if same && whole && fits && since.offset <= position.offset {
        (missed, true)
    } else {
        (Vec::new(), false)
    }
}
