//! The HTTP client of the object store: hyper, as in the rest of the server, with timeouts and counters.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{HeaderValue, USER_AGENT};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use rustls::ClientConfig;
use tidings_outbound::{ClientError, PoolOptions, PooledClient, pooled_client};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, timeout};

use super::{BucketCounters, RequestOutcome};

/// The timeout of connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// The idle time after which a connection is closed; S3 closes it after 20 s.
const IDLE: Duration = Duration::from_secs(15);
/// The most idle connections.
const MAX_IDLE: usize = 16;

/// Creates HTTP clients.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) tls: ClientConfig,
    /// The timeout until a response begins, and the longest pause within it.
    pub(super) limit: Duration,
    pub(super) counters: Arc<BucketCounters>,
    /// Whether requests are rejected because the server stops.
    pub(super) closing: watch::Receiver<bool>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // Requests for the credentials of the machine always use plain HTTP; they do not leave the machine.
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let options = PoolOptions {
            allow_http: plain,
            connect_timeout: Some(CONNECT.min(self.limit)),
            idle_timeout: IDLE,
            max_idle: MAX_IDLE,
            max_head: None,
        };
        let client = pooled_client(self.tls.clone(), options);
        let (limit, counters) = (self.limit, Arc::clone(&self.counters));
        Ok(HttpClient::new(Service { client, limit, counters, closing: self.closing.clone() }))
    }
}

#[derive(Debug)]
struct Service {
    client: PooledClient<HttpRequestBody>,
    limit: Duration,
    counters: Arc<BucketCounters>,
    closing: watch::Receiver<bool>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let agent = HeaderValue::from_static(concat!("tidings/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(agent);
        let sent = request.body().content_length() as u64;
        let mut closing = self.closing.clone();
        let response = tokio::select! {
            response = timeout(self.limit, self.client.request(request)) => response,
            _ = closing.wait_for(|closing| *closing) => {
                let stopping = io::Error::other("the server is stopping");
                return Err(HttpError::new(HttpErrorKind::Unknown, stopping));
            }
        };
        let response = match response {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(HttpError::new(kind(&error), InnermostError::from_error(&error))),
            Err(_) => Err(HttpError::new(HttpErrorKind::Timeout, timeout_error(self.limit))),
        };
        self.counters.record(match &response {
            Ok(response) if !response.status().is_server_error() => RequestOutcome::Answered,
            _ => RequestOutcome::Failed,
        });
        let (head, body) = response?.into_parts();
        self.counters.sent.fetch_add(sent, Ordering::Relaxed);
        let alarm = Box::pin(tokio::time::sleep(self.limit));
        let (limit, counters) = (self.limit, Arc::clone(&self.counters));
        let body = HttpResponseBody::new(TimedBody { body, alarm, limit, counters });
        Ok(HttpResponse::from_parts(head, body))
    }
}

/// The kind of an error, by which the request is repeated or not: a connection that broke may have delivered it.
fn kind(error: &ClientError) -> HttpErrorKind {
    if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted }
}

fn timeout_error(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no response within {} s", limit.as_secs_f64()))
}

/// The text of the innermost error, which is the most specific one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct InnermostError(String);

impl InnermostError {
    fn from_error(error: &dyn Error) -> Self {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self(innermost.to_string())
    }
}

/// A response body with a timeout for pauses.
struct TimedBody {
    body: hyper::body::Incoming,
    alarm: Pin<Box<Sleep>>,
    limit: Duration,
    counters: Arc<BucketCounters>,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.counters.record(RequestOutcome::Failed);
            return Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, timeout_error(self.limit)))));
        };
        let next = Instant::now() + self.limit;
        self.alarm.as_mut().reset(next);
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.counters.received.fetch_add(length, Ordering::Relaxed);
            }
            Some(Err(_)) => self.counters.record(RequestOutcome::Failed),
            None => {}
        }
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                HttpError::new(HttpErrorKind::Interrupted, InnermostError::from_error(&error))
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
