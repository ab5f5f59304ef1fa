//! Signals and the shutdown deadline of `tidings serve`, on a separate thread.
//!
//! Invariants:
//! - Nothing that blocks the server (its runtime, a shard, a log without a reader) delays a second signal or the end of
//!   the process at the shutdown deadline.
//! - `SIGHUP` never ends the process.

use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{process, thread};

use tidings_server::ShutdownProgress;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::interrupt::block_on;

/// The time for writing the last log line of a process that is ended by force.
const LAST_LOG_TIMEOUT: Duration = Duration::from_millis(200);

/// Signals from the supervisor to the server.
pub(crate) struct Signals {
    stop: watch::Receiver<bool>,
    hangup: Arc<Notify>,
}

impl Signals {
    /// Completes at the first `SIGINT` or `SIGTERM`.
    pub(crate) async fn stop(&self) {
        // The sender exists until the process ends.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Completes at a `SIGHUP`.
    pub(crate) async fn hangup(&self) {
        self.hangup.notified().await;
    }
}

/// Starts the supervisor. After the first signal to stop, the process ends with exit code 1 at a second one, or if it
/// still runs `limit` later; `progress` then returns the pending work for the log.
///
/// # Errors
/// When signals cannot be watched or the thread cannot be started.
pub(crate) fn supervise(
    limit: Duration,
    progress: watch::Receiver<Option<ShutdownProgress>>,
) -> Result<Signals, Failure> {
    let (stop, stopped) = watch::channel(false);
    let hangup = Arc::new(Notify::new());
    let (watching, watched) = mpsc::channel();
    let hung_up = Arc::clone(&hangup);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let _ = block_on(async {
                let kinds = match SignalStreams::watch() {
                    Ok(kinds) => kinds,
                    Err(failure) => {
                        let _ = watching.send(Err(failure));
                        return Ok(());
                    }
                };
                let _ = watching.send(Ok(()));
                run(kinds, limit, &stop, &hung_up, &progress).await
            });
        })
        .map_err(|e| Failure::Failed(format!("cannot handle signals: {e}")))?;
    watched.recv().map_err(|_| Failure::Failed("cannot handle signals".to_owned()))??;
    Ok(Signals { stop: stopped, hangup })
}

struct SignalStreams {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl SignalStreams {
    fn watch() -> Result<Self, Failure> {
        let watch = |kind| signal(kind).map_err(|e| Failure::Failed(format!("cannot handle signals: {e}")));
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }

    /// Completes at a signal to stop; forwards each `SIGHUP` until then.
    async fn stop(&mut self, hung_up: &Notify) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => hung_up.notify_one(),
            }
        }
    }
}

async fn run(
    mut kinds: SignalStreams,
    limit: Duration,
    stop: &watch::Sender<bool>,
    hung_up: &Notify,
    progress: &watch::Receiver<Option<ShutdownProgress>>,
) -> Result<(), Failure> {
    kinds.stop(hung_up).await;
    let _ = stop.send(true);
    match timeout(limit, kinds.stop(hung_up)).await {
        Ok(()) => end_process(|| {
            Failure::Failed("ended at once by a second signal".to_owned()).report();
        }),
        Err(_) => {
            let under_way =
                progress.borrow().as_ref().map_or_else(|| "starting".to_owned(), ToString::to_string);
            end_process(move || {
                tracing::error!(
                    under_way,
                    ?limit,
                    "shutdown.timeout is over and the server has not stopped; the process ends"
                );
            })
        }
    }
}

/// Ends the process with exit code 1 after `log`, which may block: standard error may be a full pipe.
fn end_process(log: impl FnOnce() + Send + 'static) -> ! {
    let (sender, logged) = mpsc::channel();
    let started = thread::Builder::new().spawn(move || {
        log();
        let _ = sender.send(());
    });
    if started.is_ok() {
        let _ = logged.recv_timeout(LAST_LOG_TIMEOUT);
    }
    process::exit(1)
}
