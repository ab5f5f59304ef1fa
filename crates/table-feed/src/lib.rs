//! Tables of channels (`tables.from_channel`): a publication that is a JSON object is a row, and replaces the row with the same
//! key.
//!
//! ```text
//! lib.rs       the channels, and what the broker delivers in them
//! queue.rs     the publications of a channel that are not written yet
//! task.rs      the task that writes them
//! catch_up.rs  reading the history after a gap
//! batch.rs     the newest object of each key
//! object.rs    the key of an object
//! counters.rs  outcomes
//! ```
//!
//! The crate knows the table service, and reads histories through the trait [`Histories`], which the server implements.
//!
//! Invariants:
//! - The rows follow from the publications in their order, whatever happens between: a write replaces rows by key, so the
//!   history is written again after each gap (start, reconnect, another process) without harm.
//! - A channel has at most one writing task among all processes that share the folder of tables.
//! - The thread that reads from the broker copies a publication into a bounded queue, and does nothing else.
//! - A publication that does not become a row is counted by its reason, and logged (throttled).

mod batch;
mod catch_up;
mod counters;
mod object;
mod queue;
mod task;

use std::sync::Arc;
use std::{fmt, io};

use tidings_config::{Config, TableFeed};
use tidings_metrics::{BYTES, Collect, MetricWriter};
use tidings_table_service::{FedTable, Service};
use tidings_wire::{Channel, NameMap, Publication, Topic};

use counters::{FeedCounters, FeedLines, Outcome};
use queue::Queue;

/// The most bytes of the history of a channel that are read.
pub const MAX_HISTORY: usize = queue::LIMIT;

/// Completion callback of a history: its publications, the oldest first; `None` when it cannot be read now. Called at most
/// once, from any thread.
pub type HistoryCallback = Box<dyn FnOnce(Option<Vec<Arc<Publication>>>) + Send>;

/// Reads the histories of channels.
pub trait Histories: Send + Sync + 'static {
    /// Reads the newest [`MAX_HISTORY`] bytes of the history of a channel; nothing if it has none.
    fn history(&self, channel: &Channel, done: HistoryCallback);
}

/// The channels whose publications make tables.
#[derive(Debug, Default)]
pub struct Feeds {
    all: NameMap<Topic, Arc<Feed>>,
    counters: Arc<FeedCounters>,
}

/// A channel whose publications make a table.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) channel: Channel,
    pub(crate) options: TableFeed,
    pub(crate) queue: Queue,
    pub(crate) lines: FeedLines,
}

/// The metrics of all channels.
struct FeedMetrics {
    counters: Arc<FeedCounters>,
    feeds: Vec<Arc<Feed>>,
}

impl Collect for FeedMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        self.counters.collect(out)?;
        out.gauge(
            "tidings_table_feed_waiting",
            BYTES,
            "Bytes of publications in the channels of tables that are not written yet",
            self.feeds.iter().map(|feed| feed.queue.waiting_bytes() as u64).sum::<u64>(),
        )
    }
}

impl Feeds {
    /// The configured channels. Their publications are ignored until [`Self::start`].
    pub fn from_config(config: &Config) -> Self {
        let mut feeds = Self::default();
        if !config.tables.enabled {
            return feeds;
        }
        for options in config.tables.from_channel.iter() {
            // The names were checked with the configuration.
            let Ok(channel) = Channel::new(options.channel.as_str()) else { continue };
            let topic = Topic::Channel(channel.clone());
            let feed = Feed {
                channel,
                options: options.clone(),
                queue: Queue::default(),
                lines: FeedLines::default(),
            };
            feeds.all.insert(topic, Arc::new(feed));
        }
        feeds
    }

    /// The topics of the channels.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.all.keys()
    }

    /// The counters, and the publications that wait.
    pub fn metrics(&self) -> impl Collect + use<> {
        FeedMetrics { counters: Arc::clone(&self.counters), feeds: self.all.values().cloned().collect() }
    }

    /// Takes a publication of one of the channels. Called on the thread that reads from the broker; does not block.
    pub fn on_publication(&self, topic: &Topic, publication: &Publication) {
        let Some(feed) = self.all.get(topic) else { return };
        let dropped = feed.queue.push(&publication.body);
        let reason = "they arrive faster than the table is written";
        self.counters.skip(feed, Outcome::Overflow, dropped, reason);
    }

    /// Publications in a topic may have been missed: the broker has confirmed it, perhaps again, or reports a gap.
    pub fn catch_up(&self, topic: &Topic) {
        if let Some(feed) = self.all.get(topic) {
            feed.queue.request_history();
        }
    }

    /// Starts the tasks of the channels. Call within a runtime. Blocks on the disk for a moment.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn start(&self, service: &Arc<Service>, histories: &Arc<dyn Histories>) -> io::Result<()> {
        for feed in self.all.values() {
            let TableFeed { channel, key, name, .. } = &feed.options;
            let name =
                if name.is_empty() { format!("{}.jsonl", channel.replace('/', "-")) } else { name.clone() };
            let table: FedTable = service.fed_table(channel, &name, key)?;
            tracing::info!(channel, "the publications of this channel make the table {}", table.path());
            tokio::spawn(task::run(
                Arc::clone(feed),
                table,
                Arc::clone(histories),
                Arc::clone(&self.counters),
            ));
        }
        Ok(())
    }
}
