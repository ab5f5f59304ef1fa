//! Publishing messages to other nodes, through the broker.

use std::sync::Arc;

use bytes::Bytes;
use tidings_broker::{BrokerError, Stateful};
use tidings_hub::Directive;
use tidings_wire::Channel;
use tokio::sync::oneshot;

use super::message::{Data, Message, Say};
use super::{CONTROL, Cluster, ClusterError, MAX_MESSAGE};
use crate::blocklist::Change;

/// Publishes messages to the nodes of a deployment, this one included. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClusterBus {
    cluster: Arc<Cluster>,
    broker: Arc<dyn Stateful>,
}

impl ClusterBus {
    /// Seals messages with the key of `cluster` and publishes them at `broker`.
    pub(crate) fn new(cluster: Arc<Cluster>, broker: Arc<dyn Stateful>) -> Self {
        Self { cluster, broker }
    }

    /// This node among the others.
    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The broker that carries the messages.
    pub(crate) fn broker(&self) -> &Arc<dyn Stateful> {
        &self.broker
    }

    /// Has an order carried out by every session that it concerns, on every node; done when it is on its way to them.
    ///
    /// # Errors
    /// [`ClusterError`]: nobody has been told then.
    pub(crate) async fn order(&self, directive: &Directive) -> Result<(), ClusterError> {
        match self.send(&self.cluster.all, Say::Order(directive.into())).await? {
            0 => Err(ClusterError::Unheard),
            _ => Ok(()),
        }
    }

    /// Has every node take over a change of the list of blocked users and tokens; done when it is on its way to them.
    ///
    /// # Errors
    /// [`ClusterError`]: no node has been told then.
    pub(crate) async fn change_blocklist(&self, change: Change) -> Result<(), ClusterError> {
        match self.send(&self.cluster.all, Say::Blocklist(change)).await? {
            0 => Err(ClusterError::Unheard),
            _ => Ok(()),
        }
    }

    /// Gives commands to the session with this secret on another node, the one with this uid: its connection goes only the
    /// other way. Commands given one after the other arrive in that order. `data` is one frame of them, in the session's
    /// own encoding.
    ///
    /// # Errors
    /// [`ClusterError::Nowhere`] when there is no such node; whether it has the session is not waited for. Others of
    /// [`ClusterError`] when the node cannot be told.
    pub(crate) async fn forward(&self, to: &str, session: &str, data: Bytes) -> Result<(), ClusterError> {
        if !self.cluster.knows(to) {
            return Err(ClusterError::Nowhere);
        }
        let channel = Channel::new(format!("{CONTROL}.{to}")).map_err(|_| ClusterError::Nowhere)?;
        match self.send(&channel, Say::Input { session: session.to_owned(), data: Data(data) }).await? {
            0 => Err(ClusterError::Nowhere),
            _ => Ok(()),
        }
    }

    /// Publishes a message and gives how many have heard it.
    pub(super) async fn send(&self, channel: &Channel, say: Say) -> Result<u64, ClusterError> {
        let message = Message { say }.write();
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
