//! The writer of one scrape: families of metrics in sequence.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::durations::Distribution;
use crate::protobuf::{Family as Message, Kind, Labels};
use crate::{KeyedDurations, Label, SECONDS};

/// The value of a counter or a gauge.
pub trait Value: EncodeCounterValue + EncodeGaugeValue + Copy {
    /// The value in the Protobuf format. A count above 2^53 is rounded.
    fn as_f64(self) -> f64;
}

impl Value for u64 {
    fn as_f64(self) -> f64 {
        self as f64
    }
}

impl Value for usize {
    fn as_f64(self) -> f64 {
        self as f64
    }
}

impl Value for f64 {
    fn as_f64(self) -> f64 {
        self
    }
}

/// Writes families of metrics. The unit, and `_total` for a counter, are appended to the name of a family.
pub struct MetricWriter<'a>(Target<'a>);

enum Target<'a> {
    Text(DescriptorEncoder<'a>),
    Protobuf(&'a mut Vec<Message>),
}

/// A family whose samples are being written. The text encoder writes empty braces for an empty list of labels, so a sample
/// without labels is written with the encoder of the family itself.
enum Family<'a> {
    Text(MetricEncoder<'a>),
    Protobuf(&'a mut Message),
}

impl<'a> MetricWriter<'a> {
    pub(crate) fn text(encoder: DescriptorEncoder<'a>) -> Self {
        Self(Target::Text(encoder))
    }

    pub(crate) fn protobuf(families: &'a mut Vec<Message>) -> Self {
        Self(Target::Protobuf(families))
    }

    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &'s str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<Family<'s>, fmt::Error> {
        match &mut self.0 {
            Target::Text(encoder) => encoder.encode_descriptor(name, help, unit, kind).map(Family::Text),
            Target::Protobuf(families) => {
                let (suffix, kind) = match kind {
                    MetricType::Counter => ("_total", Kind::Counter),
                    MetricType::Info => ("_info", Kind::Gauge),
                    MetricType::Histogram => ("", Kind::Histogram),
                    MetricType::Gauge | MetricType::Unknown => ("", Kind::Gauge),
                };
                let unit = unit.map(Unit::as_str);
                let name = unit.map_or_else(|| name.to_owned(), |unit| format!("{name}_{unit}")) + suffix;
                families.push(Message::new(name, help, kind, unit));
                families.last_mut().map(Family::Protobuf).ok_or(fmt::Error)
            }
        }
    }

    /// Writes a value that only grows.
    pub fn counter(&mut self, name: &str, unit: Option<&Unit>, help: &str, value: impl Value) -> fmt::Result {
        match self.family(name, help, unit, MetricType::Counter)? {
            Family::Text(encoder) => ConstCounter::new(value).encode(encoder),
            Family::Protobuf(family) => {
                family.push_value(&[], value.as_f64());
                Ok(())
            }
        }
    }

    /// Writes counters with one label.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, None, MetricType::Counter)?;
        values
            .into_iter()
            .try_for_each(|(label_value, value)| family.counter(&[(label, label_value.as_ref())], value))
    }

    /// Writes counters with two labels.
    pub fn counters_by(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; 2],
        values: impl IntoIterator<Item = ([impl AsRef<str>; 2], u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, None, MetricType::Counter)?;
        values.into_iter().try_for_each(|([first, second], value)| {
            family.counter(&[(labels[0], first.as_ref()), (labels[1], second.as_ref())], value)
        })
    }

    /// Writes a value that goes up and down.
    pub fn gauge(&mut self, name: &str, unit: Option<&Unit>, help: &str, value: impl Value) -> fmt::Result {
        match self.family(name, help, unit, MetricType::Gauge)? {
            Family::Text(encoder) => ConstGauge::new(value).encode(encoder),
            Family::Protobuf(family) => {
                family.push_value(&[], value.as_f64());
                Ok(())
            }
        }
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
        let mut family = self.family(name, help, unit, MetricType::Gauge)?;
        values
            .into_iter()
            .try_for_each(|(label_value, value)| family.gauge(&[(label, label_value.as_ref())], value))
    }

    /// Writes a distribution of durations, in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, distribution: &Distribution) -> fmt::Result {
        match self.family(name, help, SECONDS, MetricType::Histogram)? {
            Family::Text(encoder) => write_histogram(encoder, distribution),
            Family::Protobuf(family) => {
                family.push_distribution(&[], distribution);
                Ok(())
            }
        }
    }

    /// Writes distributions of durations with one label, in seconds.
    pub fn durations<K: Label>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        durations: &KeyedDurations<K>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, SECONDS, MetricType::Histogram)?;
        durations
            .iter()
            .try_for_each(|(value, distribution)| family.histogram(&[(label, value)], &distribution))
    }

    /// Writes information that does not change while the process runs. The value is always 1.
    pub fn info(&mut self, name: &str, help: &str, label: (&str, &str)) -> fmt::Result {
        match self.family(name, help, None, MetricType::Info)? {
            Family::Text(mut encoder) => encoder.encode_info(&[label]),
            Family::Protobuf(family) => {
                family.push_value(&[label], 1.0);
                Ok(())
            }
        }
    }
}

impl Family<'_> {
    /// Writes one sample with labels.
    fn counter(&mut self, labels: Labels<'_>, value: impl Value) -> fmt::Result {
        match self {
            Self::Text(encoder) => ConstCounter::new(value).encode(encoder.encode_family(&labels)?),
            Self::Protobuf(family) => {
                family.push_value(labels, value.as_f64());
                Ok(())
            }
        }
    }

    /// Writes one sample with labels.
    fn gauge(&mut self, labels: Labels<'_>, value: impl Value) -> fmt::Result {
        match self {
            Self::Text(encoder) => ConstGauge::new(value).encode(encoder.encode_family(&labels)?),
            Self::Protobuf(family) => {
                family.push_value(labels, value.as_f64());
                Ok(())
            }
        }
    }

    /// Writes one sample with labels.
    fn histogram(&mut self, labels: Labels<'_>, distribution: &Distribution) -> fmt::Result {
        match self {
            Self::Text(encoder) => write_histogram(encoder.encode_family(&labels)?, distribution),
            Self::Protobuf(family) => {
                family.push_distribution(labels, distribution);
                Ok(())
            }
        }
    }
}

/// Writes a histogram in a text format.
fn write_histogram(mut encoder: MetricEncoder<'_>, distribution: &Distribution) -> fmt::Result {
    let exemplars = None::<&std::collections::HashMap<usize, Exemplar<NoLabelSet, f64>>>;
    let Distribution { sum, buckets, .. } = distribution;
    encoder.encode_histogram(*sum, distribution.count(), buckets, exemplars)
}
