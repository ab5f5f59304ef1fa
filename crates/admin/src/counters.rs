//! What the page counts.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tidings_metrics::{KeyedCounters, MetricWriter, SECONDS, labels};

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
#[derive(Debug, Default)]
pub(crate) struct AdminCounters {
    pub(crate) logins: KeyedCounters<Login>,
    surveys: Mutex<Surveys>,
}

#[derive(Debug, Default)]
struct Surveys {
    seconds: f64,
    buckets: [u64; BOUNDS.len() + 1],
    partial: u64,
}

impl AdminCounters {
    /// Counts a survey of the nodes.
    pub(crate) fn survey(&self, took: Duration, is_partial: bool) {
        let mut surveys = self.surveys.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = took.as_secs_f64();
        surveys.seconds += seconds;
        surveys.partial += u64::from(is_partial);
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        surveys.buckets[bucket] += 1;
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
        let surveys = self.surveys.lock().unwrap_or_else(PoisonError::into_inner);
        let bound = |at: usize| BOUNDS.get(at).copied().unwrap_or(f64::INFINITY);
        let buckets: Vec<_> =
            surveys.buckets.iter().enumerate().map(|(at, count)| (bound(at), *count)).collect();
        out.histogram(
            "tidings_admin_survey",
            SECONDS,
            "How long the nodes took to respond to a query of the admin page",
            surveys.seconds,
            &buckets,
        )?;
        out.counter(
            "tidings_admin_surveys_partial",
            None,
            "Queries of the admin page to which at least one node has not responded in time",
            surveys.partial,
        )
    }
}
