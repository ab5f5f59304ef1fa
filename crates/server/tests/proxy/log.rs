//! Everything that this process logs, whatever its level.

use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static KEPT: Mutex<String> = Mutex::new(String::new());
static BEGIN: Once = Once::new();

/// Begins to keep what is logged.
pub(crate) fn keep() {
    BEGIN.call_once(|| tracing::subscriber::set_global_default(Keeper).expect("no other"));
}

/// What was logged since, by all tests together, an entry a line.
pub(crate) fn kept() -> String {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

struct Keeper;

impl Subscriber for Keeper {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        of.target().starts_with("tidings")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_str(&line.0);
        kept.push('\n');
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).expect("text takes everything");
    }
}
