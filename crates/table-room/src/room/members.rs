//! Viewers and their permissions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidings_table::{Error, Op, Query};
use tidings_table_store::{Condition, ViewSettings};
use tokio::sync::mpsc;

use super::effect::Effect;
use super::rendering::PendingPageTurn;
use super::state::Room;
use super::timers::Timer;
use super::{CLOSE_NO_TABLE, CommandReply, JoinRequest, RoomRequest, SnapshotReply, SnapshotState};
use crate::access;
use crate::broadcast::{BroadcastEnd, ViewCursor, ViewFormat};
use crate::command::Command;
use crate::failure::Failure;
use crate::message;
use crate::node_messages::MessageKind;
use crate::outbox::Outbox;
use crate::people::{Actor, MAX_LISTED, Person};
use crate::summary::TableSummary;

/// The delay of the new number of viewers after a viewer joined or left.
const VIEWER_COUNT_DELAY: Duration = Duration::from_millis(250);
/// The most requests for a snapshot that wait for the first page.
const MAX_SNAPSHOT_REQUESTS: usize = 1_024;

/// One viewer.
pub(super) struct Viewer {
    pub(super) form: ViewFormat,
    pub(super) is_owner: bool,
    pub(super) outbox: Arc<Outbox>,
    /// The kind of the client.
    pub(super) actor: Actor,
    /// The viewer as other viewers see it.
    pub(super) person: Arc<Person>,
    /// Whether the viewer is in the list of people.
    pub(super) is_listed: bool,
    /// Whether the viewer has set a name or a cursor, or changed the view.
    pub(super) has_acted: bool,
}

impl Viewer {
    /// Whether the viewer may be listed.
    pub(super) fn is_person(&self) -> bool {
        self.form == ViewFormat::Tables && self.actor == Actor::Viewer
    }

    /// Whether another viewer may take its place in the list of people.
    pub(super) const fn is_idle(&self) -> bool {
        self.is_listed && !self.has_acted && !self.is_owner
    }
}

/// The viewers of a table on this node.
pub(super) struct Viewers {
    all: HashMap<u64, Viewer>,
    /// The number of viewers that may be in the list of people, and of those that are.
    persons: u64,
    listed: usize,
    /// The last number of a viewer or an upload.
    last_number: u64,
    /// The time of the table's last use.
    pub(super) left_at: Instant,
}

impl Viewers {
    pub(super) fn new(now: Instant) -> Self {
        Self { all: HashMap::new(), persons: 0, listed: 0, last_number: 0, left_at: now }
    }

    /// A number that is unique among the viewers and uploads of this room.
    pub(super) const fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn get(&self, viewer: u64) -> Option<&Viewer> {
        self.all.get(&viewer)
    }

    pub(super) fn get_mut(&mut self, viewer: u64) -> Option<&mut Viewer> {
        self.all.get_mut(&viewer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Viewer> + Clone {
        self.all.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Viewer> {
        self.all.values_mut()
    }

    /// Adds a viewer, in the list of people if there is room.
    fn insert(&mut self, number: u64, viewer: Viewer) {
        let is_listed = viewer.is_person() && !self.has_full_list();
        self.persons += u64::from(viewer.is_person());
        self.all.insert(number, viewer);
        self.set_listed(number, is_listed);
    }

    /// Removes a viewer. Returns whether it was there.
    fn remove(&mut self, number: u64) -> bool {
        self.set_listed(number, false);
        let removed = self.all.remove(&number);
        self.persons -= u64::from(removed.as_ref().is_some_and(Viewer::is_person));
        removed.is_some()
    }

    /// Adds a viewer to the list of people, or removes it.
    pub(super) fn set_listed(&mut self, number: u64, is_listed: bool) {
        let Some(viewer) = self.all.get_mut(&number) else { return };
        if viewer.is_listed != is_listed {
            viewer.is_listed = is_listed;
            self.listed = if is_listed { self.listed + 1 } else { self.listed - 1 };
        }
    }

    pub(super) const fn has_full_list(&self) -> bool {
        self.listed >= MAX_LISTED
    }

    /// The number of viewers that may be listed and are not.
    pub(super) const fn unlisted(&self) -> u64 {
        self.persons - self.listed as u64
    }

    /// A listed viewer that has never acted.
    pub(super) fn first_idle(&self) -> Option<u64> {
        self.all.iter().find(|(_, viewer)| viewer.is_idle()).map(|(number, _)| *number)
    }

    /// A viewer that waits for a place in the list, one that has acted if there is any.
    pub(super) fn first_unlisted(&self) -> Option<u64> {
        if self.unlisted() == 0 {
            return None;
        }
        let waiting = self.all.iter().filter(|(_, viewer)| viewer.is_person() && !viewer.is_listed);
        waiting.max_by_key(|(_, viewer)| viewer.has_acted).map(|(number, _)| *number)
    }

    pub(super) fn len(&self) -> u64 {
        self.all.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The number of viewers with this form.
    pub(super) fn count(&self, form: ViewFormat) -> u64 {
        self.all.values().filter(|viewer| viewer.form == form).count() as u64
    }
}

/// A session's handle of the room that it has joined.
#[derive(Debug)]
pub struct ViewerHandle {
    /// The sender of requests to the room.
    pub requests: mpsc::Sender<RoomRequest>,
    /// The number of the viewer.
    pub viewer: u64,
    /// Whether the session has proved ownership.
    pub is_owner: bool,
}

impl Room {
    /// Adds a viewer. It receives the view at once if there is one.
    pub(super) fn join(&mut self, join: JoinRequest) {
        let JoinRequest { form, secret, actor, is_creator, outbox, reply } = join;
        let Some(requests) = self.settings.requests.upgrade() else { return };
        let viewer = self.viewers.next_number();
        let is_owner = secret.as_ref().is_some_and(|secret| self.record.is_owned_by(secret));
        if reply.send(ViewerHandle { requests, viewer, is_owner }).is_err() {
            return;
        }
        let person = Arc::new(self.new_person(is_owner));
        let id = person.id.clone();
        let joined = Viewer {
            form,
            is_owner,
            outbox: Arc::clone(&outbox),
            actor,
            person,
            is_listed: false,
            has_acted: false,
        };
        self.viewers.insert(viewer, joined);
        self.people_changed();
        self.settings.counters.viewers.fetch_add(1, Ordering::Relaxed);
        let mut seen = ViewCursor::from_now(form, &self.view.broadcast.borrow(), self.record.locks.any(), id);
        if secret.is_some() && !is_owner {
            outbox.push(message::error(&not_the_owner()));
        }
        if self.text(form).is_some() {
            let posted = self.encode(form);
            seen.view = Some(posted.viewed());
            outbox.push(posted.frame);
        } else if !is_creator {
            self.render_soon(Duration::ZERO);
        }
        outbox.watch((self.view.broadcast.subscribe(), seen));
        self.timers.set_if_unset(Timer::ViewerCount, self.now + VIEWER_COUNT_DELAY);
    }

    /// Makes a viewer an owner if the secret is right.
    ///
    /// # Errors
    /// 403 for a wrong secret.
    pub(super) fn claim_ownership(&mut self, viewer: u64, secret: &str) -> Result<(), Failure> {
        if !self.record.is_owned_by(secret) {
            return Err(not_the_owner());
        }
        if let Some(viewer) = self.viewers.get_mut(viewer) {
            viewer.is_owner = true;
            Arc::make_mut(&mut viewer.person).owner = true;
            self.people_changed();
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, viewer: u64) {
        if !self.viewers.remove(viewer) {
            return;
        }
        self.settings.counters.viewers.fetch_sub(1, Ordering::Relaxed);
        self.drop_private(viewer);
        self.list_another_person();
        self.keep_open();
        if self.viewers.is_empty() {
            self.touch();
            self.has_ended |= self.record.file.is_none() && self.upload.is_none();
            self.has_ended |= self.view.broadcast.borrow().has_ended();
        } else {
            self.timers.set_if_unset(Timer::ViewerCount, self.now + VIEWER_COUNT_DELAY);
        }
    }

    /// Executes or schedules a command that changes the table or its view.
    pub(super) fn command(&mut self, viewer: u64, command: Command, done: CommandReply) {
        let Some(requester) = self.viewers.get(viewer) else { return };
        let (is_owner, form) = (requester.is_owner, requester.form);
        if let Err(failure) = access::check(is_owner, self.record.locks, &command) {
            let _ = done.send(Err(failure));
            return;
        }
        let outcome = match command {
            Command::Me(name) => self.set_name(viewer, &name),
            Command::Cursor(cursor) => self.set_cursor(viewer, cursor),
            Command::Private(Some(message)) => self.set_private(viewer, *message),
            Command::Private(None) => {
                self.end_private(viewer);
                Ok(())
            }
            Command::Lock { uploads, view } => {
                let locks = &mut self.record.locks;
                locks.uploads = uploads.unwrap_or(locks.uploads);
                locks.view = view.unwrap_or(locks.view);
                let frame = message::locks(*locks);
                self.view.broadcast.send_modify(|broadcast| broadcast.set_locks(frame));
                self.enforce_locks();
                self.change();
                Ok(())
            }
            Command::Delete => {
                self.delete();
                Ok(())
            }
            Command::Key(key) => return self.set_key(viewer, key, done),
            _ if self.open_file.is_none() => Err(Failure::empty()),
            Command::Dialect(dialect) => {
                self.person_acted(viewer);
                return self.reread(dialect, self.author(viewer), done);
            }
            Command::SharePrivate => self.share_private(viewer),
            Command::Restore => self.restore(viewer),
            Command::Undo => self.undo(viewer),
            Command::Redo => self.redo(viewer),
            command => self.show(viewer, form, command),
        };
        let _ = done.send(outcome);
    }

    /// Changes the settings of the view.
    fn show(&mut self, viewer: u64, form: ViewFormat, command: Command) -> Result<(), Failure> {
        let mut shown = self.record.view.clone();
        let mut turn = None;
        match command {
            Command::Page(page) => {
                // The number of pages is unknown until the last requested rows are computed.
                let known = self.view.page.as_ref().filter(|_| self.is_current());
                let total = known.and_then(|page| page.text[form as usize].as_ref()).map(|text| text.total);
                // More rows may have arrived since.
                let now = self.rows_now(form).filter(|_| shown.is_plain());
                if let Some(total) = now.max(total)
                    && page > shown.pages(total)
                {
                    let pages = shown.pages(total);
                    return Err(Failure::no_page(page, pages));
                }
                // The page to return to if the next one does not exist.
                let back = self.view.turn.map_or(shown.page, |turn| turn.back);
                turn = total.is_none().then_some(PendingPageTurn { viewer, back });
                shown.page = page;
            }
            Command::PageSize(size) => {
                // The first row of the page stays on the page.
                let scaled = |page: u64| (page - 1).saturating_mul(shown.page_size as u64) / size as u64 + 1;
                turn = self.view.turn.map(|turn| PendingPageTurn { back: scaled(turn.back), ..turn });
                shown.page = scaled(shown.page);
                shown.page_size = size;
            }
            Command::Sort(sort) => shown = ViewSettings { sort, page: 1, ..shown },
            Command::Filter(filter) => shown = ViewSettings { filter, page: 1, ..shown },
            Command::Search(search) => shown = ViewSettings { search, page: 1, ..shown },
            Command::IgnoreAccents(is) if shown.search.is_empty() => shown.ignore_accents = is,
            Command::IgnoreAccents(is) => shown = ViewSettings { ignore_accents: is, page: 1, ..shown },
            Command::Types(changes) => {
                shown = ViewSettings { types: shown.types_with(changes), page: 1, ..shown }
            }
            Command::Columns(_) if shown.group.is_some() => {
                return Err(Failure::new(
                    409,
                    "the layout belongs to the columns of the file; show its rows first: {\"group\":null}",
                ));
            }
            Command::Columns(layout) => shown.layout = layout,
            Command::Group(group) => shown = shown.grouped(group),
            Command::Drill(cells) => shown = drilled(shown, cells)?,
            _ => return Err(Failure::bad("this command does not change the shared view")),
        }
        self.check_columns(&shown)?;
        self.change_view(viewer, shown, turn);
        Ok(())
    }

    /// Checks that the columns of these settings exist.
    ///
    /// # Errors
    /// 400, with the number of columns.
    pub(super) fn check_columns(&self, settings: &ViewSettings) -> Result<(), Failure> {
        let columns = self.reading().map_or(0, |reading| reading.summary().widest) as usize;
        if let Some(column) = settings.columns().find(|column| *column >= columns) {
            return Err(Error::NoColumn { column, columns }.into());
        }
        let Some(group) = &settings.group else { return Ok(()) };
        let columns = group.width();
        match settings.sort.iter().find(|by| by.column >= columns) {
            Some(by) => Err(Error::NoColumn { column: by.column, columns }.into()),
            None => Ok(()),
        }
    }

    /// Changes the shared view at the request of a viewer. `turn`: see [`PendingPageTurn`].
    pub(super) fn change_view(&mut self, viewer: u64, shown: ViewSettings, turn: Option<PendingPageTurn>) {
        self.history.record(&self.record.view, &shown, self.now);
        self.set_view(viewer, shown, turn);
    }

    fn set_view(&mut self, viewer: u64, shown: ViewSettings, turn: Option<PendingPageTurn>) {
        self.view.at_end = false;
        self.view.turn = turn;
        self.record.view = shown;
        self.person_acted(viewer);
        self.change_by(self.author(viewer));
        self.render_for(Some(viewer));
    }

    fn undo(&mut self, viewer: u64) -> Result<(), Failure> {
        let before = self.history.undo(&self.record.view);
        let before = before.ok_or_else(|| Failure::new(409, "there is no change of the view to undo"))?;
        self.set_view(viewer, before, None);
        Ok(())
    }

    fn redo(&mut self, viewer: u64) -> Result<(), Failure> {
        let after = self.history.redo(&self.record.view);
        let after =
            after.ok_or_else(|| Failure::new(409, "there is no undone change of the view to repeat"))?;
        self.set_view(viewer, after, None);
        Ok(())
    }

    fn rows_now(&self, form: ViewFormat) -> Option<u64> {
        let summary = self.reading()?.summary();
        Some(if form == ViewFormat::Article { summary.lines } else { summary.rows })
    }

    /// A summary for operators, without secrets.
    pub(super) fn summary(&self) -> TableSummary {
        let file = self.reading().map(|reading| reading.summary());
        TableSummary {
            id: self.settings.id.to_string(),
            name: self.record.name.clone(),
            size: file.as_ref().map_or(0, |file| file.received),
            rows: file.as_ref().map_or(0, |file| file.rows),
            viewers: self.viewers.len(),
        }
    }

    /// Deletes the table for all viewers and nodes.
    pub(super) fn delete(&mut self) {
        self.on_deleted();
        self.notify_nodes(MessageKind::Gone);
        self.saving.is_running = false;
        self.effects.push(Effect::Delete);
    }

    /// Ends the table after its deletion here or on another node.
    pub(super) fn on_deleted(&mut self) {
        let error = Some(Failure::new(404, "the owner or an operator has deleted this table"));
        self.finish(BroadcastEnd { error, code: CLOSE_NO_TABLE, within: Duration::ZERO });
        self.record.file = None;
        self.open_file = None;
        self.view.page = None;
        self.saving.is_dirty = false;
        self.has_ended = self.viewers.is_empty();
        self.effects.push(Effect::Unregister);
    }

    /// Sends a snapshot of the table, after its page is computed.
    pub(super) fn request_snapshot(&mut self, reply: SnapshotReply) {
        // A snapshot counts as use.
        self.keep_open();
        let is_made = self.view.page.as_ref().is_some_and(|page| page.made[0].is_some());
        let is_empty = self.open_file.is_none() && self.record.file.is_none();
        if is_made && self.is_current() {
            if let Some(snapshot) = self.snapshot() {
                self.effects.push(Effect::Snapshot(reply, Box::new(snapshot)));
            }
        } else if is_empty && self.timers.get(Timer::RemoteFile).is_none() {
            let _ = reply.send(Err(Failure::empty()));
        } else if self.snapshots.len() < MAX_SNAPSHOT_REQUESTS {
            self.snapshots.push(reply);
        } else {
            let _ = reply.send(Err(Failure::new(503, "too many requests wait for this table; try again")));
        }
    }

    /// The current state of the view.
    pub(super) fn snapshot(&self) -> Option<SnapshotState> {
        let (page, open_file) = (self.view.page.as_ref()?, self.open_file.as_ref()?);
        let view = |form: ViewFormat| page.made[form as usize].as_ref().map(|made| made.view.clone());
        Some(SnapshotState {
            view: view(ViewFormat::Tables)?,
            article: view(ViewFormat::Article),
            info: self.info(self.viewer_count(), self.record.version),
            file: open_file.file.clone(),
            facts: Arc::clone(&open_file.facts),
        })
    }

    /// Resets the settings that refer to the rows of the previous file.
    pub(super) fn show_from_start(&mut self) {
        let page_size = self.record.view.page_size;
        self.record.view = ViewSettings { page_size, ..ViewSettings::default() };
        self.view.turn = None;
        self.view.at_end = false;
        self.history.clear();
        self.reset_private();
    }

    /// Resets the sort order and the conditions: the columns may have changed.
    pub(super) fn forget_columns(&mut self) {
        self.view.turn = None;
        self.history.clear();
        self.reset_private();
        let shown = &mut self.record.view;
        *shown = ViewSettings {
            page: 1,
            page_size: shown.page_size,
            search: shown.search.clone(),
            ignore_accents: shown.ignore_accents,
            ..ViewSettings::default()
        };
    }
}

/// The settings that show the rows of the group with these cells.
///
/// # Errors
/// 409 without groups, 400 for another number of cells or too many conditions.
fn drilled(shown: ViewSettings, cells: Vec<String>) -> Result<ViewSettings, Failure> {
    let Some(group) = &shown.group else {
        return Err(Failure::new(409, "the rows are not grouped"));
    };
    if cells.len() != group.by.len() {
        return Err(Failure::bad(format!("drill needs {} cells, one of each column of by", group.by.len())));
    }
    let mut filter = shown.filter.clone();
    filter.extend(group.by.iter().zip(cells).map(|(column, cell)| Condition::new(*column, Op::Same, &cell)));
    if filter.len() > Query::FILTERS {
        return Err(Failure::bad(format!("filter may have {} entries", Query::FILTERS)));
    }
    Ok(ViewSettings { filter, ..shown.grouped(None) })
}

fn not_the_owner() -> Failure {
    Failure::new(403, "this is not the owner's secret; you have the permissions of any viewer")
}
