//! From the requested view to the broadcast one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use std::time::Instant;
use tidings_table::{Cancel, Error};
use tokio::sync::watch;

use super::effect::{Effect, RenderJob};
use super::state::Room;
use super::timers::Timer;
use crate::broadcast::{EncodedView, Form, ViewBroadcast};
use crate::failure::Failure;
use crate::message::{self, About, PageText};
use crate::node_messages::MessageKind;
use crate::page::{Page, Wanted};
use crate::view_settings::ViewSettings;

/// How long a page may take before the viewers receive its progress.
const LONG: Duration = Duration::from_millis(500);

/// A page that is being made.
pub(super) struct Rendering {
    cancel: Cancel,
    /// The part that is done, as the bits of an `f32`.
    done: Arc<AtomicU32>,
    began: Instant,
    shown: ViewSettings,
    /// The viewer that requested it.
    asker: Option<u64>,
}

/// A turn to a page of rows that were not known then.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingPageTurn {
    /// The viewer that receives the error if the page does not exist.
    pub(super) viewer: u64,
    /// The page that the view returns to then.
    pub(super) back: u64,
}

/// The page that is shown, and the request for the next one.
///
/// Invariant: `page` shows `made_for`, until the next page is made.
pub(super) struct ViewState {
    /// What the viewers take when they are ready to.
    pub(super) board: watch::Sender<ViewBroadcast>,
    /// What is shown, once it is made.
    pub(super) page: Option<Page>,
    /// What was to be shown when that was made.
    pub(super) made_for: ViewSettings,
    /// The viewer that requested what is made next.
    pub(super) asker: Option<u64>,
    /// A turn to a page that may not exist, until that is known.
    pub(super) turn: Option<PendingPageTurn>,
    /// Counts what is shown.
    pub(super) content: u64,
    pub(super) rendering: Option<Rendering>,
    /// Whether the view stays at the last page when rows are appended.
    pub(super) at_end: bool,
    /// Whether another node changed last what is shown; that node publishes it in the table's channel.
    pub(super) follows: bool,
    /// When appended rows were shown last, or will be.
    pub(super) appended: Option<Instant>,
    /// When rows of an incoming file were shown last.
    pub(super) grown: Instant,
}

impl ViewState {
    pub(super) const fn new(board: watch::Sender<ViewBroadcast>, shown: ViewSettings, now: Instant) -> Self {
        Self {
            board,
            page: None,
            made_for: shown,
            asker: None,
            turn: None,
            content: 0,
            rendering: None,
            at_end: false,
            follows: false,
            appended: None,
            grown: now,
        }
    }
}

impl Room {
    /// Orders the page to be made within this time.
    pub(super) fn render_soon(&mut self, within: Duration) {
        self.timers.set_no_later(Timer::Render, self.now + within);
    }

    /// Orders the page to be made at once, on request of a viewer; `None`: of another node.
    pub(super) fn render_for(&mut self, viewer: Option<u64>) {
        self.view.asker = viewer;
        // A request of another node replaces a viewer's page turn.
        if viewer.is_none() {
            self.view.turn = None;
        }
        if let Some(rendering) = &self.view.rendering
            && !rendering.shown.same_rows(&self.record.shown)
        {
            rendering.cancel.cancel();
        }
        self.render_soon(Duration::ZERO);
    }

    /// Whether the shown rows are the requested ones.
    pub(super) fn shows_what_is_wanted(&self) -> bool {
        self.view.page.is_some() && self.view.made_for.same_rows(&self.record.shown)
    }

    /// Starts making the page, unless a page is being made; then this one follows.
    pub(super) fn render(&mut self) {
        if self.view.rendering.is_some() {
            return;
        }
        self.timers.clear(Timer::Render);
        let Some(reading) = self.reading() else {
            // The page of a file is made when the file is open.
            if self.record.file.is_none() {
                self.view.page = None;
                self.view.content += 1;
                // The node that receives the file publishes its views.
                self.post(self.remote.loading().is_none());
            }
            return;
        };
        let shown = ViewSettings {
            page: if self.view.at_end { u64::MAX } else { self.record.shown.page },
            ..self.record.shown.clone()
        };
        let article = self.viewers.count(Form::Article) > 0;
        let wanted = Wanted { reading, shown: shown.clone(), before: self.made_before(), article };
        let (cancel, done) = (Cancel::default(), Arc::new(AtomicU32::new(0)));
        let job = RenderJob { wanted, cancel: cancel.clone(), done: Arc::clone(&done) };
        self.effects.push(Effect::Render(job));
        let asker = self.view.asker.take();
        self.view.rendering = Some(Rendering { cancel, done, began: self.now, shown, asker });
    }

    /// Handles a page that was made, or could not be; `None`: making it has panicked.
    pub(super) fn on_page(&mut self, made: Option<Result<Page, Error>>) {
        let Some(Rendering { shown, asker, .. }) = self.view.rendering.take() else { return };
        match made {
            Some(Ok(page)) => {
                // A page of a replaced file, or of rows that are no longer requested, is discarded.
                let is_now = self.reading().is_some_and(|reading| {
                    page.made[0].as_ref().is_some_and(|made| Arc::ptr_eq(made.view.reading(), &reading))
                });
                if !is_now || !shown.same_rows(&self.record.shown) {
                    return self.render_soon(Duration::ZERO);
                }
                // While rows arrive, the requested page may still come to exist.
                let loading = self.data.as_ref().is_some_and(|data| data.loading);
                if !loading && self.turn_is_refused(&shown, &page) {
                    (self.view.made_for, self.view.page) =
                        (ViewSettings { page: page.page, ..shown }, Some(page));
                    return self.render_soon(Duration::ZERO);
                }
                if self.timers.get(Timer::Render).is_none() && !loading && self.record.shown.page != page.page
                {
                    self.record.shown.page = page.page;
                    if self.view.at_end {
                        self.change();
                    }
                }
                self.view.made_for = ViewSettings { page: page.page, ..shown };
                self.view.page = Some(page);
                self.view.content += 1;
                self.post(!self.view.follows);
                self.send_snapshots();
            }
            Some(Err(Error::Cancelled)) => {
                // The next page includes this request, unless a later one has its own requester.
                self.view.asker = self.view.asker.or(asker);
                self.render_soon(Duration::ZERO);
            }
            Some(Err(error)) => self.cannot_show(&error.into(), &shown, asker),
            None => self.cannot_show(&Failure::internal(), &shown, asker),
        }
    }

    /// Returns from a page that does not exist, which was requested before its rows were known, and sends the error to the
    /// viewer that requested it.
    fn turn_is_refused(&mut self, shown: &ViewSettings, page: &Page) -> bool {
        // A later page turn belongs to the next page.
        if self.record.shown != *shown {
            return false;
        }
        let Some(turn) = self.view.turn.take().filter(|_| shown.page > page.page) else { return false };
        self.send_error(turn.viewer, &Failure::no_page(shown.page, page.page));
        self.record.shown.page = turn.back;
        self.change();
        true
    }

    /// Sends the error to the viewer that requested the page, and returns to the previous rows; to all rows if those cannot be
    /// shown either. Requests that arrived meanwhile are executed all the same.
    fn cannot_show(&mut self, failure: &Failure, failed: &ViewSettings, asker: Option<u64>) {
        if asker.is_none_or(|asker| !self.send_error(asker, failure)) {
            tracing::warn!(table = %self.id(), why = failure.message, "a page could not be made");
        }
        if !self.record.shown.same_rows(failed) {
            return self.render_soon(Duration::ZERO);
        }
        self.view.turn = None;
        let ViewSettings { page, page_size, .. } = self.record.shown;
        let turned = (page != failed.page).then_some(page);
        if self.view.page.is_some() && !self.view.made_for.same_rows(failed) {
            let back = self.view.made_for.clone();
            // A later page turn stays.
            self.record.shown = ViewSettings { page: turned.unwrap_or(back.page), page_size, ..back };
            self.change();
            self.view.content += 1;
            self.post(true);
            self.send_snapshots();
            if self.record.shown != self.view.made_for {
                self.render_soon(Duration::ZERO);
            }
        } else if !failed.is_plain() {
            self.record.shown =
                ViewSettings { page: turned.unwrap_or(1), page_size, ..ViewSettings::default() };
            self.change();
            self.render_soon(Duration::ZERO);
        } else {
            // Not even all rows can be shown: the shown page stays.
            self.fail_snapshots(failure);
            if self.view.page.is_some() {
                self.view.content += 1;
                self.post(true);
            }
        }
    }

    /// Sends an error to a viewer. Returns whether the viewer is still connected.
    fn send_error(&self, viewer: u64, failure: &Failure) -> bool {
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

    /// Stops the making of a page that is of no use any more.
    pub(super) fn cancel_rendering(&self) {
        if let Some(rendering) = &self.view.rendering {
            rendering.cancel.cancel();
        }
    }

    /// Broadcasts the page to the viewers. `publish`: to the followers of the table's channel too; one node does that.
    pub(super) fn post(&mut self, publish: bool) {
        self.timers.clear(Timer::ViewerCount);
        for form in [Form::Tables, Form::Article] {
            let posted = (self.viewers.count(form) > 0 && (self.text(form).is_some() || self.data.is_none()))
                .then(|| self.encode(form));
            if posted.is_some() || self.viewers.count(form) == 0 {
                self.view.board.send_modify(|board| board.post(form, posted));
            }
        }
        if self.text(Form::Article).is_none() && self.viewers.count(Form::Article) > 0 && self.data.is_some()
        {
            self.render_soon(Duration::ZERO);
        }
        if let Some(text) = self.text(Form::Tables).filter(|_| publish) {
            let about = self.about(self.viewer_count(), self.record.version);
            let view = message::view(&about, text, false);
            self.effects.push(Effect::Publish(view));
        }
        self.keep();
    }

    /// Encodes the current view, under a new version.
    pub(super) fn encode(&mut self, form: Form) -> EncodedView {
        self.record.version += 1;
        let viewers = self.viewer_count();
        let about = self.about(viewers, self.record.version);
        let empty;
        let text = match self.text(form) {
            Some(text) => text,
            None => {
                empty = Arc::new(PageText::empty());
                &empty
            }
        };
        let frame = message::frame(&message::view(&about, text, true));
        self.settings.counters.views.fetch_add(1, Ordering::Relaxed);
        EncodedView { frame, content: self.view.content, viewers, version: about.version }
    }

    pub(super) fn about(&self, viewers: u64, version: u64) -> About {
        let first = self.upload.as_ref().filter(|_| self.record.file.is_none());
        let elsewhere = self.remote.loading().filter(|_| self.record.file.is_none());
        let is_coming = first.is_some() || elsewhere.is_some();
        let loading = is_coming || self.data.as_ref().is_some_and(|data| data.loading);
        let received = self.view.page.as_ref().map_or(0, |page| page.summary.received);
        About {
            id: self.id(),
            name: self.data.as_ref().map_or(&self.record.name, |data| &data.name).clone(),
            size: first
                .map_or(elsewhere.and_then(|file| file.size), |upload| upload.size)
                .unwrap_or(received),
            loading,
            viewers,
            version,
            // While other rows are being made, the previous page is shown.
            shown: if self.view.page.is_some() {
                self.view.made_for.clone()
            } else {
                self.record.shown.clone()
            },
            file: self.view.page.as_ref().map(|page| page.facts.clone()),
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
            self.view.board.send_modify(|board| board.set_progress(frame));
        }
    }

    fn making_progress(&self) -> Option<Bytes> {
        let done = |done: &AtomicU32| f32::from_bits(done.load(Ordering::Relaxed));
        if let Some(rendering) =
            self.view.rendering.as_ref().filter(|rendering| self.now - rendering.began >= LONG)
        {
            return Some(message::working(done(&rendering.done)));
        }
        let working = self.work.running.as_ref().filter(|working| self.now - working.began >= LONG)?;
        Some(message::working(done(&working.done)))
    }
}
