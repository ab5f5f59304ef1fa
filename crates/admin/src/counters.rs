//! What the page counts.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_metrics::{Durations, KeyedCounters, MetricWriter, labels};

labels! {
    /// The outcome of a login.
    pub(crate) enum Login {
        /// The password was right.
        Succeeded => "succeeded",
        /// The password was wrong.
        Failed => "failed",
        /// There were too many attempts, and the password was not checked.
        Throttled => "throttled",
    }
}

/// Upper bounds of the buckets of the time of a survey, in seconds.
const BOUNDS: [f64; 7] = [0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 4.0];

/// The counters of the page.
#[derive(Debug)]
pub(crate) struct AdminCounters {
    pub(crate) logins: KeyedCounters<Login>,
    surveys: Durations,
    partial_surveys: AtomicU64,
}

impl Default for AdminCounters {
    fn default() -> Self {
        Self {
            logins: KeyedCounters::default(),
            surveys: Durations::new(&BOUNDS),
            partial_surveys: AtomicU64::new(0),
        }
    }
}

impl AdminCounters {
    /// Counts a survey of the nodes.
    pub(crate) fn survey(&self, took: Duration, is_partial: bool) {
        self.surveys.add(took);
        self.partial_surveys.fetch_add(u64::from(is_partial), Ordering::Relaxed);
    }

    /// Writes the metrics.
    pub(crate) fn collect(&self, sessions: usize, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters(
            "tidings_admin_logins",
            "Logins to the admin page by outcome",
            "outcome",
            self.logins.iter(),
        )?;
        out.gauge(
            "tidings_admin_sessions",
            None,
            "Sessions of the admin page after a login",
            sessions as u64,
        )?;
        out.histogram(
            "tidings_admin_survey",
            "How long the nodes took to respond to a query of the admin page",
            &self.surveys.snapshot(),
        )?;
        out.counter(
            "tidings_admin_surveys_partial",
            None,
            "Queries of the admin page to which at least one node has not responded in time",
            self.partial_surveys.load(Ordering::Relaxed),
        )
    }
}
