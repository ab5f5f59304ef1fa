//! `tidings bench`: a load generator that checks every delivery.
//!
//! Subscribers are distributed over threads that own them exclusively ([`subscribers`]); each publisher has one thread
//! that writes and one that reads responses ([`publisher`]); they share only counters ([`run`]). Each message contains
//! its number and its due time ([`payload`]). So each subscriber detects loss, duplicates and disorder ([`order`]), and
//! latency counts from the due time.
//!
//! Invariants: every wait has a timeout; a run with a lost, duplicated or disordered delivery does not end with exit
//! code 0.

mod chunked;
mod dialect;
mod handshake;
mod latency;
mod mqtt;
mod order;
mod payload;
mod process;
mod progress;
mod publisher;
mod report;
mod run;
mod socket;
mod subscribers;

use std::sync::atomic::Ordering;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use clap::Args;
use tidings_client::error::reason;
use tidings_client::{Server, Web};
use tidings_wire::Channel;
use tokio::sync::oneshot::{self, error::TryRecvError};

use self::dialect::{Dialect, Transport};
use self::handshake::TransportRequest;
use self::latency::Latency;
use self::payload::{MAX_MESSAGES, MAX_PUBLISHERS, MIN_SIZE};
use self::process::Processes;
use self::progress::{Progress, StallDetector};
use self::publisher::{BenchPublisher, PublisherTask, Schedule};
use self::report::{BenchReport, Quantiles, ServerUse, per_second};
use self::run::BenchRun;
use self::socket::{Target, allow_descriptors};
use self::subscribers::{Subscribers, ThreadTally};
use crate::failure::Failure;
use crate::input::duration;
use crate::interrupt::interrupted;
use crate::stdout::print;
use crate::target::ServerArgs;
use crate::text::grouped;

/// The time without progress after which missing messages count as lost, or a server as unresponsive.
const STALL_TIME: Duration = Duration::from_secs(5);
/// TLS would measure the cost of the bench itself.
const NO_TLS: &str = "TLS is not measured: use http://HOST:PORT or HOST:PORT";
/// The time for an interrupted run to end.
const GRACE: Duration = Duration::from_secs(10);

/// Measures a server: many subscribers, a stream of messages, every delivery checked
#[derive(Args, Debug)]
#[command(after_long_help = "\
Without --rate the server receives messages as fast as it delivers them: --window of them are in flight at any time, \
and the next one is sent when one is confirmed and has reached every subscriber. With --rate the messages \
are due at even intervals, and latency counts from the due time of a message, so that a slow server is visible.

Publishers use RESP on the line port (--server), subscribers the transport of --transport: on the line port, or on the HTTP \
port (--http). With ws:// as --server everything goes over the HTTP port, and publishers use WebSocket too. A Redis can \
be measured with --transport resp, and any broker of MQTT with --transport mqtt and --server mqtt://HOST:PORT, where publishers \
use QoS 1. CPU and \
memory of the server are shown when it runs on this machine and its process is accessible.

The exit code is 1 when a delivery was lost, came twice or out of order. Ctrl-C ends the run early, with its table.

Examples:
  tidings bench
  tidings bench --subscribers 1000 --rate 50 --duration 30s
  tidings bench --subscribers 1000 --transport ws
  tidings bench --subscribers 1000 --transport mqtt
  tidings bench --subscribers 10000 --messages 1000 --transport resp --json")]
pub(crate) struct Bench {
    /// The number of subscribers
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    subscribers: u64,

    /// The number of publishing connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_PUBLISHERS))]
    publishers: u64,

    /// Messages per second of all publishers together; 0: as fast as --window allows
    #[arg(long, value_name = "R", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100_000_000))]
    rate: u64,

    /// Without a rate: the number of messages in flight
    #[arg(long, value_name = "W", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    window: u64,

    /// The number of messages after which the run ends (or --duration, if that is given and earlier)
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..MAX_MESSAGES))]
    messages: Option<u64>,

    /// The duration of the run; 10s without --messages
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,

    /// The size of a message in bytes
    #[arg(long, value_name = "B", default_value_t = 100, value_parser = clap::value_parser!(u64).range(MIN_SIZE as u64..=16 << 20))]
    size: u64,

    /// The channel
    #[arg(long, default_value = "bench")]
    channel: String,

    /// The transport of subscribers
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    transport: Transport,

    /// The server's HTTP port, for --transport ws and sse; the default is --server if that is one, otherwise
    /// http://127.0.0.1:8000
    #[arg(long, value_name = "URL", value_parser = http_port)]
    http: Option<Web>,

    /// The server's process id, if it cannot be found by its port
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,

    /// Prints the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

impl Bench {
    /// Runs the measurement and prints the results.
    ///
    /// # Errors
    /// A server that cannot be measured, or that did not deliver every message once and in order.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let refused =
            |why: &str| Failure::Usage(format!("'{}' cannot be subscribed to: {why}", self.channel));
        let channel = Channel::new(&self.channel).map_err(|e| refused(&e.to_string()))?;
        if self.transport == Transport::Tcp && !channel.fits_a_line() {
            return Err(refused("on plain lines a channel name contains no spaces"));
        }
        match &self.server.server {
            Server::Web(Web { secure: true, .. }) | Server::Tls(_) | Server::Mqtt { secure: true, .. } => {
                return Err(Failure::Usage(format!("{}: {NO_TLS}", self.server.server)));
            }
            Server::Web(web) if !self.transport.is_web() => {
                let name = self.transport.name();
                return Err(Failure::Usage(format!(
                    "--transport {name} needs a line port, and {web} is none"
                )));
            }
            Server::Mqtt { .. } if self.transport != Transport::Mqtt => {
                let words = format!("{} needs --transport mqtt", self.server.server);
                return Err(Failure::Usage(words));
            }
            // As many messages as there are packet identifiers.
            Server::Mqtt { .. } if self.window > u64::from(u16::MAX) => {
                return Err(Failure::Usage("--window is at most 65535 with mqtt://".to_owned()));
            }
            _ => {}
        }
        let stop = interrupted(1, GRACE)?;
        allow_descriptors(self.subscribers).map_err(Failure::Failed)?;
        let (target, probe) = Target::find(&self.server.server)
            .map_err(|e| Failure::Failed(format!("cannot reach {}: {}", self.server.server, reason(&e))))?;
        let processes = match self.server_pid {
            Some(pid) => {
                let given = Processes(vec![pid]);
                given
                    .cpu()
                    .ok_or_else(|| Failure::Usage(format!("--server-pid: there is no process {pid}")))?;
                Some(given)
            }
            None => probe.is_local().then(|| Processes::listening_on(&target)).flatten(),
        };
        drop(probe);
        let measured = self.measure(&target, processes.as_ref(), stop).map_err(Failure::Failed)?;
        let MeasuredRun { report, first_error } = measured;
        if self.json {
            let line = serde_json::to_string(&report).map_err(Failure::new)?;
            print(format!("{line}\n").as_bytes())?;
        } else {
            print(report.table().as_bytes())?;
        }
        match (report.flaw(), first_error) {
            (None, None) => Ok(()),
            (Some(flaw), None) => Err(Failure::Failed(flaw)),
            (None, Some(first_error)) => Err(Failure::Failed(first_error)),
            (Some(flaw), Some(first_error)) => Err(Failure::Failed(format!("{flaw}; {first_error}"))),
        }
    }

    fn measure(
        &self,
        target: &Target,
        processes: Option<&Processes>,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<MeasuredRun, String> {
        let key = self.server.secret();
        let size = usize::try_from(self.size).map_err(|e| e.to_string())?;
        let token = self.server.token.as_deref();
        let secret = if self.transport.is_web() { token } else { key };
        let dialect = Dialect::new(self.transport, &self.channel, secret, size);
        let web = self.web();
        let handshake = TransportRequest::new(self.transport, &web, &self.channel, secret);
        let subscribers_at = match self.transport.is_web() {
            true => {
                let server = Server::Web(web);
                Target::find(&server).map_err(|e| format!("cannot reach {server}: {}", reason(&e)))?.0
            }
            false => target.clone(),
        };
        let run = BenchRun::new(self.subscribers, self.window);
        let publishers: Vec<BenchPublisher> =
            (0..self.publishers).map(|_| self.publisher(target)).collect::<Result<_, _>>()?;
        thread::scope(|scope| {
            let _end = EndOnDrop(&run);
            let (run, dialect, handshake, at) = (&run, &dialect, &handshake, &subscribers_at);
            let followers: Vec<_> = self
                .shares()
                .into_iter()
                .map(|count| scope.spawn(move || self.follow(run, dialect, handshake, at, count)))
                .collect();
            let mut progress = Progress::new(run);
            self.wait_for_subscribers(run, &mut progress, &mut stop)?;

            let cpu_before = processes.and_then(Processes::cpu);
            let begun = Instant::now();
            let writers: Vec<_> = publishers
                .into_iter()
                .enumerate()
                .map(|(n, publisher)| {
                    let task = self.task(n, size);
                    scope.spawn(move || publisher.publish(run, &task))
                })
                .collect();
            self.watch(run, begun, &mut progress, &mut stop);
            let cpu =
                cpu_before.zip(processes.and_then(Processes::cpu)).map(|(before, after)| after - before);
            let memory = processes.and_then(Processes::memory);
            let (deliveries, taken) = elapsed(run, begun);
            run.end();

            let sent = writers.into_iter().map(joined).collect::<Result<Vec<u64>, _>>()?;
            let tallies =
                followers.into_iter().map(|f| joined(f)?).collect::<Result<Vec<ThreadTally>, _>>()?;
            let server = processes.zip(cpu).map(|(processes, cpu)| ServerUse {
                pids: processes.0.clone(),
                cpu_percent: 100.0 * cpu.as_secs_f64() / taken.as_secs_f64().max(1e-9),
                cpu_us_per_delivery: (deliveries > 0).then(|| cpu.as_secs_f64() * 1e6 / deliveries as f64),
                memory_bytes: memory,
            });
            let report = self.report(run, &sent, &tallies, deliveries, taken, server);
            Ok(MeasuredRun { report, first_error: run.first_error() })
        })
    }

    /// The HTTP port.
    fn web(&self) -> Web {
        let given = self.http.clone().or_else(|| match &self.server.server {
            Server::Web(web) => Some(web.clone()),
            _ => None,
        });
        given.unwrap_or_else(|| Web {
            secure: false,
            websocket: false,
            host: "127.0.0.1".to_owned(),
            port: 8000,
            base: String::new(),
        })
    }

    fn publisher(&self, target: &Target) -> Result<BenchPublisher, String> {
        match &self.server.server {
            Server::Web(web) => BenchPublisher::connect_web(target, web, self.server.token.as_deref()),
            Server::Mqtt { .. } => BenchPublisher::connect_mqtt(target, self.server.secret()),
            _ => BenchPublisher::connect(target, self.server.secret()),
        }
    }

    /// The number of subscribers per thread. Half of the cores are left to the server.
    fn shares(&self) -> Vec<usize> {
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        let threads = (cores / 2).clamp(1, self.subscribers.max(1));
        (0..threads)
            .map(|n| (self.subscribers * (n + 1) / threads - self.subscribers * n / threads) as usize)
            .collect()
    }

    fn follow(
        &self,
        run: &BenchRun,
        dialect: &Dialect,
        handshake: &TransportRequest,
        target: &Target,
        count: usize,
    ) -> Result<ThreadTally, String> {
        Subscribers::connect(run, dialect, handshake, target, count, self.publishers as usize)
            .and_then(Subscribers::follow)
            .inspect_err(|why| {
                run.record_error(why.clone());
                run.end();
            })
    }

    /// The task of publisher `n`.
    fn task(&self, n: usize, size: usize) -> PublisherTask<'_> {
        let n = n as u64;
        let share = |total: u64| total * (n + 1) / self.publishers - total * n / self.publishers;
        let pace = match self.rate {
            0 => Schedule::Window,
            rate => Schedule::Every(Duration::from_secs_f64(self.publishers as f64 / rate as f64)),
        };
        PublisherTask {
            channel: &self.channel,
            size,
            publisher: n as u8,
            pace,
            messages: self.messages.map(share),
        }
    }

    fn wait_for_subscribers(
        &self,
        run: &BenchRun,
        progress: &mut Progress<'_>,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<(), String> {
        let mut moved = StallDetector::new();
        loop {
            let subscribed = run.subscribed.load(Ordering::SeqCst);
            if let Some(first_error) = run.first_error() {
                return Err(first_error);
            }
            if subscribed >= self.subscribers {
                return Ok(());
            }
            if moved.stalled_for(STALL_TIME, subscribed) {
                return Err(format!(
                    "only {} of {} subscriptions were confirmed within {} s",
                    grouped(subscribed),
                    grouped(self.subscribers),
                    STALL_TIME.as_secs()
                ));
            }
            if is_asked(stop) {
                return Err("interrupted before it began".to_owned());
            }
            progress.show(|| format!("{} of {} subscribed", grouped(subscribed), grouped(self.subscribers)));
            moved.pause();
        }
    }

    /// Displays the progress of the run. Returns when all messages are delivered, or no more arrive.
    fn watch(
        &self,
        run: &BenchRun,
        begun: Instant,
        progress: &mut Progress<'_>,
        stop: &mut oneshot::Receiver<()>,
    ) {
        let limit = self.duration.or(self.messages.is_none().then_some(Duration::from_secs(10)));
        let mut moved = StallDetector::new();
        let mut before = (Instant::now(), 0);
        loop {
            let delivered = run.delivered.load(Ordering::SeqCst);
            let finished = run.finished.load(Ordering::SeqCst) == self.publishers;
            if finished && run.is_complete() {
                break;
            }
            let steps = delivered + run.answered.load(Ordering::SeqCst);
            // At a low rate nothing changes between two messages.
            if moved.stalled_for(STALL_TIME, steps) && (finished || run.is_stopped() || self.rate == 0) {
                break;
            }
            if limit.is_some_and(|limit| begun.elapsed() >= limit) || is_asked(stop) {
                run.stop();
            }
            progress.show(|| {
                let rate = (delivered - before.1) as f64 / before.0.elapsed().as_secs_f64().max(1e-9);
                before = (Instant::now(), delivered);
                format!(
                    "{:.1} s: sent {}, delivered {}, {}",
                    begun.elapsed().as_secs_f64(),
                    grouped(run.sent.load(Ordering::SeqCst)),
                    grouped(delivered),
                    per_second(rate)
                )
            });
            moved.pause();
        }
        run.stop();
    }

    fn report(
        &self,
        run: &BenchRun,
        sent: &[u64],
        tallies: &[ThreadTally],
        deliveries: u64,
        taken: Duration,
        server: Option<ServerUse>,
    ) -> BenchReport {
        let mut latency = Latency::new();
        tallies.iter().for_each(|tally| latency.add(&tally.latency));
        BenchReport {
            transport: self.transport.name(),
            subscribers: self.subscribers,
            publishers: self.publishers,
            size: self.size,
            window: (self.rate == 0).then_some(self.window),
            rate: (self.rate > 0).then_some(self.rate),
            seconds: taken.as_secs_f64(),
            sent: sent.iter().sum(),
            deliveries,
            deliveries_per_second: deliveries as f64 / taken.as_secs_f64().max(1e-9),
            latency_us: (deliveries > 0).then(|| Quantiles::from_latency(&latency)),
            lost: tallies.iter().map(|tally| tally.lost(sent)).sum(),
            duplicated: tallies.iter().map(|tally| tally.duplicated).sum(),
            out_of_order: tallies.iter().map(|tally| tally.out_of_order).sum(),
            disconnected: run.disconnected.load(Ordering::SeqCst),
            server,
        }
    }
}

/// Parses the address of an HTTP port.
fn http_port(text: &str) -> Result<Web, String> {
    match text.parse()? {
        Server::Web(web) if web.secure => Err(format!("{web}: {NO_TLS}")),
        Server::Web(web) => Ok(web),
        other => Err(format!("{other} is not an HTTP port: use http://HOST:PORT")),
    }
}

/// The result of a run, and the first error.
struct MeasuredRun {
    report: BenchReport,
    first_error: Option<String>,
}

/// Ends the threads of the run on drop.
struct EndOnDrop<'a>(&'a BenchRun);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The deliveries of a run, and the time from its start to the last one.
fn elapsed(run: &BenchRun, begun: Instant) -> (u64, Duration) {
    let deliveries = run.delivered.load(Ordering::SeqCst);
    let last = run.started + Duration::from_nanos(run.last_delivery.load(Ordering::SeqCst));
    let taken = if deliveries > 0 { last.saturating_duration_since(begun) } else { begun.elapsed() };
    (deliveries, taken)
}

fn is_asked(stop: &mut oneshot::Receiver<()>) -> bool {
    !matches!(stop.try_recv(), Err(TryRecvError::Empty))
}

fn joined<T>(handle: ScopedJoinHandle<'_, T>) -> Result<T, String> {
    handle.join().map_err(|_| "a thread of the bench failed".to_owned())
}
