//! Handling of SIGINT and SIGTERM for commands that end cleanly.

use std::future::Future;
use std::time::Duration;
use std::{process, thread};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::failure::Failure;

/// Runs a command that waits for a few connections on the calling thread.
///
/// # Errors
/// [`Failure::Failed`] when the runtime cannot be started.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("cannot start: {e}")))?;
    let result = runtime.block_on(work);
    // A name lookup that hangs must not delay the exit.
    runtime.shutdown_background();
    result
}

/// Completes at SIGINT or SIGTERM. The process ends with exit code `code` at a second one, or `grace` after the first.
///
/// A separate thread handles the signal, because a command may be blocked in a write to a stdout without a reader.
///
/// # Errors
/// [`Failure::Failed`] when the thread cannot be started.
pub(crate) fn interrupted(code: u8, grace: Duration) -> Result<oneshot::Receiver<()>, Failure> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || match block_on(watch(sender, grace)) {
            Ok(()) => process::exit(code.into()),
            Err(failure) => {
                failure.report();
                process::exit(1);
            }
        })
        .map_err(|e| Failure::Failed(format!("cannot handle signals: {e}")))?;
    Ok(receiver)
}

async fn watch(sender: oneshot::Sender<()>, grace: Duration) -> Result<(), Failure> {
    let mut int = signal(SignalKind::interrupt()).map_err(Failure::new)?;
    let mut term = signal(SignalKind::terminate()).map_err(Failure::new)?;
    let mut asked = async || {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
    };
    asked().await;
    // A command that is already ending has dropped the receiver.
    let _ = sender.send(());
    let _ = timeout(grace, asked()).await;
    Ok(())
}
