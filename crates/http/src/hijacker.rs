//! The way of a request out of HTTP: with its connection, or with its stream of HTTP/2.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::response::Response;
use tidings_shard::{ResponseOutcome, Socket};
use tidings_wire::code;
use tokio::sync::oneshot;

use super::http2::body::PipeBody;
use super::http2::stream::{SessionGuard, StreamContext};

/// The callback that receives a connection that leaves HTTP.
pub(super) type OnHijack = Box<dyn FnOnce(Socket) + Send>;

/// Takes a request's connection out of HTTP, so that the response is written by other means. Every request has it as an
/// extension.
#[derive(Clone)]
pub struct Hijacker(Carrier);

/// What carries a request.
#[derive(Clone)]
enum Carrier {
    /// A connection of HTTP/1.1, which leaves HTTP.
    Connection(Arc<Mutex<Option<oneshot::Sender<OnHijack>>>>),
    /// A stream of an HTTP/2 connection.
    Stream(Arc<StreamContext>),
}

/// The outcome if the session has ended before it wrote anything: the server stops.
const ENDED: ResponseOutcome = ResponseOutcome::Unavailable(code::http_status(code::INTERNAL.number));

/// Marks the response of a stream that has left HTTP.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeavesHttp;

/// The start of a session on a stream of HTTP/2: its caller writes the head of the response.
#[derive(Debug)]
pub struct StreamStart {
    /// How the session has begun.
    pub outcome: ResponseOutcome,
    /// The response. Its body is written by the session; the status and the headers are missing.
    pub response: Response,
}

impl Hijacker {
    /// For a connection of HTTP/1.1. The receiver gets the callback.
    pub(super) fn of_connection() -> (Self, oneshot::Receiver<OnHijack>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Carrier::Connection(Arc::new(Mutex::new(Some(sender))))), receiver)
    }

    /// For a stream of HTTP/2.
    pub(super) fn of_stream(stream: Arc<StreamContext>) -> Self {
        Self(Carrier::Stream(stream))
    }

    /// Turns a stream of HTTP/2 into a session; `None` for a connection of HTTP/1.1.
    pub(super) fn begin_session(&self) -> Option<SessionGuard> {
        match &self.0 {
            Carrier::Connection(_) => None,
            Carrier::Stream(stream) => Some(stream.begin_session()),
        }
    }

    /// Whether the caller writes the head of the response, because the request is a stream of HTTP/2. Otherwise the owner of
    /// the connection writes it.
    pub fn is_stream(&self) -> bool {
        matches!(self.0, Carrier::Stream(_))
    }

    /// Calls `callback` with the connection. For a connection of HTTP/1.1 it never resolves: the caller is dropped. Bytes that
    /// the client has sent after the request are discarded. For a stream of HTTP/2 it resolves when the session has begun.
    pub async fn hijack(&self, callback: impl FnOnce(Socket) + Send + 'static) -> StreamStart {
        match &self.0 {
            Carrier::Connection(sender) => {
                let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(sender) = sender {
                    // The receiver is gone when the connection has broken.
                    let _ = sender.send(Box::new(callback));
                }
                std::future::pending().await
            }
            Carrier::Stream(stream) => {
                let session = stream.begin_session();
                let (socket, mut end) = session.pipe();
                callback(socket);
                let outcome = std::future::poll_fn(|cx| end.poll_outcome(cx)).await;
                let mut response = Response::new(Body::new(PipeBody::new(end, session)));
                response.extensions_mut().insert(LeavesHttp);
                StreamStart { outcome: outcome.unwrap_or(ENDED), response }
            }
        }
    }
}
