//! HTTP for the object store: hyper, as the rest of the server has it, with bounds in time and numbers for the metrics.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::header::{HeaderValue, USER_AGENT};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use rustls::ClientConfig;
use tidings_outbound::{ClientError, PoolOptions, PooledClient, pooled_client};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, timeout};

use super::BucketCounters;

/// The longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next request; less than the 20 s after which S3 closes it.
const IDLE: Duration = Duration::from_secs(15);
/// Most connections that are kept.
const MAX_IDLE: usize = 16;

/// Makes clients.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) tls: ClientConfig,
    /// How long a request may take until its answer begins, and how long the answer may pause.
    pub(super) patience: Duration,
    pub(super) numbers: Arc<BucketCounters>,
    /// Whether no request may be sent any more.
    pub(super) closing: watch::Receiver<bool>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // Credentials of the machine use plain HTTP, whatever is configured, and never leave it.
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let options = PoolOptions {
            allow_http: plain,
            connect_timeout: Some(CONNECT.min(self.patience)),
            idle_timeout: IDLE,
            max_idle: MAX_IDLE,
            max_head: None,
        };
        let client = pooled_client(self.tls.clone(), options);
        let (patience, numbers) = (self.patience, Arc::clone(&self.numbers));
        Ok(HttpClient::new(Service { client, patience, numbers, closing: self.closing.clone() }))
    }
}

#[derive(Debug)]
struct Service {
    client: PooledClient<HttpRequestBody>,
    patience: Duration,
    numbers: Arc<BucketCounters>,
    closing: watch::Receiver<bool>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let agent = HeaderValue::from_static(concat!("tidings/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(agent);
        let sent = request.body().content_length() as u64;
        let mut closing = self.closing.clone();
        let answer = tokio::select! {
            answer = timeout(self.patience, self.client.request(request)) => answer,
            _ = closing.wait_for(|closing| *closing) => {
                let stopping = io::Error::other("the server is stopping");
                return Err(HttpError::new(HttpErrorKind::Unknown, stopping));
            }
        };
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(HttpError::new(kind(&error), Words::of(&error))),
            Err(_) => Err(HttpError::new(HttpErrorKind::Timeout, late(self.patience))),
        };
        self.numbers.answered(answer.as_ref().is_ok_and(|answer| !answer.status().is_server_error()));
        let (head, body) = answer?.into_parts();
        self.numbers.sent.fetch_add(sent, Ordering::Relaxed);
        let alarm = Box::pin(tokio::time::sleep(self.patience));
        let (patience, numbers) = (self.patience, Arc::clone(&self.numbers));
        let body = HttpResponseBody::new(Patient { body, alarm, patience, numbers });
        Ok(HttpResponse::from_parts(head, body))
    }
}

/// Whether it may be sent again. A connection that breaks may have carried the request all the same.
fn kind(error: &ClientError) -> HttpErrorKind {
    if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted }
}

fn late(patience: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", patience.as_secs_f64()))
}

/// The text of the innermost error, which is the specific one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Words(String);

impl Words {
    fn of(error: &dyn Error) -> Self {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self(innermost.to_string())
    }
}

/// An answer that may not pause for too long.
struct Patient {
    body: hyper::body::Incoming,
    alarm: Pin<Box<Sleep>>,
    patience: Duration,
    numbers: Arc<BucketCounters>,
}

impl Body for Patient {
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
            self.numbers.answered(false);
            return Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, late(self.patience)))));
        };
        let next = Instant::now() + self.patience;
        self.alarm.as_mut().reset(next);
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.numbers.received.fetch_add(length, Ordering::Relaxed);
            }
            Some(Err(_)) => self.numbers.answered(false),
            None => {}
        }
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, Words::of(&error)))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
