//! One primary of a cluster: its queue, its received messages, and its two connections.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tidings_wire::Channel;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{Cluster, WeakCluster, connection_events};
use crate::redis::addr::Addr;
use crate::redis::dial::Target;
use crate::redis::ingest::Ingest;
use crate::redis::interest::Interest;
use crate::redis::link::{Link, LinkRole, RedirectedResponse, ShardedPrimary};
use crate::redis::publisher::{Forward, Publisher};
use crate::redis::queue::{Queue, Reply, Request};
use crate::redis::redirect::Redirect;
use crate::redis::state_reader::StateReader;
use crate::redis::track::Track;
use crate::redis::tracker::Tracker;
use crate::{BrokerError, lock};

/// One primary.
pub(in crate::redis) struct Primary {
    /// Unique in the process; a node that returns at the same address gets a new one.
    pub(super) id: u32,
    pub(super) addr: Addr,
    pub(super) interest: Arc<Interest>,
    pub(in crate::redis) queue: Arc<Queue>,
    pub(in crate::redis) tracker: Arc<Tracker>,
    pub(in crate::redis) reader: Arc<StateReader>,
    pub(super) resets: watch::Sender<String>,
    /// The messages of the subscriber connection, while it is up.
    ingest: Mutex<Option<Arc<Ingest>>>,
    cluster: WeakCluster,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Primary {
    /// Starts to connect to the primary at an address.
    pub(super) fn start(cluster: &Arc<Cluster>, addr: &Addr) -> redis::RedisResult<Arc<Self>> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let client = cluster.seeds.client(addr)?;
        let queue = Arc::new(Queue::new(cluster.options.publish_budget, Arc::clone(&cluster.counters)));
        let tracker = Arc::new(Tracker::default());
        let primary = Arc::new(Self {
            id: NUMBER.fetch_add(1, Ordering::Relaxed),
            addr: addr.clone(),
            interest: Arc::default(),
            reader: StateReader::new(Arc::clone(&queue), Arc::clone(&tracker)),
            queue,
            tracker,
            resets: watch::Sender::default(),
            ingest: Mutex::default(),
            cluster: Arc::downgrade(cluster),
            tasks: Mutex::default(),
        });
        let options = &cluster.options;
        let link = Link {
            role: LinkRole::Sharded(Arc::clone(&primary) as Arc<dyn ShardedPrimary>),
            dialer: cluster.dialer(Target::Primary(Box::new(client.clone()))),
            names: Arc::clone(&cluster.names),
            interest: Arc::clone(&primary.interest),
            tracker: Arc::clone(&primary.tracker),
            deadlines: Arc::clone(&cluster.deadlines),
            sink: Arc::clone(&cluster.sink),
            events: Arc::new(connection_events::PrimaryEvents(Arc::clone(&primary))),
            counters: Arc::clone(&cluster.counters),
            reset: primary.resets.clone(),
            resets: primary.resets.subscribe(),
            ping_interval: options.ping_interval,
            response_timeout: options.response_timeout,
        };
        let forward: Forward = {
            let cluster = Arc::downgrade(cluster);
            Box::new(move |requests| {
                if let Some(cluster) = cluster.upgrade() {
                    cluster.forward(requests);
                }
            })
        };
        let publisher = Publisher {
            dialer: cluster.dialer(Target::Primary(Box::new(client))),
            names: Arc::clone(&cluster.names),
            queue: Arc::clone(&primary.queue),
            resets: primary.resets.subscribe(),
            ping_interval: options.ping_interval,
            response_timeout: options.response_timeout,
            forward: Some(forward),
        };
        let tasks = [cluster.runtime.spawn(link.run()), cluster.runtime.spawn(publisher.run())];
        lock(&primary.tasks).extend(tasks);
        Ok(primary)
    }

    /// Closes its connections; waiting requests complete.
    pub(super) fn stop(&self) {
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
    }

    /// Detaches a channel's track: all messages received here have been handed over, and none with a position follows.
    pub(super) fn release(&self, channel: &Channel) -> Option<Track> {
        let ingest = lock(&self.ingest);
        match &*ingest {
            Some(ingest) => ingest.release(channel),
            None => self.tracker.release(channel, &mut Vec::new()),
        }
    }

    pub(super) fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.upgrade()
    }
}

impl ShardedPrimary for Primary {
    fn set_ingest(&self, ingest: Option<Arc<Ingest>>) {
        *lock(&self.ingest) = ingest;
    }

    fn report_moved_slot(&self) {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.changed.notify_one();
        }
    }

    fn request_redirected(&self, request: Request, redirect: Redirect) -> RedirectedResponse<'_> {
        Box::pin(async move {
            let cluster = self.cluster.upgrade().ok_or(BrokerError::Unavailable)?;
            let Redirect::Ask(addr) = redirect else {
                self.report_moved_slot();
                return Err(BrokerError::Unavailable);
            };
            let Some(primary) = addr.and_then(|addr| cluster.primary_at(&addr)) else {
                self.report_moved_slot();
                return Err(BrokerError::Unavailable);
            };
            let (sender, answer) = oneshot::channel();
            let reply = Reply::Value(Box::new(move |value| drop(sender.send(value))));
            primary.queue.push_asking(request, reply);
            match tokio::time::timeout(cluster.options.response_timeout, answer).await {
                Ok(Ok(answer)) => answer,
                _ => Err(BrokerError::Unavailable),
            }
        })
    }
}
