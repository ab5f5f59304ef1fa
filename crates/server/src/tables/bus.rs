//! Messages about tables between nodes, through the broker, and publications of views.

use std::sync::Arc;

use bytes::Bytes;
use tidings_broker::PublishOptions;
use tidings_table_service::{MAX_MESSAGE, MessageCallback, NodeBus};
use tidings_wire::{Channel, Topic};

use crate::node::Node;

/// The channel of the messages: one of the server's internal channels, which clients cannot use.
pub(crate) const CHANNEL: &str = "tidings.node.tables";

/// The broker as the service uses it.
///
/// Invariant: messages are encrypted and authenticated with the deployment's key; others are discarded.
pub(super) struct BrokerBus {
    node: Arc<Node>,
    channel: Channel,
}

impl BrokerBus {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node, channel: Channel::new(CHANNEL).expect("a valid name") }
    }
}

impl NodeBus for BrokerBus {
    fn has_other_nodes(&self) -> bool {
        self.node.redis.is_some()
    }

    fn send(&self, message: &[u8]) {
        let router = &self.node.router;
        let Some(broker) = router.broker() else { return };
        broker.publish(&self.channel, router.cluster().seal(&self.channel, message), Box::new(|_| {}));
    }

    fn listen(&self, callback: MessageCallback) {
        let (node, channel) = (Arc::downgrade(&self.node), self.channel.clone());
        let on_publication = move |body: &Bytes| {
            let Some(node) = node.upgrade().filter(|_| body.len() <= MAX_MESSAGE) else { return };
            if let Some((_, message)) = node.router.cluster().open(&channel, body) {
                callback(&message);
            }
        };
        self.node.router.listen(&Topic::Channel(self.channel.clone()), Box::new(on_publication));
    }

    fn publish(&self, channel: &Channel, view: String) {
        self.node.router.publish(channel, view.into(), PublishOptions::default(), Box::new(|_| {}));
    }
}
