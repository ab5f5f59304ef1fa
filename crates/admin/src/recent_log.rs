//! The last warnings and errors of the process, for the page.
//!
//! A process has one log, so there is one ring. The program adds [`RecentLog`] to its subscriber.
//!
//! Invariants:
//! - At most [`LINES`] lines of at most [`MAX_LINE`] bytes are kept.
//! - Lines contain what the log contains, and no part of the program logs secrets.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::report::LogLine;

/// Most lines.
const LINES: usize = 200;
/// Longest text in bytes; the rest is replaced by an ellipsis.
const MAX_LINE: usize = 512;

static RING: Mutex<VecDeque<LogLine>> = Mutex::new(VecDeque::new());
static WARNINGS: AtomicU64 = AtomicU64::new(0);
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// A layer of the program's subscriber that keeps the last warnings and errors.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecentLog;

impl<S: Subscriber> Layer<S> for RecentLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let counter = match *metadata.level() {
            Level::WARN => &WARNINGS,
            Level::ERROR => &ERRORS,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut line = Line::default();
        event.record(&mut line);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        add(LogLine {
            at: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            level: metadata.level().to_string(),
            target: metadata.target().to_owned(),
            text: line.text(),
        });
    }
}

/// The kept lines, the oldest first.
pub(crate) fn lines() -> Vec<LogLine> {
    RING.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// The numbers of warnings and errors since the start.
pub(crate) fn counts() -> (u64, u64) {
    (WARNINGS.load(Ordering::Relaxed), ERRORS.load(Ordering::Relaxed))
}

fn add(line: LogLine) {
    let mut ring = RING.lock().unwrap_or_else(PoisonError::into_inner);
    if ring.len() >= LINES {
        ring.pop_front();
    }
    ring.push_back(line);
}

/// The text of an event, and its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn text(self) -> String {
        let mut text = self.message + &self.fields;
        if text.len() > MAX_LINE {
            let mut end = MAX_LINE - '…'.len_utf8();
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn the_last_warnings_and_errors_are_kept_cut_to_their_bound() {
        let subscriber = tracing_subscriber::registry().with(RecentLog);
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..LINES {
                tracing::warn!(n, "before");
            }
            tracing::info!("no warning");
            tracing::error!(reason = "the disk is full", "cannot write");
            tracing::warn!("{}", "é".repeat(MAX_LINE));
        });
        let lines = lines();
        assert_eq!(lines.len(), LINES);
        let [.., error, long] = &lines[..] else { panic!("too few lines") };
        assert_eq!((&*error.level, &*error.text), ("ERROR", "cannot write reason=the disk is full"));
        assert!(long.text.len() <= MAX_LINE && long.text.ends_with('…'), "{}", long.text.len());
        assert!(counts().0 > LINES as u64 && counts().1 >= 1);
    }
}
