//! Live traces: what happens for one user or in one channel of this node, as lines of JSON in bounded queues.
//!
//! A reader of the server API begins a trace; the data plane records events while there is one.
//!
//! Invariants:
//! - Without a trace an event costs one relaxed load ([`Traces::is_active`]); nothing is formatted or locked.
//! - Recording never blocks on a reader: a full queue drops its newest events, and the reader gets their number.
//! - There are at most [`MAX_TRACES`] traces at a time, and each of them has at most [`MAX_QUEUED`] bytes of events.
//! - A trace ends at its time and when the server stops ([`TraceEnd`]), also if its reader does not read.
//! - No event contains the data of a publication, a token or a secret.

mod record;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::sync::{Notify, watch};

pub use record::{MAX_TEXT, TraceEvent, TraceKind};

/// Most traces at a time.
pub const MAX_TRACES: usize = 16;
/// Most bytes of events that wait for the reader of a trace.
pub const MAX_QUEUED: usize = 256 << 10;

/// What a trace is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceSubject {
    /// A user, by id; not empty.
    User(String),
    /// A channel, by name.
    Channel(String),
}

impl TraceSubject {
    fn includes(&self, event: &TraceEvent<'_>) -> bool {
        match self {
            Self::User(user) => event.user == Some(user),
            Self::Channel(channel) => event.channel == Some(channel),
        }
    }
}

/// There are too many traces.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{MAX_TRACES} traces are running; try again when one has ended")]
pub struct TooManyTraces;

/// The traces of a node.
#[derive(Debug, Default)]
pub struct Traces {
    active: AtomicUsize,
    /// No trace begins any more.
    closed: AtomicBool,
    /// Events of all threads read it at the same time.
    running: RwLock<Vec<Arc<Shared>>>,
}

/// The state that a trace shares with its reader.
#[derive(Debug)]
struct Shared {
    subject: TraceSubject,
    queue: Mutex<Queue>,
    filled: Notify,
    /// Whether no event is recorded any more: the trace has ended, or its reader was dropped.
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Lines of JSON, each with its line end.
    lines: String,
    /// Events that did not fit.
    dropped: u64,
}

impl Traces {
    /// Whether there is a trace, so that events must be recorded.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// Begins a trace. It ends when its reader is dropped.
    ///
    /// # Errors
    /// [`TooManyTraces`].
    pub fn begin(self: &Arc<Self>, subject: TraceSubject) -> Result<TraceReader, TooManyTraces> {
        let mut running = self.write();
        if running.len() >= MAX_TRACES {
            return Err(TooManyTraces);
        }
        let ended = watch::Sender::new(self.closed.load(Ordering::Relaxed));
        let shared = Arc::new(Shared { subject, queue: Mutex::default(), filled: Notify::new(), ended });
        running.push(Arc::clone(&shared));
        self.active.store(running.len(), Ordering::Relaxed);
        Ok(TraceReader { traces: Arc::clone(self), shared })
    }

    /// Records an event for the traces that include it.
    pub fn record(&self, event: &TraceEvent<'_>) {
        let running = self.read();
        let mut line = None;
        for trace in running.iter().filter(|trace| trace.subject.includes(event)) {
            let line = line.get_or_insert_with(|| event.to_line(unix_millis()));
            trace.push(line);
        }
    }

    /// Ends all traces, because the server stops.
    pub fn close(&self) {
        let mut running = self.write();
        self.closed.store(true, Ordering::Relaxed);
        running.drain(..).for_each(|trace| trace.end());
        self.active.store(0, Ordering::Relaxed);
    }

    /// Ends one trace.
    fn end(&self, ending: &Arc<Shared>) {
        let mut running = self.write();
        running.retain(|trace| !Arc::ptr_eq(trace, ending));
        self.active.store(running.len(), Ordering::Relaxed);
        drop(running);
        ending.end();
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<Shared>>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<Shared>>> {
        self.running.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn end(&self) {
        self.ended.send_replace(true);
        self.filled.notify_one();
    }

    fn push(&self, line: &str) {
        let mut queue = lock(&self.queue);
        if queue.dropped > 0 || queue.lines.len() + line.len() > MAX_QUEUED {
            queue.dropped += 1;
        } else {
            queue.lines.push_str(line);
        }
        drop(queue);
        self.filled.notify_one();
    }
}

/// Reads the events of a trace, which ends when the reader is dropped.
#[derive(Debug)]
pub struct TraceReader {
    traces: Arc<Traces>,
    shared: Arc<Shared>,
}

impl TraceReader {
    /// A handle that ends the trace while its reader is in use elsewhere.
    pub fn end_handle(&self) -> TraceEnd {
        TraceEnd { traces: Arc::clone(&self.traces), shared: Arc::clone(&self.shared) }
    }

    /// Waits for events. Returns them as lines of JSON, the last one with the number of dropped events if there are any; `None`
    /// when the trace has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let filled = self.shared.filled.notified();
            {
                let mut queue = lock(&self.shared.queue);
                let mut lines = std::mem::take(&mut queue.lines);
                let dropped = std::mem::take(&mut queue.dropped);
                if dropped > 0 {
                    let event = TraceEvent { count: Some(dropped), ..TraceEvent::new(TraceKind::Dropped) };
                    lines += &event.to_line(unix_millis());
                }
                if !lines.is_empty() {
                    return Some(lines);
                }
                if *self.shared.ended.borrow() {
                    return None;
                }
            }
            filled.await;
        }
    }
}

impl Drop for TraceReader {
    fn drop(&mut self) {
        self.traces.end(&self.shared);
    }
}

/// Ends a trace whose reader may not read.
#[derive(Debug)]
pub struct TraceEnd {
    traces: Arc<Traces>,
    shared: Arc<Shared>,
}

impl TraceEnd {
    /// Waits until the trace has ended: its reader was dropped, or the server stops. Cancel safe.
    pub async fn ended(&self) {
        // The sender is in `shared`, so that the channel is open.
        let _ = self.shared.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Ends the trace: another one may begin. The reader gets the events that are queued, and then `None`.
    pub fn end(&self) {
        self.traces.end(&self.shared);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> TraceSubject {
        TraceSubject::User(name.to_owned())
    }

    fn event<'a>(user: &'a str, channel: &'a str) -> TraceEvent<'a> {
        TraceEvent { user: Some(user), channel: Some(channel), ..TraceEvent::new(TraceKind::Subscribed) }
    }

    #[tokio::test]
    async fn a_trace_has_the_events_of_its_subject_alone() {
        let traces = Arc::<Traces>::default();
        let mut ann = traces.begin(user("ann")).expect("a trace");
        let mut news = traces.begin(TraceSubject::Channel("news".into())).expect("a trace");
        traces.record(&event("bob", "sport"));
        traces.record(&event("ann", "sport"));
        traces.record(&event("bob", "news"));
        let lines = ann.next().await.expect("events");
        assert!(lines.contains("\"channel\":\"sport\"") && lines.lines().count() == 1, "{lines}");
        let lines = news.next().await.expect("events");
        assert!(lines.contains("\"user\":\"bob\"") && lines.lines().count() == 1, "{lines}");
    }

    #[test]
    fn nothing_is_active_before_a_trace_begins_and_after_it_ends() {
        let traces = Arc::<Traces>::default();
        assert!(!traces.is_active());
        let readers: Vec<_> = (0..MAX_TRACES).map(|_| traces.begin(user("ann")).expect("a trace")).collect();
        assert!(traces.is_active());
        assert_eq!(traces.begin(user("ann")).err(), Some(TooManyTraces));
        drop(readers);
        assert!(!traces.is_active());
        assert!(traces.begin(user("ann")).is_ok());
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_gets_the_number_of_dropped_events_within_the_bound() {
        let traces = Arc::<Traces>::default();
        let mut reader = traces.begin(user("ann")).expect("a trace");
        let total = 10_000;
        for _ in 0..total {
            traces.record(&event("ann", "news"));
        }
        let lines = reader.next().await.expect("events");
        assert!(lines.len() <= MAX_QUEUED + 1024, "{}", lines.len());
        let last: serde_json::Value =
            serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["event"], "dropped");
        let delivered = lines.lines().count() as u64 - 1;
        assert_eq!(delivered + last["count"].as_u64().expect("a number"), total);
        traces.record(&event("ann", "news"));
        assert!(reader.next().await.expect("events").contains("subscribed"));
    }

    #[tokio::test]
    async fn a_trace_that_has_ended_makes_room_for_another_one_while_its_reader_does_not_read() {
        let traces = Arc::<Traces>::default();
        let mut readers: Vec<_> =
            (0..MAX_TRACES).map(|_| traces.begin(user("ann")).expect("a trace")).collect();
        traces.record(&event("ann", "news"));
        let end = readers[0].end_handle();
        end.end();
        end.ended().await;
        let next = traces.begin(user("bob")).expect("a trace");
        traces.record(&event("ann", "sport"));
        assert!(readers[0].next().await.is_some_and(|lines| lines.lines().count() == 1));
        assert_eq!(readers[0].next().await, None);
        drop(readers);
        assert!(traces.is_active());
        drop(next);
        assert!(!traces.is_active());
    }

    #[tokio::test]
    async fn the_stop_of_the_server_ends_traces() {
        let traces = Arc::<Traces>::default();
        let mut reader = traces.begin(user("ann")).expect("a trace");
        traces.close();
        assert_eq!(reader.next().await, None);
        assert_eq!(traces.begin(user("bob")).expect("a trace").next().await, None);
    }
}
