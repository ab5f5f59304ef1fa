//! What the state machine passes to the outside: values for subscribers, and requests to the application.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use tidings_hub::PollSubscriber;
pub use tidings_hub::{PollValue as Value, PollValues as Values};
use tidings_wire::{Channel, Publication};

/// The identity of a subscriber.
pub trait Subscriber: Copy + Debug + Eq + Hash {
    /// The shard of its session: subscribers of one shard are notified together.
    fn shard(self) -> u32;
}

impl Subscriber for PollSubscriber {
    fn shard(self) -> u32 {
        self.shard
    }
}

/// A value, or the removal of a key, for subscribers of one shard.
#[derive(Debug)]
pub struct Update<S> {
    /// The shard.
    pub shard: u32,
    /// The value with its key and version.
    pub publication: Arc<Publication>,
    /// The value before it, which the subscribers of `deltas` have.
    pub base: Option<Arc<Publication>>,
    /// Subscribers that get the value in full.
    pub full: Vec<S>,
    /// Subscribers that get the difference to `base`.
    pub deltas: Vec<S>,
}

/// The destination of updates.
pub trait Sink<S> {
    /// Passes an update on; `false` if it cannot be passed on now, so that it is tried again.
    fn deliver(&mut self, update: Update<S>) -> bool;

    /// Ends the subscription of a subscriber, which subscribes again.
    fn end(&mut self, channel: &Channel, subscriber: S);
}

/// A request to the application for the values of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Identifies the request in the response to the state machine.
    pub id: u64,
    /// The channel.
    pub channel: Channel,
    /// The name of the hook; `None` for the one without a name.
    pub hook: Option<String>,
    /// Whether the application numbers the values.
    pub versioned: bool,
    /// The keys, each with the version that this node has; 0 for none.
    pub items: Vec<(Arc<str>, u64)>,
}
