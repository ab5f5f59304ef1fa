//! Compaction of the log of rows with a key: the current rows are written into a new file, which replaces the log.
//!
//! Invariants:
//! - The new file is written by another thread, while rows are appended and pages are computed; the appends wait only
//!   while the last bytes are copied. Viewers receive the same rows.
//! - A compaction begins when the log has at least doubled since the last one, so it writes fewer bytes than were
//!   appended. After a failure the log stays, and the next attempt waits.
//! - Another file of the table cancels it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidings_table::Cancel;
use tidings_table_live::{CompactLog, LogSnapshot};
use tidings_table_store::NewLog;

use super::effect::{CompactJob, Effect};
use super::state::Room;
use super::work::Work;
use crate::counters::CompactionEnd;
use crate::failure::Failure;
use crate::node_messages::MessageKind;

/// The size below which a log is not compacted, in bytes.
const MIN_LOG_BYTES: u64 = 1 << 20;
/// The least ratio of the lines of a log to its rows.
const MIN_LINES_PER_ROW: u64 = 3;
/// The part of the largest file above which a log is compacted for fewer lines, as a quarter.
const NEARLY_FULL_QUARTERS: u64 = 3;
/// The delay of the next attempt after the first failure, and the longest one.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));

/// The new file of a log, and its contents.
pub struct PreparedLog {
    /// The file.
    pub file: NewLog,
    /// Its contents.
    pub log: CompactLog,
}

/// The state of the compaction of the table's log.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    /// The file of the running one, and its cancellation.
    pub(super) running: Option<(String, Cancel)>,
    /// The size of the log after the last one, in bytes.
    size: u64,
    /// The attempts that failed since the last success.
    failures: u32,
    /// The time of the next attempt.
    pub(super) retry_at: Option<Instant>,
    /// The number of compactions since the room was opened.
    pub(super) count: u64,
}

/// Whether a log should be compacted that has `size` bytes (`compacted` after the last compaction) and this number of lines
/// and current rows. `limit`: the size at which nothing can be appended any more.
const fn is_due(size: u64, compacted: u64, lines: u64, rows: u64, limit: u64) -> bool {
    let grown = size.saturating_sub(compacted);
    let is_outdated = lines / MIN_LINES_PER_ROW > rows && grown >= compacted;
    let is_nearly_full = size / NEARLY_FULL_QUARTERS >= limit / 4
        && lines - lines / 8 > rows
        && grown >= limit.saturating_sub(compacted) / 4;
    size >= MIN_LOG_BYTES && (is_outdated || is_nearly_full)
}

/// About the bytes of the current rows of a log of `size` bytes, by the average length of its lines.
fn expected_bytes(size: u64, lines: u64, rows: u64) -> u64 {
    let bytes = u128::from(size) * u128::from(rows) / u128::from(lines.max(1));
    u64::try_from(bytes).unwrap_or(size)
}

impl Room {
    /// Begins to compact the log if it has become large.
    pub(super) fn compact_if_large(&mut self) {
        let compaction = &self.compaction;
        let can_begin = self.settings.compacts_logs
            && !self.record.key.is_empty()
            && compaction.running.is_none()
            && compaction.retry_at.is_none_or(|at| self.now >= at)
            && self.work.running.is_none()
            && !self.work.waiting.iter().any(|work| matches!(work, Work::Open | Work::ReplaceLog(_)));
        let Some(open_file) = self.open_file.as_ref().filter(|_| can_begin) else { return };
        let Some(writer) = &open_file.writer else { return };
        let reading = open_file.table.reading();
        let (summary, limit) = (reading.summary(), self.settings.limits.original_bytes);
        if !is_due(summary.received, compaction.size, summary.applied, summary.rows, limit) {
            return;
        }
        let Some(snapshot) = LogSnapshot::take(writer) else { return };
        let (file, cancel) = (open_file.file.clone(), Cancel::default());
        let choice =
            self.record.dialect.choice(&self.record.name, self.record.is_article).unwrap_or_default();
        let choice = tidings_table::Choice { is_text: true, ..choice };
        self.effects.push(Effect::CompactLog(Box::new(CompactJob {
            file: file.clone(),
            choice,
            snapshot,
            expected_bytes: expected_bytes(summary.received, summary.applied, summary.rows),
            cancel: cancel.clone(),
        })));
        self.compaction.running = Some((file, cancel));
    }

    /// Whether a log is being compacted.
    pub(super) const fn is_compacting(&self) -> bool {
        self.compaction.running.is_some()
    }

    /// Cancels a running compaction.
    pub fn cancel_compaction(&self) {
        if let Some((_, running)) = &self.compaction.running {
            running.cancel();
        }
    }

    /// Ends the compaction of a file that was replaced.
    pub(super) fn forget_log(&mut self) {
        self.cancel_compaction();
        self.work.waiting.retain(|work| !matches!(work, Work::ReplaceLog(_)));
        self.compaction = Compaction { count: self.compaction.count, ..Compaction::default() };
    }

    /// Handles a new file that is prepared; `None`: another process compacts the log.
    pub(super) fn on_log_prepared(&mut self, file: &str, prepared: Result<Option<PreparedLog>, Failure>) {
        if self.compaction.running.as_ref().is_none_or(|(running, _)| running != file) {
            return;
        }
        match prepared {
            Ok(Some(prepared)) => {
                self.work.waiting.push_front(Work::ReplaceLog(Box::new(prepared)));
                self.work_on();
            }
            Err(failure) => self.on_log_compacted(Err(failure)),
            Ok(None) => {
                self.compaction.running = None;
                self.compaction.retry_at = Some(self.now + RETRY_DELAYS.0);
            }
        }
    }

    /// Handles a log that was replaced, with the bytes of both files, or stays.
    pub(super) fn on_log_compacted(&mut self, compacted: Result<(u64, u64), Failure>) {
        self.compaction.running = None;
        let counters = &self.settings.counters;
        match compacted {
            Ok((before, after)) => {
                counters.compactions.add(CompactionEnd::Done);
                counters.compacted_bytes.fetch_add(before.saturating_sub(after), Ordering::Relaxed);
                tracing::debug!(table = %self.id(), before, after, "the log of a table was compacted");
                let count = self.compaction.count + 1;
                self.compaction = Compaction { size: after, count, ..Compaction::default() };
                if let Some(open_file) = &mut self.open_file {
                    open_file.facts = std::sync::Arc::default();
                }
                self.render_soon(Duration::ZERO);
                self.refresh_all_private();
                self.notify_nodes(MessageKind::Here);
            }
            Err(failure) => {
                counters.compactions.add(CompactionEnd::Failed);
                let delay = RETRY_DELAYS.0.saturating_mul(1 << self.compaction.failures.min(16));
                let retry_in = delay.min(RETRY_DELAYS.1);
                if self.compaction.failures == 0 {
                    tracing::warn!(table = %self.id(), why = failure.message, ?retry_in, "the log of a table cannot be compacted; it stays as it is, and further failures are logged at the level debug");
                } else {
                    tracing::debug!(table = %self.id(), why = failure.message, ?retry_in, "the log of a table cannot be compacted");
                }
                self.compaction.failures += 1;
                self.compaction.retry_at = Some(self.now + retry_in);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_log_is_compacted_when_it_is_three_times_its_rows_and_has_doubled() {
        let limit = 1 << 30;
        assert!(is_due(4 * MIB, 0, 40_000, 10_000, limit));
        assert!(!is_due(4 * MIB, 0, 29_000, 10_000, limit), "few outdated lines");
        assert!(!is_due(MIB - 1, 0, 40_000, 10, limit), "a small log");
        assert!(!is_due(4 * MIB, 3 * MIB, 40_000, 10_000, limit), "the rows are large");
        assert!(is_due(6 * MIB, 3 * MIB, 40_000, 10_000, limit));
    }

    #[test]
    fn a_log_near_the_limit_is_compacted_for_fewer_lines() {
        assert!(is_due(76 * MIB, 40 * MIB, 15_000, 10_000, 100 * MIB));
        assert!(!is_due(74 * MIB, 40 * MIB, 15_000, 10_000, 100 * MIB));
        assert!(!is_due(76 * MIB, 75 * MIB, 15_000, 10_000, 100 * MIB), "it would be repeated");
        assert!(!is_due(76 * MIB, 0, 11_000, 10_000, 100 * MIB), "nearly all lines are rows");
    }
}
