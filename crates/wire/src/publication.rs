//! A publication: what travels from the broker to every subscriber.

use std::sync::Arc;

use bytes::Bytes;

use crate::channel::{Channel, Topic};

/// One message of one channel. Shared by every shard and never copied on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where it was published.
    pub channel: Channel,
    /// What was published: any bytes (see [`crate::body`] for how each dialect shows them).
    pub body: Bytes,
}

/// A publication and the subscription it is for: the channel itself, or a pattern that matched it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whose subscribers get it.
    pub topic: Topic,
    /// What they get.
    pub publication: Arc<Publication>,
}
