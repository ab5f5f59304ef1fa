//! The apps of the Pusher protocol, and its HTTP API for backends: `/apps/{id}/…` ("HTTP API reference").
//!
//! A request is authorized by its signature, its body is read and compared with the signed digest, and then it is executed by
//! a [`Backend`], which the server implements.
//!
//! Invariants:
//! - The body of a request is read only after the signature of its parameters was verified. Each body is bounded in bytes and
//!   time, and all bodies together in bytes.
//! - An app has access to its own channels and users only.

mod apps;
mod channels;
mod counts;
mod events;
mod metrics;
mod respond;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router as Routes;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::Method;
use axum::response::Response;
use axum::routing::any;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
pub use tidings_cluster::ChannelCounts;
use tidings_pusher::{App, check_body};
use tidings_wire::code::http_status;
use tidings_wire::{Channel, ClientInfo, Pattern};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use apps::{AppTable, PusherApps, with_cache_channels};
pub use channels::escaped;
pub use counts::report_counts;
pub use metrics::PusherMetrics;
use respond::{ApiError, ApiResult};

/// Timeout of receiving a body, and before that of waiting for memory for it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of the bodies of all requests at a time.
const MAX_BODIES: usize = 64 << 20;
/// Bytes per permit of the semaphore for bodies.
const UNIT: usize = 1 << 10;
/// Most bytes of a list of channels.
pub const MAX_LIST: usize = 4 << 20;
/// Bytes of a channel in a list besides its name.
pub const LIST_OVERHEAD: usize = 64;
/// Most bytes of the members of one channel.
pub const MAX_MEMBERS: usize = 4 << 20;

/// Why an operation of a [`Backend`] failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The status of the response.
    pub status: u16,
    /// The reason.
    pub text: String,
}

impl From<tidings_hub::Failure> for Failure {
    fn from(failure: tidings_hub::Failure) -> Self {
        let (status, text) = match failure {
            tidings_hub::Failure::Unavailable => (503, "the broker is unavailable".to_owned()),
            tidings_hub::Failure::Overloaded => (503, "the broker is overloaded".to_owned()),
            tidings_hub::Failure::Error(rejection) => (http_status(rejection.code).number, rejection.text),
            tidings_hub::Failure::Disconnect(number, text) => (http_status(number).number, text),
        };
        Self { status, text }
    }
}

/// The server's operations, which requests use.
pub trait Backend: Send + Sync + 'static {
    /// Whether the apps may be used now.
    fn is_open(&self) -> bool;

    /// Publishes an event. The connection with the client id `except` does not get it.
    fn publish(
        &self,
        channel: Channel,
        event: String,
        data: Bytes,
        except: Option<String>,
    ) -> BoxFuture<'_, Result<(), Failure>>;

    /// The channels with subscribers on any node that match the pattern.
    fn channels(&self, pattern: Pattern) -> BoxFuture<'_, Result<ChannelCounts, Failure>>;

    /// The members of a presence channel, in [`MAX_MEMBERS`] bytes at most.
    fn members(&self, channel: Channel) -> BoxFuture<'_, Result<Vec<ClientInfo>, Failure>>;

    /// The data of the last event of a cache channel.
    fn cached(&self, channel: Channel) -> BoxFuture<'_, Result<Option<Bytes>, Failure>>;

    /// Ends the connections of a user on all nodes.
    fn disconnect(&self, user: String) -> BoxFuture<'_, Result<(), Failure>>;
}

/// The state of the handlers.
struct Api {
    apps: Arc<PusherApps>,
    backend: Arc<dyn Backend>,
    bodies: Semaphore,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("apps", &self.apps).finish_non_exhaustive()
    }
}

/// The routes of the HTTP API.
pub fn routes(apps: Arc<PusherApps>, backend: Arc<dyn Backend>) -> Routes {
    let bodies = Semaphore::new(MAX_BODIES / UNIT);
    let api = Arc::new(Api { apps, backend, bodies });
    Routes::new().route("/apps/{id}/{*rest}", any(handle)).with_state(api)
}

async fn handle(
    State(api): State<Arc<Api>>,
    Path((id, rest)): Path<(String, String)>,
    request: Request,
) -> Response {
    let apps = api.apps.load();
    let Some(app) = apps.by_id(&id).filter(|_| api.backend.is_open()) else {
        return ApiError::new(404, "no app has this id").into();
    };
    match api.execute(app, &rest, request).await {
        Ok(response) => response,
        Err(error) => {
            app.counters.api_errors.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(
                app = app.id,
                status = error.status(),
                reason = error.text(),
                "a request was rejected"
            );
            error.into()
        }
    }
}

impl Api {
    async fn execute(&self, app: &App, rest: &str, request: Request) -> ApiResult<Response> {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        authorize(app, &parts.method, parts.uri.path(), &query)?;
        let (body, _permit) = self.read(body, body_limit(app)).await?;
        check_body(&query, &body).map_err(|error| ApiError::new(401, error.to_string()))?;
        let parameter = |name: &str| {
            query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let segments: Vec<&str> = rest.split('/').collect();
        let is_post = parts.method == Method::POST;
        if !is_post && parts.method != Method::GET {
            return Err(ApiError::new(405, "only GET and POST are supported"));
        }
        match (is_post, &segments[..]) {
            (true, ["events"]) => self.event(app, &body).await,
            (true, ["batch_events"]) => self.batch(app, &body).await,
            (false, ["channels"]) => {
                self.channel_list(app, parameter("filter_by_prefix"), parameter("info")).await
            }
            (false, ["channels", name]) => self.channel(app, name, parameter("info")).await,
            (false, ["channels", name, "users"]) => self.users(app, name).await,
            (true, ["users", user, "terminate_connections"]) => self.terminate(app, user).await,
            _ => Err(ApiError::new(
                404,
                "there are POST events, POST batch_events, GET channels, GET channels/NAME, GET channels/NAME/users and POST \
                 users/ID/terminate_connections",
            )),
        }
    }

    /// Reads a body of `limit` bytes at most. Its memory is reserved until the permit is dropped.
    async fn read(&self, body: Body, limit: usize) -> ApiResult<(Bytes, SemaphorePermit<'_>)> {
        let units = u32::try_from(limit.div_ceil(UNIT).min(MAX_BODIES / UNIT)).unwrap_or(u32::MAX);
        let reading = async {
            let permit = self.bodies.acquire_many(units).await;
            let permit = permit.map_err(|_| ApiError::new(503, "the server is stopping"))?;
            match Limited::new(body, limit).collect().await {
                Ok(body) => Ok((body.to_bytes(), permit)),
                Err(error) if error.is::<LengthLimitError>() => {
                    Err(ApiError::new(413, format!("the body of the request is larger than {limit} bytes")))
                }
                Err(error) => Err(ApiError::new(400, format!("the body could not be read: {error}"))),
            }
        };
        let text = || format!("the body of the request took longer than {BODY_TIMEOUT:?}");
        tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or_else(|_| Err(ApiError::new(408, text())))
    }
}

/// Most bytes of a body: ten events with escapes, and the names of their channels.
fn body_limit(app: &App) -> usize {
    app.limits.event_size.saturating_mul(20).saturating_add(64 << 10).min(MAX_BODIES)
}

/// Verifies the signature of a request.
fn authorize(app: &App, method: &Method, path: &str, query: &[(String, String)]) -> ApiResult<()> {
    let key = query.iter().find(|(name, _)| name == "auth_key").map(|(_, value)| value.as_str());
    if key.is_some_and(|key| key != app.key) {
        return Err(ApiError::new(401, "auth_key is not the key of this app"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // The path is signed as it was sent.
    app.secret
        .verify_request(method.as_str(), path, query, now)
        .map_err(|error| ApiError::new(401, error.to_string()))
}
