//! Metrics: the trait by which components report their counters, and the exposition formats of `/metrics`.
//!
//! A component counts with atomics, implements [`Collect`] beside its counters, and is registered once. Counting costs
//! an atomic addition; everything else happens at a scrape. This crate depends on no component.
//!
//! Invariants:
//! - Every label has a fixed set of values.
//! - The text of a metric's `HELP` is its definition. `docs/metrics.md` repeats it, and a test compares the two.

mod durations;
mod format;
mod labels;
mod writer;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::{Registry, Unit};

pub use durations::{DurationTimer, KeyedDurations};
pub use format::Format;
pub use labels::{KeyedCounters, Label};
pub use writer::MetricWriter;

/// The unit of metrics that count bytes.
pub const BYTES: Option<&Unit> = Some(&Unit::Bytes);
/// The unit of metrics that measure time.
pub const SECONDS: Option<&Unit> = Some(&Unit::Seconds);

/// A component that reports metrics.
pub trait Collect: Send + Sync + 'static {
    /// Writes the current values of all metrics of this component.
    ///
    /// # Errors
    /// The errors of the writer.
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result;
}

impl<T: Collect> Collect for Arc<T> {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        (**self).collect(out)
    }
}

/// The components that report to `/metrics`.
#[derive(Debug, Default)]
pub struct MetricsRegistry(Registry);

impl MetricsRegistry {
    /// Adds a component. A family of metrics belongs to exactly one component.
    pub fn register(&mut self, component: impl Collect) {
        self.0.register_collector(Box::new(Component(component)));
    }

    /// The exposition in the OpenMetrics text format.
    ///
    /// # Errors
    /// The error of the encoder when it rejects a value. No input causes that.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 << 10);
        prometheus_client::encoding::text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

struct Component<T>(T);

impl<T> fmt::Debug for Component<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").finish_non_exhaustive()
    }
}

impl<T: Collect> Collector for Component<T> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.collect(&mut MetricWriter::new(encoder))
    }
}
