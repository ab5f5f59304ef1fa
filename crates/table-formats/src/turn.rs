//! Conversions that hold much memory run one at a time in a process.

use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

static TURN: Mutex<()> = Mutex::new(());

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until no other conversion runs. `check` is called repeatedly and cancels the wait by an error.
///
/// # Errors
/// The error of `check`.
pub(crate) fn wait<E>(mut check: impl FnMut() -> Result<(), E>) -> Result<MutexGuard<'static, ()>, E> {
    loop {
        match TURN.try_lock() {
            Ok(turn) => return Ok(turn),
            Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
            Err(TryLockError::WouldBlock) => {
                check()?;
                std::thread::sleep(PAUSE);
            }
        }
    }
}
