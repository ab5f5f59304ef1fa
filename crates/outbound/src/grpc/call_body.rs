//! The bodies of calls, and how a call is cancelled whose server does not read.
//!
//! hyper sends the body of a request in a task of its own (the pipe). While the server's flow control stops that task, it polls
//! neither the body nor anything else of the caller, so a dropped response does not end it, and the stream of HTTP/2 would stay open as long as the
//! connection. [`PipeExecutor`] makes the tasks of a connection abortable, and [`CallBody`] finds the one that sends it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{AbortHandle, Abortable};
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tidings_grpc::RequestBody;

tokio::task_local! {
    /// Aborts the current task.
    static TASK: Arc<AbortHandle>;
}

/// Spawns the tasks of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct PipeExecutor;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for PipeExecutor {
    fn execute(&self, future: F) {
        let (abort, registration) = AbortHandle::new_pair();
        let task = Abortable::new(future, registration);
        tokio::spawn(TASK.scope(Arc::new(abort), async move {
            // An aborted task has ended as well.
            let _ = task.await;
        }));
    }
}

/// The task that sends a body. Aborts it when it is dropped.
#[derive(Debug, Default)]
pub(super) struct PipeGuard(Arc<PipeTask>);

#[derive(Debug, Default)]
struct PipeTask {
    /// The task of the connection, which polls a body first.
    connection: OnceLock<Arc<AbortHandle>>,
    pipe: OnceLock<Arc<AbortHandle>>,
}

impl Drop for PipeGuard {
    fn drop(&mut self) {
        if let Some(pipe) = self.0.pipe.get() {
            pipe.abort();
        }
    }
}

/// The body of a call.
#[derive(Debug)]
pub(super) struct CallBody {
    body: RequestBody,
    task: Option<Arc<PipeTask>>,
}

impl CallBody {
    /// A body that ends by itself.
    pub(super) fn new(body: RequestBody) -> Self {
        Self { body, task: None }
    }

    /// A body with the guard of its task.
    pub(super) fn guarded(body: RequestBody) -> (Self, PipeGuard) {
        let guard = PipeGuard::default();
        (Self { body, task: Some(Arc::clone(&guard.0)) }, guard)
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(task) = self.task.as_deref().filter(|task| task.pipe.get().is_none())
            && let Ok(current) = TASK.try_with(Arc::clone)
            && !Arc::ptr_eq(task.connection.get_or_init(|| Arc::clone(&current)), &current)
        {
            // The first value stays.
            let _ = task.pipe.set(current);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
