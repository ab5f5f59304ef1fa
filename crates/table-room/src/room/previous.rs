//! The file that was replaced last, which can be restored.
//!
//! Invariant: a file is removed once no record names it. The record names the previous file for `tables.keep_previous`;
//! its bytes stay reserved.

use std::time::Duration;

use tidings_table_store::{PreviousFile, Record};

use super::state::Room;
use super::timers::Timer;
use crate::failure::Failure;
use crate::message::PreviousName;

impl Room {
    /// The seconds since 1970.
    fn unix_now(&self) -> u64 {
        let (began, seconds) = self.settings.epoch;
        seconds + self.now.saturating_duration_since(began).as_secs()
    }

    /// Makes `next` the file of the table. The replaced one can be restored for a while.
    pub(super) fn replace_file(&mut self, next: PreviousFile) {
        let before = self.record.clone();
        self.forget_log();
        self.record.replace_file(next, self.unix_now() + self.settings.keep_previous.as_secs());
        if self.settings.keep_previous.is_zero() {
            self.record.previous = None;
        }
        self.release_files(&before);
        self.await_previous();
    }

    /// Schedules the removal of files that the record does not name any more.
    pub(super) fn release_files(&mut self, before: &Record) {
        let released = before.files().filter(|file| !self.record.names(file)).cloned();
        self.saving.obsolete.extend(released);
    }

    /// Schedules the removal of the previous file.
    pub(super) fn await_previous(&mut self) {
        match &self.record.previous {
            Some(previous) => {
                let left = previous.until.saturating_sub(self.unix_now());
                self.timers.set(Timer::Previous, self.now + Duration::from_secs(left));
            }
            None => self.timers.clear(Timer::Previous),
        }
    }

    /// Removes the previous file after its time.
    pub(super) fn remove_previous(&mut self) {
        self.timers.clear(Timer::Previous);
        let before = self.record.clone();
        if self.record.previous.take().is_some() {
            self.release_files(&before);
            self.change();
            if self.view.page.is_some() {
                self.view.content += 1;
                self.broadcast(true);
            }
        }
    }

    /// Exchanges the file and the one that it replaced.
    ///
    /// # Errors
    /// 409 without a previous file, and during an upload.
    pub(super) fn restore(&mut self, viewer: u64) -> Result<(), Failure> {
        if self.upload.is_some() {
            return Err(Failure::new(409, "an upload to this table is running"));
        }
        let now = self.unix_now();
        let previous = self.record.previous.take_if(|previous| previous.until > now);
        let previous = previous.ok_or_else(|| {
            Failure::new(409, "there is no replaced file to restore; it is stored for tables.keep_previous")
        })?;
        self.history.clear();
        self.reset_private();
        self.view.turn = None;
        self.view.at_end = false;
        self.replace_file(previous);
        if let Some(working) = &self.work.running {
            working.cancel();
        }
        self.person_acted(viewer);
        self.cancel_rendering();
        self.change_by(self.author(viewer));
        self.open_again();
        Ok(())
    }

    /// The file that can be restored, for views.
    pub(super) fn previous_name(&self) -> Option<PreviousName> {
        let previous = self.record.previous.as_ref()?;
        Some(PreviousName { name: previous.name.clone(), until: previous.until })
    }
}
