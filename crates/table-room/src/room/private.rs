//! Private views: the own order, filter, search and page of one viewer.
//!
//! Invariants:
//! - A viewer has at most one private view, a table [`MAX_PER_TABLE`], and the process [`MAX_PRIVATE_VIEWS`].
//! - At most [`MAX_RUNNING`] are computed at a time for one table; the others wait in the order of their requests. A
//!   request that replaces another one cancels its computation, and so does leaving.
//! - A view that was computed over all rows is computed again when the rows have changed, after at least [`REFRESH_COST`]
//!   times the duration of its last computation, and not while its last page waits for the viewer: refreshes take at most a
//!   twentieth of a thread. Those of all private views of a table take at most a quarter ([`TABLE_COST`]).
//! - Views that follow the changed rows alone are updated in rounds, one view after the other. Rounds take at most half of a
//!   thread ([`ROUND_COST`]).
//! - While a large table with a key has more than [`WHOLE_VIEWS`] private views, or when a quarter of the memory for that is
//!   used, new views follow the rows near their page alone. Their other rows are computed again when their viewer requests
//!   them and rows have changed, with the same pauses as other computations over all rows.
//! - Views with the same query have the same rows in memory, which are computed and updated once.
//! - Only the newest page waits for a slow viewer (the policy `latest`).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tidings_table::{Cancel, Error, Reading};
use tidings_table_store::ViewSettings;
use tokio::sync::oneshot;

use super::effect::{Effect, PrivateJob, RenderJob};
use super::keys::LIVE_INTERVAL;
use super::state::Room;
use super::timers::Timer;
use crate::broadcast::ViewFormat;
use crate::counters::Counters;
use crate::failure::Failure;
use crate::message;
use crate::page::{self, CachedView, Extent, Page, PageRequest};
use crate::view_rows::ViewRows;
use tidings_table_commands::private::PrivateMessage;

/// The most private views of one table on this node.
const MAX_PER_TABLE: usize = 100;
/// The most private views of this process. Each holds the numbers of its rows: at most a mebibyte in memory.
pub(super) const MAX_PRIVATE_VIEWS: u64 = 256;
/// The most private views of a table that are computed at a time.
const MAX_RUNNING: usize = 4;
/// The least time between two refreshes, and its ratio to the duration of a computation.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
const REFRESH_COST: u32 = 20;
/// The least ratio of the time between two refreshes of one view to the duration of the refreshes of all of them.
const TABLE_COST: u32 = 4;

/// The least ratio of the time between the beginnings of two rounds to the duration of a round.
const ROUND_COST: u32 = 2;
/// The most private views of a large table with which a new one follows all of its rows.
const WHOLE_VIEWS: usize = 2;
/// The most successive computations over all rows that end without rows, without being cancelled.
const MAX_ATTEMPTS: u32 = 3;
/// Tables with more rows are large.
const LARGE: u64 = 1 << 16;

/// The private views of a table.
#[derive(Default)]
pub(super) struct PrivateViews {
    all: BTreeMap<u64, PrivateView>,
    /// The viewers whose views must be computed, in order.
    waiting: VecDeque<u64>,
    /// The number of running computations over all rows.
    running: usize,
    /// The running round: its beginning, and the number of its views that are not updated yet.
    round: Option<(Instant, usize)>,
    /// The time of the next round.
    next_round: Option<Instant>,
    /// The number of the last computation.
    last_number: u64,
}

/// The private view of a viewer.
struct PrivateView {
    /// The requested settings.
    wanted: ViewSettings,
    /// The settings of the shown page, and the page.
    shown: Option<(ViewSettings, Page)>,
    running: Option<RunningView>,
    /// Grows with each page.
    version: u64,
    /// The end of the last computation over all rows, and its duration.
    made_at: Instant,
    cost: Duration,
    /// Whether the viewer has requested rows that are not current.
    needs_all: bool,
    /// The number of successive computations over all rows that have ended without rows, without being cancelled.
    attempts: u32,
    _permit: PrivatePermit,
}

/// The views of a page, by form.
type MadeViews = [Option<CachedView>; 2];

/// Whether these are the rows of these settings.
pub(super) fn has_rows(made: &MadeViews, reading: &Arc<Reading>, shown: &ViewSettings) -> bool {
    made[ViewFormat::Tables as usize].as_ref().is_some_and(|made| made.has_rows_of(reading, shown))
}

/// A private view that is being computed.
struct RunningView {
    number: u64,
    began: Instant,
    settings: ViewSettings,
    cancel: Cancel,
    /// Whether it is a computation over all rows.
    is_full: bool,
    /// Dropped to end the wait for a permit.
    _stop: oneshot::Sender<()>,
}

/// A place among the private views of this process.
struct PrivatePermit(Arc<Counters>);

impl PrivatePermit {
    fn take(counters: &Arc<Counters>) -> Option<Self> {
        let took = counters.private_views.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |views| {
            (views < MAX_PRIVATE_VIEWS).then_some(views + 1)
        });
        took.ok().map(|_| Self(Arc::clone(counters)))
    }
}

impl Drop for PrivatePermit {
    fn drop(&mut self) {
        self.0.private_views.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PrivateViews {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn wait(&mut self, viewer: u64) {
        if !self.waiting.contains(&viewer) {
            self.waiting.push_back(viewer);
        }
    }
}

impl Room {
    /// Sets the private view of a viewer, or replaces it.
    ///
    /// # Errors
    /// 400 for a column that does not exist, 409 without a file, 429 when the table has too many private views, 503 when
    /// the process has.
    pub(super) fn set_private(&mut self, viewer: u64, message: PrivateMessage) -> Result<(), Failure> {
        if self.viewers.get(viewer).is_none_or(|viewer| viewer.form == ViewFormat::Article) {
            return Err(Failure::bad("the article's page has no private views; use /tables/ws"));
        }
        if self.record.file.is_none() && self.open_file.is_none() {
            return Err(Failure::empty());
        }
        let wanted = message.settings(&self.record.view);
        if self.open_file.as_ref().is_some_and(|open_file| !open_file.loading) {
            self.check_columns(&wanted)?;
        }
        let views = &mut self.private;
        match views.all.get_mut(&viewer) {
            Some(view) => {
                if let Some(running) = view.running.as_ref().filter(|run| !run.settings.same_rows(&wanted)) {
                    running.cancel.cancel();
                }
                view.wanted = wanted;
            }
            None => {
                if views.all.len() >= MAX_PER_TABLE {
                    return Err(Failure::new(
                        429,
                        format!(
                            "this table has {MAX_PER_TABLE} private views; wait until a viewer leaves one"
                        ),
                    ));
                }
                let Some(permit) = PrivatePermit::take(&self.settings.counters) else {
                    return Err(Failure::new(
                        503,
                        format!("the server has {MAX_PRIVATE_VIEWS} private views; try again later"),
                    ));
                };
                let view = PrivateView {
                    wanted,
                    shown: None,
                    running: None,
                    version: 0,
                    made_at: self.now,
                    cost: Duration::ZERO,
                    needs_all: false,
                    attempts: 0,
                    _permit: permit,
                };
                views.all.insert(viewer, view);
                self.timers.set_if_unset(Timer::Private, self.now + REFRESH_INTERVAL);
            }
        }
        self.private.wait(viewer);
        self.change_person(viewer, |person| person.private = true)
    }

    /// Ends the private view of a viewer and cancels its computation. Without one, the viewer receives the same response.
    pub(super) fn end_private(&mut self, viewer: u64) {
        self.drop_private(viewer);
        if let Some(outbox) = self.outbox(viewer) {
            outbox.set_private(message::no_private());
        }
        let _ = self.change_person(viewer, |person| person.private = false);
    }

    /// Removes the private view of a viewer that has left.
    pub(super) fn drop_private(&mut self, viewer: u64) {
        if let Some(view) = self.private.all.remove(&viewer)
            && let Some(running) = view.running
        {
            running.cancel.cancel();
        }
        self.private.waiting.retain(|waiting| *waiting != viewer);
    }

    /// Makes the private view of a viewer the shared one.
    ///
    /// # Errors
    /// 409 without a private view; as for a change of the shared view.
    pub(super) fn share_private(&mut self, viewer: u64) -> Result<(), Failure> {
        let view = self.private.all.get(&viewer);
        let view = view.ok_or_else(|| Failure::new(409, "you have no private view"))?;
        let wanted = view.wanted.clone();
        self.check_columns(&wanted)?;
        self.change_view(viewer, wanted, None);
        self.end_private(viewer);
        Ok(())
    }

    /// The rows and the version of a viewer's private view, which will be shown at these positions.
    ///
    /// # Errors
    /// 409 without a computed private view.
    pub(super) fn private_rows(
        &mut self,
        viewer: u64,
        positions: &Range<u64>,
    ) -> Result<(ViewRows, u64), Failure> {
        let view = self.private.all.get_mut(&viewer);
        let view = view.ok_or_else(|| Failure::new(409, "you have no private view"))?;
        let made = view.shown.as_ref().and_then(|(_, page)| page.made[ViewFormat::Tables as usize].as_ref());
        let made = made.ok_or_else(|| Failure::new(409, "your private view is not computed yet"))?;
        view.needs_all |= !made.view.is_current(positions);
        Ok((made.view.clone(), view.version))
    }

    /// Resets the private views to all rows, and hides cursors with the next page: the file or its columns have changed.
    pub(super) fn reset_private(&mut self) {
        self.view.hides_cursors = true;
        for (viewer, view) in &mut self.private.all {
            let page_size = view.wanted.page_size;
            view.wanted = ViewSettings { page_size, ..ViewSettings::default() };
            if let Some(running) = &view.running {
                running.cancel.cancel();
            }
            if !self.private.waiting.contains(viewer) {
                self.private.waiting.push_back(*viewer);
            }
        }
    }

    /// Computes all private views again, also those whose last page waits for its viewer: the file that they hold was
    /// replaced by one with the same rows.
    pub(super) fn refresh_all_private(&mut self) {
        for viewer in self.private.all.keys().copied().collect::<Vec<_>>() {
            self.private.wait(viewer);
        }
    }

    /// The least time between two refreshes.
    fn refresh_interval(&self) -> Duration {
        if self.record.key.is_empty() { REFRESH_INTERVAL } else { LIVE_INTERVAL }
    }

    /// Whether the time between two computations over all rows of a view has passed.
    fn may_compute_all(&self, view: &PrivateView) -> bool {
        // A table has at most [`MAX_PER_TABLE`].
        let ratio = REFRESH_COST.max(TABLE_COST * self.private.all.len() as u32);
        self.now >= view.made_at + (view.cost * ratio).max(self.refresh_interval())
    }

    /// Schedules the views whose rows have changed.
    pub(super) fn refresh_private(&mut self) {
        let interval = self.refresh_interval();
        let next_round = self.private.next_round.filter(|next| *next > self.now);
        self.timers.set(Timer::Private, next_round.unwrap_or(self.now + interval));
        let Some(reading) = self.reading() else { return };
        let summary = reading.summary();
        let is_round = next_round.is_none() && self.private.round.is_none();
        let is_due = |view: &PrivateView| {
            let Some((shown, page)) = &view.shown else { return false };
            let made = page.made[ViewFormat::Tables as usize].as_ref();
            let is_other = made.is_none_or(|made| !Arc::ptr_eq(made.view.reading(), &reading));
            let is_free = self.may_compute_all(view);
            // After a long first computation, the changed rows alone are examined before they are too many.
            match made.filter(|made| made.can_follow(&reading, shown)) {
                Some(_) if view.needs_all && is_free => true,
                Some(_) => is_round && (is_other || page.summary != summary),
                None => is_free && (is_other || page.summary != summary),
            }
        };
        // A viewer that has not read its page yet needs no newer one.
        let reads = |viewer: u64| self.outbox(viewer).is_some_and(|outbox| !outbox.has_private());
        let due = self
            .private
            .all
            .iter()
            .filter(|(viewer, view)| view.running.is_none() && is_due(view) && reads(**viewer));
        for viewer in due.map(|(viewer, _)| *viewer).collect::<Vec<_>>() {
            self.private.wait(viewer);
        }
    }

    /// Starts computations as long as the limits permit it: some over all rows, and a round of the others.
    pub(super) fn start_private(&mut self) {
        if self.private.waiting.is_empty() {
            return;
        }
        if self.private.running >= MAX_RUNNING && self.private.round.is_some() {
            return;
        }
        let Some(reading) = self.shown_reading() else { return };
        let mut round = Vec::new();
        for viewer in std::mem::take(&mut self.private.waiting) {
            let Some(view) = self.private.all.get(&viewer) else { continue };
            // A new view is most likely to be computed over all rows.
            if view.shown.is_none() && self.private.running >= MAX_RUNNING {
                self.private.waiting.push_back(viewer);
                continue;
            }
            let request = view.running.is_none().then(|| self.private_request(viewer, view, &reading));
            let is_full = request.as_ref().is_some_and(page::needs_query);
            let views = &mut self.private;
            let has_room = if is_full { views.running < MAX_RUNNING } else { views.round.is_none() };
            let (Some(wanted), true) = (request, has_room) else {
                views.waiting.push_back(viewer);
                continue;
            };
            let Some(view) = views.all.get_mut(&viewer) else { continue };
            views.last_number += 1;
            let (number, cancel) = (views.last_number, Cancel::default());
            let (stop, stopped) = oneshot::channel();
            if is_full {
                view.needs_all = false;
                views.running += 1;
            }
            view.running = Some(RunningView {
                number,
                began: self.now,
                settings: wanted.shown.clone(),
                cancel: cancel.clone(),
                is_full,
                _stop: stop,
            });
            let render = RenderJob { wanted, cancel, done: Arc::new(AtomicU32::new(0)) };
            let mut job = PrivateJob { viewer, number, render, stopped };
            job.render.wanted.changes_only = !is_full && !job.render.wanted.shown.is_plain();
            match is_full {
                true => self.effects.push(Effect::RenderPrivate(Box::new(job))),
                false => round.push(job),
            }
        }
        if !round.is_empty() {
            self.private.round = Some((self.now, round.len()));
            self.effects.push(Effect::UpdatePrivate(round));
        }
    }

    /// The page of a private view to compute.
    fn private_request(&self, viewer: u64, view: &PrivateView, reading: &Arc<Reading>) -> PageRequest {
        let shown = view.wanted.clone();
        let memory = &self.settings.live;
        let is_scarce = self.private.all.len() > WHOLE_VIEWS || memory.used() > memory.limit() / 4;
        let is_near = reading.summary().rows > LARGE && is_scarce;
        PageRequest {
            reading: Arc::clone(reading),
            before: if view.needs_all && self.may_compute_all(view) {
                MadeViews::default()
            } else {
                self.rows_before(viewer, reading, &shown)
            },
            shown,
            article: false,
            live: self.settings.live.clone(),
            groups: self.settings.groups.clone(),
            extent: if is_near { Extent::Near } else { Extent::WholeIfItFits },
            changes_only: false,
            replaces: None,
        }
    }

    /// Records that a view of a round, or a computation over all rows, has ended.
    fn end_private_job(&mut self, is_full: bool) {
        let interval = self.refresh_interval();
        let views = &mut self.private;
        if is_full {
            views.running -= 1;
            return;
        }
        let Some((began, left)) = views.round.take() else { return };
        if left > 1 {
            views.round = Some((began, left - 1));
            return;
        }
        let next = began + ((self.now - began) * ROUND_COST).max(interval);
        views.next_round = Some(next);
        self.timers.set(Timer::Private, next.max(self.now));
    }

    /// The rows for a private view with these settings: its own, or those of any other view with the same query.
    fn rows_before(&self, viewer: u64, reading: &Arc<Reading>, shown: &ViewSettings) -> MadeViews {
        let made = |view: &PrivateView| view.shown.as_ref().map(|(_, page)| page.made.clone());
        let own = self.private.all.get(&viewer).and_then(made).unwrap_or_default();
        if has_rows(&own, reading, shown) {
            return own;
        }
        self.same_rows(reading, shown).unwrap_or(own)
    }

    /// The rows of a view with the same query as these settings, shared or private.
    pub(super) fn same_rows(&self, reading: &Arc<Reading>, shown: &ViewSettings) -> Option<MadeViews> {
        let private = self.private.all.values().filter_map(|view| view.shown.as_ref());
        let pages = self.view.page.iter().chain(private.map(|(_, page)| page));
        let found = pages.map(|page| &page.made).find(|made| has_rows(made, reading, shown))?;
        Some(found.clone())
    }

    /// Handles the result of a computation; `None`: it panicked.
    pub(super) fn on_private(
        &mut self,
        viewer: u64,
        number: u64,
        is_full: bool,
        made: Option<Result<Page, Error>>,
    ) {
        self.end_private_job(is_full);
        let reading = self.reading();
        let Some(view) = self.private.all.get_mut(&viewer) else { return };
        let Some(running) = view.running.take_if(|running| running.number == number) else { return };
        if running.is_full {
            (view.cost, view.made_at) = (self.now - running.began, self.now);
        }
        let is_wanted = view.wanted.same_rows(&running.settings);
        let is_unfinished = matches!(made, Some(Err(Error::Cancelled)));
        view.attempts = if is_unfinished && running.is_full && !running.cancel.is_cancelled() {
            view.attempts + 1
        } else {
            0
        };
        match made {
            Some(Ok(page)) => {
                let is_current = reading.is_some_and(|reading| {
                    page.made[0].as_ref().is_some_and(|made| Arc::ptr_eq(made.view.reading(), &reading))
                });
                if !is_wanted || !is_current {
                    return self.private.wait(viewer);
                }
                let is_last = view.wanted == running.settings;
                let settings = ViewSettings { page: page.page, ..running.settings };
                if is_last {
                    view.wanted = settings.clone();
                }
                view.version += 1;
                view.shown = Some((settings, page));
                if !is_last {
                    self.private.wait(viewer);
                }
                self.send_private(viewer);
            }
            Some(Err(Error::Cancelled)) if view.attempts < MAX_ATTEMPTS => self.private.wait(viewer),
            failed => {
                let failure = match failed {
                    Some(Err(error)) => error.into(),
                    _ => Failure::internal(),
                };
                if !is_wanted {
                    return self.private.wait(viewer);
                }
                let back = view.shown.as_ref().map(|(settings, _)| settings.clone());
                let is_back = back.as_ref().is_some_and(|back| !back.same_rows(&view.wanted));
                if let Some(back) = back.filter(|_| is_back) {
                    view.wanted = back;
                }
                self.send_error(viewer, &failure);
                // The rows that are shown cannot be shown any more either.
                if !is_back {
                    self.end_private(viewer);
                }
            }
        }
    }

    /// Sends the page of a private view to its viewer. The text of the page is not kept.
    fn send_private(&mut self, viewer: u64) {
        let Some(view) = self.private.all.get_mut(&viewer) else { return };
        let (version, Some((settings, page))) = (view.version, &mut view.shown) else { return };
        let Some(text) = page.text[ViewFormat::Tables as usize].take() else { return };
        let (settings, facts) = (settings.clone(), page.facts.clone());
        let mut info = self.info(self.viewer_count(), version);
        if let Some(shared) = &mut info.shared {
            shared.columns = settings.shown_layout().cloned();
            shared.group.clone_from(&settings.group);
        }
        (info.shown, info.file) = (settings, Some(facts));
        let Some(outbox) = self.outbox(viewer) else { return };
        outbox.set_private(message::private(&info, &text));
        self.settings.counters.views.fetch_add(1, Ordering::Relaxed);
    }
}
