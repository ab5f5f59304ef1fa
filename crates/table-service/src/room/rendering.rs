//! From what is wanted to what is on the board.

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
use crate::board::{Board, Form, Posted};
use crate::command::Shown;
use crate::failure::Failure;
use crate::making::{Page, Wanted};
use crate::message::{self, About, PageText};
use crate::news::Say;

/// After how long everybody is told how far the making of a page is.
const LONG: Duration = Duration::from_millis(500);

/// A page that is being made.
pub(super) struct Rendering {
    cancel: Cancel,
    /// The part that is done, as the bits of an `f32`.
    done: Arc<AtomicU32>,
    began: Instant,
    shown: Shown,
    /// The viewer that requested it.
    asker: Option<u64>,
}

/// A turn to a page of rows that were not known then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// The viewer that is told if there is no such page.
    pub(super) viewer: u64,
    /// The page that the view returns to then.
    pub(super) back: u64,
}

/// What is shown, what is to be shown next, and how it came to be.
///
/// Invariant: `page` shows `good`, until the next page is made.
pub(super) struct ViewState {
    /// What the viewers take when they are ready to.
    pub(super) board: watch::Sender<Board>,
    /// What is shown, once it is made.
    pub(super) page: Option<Page>,
    /// What was to be shown when that was made.
    pub(super) good: Shown,
    /// The viewer that requested what is made next.
    pub(super) asker: Option<u64>,
    /// A turn to a page that may not exist, until that is known.
    pub(super) turn: Option<Turn>,
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
    pub(super) const fn new(board: watch::Sender<Board>, shown: Shown, now: Instant) -> Self {
        Self {
            board,
            page: None,
            good: shown,
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
    /// Has the page made anew within this time.
    pub(super) fn render_soon(&mut self, within: Duration) {
        self.timers.set_no_later(Timer::Render, self.now + within);
    }

    /// Has the page made at once because this viewer wants another one; `None`: somebody on another node does.
    pub(super) fn render_for(&mut self, viewer: Option<u64>) {
        self.view.asker = viewer;
        // What replaces the turn of a page is not its turner's any more.
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

    /// Whether the rows that are shown are those that are wanted now.
    pub(super) fn shows_what_is_wanted(&self) -> bool {
        self.view.page.is_some() && self.view.good.same_rows(&self.record.shown)
    }

    /// Starts making the page, unless one is being made: then it comes after that.
    pub(super) fn render(&mut self) {
        if self.view.rendering.is_some() {
            return;
        }
        self.timers.clear(Timer::Render);
        let Some(reading) = self.reading() else {
            // A file that is being opened shows by itself.
            if self.record.file.is_none() {
                self.view.page = None;
                self.view.content += 1;
                // Where it is coming in, the table's channel is told.
                self.post(self.remote.loading().is_none());
            }
            return;
        };
        let shown = Shown {
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

    /// The page is made, or cannot be.
    pub(super) fn made(&mut self, made: Option<Result<Page, Error>>) {
        let Some(Rendering { shown, asker, .. }) = self.view.rendering.take() else { return };
        match made {
            Some(Ok(page)) => {
                // Of a file that is gone, or of rows that nobody wants any more, nothing is shown.
                let is_now = self.reading().is_some_and(|reading| {
                    page.made[0].as_ref().is_some_and(|made| Arc::ptr_eq(made.view.reading(), &reading))
                });
                if !is_now || !shown.same_rows(&self.record.shown) {
                    return self.render_soon(Duration::ZERO);
                }
                // While rows are coming in, the page that is wanted may come yet.
                let loading = self.data.as_ref().is_some_and(|data| data.loading);
                if !loading && self.turn_is_refused(&shown, &page) {
                    (self.view.good, self.view.page) = (Shown { page: page.page, ..shown }, Some(page));
                    return self.render_soon(Duration::ZERO);
                }
                if self.timers.get(Timer::Render).is_none() && !loading && self.record.shown.page != page.page
                {
                    self.record.shown.page = page.page;
                    if self.view.at_end {
                        self.change();
                    }
                }
                self.view.good = Shown { page: page.page, ..shown };
                self.view.page = Some(page);
                self.view.content += 1;
                self.post(!self.view.follows);
                self.answer_lookers();
            }
            Some(Err(Error::Cancelled)) => {
                // What was wanted is part of what is made next, unless somebody wants more by now.
                self.view.asker = self.view.asker.or(asker);
                self.render_soon(Duration::ZERO);
            }
            Some(Err(error)) => self.cannot_show(&error.into(), &shown, asker),
            None => self.cannot_show(&Failure::internal(), &shown, asker),
        }
    }

    /// Turns back from a page that was wanted before its rows were known and is not there, and tells who wanted it.
    fn turn_is_refused(&mut self, shown: &Shown, page: &Page) -> bool {
        // What was turned to since is another rendering's.
        if self.record.shown != *shown {
            return false;
        }
        let Some(turn) = self.view.turn.take().filter(|_| shown.page > page.page) else { return false };
        self.tell_failure(turn.viewer, &Failure::no_page(shown.page, page.page));
        self.record.shown.page = turn.back;
        self.change();
        true
    }

    /// Tells who asked for a page why there is none, and goes back to the rows before; to all rows where those cannot
    /// be shown either. What others asked for meanwhile is tried all the same.
    fn cannot_show(&mut self, failure: &Failure, failed: &Shown, asker: Option<u64>) {
        if asker.is_none_or(|asker| !self.tell_failure(asker, failure)) {
            tracing::warn!(table = %self.id(), why = failure.message, "a page could not be made");
        }
        if !self.record.shown.same_rows(failed) {
            return self.render_soon(Duration::ZERO);
        }
        self.view.turn = None;
        let Shown { page, page_size, .. } = self.record.shown;
        let turned = (page != failed.page).then_some(page);
        if self.view.page.is_some() && !self.view.good.same_rows(failed) {
            let back = self.view.good.clone();
            // Who has turned the page since stays there.
            self.record.shown = Shown { page: turned.unwrap_or(back.page), page_size, ..back };
            self.change();
            self.view.content += 1;
            self.post(true);
            self.answer_lookers();
            if self.record.shown != self.view.good {
                self.render_soon(Duration::ZERO);
            }
        } else if !failed.is_plain() {
            self.record.shown = Shown { page: turned.unwrap_or(1), page_size, ..Shown::default() };
            self.change();
            self.render_soon(Duration::ZERO);
        } else {
            // Not even all rows can be shown: what was shown stays.
            self.fail_snapshots(failure);
            if self.view.page.is_some() {
                self.view.content += 1;
                self.post(true);
            }
        }
    }

    /// Tells a viewer what went wrong; gives whether it is still there.
    fn tell_failure(&self, viewer: u64, failure: &Failure) -> bool {
        let Some(outbox) = self.outbox(viewer) else { return false };
        outbox.push(message::error(failure));
        self.settings.counters.errors.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn answer_lookers(&mut self) {
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

    /// Shows everybody what is there now; `publish`: those who follow the table's channel too, whom one node tells.
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
            let about = self.about(self.everybody(), self.record.version);
            let view = message::view(&about, text, false);
            self.effects.push(Effect::Publish(view));
        }
        self.keep();
    }

    /// The view as it is now, under a version of its own.
    pub(super) fn encode(&mut self, form: Form) -> Posted {
        self.record.version += 1;
        let viewers = self.everybody();
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
        Posted { frame, content: self.view.content, viewers, version: about.version }
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
            // While other rows are being made, what is shown is what was made before.
            shown: if self.view.page.is_some() { self.view.good.clone() } else { self.record.shown.clone() },
            file: self.view.page.as_ref().map(|page| page.facts.clone()),
        }
    }

    /// Tells everybody how far it is, where that takes long.
    pub(super) fn tell_progress(&mut self, at_last: bool) {
        let progress = self.upload_progress(at_last);
        if progress.is_some() {
            self.tell_nodes(Say::Loading);
        }
        let frame = progress.or_else(|| self.making_progress());
        if let Some(frame) = frame {
            self.view.board.send_modify(|board| board.tell_progress(frame));
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
