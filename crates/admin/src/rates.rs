//! Samples of a node's rates in the last minutes, for the charts of the page.
//!
//! Invariant: at most [`SAMPLES`] samples are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::NodeState;
use crate::report::Sample;

/// The interval of samples in seconds.
pub const SAMPLE_INTERVAL: u64 = 2;
/// Most samples: ten minutes.
const SAMPLES: usize = 300;

/// Numbers of a node at one moment; all but `connections` and `lag` count since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Publications that the broker has delivered.
    pub publications: u64,
    /// Deliveries to clients.
    pub deliveries: u64,
    /// Connections.
    pub connections: u64,
    /// Connections that were closed because they read too slowly.
    pub cut: u64,
    /// CPU time of the process.
    pub cpu: Duration,
    /// The time of a publication through the broker.
    pub lag: Duration,
}

/// The samples of this node.
#[derive(Debug, Default)]
pub struct Rates(Mutex<VecDeque<Sample>>);

impl Rates {
    /// Takes samples until the task is cancelled.
    pub async fn run(self: Arc<Self>, state: Arc<dyn NodeState>) {
        let mut last = (Instant::now(), state.counts());
        loop {
            tokio::time::sleep(until_next(unix_time())).await;
            let now = (Instant::now(), state.counts());
            self.add(sample(last, now, unix_time().as_secs()));
            last = now;
        }
    }

    /// The samples after this time, in Unix seconds.
    pub fn after(&self, time: u64) -> Vec<Sample> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().filter(|sample| sample.at > time).copied().collect()
    }

    fn add(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() >= SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time until the next multiple of the interval, so that the samples of all nodes have the same times.
fn until_next(now: Duration) -> Duration {
    let next = (now.as_secs() / SAMPLE_INTERVAL + 1) * SAMPLE_INTERVAL;
    Duration::from_secs(next).saturating_sub(now)
}

fn sample(last: (Instant, Counts), now: (Instant, Counts), time: u64) -> Sample {
    let seconds = now.0.saturating_duration_since(last.0).as_secs_f64().max(1e-3);
    let (last, now) = (last.1, now.1);
    let rate = |last: u64, now: u64| round(now.saturating_sub(last) as f64 / seconds);
    Sample {
        at: time - time % SAMPLE_INTERVAL,
        publications: rate(last.publications, now.publications),
        deliveries: rate(last.deliveries, now.deliveries),
        connections: now.connections,
        cut: rate(last.cut, now.cut),
        cpu: round(now.cpu.saturating_sub(last.cpu).as_secs_f64() / seconds),
        lag: (now.lag.as_secs_f64() * 1e6).round() / 1e6,
    }
}

/// Two decimals, because digits cost bytes.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_rates_at_common_times_and_the_oldest_is_removed() {
        let start = Instant::now();
        let before = Counts { publications: 10, deliveries: 100, ..Counts::default() };
        let after = Counts {
            publications: 20,
            deliveries: 400,
            connections: 7,
            cpu: Duration::from_secs(1),
            ..before
        };
        let taken = sample((start, before), (start + Duration::from_secs(2), after), 1_001);
        assert_eq!((taken.at, taken.publications, taken.deliveries, taken.cpu), (1_000, 5.0, 150.0, 0.5));
        assert_eq!(until_next(Duration::from_millis(1_001_500)), Duration::from_millis(500));
        let rates = Rates::default();
        for n in 0..SAMPLES as u64 + 5 {
            rates.add(Sample { at: n, ..Sample::default() });
        }
        assert_eq!(rates.after(0).len(), SAMPLES);
        assert_eq!(rates.after(SAMPLES as u64 + 3).len(), 1);
    }
}
