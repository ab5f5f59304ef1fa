//! The bodies of responses, in chunks of a bounded size.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tidings_shard::{PipeEnd, PipeOutput};

use super::stream::{RequestGuard, SessionGuard};

/// Most bytes that are handed over at once. They wait in the stream until the client's flow control permits them.
pub(super) const CHUNK: usize = 16 << 10;

/// The body of a response. A handed-over chunk counts as unread until hyper asks for the next one.
pub(super) struct StreamBody {
    body: Body,
    /// The rest of a frame of `body`.
    rest: Bytes,
    /// The size of the last chunk.
    unread: usize,
    request: Option<RequestGuard>,
}

impl StreamBody {
    /// The body of a response to a request. Its permit is free when the body is dropped.
    pub(super) fn of_request(body: Body, request: RequestGuard) -> Self {
        Self { body, rest: Bytes::new(), unread: 0, request: Some(request) }
    }

    /// The body of a session.
    pub(super) fn of_session(body: Body) -> Self {
        Self { body, rest: Bytes::new(), unread: 0, request: None }
    }
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let me = &mut *self;
        let monitor = me.request.as_ref().and_then(RequestGuard::monitor);
        let read = std::mem::take(&mut me.unread);
        if let Some(monitor) = monitor.filter(|_| read > 0) {
            monitor.written(read);
        }
        if me.rest.is_empty() {
            match ready!(Pin::new(&mut me.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => me.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let chunk = me.rest.split_to(me.rest.len().min(CHUNK));
        me.unread = chunk.len();
        if let Some(monitor) = monitor {
            monitor.chunk_handed_over(cx.waker());
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The output of a session as a body.
pub(crate) struct PipeBody {
    end: PipeEnd,
    _session: SessionGuard,
}

impl PipeBody {
    pub(crate) fn new(end: PipeEnd, session: SessionGuard) -> Self {
        Self { end, _session: session }
    }
}

impl HttpBody for PipeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match ready!(self.end.poll_output(cx)) {
            PipeOutput::Bytes(bytes) => Some(Ok(Frame::data(bytes))),
            PipeOutput::End => None,
            PipeOutput::Aborted => Some(Err(io::ErrorKind::ConnectionAborted.into())),
        })
    }
}
