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
pub(super) type Landed = Result<PublishResult, ApiError>;

/// The publications of one request.
pub(super) struct Flight<'a> {
    services: &'a Services,
    flying: VecDeque<(usize, Flying)>,
    bytes: usize,
    landed: Vec<Landed>,
}

enum Flying {
    /// It never took off.
    Refused(ApiError),
    Awaited(oneshot::Receiver<Result<Published, Failure>>),
}

/// What is published, ready for any number of channels.
pub(super) struct Parcel {
    body: Bytes,
    options: PublishOptions,
    size: usize,
}

impl Parcel {
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

impl<'a> Flight<'a> {
    pub(super) fn new(services: &'a Services) -> Self {
        Self { services, flying: VecDeque::new(), bytes: 0, landed: Vec::new() }
    }

    /// Publishes, after those before; waits only while too many fly.
    pub(super) async fn publish(&mut self, channel: &str, parcel: &Parcel) {
        while self.flying.len() >= MOST || self.bytes + parcel.size > MOST_BYTES && self.bytes > 0 {
            self.land().await;
        }
        match methods::known_channel(self.services, channel) {
            Err(refused) => self.refuse(refused),
            Ok((channel, _)) => {
                let (done, awaited) = oneshot::channel();
                let done = Box::new(move |outcome| {
                    // Nobody listens any more when the request was given up.
                    let _ = done.send(outcome);
                });
                self.services.router.publish(&channel, parcel.body.clone(), parcel.options.clone(), done);
                self.bytes += parcel.size;
                self.flying.push_back((parcel.size, Flying::Awaited(awaited)));
            }
        }
    }

    /// Puts an error into the place of a publication.
    pub(super) fn refuse(&mut self, why: ApiError) {
        self.flying.push_back((0, Flying::Refused(why)));
    }

    /// Waits for all of them.
    pub(super) async fn land_all(&mut self) {
        while !self.flying.is_empty() {
            self.land().await;
        }
    }

    /// Waits for all of them, and gives what became of each.
    pub(super) async fn finish(mut self) -> Vec<Landed> {
        self.land_all().await;
        self.landed
    }

    /// Waits for the first.
    async fn land(&mut self) {
        let Some((size, flying)) = self.flying.pop_front() else { return };
        self.bytes -= size;
        let landed = match flying {
            Flying::Refused(why) => Err(why),
            Flying::Awaited(awaited) => match awaited.await {
                Ok(outcome) => outcome.map(PublishResult::from).map_err(ApiError::from),
                Err(_) => Err(code::INTERNAL.into()),
            },
        };
        self.landed.push(landed);
    }
}
