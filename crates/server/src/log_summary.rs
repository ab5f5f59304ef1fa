//! Summaries in the log: disconnects by the server, and rejections at limits.
//!
//! Invariants:
//! - Disconnects by the server are at most one line a minute at `info`, with their numbers by code; each single one is a
//!   line at `debug`.
//! - Rejections at limits are at most one line a minute at `warn`, with their numbers by limit; the first one is logged
//!   at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidings_hub::{Disconnects, Settings};

use crate::api;
use crate::shards::Shards;
use tidings_metrics::{Collect, MetricWriter};

/// Shortest time between two lines of a kind.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often the counters are compared with the last line.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The parts of the server that reject at limits.
#[derive(Clone)]
pub(crate) struct LimitCounters {
    pub(crate) shards: Arc<Shards>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) api: Arc<api::ApiCounters>,
}

/// Number of limits with a counter of their own.
const LIMITS: usize = 14;

/// The rejections at each limit since the start, with the label values of `tidings_limited_total`.
fn rejections(limits: &LimitCounters) -> [(&'static str, u64); LIMITS] {
    let (process, usage) = (limits.shards.process(), &limits.settings.usage);
    let [address_commands, address_publications, address_bytes, ..] = usage.addresses.refused();
    let [user_commands, user_publications, user_bytes, user_connection_rate, user_connections] =
        usage.users.refused();
    [
        ("connections", process.full.load(Ordering::Relaxed)),
        ("connection_rate", process.connection_rate.refused()),
        ("address_connections", process.addresses.refused()[0]),
        ("address_connection_rate", process.addresses.refused()[1]),
        ("address_commands", address_commands),
        ("address_publications", address_publications),
        ("address_bytes", address_bytes),
        ("user_connections", user_connections),
        ("user_connection_rate", user_connection_rate),
        ("user_commands", user_commands),
        ("user_publications", user_publications),
        ("user_bytes", user_bytes),
        ("api_rate", limits.api.rate.refused()),
        ("api_key_rate", limits.api.key_rate_refused()),
    ]
}

impl Collect for LimitCounters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let usage = &self.settings.usage;
        out.counters(
            "tidings_limited",
            "Rejections because of a limit: connections (in total, of a user, of an address), commands and publications of \
             clients, commands to the server API",
            "limit",
            rejections(self),
        )?;
        out.gauges(
            "tidings_limiter_entries",
            "Addresses and users for which the limits of limits.address and limits.user are counted",
            "of",
            [("addresses", usage.addresses.stored() as u64), ("users", usage.users.stored() as u64)],
        )
    }
}

/// Computes what a line adds to the last one.
#[derive(Debug)]
struct Increments<const N: usize> {
    /// The totals at the last line.
    logged: [u64; N],
    /// When the last line was written; without it the next line is due at once.
    at: Option<Instant>,
}

impl<const N: usize> Increments<N> {
    /// Without `at` the first line is due at once, otherwise [`INTERVAL`] after `at`.
    fn new(at: Option<Instant>) -> Self {
        Self { logged: [0; N], at }
    }

    /// The increments since the last line, if a line is due and any total has changed.
    fn take(&mut self, totals: [u64; N], now: Instant) -> Option<[u64; N]> {
        if totals == self.logged || self.at.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL) {
            return None;
        }
        self.at = Some(now);
        let before = std::mem::replace(&mut self.logged, totals);
        Some(std::array::from_fn(|at| totals[at].saturating_sub(before[at])))
    }
}

/// Writes the summaries, and the last ones when dropped.
struct Summaries {
    limits: LimitCounters,
    disconnects: Increments<{ Disconnects::LABELS }>,
    rejections: Increments<LIMITS>,
}

impl Summaries {
    /// Summaries of a server that was just started.
    fn new(limits: LimitCounters) -> Self {
        Self { limits, disconnects: Increments::new(Some(Instant::now())), rejections: Increments::new(None) }
    }

    fn write(&mut self, now: Instant) {
        if let Some(new) = self.disconnects.take(self.limits.shards.disconnects(), now) {
            let parts = new.iter().enumerate().map(|(at, count)| {
                let (code, words) = Disconnects::label(at);
                (if words.is_empty() { code } else { format!("{code} {words}") }, *count)
            });
            tracing::info!("clients disconnected by the server: {}", line(parts));
        }
        let rejections = rejections(&self.limits);
        if let Some(new) = self.rejections.take(rejections.map(|(_, count)| count), now) {
            let parts = rejections.iter().zip(new).map(|((limit, _), count)| ((*limit).to_owned(), count));
            tracing::warn!("refused at limits: {}", line(parts));
        }
    }
}

impl Drop for Summaries {
    fn drop(&mut self) {
        (self.disconnects.at, self.rejections.at) = (None, None);
        self.write(Instant::now());
    }
}

/// Writes summaries until the task is cancelled.
pub(crate) async fn run(limits: LimitCounters) {
    let mut summaries = Summaries::new(limits);
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        summaries.write(Instant::now());
    }
}

/// The counts that are not 0: `label: count, label: count`.
fn line(parts: impl Iterator<Item = (String, u64)>) -> String {
    let parts: Vec<_> =
        parts.filter(|(_, count)| *count > 0).map(|(label, count)| format!("{label}: {count}")).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_events_make_one_line_a_minute_with_their_number() {
        let start = Instant::now();
        let mut increments = Increments::<2>::new(None);
        assert_eq!(increments.take([0, 0], start), None, "no event");
        assert_eq!(increments.take([1, 0], start), Some([1, 0]), "the first is logged at once");
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            assert_eq!(increments.take([1 + second * 10, 5], now), None);
        }
        assert_eq!(increments.take([600, 5], start + INTERVAL), Some([599, 5]));
        assert_eq!(increments.take([600, 5], start + 2 * INTERVAL), None);
        let mut later = Increments::<2>::new(Some(start));
        assert_eq!(later.take([1, 0], start + INTERVAL / 2), None, "less than a minute after the start");
    }

    #[test]
    fn a_line_contains_only_counts_above_zero() {
        let parts = [("3008 slow", 2), ("3012 no pong", 0), ("other", 1)];
        let parts = parts.map(|(label, count)| (label.to_owned(), count));
        assert_eq!(line(parts.into_iter()), "3008 slow: 2, other: 1");
    }
}
