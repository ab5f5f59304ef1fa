//! Computes the requested view and broadcasts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use std::time::Instant;
use tidings_table::{Cancel, Error};
use tidings_table_store::ViewSettings;
use tokio::sync::watch;

use super::effect::{Effect, RenderJob};
use super::private::has_rows;
use super::state::Room;
use super::timers::Timer;
use crate::broadcast::{EncodedView, ViewBroadcast, ViewFormat};
use crate::failure::Failure;
use crate::message::{self, CellChanges, HistoryLength, PageText, SharedFields, TableInfo};
use crate::node_messages::MessageKind;
use crate::page::{Extent, Page, PageRequest};
use crate::people::ChangedBy;

/// The time after which the progress of computing a page is sent.
const PROGRESS_DELAY: Duration = Duration::from_millis(500);

/// A page that is being computed.
pub(super) struct Rendering {
    cancel: Cancel,
    /// The completed fraction, as the bits of an `f32`.
    done: Arc<AtomicU32>,
    began: Instant,
    shown: ViewSettings,
    /// The viewer that requested it.
    requester: Option<u64>,
    /// The author of the last change that it shows.
    changed_by: Option<ChangedBy>,
}

/// A page turn that was requested before the number of rows was available.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingPageTurn {
    /// The viewer that receives the error if the page does not exist.
    pub(super) viewer: u64,
    /// The page to return to in that case.
    pub(super) back: u64,
}

/// The shown page, and the request for the next one.
///
/// Invariant: `page` shows `made_for` until the next page is computed.
pub(super) struct ViewState {
    /// The broadcast to the viewers.
    pub(super) broadcast: watch::Sender<ViewBroadcast>,
    /// The shown page, once it is computed.
    pub(super) page: Option<Page>,
    /// The settings of the shown page.
    pub(super) made_for: ViewSettings,
    /// The viewer that requested the next page.
    pub(super) requester: Option<u64>,
    /// A page turn to a page that may not exist.
    pub(super) turn: Option<PendingPageTurn>,
    /// The author of the last change.
    pub(super) changed_by: Option<ChangedBy>,
    /// The author of the last change that is shown.
    shown_by: Option<ChangedBy>,
    /// The number of the shown content.
    pub(super) content: u64,
    /// The cells of the shown content that differ from the content with this number, until they are sent.
    changes: Option<(u64, CellChanges)>,
    /// The fields of the last view that was sent, with a key, without its rows.
    described: Option<String>,
    pub(super) rendering: Option<Rendering>,
    /// Whether the next page has other rows than those that cursors are at.
    pub(super) hides_cursors: bool,
    /// Whether the view stays at the last page when rows are appended.
    pub(super) at_end: bool,
    /// Whether another node made the last change of the view. That node publishes the view in the table's channel.
    pub(super) follows: bool,
    /// The duration of the last computation.
    pub(super) cost: Duration,
    /// The time at which appended rows were shown last, or will be shown.
    pub(super) appended: Option<Instant>,
    /// The time at which rows of an incoming file were shown last.
    pub(super) last_growth: Instant,
}

impl ViewState {
    pub(super) const fn new(
        broadcast: watch::Sender<ViewBroadcast>,
        shown: ViewSettings,
        now: Instant,
    ) -> Self {
        Self {
            broadcast,
            page: None,
            made_for: shown,
            requester: None,
            turn: None,
            changed_by: None,
            shown_by: None,
            content: 0,
            changes: None,
            described: None,
            rendering: None,
            hides_cursors: false,
            at_end: false,
            follows: false,
            cost: Duration::ZERO,
            appended: None,
            last_growth: now,
        }
    }
}

impl Room {
    /// Schedules the computation of the page within this time.
    pub(super) fn render_soon(&mut self, within: Duration) {
        self.timers.set_no_later(Timer::Render, self.now + within);
    }

    /// Computes the page at once, at the request of a viewer; `None`: of another node.
    pub(super) fn render_for(&mut self, viewer: Option<u64>) {
        self.view.requester = viewer;
        // A request of another node replaces the page turn of a viewer.
        if viewer.is_none() {
            self.view.turn = None;
        }
        if let Some(rendering) = &self.view.rendering
            && !rendering.shown.same_rows(&self.record.view)
        {
            rendering.cancel.cancel();
        }
        self.render_soon(Duration::ZERO);
    }

    /// Whether the shown rows are those of the current settings.
    pub(super) fn is_current(&self) -> bool {
        self.view.page.is_some() && self.view.made_for.same_rows(&self.record.view)
    }

    /// Starts computing the page. If a page is being computed, this one follows.
    pub(super) fn render(&mut self) {
        if self.view.rendering.is_some() {
            return;
        }
        self.timers.clear(Timer::Render);
        let Some(reading) = self.shown_reading() else {
            // The page of a file is computed when the file is open and its keys are read.
            if self.record.file.is_none() {
                self.view.page = None;
                self.view.content += 1;
                // The node that receives the file publishes its views.
                self.broadcast(self.remote.loading().is_none());
            }
            return;
        };
        let shown = ViewSettings {
            page: if self.view.at_end { u64::MAX } else { self.record.view.page },
            ..self.record.view.clone()
        };
        let article = self.viewers.count(ViewFormat::Article) > 0;
        let own = self.made_before();
        // The rows of a private view with the same query need no second computation.
        let other = if shown.is_plain() || has_rows(&own, &reading, &shown) {
            None
        } else {
            self.same_rows(&reading, &shown)
        };
        let wanted = PageRequest {
            reading,
            shown: shown.clone(),
            before: other.unwrap_or(own),
            article,
            live: self.settings.live.clone(),
            groups: self.settings.groups.clone(),
            // Viewers scroll over the whole view.
            extent: Extent::Whole,
            changes_only: false,
            replaces: self.replaced_by(&shown),
        };
        let (cancel, done) = (Cancel::default(), Arc::new(AtomicU32::new(0)));
        let job = RenderJob { wanted, cancel: cancel.clone(), done: Arc::clone(&done) };
        self.effects.push(Effect::Render(Box::new(job)));
        let requester = self.view.requester.take();
        let changed_by = self.view.changed_by.clone();
        self.view.rendering = Some(Rendering { cancel, done, began: self.now, shown, requester, changed_by });
    }

    /// The page that these settings replace, if only cells may differ in it: its rows are the same, and have a key.
    fn replaced_by(&self, shown: &ViewSettings) -> Option<(Arc<PageText>, Vec<String>)> {
        let before = &self.view.made_for;
        let is_same = before.same_rows(shown)
            && before.page_size == shown.page_size
            && shown.group.is_none()
            && !self.record.key.is_empty();
        Some((Arc::clone(self.text(ViewFormat::Tables).filter(|_| is_same)?), self.record.key.clone()))
    }

    /// Handles the result of computing a page; `None`: it panicked.
    pub(super) fn on_page(&mut self, made: Option<Result<Page, Error>>) {
        let Some(rendering) = self.view.rendering.take() else { return };
        let Rendering { began, shown, requester, changed_by, .. } = rendering;
        self.view.cost = self.now - began;
        match made {
            Some(Ok(mut page)) => {
                // A page of a replaced file, or of rows that are no longer requested, is discarded.
                let is_current_file = self.reading().is_some_and(|reading| {
                    page.made[0].as_ref().is_some_and(|made| Arc::ptr_eq(made.view.reading(), &reading))
                });
                if !is_current_file || !shown.same_rows(&self.record.view) {
                    return self.render_soon(Duration::ZERO);
                }
                self.view.hides_cursors |= self.view.page.is_some() && !self.view.made_for.same_rows(&shown);
                // While rows arrive, the requested page may still come into existence.
                let loading = self.open_file.as_ref().is_some_and(|open_file| open_file.loading);
                if !loading && self.reject_page_turn(&shown, &page) {
                    (self.view.made_for, self.view.page) =
                        (ViewSettings { page: page.page, ..shown }, Some(page));
                    return self.render_soon(Duration::ZERO);
                }
                if self.timers.get(Timer::Render).is_none() && !loading && self.record.view.page != page.page
                {
                    self.record.view.page = page.page;
                    if self.view.at_end {
                        self.change();
                    }
                }
                self.view.made_for = ViewSettings { page: page.page, ..shown };
                self.view.changes = page.changes.take().map(|changes| (self.view.content, changes));
                self.view.page = Some(page);
                self.view.shown_by = changed_by;
                self.view.content += 1;
                if std::mem::take(&mut self.view.hides_cursors) {
                    self.hide_cursors();
                }
                self.broadcast(!self.view.follows);
                self.send_snapshots();
            }
            Some(Err(Error::Cancelled)) => {
                // The next page includes this request, unless a later one has its own requester.
                self.view.requester = self.view.requester.or(requester);
                self.render_soon(Duration::ZERO);
            }
            Some(Err(error)) => self.on_render_failed(&error.into(), &shown, requester),
            None => self.on_render_failed(&Failure::internal(), &shown, requester),
        }
    }

    /// Returns from a page that does not exist and was requested before its rows were available. The viewer that
    /// requested it receives the error.
    fn reject_page_turn(&mut self, shown: &ViewSettings, page: &Page) -> bool {
        // A later page turn applies to the next page.
        if self.record.view != *shown {
            return false;
        }
        let Some(turn) = self.view.turn.take().filter(|_| shown.page > page.page) else { return false };
        self.send_error(turn.viewer, &Failure::no_page(shown.page, page.page));
        self.record.view.page = turn.back;
        self.change();
        true
    }

    /// Sends the error to the viewer that requested the page, and returns to the previous rows, or to all rows if those
    /// cannot be shown either. Requests that arrived meanwhile are executed.
    fn on_render_failed(&mut self, failure: &Failure, failed: &ViewSettings, requester: Option<u64>) {
        if requester.is_none_or(|requester| !self.send_error(requester, failure)) {
            tracing::warn!(table = %self.id(), why = failure.message, "a page could not be made");
        }
        if !self.record.view.same_rows(failed) {
            return self.render_soon(Duration::ZERO);
        }
        self.view.turn = None;
        let ViewSettings { page, page_size, .. } = self.record.view;
        let turned = (page != failed.page).then_some(page);
        if self.view.page.is_some() && !self.view.made_for.same_rows(failed) {
            let back = self.view.made_for.clone();
            // A later page turn stays.
            self.record.view = ViewSettings { page: turned.unwrap_or(back.page), page_size, ..back };
            self.change();
            self.view.content += 1;
            self.broadcast(true);
            self.send_snapshots();
            if self.record.view != self.view.made_for {
                self.render_soon(Duration::ZERO);
            }
        } else if !failed.is_plain() {
            self.record.view =
                ViewSettings { page: turned.unwrap_or(1), page_size, ..ViewSettings::default() };
            self.change();
            self.render_soon(Duration::ZERO);
        } else {
            // Even the unsorted rows cannot be shown: the shown page stays.
            self.fail_snapshots(failure);
            if self.view.page.is_some() {
                self.view.content += 1;
                self.broadcast(true);
            }
        }
    }

    /// Sends an error to a viewer. Returns whether the viewer is still connected.
    pub(super) fn send_error(&self, viewer: u64, failure: &Failure) -> bool {
        let Some(outbox) = self.outbox(viewer) else { return false };
        outbox.push(message::error(failure));
        self.settings.counters.errors.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn send_snapshots(&mut self) {
        for reply in std::mem::take(&mut self.snapshots) {
            if let Some(snapshot) = self.snapshot() {
                self.effects.push(Effect::Snapshot(reply, Box::new(snapshot)));
            }
        }
    }

    /// Cancels the computation of a page that is not needed any more.
    pub fn cancel_rendering(&self) {
        if let Some(rendering) = &self.view.rendering {
            rendering.cancel.cancel();
        }
    }

    /// Broadcasts the page to the viewers. `publish`: also to the table's channel; only one node publishes.
    pub(super) fn broadcast(&mut self, publish: bool) {
        self.timers.clear(Timer::ViewerCount);
        for form in [ViewFormat::Tables, ViewFormat::Article] {
            let posted = (self.viewers.count(form) > 0
                && (self.text(form).is_some() || self.open_file.is_none()))
            .then(|| self.encode_change(form));
            if posted.is_some() || self.viewers.count(form) == 0 {
                self.view.broadcast.send_modify(|broadcast| broadcast.post(form, posted));
            }
        }
        if self.text(ViewFormat::Article).is_none()
            && self.viewers.count(ViewFormat::Article) > 0
            && self.open_file.is_some()
        {
            self.render_soon(Duration::ZERO);
        }
        if let Some(text) = self.text(ViewFormat::Tables).filter(|_| publish) {
            let info = self.info(self.viewer_count(), self.record.version);
            let view = message::view(&info, text, false);
            self.effects.push(Effect::Publish(view));
        }
        self.save_soon();
    }

    /// Encodes the current view with a new version, and the cells that have changed in it if nothing else has.
    fn encode_change(&mut self, form: ViewFormat) -> EncodedView {
        let view = self.encode(form);
        if form == ViewFormat::Article {
            return view;
        }
        let changes = self.view.changes.take();
        let described = self.describe();
        let is_same = described == self.view.described;
        self.view.described = described;
        let change = changes.filter(|_| is_same).map(|(content, changes)| {
            self.settings.counters.cell_messages.fetch_add(1, Ordering::Relaxed);
            (content, message::changed_cells(&changes, self.view.made_for.page_size, view.version))
        });
        EncodedView { change, ..view }
    }

    /// The fields of the current view, without its rows, and without the version and the size, which changes of cells
    /// change too.
    fn describe(&self) -> Option<String> {
        let text = self.text(ViewFormat::Tables).filter(|_| !self.record.key.is_empty())?;
        let info = TableInfo { size: 0, ..self.info(self.viewer_count(), 0) };
        Some(message::view(&info, text, false))
    }

    /// Encodes the current view with a new version.
    pub(super) fn encode(&mut self, form: ViewFormat) -> EncodedView {
        self.record.version += 1;
        let viewers = self.viewer_count();
        let mut info = self.info(viewers, self.record.version);
        if form == ViewFormat::Article {
            info.shared = None;
        }
        let empty;
        let text = match self.text(form) {
            Some(text) => text,
            None => {
                empty = Arc::new(PageText::empty());
                &empty
            }
        };
        let frame = message::frame(&message::view(&info, text, true));
        self.settings.counters.views.fetch_add(1, Ordering::Relaxed);
        EncodedView { frame, content: self.view.content, viewers, version: info.version, change: None }
    }

    fn history_length(&self) -> HistoryLength {
        let (undo, redo) = self.history.len();
        HistoryLength { undo, redo }
    }

    pub(super) fn info(&self, viewers: u64, version: u64) -> TableInfo {
        let first = self.upload.as_ref().filter(|_| self.record.file.is_none());
        let elsewhere = self.remote.loading().filter(|_| self.record.file.is_none());
        let is_coming = first.is_some() || elsewhere.is_some();
        let loading = is_coming || self.open_file.as_ref().is_some_and(|open_file| open_file.loading);
        let received = self.view.page.as_ref().map_or(0, |page| page.summary.received);
        // The previous page is shown while other rows are computed.
        let shown =
            if self.view.page.is_some() { self.view.made_for.clone() } else { self.record.view.clone() };
        let shared = SharedFields {
            changed_by: self.view.shown_by.clone(),
            history: self.history_length(),
            columns: shown.shown_layout().cloned(),
            group: shown.group.clone(),
            previous: self.previous_name(),
            key: self.record.key.clone(),
            compacted: self.compaction.count,
        };
        TableInfo {
            id: self.id(),
            name: self.open_file.as_ref().map_or(&self.record.name, |open_file| &open_file.name).clone(),
            size: first
                .map_or(elsewhere.and_then(|file| file.size), |upload| upload.size)
                .unwrap_or(received),
            loading,
            viewers,
            version,
            shown,
            file: self.view.page.as_ref().map(|page| page.facts.clone()),
            shared: Some(shared),
        }
    }

    /// Sends the progress of an upload or of long work to the viewers.
    pub(super) fn send_progress(&mut self, at_last: bool) {
        let progress = self.upload_progress(at_last);
        if progress.is_some() {
            self.notify_nodes(MessageKind::Loading);
        }
        let frame = progress.or_else(|| self.making_progress());
        if let Some(frame) = frame {
            self.view.broadcast.send_modify(|broadcast| broadcast.set_progress(frame));
        }
    }

    fn making_progress(&self) -> Option<Bytes> {
        let done = |done: &AtomicU32| f32::from_bits(done.load(Ordering::Relaxed));
        if let Some(rendering) =
            self.view.rendering.as_ref().filter(|rendering| self.now - rendering.began >= PROGRESS_DELAY)
        {
            return Some(message::working(done(&rendering.done)));
        }
        let working =
            self.work.running.as_ref().filter(|working| self.now - working.began >= PROGRESS_DELAY)?;
        Some(message::working(done(&working.done)))
    }
}
