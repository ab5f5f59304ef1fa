//! The state of one stream: its permit while it is a request, and its tasks.
//!
//! hyper runs the response of a stream as a task, and the output of a WebSocket as another one. [`StreamExecutor`] spawns
//! them and keeps handles, because dropping the task of a stream is the way to reset the stream.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use hyper::rt::Executor;
use tidings_shard::{PipeEnd, Socket};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::data_rate::{DataRateMonitor, WaitingFor};
use super::super::forwarded::Peer;
use super::super::limiter::HttpPermit;
use super::connection::Connection;

/// The time for the client of an ended session to read its last bytes.
const LAST_BYTES: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// The stream of the current task.
    static CURRENT: Arc<StreamContext>;
}

/// One stream.
#[derive(Debug)]
pub(crate) struct StreamContext {
    connection: Arc<Connection>,
    permit: Mutex<Option<Arc<HttpPermit>>>,
    /// The monitor of the request, once it has a permit.
    monitor: OnceLock<Arc<DataRateMonitor>>,
    /// The request has ended, or has become a session.
    has_ended: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl StreamContext {
    /// A new stream, which begins as a request.
    pub(super) fn new(connection: &Arc<Connection>) -> Arc<Self> {
        let permit = connection.begin_request();
        Arc::new(Self {
            connection: Arc::clone(connection),
            permit: Mutex::new(permit),
            monitor: OnceLock::new(),
            has_ended: AtomicBool::new(false),
            tasks: Mutex::default(),
        })
    }

    pub(crate) fn peer(&self) -> Peer {
        self.connection.peer
    }

    /// Waits for the permit of the request.
    pub(super) async fn acquire_permit(&self) -> Option<Arc<HttpPermit>> {
        let own = || self.permit.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let permit = match own() {
            Some(permit) => permit,
            None => {
                let permit = self.connection.acquire_permit().await?;
                *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&permit));
                permit
            }
        };
        let _ = self.monitor.set(Arc::clone(&permit.monitor));
        Some(permit)
    }

    pub(super) fn rejection(&self) -> Response {
        self.connection.rejection()
    }

    pub(super) fn count_response(&self, status: StatusCode) {
        self.connection.count_response(status);
    }

    /// The monitor of the request.
    pub(super) fn monitor(&self) -> Option<&Arc<DataRateMonitor>> {
        self.monitor.get()
    }

    /// Ends the request: its permit is free. Does nothing for a request that has ended.
    fn end_request(&self) {
        if !self.has_ended.swap(true, Ordering::Relaxed) {
            let permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.connection.end_request(permit);
        }
    }

    /// Turns the request into a session, which no limit of HTTP applies to.
    pub(crate) fn begin_session(self: &Arc<Self>) -> SessionGuard {
        self.connection.begin_session();
        self.end_request();
        SessionGuard(Arc::clone(self))
    }

    /// Spawns a task that ends with the stream.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.add_task(self.connection.runtime.spawn(task).abort_handle());
    }

    fn add_task(&self, task: AbortHandle) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // A handle keeps the memory of its task.
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Resets the stream, unless it has ended.
    fn abort(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// Resets the stream if its last bytes are not read in time.
    pub(super) fn abort_late(self: &Arc<Self>) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.iter().all(AbortHandle::is_finished) {
            return;
        }
        drop(tasks);
        let context = Arc::downgrade(self);
        self.connection.runtime.spawn(async move {
            tokio::time::sleep(LAST_BYTES).await;
            if let Some(context) = context.upgrade() {
                context.abort();
            }
        });
    }

    /// Completes when the stream must be reset: its client reads the response too slowly.
    fn poll_cut(&self, cx: &mut Context<'_>, timer: &mut Option<Pin<Box<Sleep>>>) -> Poll<()> {
        let Some(monitor) = self.monitor.get().filter(|_| !self.has_ended.load(Ordering::Relaxed)) else {
            *timer = None;
            return Poll::Pending;
        };
        if monitor.evicted_as() == Some(WaitingFor::Response) {
            return Poll::Ready(());
        }
        let Some(since) = monitor.response_lag_since() else {
            *timer = None;
            return Poll::Pending;
        };
        let until = Instant::from_std(since + self.connection.unread);
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}

/// Ends the request of a stream when dropped.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<StreamContext>);

impl RequestGuard {
    pub(super) fn new(context: &Arc<StreamContext>) -> Self {
        Self(Arc::clone(context))
    }

    pub(super) fn monitor(&self) -> Option<&Arc<DataRateMonitor>> {
        self.0.monitor()
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

/// A session on a stream. It counts as a session of its connection until it is dropped.
#[derive(Debug)]
pub(crate) struct SessionGuard(Arc<StreamContext>);

impl SessionGuard {
    /// A socket for a shard, and the end that carries its bytes.
    pub(crate) fn pipe(&self) -> (Socket, PipeEnd) {
        let context = Arc::clone(&self.0);
        Socket::pipe(self.0.peer().socket, move |has_finished| {
            if has_finished {
                context.abort_late();
            } else {
                context.abort();
            }
        })
    }

    /// The stream of the session.
    pub(super) fn context(&self) -> Arc<StreamContext> {
        Arc::clone(&self.0)
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.0.connection.end_session();
    }
}

/// Spawns the tasks of the streams of a connection.
#[derive(Clone, Default)]
pub(super) struct StreamExecutor {
    /// The stream whose first task is spawned next.
    next: Arc<Mutex<Option<Arc<StreamContext>>>>,
}

impl StreamExecutor {
    /// Announces a stream. hyper spawns its task directly after it has called the service.
    pub(super) fn begin(&self, context: &Arc<StreamContext>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(context));
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        // A task of a stream spawns another task for the same stream. Only the task of the connection, which belongs to no
        // stream, spawns the first task of one.
        let current = CURRENT.try_with(Arc::clone).ok();
        let announced = || self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(context) = current.or_else(announced) else {
            tokio::spawn(future);
            return;
        };
        let task = tokio::spawn(CURRENT.scope(Arc::clone(&context), run(Arc::clone(&context), future)));
        context.add_task(task.abort_handle());
    }
}

/// Runs a task of a stream until it ends or must be cut.
async fn run(context: Arc<StreamContext>, future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    let mut timer = None;
    let is_cut = std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(false),
        Poll::Pending => context.poll_cut(cx, &mut timer).map(|()| true),
    });
    if is_cut.await {
        context.connection.count_cut();
        tracing::debug!(
            "a stream was reset, because its client reads the response too slowly (http.min_data_rate)"
        );
    }
}
