//! The Redis broker: on one server, on the master that Sentinels name, or on a cluster (differences are described in
//! `cluster`).
//!
//! It has two connections, each with a task that reconnects without end. The subscriber connection receives messages
//! (`SUBSCRIBE`, RESP3 pushes). The publisher connection sends publications and calls functions (`PUBLISH`, `FCALL`,
//! pipelined). A flood of messages never delays a publication, and each connection can fail without the other. A plain
//! `PUBLISH` by any other client is delivered as well. A publication that is to be kept goes through a function that
//! the broker loads into Redis; other clients may call it too.
//!
//! Histories, results and presence are stored in Redis alone. A node keeps the position up to which it has received
//! each channel, and fetches missed publications after it has lost its connection.
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | the URL and the bounds, checked before anything is started |
//! | `dial` | how a connection is made, and when the next attempt may be |
//! | `names` | channel names with the prefix of the deployment, and their forms in Redis |
//! | `library` | the functions that are loaded into Redis |
//! | [`failures`] | error replies: what they mean, their counts, their lines in the log |
//! | `envelope` | messages with more than a body |
//! | `interest` | topics that should be subscribed, topics that are, and the difference; no I/O |
//! | `ingest` | received messages, collected for the sink |
//! | `tracker`, `track` | the received position of each channel, and messages that are held until their order is known |
//! | `snapshot` | the newest publications of a channel that many subscribers request at once |
//! | `key_expiry` | the times at which keys of maps expire, and the task that removes them |
//! | `link` | the task of the subscriber connection |
//! | `queue` | requests that wait for the publisher connection |
//! | `publisher` | the task of the publisher connection |
//! | `state_reader` | reads of histories and presence, shared by concurrent queries |
//! | `map_state` | pages of the state of a map |
//! | `maps` | maps as arguments and answers of functions |
//! | `retained` | retained messages of MQTT as arguments and answers of functions |
//! | `coalesced` | how identical reads are shared |
//! | `stateful` | the operations of the broker as calls of functions |
//! | `cluster` | a pair of connections for each primary of a cluster, and the assignment of channels to primaries |
//!
//! Invariants:
//! - No lock is held over an await, and none while `done` is called.
//! - Every queue is bounded: publications in bytes, received messages in count and bytes (at the bound they go to the
//!   sink at once), changes of interest by one per topic. One bound belongs to Redis: it closes the connection of a
//!   subscriber that lags by 32 MiB (`client-output-buffer-limit pubsub`).
//! - A publication is never sent twice: a publication that was in flight when the connection broke completes as
//!   `Unavailable`.
//! - No password appears in a log line, in an error, or in a reason given to the sink.

use std::sync::Arc;

use bytes::Bytes;
use tidings_redis_dial::dial::Dialer;
use tidings_redis_dial::url::{Deployment, UrlError};
use tidings_redis_dial::{addr, dial, redirect};
use tidings_wire::{Channel, Topic};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Broker, Probe, PublishCallback, SharedSink};

mod cluster;
mod coalesced;
mod counters;
mod deferred;
mod envelope;
pub mod failures;
mod ingest;
mod interest;
mod key_expiry;
mod library;
mod link;
mod map_state;
mod maps;
mod names;
pub mod options;
mod publisher;
mod queue;
mod retained;
mod sharded_subscriptions;
mod slots;
mod snapshot;
mod state_reader;
mod stateful;
mod track;
mod tracker;
mod wills;

pub use counters::Counters;
pub use options::{Options, OptionsError};

use cluster::Cluster;
use interest::Interest;
use key_expiry::KeyDeadlines;
use link::{Link, LinkRole};
use map_state::StateReads;
use names::Names;
use queue::{Queue, Reply, Request};
use retained::RetainedReads;
use state_reader::StateReader;
use tracker::Tracker;

/// The Redis broker. Dropping it closes all connections; publications without a response complete as `Unavailable`.
pub struct Redis {
    counters: Arc<Counters>,
    /// See [`Options::node`].
    node: String,
    connection: Connection,
    /// Reads of retained messages in flight.
    retained_reads: Arc<RetainedReads>,
    /// Reads of states of maps in flight.
    state_reads: Arc<StateReads>,
    /// When keys of maps expire.
    deadlines: Arc<KeyDeadlines>,
}

/// The connections to Redis.
enum Connection {
    Single(Server),
    Cluster(Arc<Cluster>),
}

/// The connections to one server.
struct Server {
    interest: Arc<Interest>,
    queue: Arc<Queue>,
    tracker: Arc<Tracker>,
    reader: Arc<StateReader>,
    resets: watch::Sender<String>,
    tasks: [JoinHandle<()>; 2],
}

impl Redis {
    /// Checks the options and starts connecting; Redis may be absent, now or later.
    ///
    /// # Errors
    /// [`OptionsError`] when the options cannot work; never because of the state of the network.
    pub fn start(options: Options, sink: SharedSink, runtime: &Handle) -> Result<Arc<Self>, OptionsError> {
        let (counters, deadlines) = (Arc::new(Counters::default()), Arc::<KeyDeadlines>::default());
        let names = Names::new(options.prefix.clone());
        let node = options.node.clone();
        let connection = match (options.deployment()?, options.deployment()?) {
            (Deployment::Server(for_link), Deployment::Server(for_publisher)) => {
                let dialers = (for_link, for_publisher);
                let shared = (&counters, &deadlines);
                Connection::Single(Server::start(dialers, &options, names, sink, shared, runtime))
            }
            (Deployment::Cluster(seeds), _) | (_, Deployment::Cluster(seeds)) => {
                let names = Arc::new(names.in_cluster(options.own));
                let secrets = seeds.secrets.clone();
                let (counters, deadlines) = (Arc::clone(&counters), Arc::clone(&deadlines));
                let cluster = Cluster::start(options, seeds, names, sink, counters, deadlines, runtime);
                Connection::Cluster(cluster.map_err(|e| UrlError::new(&e, &secrets))?)
            }
        };
        let redis = Arc::new(Self {
            counters,
            node,
            connection,
            retained_reads: Arc::default(),
            state_reads: Arc::default(),
            deadlines: Arc::clone(&deadlines),
        });
        runtime.spawn(key_expiry::run(Arc::downgrade(&redis), deadlines));
        Ok(redis)
    }

    /// Counters since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sends a request to the server that has the channel.
    fn send(&self, channel: &Channel, request: Request, reply: Reply) {
        match &self.connection {
            Connection::Single(server) => server.queue.push(request, reply),
            Connection::Cluster(cluster) => match cluster.primary(channel) {
                Some(primary) => primary.queue.push(request, reply),
                None => reply.unavailable(&self.counters),
            },
        }
    }
}

impl Server {
    fn start(
        (for_link, for_publisher): (Dialer, Dialer),
        options: &Options,
        names: Names,
        sink: SharedSink,
        (counters, deadlines): (&Arc<Counters>, &Arc<KeyDeadlines>),
        runtime: &Handle,
    ) -> Self {
        let names = Arc::new(names);
        let interest = Arc::new(Interest::default());
        let queue = Arc::new(Queue::new(options.publish_budget, Arc::clone(counters)));
        queue.await_first_connection();
        let tracker = Arc::new(Tracker::default());
        let reader = StateReader::new(Arc::clone(&queue), Arc::clone(&tracker));
        let (resets, heed) = watch::channel(String::new());
        let link = Link {
            role: LinkRole::Whole,
            dialer: for_link,
            names: Arc::clone(&names),
            interest: Arc::clone(&interest),
            tracker: Arc::clone(&tracker),
            deadlines: Arc::clone(deadlines),
            events: Arc::clone(&sink),
            sink,
            counters: Arc::clone(counters),
            reset: resets.clone(),
            resets: heed.clone(),
            ping_interval: options.ping_interval,
            response_timeout: options.response_timeout,
        };
        let publisher = publisher::Publisher {
            dialer: for_publisher,
            names,
            queue: Arc::clone(&queue),
            resets: heed,
            ping_interval: options.ping_interval,
            response_timeout: options.response_timeout,
            forward: None,
        };
        let tasks = [runtime.spawn(link.run()), runtime.spawn(publisher.run())];
        Self { interest, queue, tracker, reader, resets, tasks }
    }
}

impl Broker for Redis {
    fn subscribe(&self, topic: &Topic) {
        match &self.connection {
            Connection::Single(server) => server.interest.subscribe(topic),
            Connection::Cluster(cluster) => cluster.subscribe(topic),
        }
    }

    fn unsubscribe(&self, topic: &Topic) {
        match &self.connection {
            Connection::Single(server) => server.interest.unsubscribe(topic),
            Connection::Cluster(cluster) => cluster.unsubscribe(topic),
        }
    }

    fn publish(&self, channel: &Channel, body: Bytes, done: PublishCallback) {
        self.send(channel, Request::Plain(channel.clone(), body), Reply::Published(done));
    }

    fn reset(&self, reason: &str) {
        match &self.connection {
            Connection::Single(server) => drop(server.resets.send_replace(reason.to_owned())),
            Connection::Cluster(cluster) => cluster.reset(reason),
        }
    }

    fn probes(&self, own: &str, plain: &str) -> Vec<Probe> {
        match &self.connection {
            Connection::Single(_) => {
                let probe = |channel| Probe { channel, through: "the broker".to_owned(), stateful: true };
                Channel::new(own).map(probe).into_iter().collect()
            }
            Connection::Cluster(cluster) => cluster.probes(own, plain),
        }
    }

    fn reset_for(&self, channel: &Channel, reason: &str) {
        match &self.connection {
            Connection::Single(_) => self.reset(reason),
            Connection::Cluster(cluster) => cluster.reset_for(channel, reason),
        }
    }

    fn name(&self) -> &'static str {
        "redis"
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.deadlines.wake();
        // When its task is aborted, the publisher completes the remaining requests.
        match &self.connection {
            Connection::Single(server) => server.tasks.iter().for_each(JoinHandle::abort),
            Connection::Cluster(cluster) => cluster.stop(),
        }
    }
}
