//! One primary of a cluster: what waits for it, what is heard from it, and its two connections.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use redis::Value;
use tidings_wire::Channel;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::topology::Addr;
use super::{Ashore, Fleet, Redirect, news};
use crate::redis::dial::Target;
use crate::redis::flights::Flights;
use crate::redis::ingest::Ingest;
use crate::redis::interest::Interest;
use crate::redis::link::{Link, Part};
use crate::redis::publisher::Publisher;
use crate::redis::queue::{Queue, Reply, Request};
use crate::redis::track::Track;
use crate::redis::tracker::Tracker;
use crate::{BrokerError, lock};

/// One primary.
pub(in crate::redis) struct Member {
    /// Like no other's, also not that of one at the same address before.
    pub(super) id: u32,
    pub(super) addr: Addr,
    pub(super) interest: Arc<Interest>,
    pub(in crate::redis) queue: Arc<Queue>,
    pub(in crate::redis) tracker: Arc<Tracker>,
    pub(in crate::redis) flights: Arc<Flights>,
    pub(super) resets: watch::Sender<String>,
    /// What comes off the connection, while there is one.
    ingest: Mutex<Option<Arc<Ingest>>>,
    fleet: Ashore,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Member {
    /// Starts to connect to the primary at an address.
    pub(super) fn start(fleet: &Arc<Fleet>, addr: &Addr) -> redis::RedisResult<Arc<Self>> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let client = fleet.client(addr)?;
        let queue = Arc::new(Queue::new(fleet.options.publish_budget, Arc::clone(&fleet.counters)));
        let tracker = Arc::new(Tracker::default());
        let member = Arc::new(Self {
            id: NUMBER.fetch_add(1, Ordering::Relaxed),
            addr: addr.clone(),
            interest: Arc::default(),
            flights: Flights::new(Arc::clone(&queue), Arc::clone(&tracker)),
            queue,
            tracker,
            resets: watch::Sender::default(),
            ingest: Mutex::default(),
            fleet: Arc::downgrade(fleet),
            tasks: Mutex::default(),
        });
        let options = &fleet.options;
        let link = Link {
            part: Part::Sharded(Arc::clone(&member)),
            dialer: fleet.dialer(Target::Member(Box::new(client.clone()))),
            names: Arc::clone(&fleet.names),
            interest: Arc::clone(&member.interest),
            tracker: Arc::clone(&member.tracker),
            sink: Arc::clone(&fleet.sink),
            news: Arc::new(news::Sharded(Arc::clone(&member))),
            counters: Arc::clone(&fleet.counters),
            reset: member.resets.clone(),
            resets: member.resets.subscribe(),
            ping_interval: options.ping_interval,
            response_timeout: options.response_timeout,
        };
        let publisher = Publisher {
            dialer: fleet.dialer(Target::Member(Box::new(client))),
            names: Arc::clone(&fleet.names),
            queue: Arc::clone(&member.queue),
            resets: member.resets.subscribe(),
            ping_interval: options.ping_interval,
            response_timeout: options.response_timeout,
            fleet: Some(Arc::downgrade(fleet)),
        };
        let tasks = [fleet.runtime.spawn(link.run()), fleet.runtime.spawn(publisher.run())];
        lock(&member.tasks).extend(tasks);
        Ok(member)
    }

    /// Ends its connections; what waits is answered.
    pub(super) fn stop(&self) {
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
    }

    /// The connection for hearing stands, or no longer.
    pub(in crate::redis) fn hears(&self, ingest: Option<Arc<Ingest>>) {
        *lock(&self.ingest) = ingest;
    }

    /// Gives a channel's track away: what was heard here has been handed over, and nothing with a position follows.
    pub(super) fn release(&self, channel: &Channel) -> Option<Track> {
        let ingest = lock(&self.ingest);
        match &*ingest {
            Some(ingest) => ingest.release(channel),
            None => self.tracker.release(channel, &mut Vec::new()),
        }
    }

    /// A slot was looked for here that is elsewhere.
    pub(in crate::redis) fn misled(&self) {
        if let Some(fleet) = self.fleet.upgrade() {
            fleet.changed.notify_one();
        }
    }

    /// Asks where this one sends us. A slot that has moved for good is unavailable here; that it has is looked into.
    pub(in crate::redis) async fn ask_there(
        &self,
        request: Request,
        redirect: Redirect,
    ) -> Result<Value, BrokerError> {
        let fleet = self.fleet.upgrade().ok_or(BrokerError::Unavailable)?;
        let Redirect::Ask(addr) = redirect else {
            self.misled();
            return Err(BrokerError::Unavailable);
        };
        let Some(member) = addr.and_then(|addr| fleet.member_at(&addr)) else {
            self.misled();
            return Err(BrokerError::Unavailable);
        };
        let (sender, answer) = oneshot::channel();
        let reply = Reply::Value(Box::new(move |value| drop(sender.send(value))));
        member.queue.push_asking(request, reply);
        match tokio::time::timeout(super::patience(&fleet.options), answer).await {
            Ok(Ok(answer)) => answer,
            _ => Err(BrokerError::Unavailable),
        }
    }

    pub(super) fn fleet(&self) -> Option<Arc<Fleet>> {
        self.fleet.upgrade()
    }
}
