//! Bodies of requests and responses that report their progress to [`DataRateMonitor`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::data_rate::DataRateMonitor;

/// A request's body that fails with [`io::ErrorKind::TimedOut`] when it is received too slowly. A timer exists only after
/// the first wait for data.
pub(super) struct RequestBody {
    body: Incoming,
    monitor: Arc<DataRateMonitor>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, monitor: Arc<DataRateMonitor>) -> Self {
        Self { body, monitor, timer: None }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            match &frame {
                Some(Ok(frame)) => self.monitor.body_received(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(_)) | None => self.monitor.body_finished(),
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        loop {
            let Some(until) = self.monitor.wait_for_body(cx.waker()).map(Instant::from_std) else {
                self.monitor.body_finished();
                let slow = io::Error::new(io::ErrorKind::TimedOut, "the body was received too slowly");
                return Poll::Ready(Some(Err(slow.into())));
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.monitor.body_finished();
    }
}

/// A response's body. When it is dropped, the connection waits for its next request.
pub(super) struct ResponseBody {
    body: Body,
    monitor: Arc<DataRateMonitor>,
}

impl ResponseBody {
    pub(super) fn new(body: Body, monitor: Arc<DataRateMonitor>) -> Self {
        Self { body, monitor }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.monitor.wait_for_head();
    }
}
