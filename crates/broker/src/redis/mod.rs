//! The broker that stands on a Redis server, on the master that Sentinels name, or on a cluster (see `cluster`, and
//! there what is different).
//!
//! Two connections, each with a task of its own that reconnects for ever: one hears (`SUBSCRIBE`, RESP3 pushes), one
//! publishes and asks (`PUBLISH`, `FCALL`, pipelined). A flood of messages never delays a publication, and either may
//! break without the other. Whoever publishes with any other client by a plain `PUBLISH` is heard just as well; what is
//! to be remembered is published by a function that is loaded into Redis, which anybody may call too.
//!
//! Histories, results and presence live in Redis alone. What a node keeps is how far it has heard each channel, so
//! that it can fetch what it has missed when its connection was lost.
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | the URL and the bounds, checked before anything is started |
//! | `dial` | how a connection is made, and when the next attempt may be |
//! | `names` | the prefix: channel names as Redis knows them |
//! | `library` | the functions that Redis is given |
//! | [`failures`] | error replies: what they mean, their counts, their lines in the log |
//! | `envelope` | messages that say more than a body |
//! | `interest` | what ought to be subscribed, what is, and what is to be done about it; no I/O |
//! | `ingest` | messages as they come off the connection, collected for the sink |
//! | `tracker`, `track` | how far each channel was heard, and what is held until that is clear |
//! | `snapshot` | the newest publications of a channel that many ask for |
//! | `link` | the task of the hearing connection |
//! | `queue` | what waits for the publishing connection |
//! | `publisher` | the task of that connection |
//! | `flights` | reads of histories and presence, shared by all who ask at once |
//! | `reads` | how identical reads are shared |
//! | `stateful` | the broker's questions as calls of functions |
//! | `cluster` | a pair of connections for each primary of a cluster, and which channel is with which |
//!
//! Invariants:
//! - No lock is held over an await, and none while `done` is called.
//! - What waits is bounded: publications in bytes, heard messages by count and bytes (then the sink gets them at
//!   once), changes of interest by one per topic. The one bound that is not ours is on a single message heard: Redis
//!   itself cuts a subscriber off that lags by 32 MiB (`client-output-buffer-limit pubsub`).
//! - A publication is never sent twice: what was in flight when the connection broke is answered `Unavailable`.
//! - No password appears in a log line, in an error, or in a reason given to the sink.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use tidings_wire::{Channel, Topic};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Broker, Done, Probe, SharedSink};

mod cluster;
mod dial;
mod envelope;
pub mod failures;
mod flights;
mod ingest;
mod interest;
mod library;
mod link;
mod names;
pub mod options;
mod publisher;
mod queue;
mod reads;
mod snapshot;
mod stateful;
mod track;
mod tracker;

pub use options::{Options, OptionsError};

use cluster::Fleet;
use dial::Dialer;
use flights::Flights;
use interest::Interest;
use link::{Link, Part};
use names::Names;
use options::Place;
use queue::{Queue, Reply, Request};
use tracker::Tracker;

/// What has happened since the start, for the metrics page. Each is updated on its own.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages heard from Redis, those with invalid names included.
    pub heard: AtomicU64,
    /// Messages dropped because their channel is no [`Channel`] name (only a pattern can hear such).
    pub invalid_names: AtomicU64,
    /// Messages dropped because they are not the envelopes that belong where they came.
    pub invalid_envelopes: AtomicU64,
    /// Publications that were missed on the connection and fetched from their stream.
    pub fetched: AtomicU64,
    /// Gaps announced: publications were missed and could not be fetched.
    pub gaps: AtomicU64,
    /// Publications that Redis took.
    pub published: AtomicU64,
    /// Publications answered with an error, whatever it was.
    pub publish_failures: AtomicU64,
    /// Bytes of the publications that wait or are in flight, each with an allowance for its keeping.
    pub bytes_waiting: AtomicU64,
    /// Connections for hearing that were made after the first one.
    pub reconnects: AtomicU64,
    /// Error replies of Redis.
    pub failures: failures::Failures,
}

/// The Redis broker. Dropping it ends all connections; publications not yet answered are answered `Unavailable`.
pub struct Redis {
    counters: Arc<Counters>,
    /// See [`Options::node`].
    node: String,
    place: Connected,
}

/// To whom there are connections.
enum Connected {
    One(Server),
    Many(Arc<Fleet>),
}

/// One server.
struct Server {
    interest: Arc<Interest>,
    queue: Arc<Queue>,
    tracker: Arc<Tracker>,
    flights: Arc<Flights>,
    resets: watch::Sender<String>,
    tasks: [JoinHandle<()>; 2],
}

impl Redis {
    /// Checks the options and starts connecting; Redis may be absent, now or later.
    ///
    /// # Errors
    /// [`OptionsError`] when the options cannot work; never because of the state of the network.
    pub fn start(options: Options, sink: SharedSink, runtime: &Handle) -> Result<Arc<Self>, OptionsError> {
        let counters = Arc::new(Counters::default());
        let names = Names::new(options.prefix.clone());
        let node = options.node.clone();
        let place = match (options.place()?, options.place()?) {
            (Place::Server(for_link), Place::Server(for_publisher)) => {
                let dialers = (for_link, for_publisher);
                Connected::One(Server::start(dialers, &options, names, sink, &counters, runtime))
            }
            (Place::Cluster(seeds), _) | (_, Place::Cluster(seeds)) => {
                let names = Arc::new(names.in_cluster(options.own));
                let secrets = seeds.secrets.clone();
                let fleet = Fleet::start(options, seeds, names, sink, Arc::clone(&counters), runtime);
                Connected::Many(fleet.map_err(|e| OptionsError::url(&e, &secrets))?)
            }
        };
        Ok(Arc::new(Self { counters, node, place }))
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sends a request to whoever has the channel.
    fn send(&self, channel: &Channel, request: Request, reply: Reply) {
        match &self.place {
            Connected::One(server) => server.queue.push(request, reply),
            Connected::Many(fleet) => match fleet.member(channel) {
                Some(member) => member.queue.push(request, reply),
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
        counters: &Arc<Counters>,
        runtime: &Handle,
    ) -> Self {
        let names = Arc::new(names);
        let interest = Arc::new(Interest::default());
        let queue = Arc::new(Queue::new(options.publish_budget, Arc::clone(counters)));
        queue.await_first_connection();
        let tracker = Arc::new(Tracker::default());
        let flights = Flights::new(Arc::clone(&queue), Arc::clone(&tracker));
        let (resets, heed) = watch::channel(String::new());
        let link = Link {
            part: Part::Whole,
            dialer: for_link,
            names: Arc::clone(&names),
            interest: Arc::clone(&interest),
            tracker: Arc::clone(&tracker),
            news: Arc::clone(&sink),
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
            fleet: None,
        };
        let tasks = [runtime.spawn(link.run()), runtime.spawn(publisher.run())];
        Self { interest, queue, tracker, flights, resets, tasks }
    }
}

impl Broker for Redis {
    fn subscribe(&self, topic: &Topic) {
        match &self.place {
            Connected::One(server) => server.interest.subscribe(topic),
            Connected::Many(fleet) => fleet.subscribe(topic),
        }
    }

    fn unsubscribe(&self, topic: &Topic) {
        match &self.place {
            Connected::One(server) => server.interest.unsubscribe(topic),
            Connected::Many(fleet) => fleet.unsubscribe(topic),
        }
    }

    fn publish(&self, channel: &Channel, body: Bytes, done: Done) {
        self.send(channel, Request::Plain(channel.clone(), body), Reply::Published(done));
    }

    fn reset(&self, reason: &str) {
        match &self.place {
            Connected::One(server) => drop(server.resets.send_replace(reason.to_owned())),
            Connected::Many(fleet) => fleet.reset(reason),
        }
    }

    fn probes(&self, own: &str, plain: &str) -> Vec<Probe> {
        match &self.place {
            Connected::One(_) => {
                let probe = |channel| Probe { channel, through: "the broker".to_owned(), stateful: true };
                Channel::new(own).map(probe).into_iter().collect()
            }
            Connected::Many(fleet) => fleet.probes(own, plain),
        }
    }

    fn reset_for(&self, channel: &Channel, reason: &str) {
        match &self.place {
            Connected::One(_) => self.reset(reason),
            Connected::Many(fleet) => fleet.reset_for(channel, reason),
        }
    }

    fn name(&self) -> &'static str {
        "redis"
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // As it goes, a publishing task answers what is left.
        match &self.place {
            Connected::One(server) => server.tasks.iter().for_each(JoinHandle::abort),
            Connected::Many(fleet) => fleet.stop(),
        }
    }
}
