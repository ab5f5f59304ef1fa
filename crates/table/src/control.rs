//! How a long operation is watched and stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Error;

/// A token that stops an operation; clones stop the same one.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Makes the operation return [`Error::Cancelled`] within some milliseconds; while a sort orders its keys in
    /// memory, within a hundred or two.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was used.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Progress and cancellation of a running operation.
///
/// The default watches nothing and never stops.
#[derive(Clone, Copy, Default)]
pub struct Control<'a> {
    cancel: Option<&'a Cancel>,
    progress: Option<&'a (dyn Fn(f32) + Sync)>,
}

impl<'a> Control<'a> {
    /// Stops the operation when `cancel` is used.
    #[must_use]
    pub const fn cancelled_by(self, cancel: &'a Cancel) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// Calls `progress` with the completed part, from 0 to 1, never less than before: some hundred to some thousand
    /// times a second, on any thread of the operation. The callback limits how often a user sees it.
    #[must_use]
    pub const fn with_progress(self, progress: &'a (dyn Fn(f32) + Sync)) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// The same without progress: for a step of an operation that reports progress itself.
    pub(crate) const fn without_progress(self) -> Self {
        Self { progress: None, ..self }
    }

    /// Tells that `done` of `of` is done, scaled into `span`.
    pub(crate) fn report(&self, done: u64, of: u64, span: (f32, f32)) {
        if let Some(progress) = self.progress {
            let part = if of == 0 { 1.0 } else { done as f32 / of as f32 };
            progress(span.0 + (span.1 - span.0) * part.min(1.0));
        }
    }

    /// An error if the operation is to stop.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.cancel {
            Some(cancel) if cancel.is_cancelled() => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }
}
