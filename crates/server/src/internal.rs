//! The server's internal channels: those that begin with [`RESERVED_PREFIX`]. Nodes exchange messages there, and no
//! client can subscribe or publish.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError, RwLock};

use bytes::Bytes;
use tidings_wire::Topic;
use tidings_wire::channel::RESERVED_PREFIX;

/// Callback for publications in one internal channel. Runs on the broker's read thread and must not block.
pub(crate) type Callback = Box<dyn Fn(&Bytes) + Send + Sync>;

/// Whether a topic is an internal channel.
pub(crate) fn is_internal(topic: &Topic) -> bool {
    matches!(topic, Topic::Channel(channel) if channel.as_str().starts_with(RESERVED_PREFIX))
}

/// Subscribers of internal channels on this node, and the state of these channels at the broker.
#[derive(Default)]
pub(crate) struct InternalChannels {
    callbacks: RwLock<Vec<(Topic, Callback)>>,
    /// The channels that the broker rejects; a few at most.
    rejected: Mutex<HashSet<Topic>>,
}

impl InternalChannels {
    /// Calls `callback` with the body of each publication to `topic` from now on. The caller subscribes to the topic at
    /// the broker.
    pub(crate) fn subscribe(&self, topic: Topic, callback: Callback) {
        self.callbacks.write().unwrap_or_else(PoisonError::into_inner).push((topic, callback));
    }

    /// Calls the callback of a topic. Returns whether there is one.
    pub(crate) fn dispatch(&self, topic: &Topic, body: &Bytes) -> bool {
        let callbacks = self.callbacks.read().unwrap_or_else(PoisonError::into_inner);
        let callback = callbacks.iter().find(|(known, _)| known == topic);
        if let Some((_, callback)) = callback {
            callback(body);
        }
        callback.is_some()
    }

    /// The broker has rejected a topic, or (`false`) has confirmed it.
    pub(crate) fn set_rejected(&self, topic: &Topic, is_rejected: bool) {
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        if is_rejected {
            rejected.insert(topic.clone());
        } else {
            rejected.remove(topic);
        }
    }

    /// Number of internal channels that the broker rejects.
    pub(crate) fn rejected(&self) -> usize {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
