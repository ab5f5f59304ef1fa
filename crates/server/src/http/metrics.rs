//! `/metrics`: what the shards, the broker and the process count, in the OpenMetrics text format, which
//! [`super::format`] makes into Prometheus' own where that is asked for.
//!
//! Nothing is counted here: a scrape reads what is counted anyway, so between scrapes metrics cost nothing. The text of
//! a metric's `HELP` is its definition; `docs/metrics.md` repeats it, and a test compares the two. Every label has a
//! fixed set of values.

use std::fmt;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::{Registry, Unit};
use tidings_broker::memory::Memory;
use tidings_broker::redis::failures::CODES;
use tidings_broker::redis::{Counters, Redis};
use tidings_hub::Disconnects;
use tidings_session::Link;
use tidings_shard::{FANOUT_BOUNDS, Metrics};

use super::Traffic;
use super::exposition::Out;
use super::pace::Wait;
use crate::api::{Counters as ApiCounters, METHODS};
use crate::blocklist::Blocklist;
use crate::canary::Canary;
use crate::http::HttpServices;
use crate::inbound::InboundCounters;
use crate::process;
use crate::proxy::Kind;
use crate::readiness::Readiness;
use crate::summary;
use crate::tls::{Counters as TlsCounters, Tls};
use tidings_table_service as tables;

/// The parts of the server that metrics are collected from.
pub(crate) struct Sources {
    pub(crate) services: Arc<HttpServices>,
    pub(crate) limits: summary::Limits,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) tables: Option<Arc<tables::Service>>,
    pub(crate) canary: Arc<Canary>,
    pub(crate) inbound: Arc<InboundCounters>,
    pub(crate) hooks: Arc<crate::proxy::Counters>,
    pub(crate) blocklist: Arc<Blocklist>,
    pub(crate) redis: Option<Arc<Redis>>,
    pub(crate) memory: Option<Arc<Memory>>,
}

/// A registry that collects from all of them.
pub(crate) fn registry(sources: Sources) -> Registry {
    let uptime = sources.services.lifecycle.uptime();
    let began = SystemTime::now().checked_sub(uptime).unwrap_or(UNIX_EPOCH);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        sources,
        began: began.duration_since(UNIX_EPOCH).unwrap_or_default(),
    }));
    registry
}

/// The whole exposition.
///
/// # Errors
/// When the encoder does not accept what it is given, which no input can bring about.
pub(super) fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(16 << 10);
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

struct Scrape {
    sources: Sources,
    /// When the server was started, since the epoch.
    began: Duration,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out::new(encoder);
        self.server(&mut out)?;
        self.connections(&mut out)?;
        self.publications(&mut out)?;
        self.waiting(&mut out)?;
        self.broker(&mut out)?;
        if let Some(memory) = &self.sources.memory {
            memory_counters(memory, &mut out)?;
        }
        if let Some(redis) = &self.sources.redis {
            redis_counters(redis.counters(), &mut out)?;
        }
        self.hooks(&mut out)?;
        self.http(&mut out)?;
        handshakes(self.sources.services.tls.as_deref(), &mut out)?;
        self.api(&mut out)?;
        if let Some(tables) = &self.sources.tables {
            table_numbers(tables, &mut out)?;
        }
        self.process(&mut out)
    }
}

/// What has happened with TLS; nothing where it is off.
fn handshakes(tls: Option<&Tls>, out: &mut Out<'_>) -> fmt::Result {
    let none = TlsCounters::default();
    let counters = tls.map_or(&none, Tls::counters);
    let under_way = tls.map_or(0, Tls::under_way);
    out.counters(
        "tidings_tls_handshakes",
        "TLS handshakes of both ports by how they ended",
        "outcome",
        counters.handshakes(),
    )?;
    out.gauge("tidings_tls_handshakes_pending", None, "TLS handshakes under way", under_way)?;
    out.counters(
        "tidings_tls_reloads",
        "Certificates that were read again: taken up, or not usable so that the one before stayed",
        "outcome",
        counters.reloads(),
    )
}

/// Values of a shard that belong together, with the label that tells them apart.
type Labelled<const N: usize> = [(&'static str, fn(&Metrics) -> &AtomicU64); N];

const TRANSPORTS: Labelled<4> = [
    ("tcp", |m| &m.connections[0]),
    ("unix", |m| &m.connections[1]),
    ("http", |m| &m.connections[2]),
    ("tls", |m| &m.connections[3]),
];

const POLICIES: Labelled<4> = [
    ("cut", |m| &m.dropped[0]),
    ("latest", |m| &m.dropped[1]),
    ("drop_oldest", |m| &m.dropped[2]),
    ("unsubscribe", |m| &m.dropped[3]),
];

const DEFLATED: Labelled<2> = [("before", |m| &m.deflated[0]), ("after", |m| &m.deflated[1])];

const INFLATED: Labelled<2> = [("before", |m| &m.inflated[0]), ("after", |m| &m.inflated[1])];

const RECOVERIES: Labelled<2> = [("recovered", |m| &m.recovered), ("unrecovered", |m| &m.unrecovered)];

const BYTES: Option<&Unit> = Some(&Unit::Bytes);
const SECONDS: Option<&Unit> = Some(&Unit::Seconds);

impl Scrape {
    /// One of the shards' numbers, summed up.
    fn sum(&self, which: impl Fn(&Metrics) -> &AtomicU64) -> u64 {
        self.sources.services.shards.sum(which)
    }

    fn sums<const N: usize>(&self, values: Labelled<N>) -> impl Iterator<Item = (&'static str, u64)> {
        values.into_iter().map(|(label, which)| (label, self.sum(which)))
    }

    fn server(&self, out: &mut Out<'_>) -> fmt::Result {
        out.info("tidings_build", "What was built", ("version", env!("CARGO_PKG_VERSION")))?;
        let uptime = self.sources.services.lifecycle.uptime().as_secs_f64();
        out.gauge("tidings_uptime", SECONDS, "Time since the server was started", uptime)?;
        let ready = matches!(self.sources.services.readiness.check(), Readiness::Ready(_));
        out.gauge("tidings_ready", None, "Whether /ready says 200 (1) or 503 (0)", u64::from(ready))
    }

    fn connections(&self, out: &mut Out<'_>) -> fmt::Result {
        out.gauges(
            "tidings_connections",
            "Connections of clients by transport",
            "transport",
            self.sums(TRANSPORTS),
        )?;
        let dialects =
            Link::all().map(|link| (link.name(), self.sum(|m: &Metrics| &m.sessions[link.index()])));
        out.gauges("tidings_sessions", "Sessions by the dialect their client speaks", "dialect", dialects)?;
        out.counter(
            "tidings_connections_accepted",
            None,
            "Connections accepted, those refused at once included",
            self.sum(|m| &m.accepted),
        )?;
        out.counter(
            "tidings_connections_refused",
            None,
            "Connections refused because there were too many, or because the server was stopping",
            self.sum(|m| &m.refused),
        )?;
        out.counter(
            "tidings_connections_cut",
            None,
            "Connections closed because their client did not keep up",
            self.sum(|m| &m.cut),
        )?;
        out.counters(
            "tidings_disconnects",
            "Clients that the server has disconnected, by code",
            "code",
            summary::disconnects(&self.sources.services.shards)
                .into_iter()
                .enumerate()
                .map(|(at, count)| (Disconnects::label(at).0, count)),
        )?;
        out.gauge(
            "tidings_subscriptions",
            None,
            "Subscriptions of all connections",
            self.sum(|m| &m.subscriptions),
        )?;
        out.gauge(
            "tidings_shard_topics",
            None,
            "Channels and patterns with subscribers, counted on each shard that has some",
            self.sum(|m| &m.topics),
        )?;
        out.counter(
            "tidings_errors",
            None,
            "Commands and lines of clients that were answered with an error",
            self.sum(|m| &m.errors),
        )?;
        self.clients(out)
    }

    fn clients(&self, out: &mut Out<'_>) -> fmt::Result {
        out.counters(
            "tidings_recoveries",
            "Subscribers that came back, by whether all that they had missed was there",
            "outcome",
            self.sums(RECOVERIES),
        )?;
        out.counter(
            "tidings_subscriptions_lost",
            None,
            "Subscriptions that ended because publications were lost or dropped",
            self.sum(|m| &m.lost),
        )?;
        out.counter(
            "tidings_expirations",
            None,
            "Connections and subscriptions that ended because their time was over",
            self.sum(|m| &m.expired),
        )?;
        out.counter(
            "tidings_orders",
            None,
            "Orders of the application carried out on sessions",
            self.sum(|m| &m.orders),
        )
    }

    fn publications(&self, out: &mut Out<'_>) -> fmt::Result {
        out.counter(
            "tidings_publications_received",
            None,
            "Publications that clients sent",
            self.sum(|m| &m.published),
        )?;
        out.counter(
            "tidings_publications_heard",
            None,
            "Publications that the broker handed over, from whomever they came",
            self.sources.inbound.publications.load(Ordering::Relaxed),
        )?;
        out.counter(
            "tidings_deliveries",
            None,
            "Publications for subscribers, once for each: written, queued, or dropped because a queue was full",
            self.sum(|m| &m.deliveries),
        )?;
        out.counters(
            "tidings_deliveries_dropped",
            "Publications that a subscriber missed because its queue or its shard's mailbox was full, by what was done",
            "policy",
            self.sums(POLICIES),
        )?;
        out.counter(
            "tidings_mailbox_overruns",
            None,
            "Publications that found a shard's mailbox full, so that its subscribers missed them",
            self.sum(|m| &m.overrun),
        )?;
        out.gauge(
            "tidings_reads_reserved",
            BYTES,
            "Bytes reserved for histories, presence and lists of channels that are being read for clients",
            self.sum(|m| &m.reads_reserved),
        )?;
        out.gauge(
            "tidings_reads_waiting",
            None,
            "Such reads that wait for room",
            self.sum(|m| &m.reads_waiting),
        )?;
        out.counter(
            "tidings_reads_refused",
            None,
            "Such reads that were answered with a temporary error, for there was no room",
            self.sum(|m| &m.reads_refused),
        )?;
        out.counter(
            "tidings_reads_dropped",
            None,
            "Such reads that were not carried out, for their session had ended",
            self.sum(|m| &m.reads_dropped),
        )?;
        out.counter("tidings_received", BYTES, "Bytes received from clients", self.sum(|m| &m.bytes_in))?;
        out.counter("tidings_sent", BYTES, "Bytes sent to clients", self.sum(|m| &m.bytes_out))?;
        out.counters(
            "tidings_websocket_deflated_bytes",
            "Bytes of publications before and after they were compressed, each counted once on a shard whatever its subscribers there",
            "side",
            self.sums(DEFLATED),
        )?;
        out.counters(
            "tidings_websocket_inflated_bytes",
            "Bytes of compressed messages of clients before and after they were decompressed",
            "side",
            self.sums(INFLATED),
        )?;
        let buckets = (0..=FANOUT_BOUNDS.len()).map(|i| {
            let bound = FANOUT_BOUNDS.get(i).map_or(f64::INFINITY, |micros| *micros as f64 / 1e6);
            (bound, self.sum(|m: &Metrics| &m.fanout[i]))
        });
        out.histogram(
            "tidings_fanout_duration",
            SECONDS,
            "How long a shard took to write what waited in a channel to all of its subscribers there",
            self.sum(|m| &m.fanout_micros) as f64 / 1e6,
            &buckets.collect::<Vec<_>>(),
        )
    }

    fn waiting(&self, out: &mut Out<'_>) -> fmt::Result {
        out.gauge(
            "tidings_queue",
            BYTES,
            "Bytes that wait for connections which do not read as fast as they are sent to",
            self.sum(|m| &m.queued),
        )?;
        out.gauge(
            "tidings_connections_stalled",
            None,
            "Connections for which something waits",
            self.sum(|m| &m.stalled),
        )?;
        out.gauge(
            "tidings_input",
            BYTES,
            "Bytes of commands that clients have not finished sending, and of those that wait for their turn",
            self.sum(|m| &m.input_bytes),
        )?;
        let waiting = self.sources.services.shards.waiting_bytes();
        out.gauge("tidings_mailbox", BYTES, "Bytes of publications that wait for shards", waiting)
    }

    fn broker(&self, out: &mut Out<'_>) -> fmt::Result {
        let router = &self.sources.services.api.router;
        let kind = router.broker().name();
        let up = u64::from(router.down_reason().is_none());
        out.gauges(
            "tidings_broker_up",
            "Whether there is a connection to the broker (1) or not (0); the memory broker always has one",
            "kind",
            iter::once((kind, up)),
        )?;
        out.gauge(
            "tidings_broker_lag",
            SECONDS,
            "How long publications take through the broker: the round trip of the last canary, or by how much the next is overdue",
            self.sources.canary.lag().as_secs_f64(),
        )?;
        out.gauge(
            "tidings_broker_topics",
            None,
            "Channels and patterns subscribed at the broker, those that nobody wants any more but linger included",
            router.topics(),
        )?;
        out.gauge(
            "tidings_broker_topics_refused",
            None,
            "Channels and patterns that the broker does not subscribe although it should, so that their subscribers miss publications",
            self.sources.services.readiness.refused_topics(),
        )?;
        out.counter(
            "tidings_clients_moved",
            None,
            "Clients that were asked to reconnect elsewhere because the broker was away for longer than client.broker_down_delay",
            self.sum(|m| &m.moved),
        )
    }

    fn hooks(&self, out: &mut Out<'_>) -> fmt::Result {
        let counters = &*self.sources.hooks;
        let by_hook = |counter: &[AtomicU64; 4]| {
            Kind::ALL.map(|kind| (kind.name(), counter[kind as usize].load(Ordering::Relaxed)))
        };
        out.counters(
            "tidings_hook_calls",
            "Questions put to the application",
            "hook",
            by_hook(&counters.calls),
        )?;
        out.counters(
            "tidings_hook_failures",
            "Questions that the application did not answer in time or understandably, so that clients got an error",
            "hook",
            by_hook(&counters.failures),
        )?;
        out.counters(
            "tidings_hook_refusals",
            "Questions that were not put because too many were under way, so that clients got an error",
            "hook",
            by_hook(&counters.refused),
        )
    }

    fn http(&self, out: &mut Out<'_>) -> fmt::Result {
        let Traffic { connections, reserve, answers, gave_way, refused } = &*self.sources.traffic;
        let (connections, reserve) = (connections.load(Ordering::Relaxed), reserve.load(Ordering::Relaxed));
        out.gauge("tidings_http_connections", None, "Connections of the HTTP port", connections)?;
        out.gauge(
            "tidings_http_reserve_connections",
            None,
            "Connections of the HTTP port past their limit, in the reserve for probes",
            reserve,
        )?;
        out.counters(
            "tidings_http_gave_way",
            "Slow connections of the HTTP port closed for new ones, by what they waited for",
            "waited_for",
            Wait::ALL.into_iter().map(|wait| (wait.name(), gave_way[wait as usize].load(Ordering::Relaxed))),
        )?;
        let refused = ["limit", "address"].into_iter().zip(refused.iter().map(|n| n.load(Ordering::Relaxed)));
        out.counters(
            "tidings_http_refused",
            "HTTP requests (limit) and connections (address) refused for want of a place",
            "reason",
            refused,
        )?;
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let answers = classes.into_iter().zip(answers.iter().map(|n| n.load(Ordering::Relaxed)));
        out.counters(
            "tidings_http_requests",
            "HTTP requests answered, by the class of their status; those that became streams are not among them",
            "code",
            answers,
        )?;
        out.counters(
            "tidings_upgrades_refused",
            "Connections over HTTP that were refused before they began, by reason",
            "reason",
            self.sources.services.gate.refused(),
        )
    }

    fn api(&self, out: &mut Out<'_>) -> fmt::Result {
        let ApiCounters { commands, errors, refused, rate: _, answers } =
            &*self.sources.services.api.counters;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        out.counters(
            "tidings_api_commands",
            "Commands of backends to the server API, those of a batch one by one",
            "method",
            METHODS.into_iter().zip(commands.iter().map(of)),
        )?;
        out.gauge(
            "tidings_api_answers_reserved",
            BYTES,
            "Bytes reserved for answers of the server API that are being read or sent",
            answers.taken(),
        )?;
        out.counter(
            "tidings_api_answers_refused",
            None,
            "Commands to the server API that were answered with a temporary error, for there was no room for the answer",
            of(&answers.refused),
        )?;
        out.counter(
            "tidings_api_errors",
            None,
            "Commands to the server API, and publications of its broadcasts, that were answered with an error",
            of(errors),
        )?;
        out.counter(
            "tidings_api_refused",
            None,
            "Requests to the server API that were refused because of who sent them",
            of(refused),
        )?;
        let usage = &self.sources.limits.settings.usage;
        out.counters(
            "tidings_limited",
            "What was refused because of a limit: connections (in all, of a user, of an address), commands and publications of \
             clients, commands to the server API",
            "limit",
            summary::limited(&self.sources.limits),
        )?;
        out.gauges(
            "tidings_metered",
            "Addresses and users that are counted for limits on commands and of users",
            "of",
            [("addresses", usage.addresses.stored() as u64), ("users", usage.users.stored() as u64)],
        )?;
        out.counters(
            "tidings_auth_failures",
            "Wrong tokens, passwords (AUTH) and keys of the server API",
            "credential",
            self.sources.services.api.auth_failures.counts(),
        )?;
        let blocklist = &self.sources.blocklist;
        out.gauges(
            "tidings_blocks",
            "Users and tokens that are blocked, revoked or invalidated",
            "kind",
            blocklist.counts(),
        )?;
        out.counters(
            "tidings_blocked",
            "Connections and refreshes that were refused because of a block",
            "kind",
            blocklist.refused(),
        )?;
        let cluster = self.sources.services.api.nodes.bus.cluster();
        out.gauge(
            "tidings_nodes",
            None,
            "Servers on this broker, this one included",
            cluster.others().len() as u64 + 1,
        )?;
        out.gauge(
            "tidings_nodes_different",
            None,
            "Other servers on this broker that have other options of channels than this one",
            cluster.different(),
        )?;
        out.counters(
            "tidings_nodes_rejected",
            "Messages between nodes that were not authentic, or not for the first time, and changed nothing",
            "reason",
            cluster.rejected(),
        )?;
        out.counter(
            "tidings_nodes_ignored",
            None,
            "Messages of other nodes that were not understood, or for which there was no room",
            of(&cluster.ignored),
        )
    }

    fn process(&self, out: &mut Out<'_>) -> fmt::Result {
        let cpu = process::processor_time().as_secs_f64();
        out.counter("process_cpu", SECONDS, "Processor time used, of user and system", cpu)?;
        let began = self.began.as_secs_f64();
        out.gauge("process_start_time", SECONDS, "When the server was started, since the Unix epoch", began)?;
        if let Some(bytes) = process::resident_bytes() {
            out.gauge("process_resident_memory", BYTES, "Memory in use", bytes)?;
        }
        if let Some(open) = process::open_files() {
            out.gauge("process_open_fds", None, "Open files and sockets", open)?;
        }
        if let Some(most) = process::most_files() {
            out.gauge("process_max_fds", None, "How many files and sockets may be open", most)?;
        }
        Ok(())
    }
}

fn table_numbers(tables: &tables::Service, out: &mut Out<'_>) -> fmt::Result {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (counters, (stored, bytes)) = (&tables.counters, tables.stored());
    out.gauge("tidings_tables", None, "Tables kept; in a bucket, as last counted", stored)?;
    out.gauge(
        "tidings_tables_stored",
        BYTES,
        "Bytes of the files of all tables kept; in a bucket, as last counted",
        bytes,
    )?;
    out.gauge(
        "tidings_tables_open",
        None,
        "Tables in memory, which somebody looks at or did a moment ago",
        of(&counters.open),
    )?;
    out.gauge(
        "tidings_tables_nameless",
        BYTES,
        "Bytes of what packed files unpack to, of what views are sorted with, and of removed files that are still read",
        tables.nameless(),
    )?;
    out.counters(
        "tidings_table_gave_way",
        "Uploads and downloads of tables that were ended for others because they were slow",
        "transfer",
        tables.gave_way(),
    )?;
    out.counters(
        "tidings_table_refused",
        "Uploads and downloads of tables that were refused, by the reason",
        "reason",
        tables.refused(),
    )?;
    out.gauge("tidings_table_viewers", None, "Connections of viewers of tables", of(&counters.viewers))?;
    let outcomes = ["whole", "aborted", "failed"];
    out.counters(
        "tidings_table_uploads",
        "Uploads of tables that have ended, by how",
        "outcome",
        outcomes.into_iter().zip(counters.uploads.iter().map(of)),
    )?;
    out.counter(
        "tidings_table_received",
        BYTES,
        "Bytes of files and rows received for tables",
        of(&counters.bytes),
    )?;
    out.counter(
        "tidings_table_rows",
        None,
        "Rows of files uploaded whole, and rows appended",
        of(&counters.rows),
    )?;
    out.counter(
        "tidings_table_views",
        None,
        "Views of tables that were encoded, each for all who see it",
        of(&counters.views),
    )?;
    out.counter(
        "tidings_table_errors",
        None,
        "Errors that viewers of tables were told",
        of(&counters.errors),
    )?;
    match tables.bucket() {
        Some((numbers, copies)) => bucket_numbers(numbers, copies, out),
        None => Ok(()),
    }
}

fn bucket_numbers(numbers: &tables::Numbers, copies: u64, out: &mut Out<'_>) -> fmt::Result {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let up = u64::from(numbers.up.load(Ordering::Relaxed));
    out.gauge(
        "tidings_tables_bucket_up",
        None,
        "Whether the last request to the bucket of tables was answered",
        up,
    )?;
    out.gauge(
        "tidings_tables_copies",
        BYTES,
        "Bytes of tables of the bucket that lie on this node's disk",
        copies,
    )?;
    out.counters(
        "tidings_tables_bucket_requests",
        "Requests to the bucket of tables, by whether they were answered (with a status below 500)",
        "outcome",
        ["answered", "failed"].into_iter().zip(numbers.requests.iter().map(of)),
    )?;
    let (sent, received) = (of(&numbers.sent), of(&numbers.received));
    out.counter("tidings_tables_bucket_sent", BYTES, "Bytes sent to the bucket of tables", sent)?;
    out.counter(
        "tidings_tables_bucket_received",
        BYTES,
        "Bytes received from the bucket of tables",
        received,
    )?;
    out.counter(
        "tidings_tables_bucket_conflicts",
        None,
        "Appends that were done again because another node had appended at the same place",
        of(&numbers.conflicts),
    )
}

fn memory_counters(memory: &Memory, out: &mut Out<'_>) -> fmt::Result {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let evicted = memory.evictions();
    out.gauge(
        "tidings_memory_used",
        BYTES,
        "Bytes that histories, members and remembered results take in the memory broker",
        memory.bytes(),
    )?;
    out.counters(
        "tidings_memory_evicted",
        "What went from the memory broker because there was no room: histories without publications and with some, and publications of histories that stay",
        "kind",
        [
            ("empty", of(&evicted.empty)),
            ("history", of(&evicted.kept)),
            ("publication", of(&evicted.publications)),
        ],
    )
}

fn redis_counters(counters: &Counters, out: &mut Out<'_>) -> fmt::Result {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    out.counter(
        "tidings_redis_messages_heard",
        None,
        "Messages heard from Redis, canaries included",
        of(&counters.heard),
    )?;
    out.counter(
        "tidings_redis_invalid_names",
        None,
        "Messages from Redis that were dropped because their channel's name is not one a client could subscribe to",
        of(&counters.invalid_names),
    )?;
    out.counter(
        "tidings_redis_publications",
        None,
        "Publications that Redis took, canaries included",
        of(&counters.published),
    )?;
    out.counter(
        "tidings_redis_publication_failures",
        None,
        "Publications for Redis that were answered with an error, canaries included",
        of(&counters.publish_failures),
    )?;
    out.counter(
        "tidings_redis_reconnects",
        None,
        "Connections for hearing from Redis that were made after the first one",
        of(&counters.reconnects),
    )?;
    out.gauge(
        "tidings_redis_waiting",
        BYTES,
        "Bytes of publications that wait for Redis or for its answer",
        of(&counters.bytes_waiting),
    )?;
    out.counters(
        "tidings_redis_errors",
        "Error replies of Redis by their code; its words are in the log",
        "code",
        CODES.into_iter().zip(counters.failures.totals()),
    )
}
