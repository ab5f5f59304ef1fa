//! One live table: a task that owns what everybody at its link shares.
//!
//! Viewers, uploads and HTTP requests ask ([`Ask`]); the room changes what is shown, has the page made by a thread
//! that may wait ([`rendering`]), and posts it on the board. It is the one place where a table changes.
//!
//! Invariants:
//! - The room itself never waits for a viewer, for the disk or for a computation: they all come back as asks, or by
//!   a task that is polled beside them.
//! - One page is made at a time, and one piece of work has the table's writer. A newer wish cancels the making of
//!   rows that it would replace.
//! - The old file stays until the new one is whole; what is not whole leaves nothing behind.

mod members;
mod nodes;
mod rendering;
mod uploads;
mod writing;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tidings_table::{Reading, Table, Types, View, Writer};
use tidings_wire::ws::CloseCode;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Service;
use super::board::{Board, End, Form};
use super::command::{Command, Shown};
use super::failure::Failure;
use super::id::TableId;
use super::making::{Made, Page};
use super::message::{self, About, PageText};
use super::news::{News, Say};
use super::outbox::Outbox;
use super::quota::Quota;
use super::record::Record;
use super::rows::{Added, Rows};
use super::store::{Place, Reserved, Saved, StoreError};
use super::upload::{Far, Outcome, Upload};

pub(super) use members::Seat;
use nodes::Elsewhere;
use rendering::Rendering;
use writing::{Work, Working};

/// How many asks may wait; whoever has more waits.
const ASKS: usize = 256;
/// How long a table without viewers stays in memory, unless `tables.keep` is less.
const LINGER: Duration = Duration::from_secs(30);
/// How long after a record could not be written it is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
/// How long other nodes may take to say what they know of a table.
const ASKED: Duration = Duration::from_secs(1);
/// How often everybody is shown how many rows there are while a file is coming in.
const GROWING: Duration = Duration::from_secs(1);
/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);
/// How many may wait for the first page to be made.
const PATIENT: usize = 1_024;
/// What a connection is closed with whose table is not there.
pub(super) const GONE: CloseCode = CloseCode(4404);
/// The server is being restarted (RFC 6455's registry: 1012).
pub(super) const RESTART: CloseCode = CloseCode(1012);

/// What a room is asked.
pub(super) enum Ask {
    /// Somebody comes.
    Join(Join),
    /// A viewer goes.
    Leave(u64),
    /// A viewer wants something for everybody.
    Do { viewer: u64, command: Command, done: Done },
    /// A viewer begins to upload.
    Upload {
        viewer: u64,
        name: String,
        size: Option<u64>,
        quota: Quota,
        reply: oneshot::Sender<Result<Upload, Failure>>,
    },
    /// A viewer shows what it says is the owner's secret.
    Own { viewer: u64, secret: String, reply: Done },
    /// An upload has rows enough for a page.
    FirstRows { number: u64, table: Table },
    /// An upload has ended. What it `reserved` is there when it is whole.
    UploadEnded { number: u64, outcome: Outcome, reserved: Option<Reserved>, end: oneshot::Sender<()> },
    /// The file on disk is being opened, and can be looked at.
    Opening(Table),
    /// A backend has rows, if this is the owner's secret.
    MayAppend { secret: String, reply: Done },
    /// Rows from a backend.
    Append { rows: Arc<Rows>, secret: String, reply: oneshot::Sender<Result<Added, Failure>> },
    /// Somebody wants to look at more than the page.
    Look(oneshot::Sender<Result<Look, Failure>>),
    /// Another node has said something.
    News(Box<News>),
    /// Room is needed on disk: if nobody uses the table it is put away, and this dropped once it is; else at once.
    PutAway(std::sync::mpsc::Sender<()>),
    /// The server stops; viewers are to go within this time.
    Stop(Duration),
}

/// Somebody who comes.
pub(super) struct Join {
    pub(super) form: Form,
    /// What they say is the owner's secret.
    pub(super) secret: Option<String>,
    /// Whether the table was made for them; then there is nothing to show before their file comes.
    pub(super) is_creator: bool,
    pub(super) outbox: Arc<Outbox>,
    pub(super) reply: oneshot::Sender<Seat>,
}

/// Answers whether something was done.
pub(super) type Done = oneshot::Sender<Result<(), Failure>>;

/// A table at one moment, for private windows and HTTP.
pub(super) struct Look {
    pub(super) view: Arc<View>,
    /// What the article's page looks at, if somebody does.
    pub(super) article: Option<Arc<View>>,
    pub(super) about: About,
    /// Where the file is, as it was received.
    pub(super) folder: std::path::PathBuf,
    pub(super) facts: FactsCache,
    /// Keeps the table from being evicted while it is looked at.
    pub(super) place: Arc<Place>,
}

/// Column facts with how many bytes of the file and which types of columns they were made of. Who makes them holds the lock; others wait for it
/// and find them made.
pub(super) type FactsCache = Arc<tokio::sync::Mutex<Option<((u64, Types), Bytes)>>>;

/// Somebody at the link.
struct Viewer {
    form: Form,
    is_owner: bool,
    outbox: Arc<Outbox>,
}

/// A turn to a page of rows that were not known then.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Who is told if there is no such page.
    viewer: u64,
    /// The page that everybody turns back to then.
    back: u64,
}

/// A file that can be looked at.
struct Data {
    file: String,
    /// As its uploader calls it; the record may name another one already, which is being fetched.
    name: String,
    table: Table,
    /// There unless it is being used, or the file is still coming in.
    writer: Option<Writer>,
    /// Whether rows are still coming in.
    loading: bool,
    facts: FactsCache,
}

/// An upload under way.
struct Uploading {
    number: u64,
    viewer: u64,
    /// Whose quota the file counts to.
    uploader: String,
    file: String,
    name: String,
    size: Option<u64>,
    is_article: bool,
    far: Arc<Far>,
    /// What was told last, so that nothing is told twice.
    told: u64,
}

/// See the module.
pub(super) struct Room {
    service: Arc<Service>,
    place: Arc<Place>,
    record: Record,
    asks: mpsc::Receiver<Ask>,
    me: mpsc::WeakSender<Ask>,
    board: watch::Sender<Board>,
    viewers: HashMap<u64, Viewer>,
    /// Numbers for viewers and uploads.
    last_number: u64,
    data: Option<Data>,
    upload: Option<Uploading>,
    /// What is shown, once it was made.
    page: Option<Page>,
    /// What was wanted when that was made.
    good: Shown,
    /// Who wanted what is to be made next.
    asker: Option<u64>,
    /// Who turned to a page that may not be there, until that is known.
    turn: Option<Turn>,
    /// Counts what is shown.
    content: u64,
    rendering: Option<Rendering>,
    /// When the page is to be made anew.
    render_at: Option<Instant>,
    /// When rows that were appended were shown last.
    appended: Option<Instant>,
    /// When rows that are coming in were shown last.
    grown: Instant,
    /// Whether everybody stands at the last page and stays there.
    at_end: bool,
    /// When everybody is to be told how many they are.
    count_at: Option<Instant>,
    working: Option<Working>,
    works: VecDeque<Work>,
    /// When the file is to be looked for again that the store did not give.
    open_at: Option<Instant>,
    /// How many look at it on other nodes.
    elsewhere: Elsewhere,
    /// Whether what is shown was last changed on another node, which tells the table's channel.
    follows: bool,
    looking: Vec<oneshot::Sender<Result<Look, Failure>>>,
    /// Until when another node may say that it has a file which the record that was found does not name yet.
    asked_until: Instant,
    /// Whether the record that is kept is an old one, the task that writes a newer one, and when it may be written again.
    unsaved: bool,
    saving: Option<JoinHandle<Saving>>,
    save_at: Instant,
    /// Whether the record that is kept only announces a first upload here.
    announced: bool,
    /// Files that go once the record is written that does not name them.
    obsolete: Vec<String>,
    tick: Instant,
    /// Since when nobody looks.
    idle_since: Instant,
    /// When it is to be said where the table is kept that it is in use.
    touch_at: Instant,
    over: bool,
    /// Dropped behind all that holds the table's place.
    put_away: Vec<std::sync::mpsc::Sender<()>>,
}

/// What became of a record that was written, and files that are to go yet.
type Saving = (Result<Saved, StoreError>, Vec<String>);

impl Room {
    /// Starts the room of a table that lies at this place, and gives its address.
    pub(super) fn start(service: &Arc<Service>, place: Place, record: Record) -> mpsc::Sender<Ask> {
        let (me, asks) = mpsc::channel(ASKS);
        let now = Instant::now();
        let mut room = Self {
            service: Arc::clone(service),
            place: Arc::new(place),
            asks,
            me: me.downgrade(),
            board: watch::Sender::default(),
            viewers: HashMap::new(),
            last_number: 0,
            data: None,
            upload: None,
            page: None,
            good: record.shown.clone(),
            asker: None,
            turn: None,
            content: 0,
            rendering: None,
            render_at: None,
            appended: None,
            at_end: false,
            count_at: None,
            working: None,
            works: VecDeque::new(),
            open_at: None,
            elsewhere: Elsewhere::default(),
            follows: false,
            looking: Vec::new(),
            asked_until: if service.has_others() { now + ASKED } else { now },
            unsaved: false,
            saving: None,
            save_at: now,
            announced: false,
            obsolete: Vec::new(),
            tick: now,
            idle_since: now,
            touch_at: now,
            over: false,
            put_away: Vec::new(),
            grown: now,
            record,
        };
        if room.record.locks.any() {
            let frame = message::locks(room.record.locks);
            room.board.send_modify(|board| board.tell_locks(frame));
        }
        service.counters.open.fetch_add(1, Ordering::Relaxed);
        let strong = me.clone();
        tokio::spawn(async move {
            if room.record.file.is_some() {
                room.works.push_back(Work::Open);
                room.work_on();
            }
            room.tell_nodes(Say::Hello);
            room.run().await;
            drop(strong);
        });
        me
    }

    async fn run(&mut self) {
        while !self.over {
            let next = self.next_moment();
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.take(ask),
                    None => break,
                },
                made = rendering::finished(&mut self.rendering) => self.made(made),
                worked = writing::finished(&mut self.working) => self.worked(worked),
                saved = saved(&mut self.saving) => self.saved(saved),
                () = tokio::time::sleep_until(next) => {}
            }
            self.moments();
        }
        self.end().await;
    }

    /// When something is due at the latest.
    fn next_moment(&self) -> Instant {
        let now = Instant::now();
        let busy = self.is_busy();
        let tick = busy.then_some(self.tick + TICK);
        let render = self.render_at.filter(|_| self.rendering.is_none());
        let idle = (self.viewers.is_empty() && !busy).then_some(self.idle_since + self.linger());
        let save = (self.unsaved && self.saving.is_none()).then_some(self.save_at);
        let others = self.elsewhere.next_moment();
        let asked = (!self.looking.is_empty() && self.record.file.is_none()).then_some(self.asked_until);
        let touch = self.is_touched().then_some(self.touch_at);
        [asked, tick, render, self.count_at, idle, others, save, touch, self.open_at]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + LINGER)
    }

    fn is_busy(&self) -> bool {
        self.upload.is_some() || self.rendering.is_some() || self.working.is_some()
    }

    /// How long the table stays in memory when nobody looks.
    fn linger(&self) -> Duration {
        LINGER.min(self.service.options.keep)
    }

    /// Does what is due.
    fn moments(&mut self) {
        let now = Instant::now();
        if now >= self.tick + TICK {
            self.tick = now;
            self.tell_progress(false);
            self.show_growing(now);
        }
        if now >= self.touch_at && self.is_touched() {
            self.touch();
        }
        if self.render_at.is_some_and(|at| now >= at) {
            self.render();
        }
        if self.count_at.is_some_and(|at| now >= at) {
            self.count_at = None;
            // Before anything was shown to anybody there is nothing to show again.
            if self.content > 0 {
                self.post(true);
            }
            self.tell_nodes(Say::Here);
        }
        self.nodes_moment(now);
        if now >= self.asked_until && self.data.is_none() && self.record.file.is_none() {
            for looker in self.looking.drain(..) {
                let _ = looker.send(Err(Failure::empty()));
            }
        }
        if self.open_at.is_some_and(|at| now >= at) {
            // Past any other time, until it is known whether it could be opened.
            self.open_at = Some(now + LINGER);
            self.open_again();
        }
        if self.unsaved && self.saving.is_none() && now >= self.save_at {
            self.save();
        }
        if self.viewers.is_empty() && !self.is_busy() && now >= self.idle_since + self.linger() {
            self.over = true;
        }
    }

    /// Whether it is said again and again where the table is kept that it is in use: while somebody looks, and in a bucket
    /// for as long as it is open.
    fn is_touched(&self) -> bool {
        !self.viewers.is_empty() || self.service.store.lease().is_some()
    }

    /// Says that the table is in use, for whoever asks when this process is gone.
    fn touch(&mut self) {
        if let Some(lease) = self.service.store.lease() {
            self.touch_at = Instant::now() + lease;
            self.unsaved |= self.record.file.is_some();
            return;
        }
        self.touch_at = Instant::now() + self.service.options.keep / 4;
        if self.record.file.is_none() {
            return;
        }
        let place = Arc::clone(&self.place);
        tokio::task::spawn_blocking(move || {
            // A record that is not there yet is new when it comes.
            if let Err(error) = place.used(SystemTime::now())
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, table = %place.id, "the time of a table's last use cannot be saved");
            }
        });
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Join(join) => self.join(join),
            Ask::Leave(viewer) => self.leave(viewer),
            Ask::Do { viewer, command, done } => self.command(viewer, command, done),
            Ask::Upload { viewer, name, size, quota, reply } => {
                let _ = reply.send(self.begin_upload(viewer, name, size, quota));
            }
            Ask::Own { viewer, secret, reply } => {
                let _ = reply.send(self.own(viewer, &secret));
            }
            Ask::FirstRows { number, table } => self.first_rows(number, table),
            Ask::UploadEnded { number, outcome, reserved, end } => {
                self.upload_ended(number, outcome, reserved);
                let _ = end.send(());
            }
            Ask::Opening(table) => self.opening(table),
            Ask::MayAppend { secret, reply } => {
                let _ = reply.send(self.may_append(&secret));
            }
            Ask::Append { rows, secret, reply } => self.append(rows, &secret, reply),
            Ask::Look(reply) => self.look(reply),
            Ask::News(news) => self.hear(*news),
            Ask::PutAway(held) => {
                let waits = self.is_busy() || !self.works.is_empty() || !self.looking.is_empty();
                if self.viewers.is_empty() && !waits {
                    self.over = true;
                    self.put_away.push(held);
                }
            }
            Ask::Stop(within) => {
                self.finish(End { error: None, code: RESTART, within });
                self.over = self.viewers.is_empty();
            }
        }
    }

    /// Tells everybody that there will be no more.
    fn finish(&mut self, end: End) {
        self.board.send_modify(|board| board.end(end));
        // Those who are gone by now are not waited for again.
        self.idle_since = Instant::now();
    }

    /// The file as it is read now.
    fn reading(&self) -> Option<Arc<Reading>> {
        self.data.as_ref().map(|data| data.table.reading())
    }

    /// What is shown is to outlive the server.
    fn keep(&mut self) {
        self.unsaved = true;
        if self.saving.is_none() && Instant::now() >= self.save_at {
            self.save();
        }
    }

    /// Writes the record, or removes the one of a first upload that came to nothing.
    fn save(&mut self) {
        self.unsaved = false;
        let has_file = self.record.file.is_some();
        let is_table = has_file || self.upload.is_some();
        if !is_table && !self.announced {
            return;
        }
        self.announced = is_table && !has_file;
        let (store, place) = (Arc::clone(&self.service.store), Arc::clone(&self.place));
        let (record, obsolete) = (self.record.clone(), std::mem::take(&mut self.obsolete));
        self.saving = Some(tokio::task::spawn_blocking(move || {
            let saved = match is_table {
                true => store.save(&place, &record),
                false => store.forget(&place).map(|()| Saved::Kept),
            };
            if !matches!(saved, Ok(Saved::Kept)) {
                return (saved, obsolete);
            }
            // Files that no record names go last, and what is left of them is swept.
            for file in obsolete {
                if let Err(error) = store.remove_file(&place, &file) {
                    let why = Failure::from(error).message;
                    tracing::warn!(table = %place.id, why, "an old file cannot be removed yet");
                }
            }
            (saved, Vec::new())
        }));
    }

    /// The record is written, or cannot be.
    fn saved(&mut self, saved: Option<Saving>) {
        let now = Instant::now();
        self.save_at = now + self.service.store.pace();
        match saved {
            Some((Ok(Saved::Kept), _)) => {}
            Some((Ok(Saved::Gone), _)) => self.gone(),
            Some((Err(error), obsolete)) => {
                let why = Failure::from(error).message;
                tracing::warn!(table = %self.id(), why, "what is shown of a table cannot be saved yet");
                self.obsolete.extend(obsolete);
                self.unsaved = true;
                self.save_at = now + SAVE_AGAIN;
            }
            None => tracing::error!(table = %self.id(), "saving a table has panicked"),
        }
    }

    /// The room is empty, or the table deleted: leaves everything as it is to be found again.
    async fn end(&mut self) {
        self.asks.close();
        self.service.rooms.forget(self.place.id, &self.me);
        if let Some(rendering) = &self.rendering {
            rendering.cancel.cancel();
        }
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        // The record that announced a first upload, once it is written.
        if self.announced && self.upload.is_none() {
            self.save();
        }
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        let (store, place, record) =
            (Arc::clone(&self.service.store), Arc::clone(&self.place), self.record.clone());
        self.data = None;
        // Since then nobody uses it.
        let left = SystemTime::now().checked_sub(self.idle_since.elapsed()).unwrap_or_else(SystemTime::now);
        let kept = tokio::task::spawn_blocking(move || store.put_away(&place, &record, left));
        if let Ok(Err(error)) = kept.await {
            let why = Failure::from(error).message;
            tracing::warn!(table = %self.place.id, why, "a table cannot be put away");
        }
        self.service.counters.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn id(&self) -> TableId {
        self.place.id
    }

    fn outbox(&self, viewer: u64) -> Option<&Arc<Outbox>> {
        self.viewers.get(&viewer).map(|viewer| &viewer.outbox)
    }

    fn counted(&self, form: Form) -> u64 {
        self.viewers.values().filter(|viewer| viewer.form == form).count() as u64
    }

    fn made_before(&self) -> [Option<Made>; 2] {
        self.page.as_ref().map(|page| page.made.clone()).unwrap_or_default()
    }

    fn text(&self, form: Form) -> Option<&Arc<PageText>> {
        self.page.as_ref().and_then(|page| page.text[form as usize].as_ref())
    }
}

/// Waits for a record to be written.
async fn saved(saving: &mut Option<JoinHandle<Saving>>) -> Option<Saving> {
    match saving {
        Some(task) => {
            let saved = task.await.ok();
            *saving = None;
            saved
        }
        None => std::future::pending().await,
    }
}
