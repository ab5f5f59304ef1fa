//! In which of two formats a scrape is answered: OpenMetrics 1.0 for who names it, and for everybody else the older
//! text format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
//!
//! A scrape is written in OpenMetrics. The older format names counters and infos in `# HELP` and `# TYPE` as their
//! samples are named, knows neither `info` nor `# UNIT`, and has no mark of its end; the samples are the same.

use http::HeaderMap;
use http::header::ACCEPT;

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
}

impl Format {
    /// The one that a request asks for: OpenMetrics where `Accept` names it with any weight but 0 (RFC 9110 §12.4.2).
    pub fn asked(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let wanted = values.flat_map(|value| value.split(',')).any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named =
                parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            named && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
        });
        if wanted { Self::OpenMetrics } else { Self::Text }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What is written in OpenMetrics, in this format.
    pub fn of(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => plain(&openmetrics),
        }
    }
}

/// Makes a scrape into the older format. Help comes before the type that decides what it is called.
fn plain(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((family, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (ending, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            if let Some((_, text)) = help.take().filter(|(of, _)| *of == family) {
                out.push_str(&format!("# HELP {family}{ending} {text}\n"));
            }
            out.push_str(&format!("# TYPE {family}{ending} {kind}\n"));
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
    fn openmetrics_is_for_who_names_it() {
        let asked = |accept: &'static str| {
            Format::asked(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        for openmetrics in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; version=1.0.0",
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "text/plain, application/openmetrics-text;q=0.1",
        ] {
            assert_eq!(asked(openmetrics), Format::OpenMetrics, "{openmetrics}");
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
            assert_eq!(asked(text), Format::Text, "{text}");
        }
        assert_eq!(Format::asked(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn the_older_format_names_families_as_their_samples() {
        let openmetrics = "# HELP a What.\n# TYPE a counter\na_total 1\n# HELP b_seconds Why.\n# TYPE b_seconds histogram\n\
                           # UNIT b_seconds seconds\nb_seconds_bucket{le=\"+Inf\"} 1\n# HELP c Who.\n# TYPE c info\n\
                           c_info{v=\"#\"} 1\n# EOF\n";
        let text = "# HELP a_total What.\n# TYPE a_total counter\na_total 1\n# HELP b_seconds Why.\n\
                    # TYPE b_seconds histogram\nb_seconds_bucket{le=\"+Inf\"} 1\n# HELP c_info Who.\n# TYPE c_info gauge\n\
                    c_info{v=\"#\"} 1\n";
        assert_eq!(plain(openmetrics), text);
    }
}
