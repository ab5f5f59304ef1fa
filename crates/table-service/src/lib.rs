//! Shared live tables: files that users upload, and one view of each file that all viewers at its link share.
//!
//! ```text
//! session/   a viewer's WebSocket          http.rs  pages, downloads and rows over plain HTTP
//!      ↘      ↙
//!      room/        the shared state of one table: a task
//!      ↙  ↓  ↘
//! upload.rs  making.rs  board.rs   incoming files; rendered pages; what the viewers are shown
//!      ↘  ↓
//!     store/        a folder, or a bucket with copies on disk
//! ```
//!
//! The crate knows the table engine, the codecs and two traits: [`NodeBus`] reaches other nodes, [`Access`] decides about
//! clients. The server implements both and mounts [`routes`] and [`pages`].
//!
//! Invariants:
//! - A file is never held in memory: it is written to disk as it arrives, and pages are read from there.
//! - A view is encoded once for all its viewers. A slow viewer receives the newest view and delays no other viewer.
//! - The name of a table permits viewing. Everything else is permitted in one place, the room.
//! - Everything is bounded: files and their sum in bytes (`tables.max_size`, `tables.max_total`), concurrent uploads
//!   ([`upload::ActiveUploads`]), concurrent downloads of views ([`download::Downloads`]), concurrent appends ([`append_limiter`]),
//!   queued responses ([`outbox`]), concurrent queries ([`queries`]).
//! - A slow transfer is ended when other transfers wait for its place ([`rate`]).
//!
//! # Messages beyond the contract
//! - `{"facts":{}}` requests column facts; only the sender receives the response:
//!   `{"facts":{"rows","columns":[{"type","empty","distinct","exact","min","max","mean","histogram":[count,…],
//!   "top":[[value,count],…]},…]}}`.
//! - The response to a private window is `{"rows":{"from","count","total_number","data","version"}}`.
//! - `{"progress":{"view":0.42}}`: the progress of a view that takes longer than half a second to make.
//! - `{"lock":{"uploads":…,"view":…}}` is sent to all viewers when the locks change, and to a new viewer while a lock is
//!   on.
//! - `{}` every `client.ping_interval`, so that a page can tell a dead connection from an idle one.
//! - A view has `"cut":[[row,column,characters],…]` when cells are too long to be shown whole, and
//!   `"wide":[[row,cells],…]` when a row has too many cells; a private window has the same.

mod access;
mod append_limiter;
mod broadcast;
mod bus;
mod command;
mod condition;
mod counters;
mod dialect_options;
mod download;
mod facts;
mod failure;
mod http;
mod id;
mod message;
mod node_messages;
mod options;
mod outbox;
mod page;
mod pattern;
mod queries;
mod quota;
mod rate;
mod record;
mod room;
mod rooms;
mod rows;
mod session;
mod store;
mod upload;
mod view_settings;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_table::Limits;
use tidings_wire::Channel;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use append_limiter::AppendLimiter;
use download::Downloads;
use id::TableId;
use queries::Queries;
use record::Record;
use room::RoomRequest;
use rooms::Rooms;
use session::blocking;
use store::Store;
use upload::ActiveUploads;

pub use access::{Access, Connection, PendingConnection, Stream, Visitor};
pub use bus::{MAX_MESSAGE, MessageCallback, NodeBus};
pub use counters::Counters;
pub use failure::Failure;
pub use http::{pages, routes};
pub use options::{BucketOptions, Options, StoreLocation};
pub use quota::Quota;
pub use store::BucketCounters;
pub use upload::MAX_UPLOADS;

/// The longest connection token in a message, in bytes.
const MAX_TOKEN: usize = 16 << 10;

/// The longest time between two sweeps for unused tables.
const SWEEP: Duration = Duration::from_secs(60);
/// How long rooms may take to end when the server stops, after the drain time of the viewers.
const LAST: Duration = Duration::from_secs(2);
/// How often that is checked.
const GLANCE: Duration = Duration::from_millis(5);

/// The row numbers of a sorted or filtered view that each table holds in memory, in bytes; more are held on the disk.
const ORDER: usize = 1 << 20;
/// How many times as large as a file its text may be, decompressed and in UTF-8.
const UNPACKED: u64 = 4;

/// All tables of this process.
pub struct Service {
    store: Arc<dyn Store>,
    /// The tables in memory.
    rooms: Arc<Rooms>,
    /// Counters for the metrics.
    pub counters: Arc<Counters>,
    queries: Queries,
    uploads: Arc<ActiveUploads>,
    arrivals: AppendLimiter,
    downloads: Downloads,
    options: Options,
    access: Arc<dyn Access>,
    bus: Arc<dyn NodeBus>,
    stopping: watch::Sender<bool>,
    /// The number of this process among those that share the store.
    own: u64,
    sweeping: Mutex<Option<JoinHandle<()>>>,
}

impl Service {
    /// Opens the store that the options name. Call within a runtime.
    ///
    /// # Errors
    /// When the store's folder cannot be made or read, or its bucket cannot be used as the options say.
    pub fn start(options: Options, access: Arc<dyn Access>, bus: Arc<dyn NodeBus>) -> io::Result<Arc<Self>> {
        let rooms = Arc::new(Rooms::default());
        let idle = Arc::clone(&rooms);
        let store = store::open(&options, Box::new(move || idle.close_idle()))?;
        let every = SWEEP.min(options.keep / 4).max(Duration::from_millis(100));
        let service = Arc::new(Self {
            store,
            rooms,
            counters: Arc::default(),
            queries: Queries::default(),
            uploads: Arc::new(ActiveUploads::new(options.min_data_rate)),
            arrivals: AppendLimiter::default(),
            downloads: Downloads::new(options.min_data_rate),
            options,
            access,
            bus,
            stopping: watch::Sender::new(false),
            own: id::process_number(),
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
        node_messages::subscribe(&service);
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
        for room in &rooms {
            let _ = room.send(RoomRequest::Stop(drain)).await;
        }
        let all = async {
            for room in &rooms {
                room.closed().await;
            }
            // A room that accepts no requests may still be closing its table.
            while self.counters.open.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(GLANCE).await;
            }
        };
        if tokio::time::timeout(drain + LAST, all).await.is_err() {
            tracing::warn!("some tables were not put away in time");
        }
        self.store.close();
    }

    /// How many tables there are, and the bytes of their files; with a bucket as it was last counted.
    pub fn stored(&self) -> (u64, u64) {
        self.store.stored()
    }

    /// Bytes of files without a name: what packed files unpack to, what views are sorted with, removed files that are read.
    pub fn nameless(&self) -> u64 {
        self.store.disk().nameless()
    }

    /// Slow transfers that were ended in favour of other transfers, by kind.
    pub fn gave_way(&self) -> [(&'static str, u64); 2] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("upload", of(&self.uploads.gave_way)), ("download", of(&self.downloads.gave_way))]
    }

    /// Refusals, by reason.
    pub fn refused(&self) -> [(&'static str, u64); 6] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [total, quota] = self.store.disk().refused.each_ref().map(of);
        let [uploads, own_uploads] = self.uploads.refused.each_ref().map(of);
        [
            ("right", of(&self.counters.unauthorized)),
            ("uploads", uploads),
            ("own_uploads", own_uploads),
            ("downloads", of(&self.downloads.refused)),
            ("total", total),
            ("quota", quota),
        ]
    }

    /// The counters of the bucket, and the bytes of copies on this node; `None` without a bucket.
    pub fn bucket(&self) -> Option<(&BucketCounters, u64)> {
        self.store.numbers()
    }

    /// The room of a table, which is opened if it is not in memory.
    async fn room(self: &Arc<Self>, id: TableId) -> Result<mpsc::Sender<RoomRequest>, Failure> {
        if let Some(room) = self.rooms.get(id) {
            return Ok(room);
        }
        self.check_running()?;
        let store = Arc::clone(&self.store);
        let (place, record) = blocking(move || store.find(id)).await??.ok_or_else(Failure::unknown)?;
        // Another request may have started it meanwhile.
        Ok(self.rooms.get_or_start(id, || room::start(self, place, record)))
    }

    /// Creates a table without a file, whose owner has this secret.
    async fn create(self: &Arc<Self>, secret: Option<&str>) -> Result<mpsc::Sender<RoomRequest>, Failure> {
        self.check_running()?;
        let store = Arc::clone(&self.store);
        let place = blocking(move || store.disk().create()).await??;
        let id = place.id;
        Ok(self.rooms.get_or_start(id, || room::start(self, place, Record::new(secret))))
    }

    /// Sends a request to a table's room and waits for the response.
    async fn ask<T>(
        self: &Arc<Self>,
        id: TableId,
        ask: impl Fn(oneshot::Sender<T>) -> RoomRequest,
    ) -> Result<T, Failure> {
        // A room that has just ended is started again.
        for _ in 0..8 {
            let room = self.room(id).await?;
            let (reply, answer) = oneshot::channel();
            if room.send(ask(reply)).await.is_ok()
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
        // A follower of the channel receives the next view if this one is lost.
        self.bus.publish(&channel, view);
    }

    /// The bounds of one file.
    fn limits(&self) -> Limits {
        let Options { max_size: original_bytes, max_unpack_ratio: unpack_ratio, .. } = self.options;
        let text_bytes = original_bytes.saturating_mul(UNPACKED);
        Limits { original_bytes, text_bytes, unpack_ratio, order_bytes: ORDER, ..Limits::default() }
    }

    fn check_running(&self) -> Result<(), Failure> {
        if *self.stopping.borrow() { Err(Failure::stopping()) } else { Ok(()) }
    }
}
