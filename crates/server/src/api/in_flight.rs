//! Publications on their way to the broker, many at a time and in order.
//!
//! Waiting for each before the next would cost a round trip each; the broker puts all that waits into one. What flies
//! at a time is bounded, so that one request does not use up the room that the broker has for all.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tidings_broker::{HistoryOptions, MAX_IDEMPOTENCY_KEY, PublishOptions, Published};
use tidings_hub::Failure;
use tidings_wire::code;
use tokio::sync::oneshot;

use super::Services;
use super::command::{Content, Json};
use super::methods;
use super::reply::{ApiError, PublishResult};

/// Most publications of one request that the broker has not answered.
const MOST: usize = 2_048;
/// Most bytes of them; a single one may be longer.
const MOST_BYTES: usize = 4 << 20;
/// What each counts for besides its body and tags.
const OVERHEAD: usize = 256;

/// What became of a publication.
pub(super) type Completed = Result<PublishResult, ApiError>;

/// The publications of one request.
pub(super) struct InFlight<'a> {
    services: &'a Services,
    pending: VecDeque<(usize, Pending)>,
    bytes: usize,
    completed: Vec<Completed>,
}

enum Pending {
    /// It never took off.
    Refused(ApiError),
    Awaited(oneshot::Receiver<Result<Published, Failure>>),
}

/// What is published, ready for any number of channels.
pub(super) struct PublishRequest {
    body: Bytes,
    options: PublishOptions,
    size: usize,
}

impl PublishRequest {
    /// Takes what a request wants published.
    ///
    /// # Errors
    /// What is wrong with it, whatever the channel.
    pub(super) fn new(content: Content) -> Result<Self, ApiError> {
        let Content { data, b64data, skip_history, tags, idempotency_key, version } = content;
        let empty = b64data.is_some().then(Bytes::new);
        let body = bytes(data, b64data.as_deref().unwrap_or_default(), "b64data")?.or(empty);
        let body = body.ok_or_else(|| ApiError::bad("data is required"))?;
        if version > 0 {
            // To publish it all the same would show an older state than subscribers have.
            let message = format!("{}: version", code::NOT_AVAILABLE.text).into();
            return Err(ApiError { code: code::NOT_AVAILABLE.number, message });
        }
        if idempotency_key.len() > MAX_IDEMPOTENCY_KEY {
            let why = format!("idempotency_key is longer than {MAX_IDEMPOTENCY_KEY} bytes");
            return Err(ApiError::bad(why));
        }
        let nothing = HistoryOptions { size: 0, ttl: Duration::ZERO, meta_ttl: Duration::ZERO };
        let options = PublishOptions {
            history: skip_history.then_some(nothing),
            idempotency_key: Some(idempotency_key).filter(|key| !key.is_empty()),
            info: None,
            tags: tags.into_iter().collect(),
        };
        let tags: usize = options.tags.iter().map(|(name, value)| name.len() + value.len()).sum();
        Ok(Self { size: OVERHEAD + body.len() + tags, body, options })
    }
}

/// Bytes that a request gives as JSON or, in the field called `name`, as base64, which then counts.
///
/// # Errors
/// When that is no base64.
pub(super) fn bytes(json: Option<Json>, base64: &str, name: &str) -> Result<Option<Bytes>, ApiError> {
    if !base64.is_empty() {
        let bytes = STANDARD.decode(base64).map_err(|e| ApiError::bad(format_args!("{name}: {e}")))?;
        return Ok(Some(bytes.into()));
    }
    Ok(json.map(|json| Box::<str>::from(json).into_string().into()))
}

impl<'a> InFlight<'a> {
    pub(super) fn new(services: &'a Services) -> Self {
        Self { services, pending: VecDeque::new(), bytes: 0, completed: Vec::new() }
    }

    /// Publishes, after those before; waits only while too many fly.
    pub(super) async fn publish(&mut self, channel: &str, publication: &PublishRequest) {
        while self.pending.len() >= MOST || self.bytes + publication.size > MOST_BYTES && self.bytes > 0 {
            self.complete_next().await;
        }
        match methods::known_channel(self.services, channel) {
            Err(refused) => self.refuse(refused),
            Ok((channel, _)) => {
                let (done, awaited) = oneshot::channel();
                let done = Box::new(move |outcome| {
                    // Nobody listens any more when the request was given up.
                    let _ = done.send(outcome);
                });
                self.services.router.publish(
                    &channel,
                    publication.body.clone(),
                    publication.options.clone(),
                    done,
                );
                self.bytes += publication.size;
                self.pending.push_back((publication.size, Pending::Awaited(awaited)));
            }
        }
    }

    /// Puts an error into the place of a publication.
    pub(super) fn refuse(&mut self, why: ApiError) {
        self.pending.push_back((0, Pending::Refused(why)));
    }

    /// Waits for all of them.
    pub(super) async fn complete_all(&mut self) {
        while !self.pending.is_empty() {
            self.complete_next().await;
        }
    }

    /// Waits for all of them, and gives what became of each.
    pub(super) async fn finish(mut self) -> Vec<Completed> {
        self.complete_all().await;
        self.completed
    }

    /// Waits for the first.
    async fn complete_next(&mut self) {
        let Some((size, pending)) = self.pending.pop_front() else { return };
        self.bytes -= size;
        let completed = match pending {
            Pending::Refused(why) => Err(why),
            Pending::Awaited(awaited) => match awaited.await {
                Ok(outcome) => outcome.map(PublishResult::from).map_err(ApiError::from),
                Err(_) => Err(code::INTERNAL.into()),
            },
        };
        self.completed.push(completed);
    }
}
