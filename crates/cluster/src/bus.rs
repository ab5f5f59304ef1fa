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

    /// Sends a command to sessions, on every node. The broker has it when this returns, so commands arrive in the order of
    /// the calls; the future waits for the outcome.
    ///
    /// # Errors
    /// [`ClusterError`]: no node has received it then.
    pub fn send_session_command(
        &self,
        command: &SessionCommand,
    ) -> impl Future<Output = Result<(), ClusterError>> + Send + use<> {
        let sent = self.send(&self.cluster.all, Payload::SessionCommand(command.into()));
        async move {
            match sent.await? {
                0 => Err(ClusterError::NoReceiver),
                _ => Ok(()),
            }
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

    /// Publishes a message. The broker has it when this returns; the future is the number of nodes that have received it.
    pub(super) fn send(
        &self,
        channel: &Channel,
        payload: Payload,
    ) -> impl Future<Output = Result<u64, ClusterError>> + Send + use<> {
        let message = Message { payload }.encode();
        let (done, outcome) = oneshot::channel();
        let is_too_long = message.len() > MAX_MESSAGE;
        if !is_too_long {
            let body = self.cluster.seal(channel, &message);
            self.broker.publish(
                channel,
                body,
                Box::new(move |outcome| {
                    let _ = done.send(outcome);
                }),
            );
        }
        async move {
            if is_too_long {
                return Err(ClusterError::TooLong);
            }
            let published = outcome.await.map_err(|_| BrokerError::Unavailable)?;
            Ok(published?.receivers)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tidings_broker::memory::Memory;
    use tidings_broker::{Broker, SharedSink, Sink};
    use tidings_config::{Config, Overrides, load};
    use tidings_hub::SessionAction;
    use tidings_wire::{Delivery, Topic};

    use super::*;
    use crate::{ClusterEvent, ClusterKey, NodeUid};

    /// Keeps what the broker delivers.
    #[derive(Default)]
    struct Deliveries(Mutex<Vec<Delivery>>);

    impl Sink for Deliveries {
        fn deliver(&self, batch: &mut Vec<Delivery>) -> u64 {
            self.0.lock().expect("no panic").append(batch);
            1
        }

        fn live(&self, _topics: &[Topic]) {}

        fn refused(&self, _topic: &Topic, _error: &BrokerError) {}

        fn up(&self) {}

        fn down(&self, _reason: &str) {}
    }

    #[tokio::test]
    async fn commands_arrive_in_the_order_of_the_calls_whichever_outcome_is_awaited_first() {
        let config: Config = load(None, [], &Overrides::default()).expect("a configuration");
        let key = ClusterKey::from_config(&config);
        let (cluster, _work) = Cluster::new(NodeUid::random(), "node".to_owned(), String::new(), key);
        let cluster = Arc::new(cluster);
        let deliveries = Arc::new(Deliveries::default());
        let broker = Memory::new(Arc::clone(&deliveries) as SharedSink);
        broker.subscribe(&cluster.all.clone().into());
        let bus = ClusterBus::new(Arc::clone(&cluster), broker);

        let take_over = |client: &str| {
            let action = SessionAction::TakeOver { name: "sensor".to_owned(), client: client.to_owned() };
            SessionCommand { user: "ann".to_owned(), client: None, session: None, action }
        };
        let (first, second) = (take_over("first"), take_over("second"));
        let outcomes = [bus.send_session_command(&first), bus.send_session_command(&second)];
        for outcome in outcomes.into_iter().rev() {
            outcome.await.expect("this node has received it");
        }

        let received = deliveries.0.lock().expect("no panic");
        let commands = received.iter().map(|delivery| {
            match cluster.on_publication(&cluster.all, &delivery.publication.body) {
                Some(ClusterEvent::SessionCommand(command)) => SessionCommand::clone(&command),
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(commands.collect::<Vec<_>>(), [first, second]);
    }
}
