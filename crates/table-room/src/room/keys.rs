//! Tables with a key: rows are replaced and removed by it.
//!
//! Invariants:
//! - The key of a file never changes: the file is a log of changes that is read with its key. Another file may have
//!   another one.
//! - A file that has a key when it is uploaded or opened is shown once the keys of all rows are read. A file that is shown
//!   without a key stays so until they are read.

use std::sync::Arc;
use std::time::Duration;

use super::CommandReply;
use super::state::Room;
use super::work::{KeyRequest, Work};
use crate::failure::Failure;
use crate::rows::Rows;

/// The least time between two updates of a private view of a table with a key. An update examines only the changed rows.
pub(super) const LIVE_INTERVAL: Duration = Duration::from_millis(100);

impl Room {
    /// Identifies rows by the columns with these names: those of the next file, or of the current one. The response follows
    /// when the keys of the rows are read.
    pub(super) fn set_key(&mut self, viewer: u64, key: Vec<String>, done: CommandReply) {
        let is_same = self.record.key == key;
        let is_loading = self.open_file.as_ref().is_none_or(|open_file| open_file.loading);
        let checked = match &self.record.file {
            None => {
                self.record.key.clone_from(&key);
                Ok(false)
            }
            Some(_) if is_same && !is_loading => Ok(false),
            // The keys are being read, and the file has no key when that fails.
            Some(_) if is_same => self.can_write().map(|()| true),
            Some(_) if !self.record.key.is_empty() => Err(Failure::new(
                409,
                format!(
                    "the rows of this file have the key {}; upload a file to set another one",
                    names(&self.record.key)
                ),
            )),
            Some(_) => self.can_write().map(|()| true),
        };
        match checked {
            Ok(true) => {
                self.person_acted(viewer);
                let author = self.author(viewer).filter(|_| !is_same);
                self.work.waiting.push_back(Work::Key(KeyRequest { key, viewer, author, done: Some(done) }));
                self.work_on();
            }
            checked => drop(done.send(checked.map(|_| ()))),
        }
    }

    /// Schedules reading the keys of a file that was uploaded with a key.
    pub(super) fn read_keys(&mut self, viewer: u64) {
        if !self.record.key.is_empty() {
            let key = self.record.key.clone();
            self.work.waiting.push_back(Work::Key(KeyRequest { key, viewer, author: None, done: None }));
            self.work_on();
        }
    }

    /// Handles the result of reading the keys. Without a key, the rows stay as they are.
    pub(super) fn on_keyed(&mut self, keyed: Result<(), Failure>, request: KeyRequest) {
        let KeyRequest { key, viewer, author, done } = request;
        match (&keyed, &done) {
            (Ok(()), _) => {
                self.record.key = key;
                match author {
                    Some(author) => self.change_by(Some(author)),
                    None => self.change(),
                }
                self.render_soon(Duration::ZERO);
            }
            (Err(failure), None) => {
                self.record.key.clear();
                let text = format!("{}; the table has no key now", failure.message);
                self.send_error(viewer, &Failure::new(failure.code, text));
                self.change();
                self.render_soon(Duration::ZERO);
            }
            (Err(_), Some(_)) => {}
        }
        if let Some(done) = done {
            let _ = done.send(keyed);
        }
    }

    /// Checks that the table has a key if these rows need one.
    ///
    /// # Errors
    /// 409, with the remedy.
    pub(super) fn check_key(&self, rows: &Arc<Rows>) -> Result<(), Failure> {
        if rows.needs_key() && self.record.key.is_empty() {
            return Err(Failure::no_key());
        }
        Ok(())
    }

    /// Checks that the dialect may change: other columns would be the key.
    ///
    /// # Errors
    /// 409, with the remedy.
    pub(super) fn check_no_key(&self) -> Result<(), Failure> {
        if self.record.key.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            409,
            "the dialect of a table with a key does not change; upload the file again to read it in another one",
        ))
    }
}

/// The names of a key, for messages.
fn names(key: &[String]) -> String {
    let names: Vec<String> = key.iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}
