//! Publications of one request that the broker has not acknowledged yet, in order.
//!
//! Sending each after the response to the last one would cost a round trip each; the broker sends waiting publications in
//! one write. Their number and bytes are bounded, so that one request does not fill the broker's queue for all requests.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tidings_api::command::PublishFields;
use tidings_api::reply::PublishResult;
use tidings_api::{ApiError, RawJson};
use tidings_broker::{HistoryOptions, MAX_IDEMPOTENCY_KEY, PublishOptions, Published};
use tidings_hub::Failure;
use tidings_wire::{Extra, code};
use tokio::sync::oneshot;

use super::Services;
use super::arguments::check_channel;

/// Most unacknowledged publications of one request.
const MAX_PUBLICATIONS: usize = 2_048;
/// Most bytes of the unacknowledged publications of one request; a single one may be longer.
const MAX_BYTES: usize = 4 << 20;
/// Bytes of a publication besides its body and tags.
const OVERHEAD: usize = 256;

/// The outcome of a publication.
pub(super) type Completed = Result<PublishResult, ApiError>;

/// The unacknowledged publications of one request.
pub(super) struct InFlight<'a> {
    services: &'a Services,
    pending: VecDeque<(usize, Pending)>,
    bytes: usize,
    completed: Vec<Completed>,
}

enum Pending {
    /// It was rejected before it was sent.
    Rejected(ApiError),
    /// It was sent to the broker.
    Sent(oneshot::Receiver<Result<Published, Failure>>),
}

/// A validated publication for any number of channels.
pub(super) struct PublishRequest {
    body: Bytes,
    options: PublishOptions,
    size: usize,
}

impl PublishRequest {
    /// Validates the fields of a request.
    ///
    /// # Errors
    /// The first invalid field.
    pub(super) fn new(fields: PublishFields) -> Result<Self, ApiError> {
        let PublishFields { data, b64data, skip_history, tags, delta, idempotency_key, version } = fields;
        let empty = b64data.is_some().then(Bytes::new);
        let body = bytes(data, b64data.as_deref().unwrap_or_default(), "b64data")?.or(empty);
        let body = body.ok_or_else(|| ApiError::bad_request("data is required"))?;
        if version > 0 {
            // Publishing without checking the version could show subscribers an older state.
            return Err(ApiError::not_available("version"));
        }
        if idempotency_key.len() > MAX_IDEMPOTENCY_KEY {
            let reason = format!("idempotency_key is longer than {MAX_IDEMPOTENCY_KEY} bytes");
            return Err(ApiError::bad_request(reason));
        }
        let nothing = HistoryOptions { size: 0, ttl: Duration::ZERO, meta_ttl: Duration::ZERO };
        let extra = Extra { tags: tags.into_iter().collect(), delta, ..Extra::default() };
        let size = OVERHEAD + body.len() + extra.size();
        let options = PublishOptions {
            history: skip_history.then_some(nothing),
            idempotency_key: Some(idempotency_key).filter(|key| !key.is_empty()),
            extra: Some(Box::new(extra)),
        };
        Ok(Self { size, body, options })
    }
}

/// The bytes of a field in base64 with this name, or without it those of the field in JSON.
///
/// # Errors
/// If the base64 is invalid.
pub(super) fn bytes(json: Option<RawJson>, base64: &str, name: &str) -> Result<Option<Bytes>, ApiError> {
    if !base64.is_empty() {
        let bytes =
            STANDARD.decode(base64).map_err(|e| ApiError::bad_request(format_args!("{name}: {e}")))?;
        return Ok(Some(bytes.into()));
    }
    Ok(json.map(|json| Box::<str>::from(json).into_string().into()))
}

impl<'a> InFlight<'a> {
    pub(super) fn new(services: &'a Services) -> Self {
        Self { services, pending: VecDeque::new(), bytes: 0, completed: Vec::new() }
    }

    /// Publishes after the earlier ones. Waits while too many are unacknowledged.
    pub(super) async fn publish(&mut self, channel: &str, publication: &PublishRequest) {
        while self.pending.len() >= MAX_PUBLICATIONS
            || self.bytes + publication.size > MAX_BYTES && self.bytes > 0
        {
            self.complete_next().await;
        }
        match check_channel(self.services, channel) {
            Err(error) => self.reject(error),
            Ok((channel, _)) => {
                let (done, sent) = oneshot::channel();
                let done = Box::new(move |outcome| {
                    // The receiver is gone if the request was cancelled.
                    let _ = done.send(outcome);
                });
                self.services.router.publish(
                    &channel,
                    publication.body.clone(),
                    publication.options.clone(),
                    done,
                );
                self.bytes += publication.size;
                self.pending.push_back((publication.size, Pending::Sent(sent)));
            }
        }
    }

    /// Adds a publication that was rejected.
    pub(super) fn reject(&mut self, error: ApiError) {
        self.pending.push_back((0, Pending::Rejected(error)));
    }

    /// Waits until all publications are acknowledged.
    pub(super) async fn complete_all(&mut self) {
        while !self.pending.is_empty() {
            self.complete_next().await;
        }
    }

    /// Waits until all publications are acknowledged. Returns the outcome of each, in their order.
    pub(super) async fn finish(mut self) -> Vec<Completed> {
        self.complete_all().await;
        self.completed
    }

    /// Waits for the oldest publication.
    async fn complete_next(&mut self) {
        let Some((size, pending)) = self.pending.pop_front() else { return };
        self.bytes -= size;
        let completed = match pending {
            Pending::Rejected(error) => Err(error),
            Pending::Sent(outcome) => match outcome.await {
                Ok(outcome) => outcome.map(PublishResult::from).map_err(ApiError::from),
                Err(_) => Err(code::INTERNAL.into()),
            },
        };
        self.completed.push(completed);
    }
}
