//! The record of a room, and when it is written.

use std::time::{Duration, Instant};

use super::effect::{Effect, SaveJob, SaveOutcome};
use super::state::Room;
use super::timers::Timer;
use crate::failure::Failure;
use crate::store::Saved;

/// How long after a record could not be written it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is known of the record that is stored.
///
/// Invariant: one record is written at a time, and a file is removed only after a record without it is stored.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// Whether the stored record is an old one.
    pub(super) is_dirty: bool,
    /// Whether a record is being written.
    pub(super) is_running: bool,
    /// Whether the stored record only announces a first upload here.
    pub(super) is_announced: bool,
    /// Files that are removed once a record without them is stored.
    pub(super) obsolete: Vec<String>,
}

impl Room {
    /// Has the record written, as soon as the store's pace permits.
    pub(super) fn keep(&mut self) {
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
        self.effects.push(Effect::Save(SaveJob { record, is_table, obsolete }));
    }

    /// The record is written, or cannot be; `None`: writing it has panicked.
    pub(super) fn on_saved(&mut self, saved: Option<SaveOutcome>) {
        self.saving.is_running = false;
        self.timers.set(Timer::Save, self.now + self.settings.pace);
        match saved {
            Some((Ok(Saved::Kept), _)) => {}
            Some((Ok(Saved::Gone), _)) => self.on_deleted(),
            Some((Err(error), obsolete)) => {
                let why = Failure::from(error).message;
                tracing::warn!(table = %self.id(), why, "what is shown of a table cannot be saved yet");
                self.saving.obsolete.extend(obsolete);
                self.saving.is_dirty = true;
                self.timers.set(Timer::Save, self.now + RETRY);
            }
            None => tracing::error!(table = %self.id(), "saving a table has panicked"),
        }
    }

    /// Whether the store must be told repeatedly that the table is in use: while it has viewers, and in a bucket for as
    /// long as it is open.
    pub(super) fn is_touched(&self) -> bool {
        !self.viewers.is_empty() || self.settings.lease.is_some()
    }

    /// Tells the store that the table is in use, for other processes and for a later start.
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

    /// The room has ended: the last record to write, if one announced a first upload that failed, once the one before is
    /// written.
    pub(super) fn last_save(&mut self, now: Instant) -> Vec<Effect> {
        self.now = now;
        self.saving.is_running = false;
        if self.saving.is_announced && self.upload.is_none() {
            self.save();
        }
        std::mem::take(&mut self.effects)
    }
}
