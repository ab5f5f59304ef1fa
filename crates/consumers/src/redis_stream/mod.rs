//! Streams of Redis, read by a consumer group: several workers for each stream, each with its own connection.
//!
//! A worker reads entries, runs their commands, and acknowledges them. Entries of a worker that has ended are taken over by the
//! others after the visibility timeout.

mod entry;
mod group;

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tidings_config::RedisStreamOptions;
use tidings_log_throttle::LogThrottle;
use tidings_redis_dial::addr::Addr;
use tidings_redis_dial::dial::{Dialer, Target};
use tidings_redis_dial::url::{Deployment, Seeds, UrlError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::entry::{Entry, EntryId};
use self::group::{FIRST_ID, Failure, Member};
use crate::backoff::Backoff;
use crate::metrics::{Counters, OpenConnection};
use crate::runner::{Backlog, Runner};
use crate::{BACKLOG_INTERVAL, CommandTarget, MAX_BATCH, SetupError};

/// The address without an option.
const DEFAULT_ADDRESS: &str = "redis://127.0.0.1:6379";
/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most entries that are read at a time.
const MAX_ENTRIES: usize = 100;

/// The streams of one consumer.
#[derive(Debug)]
pub(crate) struct Source {
    options: RedisStreamOptions,
    runner: Runner,
    backlog: Arc<Backlog>,
    /// The last entry of each stream whose command is done.
    done: Mutex<Vec<Option<EntryId>>>,
    /// Limits log lines about lost connections.
    lost: LogThrottle,
}

impl Source {
    /// The streams of a consumer.
    ///
    /// # Errors
    /// [`SetupError`] if the address of Redis cannot be used.
    pub(crate) fn new(name: &str, options: &RedisStreamOptions) -> Result<Self, SetupError> {
        let source = Self {
            options: options.clone(),
            runner: Runner::new(name),
            backlog: Arc::new(Backlog::new(options.streams.len())),
            done: Mutex::new(vec![None; options.streams.len()]),
            lost: LogThrottle::new(),
        };
        source.deployment().map_err(|error| SetupError::Address {
            option: format!("consumers.{name}.redis_stream.address"),
            reason: error.to_string(),
        })?;
        Ok(source)
    }

    /// The name of the consumer, and the number of its entries that wait.
    pub(crate) fn backlog(&self) -> (String, Arc<Backlog>) {
        (self.runner.name().to_owned(), Arc::clone(&self.backlog))
    }

    /// The last entry of a stream whose command is done, after those of the entries `ids` are done too.
    fn last_done(&self, stream: usize, ids: &[String]) -> Option<EntryId> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let last = done.get_mut(stream)?;
        *last = (*last).max(ids.iter().filter_map(|id| EntryId::parse(id)).max());
        *last
    }

    fn deployment(&self) -> Result<Deployment, UrlError> {
        let address = self.options.address.expose();
        Deployment::from_url(if address.is_empty() { DEFAULT_ADDRESS } else { address }, CONNECT_TIMEOUT)
    }

    /// Starts its workers.
    pub(crate) fn start(
        self: Arc<Self>,
        target: &Arc<dyn CommandTarget>,
        counters: &Arc<Counters>,
        stopped: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) {
        for stream in 0..self.options.streams.len() {
            for number in 0..self.options.num_workers {
                let worker = Worker {
                    source: Arc::clone(&self),
                    target: Arc::clone(target),
                    counters: Arc::clone(counters),
                    stopped: stopped.clone(),
                    stream,
                    is_first: number == 0,
                    name: Member::new_name(),
                    primary: None,
                    backlog_at: Instant::now(),
                };
                tasks.spawn(worker.run());
            }
        }
    }
}

/// One worker of a stream.
struct Worker {
    source: Arc<Source>,
    target: Arc<dyn CommandTarget>,
    counters: Arc<Counters>,
    stopped: watch::Receiver<bool>,
    /// The stream, by its place in the options.
    stream: usize,
    /// Whether it is the worker that reads the number of waiting entries and removes members that have ended.
    is_first: bool,
    /// Its name in the group.
    name: String,
    /// In a cluster: the node with the stream, once it is known.
    primary: Option<Addr>,
    /// When the number of waiting entries is read next.
    backlog_at: Instant,
}

impl Worker {
    /// Reads the stream until the consumer is stopped.
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        while !*self.stopped.borrow() {
            let Err(failure) = self.work_over_one_connection(&mut backoff).await else { return };
            if self.is_first {
                self.source.backlog.set(self.stream, None);
            }
            // The redirect of a seed node is followed without a delay.
            let was_seed = self.primary.is_none();
            self.primary = match &failure {
                Failure::Moved(addr) => addr.clone(),
                _ => None,
            };
            if !(was_seed && self.primary.is_some()) {
                self.wait_after_failure(&failure, &mut backoff).await;
            }
        }
    }

    fn dialer(&self) -> Result<Dialer, UrlError> {
        Ok(match self.source.deployment()? {
            Deployment::Server(dialer) => dialer,
            Deployment::Cluster(seeds) => {
                let client = self.primary_client(&seeds).map_err(|e| UrlError::new(&e, &seeds.secrets))?;
                Dialer::new(Target::Primary(Box::new(client)), seeds.secrets, CONNECT_TIMEOUT)
            }
        })
    }

    /// A client for the node of a cluster that has the stream, or for one that names it.
    fn primary_client(&self, seeds: &Seeds) -> redis::RedisResult<redis::Client> {
        match &self.primary {
            Some(addr) => seeds.client(addr),
            None => redis::Client::open(seeds.nodes[fastrand::usize(..seeds.nodes.len())].clone()),
        }
    }

    /// Reads the stream until the connection is lost, or the consumer is stopped.
    async fn work_over_one_connection(&mut self, backoff: &mut Backoff) -> Result<(), Failure> {
        let mut stopped = self.stopped.clone();
        let mut dialer = self.dialer().map_err(|error| Failure::Redis(error.to_string()))?;
        let opened = dialer.open("tidings-consumer", |_| Ok::<(), ()>(()));
        let connection = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            connection = opened => connection.map_err(Failure::Redis)?,
        };
        let source = Arc::clone(&self.source);
        let options = &source.options;
        let name = self.name.clone();
        let mut member = Member {
            stream: options.streams[self.stream].as_str(),
            group: &options.consumer_group,
            name: &name,
            connection,
            dialer: &dialer,
        };
        member.create_group(source.last_done(self.stream, &[])).await?;
        let _open = OpenConnection::new(&self.counters);
        let visible = options.visibility_timeout;
        // Entries of members that have ended are looked for often enough that they wait for at most half the timeout more.
        let mut claim_at = Instant::now();
        let mut cursor = FIRST_ID.to_owned();
        let mut count = MAX_ENTRIES;
        while !*self.stopped.borrow() {
            self.report_backlog(&mut member).await?;
            let is_claim = Instant::now() >= claim_at;
            let entries = if is_claim {
                let (entries, next) = member.claim(visible, count, &cursor).await?;
                if next == FIRST_ID {
                    claim_at = Instant::now() + visible / 2;
                    if self.is_first {
                        member.remove_members(false).await?;
                    }
                }
                cursor = next;
                entries
            } else {
                member.read(count).await?
            };
            if !entries.is_empty() {
                count = next_count(&entries);
                self.run_entries(&mut member, &entries).await?;
            }
            // Entries were acknowledged, or the connection has been in use for the time of a read.
            if !entries.is_empty() || !is_claim {
                backoff.reset();
            }
        }
        member.remove_members(true).await
    }

    /// Reads the number of waiting entries, if it is due.
    async fn report_backlog(&mut self, member: &mut Member<'_>) -> Result<(), Failure> {
        if self.is_first && Instant::now() >= self.backlog_at {
            self.backlog_at = Instant::now() + BACKLOG_INTERVAL;
            self.source.backlog.set(self.stream, member.backlog().await?);
        }
        Ok(())
    }

    /// Runs the commands of entries, and acknowledges those that are done. A command that fails temporarily is repeated; those behind
    /// it wait. Entries that are not done when the consumer is stopped stay with the group.
    async fn run_entries(&mut self, member: &mut Member<'_>, entries: &[Entry]) -> Result<(), Failure> {
        let mut stopped = self.stopped.clone();
        let mut attempts = Backoff::default();
        let mut done = Vec::with_capacity(entries.len());
        let mut renewed_at = Instant::now();
        for (at, entry) in entries.iter().enumerate() {
            if *stopped.borrow() {
                break;
            }
            while !self.run_entry(member, (&entries[at..], entry), &mut done, &mut renewed_at).await? {
                self.acknowledge(member, &mut done).await?;
                self.report_backlog(member).await?;
                let stop = stopped.wait_for(|stopped| *stopped).map(|_| ());
                if tokio::time::timeout(attempts.next(), stop).await.is_ok() {
                    return Ok(());
                }
            }
            attempts.reset();
            done.push(entry.id.clone());
        }
        self.acknowledge(member, &mut done).await
    }

    /// Runs the command of the first of the entries `left`, and renews the claims to them meanwhile. Returns whether it is done.
    async fn run_entry(
        &self,
        member: &mut Member<'_>,
        (left, entry): (&[Entry], &Entry),
        done: &mut Vec<String>,
        renewed_at: &mut Instant,
    ) -> Result<bool, Failure> {
        let Source { options, runner, .. } = &*self.source;
        let id = format!("{} {}", member.stream, entry.id);
        // The hash also keeps the key short: the name of a stream can be longer than a key may be.
        let key = format!("consumer {} {} {:016x}", runner.name(), entry.id, entry.hash(member.stream));
        let command = entry.command(options);
        let command = command.as_ref().map(|(method, params)| (&**method, params.clone()));
        let run = runner.run((&self.target, &*self.counters), &id, command.map_err(Clone::clone), key);
        let mut run = pin!(run);
        loop {
            let renewal = *renewed_at + options.visibility_timeout / 3;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(renewal.into()) => {}
                is_done = &mut run => return Ok(is_done),
            }
            self.acknowledge(member, done).await?;
            member.renew_claims(left.iter().map(|entry| &*entry.id)).await?;
            *renewed_at = Instant::now();
        }
    }

    /// Acknowledges entries, and clears the list.
    async fn acknowledge(&self, member: &mut Member<'_>, done: &mut Vec<String>) -> Result<(), Failure> {
        self.source.last_done(self.stream, done);
        member.acknowledge(done).await
    }

    /// Counts and logs a lost connection, and waits until the next one may be opened.
    async fn wait_after_failure(&mut self, failure: &Failure, backoff: &mut Backoff) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let time = backoff.next();
        if let Some(count) = self.source.lost.count() {
            tracing::warn!(
                consumer = self.source.runner.name(),
                stream = self.source.options.streams[self.stream].as_str(),
                error = %failure,
                count,
                "a consumer cannot read its stream; it tries again"
            );
        }
        let stopped = self.stopped.wait_for(|stopped| *stopped).map(|_| ());
        let _ = tokio::time::timeout(time, stopped).await;
    }
}

/// The number of entries to read after these: [`MAX_BATCH`] divided by the size of the largest one, at most [`MAX_ENTRIES`].
fn next_count(entries: &[Entry]) -> usize {
    let largest = entries.iter().map(Entry::size).max().unwrap_or_default();
    let most = usize::try_from(MAX_BATCH).unwrap_or(usize::MAX);
    (most / largest.max(1)).clamp(1, MAX_ENTRIES)
}
