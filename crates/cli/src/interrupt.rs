//! Ctrl-C and its like, for commands that end in good order when they are asked to.

use std::future::Future;
use std::time::Duration;
use std::{process, thread};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::failure::Failure;

/// A runtime for a command that waits for one or a few connections: everything on the calling thread.
///
/// # Errors
/// [`Failure::Failed`] when the system refuses the few descriptors it needs.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("cannot start: {e}")))?;
    let result = runtime.block_on(work);
    // A name look-up that hangs must not hold the process.
    runtime.shutdown_background();
    result
}

/// Completes at SIGINT or SIGTERM. The process ends with exit code `code` at a second one, or when it has not ended
/// `grace` later.
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
        .map_err(|e| Failure::Failed(format!("cannot watch for signals: {e}")))?;
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
    // A command that ends already has dropped the receiver.
    let _ = sender.send(());
    let _ = timeout(grace, asked()).await;
    Ok(())
}
