//! The audit log: failed authentications, denied permissions, commands of backends, changes of tables and of the configuration
//! (`log.audit`). A component reports an [`AuditEvent`] to [`Audit::record`].
//!
//! Events go to the log with the target `audit`, or to a file as one JSON object a line. A thread of its own writes the
//! file, and opens it again after [`Audit::reopen`], so that `logrotate` can move it away.
//!
//! Invariants:
//! - [`Audit::record`] never waits for the disk. An event that does not fit into the queue is left out and counted.
//! - Events that any client can cause are limited to [`FAILURES`], all others to [`OTHERS`]. The next recorded event has
//!   the number of those that were left out before it.
//! - A text in an event has at most [`MAX_TEXT`] bytes. No event contains a token, a key or a body.

mod event;
mod file;
mod rate;
mod time;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tidings_config::AuditTarget;
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

use event::Record;
use file::AuditFile;
use rate::EventRate;

pub use event::{AuditEvent, MAX_TEXT, Subject};
pub use rate::Limit;

/// The limit of events that a client without credentials can cause.
pub const FAILURES: Limit = Limit { per_second: 10, burst: 100 };
/// The limit of all other events.
pub const OTHERS: Limit = Limit { per_second: 1_000, burst: 1_000 };

labels! {
    /// Why an event is not in the audit log.
    pub(crate) enum LeftOut {
        /// More events than the limit.
        Rate => "rate",
        /// The writer of the file is behind.
        Queue => "queue",
        /// The file could not be written.
        Write => "write",
    }
}

/// The counters of the audit log.
#[derive(Debug, Default)]
pub(crate) struct AuditCounters {
    recorded: AtomicU64,
    left_out: KeyedCounters<LeftOut>,
}

/// The audit log of a server.
#[derive(Debug)]
pub struct Audit {
    sink: Sink,
    counters: Arc<AuditCounters>,
    failures: EventRate,
    others: EventRate,
}

#[derive(Debug)]
enum Sink {
    Off,
    Log,
    File(AuditFile),
}

impl Default for Audit {
    /// An audit log that is off.
    fn default() -> Self {
        Self::new(Sink::Off, Arc::default())
    }
}

impl Audit {
    /// Opens the audit log. A file is created with the mode 0600, and appended to.
    ///
    /// # Errors
    /// If the file cannot be opened, or its writer cannot be started.
    pub fn open(target: &AuditTarget) -> io::Result<Self> {
        let counters = Arc::<AuditCounters>::default();
        let sink = match target {
            AuditTarget::Off => Sink::Off,
            AuditTarget::Log => Sink::Log,
            AuditTarget::File(path) => Sink::File(AuditFile::open(path, &counters)?),
        };
        Ok(Self::new(sink, counters))
    }

    fn new(sink: Sink, counters: Arc<AuditCounters>) -> Self {
        Self { sink, counters, failures: EventRate::new(FAILURES), others: EventRate::new(OTHERS) }
    }

    /// Whether events are recorded. Callers may skip the preparation of an event otherwise.
    pub fn is_on(&self) -> bool {
        !matches!(self.sink, Sink::Off)
    }

    /// The file, if events go to one.
    pub fn path(&self) -> Option<&Path> {
        if let Sink::File(file) = &self.sink { Some(file.path()) } else { None }
    }

    /// Records an event, unless the audit log is off or a limit is reached. Does not block.
    pub fn record(&self, event: &AuditEvent<'_>) {
        if !self.is_on() {
            return;
        }
        let rate = if event.is_failure() { &self.failures } else { &self.others };
        let Some(left_out) = rate.take(Instant::now()) else {
            self.counters.left_out.add(LeftOut::Rate);
            return;
        };
        let record = Record::new(event, left_out);
        match &self.sink {
            Sink::Off => return,
            Sink::Log => record.log(),
            Sink::File(file) => {
                if !file.write(record.json(SystemTime::now())) {
                    self.counters.left_out.add(LeftOut::Queue);
                    rate.count_left_out();
                    return;
                }
            }
        }
        self.counters.recorded.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that the file be opened again. The result is logged if it is an error.
    pub fn reopen(&self) {
        if let Sink::File(file) = &self.sink {
            file.reopen();
        }
    }

    /// Waits until the events so far are written, for at most `timeout`. Blocks.
    pub fn flush(&self, timeout: Duration) {
        if let Sink::File(file) = &self.sink {
            file.flush(timeout);
        }
    }
}

impl Collect for Audit {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counter(
            "tidings_audit_events",
            None,
            "Events that were passed to the audit log",
            self.counters.recorded.load(Ordering::Relaxed),
        )?;
        out.counters(
            "tidings_audit_left_out",
            "Events that are missing in the audit log: above a limit, or because its file was slow or could not be written",
            "reason",
            self.counters.left_out.iter(),
        )
    }
}
