//! Tables in a bucket of S3, which all nodes share. The disk of a node holds copies.
//!
//! ```text
//! <prefix>/<uuid>/record.json                   the table's record; replaced conditionally (If-Match)
//!                /f-<random>/<start>-<end>      a file as it was uploaded, in parts where it is large, or what was joined
//!                           /<start>            rows appended at this byte; put conditionally (If-None-Match)
//! ```
//!
//! Invariants:
//! - A file's object is written once and never changed; its name says which bytes it holds ([`chain`]). So a
//!   file only grows, two concurrent appends cannot have the same place, and a copy on a disk is never stale, only
//!   short.
//! - A file is put before the record names it, and removed after the record names another. What no record names for an
//!   hour ([`ORPHAN`]) is left over and is removed ([`sweep`]).
//! - Of two records the one with the larger stamp stays, whichever is written first. A removed record is not written again
//!   by a node that has read it.
//! - No transfer holds more than one part of a file in memory ([`PART`]), and [`SENDING`] of them run at once.
//!
//! Everything here may wait for the network, at most as long as `tables.s3.timeout` and its repetitions say.

mod chain;
mod http;
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

use super::disk::TableFolder;
use crate::id::TableId;
use crate::options::{BucketOptions, Options};
use crate::record::Record;
use crate::store::StoreError;
use http::Connector;

/// The record's object.
const RECORD: &str = "record.json";
/// Longest record that is read, in bytes.
const MAX_RECORD: u64 = 1 << 20;
/// How much of a file is put at once; S3 takes parts from 5 MiB on.
const PART: u64 = 8 << 20;
/// How many files are put at once: each holds a part in memory.
const SENDING: usize = 4;
/// How many files are fetched at once.
const FETCHING: usize = 8;
/// How often a request is repeated.
const RETRIES: usize = 3;
/// How often a write is tried again when other nodes write first.
const TRIES: usize = 16;
/// How long objects may be there that no record names: their upload may be under way.
const ORPHAN: Duration = Duration::from_secs(60 * 60);

/// Counters of a node's requests to the bucket, for the metrics.
#[derive(Debug, Default)]
pub struct BucketCounters {
    /// Whether the last request got through.
    pub up: AtomicBool,
    /// Requests that were answered, and that were not, or with a status from 500.
    pub requests: [AtomicU64; 2],
    /// Bytes of requests, without their heads.
    pub sent: AtomicU64,
    /// Bytes of responses, without their heads.
    pub received: AtomicU64,
    /// Appends that were repeated because another node appended first.
    pub conflicts: AtomicU64,
}

impl BucketCounters {
    fn answered(&self, well: bool) {
        self.requests[usize::from(!well)].fetch_add(1, Ordering::Relaxed);
        self.up.store(well, Ordering::Relaxed);
    }
}

/// The tables of all nodes.
pub(super) struct Bucket {
    s3: AmazonS3,
    /// As it is written in an option.
    name: String,
    prefix: String,
    /// Where requests run: threads that wait for them may outlive the server's runtime by a moment. There until the end.
    runtime: Option<Runtime>,
    closing: watch::Sender<bool>,
    pub(super) numbers: Arc<BucketCounters>,
    sending: Semaphore,
    fetching: Semaphore,
    /// Whether it was counted what there is.
    is_counted: AtomicBool,
    max_total: u64,
    keep: Duration,
    /// Bytes and tables, as last counted and with what this node has put since.
    used: AtomicU64,
    tables: AtomicU64,
    sweeping: Mutex<sweep::SweepTimes>,
    /// Whether the store keeps to conditions of writes, once that is known.
    is_fit: OnceLock<bool>,
    /// Multipart uploads that could not be aborted.
    unfinished: Mutex<Vec<(Path, String)>>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.name)
    }
}

/// The outcome of writing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It is there, or a newer one is.
    Kept,
    /// The table is not there any more.
    Gone,
}

/// The outcome of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitOutcome {
    /// The rows are stored. `many`: the file consists of so many objects that they should be joined.
    Kept { many: bool },
    /// Another node has written at the same place.
    Conflict,
    /// The file is not there any more.
    Gone,
}

impl Bucket {
    /// Prepares to use a bucket, without asking it anything.
    ///
    /// # Errors
    /// What is wrong with the options, the variables of the environment, or this machine's certificates.
    pub(super) fn open(bucket: &BucketOptions, options: &Options) -> io::Result<Self> {
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
                "AWS_ENDPOINT_URL begins with http://, so everybody on the way could read and change tables; set \
                 tables.s3.allow_http = true if that is meant",
            ));
        }
        let numbers = Arc::new(BucketCounters::default());
        let tls = (bucket.tls)(!is_plain)?;
        let closing = watch::Sender::new(false);
        let connector = Connector {
            tls,
            patience: bucket.timeout,
            numbers: Arc::clone(&numbers),
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
            .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: bucket.timeout })
            .with_http_connector(connector)
            .build()
            .map_err(|error| io::Error::other(format!("tables.store: {}", words(&error))))?;
        Ok(Self {
            s3,
            name: bucket.url(),
            prefix: if bucket.prefix.is_empty() { String::new() } else { format!("{}/", bucket.prefix) },
            runtime: Some(runtime),
            closing,
            numbers,
            sending: Semaphore::new(SENDING),
            fetching: Semaphore::new(FETCHING),
            is_counted: AtomicBool::new(false),
            max_total: options.max_total,
            keep: options.keep,
            used: AtomicU64::new(0),
            tables: AtomicU64::new(0),
            sweeping: Mutex::default(),
            is_fit: OnceLock::new(),
            unfinished: Mutex::default(),
        })
    }

    /// Tables and bytes, as last counted.
    pub(super) fn stored(&self) -> (u64, u64) {
        (self.tables.load(Ordering::Relaxed), self.used.load(Ordering::Relaxed))
    }

    /// How often a node writes the record of an open table; the table counts as in use for twice as long.
    pub(super) fn lease(&self) -> Duration {
        (self.keep / 4).min(Duration::from_secs(300))
    }

    /// A table's record, and which version of it that is.
    pub(super) fn record(&self, id: TableId) -> Result<Option<(Record, UpdateVersion)>, StoreError> {
        let path = self.path(id, RECORD);
        self.wait(async {
            let got = match self.s3.get_opts(&path, GetOptions::default()).await {
                Ok(got) => got,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(self.failed("reading a table's record", &error)),
            };
            let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            if got.meta.size > MAX_RECORD {
                tracing::error!(table = %id, bytes = got.meta.size, "a table's record is too long to be one");
                return Err(StoreError::Corrupt);
            }
            let bytes = got.bytes().await.map_err(|error| self.failed("reading a table's record", &error))?;
            match serde_json::from_slice(&bytes) {
                Ok(record) => Ok(Some((record, version))),
                Err(error) => {
                    tracing::error!(%error, table = %id, "a table's record in the bucket is none");
                    Err(StoreError::Corrupt)
                }
            }
        })
    }

    /// Writes a record, unless there is a newer one. The table counts as used now.
    pub(super) fn save(&self, place: &TableFolder, record: &Record) -> Result<Saved, StoreError> {
        self.check_fit()?;
        let path = self.path(place.id, RECORD);
        let bytes = serde_json::to_vec(record).map_err(io::Error::from)?;
        let mut seen = place.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            let was_there = seen.is_some();
            let mode = seen.clone().map_or(PutMode::Create, PutMode::Update);
            let put = self.s3.put_opts(&path, bytes.clone().into(), PutOptions::from(mode));
            match self.wait(put) {
                Ok(put) => {
                    *seen = Some(UpdateVersion { e_tag: put.e_tag, version: put.version });
                    return Ok(Saved::Kept);
                }
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                    match self.record(place.id)? {
                        Some((there, version)) => {
                            *seen = Some(version);
                            // One with the same stamp is what another node has written of the same change, or what was
                            // written here although the answer was lost.
                            if there.stamp >= record.stamp {
                                return Ok(Saved::Kept);
                            }
                        }
                        None if was_there => return Ok(Saved::Gone),
                        None => {}
                    }
                }
                Err(error) => return Err(self.failed("writing a table's record", &error)),
            }
        }
        Err(StoreError::Conflict("change"))
    }

    /// Removes the record alone, of a first upload that failed.
    pub(super) fn forget(&self, place: &TableFolder) -> Result<(), StoreError> {
        let mut seen = place.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = None;
        self.wait(self.remove(&self.path(place.id, RECORD)))
    }

    /// Removes a table, its record first: without it there is no table.
    pub(super) fn delete(&self, id: TableId) -> Result<(), StoreError> {
        self.wait(async {
            self.remove(&self.path(id, RECORD)).await?;
            self.remove_below(&self.path(id, "")).await
        })
    }

    /// Removes a file.
    pub(super) fn remove_file(&self, id: TableId, file: &str) -> Result<(), StoreError> {
        self.wait(self.remove_below(&self.path(id, file)))
    }

    async fn remove_below(&self, folder: &Path) -> Result<(), StoreError> {
        for object in self.list(folder).await? {
            self.remove(&object.location).await?;
            self.release(object.size);
        }
        Ok(())
    }

    /// Removes an object, if it is there.
    async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match self.s3.delete(path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("removing an object", &error)),
        }
    }

    /// Everything below a folder.
    async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>, StoreError> {
        let listed = self.s3.list(Some(folder)).try_collect().await;
        listed.map_err(|error| self.failed("listing objects", &error))
    }

    /// # Errors
    /// [`StoreError::Unavailable`] when the store is known to ignore conditions of writes.
    fn check_fit(&self) -> Result<(), StoreError> {
        if self.is_fit.get() == Some(&false) {
            let what = "the store of tables ignores conditions of writes (If-Match, If-None-Match), without which nodes \
                        would overwrite each other's tables; take another one (tables.store)";
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

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is there until the end").block_on(future)
    }

    /// Has all requests end with an error, those under way too.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// The error for callers. The log gets the bucket's own text.
    fn failed(&self, doing: &str, error: &Error) -> StoreError {
        let why = words(error);
        tracing::warn!(store = self.name, why, "{doing} has failed");
        StoreError::Unavailable(
            "the store of tables does not answer as it should (tables.store); try again in a moment",
        )
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // Blocking is not allowed on every thread, and no caller waits for what still runs.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The text of an error, in one line. Of a response in XML only its code: the rest may repeat headers of the request, and
/// with them a session's token.
fn words(error: &Error) -> String {
    /// Longest line.
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
    fn no_error_repeats_what_the_request_held() {
        let source = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>\
                      SignatureDoesNotMatch</Code><CanonicalRequest>x-amz-security-token:SECRET</CanonicalRequest>";
        let error = Error::Generic { store: "S3", source: source.into() };
        let line = words(&error);
        assert!(line.ends_with("403 Forbidden: SignatureDoesNotMatch"), "{line}");
        assert!(!line.contains("SECRET"));
    }
}
