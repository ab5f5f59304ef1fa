//! A tracked key: its value, and the subscribers that track it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tidings_wire::{Channel, Extra, MapKey, Publication};

/// Memory of a value besides its body and key.
const OVERHEAD: usize = 256;

/// A tracked key.
#[derive(Debug)]
pub(crate) struct Entry<S> {
    /// The version of the value; 0 without one.
    pub(crate) version: u64,
    /// The value, as subscribers get it.
    pub(crate) current: Option<Arc<Publication>>,
    /// The value before it and its version, where a subscriber gets deltas.
    pub(crate) previous: Option<(u64, Arc<Publication>)>,
    /// The key is removed, which its subscribers have yet to be notified of.
    pub(crate) removed: Option<Arc<Publication>>,
    /// The application published the value: the next cycle does not request it.
    pub(crate) is_fresh: bool,
    /// The value was requested since the key is tracked.
    pub(crate) is_requested: bool,
    /// The subscribers that track it.
    pub(crate) trackers: HashMap<S, Tracker>,
}

/// The state of a subscriber that tracks a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracker {
    /// The version that the subscriber has; 0 for none.
    pub(crate) version: u64,
    /// Whether that version was delivered by this node, so that the subscriber can apply a delta to it.
    pub(crate) delivered: bool,
    /// When it ends, in Unix seconds.
    pub(crate) expires: Option<u64>,
}

impl<S> Default for Entry<S> {
    fn default() -> Self {
        Self {
            version: 0,
            current: None,
            previous: None,
            removed: None,
            is_fresh: false,
            is_requested: false,
            trackers: HashMap::new(),
        }
    }
}

impl<S> Entry<S> {
    /// Bytes of the values.
    pub(crate) fn size(&self) -> usize {
        let previous = self.previous.as_ref().map(|(_, previous)| previous);
        self.current.iter().chain(previous).map(|value| size(value.body.len())).sum()
    }

    /// Whether the value has these bytes.
    pub(crate) fn has_body(&self, body: &Bytes) -> bool {
        self.current.as_ref().is_some_and(|current| current.body == *body)
    }
}

/// Bytes of a value with this body.
pub(crate) fn size(body: usize) -> usize {
    body + OVERHEAD
}

/// A value, or the removal of a key without a body, as subscribers get it.
pub(crate) fn publication(
    channel: &Channel,
    key: &str,
    version: u64,
    body: Option<Bytes>,
) -> Arc<Publication> {
    let map = Box::new(MapKey { key: key.into(), removed: body.is_none(), version });
    let extra = Extra { map: Some(map), delta: true, ..Extra::default() };
    Arc::new(Publication {
        channel: channel.clone(),
        body: body.unwrap_or_default(),
        position: None,
        extra: Some(Box::new(extra)),
    })
}
