//! What the log sums up: why clients were disconnected, and what was refused at limits.
//!
//! Invariants:
//! - Clients that the server disconnects are one line a minute at `info`, with their number by code; each is a line at
//!   `debug`.
//! - Refusals at limits are one line a minute at `warn`, with their number by limit; the first one is logged at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidings_hub::{Disconnects, Settings};

use crate::api;
use tidings_metrics::{Collect, MetricWriter};
use crate::shards::Shards;

/// How often a line is written at most.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked whether there is something to be logged.
const LOOK: Duration = Duration::from_secs(1);

/// The parts of the server that refuse at limits.
#[derive(Clone)]
pub(crate) struct Limits {
    pub(crate) shards: Arc<Shards>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) api: Arc<api::ApiCounters>,
}

/// The refusals at each limit since the start, by the labels of `tidings_limited_total`.
fn limited(limits: &Limits) -> [(&'static str, u64); 13] {
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
    ]
}

impl Collect for Limits {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let usage = &self.settings.usage;
        out.counters(
            "tidings_limited",
            "What was refused because of a limit: connections (in all, of a user, of an address), commands and publications of \
             clients, commands to the server API",
            "limit",
            limited(self),
        )?;
        out.gauges(
            "tidings_metered",
            "Addresses and users that are counted for limits on commands and of users",
            "of",
            [("addresses", usage.addresses.stored() as u64), ("users", usage.users.stored() as u64)],
        )
    }
}

/// Counters, and what was logged of them.
#[derive(Debug)]
struct Tally<const N: usize> {
    logged: [u64; N],
    at: Option<Instant>,
}

impl<const N: usize> Tally<N> {
    /// `at` is when a line was last written, if that counts.
    fn new(at: Option<Instant>) -> Self {
        Self { logged: [0; N], at }
    }

    /// What has been added since the last line, when one is due and there is something to say.
    fn due(&mut self, totals: [u64; N], now: Instant) -> Option<[u64; N]> {
        if totals == self.logged || self.at.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL) {
            return None;
        }
        self.at = Some(now);
        let before = std::mem::replace(&mut self.logged, totals);
        Some(std::array::from_fn(|at| totals[at].saturating_sub(before[at])))
    }
}

/// Writes the summaries; dropped, it writes what is left.
pub(crate) struct Summaries {
    limits: Limits,
    disconnects: Tally<{ Disconnects::LABELS }>,
    limited: Tally<13>,
}

impl Summaries {
    /// For a server that was just started.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, disconnects: Tally::new(Some(Instant::now())), limited: Tally::new(None) }
    }

    fn write(&mut self, now: Instant) {
        if let Some(new) = self.disconnects.due(self.limits.shards.disconnects(), now) {
            let parts = new.iter().enumerate().map(|(at, count)| {
                let (code, words) = Disconnects::label(at);
                (if words.is_empty() { code } else { format!("{code} {words}") }, *count)
            });
            tracing::info!("clients disconnected by the server: {}", line(parts));
        }
        let limited = limited(&self.limits);
        if let Some(new) = self.limited.due(limited.map(|(_, count)| count), now) {
            let parts = limited.iter().zip(new).map(|((limit, _), count)| ((*limit).to_owned(), count));
            tracing::warn!("refused at limits: {}", line(parts));
        }
    }
}

impl Drop for Summaries {
    fn drop(&mut self) {
        (self.disconnects.at, self.limited.at) = (None, None);
        self.write(Instant::now());
    }
}

/// Writes summaries until the task is ended.
pub(crate) async fn run(limits: Limits) {
    let mut summaries = Summaries::new(limits);
    loop {
        tokio::time::sleep(LOOK).await;
        summaries.write(Instant::now());
    }
}

/// Numbers that are not 0, each behind what it counts.
fn line(parts: impl Iterator<Item = (String, u64)>) -> String {
    let parts: Vec<_> =
        parts.filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what}: {count}")).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_events_are_one_line_a_minute_with_their_number() {
        let start = Instant::now();
        let mut tally = Tally::<2>::new(None);
        assert_eq!(tally.due([0, 0], start), None, "nothing has happened");
        assert_eq!(tally.due([1, 0], start), Some([1, 0]), "the first is logged at once");
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            assert_eq!(tally.due([1 + second * 10, 5], now), None);
        }
        assert_eq!(tally.due([600, 5], start + INTERVAL), Some([599, 5]));
        assert_eq!(tally.due([600, 5], start + 2 * INTERVAL), None);
        let mut quiet = Tally::<2>::new(Some(start));
        assert_eq!(quiet.due([1, 0], start + INTERVAL / 2), None, "not before a minute is over");
    }

    #[test]
    fn a_line_names_only_what_has_happened() {
        let parts = [("3008 slow", 2), ("3012 no pong", 0), ("other", 1)];
        let parts = parts.map(|(what, count)| (what.to_owned(), count));
        assert_eq!(line(parts.into_iter()), "3008 slow: 2, other: 1");
    }
}
