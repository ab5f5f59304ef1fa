//! Tables in an S3 bucket that all nodes share. The disk of each node holds copies.
//!
//! ```text
//! <prefix>/<uuid>/record.json                   the table's record; replaced conditionally (If-Match)
//!                /f-<random>/<start>-<end>      a complete upload, or several merged objects
//!                           /<start>            rows appended at this byte; put conditionally (If-None-Match)
//! ```
//!
//! Invariants:
//! - An object of a file is written once and never changed; its name contains the range of its bytes ([`chain`]). So a
//!   file only grows, two concurrent appends cannot succeed at the same offset, and a copy on a disk can be incomplete
//!   but never wrong.
//! - A file is put before the record names it, and removed after the record names another one. Objects that no record
//!   has named for an hour ([`ORPHAN_AGE`]) are removed ([`sweep`]).
//! - Of two records the one with the larger stamp is kept, whichever is written first. A node that has read a record
//!   does not write it again after its removal.
//! - Each transfer holds at most one part of a file in memory ([`PART_SIZE`]). At most [`MAX_PUTS`] uploads run
//!   concurrently.
//!
//! All methods may block on the network: at most for `tables.s3.timeout` and its retries.

mod chain;
mod http;
mod list;
mod sweep;
mod transfer;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, GetOptions, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions,
    RetryConfig, UpdateVersion,
};
use tokio::runtime::{self, Runtime};
use tokio::sync::{Semaphore, watch};

use crate::StoreError;
use crate::disk::TableFolder;
use crate::id::TableId;
use crate::options::{BucketOptions, StoreOptions};
use crate::record::Record;
use http::Connector;
use tidings_log_throttle::LogThrottle;
use tidings_metrics::{KeyedCounters, labels};

/// The name of the record's object.
const RECORD: &str = "record.json";
/// The largest accepted record, in bytes.
const MAX_RECORD: u64 = 1 << 20;
/// The size of one part of an upload; S3 accepts parts from 5 MiB on.
const PART_SIZE: u64 = 8 << 20;
/// The most concurrent uploads to the bucket; each holds a part in memory.
const MAX_PUTS: usize = 4;
/// The most concurrent downloads from the bucket.
const MAX_GETS: usize = 8;
/// The retries of a request.
const MAX_RETRIES: usize = 3;
/// The attempts to write a record that other nodes write concurrently.
const MAX_ATTEMPTS: usize = 16;
/// The age at which objects without a record are removed. Younger ones may belong to a running upload.
const ORPHAN_AGE: Duration = Duration::from_secs(60 * 60);

/// Counters of a node's requests to the bucket, for the metrics.
#[derive(Debug, Default)]
pub struct BucketCounters {
    /// Whether the last request succeeded.
    pub up: AtomicBool,
    /// Requests by outcome.
    pub requests: KeyedCounters<RequestOutcome>,
    /// Bytes of requests, without their heads.
    pub sent: AtomicU64,
    /// Bytes of responses, without their heads.
    pub received: AtomicU64,
    /// Appends that were repeated because another node appended first.
    pub conflicts: AtomicU64,
}

labels! {
    /// The outcome of a request to the bucket.
    pub enum RequestOutcome {
        /// There is a response with a status below 500.
        Answered => "answered",
        /// There is no response, or one with a status from 500 on.
        Failed => "failed",
    }
}

impl BucketCounters {
    fn record(&self, outcome: RequestOutcome) {
        self.requests.add(outcome);
        self.up.store(outcome == RequestOutcome::Answered, Ordering::Relaxed);
    }
}

/// The tables of all nodes.
pub(super) struct Bucket {
    s3: AmazonS3,
    /// The store as the option names it.
    name: String,
    prefix: String,
    /// The log lines of failed requests.
    failures: LogThrottle,
    /// The runtime of the requests. Threads that wait for them may outlive the server's runtime briefly. `Some` until
    /// the drop.
    runtime: Option<Runtime>,
    closing: watch::Sender<bool>,
    pub(super) counters: Arc<BucketCounters>,
    puts: Semaphore,
    gets: Semaphore,
    /// Whether the tables of all nodes were counted.
    is_counted: AtomicBool,
    max_total: u64,
    keep: Duration,
    /// Bytes and tables: the last count plus the uploads of this node since then.
    used: AtomicU64,
    tables: AtomicU64,
    sweeping: Mutex<sweep::SweepTimes>,
    /// Whether the store supports conditional writes; empty until it was tested.
    has_conditional_writes: OnceLock<bool>,
    /// Multipart uploads that could not be aborted.
    unaborted: Mutex<Vec<(Path, String)>>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.name)
    }
}

/// The outcome of writing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveOutcome {
    /// The record, or a newer one, is stored.
    Stored,
    /// The table was deleted.
    Deleted,
}

/// The outcome of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitOutcome {
    /// The rows are stored. `needs_compaction`: the file has so many objects that it should be compacted.
    Stored { needs_compaction: bool },
    /// Another node has appended at the same offset.
    Conflict,
    /// The file was removed.
    FileRemoved,
}

impl Bucket {
    /// Prepares the use of a bucket. Sends no request.
    ///
    /// # Errors
    /// Invalid options, environment variables, or system certificates.
    pub(super) fn open(bucket: &BucketOptions, options: &StoreOptions) -> io::Result<Self> {
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&bucket.name);
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint.trim_end_matches('/'));
        }
        if !bucket.region.is_empty() {
            builder = builder.with_region(&bucket.region);
        }
        if bucket.virtual_hosted_style {
            builder = builder.with_virtual_hosted_style_request(true);
        }
        if !bucket.access_key_id.is_empty() {
            builder = builder
                .with_access_key_id(&bucket.access_key_id)
                .with_secret_access_key(&bucket.secret_access_key);
        }
        let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
            .iter()
            .find_map(|key| builder.get_config_value(key));
        let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client = AmazonS3ConfigKey::Client(object_store::ClientConfigKey::AllowHttp);
        let allowed = builder.get_config_value(&client).as_deref() == Some("true");
        if is_plain && !allowed && !bucket.allow_http {
            return Err(io::Error::other(
                "AWS_ENDPOINT_URL begins with http://, so others on the network could read and change tables; set \
                 tables.s3.allow_http = true to allow it",
            ));
        }
        let counters = Arc::new(BucketCounters::default());
        let tls = (bucket.tls)(!is_plain)?;
        let closing = watch::Sender::new(false);
        let connector = Connector {
            tls,
            limit: bucket.timeout,
            counters: Arc::clone(&counters),
            closing: closing.subscribe(),
        };
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .thread_name("tidings-bucket")
            .enable_all()
            .build()?;
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 3.0,
        };
        let s3 = builder
            .with_allow_http(allowed || bucket.allow_http)
            .with_retry(RetryConfig { backoff, max_retries: MAX_RETRIES, retry_timeout: bucket.timeout })
            .with_http_connector(connector)
            .build()
            .map_err(|error| io::Error::other(format!("tables.store: {}", error_line(&error))))?;
        Ok(Self {
            s3,
            name: bucket.url(),
            failures: LogThrottle::new(),
            prefix: if bucket.prefix.is_empty() { String::new() } else { format!("{}/", bucket.prefix) },
            runtime: Some(runtime),
            closing,
            counters,
            puts: Semaphore::new(MAX_PUTS),
            gets: Semaphore::new(MAX_GETS),
            is_counted: AtomicBool::new(false),
            max_total: options.max_total,
            keep: options.keep,
            used: AtomicU64::new(0),
            tables: AtomicU64::new(0),
            sweeping: Mutex::default(),
            has_conditional_writes: OnceLock::new(),
            unaborted: Mutex::default(),
        })
    }

    /// The number of tables and their bytes, as last counted.
    pub(super) fn stored(&self) -> (u64, u64) {
        (self.tables.load(Ordering::Relaxed), self.used.load(Ordering::Relaxed))
    }

    /// The interval at which a node rewrites the record of an open table. The table counts as in use for twice this
    /// time.
    pub(super) fn lease(&self) -> Duration {
        (self.keep / 4).min(Duration::from_secs(300))
    }

    /// The record of a table, and its version in the bucket.
    pub(super) fn record(&self, id: TableId) -> Result<Option<(Record, UpdateVersion)>, StoreError> {
        self.block_on(self.read_record(id))
    }

    async fn read_record(&self, id: TableId) -> Result<Option<(Record, UpdateVersion)>, StoreError> {
        let got = match self.s3.get_opts(&self.path(id, RECORD), GetOptions::default()).await {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.unavailable("reading a table's record", &error)),
        };
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        if got.meta.size > MAX_RECORD {
            if let Some(times) = self.failures.count() {
                let bytes = got.meta.size;
                tracing::error!(table = %id, bytes, times, "the record of a table exceeds the limit");
            }
            return Err(StoreError::Corrupt);
        }
        let bytes =
            got.bytes().await.map_err(|error| self.unavailable("reading a table's record", &error))?;
        match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some((record, version))),
            Err(error) => {
                if let Some(times) = self.failures.count() {
                    tracing::error!(%error, table = %id, times, "the record of a table in the bucket is invalid");
                }
                Err(StoreError::Corrupt)
            }
        }
    }

    /// Writes a record, unless there is a newer one. The table counts as used now.
    pub(super) fn save(
        &self,
        table_folder: &TableFolder,
        record: &Record,
    ) -> Result<SaveOutcome, StoreError> {
        self.check_conditional_writes()?;
        let path = self.path(table_folder.id, RECORD);
        let bytes = serde_json::to_vec(record).map_err(io::Error::from)?;
        let mut bucket_version = table_folder.bucket_version.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MAX_ATTEMPTS {
            let was_there = bucket_version.is_some();
            let mode = bucket_version.clone().map_or(PutMode::Create, PutMode::Update);
            let put = self.s3.put_opts(&path, bytes.clone().into(), PutOptions::from(mode));
            match self.block_on(put) {
                Ok(put) => {
                    *bucket_version = Some(UpdateVersion { e_tag: put.e_tag, version: put.version });
                    return Ok(SaveOutcome::Stored);
                }
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                    match self.record(table_folder.id)? {
                        Some((there, version)) => {
                            *bucket_version = Some(version);
                            // The same stamp means that another node stored the same change, or that an earlier attempt
                            // of this node succeeded and its response was lost.
                            if there.stamp >= record.stamp {
                                return Ok(SaveOutcome::Stored);
                            }
                        }
                        None if was_there => return Ok(SaveOutcome::Deleted),
                        None => {}
                    }
                }
                Err(error) => return Err(self.unavailable("writing a table's record", &error)),
            }
        }
        Err(StoreError::Conflict("change"))
    }

    /// Removes the record of a table without a file, after its first upload failed.
    pub(super) fn remove_record(&self, table_folder: &TableFolder) -> Result<(), StoreError> {
        let mut bucket_version = table_folder.bucket_version.lock().unwrap_or_else(PoisonError::into_inner);
        *bucket_version = None;
        self.block_on(self.remove(&self.path(table_folder.id, RECORD)))
    }

    /// Removes a table. The record is removed first: without it the table does not exist.
    pub(super) fn delete(&self, id: TableId) -> Result<(), StoreError> {
        self.block_on(async {
            self.remove(&self.path(id, RECORD)).await?;
            self.remove_below(&self.path(id, "")).await
        })
    }

    /// Removes a file.
    pub(super) fn remove_file(&self, id: TableId, file: &str) -> Result<(), StoreError> {
        self.block_on(self.remove_below(&self.path(id, file)))
    }

    async fn remove_below(&self, folder: &Path) -> Result<(), StoreError> {
        for object in self.list(folder).await? {
            self.remove(&object.location).await?;
            self.release(object.size);
        }
        Ok(())
    }

    /// Removes an object. Succeeds if it does not exist.
    async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match self.s3.delete(path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.unavailable("removing an object", &error)),
        }
    }

    /// All objects below a prefix.
    async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>, StoreError> {
        let listed = self.s3.list(Some(folder)).try_collect().await;
        listed.map_err(|error| self.unavailable("listing objects", &error))
    }

    /// # Errors
    /// [`StoreError::Unavailable`] when the store is known to ignore conditions of writes.
    fn check_conditional_writes(&self) -> Result<(), StoreError> {
        if self.has_conditional_writes.get() == Some(&false) {
            let what = "the store of tables ignores conditions of writes (If-Match, If-None-Match), without which nodes \
                        would overwrite each other's tables; use another store (tables.store)";
            return Err(StoreError::Unavailable(what));
        }
        Ok(())
    }

    fn release(&self, bytes: u64) {
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(bytes)));
    }

    fn path(&self, id: TableId, rest: &str) -> Path {
        Path::from(format!("{}{id}/{rest}", self.prefix))
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("set until the drop").block_on(future)
    }

    /// Cancels all requests, also running ones.
    pub(super) fn shut_down(&self) {
        self.closing.send_replace(true);
    }

    /// The error for callers. The original text is logged.
    fn unavailable(&self, doing: &str, error: &Error) -> StoreError {
        if let Some(times) = self.failures.count() {
            let why = error_line(error);
            tracing::warn!(store = self.name, why, times, "{doing} has failed");
        }
        StoreError::Unavailable("the store of tables is not available (tables.store); try again in a moment")
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // A blocking shutdown is not allowed on every thread, and no caller waits for the remaining requests.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The text of an error, on one line. Of an XML response only its code: the rest may repeat headers of the request,
/// including a session token.
fn error_line(error: &Error) -> String {
    /// The longest line, in characters.
    const MOST: usize = 300;
    let text = error.to_string();
    let (before, xml) = text.split_once('<').unwrap_or((&text, ""));
    let code =
        xml.split_once("Code>").and_then(|(_, rest)| rest.split_once('<')).map_or("", |(code, _)| code);
    let line = format!("{before}{code}");
    line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_repeat_headers_of_the_request() {
        let source = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>\
                      SignatureDoesNotMatch</Code><CanonicalRequest>x-amz-security-token:SECRET</CanonicalRequest>";
        let error = Error::Generic { store: "S3", source: source.into() };
        let line = error_line(&error);
        assert!(line.ends_with("403 Forbidden: SignatureDoesNotMatch"), "{line}");
        assert!(!line.contains("SECRET"));
    }
}
