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
mod native;
mod protobuf;
mod writer;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::{Registry, Unit};

pub use durations::{Distribution, DurationTimer, Durations, KeyedDurations};
pub use format::Format;
pub use labels::{KeyedCounters, Label};
pub use writer::{MetricWriter, Value};

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
pub struct MetricsRegistry {
    /// The encoder of the text formats.
    text: Registry,
    components: Vec<Component>,
}

impl MetricsRegistry {
    /// Adds a component. A family of metrics belongs to exactly one component.
    pub fn register(&mut self, component: impl Collect) {
        let component = Component(Arc::new(component));
        self.text.register_collector(Box::new(component.clone()));
        self.components.push(component);
    }

    /// The current values of all metrics in a format.
    ///
    /// # Errors
    /// The error of the encoder when it rejects a value. No input causes that.
    pub fn scrape(&self, format: Format) -> Result<Vec<u8>, fmt::Error> {
        Ok(match format {
            Format::OpenMetrics => self.openmetrics()?.into_bytes(),
            Format::Text => format::prometheus_text(&self.openmetrics()?).into_bytes(),
            Format::Protobuf => {
                let mut families = Vec::new();
                for component in &self.components {
                    component.0.collect(&mut MetricWriter::protobuf(&mut families))?;
                }
                protobuf::encode(&families)
            }
        })
    }

    fn openmetrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 << 10);
        prometheus_client::encoding::text::encode(&mut text, &self.text)?;
        Ok(text)
    }
}

#[derive(Clone)]
struct Component(Arc<dyn Collect>);

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").finish_non_exhaustive()
    }
}

impl Collector for Component {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.collect(&mut MetricWriter::text(encoder))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    labels! {
        enum Kind {
            Read => "read",
            Write => "write",
        }
    }

    #[derive(Default)]
    struct Example {
        kinds: KeyedCounters<Kind>,
        durations: KeyedDurations<Kind>,
    }

    impl Collect for Example {
        fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
            out.counter("one", None, "One", 1_u64)?;
            out.counter("one_received", BYTES, "Bytes", 2.5)?;
            out.counters("two", "Two", "kind", self.kinds.iter())?;
            out.counters_by("three", "Three", ["a", "b"], [(["x", "y"], 3)])?;
            out.gauge("four", SECONDS, "Four", 4.5)?;
            out.gauges("five", "Five", "kind", [("read", 5)])?;
            out.durations("six", "Six", "kind", &self.durations)?;
            out.info("seven", "Seven", ("version", "1 \"2\""))
        }
    }

    /// Each sample of a text as its name, its labels, and its value with at least one decimal.
    fn samples(text: &str) -> BTreeSet<String> {
        let number = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            format!("{name} {:?}", value.parse::<f64>().expect("a number"))
        };
        text.lines().filter(|line| !line.starts_with('#')).map(number).collect()
    }

    #[test]
    fn every_format_has_the_same_families_and_samples() {
        let mut registry = MetricsRegistry::default();
        let example = Arc::new(Example::default());
        example.kinds.add(Kind::Write);
        example.durations.add(Kind::Read, Duration::from_millis(2));
        registry.register(example);
        let text = |format| String::from_utf8(registry.scrape(format).expect("values")).expect("text");
        let (openmetrics, older) = (text(Format::OpenMetrics), text(Format::Text));
        assert_eq!(samples(&openmetrics), samples(&older));
        let protobuf = registry.scrape(Format::Protobuf).expect("values");
        let families = protobuf::tests::decode(&protobuf);
        let described: Vec<_> = older
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect();
        assert_eq!(families.iter().map(protobuf::tests::described).collect::<Vec<_>>(), described);
        let decoded: BTreeSet<_> = families.iter().flat_map(protobuf::tests::samples).collect();
        assert_eq!(decoded, samples(&older));
    }
}
