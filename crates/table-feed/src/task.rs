//! The task of a channel: waits until this process may write the table, and then writes publications as they arrive.

use std::sync::Arc;
use std::time::Duration;

use tidings_table_service::{Failure, FedTable, Written};

use crate::batch::{Batch, Keys, Skipped};
use crate::catch_up::CatchUp;
use crate::counters::{FeedCounters, Outcome};
use crate::{Feed, Histories};

/// The least time between two changes, which have the publications that arrived meanwhile.
const WRITE_INTERVAL: Duration = Duration::from_millis(20);
/// The interval of attempts to become the writing process, and to write after an error that may pass.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The interval of attempts to read the keys of a table whose keys do not fit into memory: an attempt reads the whole table.
const MEMORY_INTERVAL: Duration = Duration::from_secs(30);

/// The reason of rows whose keys do not fit into memory.
const NO_MEMORY: &str = "the keys of all tables take the memory for keys";

/// Runs until the service stops.
pub(crate) async fn run(
    feed: Arc<Feed>,
    table: FedTable,
    histories: Arc<dyn Histories>,
    counters: Arc<FeedCounters>,
) {
    let table = Arc::new(table);
    let writer = Writer { feed, table: Arc::clone(&table), histories, counters };
    tokio::select! {
        () = writer.run() => {}
        // A write is abandoned: it is complete or not begun, and the history has it after a restart.
        () = table.stopped() => {}
    }
}

struct Writer {
    feed: Arc<Feed>,
    table: Arc<FedTable>,
    histories: Arc<dyn Histories>,
    counters: Arc<FeedCounters>,
}

impl Writer {
    async fn run(&self) {
        let _lock = self.lock().await;
        self.feed.queue.open();
        let mut keys = self.keys().await;
        let mut catch_up = CatchUp::default();
        loop {
            if let Some(bodies) = catch_up.wait(&self.feed, &*self.histories, &self.counters).await {
                self.write(bodies, &mut keys).await;
            }
            let bodies = self.feed.queue.take();
            self.write(bodies, &mut keys).await;
            self.feed.queue.on_written();
            tokio::time::sleep(WRITE_INTERVAL).await;
        }
    }

    /// Waits until no other process writes the table.
    async fn lock(&self) -> std::fs::File {
        loop {
            let table = Arc::clone(&self.table);
            match tokio::task::spawn_blocking(move || table.lock()).await {
                Ok(Ok(Some(lock))) => return lock,
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => self.count_retry(&error.to_string()),
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// The keys of the rows of the table.
    async fn keys(&self) -> Keys {
        loop {
            let keys = self.table.fold_keys(Keys::new(self.table.key_memory()), Keys::add_stored).await;
            let interval = match keys {
                Ok(keys) if !keys.is_full => return keys,
                Ok(_) => {
                    self.count_retry(NO_MEMORY);
                    MEMORY_INTERVAL
                }
                Err(Failure { message, .. }) => {
                    self.count_retry(&message);
                    RETRY_INTERVAL
                }
            };
            tokio::time::sleep(interval).await;
        }
    }

    /// Writes the newest object of each key.
    async fn write(&self, bodies: impl IntoIterator<Item = Box<[u8]>>, keys: &mut Keys) {
        let options = &self.feed.options;
        let max_rows = usize::try_from(options.max_rows).unwrap_or(usize::MAX);
        let bodies: Vec<_> = bodies.into_iter().collect();
        let more = bodies.len().min(max_rows.saturating_sub(keys.known.len()));
        let has_memory = keys.reserve(more);
        let most = if has_memory { max_rows } else { keys.known.len() };
        let (batch, skipped) = Batch::collect(bodies, &options.key, keys, most);
        let Skipped { no_object, no_key, full, replaced } = skipped;
        self.skip(Outcome::NoObject, no_object, "they are no JSON objects");
        self.skip(Outcome::NoKey, no_key, "they do not have all members of the key");
        let reason = if has_memory { "the table has max_rows rows" } else { NO_MEMORY };
        self.skip(Outcome::Full, full, reason);
        self.counters.add(Outcome::Replaced, replaced);
        let mut parts = batch.parts();
        parts.reverse();
        while let Some(part) = parts.pop() {
            let written = self.write_part(&part).await;
            match written {
                Ok(written) => {
                    if written == Written::FirstRows && !keys.known.is_empty() {
                        let channel = self.feed.channel.as_str();
                        tracing::warn!(
                            channel,
                            "the table of a channel was removed; its history is written again"
                        );
                        keys.known.clear();
                        self.feed.queue.request_history();
                    }
                    keys.known.extend(part.keys());
                    self.counters.add(Outcome::Written, part.len() as u64);
                }
                // One of the objects is not accepted: it is found by halving.
                Err(failure) if matches!(failure.code, 400 | 415 | 422) => match part.halves() {
                    Ok([first, second]) => parts.extend([second, first]),
                    Err(_) => self.skip(Outcome::Refused, 1, &failure.message),
                },
                Err(failure) => self.skip(Outcome::Refused, part.len() as u64, &failure.message),
            }
        }
        // Objects that were no new rows need no memory.
        keys.reserve(0);
    }

    /// Writes a part of a batch. Tries again while the error may pass; publications wait in the queue meanwhile.
    async fn write_part(&self, part: &Batch) -> Result<Written, Failure> {
        loop {
            match self.table.write(part.lines()).await {
                Err(Failure { code: 404 | 409 | 500 | 503, message }) => {
                    self.count_retry(&message);
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                written => return written,
            }
        }
    }

    fn count_retry(&self, reason: &str) {
        self.counters.count_retry(&self.feed, reason);
    }

    fn skip(&self, outcome: Outcome, publications: u64, reason: &str) {
        self.counters.skip(&self.feed, outcome, publications, reason);
    }
}
