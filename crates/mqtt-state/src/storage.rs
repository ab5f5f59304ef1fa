//! The files of MQTT's state: their synchronisation, snapshots and metrics.

use std::fmt;
use std::sync::Arc;

use tidings_metrics::{BYTES, Collect, MetricWriter};

use crate::Retained;
use crate::Sessions;
use crate::journal::Journal;

/// State with a journal.
pub(crate) trait Files: Send + Sync {
    /// The name of the files.
    fn name(&self) -> &'static str;

    /// Calls `use_it` with the journal, if there is one.
    fn with_journal(&self, use_it: &mut dyn FnMut(&mut Journal));

    /// Writes a snapshot if one is due.
    fn snapshot(&self);
}

/// The files of a server.
#[derive(Clone, Default)]
pub struct Storage {
    files: Vec<Arc<dyn Files>>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files.iter().map(|files| files.name())).finish()
    }
}

impl Storage {
    /// Adds the files of the retained messages.
    #[must_use]
    pub fn with_retained(mut self, retained: &Arc<Retained>) -> Self {
        self.files.push(Arc::clone(retained) as _);
        self
    }

    /// Adds the files of the sessions.
    #[must_use]
    pub fn with_sessions<W: Send + 'static>(mut self, sessions: &Arc<Sessions<W>>) -> Self {
        self.files.push(Arc::clone(sessions) as _);
        self
    }

    /// Whether there are files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Synchronises the logs with the disk, and writes the snapshots that are due. Blocks.
    pub fn maintain(&self) {
        for files in &self.files {
            let mut unsynced = None;
            files.with_journal(&mut |journal| unsynced = journal.unsynced());
            if let Some(Err(error)) = unsynced.map(|file| file.sync_data()) {
                files.with_journal(&mut |journal| journal.fail(&error));
            }
            files.snapshot();
        }
    }

    /// Synchronises the logs, and leaves the files to another process: further changes are refused. Blocks.
    pub fn close(&self) {
        self.maintain();
        for files in &self.files {
            files.with_journal(&mut Journal::close);
        }
    }

    /// A value of each state; 0 for one without files.
    fn sum(&self, of: impl Fn(&Journal) -> u64) -> [(&'static str, u64); 2] {
        ["retained", "sessions"].map(|name| {
            let mut value = 0;
            for files in self.files.iter().filter(|files| files.name() == name) {
                files.with_journal(&mut |journal| value = of(journal));
            }
            (name, value)
        })
    }
}

impl Collect for Storage {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.gauges_with_unit(
            "tidings_mqtt_storage",
            BYTES,
            "Bytes of the files of MQTT's state in data_dir, by kind of state",
            "state",
            self.sum(Journal::bytes),
        )?;
        out.gauges(
            "tidings_mqtt_storage_failed",
            "Whether the files of MQTT's state cannot be written (1), so that messages are refused, or not (0), by kind of state",
            "state",
            self.sum(|journal| u64::from(journal.check().is_err())),
        )?;
        out.counters(
            "tidings_mqtt_storage_errors",
            "Errors while the files of MQTT's state were written, by kind of state",
            "state",
            self.sum(Journal::failures),
        )
    }
}
