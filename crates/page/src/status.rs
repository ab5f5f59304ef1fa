//! What runs here: the part of the home page that the server writes, with how to try it.
//!
//! Plain HTML that needs no script. Everything in it that was not written here goes through [`Html`]. It shows no
//! secrets: of the broker's URL neither credentials nor parameters, of keys only whether there are any.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use super::lines::LinePort;
use crate::escape::Html;
use tidings_config::{BrokerUrl, Config, TlsRequired};

/// Who may do what.
#[derive(Clone, Copy)]
enum Access {
    /// No key, this machine only.
    Workbench,
    /// Everybody, because `client.insecure` says so.
    Insecure,
    /// A key is needed.
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

/// What runs here right now.
pub(super) struct Status<'a> {
    announcements: &'a [String],
    readiness: &'a Result<Duration, String>,
    access: Access,
    broker: &'a BrokerUrl,
    is_broker_up: bool,
    uptime: Duration,
    /// What is counted, with its name.
    counts: [(&'static str, u64); 4],
    lines: Option<LinePort>,
    /// What `SUBSCRIBE` alone means.
    channel: &'a str,
    /// Whether a new plain connection is subscribed to it.
    automatic: bool,
}

impl<'a> Status<'a> {
    /// `asked` is the `Host` of the request for it.
    pub(super) fn new(server: &'a ServerState<'a>, asked: &str) -> Self {
        let config = server.config;
        let access = if config.client.insecure {
            Access::Insecure
        } else if config.has_key() {
            Access::Keys
        } else {
            Access::Workbench
        };
        Self {
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
                LinePort::of(announced, asked, requires_tls(config, announced))
            }),
            channel: config.tcp.default_channel.as_str(),
            automatic: config.tcp.auto_subscribe.contains(&config.tcp.default_channel),
        }
    }

    fn state(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.readiness {
            Ok(took) => writeln!(
                out,
                "<p class=\"state good\"><strong>Ready.</strong> A message of its own came back through the broker in {}.</p>",
                Html(Short(*took))
            )?,
            Err(reason) => {
                writeln!(out, "<p class=\"state bad\"><strong>Not ready:</strong> {}.</p>", Html(reason))?;
            }
        }
        match self.access {
            Access::Workbench => out.write_str(
                "<p class=\"state warn\"><strong>A workbench.</strong> No key is configured: anybody on this machine may \
                 connect, subscribe and publish everywhere.</p>\n",
            ),
            Access::Insecure => out.write_str(
                "<p class=\"state warn\"><strong>Insecure.</strong> <code>client.insecure</code> is on: everybody who \
                 reaches this server may connect, subscribe and publish everywhere.</p>\n",
            ),
            Access::Keys => Ok(()),
        }
    }

    fn numbers(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("<dl class=\"numbers\">\n")?;
        for (name, count) in self.counts {
            writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", Grouped(count))?;
        }
        writeln!(
            out,
            "</dl>\n<p class=\"quiet\">As of now; deliveries since the start, {} ago.</p>",
            Short(self.uptime)
        )
    }

    fn listeners(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("<dl class=\"runs\">\n")?;
        for announcement in self.announcements {
            let (kind, address) = announcement.split_once(' ').unwrap_or(("", announcement));
            let speaks = match kind {
                "tcp" => "plain lines, RESP, JSON lines",
                _ => "this page, WebSocket, SSE, HTTP streaming, the API, health, metrics",
            };
            writeln!(
                out,
                "<div><dt>{}</dt><dd><code>{}</code></dd><dd>{speaks}</dd></div>",
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
            _ if !self.automatic => ": type <code>SUBSCRIBE</code>",
            _ => "",
        };
        writeln!(
            out,
            "<ol>\n<li><p>Listen in one terminal{first}. What is published to <code>{channel}</code> appears.</p>"
        )?;
        writeln!(out, "<pre><code>{}</code></pre></li>", Html(port.nc()))?;
        out.write_str("<li><p>Publish from another, with any Redis client.")?;
        if matches!(self.broker, BrokerUrl::Redis(_)) {
            out.write_str(" What is published to Redis itself is heard just as well.")?;
        }
        let keyed = matches!(self.access, Access::Keys);
        let publish = port.publish(self.channel, keyed);
        writeln!(out, "</p>\n<pre><code>{}</code></pre></li>", Html(publish))?;
        out.write_str("<li><p>Or do both at once, with a prompt.</p>\n")?;
        writeln!(out, "<pre><code>{}</code></pre></li>\n</ol>", Html(port.connect()))
    }
}

/// Whether the listener that is announced so speaks nothing but TLS.
fn requires_tls(config: &Config, announced: &str) -> bool {
    let address: Option<SocketAddr> = announced.parse().ok();
    let is_far = address.is_some_and(|address| !address.ip().to_canonical().is_loopback());
    config.tls.enabled
        && match config.tls.required {
            TlsRequired::Auto => is_far,
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
        self.state(out)?;
        self.numbers(out)?;
        out.write_str("</section>\n<section>\n<h2>What runs here</h2>\n")?;
        self.listeners(out)?;
        out.write_str("</section>\n<section>\n<h2>Try it from a shell</h2>\n")?;
        self.try_it(out)?;
        out.write_str("</section>\n")
    }
}

/// A count with its thousands apart.
struct Grouped(u64);

impl fmt::Display for Grouped {
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

/// A duration in the largest unit that says enough.
pub(super) struct Short(pub(super) Duration);

impl fmt::Display for Short {
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

/// A number of bytes in the largest binary unit that it fills.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
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
    fn nothing_that_others_say_becomes_markup() {
        let announcements = ["tcp unix:/run/<b>/\"s\"".to_owned(), "http unix:/<i>".to_owned()];
        let broker = BrokerUrl::Redis(Secret::new("redis://user:hunter2@<script>:6379"));
        let status = Status {
            announcements: &announcements,
            readiness: &Err("broker unavailable: <img src=x>".into()),
            access: Access::Workbench,
            broker: &broker,
            is_broker_up: false,
            uptime: Duration::from_secs(1),
            counts: [("connections", 0), ("subscriptions", 0), ("channels", 0), ("deliveries", 1234)],
            lines: LinePort::of("unix:/run/<b>/\"s\"", "", false),
            channel: "<u>'&",
            automatic: true,
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
        let counts: Vec<_> = [0, 999, 1000, 1_234_567].map(|n| Grouped(n).to_string()).into();
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let times: Vec<_> =
            [59, 61, 3_661, 86_400, 90_061].map(|s| Short(Duration::from_secs(s)).to_string()).into();
        assert_eq!(times, ["59 s", "1 min", "1 h 1 min", "1 d", "1 d 1 h"]);
        let sizes: Vec<_> = [0, 1023, 1 << 30, 3 << 19, u64::MAX].map(|n| Size(n).to_string()).into();
        assert_eq!(sizes, ["0 B", "1023 B", "1 GiB", "1.5 MiB", "16777216 TiB"]);
        let times: Vec<_> = [0, 180, 2_900].map(|us| Short(Duration::from_micros(us)).to_string()).into();
        assert_eq!(times, ["0 µs", "180 µs", "2 ms"]);
    }
}
