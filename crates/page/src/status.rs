//! The state of the server on the home page, and commands to try it.
//!
//! Plain HTML without scripts. Text from outside of this crate is escaped with [`Html`]. The page contains no secrets: neither
//! credentials nor parameters of the broker's URL, and of keys only whether any is configured.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use super::line_port::LinePort;
use crate::escape::Html;
use tidings_config::{BrokerUrl, Config, TlsRequired};

/// The access of clients.
#[derive(Clone, Copy)]
enum Access {
    /// No key is configured, and only this machine has access.
    Workbench,
    /// Everyone has access (`client.insecure`).
    Insecure,
    /// A key is required.
    Keys,
}

/// The state of the server that home shows.
#[derive(Debug)]
pub struct ServerState<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// One line for each listener: `tcp 127.0.0.1:5567`.
    pub announcements: &'a [String],
    /// The round trip of the last canary, or the reason why the server is not ready.
    pub readiness: Result<Duration, String>,
    /// Whether the broker is connected.
    pub is_broker_up: bool,
    /// The time since the start.
    pub uptime: Duration,
    /// Connections of clients.
    pub connections: u64,
    /// Subscriptions of these connections.
    pub subscriptions: u64,
    /// Topics subscribed at the broker.
    pub channels: u64,
    /// Deliveries since the start.
    pub deliveries: u64,
}

/// The state as HTML.
pub(super) struct Status<'a> {
    /// The state is for operators only, see [`Config::hides_status`].
    is_hidden: bool,
    has_internal_port: bool,
    announcements: &'a [String],
    readiness: &'a Result<Duration, String>,
    access: Access,
    broker: &'a BrokerUrl,
    is_broker_up: bool,
    uptime: Duration,
    /// Counts with their names.
    counts: [(&'static str, u64); 4],
    lines: Option<LinePort>,
    /// The channel of `SUBSCRIBE` without a name.
    channel: &'a str,
    /// Whether a new plain connection is subscribed to this channel.
    is_auto_subscribed: bool,
}

impl<'a> Status<'a> {
    /// The state of `server`, for a request with this `Host`.
    pub(super) fn new(server: &'a ServerState<'a>, host: &str) -> Self {
        let config = server.config;
        let access = if config.client.insecure {
            Access::Insecure
        } else if config.has_key() {
            Access::Keys
        } else {
            Access::Workbench
        };
        Self {
            is_hidden: config.hides_status(),
            has_internal_port: !config.internal.listen.is_empty(),
            announcements: server.announcements,
            readiness: &server.readiness,
            access,
            broker: &config.broker,
            is_broker_up: server.is_broker_up,
            uptime: server.uptime,
            counts: [
                ("connections", server.connections),
                ("subscriptions", server.subscriptions),
                ("channels", server.channels),
                ("deliveries", server.deliveries),
            ],
            lines: server.announcements.iter().find_map(|line| {
                let announced = line.strip_prefix("tcp ")?;
                LinePort::from_announcement(announced, host, requires_tls(config, announced))
            }),
            channel: config.tcp.default_channel.as_str(),
            is_auto_subscribed: config.tcp.auto_subscribe.contains(&config.tcp.default_channel),
        }
    }

    fn state(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.readiness {
            Ok(took) => writeln!(
                out,
                "<p class=\"state good\"><strong>Ready.</strong> A test message returned through the broker in {}.</p>",
                Html(HumanDuration(*took))
            )?,
            Err(reason) => {
                writeln!(out, "<p class=\"state bad\"><strong>Not ready:</strong> {}.</p>", Html(reason))?;
            }
        }
        match self.access {
            Access::Workbench => out.write_str(
                "<p class=\"state warn\"><strong>A workbench.</strong> No key is configured: everyone on this machine can \
                 connect, subscribe and publish everywhere.</p>\n",
            ),
            Access::Insecure => out.write_str(
                "<p class=\"state warn\"><strong>Insecure.</strong> <code>client.insecure</code> is on: everyone who \
                 reaches this server can connect, subscribe and publish everywhere.</p>\n",
            ),
            Access::Keys => Ok(()),
        }
    }

    fn numbers(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("<dl class=\"numbers\">\n")?;
        for (name, count) in self.counts {
            writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", Thousands(count))?;
        }
        writeln!(
            out,
            "</dl>\n<p class=\"quiet\">As of now; deliveries since the start, {} ago.</p>",
            HumanDuration(self.uptime)
        )
    }

    fn listeners(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("<dl class=\"runs\">\n")?;
        for announcement in self.announcements {
            let (kind, address) = announcement.split_once(' ').unwrap_or(("", announcement));
            let protocols = match kind {
                "tcp" => "plain lines, RESP, JSON lines",
                "internal" => "the API, health, metrics",
                _ if self.has_internal_port => "this page, WebSocket, SSE, HTTP streaming",
                _ => "this page, WebSocket, SSE, HTTP streaming, the API, health, metrics",
            };
            writeln!(
                out,
                "<div><dt>{}</dt><dd><code>{}</code></dd><dd>{protocols}</dd></div>",
                Html(kind),
                Html(address)
            )?;
        }
        let (broker, state) = (Html(self.broker), if self.is_broker_up { "connected" } else { "away" });
        let about = match self.broker {
            BrokerUrl::Memory => "this process alone",
            BrokerUrl::Redis(_) => state,
        };
        writeln!(out, "<div><dt>broker</dt><dd><code>{broker}</code></dd><dd>{about}</dd></div>\n</dl>")
    }

    fn try_it(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(port) = &self.lines else {
            return out.write_str("<p>The line port is off (<code>tcp.listen</code>).</p>\n");
        };
        let channel = Html(self.channel);
        let first = match self.access {
            Access::Keys => ": type <code>AUTH</code> and a key, then <code>SUBSCRIBE</code>",
            _ if !self.is_auto_subscribed => ": type <code>SUBSCRIBE</code>",
            _ => "",
        };
        writeln!(
            out,
            "<ol>\n<li><p>Subscribe in one terminal{first}. Publications to <code>{channel}</code> appear there.</p>"
        )?;
        writeln!(out, "<pre><code>{}</code></pre></li>", Html(port.nc()))?;
        out.write_str("<li><p>Publish from another terminal, with any Redis client.")?;
        if matches!(self.broker, BrokerUrl::Redis(_)) {
            out.write_str(" Publications in Redis itself arrive too.")?;
        }
        let requires_key = matches!(self.access, Access::Keys);
        let publish = port.publish(self.channel, requires_key);
        writeln!(out, "</p>\n<pre><code>{}</code></pre></li>", Html(publish))?;
        out.write_str("<li><p>Or do both in one interactive session.</p>\n")?;
        writeln!(out, "<pre><code>{}</code></pre></li>\n</ol>", Html(port.connect()))
    }
}

/// Whether the listener with this announced address requires TLS.
fn requires_tls(config: &Config, announced: &str) -> bool {
    let address: Option<SocketAddr> = announced.parse().ok();
    let is_remote = address.is_some_and(|address| !address.ip().to_canonical().is_loopback());
    config.tls.enabled
        && match config.tls.required {
            TlsRequired::Auto => is_remote,
            TlsRequired::Always => address.is_some(),
            TlsRequired::Never => false,
        }
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "<section>\n<h2>This server <small class=\"quiet\">tidings {}</small></h2>",
            env!("CARGO_PKG_VERSION")
        )?;
        if self.is_hidden {
            out.write_str("<p class=\"quiet\">Its state is for operators: <code>/metrics</code> and the server API.</p>\n")?;
        } else {
            self.state(out)?;
            self.numbers(out)?;
            out.write_str("</section>\n<section>\n<h2>What runs here</h2>\n")?;
            self.listeners(out)?;
        }
        out.write_str("</section>\n<section>\n<h2>Try it from a shell</h2>\n")?;
        self.try_it(out)?;
        out.write_str("</section>\n")
    }
}

/// Displays a count with thousands separators.
struct Thousands(u64);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// Displays a duration in one or two units of suitable size.
pub(super) struct HumanDuration(pub(super) Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        match self.0.as_secs() {
            0 if self.0.as_millis() == 0 => write!(f, "{} µs", self.0.as_micros()),
            0 => write!(f, "{} ms", self.0.as_millis()),
            seconds @ ..MINUTE => write!(f, "{seconds} s"),
            seconds @ ..HOUR => write!(f, "{} min", seconds / MINUTE),
            seconds @ ..DAY => write!(f, "{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE),
            seconds if seconds % DAY < HOUR => write!(f, "{} d", seconds / DAY),
            seconds => write!(f, "{} d {} h", seconds / DAY, seconds % DAY / HOUR),
        }
    }
}

/// Displays a number of bytes in the largest binary unit that it fills.
pub(super) struct HumanBytes(pub(super) u64);

impl fmt::Display for HumanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        let power = (self.0.max(1).ilog2() / 10).min(4);
        let value = self.0 as f64 / f64::from(1_u32 << 10).powi(power as i32);
        let digits = usize::from(value.fract() >= 0.05);
        write!(f, "{value:.digits$} {}", units[power as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_config::Secret;

    #[test]
    fn text_from_outside_does_not_become_markup() {
        let announcements = ["tcp unix:/run/<b>/\"s\"".to_owned(), "http unix:/<i>".to_owned()];
        let broker = BrokerUrl::Redis(Secret::new("redis://user:hunter2@<script>:6379"));
        let status = Status {
            is_hidden: false,
            has_internal_port: false,
            announcements: &announcements,
            readiness: &Err("broker unavailable: <img src=x>".into()),
            access: Access::Workbench,
            broker: &broker,
            is_broker_up: false,
            uptime: Duration::from_secs(1),
            counts: [("connections", 0), ("subscriptions", 0), ("channels", 0), ("deliveries", 1234)],
            lines: LinePort::from_announcement("unix:/run/<b>/\"s\"", "", false),
            channel: "<u>'&",
            is_auto_subscribed: true,
        };
        let page = status.to_string();
        for markup in ["<b>", "<i>", "<u>", "<img", "<script", "\"s\""] {
            assert!(!page.contains(markup), "{markup} in {page}");
        }
        assert!(page.contains("&lt;img src=x&gt;") && page.contains("1,234"), "{page}");
        assert!(!page.contains("hunter2"), "{page}");
    }

    #[test]
    fn numbers_and_times_are_readable() {
        let counts: Vec<_> = [0, 999, 1000, 1_234_567].map(|n| Thousands(n).to_string()).into();
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let times: Vec<_> =
            [59, 61, 3_661, 86_400, 90_061].map(|s| HumanDuration(Duration::from_secs(s)).to_string()).into();
        assert_eq!(times, ["59 s", "1 min", "1 h 1 min", "1 d", "1 d 1 h"]);
        let sizes: Vec<_> = [0, 1023, 1 << 30, 3 << 19, u64::MAX].map(|n| HumanBytes(n).to_string()).into();
        assert_eq!(sizes, ["0 B", "1023 B", "1 GiB", "1.5 MiB", "16777216 TiB"]);
        let times: Vec<_> =
            [0, 180, 2_900].map(|us| HumanDuration(Duration::from_micros(us)).to_string()).into();
        assert_eq!(times, ["0 µs", "180 µs", "2 ms"]);
    }
}
