//! The writer of one scrape: families of metrics in sequence.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::{KeyedDurations, Label, SECONDS};

/// Writes families of metrics. The encoder appends the unit, and `_total` for a counter, to the name of a family.
pub struct MetricWriter<'a>(DescriptorEncoder<'a>);

impl<'a> MetricWriter<'a> {
    pub(crate) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Writes a value that only grows.
    pub fn counter(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, unit, MetricType::Counter)?)
    }

    /// Writes counters with one label.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.into_iter().try_for_each(|(label_value, value)| {
            ConstCounter::new(value).encode(family.encode_family(&[(label, label_value.as_ref())])?)
        })
    }

    /// Writes counters with two labels.
    pub fn counters_by(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; 2],
        values: impl IntoIterator<Item = ([impl AsRef<str>; 2], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.into_iter().try_for_each(|([first, second], value)| {
            let labels = [(labels[0], first.as_ref()), (labels[1], second.as_ref())];
            ConstCounter::new(value).encode(family.encode_family(&labels)?)
        })
    }

    /// Writes a value that goes up and down.
    pub fn gauge(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?)
    }

    /// Writes gauges with one label.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
    ) -> fmt::Result {
        self.gauges_with_unit(name, None, help, label, values)
    }

    /// Writes gauges with one label and a unit.
    pub fn gauges_with_unit(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(label_value, value)| {
            ConstGauge::new(value).encode(family.encode_family(&[(label, label_value.as_ref())])?)
        })
    }

    /// Writes a distribution: the sum of all values, and for each bucket its upper bound and the number of values above
    /// the previous bound and up to this one. The last bound is infinite.
    pub fn histogram(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        sum: f64,
        buckets: &[(f64, u64)],
    ) -> fmt::Result {
        let count = buckets.iter().map(|(_, n)| n).sum();
        let exemplars = None::<&std::collections::HashMap<usize, Exemplar<NoLabelSet, f64>>>;
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        family.encode_histogram(sum, count, buckets, exemplars)
    }

    /// Writes distributions of durations with one label, in seconds.
    pub fn durations<K: Label>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        durations: &KeyedDurations<K>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, SECONDS, MetricType::Histogram)?;
        durations.iter().try_for_each(|(value, sum, buckets)| {
            let count = buckets.iter().map(|(_, n)| n).sum();
            let exemplars = None::<&std::collections::HashMap<usize, Exemplar<NoLabelSet, f64>>>;
            family.encode_family(&[(label, value)])?.encode_histogram(sum, count, &buckets, exemplars)
        })
    }

    /// Writes information that does not change while the process runs. The value is always 1.
    pub fn info(&mut self, name: &str, help: &str, label: (&str, &str)) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&[label])
    }
}
