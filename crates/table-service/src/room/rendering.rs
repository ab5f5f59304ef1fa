//! From what is wanted to what is on the board.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidings_table::{Cancel, Control, Error};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::Room;
use crate::board::{Form, Posted};
use crate::command::Shown;
use crate::failure::Failure;
use crate::making::{self, Page, Wanted};
use crate::message::{self, About, PageText};
use crate::news::Say;

/// After how long everybody is told how far the making of a page is.
const LONG: Duration = Duration::from_millis(500);

/// A page that is being made.
pub(super) struct Rendering {
    pub(super) cancel: Cancel,
    /// The part that is done, as the bits of an `f32`.
    done: Arc<AtomicU32>,
    began: Instant,
    shown: Shown,
    /// Who wanted it.
    asker: Option<u64>,
    task: JoinHandle<Result<Page, Error>>,
}

type Rendered = Result<Result<Page, Error>, JoinError>;

/// Waits until the page is made.
pub(super) async fn finished(rendering: &mut Option<Rendering>) -> Rendered {
    match rendering {
        Some(rendering) => (&mut rendering.task).await,
        None => std::future::pending().await,
    }
}

impl Room {
    /// Has the page made anew within this time.
    pub(super) fn render_soon(&mut self, within: Duration) {
        let at = Instant::now() + within;
        self.render_at = Some(self.render_at.map_or(at, |before| before.min(at)));
    }

    /// Has the page made at once because this viewer wants another one; `None`: somebody on another node does.
    pub(super) fn render_for(&mut self, viewer: Option<u64>) {
        self.asker = viewer;
        // What replaces the turn of a page is not its turner's any more.
        if viewer.is_none() {
            self.turn = None;
        }
        if let Some(rendering) = &self.rendering
            && !rendering.shown.same_rows(&self.record.shown)
        {
            rendering.cancel.cancel();
        }
        self.render_soon(Duration::ZERO);
    }

    /// Whether the rows that are shown are those that are wanted now.
    pub(super) fn shows_what_is_wanted(&self) -> bool {
        self.page.is_some() && self.good.same_rows(&self.record.shown)
    }

    /// Starts making the page, unless one is being made: then it comes after that.
    pub(super) fn render(&mut self) {
        if self.rendering.is_some() {
            return;
        }
        self.render_at = None;
        let Some(reading) = self.reading() else {
            // A file that is being opened shows by itself.
            if self.record.file.is_none() {
                self.page = None;
                self.content += 1;
                // Where it is coming in, the table's channel is told.
                self.post(self.elsewhere.loading().is_none());
            }
            return;
        };
        let shown = Shown {
            page: if self.at_end { u64::MAX } else { self.record.shown.page },
            ..self.record.shown.clone()
        };
        let article = self.counted(Form::Article) > 0;
        let wanted = Wanted { reading, shown: shown.clone(), before: self.made_before(), article };
        let (cancel, done) = (Cancel::default(), Arc::new(AtomicU32::new(0)));
        let (stop, tell, service) = (cancel.clone(), Arc::clone(&done), Arc::clone(&self.service));
        let task = tokio::spawn(async move {
            let summary = wanted.reading.summary();
            let _permit = match wanted.shown.is_plain() {
                true => service.queries.window(&summary).await,
                false => service.queries.query(&summary).await,
            };
            let made = tokio::task::spawn_blocking(move || {
                let tell = |part: f32| tell.store(part.to_bits(), Ordering::Relaxed);
                making::make(&wanted, Control::default().cancelled_by(&stop).telling(&tell))
            });
            made.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        });
        let asker = self.asker.take();
        self.rendering = Some(Rendering { cancel, done, began: Instant::now(), shown, asker, task });
    }

    /// The page is made, or cannot be.
    pub(super) fn made(&mut self, made: Rendered) {
        let Some(Rendering { shown, asker, .. }) = self.rendering.take() else { return };
        match made {
            Ok(Ok(page)) => {
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
                    (self.good, self.page) = (Shown { page: page.page, ..shown }, Some(page));
                    return self.render_soon(Duration::ZERO);
                }
                if self.render_at.is_none() && !loading && self.record.shown.page != page.page {
                    self.record.shown.page = page.page;
                    if self.at_end {
                        self.change();
                    }
                }
                self.good = Shown { page: page.page, ..shown };
                self.page = Some(page);
                self.content += 1;
                self.post(!self.follows);
                self.answer_lookers();
            }
            Ok(Err(Error::Cancelled)) => {
                // What was wanted is part of what is made next, unless somebody wants more by now.
                self.asker = self.asker.or(asker);
                self.render_soon(Duration::ZERO);
            }
            Ok(Err(error)) => self.cannot_show(&error.into(), &shown, asker),
            Err(_) => self.cannot_show(&Failure::internal(), &shown, asker),
        }
    }

    /// Turns back from a page that was wanted before its rows were known and is not there, and tells who wanted it.
    fn turn_is_refused(&mut self, shown: &Shown, page: &Page) -> bool {
        // What was turned to since is another rendering's.
        if self.record.shown != *shown {
            return false;
        }
        let Some(turn) = self.turn.take().filter(|_| shown.page > page.page) else { return false };
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
        self.turn = None;
        let Shown { page, page_size, .. } = self.record.shown;
        let turned = (page != failed.page).then_some(page);
        if self.page.is_some() && !self.good.same_rows(failed) {
            let back = self.good.clone();
            // Who has turned the page since stays there.
            self.record.shown = Shown { page: turned.unwrap_or(back.page), page_size, ..back };
            self.change();
            self.content += 1;
            self.post(true);
            self.answer_lookers();
            if self.record.shown != self.good {
                self.render_soon(Duration::ZERO);
            }
        } else if !failed.is_plain() {
            self.record.shown = Shown { page: turned.unwrap_or(1), page_size, ..Shown::default() };
            self.change();
            self.render_soon(Duration::ZERO);
        } else {
            // Not even all rows can be shown: what was shown stays.
            for looker in self.looking.drain(..) {
                let _ = looker.send(Err(failure.clone()));
            }
            if self.page.is_some() {
                self.content += 1;
                self.post(true);
            }
        }
    }

    /// Tells a viewer what went wrong; gives whether it is still there.
    fn tell_failure(&self, viewer: u64, failure: &Failure) -> bool {
        let Some(outbox) = self.outbox(viewer) else { return false };
        outbox.push(message::error(failure));
        self.service.counters.errors.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn answer_lookers(&mut self) {
        for looker in std::mem::take(&mut self.looking) {
            if let Some(look) = self.look_now() {
                let _ = looker.send(Ok(look));
            }
        }
    }

    /// Shows everybody what is there now; `publish`: those who follow the table's channel too, whom one node tells.
    pub(super) fn post(&mut self, publish: bool) {
        self.count_at = None;
        for form in [Form::Tables, Form::Article] {
            let posted = (self.counted(form) > 0 && (self.text(form).is_some() || self.data.is_none()))
                .then(|| self.encode(form));
            if posted.is_some() || self.counted(form) == 0 {
                self.board.send_modify(|board| board.post(form, posted));
            }
        }
        if self.text(Form::Article).is_none() && self.counted(Form::Article) > 0 && self.data.is_some() {
            self.render_soon(Duration::ZERO);
        }
        if let Some(text) = self.text(Form::Tables).filter(|_| publish) {
            let about = self.about(self.everybody(), self.record.version);
            self.service.publish(self.id(), message::view(&about, text, false));
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
        self.service.counters.views.fetch_add(1, Ordering::Relaxed);
        Posted { frame, content: self.content, viewers, version: about.version }
    }

    pub(super) fn about(&self, viewers: u64, version: u64) -> About {
        let first = self.upload.as_ref().filter(|_| self.record.file.is_none());
        let elsewhere = self.elsewhere.loading().filter(|_| self.record.file.is_none());
        let is_coming = first.is_some() || elsewhere.is_some();
        let loading = is_coming || self.data.as_ref().is_some_and(|data| data.loading);
        let received = self.page.as_ref().map_or(0, |page| page.summary.received);
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
            shown: if self.page.is_some() { self.good.clone() } else { self.record.shown.clone() },
            file: self.page.as_ref().map(|page| page.facts.clone()),
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
            self.board.send_modify(|board| board.tell_progress(frame));
        }
    }

    fn making_progress(&self) -> Option<Bytes> {
        let done = |done: &AtomicU32| f32::from_bits(done.load(Ordering::Relaxed));
        if let Some(rendering) = self.rendering.as_ref().filter(|rendering| rendering.began.elapsed() >= LONG)
        {
            return Some(message::working(done(&rendering.done)));
        }
        let working = self.working.as_ref().filter(|working| working.began.elapsed() >= LONG)?;
        Some(message::working(done(&working.done)))
    }
}
