//! The report of a run, as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::latency::Latency;
use crate::text::grouped;

/// The result of a run. Its JSON form has these names; latencies are in microseconds, memory is in bytes.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BenchReport {
    pub(super) transport: &'static str,
    pub(super) subscribers: u64,
    pub(super) publishers: u64,
    /// Bytes of a message.
    pub(super) size: u64,
    /// The most messages in flight; `null` at a fixed rate.
    pub(super) window: Option<u64>,
    /// Requested messages per second; `null` with a window.
    pub(super) rate: Option<u64>,
    /// From the first message to the last delivery.
    pub(super) seconds: f64,
    pub(super) sent: u64,
    pub(super) deliveries: u64,
    pub(super) deliveries_per_second: f64,
    /// `null` without deliveries.
    pub(super) latency_us: Option<Quantiles>,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
    /// Subscribers that the server disconnected.
    pub(super) disconnected: u64,
    /// `null` when the server is not on this machine, or not accessible.
    pub(super) server: Option<ServerUse>,
}

/// Latencies in microseconds: the median, the 99th and 99.9th percentiles, and the maximum.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

/// CPU and memory of all processes of the server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ServerUse {
    pub(super) pids: Vec<u32>,
    /// Percent of one core during the run.
    pub(super) cpu_percent: f64,
    /// `null` without deliveries.
    pub(super) cpu_us_per_delivery: Option<f64>,
    /// At the end of the run, with open connections (PSS).
    pub(super) memory_bytes: Option<u64>,
}

impl BenchReport {
    /// The problem of the result as text; `None` when every delivery arrived once and in order.
    pub(super) fn flaw(&self) -> Option<String> {
        let flaws: Vec<String> = [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("out of order", self.out_of_order),
            ("subscribers disconnected", self.disconnected),
        ]
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{what} {}", grouped(*count)))
        .collect();
        (!flaws.is_empty())
            .then(|| format!("not every message was delivered once and in order: {}", flaws.join(", ")))
    }

    /// The table for users.
    pub(super) fn table(&self) -> String {
        let mut rows: Vec<(&str, String, String)> = vec![
            ("sent", grouped(self.sent), per_second(self.sent as f64 / self.seconds.max(1e-9))),
            ("deliveries", grouped(self.deliveries), per_second(self.deliveries_per_second)),
        ];
        if let Some(latency) = &self.latency_us {
            rows.push(("latency p50", span(latency.p50), String::new()));
            rows.push(("latency p99", span(latency.p99), String::new()));
            rows.push(("latency p99.9", span(latency.p999), String::new()));
            rows.push(("latency max", span(latency.max), String::new()));
        }
        for (name, count) in
            [("lost", self.lost), ("duplicated", self.duplicated), ("out of order", self.out_of_order)]
        {
            rows.push((name, grouped(count), String::new()));
        }
        if self.disconnected > 0 {
            rows.push(("disconnected", grouped(self.disconnected), String::new()));
        }
        if let Some(server) = &self.server {
            let each = server.cpu_us_per_delivery.map(|each| format!("{each:.2} µs/delivery"));
            rows.push(("server CPU", format!("{:.1} %", server.cpu_percent), each.unwrap_or_default()));
            let pids: Vec<String> = server.pids.iter().map(u32::to_string).collect();
            let memory = server.memory_bytes.map_or_else(|| "unknown".to_owned(), mebibytes);
            rows.push(("server memory", memory, format!("PSS of process {}", pids.join(", "))));
        }
        let wide = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0);
        let mut out = format!("{}\n\n", self.headline());
        for (name, value, note) in rows {
            // Writing into a String cannot fail.
            let _ = writeln!(out, "  {name:<14} {value:>wide$}   {note}");
        }
        out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    fn headline(&self) -> String {
        let pace = match (self.window, self.rate) {
            (Some(window), _) => format!("{window} in flight"),
            (None, rate) => format!("{} messages/s", grouped(rate.unwrap_or(0))),
        };
        format!(
            "{} over {}, {}, {} bytes, {pace}, {:.1} s",
            counted(self.subscribers, "subscriber"),
            self.transport,
            counted(self.publishers, "publisher"),
            grouped(self.size),
            self.seconds,
        )
    }
}

impl Quantiles {
    pub(super) fn from_latency(latency: &Latency) -> Self {
        let micros = |latency: Duration| latency.as_nanos() as f64 / 1e3;
        Self {
            p50: micros(latency.quantile(0.5)),
            p99: micros(latency.quantile(0.99)),
            p999: micros(latency.quantile(0.999)),
            max: micros(latency.max()),
        }
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A formatted rate.
pub(super) fn per_second(rate: f64) -> String {
    format!("{}/s", grouped(rate.round() as u64))
}

fn span(micros: f64) -> String {
    match micros {
        ..1e3 => format!("{micros:.0} µs"),
        ..1e6 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s ", micros / 1e6),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> BenchReport {
        BenchReport {
            transport: "tcp",
            subscribers: 1000,
            publishers: 1,
            size: 100,
            window: Some(32),
            rate: None,
            seconds: 2.0,
            sent: 3000,
            deliveries: 3_000_000,
            deliveries_per_second: 1_500_000.0,
            latency_us: Some(Quantiles { p50: 640.4, p99: 2_500.0, p999: 3_000.0, max: 1_200_000.0 }),
            lost: 0,
            duplicated: 0,
            out_of_order: 0,
            disconnected: 0,
            server: Some(ServerUse {
                pids: vec![7],
                cpu_percent: 98.04,
                cpu_us_per_delivery: Some(0.65),
                memory_bytes: Some(3 << 19),
            }),
        }
    }

    #[test]
    fn the_table_contains_all_results() {
        let expected = "\
1,000 subscribers over tcp, 1 publisher, 100 bytes, 32 in flight, 2.0 s

  sent               3,000   1,500/s
  deliveries     3,000,000   1,500,000/s
  latency p50       640 µs
  latency p99      2.50 ms
  latency p99.9    3.00 ms
  latency max      1.20 s
  lost                   0
  duplicated             0
  out of order           0
  server CPU        98.0 %   0.65 µs/delivery
  server memory    1.5 MiB   PSS of process 7
";
        assert_eq!(report().table(), expected);
    }

    #[test]
    fn only_a_run_without_loss_and_disorder_has_no_flaw() {
        assert_eq!(report().flaw(), None);
        let flawed = BenchReport { lost: 1200, out_of_order: 1, disconnected: 2, ..report() };
        let words = "not every message was delivered once and in order: lost 1,200, out of order 1, subscribers disconnected 2";
        assert_eq!(flawed.flaw().as_deref(), Some(words));
    }
}
