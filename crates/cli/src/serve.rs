//! `tidings serve`: configuration, logging, a runtime and the server. Signals and the shutdown deadline are in
//! [`supervisor`](crate::supervisor).
//!
//! Invariants: no address is bound before the configuration is validated; stdout contains only the announcements; the
//! first signal starts a clean stop (exit code 0); a second one, or the end of `shutdown.timeout`, ends the process at
//! once (exit code 1).

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use tidings_admin::RecentLog;
use tidings_config::{Config, Loaded, LogFormat, LogLevel, LogOptions, Overrides, Sources};
use tidings_server::{PassedListeners, ProcessOptions, Reloadable, Server, StartError};
use tidings_systemd::{Notifier, sockets};
use tokio::runtime;
use tokio::sync::watch;
use tracing::warn;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, reload};

use crate::data_dir::{self, DataDirEnv};
use crate::failure::Failure;
use crate::log_fields;
use crate::supervisor::supervise;
use crate::text::colours;

/// The stack size of a runtime thread, in bytes. Memory is allocated on first use; this bounds the depth of handlers.
const STACK: usize = 1 << 20;

/// The time for blocking work to end after the server has stopped.
const BLOCKING: Duration = Duration::from_millis(100);

/// Runs the server
#[derive(Args, Debug)]
#[command(after_long_help = "\
With no flags and no file the server is a workbench: plain TCP (lines, RESP, JSON lines) on 127.0.0.1:5567, HTTP on \
127.0.0.1:8000, an embedded broker, and every user of this machine has all permissions.

When it is ready, it prints one line per listener and then 'ready' to stdout; logs go to stderr. Every option can also be set \
in the environment (TIDINGS_TCP, TIDINGS_TCP_ECHO, …) and in the file; a flag overrides the environment, and the \
environment overrides the file. 'tidings config docs' lists them all.

SIGTERM or SIGINT stops it: clients receive a request to reconnect, queues are flushed, and the process ends within \
shutdown.timeout with exit code 0. A second signal, or the end of shutdown.timeout with pending work, ends it at once \
with exit code 1. SIGHUP reads the file, the files with secrets and the TLS certificate again, and opens the audit log again \
(log.audit); options that need a restart are named in the log, and a file with errors changes nothing.

As a service of systemd it notifies of readiness, reloads and its stop, and sends the watchdog notification (Type=notify, \
WatchdogSec=). Sockets that systemd passes with FileDescriptorName=tcp or http replace the addresses of that port.

Examples:
  tidings serve
  tidings serve --broker redis://127.0.0.1:6379
  tidings serve --config /etc/tidings.toml --log-format json
  tidings serve --tcp 127.0.0.1:0 --http off --set tcp.echo=false")]
pub(crate) struct Serve {
    /// The configuration file (.toml, .json, .yaml); also TIDINGS_CONFIG in the environment
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The address of the line port: HOST:PORT (port 0 picks a free one), unix:PATH, or off; repeatable
    #[arg(long, value_name = "ADDR")]
    tcp: Vec<String>,

    /// The address of HTTP: HOST:PORT (port 0 picks a free one), unix:PATH, or off; repeatable
    #[arg(long, value_name = "ADDR")]
    http: Vec<String>,

    /// The source of publications: memory, redis://…, rediss://…, redis+sentinel://…
    #[arg(long, value_name = "URL")]
    broker: Option<String>,

    /// The folder for data that survives a restart (shared tables); off stores nothing. The default is the user's data
    /// folder: ~/.local/share/tidings, /var/lib/tidings for a system service
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,

    /// The log level: none, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// The log format: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// Sets any option by its key, such as tcp.echo=false; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Serve {
    /// Serves until a signal arrives.
    ///
    /// # Errors
    /// An invalid configuration, a listener that cannot be bound, a stop that was cut short.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let (variable, pid) = (|name: &str| std::env::var_os(name), std::process::id());
        // Before any thread is started: the variables of the sockets are removed from the environment.
        let passed = sockets::take(&variable, pid)?;
        let sources = self.sources(&passed)?;
        let Loaded { mut config, warnings, file } = sources.load()?;
        let reloadable = Reloadable { sources, loaded: config.clone() };
        let log_level = log_to_stderr(&config.log);
        for warning in warnings {
            warn!("{warning}");
        }
        // Held until the end.
        let data_dir = data_dir::choose(
            &mut config,
            &DataDirEnv { variable: &variable, is_root: rustix::process::geteuid().is_root(), pid },
        )?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_stack_size(STACK)
            .enable_all()
            .build()
            .map_err(|e| Failure::Failed(format!("cannot start: {e}")))?;
        let notifier = Notifier::from_environment(&variable, pid);
        let reload = (reloadable, log_level);
        let result = runtime.block_on(serve(config, file.as_deref(), passed, reload, &notifier, &data_dir));
        // Blocking work that has not ended (a disk that hangs, a sort) must not delay the exit.
        runtime.shutdown_timeout(BLOCKING);
        result
    }

    fn sources(&self, passed: &PassedListeners) -> Result<Sources, Failure> {
        let mut overrides = Overrides::default();
        overrides.flag("--tcp", "tcp.listen", &self.tcp);
        overrides.flag("--http", "http.listen", &self.http);
        overrides.flag("--broker", "broker", &self.broker);
        overrides.flag("--data-dir", "data_dir", &self.data_dir);
        overrides.flag("--log-level", "log.level", &self.log_level);
        overrides.flag("--log-format", "log.format", &self.log_format);
        for assignment in &self.set {
            overrides.set(assignment)?;
        }
        // Last, so that the checks of the configuration see the addresses that the server will listen on.
        overrides.flag("socket activation (tcp)", "tcp.listen", sockets::addresses(&passed.tcp)?);
        overrides.flag("socket activation (http)", "http.listen", sockets::addresses(&passed.http)?);
        Ok(Sources::new(self.config.clone(), tidings_config::environment()?, overrides))
    }
}

fn level(options: &LogOptions) -> LevelFilter {
    match options.level {
        LogLevel::None => LevelFilter::OFF,
        level => level.as_str().parse().unwrap_or(LevelFilter::INFO),
    }
}

/// Starts logging. Returns a function that sets the level of another configuration.
fn log_to_stderr(options: &LogOptions) -> ProcessOptions {
    let (filter, handle) = reload::Layer::new(level(options));
    let log = fmt::layer().with_writer(io::stderr).with_ansi(colours(&io::stderr()));
    let registry = tracing_subscriber::registry().with(filter);
    match options.format {
        LogFormat::Text => registry.with(log.fmt_fields(log_fields::fields())).with(RecentLog).init(),
        LogFormat::Json => registry.with(log.json()).with(RecentLog).init(),
    }
    Box::new(move |config| {
        // Fails only when the subscriber no longer exists, that is at the end of the process.
        let _ = handle.reload(level(&config.log));
    })
}

async fn serve(
    config: Config,
    file: Option<&Path>,
    passed: PassedListeners,
    (reloadable, log_level): (Reloadable, ProcessOptions),
    notifier: &Notifier,
    data_dir: &data_dir::OpenDataDir,
) -> Result<(), Failure> {
    let (progress, watched) = watch::channel(None);
    let limit = config.shutdown.timeout;
    let signals = supervise(limit, watched)?;
    let is_workbench = config.is_workbench();
    let server = tokio::select! {
        started = Server::start_reloadable(config, passed, Some(reloadable), log_level) => {
            started.map_err(not_started)?
        }
        () = signals.stop() => return Ok(()),
    };
    let _ = progress.send(Some(server.shutdown_progress()));
    server.log_start(file);
    data_dir.log();
    if is_workbench {
        warn!("this is a workbench: no key is configured, so every user of this machine has all permissions");
    }
    if let Err(error) = announce(server.announcements()) {
        warn!(%error, "cannot announce on standard output");
    }
    let status = server.announcements().join(", ");
    notifier.ready(&status);
    loop {
        tokio::select! {
            () = signals.stop() => break,
            () = signals.hangup() => {
                notifier.reloading();
                server.reopen_audit_log();
                // The result is logged.
                match server.reload().await {
                    Ok(_) => notifier.ready(&status),
                    Err(error) => notifier.ready(&format!("{status}; {error}")),
                }
            }
            () = notifier.run_watchdog() => {}
        }
    }
    notifier.stopping(limit);
    server.stop().await;
    Ok(())
}

fn announce(listeners: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for listener in listeners {
        writeln!(out, "{listener}")?;
    }
    writeln!(out, "ready")?;
    out.flush()
}

/// The failure of a server that did not start.
fn not_started(error: StartError) -> Failure {
    if error.is_configuration() { Failure::Usage(error.to_string()) } else { Failure::new(error) }
}
