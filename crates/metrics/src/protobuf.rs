//! The Protobuf format of Prometheus: messages `io.prometheus.client.MetricFamily`, each after its length as a varint
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#protobuf-format>). It is the only format that has
//! native histograms. The numbers of the fields are those of
//! <https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>.

use prost::{Enumeration, Message};

use crate::durations::Distribution;
use crate::native::{SCHEMA, ZERO_THRESHOLD};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(crate) enum Kind {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

/// All samples with one name.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Family {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "Kind", optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// `Gauge` and `Counter`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Value {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_deltas: Vec<i64>,
}

/// A bucket with a fixed bound. The count is that of all values up to the bound.
#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

/// The labels of a sample: names and values.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Family {
    /// An empty family. `name` is that of its samples, with unit and suffix.
    pub(crate) fn new(name: String, help: &str, kind: Kind, unit: Option<&str>) -> Self {
        let (help, unit) = (Some(help.to_owned()), unit.map(str::to_owned));
        Self { name: Some(name), help, kind: Some(kind as i32), metrics: Vec::new(), unit }
    }

    /// Adds a sample of a counter or a gauge, as the kind of the family says.
    pub(crate) fn push_value(&mut self, labels: Labels<'_>, value: f64) {
        let value = Some(Value { value: Some(value) });
        let (gauge, counter) = match self.kind() {
            Kind::Counter => (None, value),
            Kind::Gauge | Kind::Histogram => (value, None),
        };
        self.metrics.push(Metric { labels: owned(labels), gauge, counter, histogram: None });
    }

    /// Adds a histogram with both kinds of buckets.
    pub(crate) fn push_distribution(&mut self, labels: Labels<'_>, distribution: &Distribution) {
        let Distribution { sum, buckets, native } = distribution;
        let buckets = buckets.iter().scan(0, |total, (bound, count)| {
            *total += count;
            Some(Bucket { cumulative_count: Some(*total), upper_bound: Some(*bound) })
        });
        let (mut spans, positive_deltas) = native.spans();
        if spans.is_empty() {
            // An empty span says that the histogram is a native one although it has no values above zero.
            spans.push((0, 0));
        }
        let span = |(offset, length)| BucketSpan { offset: Some(offset), length: Some(length) };
        let histogram = Histogram {
            // Prometheus rejects a count that differs from the sum of the native buckets.
            count: Some(native.total()),
            sum: Some(*sum),
            buckets: buckets.collect(),
            schema: Some(SCHEMA),
            zero_threshold: Some(ZERO_THRESHOLD),
            zero_count: Some(native.zero),
            positive_spans: spans.into_iter().map(span).collect(),
            positive_deltas,
        };
        let histogram = Some(histogram);
        self.metrics.push(Metric { labels: owned(labels), gauge: None, counter: None, histogram });
    }
}

fn owned(labels: Labels<'_>) -> Vec<Label> {
    let label = |(name, value): &(&str, &str)| Label {
        name: Some((*name).to_owned()),
        value: Some((*value).to_owned()),
    };
    labels.iter().map(label).collect()
}

/// Encodes families in sequence, each after its length.
pub(crate) fn encode(families: &[Family]) -> Vec<u8> {
    families.iter().flat_map(Family::encode_length_delimited_to_vec).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Durations;

    /// The families of a scrape.
    pub(crate) fn decode(mut scrape: &[u8]) -> Vec<Family> {
        let mut families = Vec::new();
        while !scrape.is_empty() {
            families.push(Family::decode_length_delimited(&mut scrape).expect("a family"));
        }
        families
    }

    /// The name of a family and its type, as the text format has them.
    pub(crate) fn described(family: &Family) -> (String, String) {
        (family.name().to_owned(), format!("{:?}", family.kind()).to_lowercase())
    }

    /// The samples of a family as lines of the text format.
    pub(crate) fn samples(family: &Family) -> Vec<String> {
        let name = family.name();
        let mut lines = Vec::new();
        for metric in &family.metrics {
            let labels: Vec<_> = metric
                .labels
                .iter()
                .map(|label| format!("{}=\"{}\"", label.name(), label.value().replace('"', "\\\"")))
                .collect();
            let line = |suffix: &str, more: Option<String>, value: f64| {
                let labels: Vec<_> = more.iter().chain(&labels).cloned().collect();
                let labels =
                    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                format!("{name}{suffix}{labels} {value:?}")
            };
            lines.extend(metric.gauge.iter().chain(&metric.counter).map(|v| line("", None, v.value())));
            let Some(histogram) = &metric.histogram else { continue };
            lines.push(line("_sum", None, histogram.sum()));
            lines.push(line("_count", None, histogram.count() as f64));
            for bucket in &histogram.buckets {
                let bound = bucket.upper_bound();
                let bound = if bound.is_infinite() { "+Inf".to_owned() } else { format!("{bound:?}") };
                lines.push(line(
                    "_bucket",
                    Some(format!("le=\"{bound}\"")),
                    bucket.cumulative_count() as f64,
                ));
            }
        }
        lines
    }

    /// The bytes were made by hand from the definition of the messages.
    #[test]
    fn the_bytes_are_those_of_the_published_definition() {
        let mut family = Family::new("a_total".to_owned(), "What", Kind::Counter, None);
        family.push_value(&[("k", "v")], 2.0);
        let expected = [
            &[38][..],
            &[0x0a, 7],
            b"a_total",
            &[0x12, 4],
            b"What",
            &[0x18, 0],
            &[0x22, 19, 0x0a, 6, 0x0a, 1, b'k', 0x12, 1, b'v', 0x1a, 9, 0x09, 0, 0, 0, 0, 0, 0, 0, 0x40],
        ];
        assert_eq!(encode(&[family]), expected.concat());
    }

    #[test]
    fn a_histogram_has_fixed_and_native_buckets_of_the_same_values() {
        const BOUNDS: [f64; 2] = [0.5, 2.0];
        let durations = Durations::new(&BOUNDS);
        for seconds in [0, 1, 1, 4] {
            durations.add(Duration::from_secs(seconds));
        }
        let mut family = Family::new("b_seconds".to_owned(), "Why", Kind::Histogram, Some("seconds"));
        family.push_distribution(&[], &durations.snapshot());
        let histogram = family.metrics[0].histogram.as_ref().expect("a histogram");
        assert_eq!((histogram.count, histogram.sum, histogram.zero_count), (Some(4), Some(6.0), Some(1)));
        let bucket = |count, bound| Bucket { cumulative_count: Some(count), upper_bound: Some(bound) };
        assert_eq!(histogram.buckets, [bucket(1, 0.5), bucket(3, 2.0), bucket(4, f64::INFINITY)]);
        // 1 s is the upper bound of bucket 0, 4 s that of bucket 16.
        let span = |offset, length| BucketSpan { offset: Some(offset), length: Some(length) };
        assert_eq!(histogram.positive_spans, [span(0, 1), span(15, 1)]);
        assert_eq!(histogram.positive_deltas, [2, -1]);
    }

    #[test]
    fn a_histogram_without_values_is_a_native_one() {
        let durations = Durations::new(&[1.0]);
        let mut family = Family::new("b_seconds".to_owned(), "Why", Kind::Histogram, Some("seconds"));
        family.push_distribution(&[], &durations.snapshot());
        let histogram = family.metrics[0].histogram.as_ref().expect("a histogram");
        assert_eq!(histogram.positive_spans, [BucketSpan { offset: Some(0), length: Some(0) }]);
        assert_eq!(histogram.count, Some(0));
    }
}
