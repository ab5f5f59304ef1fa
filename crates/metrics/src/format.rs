//! The formats of a scrape: OpenMetrics 1.0 or the Protobuf format of Prometheus for clients that accept them, and the
//! older text format of Prometheus, version 0.0.4, for all others
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! The text of a scrape is encoded as OpenMetrics and converted if necessary. The samples are the same. In the older
//! format `# HELP` and `# TYPE` of counters and infos have the names of the samples; there is no type `info`, no `# UNIT`
//! and no `# EOF`.

use http::HeaderMap;
use http::header::ACCEPT;

/// The format of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
    /// The Protobuf format of Prometheus, the only one with native histograms.
    Protobuf,
}

impl Format {
    /// Selects the format for a request: of Protobuf and OpenMetrics the one to which `Accept` gives the higher weight
    /// (RFC 9110 §12.4.2), Protobuf if both have the same, and text if neither is listed with a weight other than 0.
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges = values.flat_map(|value| value.split(',')).filter_map(weighted).filter(|(_, q)| *q > 0.0);
        ranges
            .reduce(|best, range| match range.1.total_cmp(&best.1) {
                std::cmp::Ordering::Greater => range,
                std::cmp::Ordering::Equal if range.0 == Self::Protobuf => range,
                _ => best,
            })
            .map_or(Self::Text, |(format, _)| format)
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// The format of a media range of `Accept` and its weight, if it names Protobuf or OpenMetrics.
fn weighted(range: &str) -> Option<(Format, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next()?;
    let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
    let parameter = |name: &str| {
        parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    };
    let format = if kind.eq_ignore_ascii_case("application/openmetrics-text") {
        Format::OpenMetrics
    } else if kind.eq_ignore_ascii_case("application/vnd.google.protobuf")
        && parameter("proto") == Some("io.prometheus.client.MetricFamily")
        && parameter("encoding") == Some("delimited")
    {
        Format::Protobuf
    } else {
        return None;
    };
    // A weight that is not a number is taken as 0.
    Some((format, parameter("q").map_or(1.0, |weight| weight.parse().unwrap_or(0.0))))
}

/// Converts a scrape into the older format. `# HELP` precedes `# TYPE`, and the type determines the name in both.
pub(crate) fn prometheus_text(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((family, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            if let Some((_, text)) = help.take().filter(|(name, _)| *name == family) {
                out.push_str(&format!("# HELP {family}{suffix} {text}\n"));
            }
            out.push_str(&format!("# TYPE {family}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn openmetrics_is_selected_only_if_accept_lists_it() {
        let negotiate = |accept: &'static str| {
            Format::negotiate(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        for openmetrics in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; version=1.0.0",
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "text/plain, application/openmetrics-text;q=0.1",
        ] {
            assert_eq!(negotiate(openmetrics), Format::OpenMetrics, "{openmetrics}");
        }
        for text in [
            "",
            "*/*",
            "application/*",
            "text/plain;version=0.0.4",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text;q=0, text/plain",
            "application/openmetrics-text;version=1.0.0;q=0.000",
        ] {
            assert_eq!(negotiate(text), Format::Text, "{text}");
        }
        assert_eq!(Format::negotiate(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn protobuf_is_selected_if_accept_prefers_it_in_the_encoding_of_prometheus() {
        let negotiate = |accept: &'static str| {
            Format::negotiate(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        for protobuf in [
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.2",
            "application/openmetrics-text, application/vnd.google.protobuf; \
             proto=io.prometheus.client.MetricFamily; encoding=delimited",
        ] {
            assert_eq!(negotiate(protobuf), Format::Protobuf, "{protobuf}");
        }
        for (other, format) in [
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                Format::Text,
            ),
            ("application/vnd.google.protobuf", Format::Text),
            (
                "application/openmetrics-text;q=0.9,application/vnd.google.protobuf;\
                 proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.8",
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(negotiate(other), format, "{other}");
        }
    }

    #[test]
    fn the_older_format_names_families_like_their_samples() {
        let openmetrics = "# HELP a What.\n# TYPE a counter\na_total 1\n# HELP b_seconds Why.\n# TYPE b_seconds histogram\n\
                           # UNIT b_seconds seconds\nb_seconds_bucket{le=\"+Inf\"} 1\n# HELP c Who.\n# TYPE c info\n\
                           c_info{v=\"#\"} 1\n# EOF\n";
        let text = "# HELP a_total What.\n# TYPE a_total counter\na_total 1\n# HELP b_seconds Why.\n\
                    # TYPE b_seconds histogram\nb_seconds_bucket{le=\"+Inf\"} 1\n# HELP c_info Who.\n# TYPE c_info gauge\n\
                    c_info{v=\"#\"} 1\n";
        assert_eq!(prometheus_text(openmetrics), text);
    }
}
