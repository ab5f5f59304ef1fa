//! The two formats of a scrape: OpenMetrics 1.0 for clients that accept it, and the older text format of Prometheus,
//! version 0.0.4, for all others
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
//!
//! A scrape is encoded as OpenMetrics and converted if necessary. The samples are the same. In the older format `# HELP`
//! and `# TYPE` of counters and infos have the names of the samples; there is no type `info`, no `# UNIT` and no `# EOF`.

use http::HeaderMap;
use http::header::ACCEPT;

/// The format of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
}

impl Format {
    /// Selects the format for a request: OpenMetrics if `Accept` lists it with a weight other than 0 (RFC 9110 §12.4.2).
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let accepts_openmetrics = values.flat_map(|value| value.split(',')).any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named =
                parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            named && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
        });
        if accepts_openmetrics { Self::OpenMetrics } else { Self::Text }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts a scrape from OpenMetrics into this format.
    pub fn convert(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => prometheus_text(&openmetrics),
        }
    }
}

/// Converts a scrape into the older format. `# HELP` precedes `# TYPE`, and the type determines the name in both.
fn prometheus_text(openmetrics: &str) -> String {
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
