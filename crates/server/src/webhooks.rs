//! Webhooks ([`tidings_webhooks`]) on this node: the channels of all nodes, their users, and messages between nodes.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tidings_cluster::{ListBudget, NodeInfo, Nodes};
use tidings_pusher::{ChannelKind, user_id, visible_name};
use tidings_pusher_api::{LIST_OVERHEAD, MAX_MEMBERS, PusherApps, escaped};
use tidings_webhooks::{ChannelCounts, Deployment, MAX_LIST, MAX_MESSAGE, Webhooks};
use tidings_wire::{Channel, ClientInfo, Pattern, Topic};

use crate::internal::InternalChannels;
use crate::router::Router;

/// The channel of the messages between nodes.
pub(crate) const CHANNEL: &str = "tidings.node.webhooks";

/// The deployment of this node.
pub(crate) struct NodeDeployment {
    nodes: Arc<Nodes>,
    router: Arc<Router>,
    apps: Arc<PusherApps>,
    channel: Channel,
}

impl NodeDeployment {
    /// Subscribes to the messages of other nodes, which `webhooks` gets.
    pub(crate) fn new(
        nodes: Arc<Nodes>,
        router: Arc<Router>,
        apps: Arc<PusherApps>,
        internal: &InternalChannels,
        webhooks: &Arc<Webhooks>,
    ) -> Self {
        let channel = Channel::new(CHANNEL).expect("a valid name");
        let (cluster, webhooks, own) =
            (Arc::clone(nodes.bus.cluster()), Arc::clone(webhooks), channel.clone());
        let on_publication = move |body: &Bytes| {
            if body.len() <= MAX_MESSAGE
                && let Some((from, message)) = cluster.open(&own, body)
            {
                webhooks.on_message(&from.to_string(), &message);
            }
        };
        let topic = Topic::Channel(channel.clone());
        internal.subscribe(topic.clone(), Box::new(on_publication));
        nodes.bus.broker().subscribe(&topic);
        Self { nodes, router, apps, channel }
    }

    /// Whether it is a presence channel of an app: its users have the ids that the app has signed.
    fn is_of_app(&self, channel: &str) -> bool {
        ChannelKind::of(visible_name(channel)) == ChannelKind::Presence
            && self
                .apps
                .load()
                .iter()
                .any(|app| channel.strip_prefix(&*app.prefix) == Some(visible_name(channel)))
    }
}

impl Deployment for NodeDeployment {
    fn uid(&self) -> &str {
        self.nodes.bus.cluster().uid()
    }

    fn others(&self) -> Option<Vec<String>> {
        let uid = |node: NodeInfo| node.uid;
        self.nodes.is_shared.then(|| self.nodes.bus.cluster().others().into_iter().map(uid).collect())
    }

    fn channels(&self, beginning: Option<&str>) -> BoxFuture<'_, Result<ChannelCounts, String>> {
        let pattern = beginning.map(|beginning| Pattern::new(escaped(beginning) + "*"));
        async move {
            let pattern = pattern.transpose().map_err(|error| error.to_string())?;
            let budget = ListBudget::new(MAX_LIST, LIST_OVERHEAD);
            self.nodes.channels(pattern.as_ref(), budget).await.map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn has_presence(&self, channel: &str) -> bool {
        let settings = self.router.settings();
        self.is_of_app(channel) || settings.namespaces.options(channel).is_ok_and(|options| options.presence)
    }

    fn users(&self, channel: Channel) -> BoxFuture<'_, Result<BTreeSet<String>, String>> {
        async move {
            let members =
                self.router.members(&channel, MAX_MEMBERS).await.map_err(|error| error.to_string())?;
            let is_of_app = self.is_of_app(channel.as_str());
            let id = |info: ClientInfo| {
                let signed = info.chan_info.as_deref().filter(|_| is_of_app).and_then(user_id);
                signed.unwrap_or(if info.user.is_empty() { info.client } else { info.user })
            };
            Ok(members.into_iter().map(id).collect())
        }
        .boxed()
    }

    fn send(&self, message: &[u8]) {
        let bus = &self.nodes.bus;
        let sealed = bus.cluster().seal(&self.channel, message);
        // A lost message leaves a gap, after which the other nodes request the state.
        bus.broker().publish(&self.channel, sealed, Box::new(|_| {}));
    }
}
