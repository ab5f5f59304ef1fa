//! The record of a room, and the time at which it is written.

use std::time::{Duration, Instant};

use tidings_log_throttle::LogThrottle;
use tidings_table_store::SaveOutcome;

use super::effect::{Effect, SaveJob, SaveResult};
use super::state::Room;
use super::timers::Timer;
use crate::failure::Failure;

/// The delay after a failed write of the record.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// The state of the stored record.
///
/// Invariant: one record is written at a time, and a file is removed only after a record without it is stored.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// Whether the stored record is outdated.
    pub(super) is_dirty: bool,
    /// Whether a record is being written.
    pub(super) is_running: bool,
    /// Whether the stored record only announces a first upload here.
    pub(super) is_announced: bool,
    /// Files that are removed once a record without them is stored.
    pub(super) obsolete: Vec<String>,
}

impl Room {
    /// Schedules a write of the record as soon as the store permits it.
    pub(super) fn save_soon(&mut self) {
        self.saving.is_dirty = true;
        if !self.saving.is_running && self.timers.is_due(Timer::Save, self.now) {
            self.save();
        }
    }

    /// Writes the record, or removes that of a first upload that failed.
    pub(super) fn save(&mut self) {
        self.saving.is_dirty = false;
        let has_file = self.record.file.is_some();
        let is_table = has_file || self.upload.is_some();
        if !is_table && !self.saving.is_announced {
            return;
        }
        self.saving.is_announced = is_table && !has_file;
        self.saving.is_running = true;
        let (record, obsolete) = (self.record.clone(), std::mem::take(&mut self.saving.obsolete));
        self.effects.push(Effect::Save(Box::new(SaveJob { record, is_table, obsolete })));
    }

    /// Handles the result of writing the record; `None`: it panicked.
    pub(super) fn on_saved(&mut self, saved: Option<SaveResult>) {
        self.saving.is_running = false;
        self.timers.set(Timer::Save, self.now + self.settings.min_save_interval);
        match saved {
            Some((Ok(SaveOutcome::Stored), _)) => {}
            Some((Ok(SaveOutcome::Deleted), _)) => self.on_deleted(),
            Some((Err(error), obsolete)) => {
                static LINES: LogThrottle = LogThrottle::new();
                let why = Failure::from(error).message;
                if let Some(times) = LINES.count() {
                    tracing::warn!(table = %self.id(), why, times, "the record of a table cannot be saved; another attempt follows");
                }
                self.saving.obsolete.extend(obsolete);
                self.saving.is_dirty = true;
                self.timers.set(Timer::Save, self.now + RETRY_DELAY);
            }
            None => tracing::error!(table = %self.id(), "saving the record of a table panicked"),
        }
    }

    /// Whether the store must be updated periodically to mark the table as used: while it has viewers, and in a bucket
    /// while it is open.
    pub(super) fn needs_touch(&self) -> bool {
        !self.viewers.is_empty() || self.settings.lease.is_some()
    }

    /// Marks the table as used in the store, for other processes and a later start.
    pub(super) fn touch(&mut self) {
        if let Some(lease) = self.settings.lease {
            self.timers.set(Timer::Touch, self.now + lease);
            self.saving.is_dirty |= self.record.file.is_some();
            return;
        }
        self.timers.set(Timer::Touch, self.now + self.settings.keep / 4);
        if self.record.file.is_some() {
            self.effects.push(Effect::Touch);
        }
    }

    /// The last save of an ended room: of an announcement of a first upload that failed, after a running save.
    pub fn last_save(&mut self, now: Instant) -> Vec<Effect> {
        self.now = now;
        self.saving.is_running = false;
        if self.saving.is_announced && self.upload.is_none() {
            self.save();
        }
        std::mem::take(&mut self.effects)
    }
}
