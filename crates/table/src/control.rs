//! Progress and cancellation of long operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Error;

/// A token that cancels an operation. Clones cancel the same one.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Cancels the operation, which returns [`Error::Cancelled`] within some milliseconds; while a sort orders keys in
    /// memory, within 200 ms.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Progress and cancellation of a running operation.
///
/// The default reports no progress and is never cancelled.
#[derive(Clone, Copy, Default)]
pub struct Control<'a> {
    cancel: Option<&'a Cancel>,
    progress: Option<&'a (dyn Fn(f32) + Sync)>,
}

impl<'a> Control<'a> {
    /// Cancels the operation with `cancel`.
    #[must_use]
    pub const fn cancelled_by(self, cancel: &'a Cancel) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// Calls `progress` with the completed fraction, from 0 to 1 and never decreasing: some hundred to some thousand
    /// times per second, on any thread of the operation. The callback limits how often it is displayed.
    #[must_use]
    pub const fn with_progress(self, progress: &'a (dyn Fn(f32) + Sync)) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Without progress: for a step of an operation that reports progress itself.
    pub(crate) const fn without_progress(self) -> Self {
        Self { progress: None, ..self }
    }

    /// Reports that `done` of `of` is completed, scaled to `span`.
    pub(crate) fn report(&self, done: u64, of: u64, span: (f32, f32)) {
        if let Some(progress) = self.progress {
            let part = if of == 0 { 1.0 } else { done as f32 / of as f32 };
            progress(span.0 + (span.1 - span.0) * part.min(1.0));
        }
    }

    /// Returns an error if the operation was cancelled.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn check(&self) -> Result<(), Error> {
        match self.cancel {
            Some(cancel) if cancel.is_cancelled() => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }
}
