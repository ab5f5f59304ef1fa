//! Sends messages to nodes, through the broker.

use std::sync::Arc;

use bytes::Bytes;
use tidings_broker::{BrokerError, Stateful};
use tidings_hub::{PollPublication, SessionCommand};
use tidings_wire::Channel;
use tokio::sync::oneshot;

use super::message::{Base64Bytes, Message, Payload};
use super::{CONTROL, Cluster, ClusterError, MAX_MESSAGE};
use crate::blocklist::BlocklistChange;

/// Publishes messages to the nodes of a deployment, including this one. Cheap to clone.
#[derive(Clone)]
pub struct ClusterBus {
    cluster: Arc<Cluster>,
    broker: Arc<dyn Stateful>,
}

impl ClusterBus {
    /// Seals messages with the key of `cluster` and publishes them at `broker`.
    pub fn new(cluster: Arc<Cluster>, broker: Arc<dyn Stateful>) -> Self {
        Self { cluster, broker }
    }

    /// This node's state of the deployment.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The broker that carries the messages.
    pub fn broker(&self) -> &Arc<dyn Stateful> {
        &self.broker
    }

    /// Sends a command to sessions, on every node.
    ///
    /// # Errors
    /// [`ClusterError`]: no node has received it then.
    pub async fn send_session_command(&self, command: &SessionCommand) -> Result<(), ClusterError> {
        match self.send(&self.cluster.all, Payload::SessionCommand(command.into())).await? {
            0 => Err(ClusterError::NoReceiver),
            _ => Ok(()),
        }
    }

    /// Sends a value of a shared poll to every node.
    ///
    /// # Errors
    /// [`ClusterError`]: no node has received it then.
    pub async fn publish_value(&self, publication: PollPublication) -> Result<(), ClusterError> {
        let PollPublication { channel, value, epoch } = publication;
        let payload = Payload::PollPublication {
            channel: channel.as_str().to_owned(),
            key: value.key,
            data: Base64Bytes(value.data.unwrap_or_default()),
            version: value.version,
            epoch,
        };
        match self.send(&self.cluster.all, payload).await? {
            0 => Err(ClusterError::NoReceiver),
            _ => Ok(()),
        }
    }

    /// Sends a change of the list of blocked users and tokens to every node.
    ///
    /// # Errors
    /// [`ClusterError`]: no node has received it then.
    pub async fn change_blocklist(&self, change: BlocklistChange) -> Result<(), ClusterError> {
        match self.send(&self.cluster.all, Payload::Blocklist(change)).await? {
            0 => Err(ClusterError::NoReceiver),
            _ => Ok(()),
        }
    }

    /// Forwards commands of a client to the node `to`, which has the session with this secret. Commands arrive in the
    /// order of the calls. `data` is one frame, in the session's encoding.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchNode`] if the node is not alive; other errors if the message is not delivered. Success does not
    /// mean that the node has the session.
    pub async fn forward(&self, to: &str, session: &str, data: Bytes) -> Result<(), ClusterError> {
        if !self.cluster.is_alive(to) {
            return Err(ClusterError::NoSuchNode);
        }
        let channel = Channel::new(format!("{CONTROL}.{to}")).map_err(|_| ClusterError::NoSuchNode)?;
        match self
            .send(&channel, Payload::Input { session: session.to_owned(), data: Base64Bytes(data) })
            .await?
        {
            0 => Err(ClusterError::NoSuchNode),
            _ => Ok(()),
        }
    }

    /// Publishes a message. Returns the number of nodes that have received it.
    pub(super) async fn send(&self, channel: &Channel, payload: Payload) -> Result<u64, ClusterError> {
        let message = Message { payload }.encode();
        if message.len() > MAX_MESSAGE {
            return Err(ClusterError::TooLong);
        }
        let body = self.cluster.seal(channel, &message);
        let (done, outcome) = oneshot::channel();
        self.broker.publish(
            channel,
            body,
            Box::new(move |outcome| {
                let _ = done.send(outcome);
            }),
        );
        let published = outcome.await.map_err(|_| BrokerError::Unavailable)?;
        Ok(published?.receivers)
    }
}
