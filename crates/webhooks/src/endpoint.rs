//! A receiver: the events that it gets, and their delivery.
//!
//! Invariants:
//! - Events arrive in the order in which they were added: a request is repeated until it succeeds, or its events are too old.
//! - A request has at most [`BATCH`] events, and is bounded in time. Its response is not used but for its status.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::Full;
use tidings_config::{Webhook, WebhookEvent, WebhooksOptions};
use tidings_log_throttle::LogThrottle;
use tidings_outbound::{Outbound, OutboundError, TlsError, write_address};
use tidings_pusher::Key;

use crate::event::Event;
use crate::metrics::{EventOutcome, WebhookCounters};
use crate::queue::{Queue, Waiting};

/// Most events of one request.
const BATCH: usize = 100;
/// Bytes of events after which a request gets no further ones.
const BATCH_BYTES: usize = 256 << 10;
/// Time for which a request waits for further events.
const COLLECT: Duration = Duration::from_millis(50);
/// Longest response.
const MAX_RESPONSE: usize = 64 << 10;
/// How long an idle connection stays open.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The first pause after a failed request, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The form of the requests, and the channels of the receiver.
#[derive(Debug)]
pub(crate) enum Scope {
    /// All channels with one of these beginnings; without any, all.
    Channels(Vec<String>),
    /// The channels of an app of the Pusher protocol.
    App {
        /// Its public key.
        key: String,
        /// The prefix of its channels.
        prefix: String,
    },
}

/// Which channels a receiver gets events of, and how requests to it are signed.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) scope: Scope,
    pub(crate) secret: Key,
}

impl Scope {
    /// The name of a channel for the receiver; `None` for a channel of others.
    fn name<'a>(&self, channel: &'a str) -> Option<&'a str> {
        match self {
            Self::Channels(beginnings) => {
                let is_included =
                    beginnings.is_empty() || beginnings.iter().any(|start| channel.starts_with(start));
                is_included.then_some(channel)
            }
            Self::App { prefix, .. } => {
                channel.strip_prefix(prefix).filter(|name| tidings_pusher::check_channel(name).is_ok())
            }
        }
    }
}

/// A receiver.
pub(crate) struct Endpoint {
    uri: Uri,
    events: Vec<WebhookEvent>,
    /// The id of its app of the Pusher protocol, whose credentials a reload replaces.
    pub(crate) app: Option<String>,
    credentials: RwLock<Arc<Credentials>>,
    /// Its app was removed: it gets no further events.
    is_removed: AtomicBool,
    outbound: Outbound,
    pub(crate) queue: Queue,
    timeout: Duration,
    retry_for: Duration,
    failures: LogThrottle,
    losses: LogThrottle,
}

impl Endpoint {
    /// The receiver of `webhook`, whose address is in the option `option`.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` address when TLS cannot be set up.
    pub(crate) fn new(
        webhook: &Webhook,
        option: &str,
        app: Option<String>,
        credentials: Credentials,
        options: &WebhooksOptions,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            uri: webhook.uri().clone(),
            events: webhook.events.clone(),
            app,
            credentials: RwLock::new(Arc::new(credentials)),
            is_removed: AtomicBool::new(false),
            outbound: Outbound::new(webhook.uri(), option, IDLE_TIMEOUT)?,
            queue: Queue::new(options.queue_max_size),
            timeout: options.timeout,
            retry_for: options.retry_for,
            failures: LogThrottle::new(),
            losses: LogThrottle::new(),
        })
    }

    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces its credentials for requests from now on; `None` if its app was removed, after which it gets no further events:
    /// also those of a later app with the same id are not for its URL.
    pub(crate) fn set_credentials(&self, credentials: Option<Credentials>) {
        let Some(credentials) = credentials else { return self.is_removed.store(true, Ordering::Relaxed) };
        if !self.is_removed.load(Ordering::Relaxed) {
            *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
        }
    }

    fn has_events(&self, kind: WebhookEvent) -> bool {
        self.events.contains(&kind) && !self.is_removed.load(Ordering::Relaxed)
    }

    /// Whether it gets events of this kind in this channel.
    pub(crate) fn wants(&self, kind: WebhookEvent, channel: &str) -> bool {
        self.has_events(kind) && self.credentials().scope.name(channel).is_some()
    }

    /// Whether it gets events of one of these kinds in any channel.
    pub(crate) fn wants_any(&self, kinds: &[WebhookEvent]) -> bool {
        kinds.iter().any(|kind| self.has_events(*kind))
    }

    /// The beginnings of the names of its channels, of which an empty one is that of all names.
    pub(crate) fn beginnings(&self) -> Vec<String> {
        match &self.credentials().scope {
            Scope::Channels(beginnings) if beginnings.is_empty() => vec![String::new()],
            Scope::Channels(beginnings) => beginnings.clone(),
            Scope::App { prefix, .. } => vec![prefix.clone()],
        }
    }

    /// Adds an event, if the receiver gets it.
    pub(crate) fn add(&self, event: &Event<'_>, now: Instant, counters: &WebhookCounters) {
        if !self.has_events(event.kind()) {
            return;
        }
        let credentials = self.credentials();
        let Some(name) = credentials.scope.name(event.channel()) else { return };
        let json = match &credentials.scope {
            Scope::Channels(_) => Some(event.json()),
            Scope::App { .. } => event.pusher_json(name),
        };
        let Some(json) = json else { return };
        let lost = self.queue.push(json.to_string(), now);
        if lost > 0 {
            counters.events.add_many(EventOutcome::Dropped, lost);
            self.log_lost("the queue is full (webhooks.queue_max_size)");
        }
    }

    fn log_lost(&self, reason: &str) {
        if let Some(count) = self.losses.count() {
            tracing::warn!(address = %Address(&self.uri), reason, count, "events of webhooks are lost");
        }
    }

    /// Delivers events until the task is cancelled.
    pub(crate) async fn run(self: Arc<Self>, counters: Arc<WebhookCounters>) {
        loop {
            self.queue.wait().await;
            tokio::time::sleep(COLLECT).await;
            let events = self.queue.take(BATCH, BATCH_BYTES);
            self.deliver(events, &counters).await;
            self.queue.settle();
        }
    }

    /// Delivers events in one request, which is repeated until it succeeds or the events are too old.
    async fn deliver(&self, mut events: Vec<Waiting>, counters: &WebhookCounters) {
        let mut pause = PAUSES.0;
        while !events.is_empty() {
            let count = events.len() as u64;
            match self.send(&events).await {
                Ok(()) => {
                    counters.events.add_many(EventOutcome::Delivered, count);
                    return;
                }
                Err(error) => {
                    counters.failed_requests.fetch_add(1, Ordering::Relaxed);
                    if let Some(failures) = self.failures.count() {
                        tracing::warn!(address = %Address(&self.uri), %error, failures, "a webhook was not accepted; it is repeated");
                    }
                }
            }
            // Between half of the pause and all of it, so that receivers of several nodes do not get all requests at once.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSES.1);
            let is_young = |event: &Waiting| event.since.elapsed() < self.retry_for;
            let lost = events.iter().filter(|event| !is_young(event)).count() as u64;
            events.retain(is_young);
            if lost > 0 {
                counters.events.add_many(EventOutcome::Expired, lost);
                self.log_lost("the receiver has not accepted them within webhooks.retry_for");
            }
        }
    }

    async fn send(&self, events: &[Waiting]) -> Result<(), OutboundError> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        let list = events.iter().map(|event| event.json.as_str()).collect::<Vec<_>>().join(",");
        let body = format!("{{\"time_ms\":{time},\"events\":[{list}]}}");
        let credentials = self.credentials();
        let signature = credentials.secret.sign(body.as_bytes());
        let mut request = Request::new(Full::from(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let header = |text: &str| HeaderValue::from_str(text).expect("printable ASCII");
        match &credentials.scope {
            Scope::Channels(_) => {
                let name = HeaderName::from_static("x-tidings-signature");
                headers.insert(name, header(&format!("sha256={signature}")));
            }
            Scope::App { key, .. } => {
                headers.insert(HeaderName::from_static("x-pusher-key"), header(key));
                headers.insert(HeaderName::from_static("x-pusher-signature"), header(&signature));
            }
        }
        match self.outbound.send(request, self.timeout, MAX_RESPONSE).await {
            Ok(_) | Err(OutboundError::TooLong(_)) => Ok(()),
            Err(OutboundError::Status(status)) if status.is_success() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Displays an address without its query.
struct Address<'a>(&'a Uri);

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(self.0, f)
    }
}
