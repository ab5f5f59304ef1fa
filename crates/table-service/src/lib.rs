//! Shared live tables: uploaded files, and one view of each file that all viewers share.
//!
//! ```text
//! session/   a viewer's WebSocket          http.rs  pages, downloads and rows over plain HTTP
//!      ↘      ↙
//!      task.rs      the task of one table, which runs its room (the crate table-room)
//!      ↙      ↘
//! upload_thread.rs  work.rs, append.rs    incoming files; work with a table's writer
//! fed_table.rs                            tables that the server fills from channels
//!      ↘      ↙
//! table-store  the stores: a folder, or a bucket with copies on disk
//! ```
//!
//! The crate uses the table engine, the stores, the codecs and two traits: [`NodeBus`] reaches other nodes, [`Access`]
//! decides about clients. The server implements both and mounts [`routes`] and [`pages`].
//!
//! Invariants:
//! - A file is never held in memory: it is written to disk as it arrives, and pages are read from there.
//! - A view is encoded once for all its viewers. A slow viewer receives the newest view and delays no other viewer.
//! - The id of a table permits viewing. All other permissions on a table are checked in one place,
//!   [`tidings_table_room::access`], when the room executes a command.
//! - Everything is bounded: files and their sum in bytes (`tables.max_size`, `tables.max_total`), concurrent uploads
//!   ([`upload::ActiveUploads`]), concurrent downloads of views ([`download::ActiveDownloads`]), concurrent appends ([`append_limiter`]),
//!   queued responses ([`outbox`]), concurrent queries ([`queries`]), people in messages ([`people`]), private views and
//!   the history of a view (the room).
//! - A slow transfer is ended when the limit is reached and another transfer waits ([`rate`]).
//!
//! # Messages beyond the contract
//! - `{"facts":{}}` requests column facts; only the sender receives the response:
//!   `{"facts":{"rows","columns":[{"name","type","empty","distinct","exact","min","max","mean","histogram":[count,…],
//!   "top":[[value,count],…]},…]}}`.
//! - The response to a private window is `{"rows":{"from","count","total_number","data","version"}}`.
//! - `{"progress":{"view":0.42}}`: the progress of a view that takes longer than half a second to compute.
//! - Windows with columns, people, private views, undo, the layout of columns, and `restore`: see `docs/tables.md`.
//! - `{"lock":{"uploads":…,"view":…}}` is sent to all viewers when the locks change, and to a new viewer while a lock
//!   is on.
//! - `{}` every `client.ping_interval`, so that a page can distinguish a broken connection from an idle one.
//! - A view has `"cut":[[row,column,characters],…]` when cells are too long to be shown completely, and
//!   `"wide":[[row,cells],…]` when a row has too many cells; a private window has the same.

mod access;
mod append;
mod append_limiter;
mod bus;
mod changes;
mod compaction;
mod download;
mod facts;
mod fed_table;
mod http;
mod live_rows;
mod node_sync;
mod objects;
mod operators;
mod options;
mod queries;
mod rooms;
mod session;
mod task;
mod upload_thread;
mod work;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_audit::Audit;
use tidings_otel::Tracer;
use tidings_table::Limits;
use tidings_table_commands::{checks, command, people};
use tidings_table_live::Budget;
use tidings_table_room::{
    broadcast, failure, message, node_messages, outbox, page, rate, room, rows, upload, view_rows,
};
use tidings_table_store::{Record, Store, TableId};
use tidings_wire::Channel;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use append_limiter::AppendLimiter;
use download::ActiveDownloads;
use outbox::UnreadResponses;
use queries::Queries;
use room::RoomRequest;
use rooms::Rooms;
use session::blocking;
use upload::ActiveUploads;

pub use access::{Access, Connection, PendingConnection, Stream, Usage, Visitor};
pub use bus::{MAX_MESSAGE, MessageCallback, NodeBus};
pub use download::MAX_EXPORTS;
pub use fed_table::{FedTable, Written};
pub use http::{pages, routes};
pub use operators::OpenTable;
pub use options::Options;
pub use tidings_table_live::Share as KeyMemory;
pub use tidings_table_room::counters::Counters;
pub use tidings_table_room::failure::Failure;
pub use tidings_table_room::summary::TableSummary;
pub use tidings_table_store::{
    BucketCounters, BucketOptions, MAX_UPLOADS, Quota, StoreLocation, StoreOptions, StoredTable,
};

/// The longest connection token in a message, in bytes.
const MAX_TOKEN: usize = 16 << 10;

/// The longest interval between two sweeps for unused tables.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The time for closing tables when the server stops, after the drain time of the viewers.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The interval of checks whether all tables are closed.
const CLOSE_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The memory of the keys of all tables and of their sorted and filtered views, in bytes.
const LIVE_BYTES: usize = 256 << 20;
/// The row numbers of a sorted or filtered view in memory, in bytes per table; further ones are on the disk.
const ORDER_BYTES: usize = 1 << 20;
/// The largest ratio of a file's text, decompressed and in UTF-8, to the file's limit.
const TEXT_RATIO: u64 = 4;

/// The receivers of what happens to tables.
#[derive(Clone, Debug, Default)]
pub struct Observers {
    /// The audit log, for tables that are created and deleted.
    pub audit: Arc<Audit>,
    /// The traces.
    pub tracer: Tracer,
}

/// All tables of this process.
pub struct Service {
    store: Arc<dyn Store>,
    /// The open tables.
    rooms: Arc<Rooms>,
    /// The tables of channels, as they are created.
    fed: Mutex<HashMap<TableId, Record>>,
    /// The tables that are being deleted, until their folders are removed.
    deleting: Mutex<HashSet<TableId>>,
    /// Counters for the metrics.
    pub counters: Arc<Counters>,
    queries: Queries,
    uploads: Arc<ActiveUploads>,
    arrivals: AppendLimiter,
    downloads: ActiveDownloads,
    unread: UnreadResponses,
    /// The permit to read a page of stored tables for operators.
    listings: Arc<Semaphore>,
    /// The permit to compact a log.
    compactions: Semaphore,
    live: Budget,
    groups: tidings_table_group::Budget,
    options: Options,
    access: Arc<dyn Access>,
    bus: Arc<dyn NodeBus>,
    observers: Observers,
    stopping: watch::Sender<bool>,
    /// The number of this process, unique among those that share the store.
    own: u64,
    sweeping: Mutex<Option<JoinHandle<()>>>,
}

impl Service {
    /// Opens the configured store. Call within a runtime.
    ///
    /// # Errors
    /// When the folder of the store cannot be created or read, or the bucket cannot be used as configured.
    pub fn start(
        options: Options,
        access: Arc<dyn Access>,
        bus: Arc<dyn NodeBus>,
        observers: Observers,
    ) -> io::Result<Arc<Self>> {
        let rooms = Arc::new(Rooms::default());
        let idle = Arc::clone(&rooms);
        let store = tidings_table_store::open(&options.store, Box::new(move || idle.close_idle()))?;
        let every = SWEEP_INTERVAL.min(options.store.keep / 4).max(Duration::from_millis(100));
        let service = Arc::new(Self {
            store,
            rooms,
            fed: Mutex::default(),
            deleting: Mutex::default(),
            counters: Arc::default(),
            queries: Queries::default(),
            uploads: Arc::new(ActiveUploads::new(options.min_data_rate)),
            arrivals: AppendLimiter::default(),
            downloads: ActiveDownloads::new(options.min_data_rate),
            unread: UnreadResponses::default(),
            listings: Arc::new(Semaphore::new(1)),
            compactions: Semaphore::new(1),
            live: Budget::new(LIVE_BYTES),
            groups: tidings_table_group::Budget::default(),
            options,
            access,
            bus,
            observers,
            stopping: watch::Sender::new(false),
            own: tidings_table_store::process_number(),
            sweeping: Mutex::default(),
        });
        let store = Arc::clone(&service.store);
        let sweeping = tokio::spawn(async move {
            loop {
                let sweeping = Arc::clone(&store);
                let _ = blocking(move || sweeping.sweep()).await;
                tokio::time::sleep(every).await;
            }
        });
        node_sync::subscribe(&service);
        *service.sweeping.lock().unwrap_or_else(PoisonError::into_inner) = Some(sweeping);
        Ok(service)
    }

    /// Disconnects all viewers, spread over `drain`, and closes all tables.
    pub async fn stop(&self, drain: Duration) {
        self.stopping.send_replace(true);
        if let Some(sweeping) = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner).take() {
            sweeping.abort();
        }
        let rooms = self.rooms.all();
        for (_, room) in &rooms {
            let _ = room.send(RoomRequest::Stop(drain)).await;
        }
        let all = async {
            for (_, room) in &rooms {
                room.closed().await;
            }
            // A room that accepts no requests may still be closing its table.
            while self.counters.open.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(CLOSE_POLL_INTERVAL).await;
            }
        };
        if tokio::time::timeout(drain + CLOSE_TIMEOUT, all).await.is_err() {
            tracing::warn!("some tables could not be closed in time");
        }
        self.store.shut_down();
    }

    /// The number of tables and the size of their files in bytes; in a bucket, as last counted.
    pub fn stored(&self) -> (u64, u64) {
        self.store.stored()
    }

    /// Bytes of unlinked files: decompressed and decoded text, sort orders, removed files that are still read.
    pub fn unlinked(&self) -> u64 {
        self.store.disk().unlinked()
    }

    /// Bytes of memory of the keys of tables, and of their sorted and filtered views.
    pub fn live_bytes(&self) -> usize {
        self.live.used()
    }

    /// Bytes of memory of the groups of views.
    pub fn group_bytes(&self) -> u64 {
        self.groups.used()
    }

    /// Slow transfers that were ended in favour of other transfers, by kind.
    pub fn gave_way(&self) -> [(&'static str, u64); 2] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("upload", of(&self.uploads.gave_way)), ("download", of(&self.downloads.gave_way))]
    }

    /// Bytes of responses to viewers that are not written yet.
    pub fn unread_bytes(&self) -> usize {
        self.unread.bytes()
    }

    /// Rejections by reason.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut counts = vec![("right", count(&self.counters.unauthorized))];
        counts.extend(self.uploads.refused.iter());
        counts.push(("downloads", count(&self.downloads.refused)));
        counts.extend(self.store.disk().refused.iter());
        counts
    }

    /// The counters of the bucket, and the size of the local copies in bytes; `None` without a bucket.
    pub fn bucket(&self) -> Option<(&BucketCounters, u64)> {
        self.store.bucket_counters()
    }

    /// The room of a table. Opens the table if it is not in memory.
    async fn room(self: &Arc<Self>, id: TableId) -> Result<mpsc::Sender<RoomRequest>, Failure> {
        if let Some(room) = self.rooms.get(id) {
            return Ok(room);
        }
        self.check_running()?;
        if self.deleting().contains(&id) {
            return Err(Failure::unknown());
        }
        let store = Arc::clone(&self.store);
        let (table_folder, record) = match blocking(move || store.find(id)).await?? {
            Some(found) => found,
            None => self.open_fed(id).await?,
        };
        // A concurrent request may have started the room meanwhile.
        Ok(self.rooms.get_or_start(id, || task::start(self, table_folder, record)))
    }

    /// Creates a table without a file. Its owner has this secret.
    async fn create(
        self: &Arc<Self>,
        secret: Option<&str>,
    ) -> Result<(TableId, mpsc::Sender<RoomRequest>), Failure> {
        self.check_running()?;
        let store = Arc::clone(&self.store);
        let table_folder = blocking(move || store.disk().create()).await??;
        let id = table_folder.id;
        Ok((id, self.rooms.get_or_start(id, || task::start(self, table_folder, Record::new(secret)))))
    }

    /// Sends a request to a table's room and waits for the response.
    async fn request<T>(
        self: &Arc<Self>,
        id: TableId,
        request: impl Fn(oneshot::Sender<T>) -> RoomRequest,
    ) -> Result<T, Failure> {
        // A room that has just ended is started again.
        for _ in 0..8 {
            let room = self.room(id).await?;
            let (reply, answer) = oneshot::channel();
            if room.send(request(reply)).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return Ok(answer);
            }
            self.rooms.forget(id, &room.downgrade());
        }
        Err(Failure::unknown())
    }

    /// Publishes a view in the table's channel.
    fn publish(&self, id: TableId, view: String) {
        let Ok(channel) = Channel::new(format!("tables:{id}")) else { return };
        // A subscriber of the channel receives the next view if this one is lost.
        self.bus.publish(&channel, view);
    }

    fn deleting(&self) -> MutexGuard<'_, HashSet<TableId>> {
        self.deleting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits of one file.
    fn limits(&self) -> Limits {
        let Options { max_size: original_bytes, max_unpack_ratio: unpack_ratio, .. } = self.options;
        let text_bytes = original_bytes.saturating_mul(TEXT_RATIO);
        Limits { original_bytes, text_bytes, unpack_ratio, order_bytes: ORDER_BYTES, ..Limits::default() }
    }

    fn check_running(&self) -> Result<(), Failure> {
        if *self.stopping.borrow() { Err(Failure::stopping()) } else { Ok(()) }
    }
}
