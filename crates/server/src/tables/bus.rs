//! Messages about tables between nodes, through the broker, and the publication of views.

use std::sync::Arc;

use bytes::Bytes;
use tidings_broker::PublishOptions;
use tidings_table_service::{MAX_MESSAGE, MessageCallback, NodeBus};
use tidings_wire::{Channel, Topic};

use crate::http::HttpServices;
use crate::internal::InternalChannels;
use crate::router::Router;
use tidings_cluster::ClusterBus;

/// The channel of the messages: one of the server's internal channels, which clients cannot use.
pub(crate) const CHANNEL: &str = "tidings.node.tables";

/// The broker as the table service uses it.
///
/// Invariant: messages are encrypted and authenticated with the deployment's key. All other messages are discarded.
pub(super) struct BrokerBus {
    router: Arc<Router>,
    bus: ClusterBus,
    internal: Arc<InternalChannels>,
    /// Whether other nodes may use the same broker.
    is_shared: bool,
    channel: Channel,
}

impl BrokerBus {
    pub(super) fn new(services: &HttpServices, internal: &Arc<InternalChannels>) -> Self {
        let nodes = &services.api.nodes;
        Self {
            router: Arc::clone(&services.api.router),
            bus: nodes.bus.clone(),
            internal: Arc::clone(internal),
            is_shared: nodes.is_shared,
            channel: Channel::new(CHANNEL).expect("a valid name"),
        }
    }
}

impl NodeBus for BrokerBus {
    fn has_other_nodes(&self) -> bool {
        self.is_shared
    }

    fn send(&self, message: &[u8]) {
        let sealed = self.bus.cluster().seal(&self.channel, message);
        self.bus.broker().publish(&self.channel, sealed, Box::new(|_| {}));
    }

    fn listen(&self, callback: MessageCallback) {
        let (cluster, channel) = (Arc::clone(self.bus.cluster()), self.channel.clone());
        let on_publication = move |body: &Bytes| {
            if body.len() <= MAX_MESSAGE
                && let Some((_, message)) = cluster.open(&channel, body)
            {
                callback(&message);
            }
        };
        let topic = Topic::Channel(self.channel.clone());
        self.internal.subscribe(topic.clone(), Box::new(on_publication));
        self.bus.broker().subscribe(&topic);
    }

    fn publish(&self, channel: &Channel, view: String) {
        self.router.publish(channel, view.into(), PublishOptions::default(), Box::new(|_| {}));
    }
}
