//! Reloads the configuration of a running server: reads the sources again, applies what can be applied, and reports it.
//!
//! [`Reloader`] takes requests (`SIGHUP`, the server API); [`ReloadTask`] carries them out one after another with an
//! [`Apply`] of the server. [`LiveConfig`] is the configuration that the server runs with.
//!
//! Invariants:
//! - A reload takes effect completely or not at all: with any error nothing changes, and the error has every reason.
//! - Two reloads never run at the same time. Requests that wait are answered by the next reload together.
//! - No log entry and no response contains the value of an option.
//! - The number of waiting requests is bounded ([`MAX_WAITING`]), and so is the time of a request ([`TIMEOUT`]).

mod live;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde::Serialize;
use thiserror::Error;
use tidings_config::{BrokerUrl, Config, Reloaded, Sources};
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, SECONDS, labels};
use tidings_wire::Secret;
use tokio::sync::{mpsc, oneshot};

pub use live::LiveConfig;

/// Most requests that wait for a reload; further ones are rejected.
pub const MAX_WAITING: usize = 64;
/// The option with the key of messages between nodes.
const CLUSTER_SECRET: &str = "cluster.secret";
/// Longest time of a request. The reload itself continues.
pub const TIMEOUT: Duration = Duration::from_secs(30);

labels! {
    /// The result of a reload.
    enum ReloadResult {
        /// The new configuration is in use.
        Success => "success",
        /// Nothing has changed.
        Failure => "failure",
    }
}

/// The effect of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// The options with new values, and the namespaces and API keys that were added or removed.
    pub changed: Vec<String>,
    /// The options with new values that need a restart; `cluster.secret` also where it is not set and the key from which it is
    /// derived has changed.
    pub restart_required: Vec<String>,
    /// Settings without an effect.
    pub warnings: Vec<String>,
    /// The digest of the configuration in use.
    pub hash: String,
}

/// Why a reload has changed nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReloadError {
    /// The server was started without sources that can be read again.
    #[error("this server was started without sources of a configuration that can be read again")]
    NoSources,
    /// The configuration cannot be used, for these reasons: one a line.
    #[error("the configuration was not reloaded and nothing has changed: {0}")]
    Invalid(String),
    /// Too many requests wait.
    #[error("too many requests for a reload wait; try again later")]
    TooMany,
    /// The reload has not ended in time.
    #[error("the reload takes longer than 30 s and goes on")]
    Timeout,
    /// The server stops.
    #[error("the server is stopping")]
    Stopped,
}

/// Applies a configuration to the parts of a server.
pub trait Apply: Send + Sync + 'static {
    /// Applies a configuration, completely or not at all. May block.
    ///
    /// # Errors
    /// The reasons, one each, if parts cannot use it. Nothing has changed then.
    fn apply(&self, config: &Arc<Config>) -> Result<(), Vec<String>>;
}

/// The sources of a running server.
#[derive(Clone, Debug)]
pub struct Reloadable {
    /// The sources of the start.
    pub sources: Sources,
    /// The configuration as it was read at the start, before the process changed anything in it.
    pub loaded: Config,
}

type Request = oneshot::Sender<Result<ReloadReport, ReloadError>>;

/// Takes requests for reloads, and counts their results. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloader {
    requests: mpsc::Sender<Request>,
    state: Arc<ReloadState>,
}

#[derive(Debug)]
struct ReloadState {
    results: KeyedCounters<ReloadResult>,
    /// When the configuration in use was read, in Unix seconds.
    last_success: AtomicU64,
    is_last_successful: AtomicU64,
    digest: ArcSwap<String>,
}

/// Carries out reloads, see [`ReloadTask::run`].
#[derive(Debug)]
pub struct ReloadTask {
    requests: mpsc::Receiver<Request>,
    reloadable: Option<Reloadable>,
    cluster_key: SharedKey,
    live: LiveConfig,
    state: Arc<ReloadState>,
}

/// The key from which the key of messages between nodes was derived at the start, with its option. It may come from an option
/// that is reloadable, such as `http_api.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SharedKey(Option<(&'static str, Secret)>);

impl SharedKey {
    fn from_config(config: &Config) -> Self {
        Self(config.cluster_key().map(|(option, key)| (option, Secret::new(key))))
    }

    /// Adds to the report that a configuration derives another key, which applies after a restart.
    fn compare(&self, config: &Config, report: &mut ReloadReport) {
        if config.broker == BrokerUrl::Memory || *self == Self::from_config(config) {
            return;
        }
        let option = CLUSTER_SECRET.to_owned();
        if report.restart_required.contains(&option) {
            return;
        }
        report.restart_required.push(option);
        let source = self.0.as_ref().map_or("no key", |(option, _)| option);
        report.warnings.push(format!(
            "{CLUSTER_SECRET} is not set: until a restart, the key of messages between nodes stays the one that was derived \
             from {source} at the start, and nodes that start now do not accept messages of this node; set {CLUSTER_SECRET}, \
             and restart the nodes one after another"
        ));
    }
}

/// The two ends of reloads for a server with this configuration. Without `reloadable` every request is rejected.
pub fn reloader(live: LiveConfig, reloadable: Option<Reloadable>) -> (Reloader, ReloadTask) {
    let (sender, requests) = mpsc::channel(MAX_WAITING);
    let state = Arc::new(ReloadState {
        results: KeyedCounters::default(),
        last_success: AtomicU64::new(now()),
        is_last_successful: AtomicU64::new(1),
        digest: ArcSwap::from_pointee(live.load().digest()),
    });
    let cluster_key = SharedKey::from_config(&live.load());
    let task = ReloadTask { requests, reloadable, cluster_key, live, state: Arc::clone(&state) };
    (Reloader { requests: sender, state }, task)
}

impl Reloader {
    /// Reads the configuration again and applies it.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub async fn reload(&self) -> Result<ReloadReport, ReloadError> {
        let (sender, report) = oneshot::channel();
        self.requests.try_send(sender).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReloadError::TooMany,
            mpsc::error::TrySendError::Closed(_) => ReloadError::Stopped,
        })?;
        match tokio::time::timeout(TIMEOUT, report).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ReloadError::Stopped),
            Err(_) => Err(ReloadError::Timeout),
        }
    }
}

impl ReloadTask {
    /// Carries out requests until the task is cancelled.
    pub async fn run(mut self, apply: impl Apply) {
        let apply = Arc::new(apply);
        let mut requests = Vec::new();
        while self.requests.recv_many(&mut requests, MAX_WAITING).await > 0 {
            let result = self.reload(&apply).await;
            for request in requests.drain(..) {
                // A request that has timed out has no receiver.
                let _ = request.send(result.clone());
            }
        }
    }

    async fn reload(&mut self, apply: &Arc<impl Apply>) -> Result<ReloadReport, ReloadError> {
        let Some(reloadable) = self.reloadable.take() else { return Err(ReloadError::NoSources) };
        let (apply, live, cluster_key) = (Arc::clone(apply), self.live.clone(), self.cluster_key.clone());
        // Reading files can block for long.
        let done = tokio::task::spawn_blocking(move || {
            let before = reloadable.loaded.clone();
            let result = read_and_apply(&reloadable, &live, &cluster_key, &*apply);
            let loaded = result.as_ref().map_or(before, |(_, loaded)| loaded.clone());
            (Reloadable { loaded, ..reloadable }, result.map(|(report, _)| report))
        });
        let Ok((reloadable, result)) = done.await else { return Err(ReloadError::Stopped) };
        self.reloadable = Some(reloadable);
        self.state.record(&result);
        log(&result);
        result
    }
}

/// Returns the report, and the configuration as it was read.
fn read_and_apply(
    reloadable: &Reloadable,
    live: &LiveConfig,
    cluster_key: &SharedKey,
    apply: &impl Apply,
) -> Result<(ReloadReport, Config), ReloadError> {
    let invalid = |lines: Vec<String>| ReloadError::Invalid(lines.join("\n"));
    let Reloaded { config: loaded, changed, restart_required, warnings } =
        reloadable.sources.reload(&reloadable.loaded).map_err(|errors| invalid(errors.lines().collect()))?;
    let config = Arc::new(loaded.clone().with_fixed_options_of(&live.load()));
    apply.apply(&config).map_err(invalid)?;
    let mut report = ReloadReport { changed, restart_required, warnings, hash: config.digest() };
    cluster_key.compare(&config, &mut report);
    live.store(config);
    Ok((report, loaded))
}

impl ReloadState {
    fn record(&self, result: &Result<ReloadReport, ReloadError>) {
        self.is_last_successful.store(u64::from(result.is_ok()), Ordering::Relaxed);
        match result {
            Ok(report) => {
                self.results.add(ReloadResult::Success);
                self.last_success.store(now(), Ordering::Relaxed);
                self.digest.store(Arc::new(report.hash.clone()));
            }
            Err(_) => {
                self.results.add(ReloadResult::Failure);
            }
        }
    }
}

fn log(result: &Result<ReloadReport, ReloadError>) {
    match result {
        Ok(report) => {
            tracing::info!(changed = ?report.changed, hash = report.hash, "the configuration was reloaded");
            if !report.restart_required.is_empty() {
                tracing::warn!(
                    restart_required = ?report.restart_required,
                    "these options have new values that need a restart; until then the values of the start apply"
                );
            }
            for warning in &report.warnings {
                tracing::warn!("{warning}");
            }
        }
        Err(ReloadError::Invalid(reasons)) => {
            for reason in reasons.lines() {
                tracing::error!(reason, "the configuration was not reloaded and nothing has changed");
            }
        }
        Err(error) => tracing::error!(%error, "the configuration was not reloaded"),
    }
}

impl Collect for Reloader {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let state = &self.state;
        out.counters(
            "tidings_config_reloads",
            "Reloads of the configuration, by result; a failed one changes nothing",
            "result",
            state.results.iter(),
        )?;
        out.gauge(
            "tidings_config_last_reload_successful",
            None,
            "Whether the last reload of the configuration succeeded (1) or failed (0); 1 before the first one",
            state.is_last_successful.load(Ordering::Relaxed),
        )?;
        out.gauge(
            "tidings_config_last_reload_success_timestamp",
            SECONDS,
            "When the configuration in use was read, since the Unix epoch",
            state.last_success.load(Ordering::Relaxed),
        )?;
        let digest = state.digest.load();
        out.info(
            "tidings_config",
            "The digest of the configuration in use, without secrets; equal on nodes with equal options",
            ("hash", digest.as_str()),
        )
    }
}

/// The time in Unix seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Mutex;

    use tidings_config::Overrides;

    use super::*;

    /// Records the applied values of an option. Fails while one of them is forbidden.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<usize>>);

    impl Apply for Arc<Recorder> {
        fn apply(&self, config: &Arc<Config>) -> Result<(), Vec<String>> {
            let limit = config.client.channel_limit;
            if limit == 13 {
                return Err(vec!["13 cannot be used".into(), "and this neither".into()]);
            }
            self.0.lock().expect("no panic").push(limit);
            Ok(())
        }
    }

    struct Running {
        path: PathBuf,
        _folder: tempfile::TempDir,
        reloader: Reloader,
        live: LiveConfig,
        applied: Arc<Recorder>,
    }

    fn start(text: &str) -> Running {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).expect("a file");
        let sources = Sources::new(Some(path.clone()), Vec::new(), Overrides::default());
        let loaded = sources.load().expect("valid").config;
        let live = LiveConfig::new(loaded.clone());
        let (reloader, task) = reloader(live.clone(), Some(Reloadable { sources, loaded }));
        let applied = Arc::<Recorder>::default();
        tokio::spawn(task.run(Arc::clone(&applied)));
        Running { path, _folder: folder, reloader, live, applied }
    }

    #[tokio::test]
    async fn a_reload_applies_everything_or_nothing() {
        let running = start("client.channel_limit = 10\n");
        let write = |text: &str| std::fs::write(&running.path, text).expect("a file");
        let before = running.live.load().digest();
        write("client.channel_limit = 11\nshards = 3\n");
        let report = running.reloader.reload().await.expect("a reload");
        assert_eq!(report.changed, ["client.channel_limit"]);
        assert_eq!(report.restart_required, ["shards"]);
        assert!(report.hash == running.live.load().digest() && report.hash != before);
        for (text, reason) in [
            ("client.channel_limit = 0\n", "expected 1 to 1000000"),
            ("client.channel_limit = 13\n", "13 cannot be used\nand this neither"),
        ] {
            write(text);
            let error = running.reloader.reload().await.expect_err(text).to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(running.live.load().client.channel_limit, 11);
        }
        assert_eq!(*running.applied.0.lock().expect("no panic"), [11]);
        let state = &running.reloader.state;
        assert_eq!([ReloadResult::Success, ReloadResult::Failure].map(|r| state.results.get(r)), [1, 2]);
    }

    #[tokio::test]
    async fn a_derived_key_of_messages_between_nodes_needs_a_restart_at_every_reload() {
        let redis = "broker = \"redis://127.0.0.1:1\"\n";
        let running = start(&format!("{redis}http_api.key = \"first-0123456789\"\n"));
        let reload = async |text: String| {
            std::fs::write(&running.path, text).expect("a file");
            running.reloader.reload().await.expect("a reload")
        };
        for changed in [vec!["http_api.key"], vec![]] {
            let report = reload(format!("{redis}http_api.key = \"second-0123456789\"\n")).await;
            assert_eq!(
                (report.changed, report.restart_required),
                (changed.iter().map(|key| (*key).to_owned()).collect(), vec!["cluster.secret".to_owned()])
            );
            let warning =
                report.warnings.iter().find(|line| line.starts_with("cluster.secret")).expect("a warning");
            assert!(
                warning.contains("derived from http_api.key at the start") && !warning.contains("0123"),
                "{warning}"
            );
        }
        let report = reload(format!("{redis}http_api.key = \"first-0123456789\"\n")).await;
        assert_eq!((report.restart_required, report.warnings), (vec![], vec![]));
        // A secret that is set now needs a restart like every option without the mark `reload`.
        let report = reload(format!(
            "{redis}http_api.key = \"first-0123456789\"\ncluster.secret = \"0123456789abcdef\"\n"
        ))
        .await;
        assert_eq!(report.restart_required, ["cluster.secret"]);
        // A node without a broker has no messages to other nodes.
        let alone = start("http_api.key = \"first-0123456789\"\n");
        std::fs::write(&alone.path, "http_api.key = \"second-0123456789\"\n").expect("a file");
        let report = alone.reloader.reload().await.expect("a reload");
        assert_eq!((report.changed, report.restart_required), (vec!["http_api.key".to_owned()], vec![]));
    }

    #[tokio::test]
    async fn requests_at_the_same_time_are_answered_together_and_a_bound_applies() {
        let running = start("");
        let mut requests: Vec<_> = Vec::new();
        for _ in 0..MAX_WAITING {
            requests.push(Box::pin(running.reloader.reload()));
        }
        let all = async {
            let mut results = Vec::new();
            for request in requests {
                results.push(request.await);
            }
            results
        };
        assert!(all.await.iter().all(Result::is_ok));
        let (none, task) = reloader(running.live.clone(), None);
        let waiting: Vec<_> =
            (0..MAX_WAITING).map(|_| none.requests.try_send(oneshot::channel().0)).collect();
        assert!(waiting.iter().all(Result::is_ok));
        assert_eq!(none.reload().await, Err(ReloadError::TooMany));
        tokio::spawn(task.run(Arc::clone(&running.applied)));
        while none.reload().await != Err(ReloadError::NoSources) {
            tokio::task::yield_now().await;
        }
    }
}
