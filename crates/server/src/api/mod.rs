//! The server API: how a backend publishes, asks, and orders sessions about, over HTTP.
//!
//! Paths, JSON and codes are those of Centrifugo's HTTP API (its public documentation, "Server API walkthrough"), so
//! that its server libraries work unchanged; `docs/api.md` says what differs. A request goes through [`access`] (who may
//! ask), is read into commands ([`command`]), carried out ([`methods`], and [`in_flight`] for publications, many at a
//! time), and answered ([`reply`]).
//!
//! Invariants:
//! - Nothing of a request's body is read before its sender has shown that it may ask.
//! - Bodies are bounded one by one and all together, and must arrive in time.
//! - Answers are bounded likewise ([`answers`]): room for one is taken before its data is read.
//! - The commands of one request take effect in their order, unless it asks for otherwise.
//! - An answer of several commands has one reply for each, in their order.

mod access;
mod answers;
mod batch;
mod blocking;
mod command;
mod guard;
mod in_flight;
mod methods;
mod openapi;
mod reply;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router as Routes;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tidings_shard::{Process, RateLimit};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::auth_failures::AuthFailures;
use crate::blocking::Blocking;
use crate::router::Router;
pub(crate) use access::api_key;
use command::Command;
pub(crate) use guard::ApiGuard;
use tidings_cluster::Nodes;
use tidings_config::Config;
use tidings_metrics::{BYTES, Collect, MetricWriter};

/// How long a request's body may take to arrive, and how long it may wait for room before that.
const ARRIVAL: Duration = Duration::from_secs(30);
/// Bytes of bodies that are held at a time, of all requests together, if the longest body allowed is not longer.
const BODIES: usize = 64 << 20;
/// The unit in which bodies are counted against [`BODIES`].
const UNIT: usize = 1 << 10;
/// Set to `transport`, this header asks for errors as HTTP statuses.
const ERROR_MODE: &str = "x-centrifugo-error-mode";

/// What has been asked so far, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct ApiCounters {
    /// Commands by method, in the order of [`METHODS`].
    commands: [AtomicU64; METHODS.len()],
    /// Commands and publications that were answered with an error.
    errors: AtomicU64,
    /// Requests refused because of who sent them.
    refused: AtomicU64,
    /// How many commands may come in a second.
    pub(crate) rate: RateLimit,
    /// Room for the answers to reading commands.
    answers: answers::Answers,
}

impl ApiCounters {
    /// ApiCounters of an API that takes so many commands a second; 0 is no limit.
    pub(crate) fn new(rate: usize) -> Self {
        Self { rate: RateLimit::per_second(rate), ..Self::default() }
    }

    /// The answer to a request of so many commands that comes too fast; `None` for one that may be carried out now.
    fn too_fast(&self, commands: usize) -> Option<Response> {
        if self.rate.allows(commands) {
            return None;
        }
        let why = "commands come faster than http_api.rate_limit allows; try again later\n";
        Some((StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")], why).into_response())
    }
}

impl Collect for ApiCounters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        out.counters(
            "tidings_api_commands",
            "Commands of backends to the server API, those of a batch one by one",
            "method",
            METHODS.into_iter().zip(self.commands.iter().map(of)),
        )?;
        out.gauge(
            "tidings_api_answers_reserved",
            BYTES,
            "Bytes reserved for answers of the server API that are being read or sent",
            self.answers.taken(),
        )?;
        out.counter(
            "tidings_api_answers_refused",
            None,
            "Commands to the server API that were answered with a temporary error, for there was no room for the answer",
            of(&self.answers.refused),
        )?;
        out.counter(
            "tidings_api_errors",
            None,
            "Commands to the server API, and publications of its broadcasts, that were answered with an error",
            of(&self.errors),
        )?;
        out.counter(
            "tidings_api_refused",
            None,
            "Requests to the server API that were refused because of who sent them",
            of(&self.refused),
        )
    }
}

/// The methods, beside `batch`.
pub(crate) const METHODS: [&str; 16] = Command::METHODS;

/// The parts of the server that the methods use.
pub(crate) struct Services {
    pub(crate) router: Arc<Router>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) blocking: Arc<Blocking>,
    pub(crate) counters: Arc<ApiCounters>,
    pub(crate) auth_failures: Arc<AuthFailures>,
    pub(crate) process: Arc<Process>,
}

/// What the handlers share.
struct Api {
    services: Arc<Services>,
    guard: ApiGuard,
    bodies: Semaphore,
    max_body: usize,
}

/// The paths under `/api`, to be merged with the others of the HTTP port.
pub(crate) fn routes(config: &Config, services: &Arc<Services>) -> Routes {
    let max_body = config.http_api.max_body;
    let api = Arc::new(Api {
        services: Arc::clone(services),
        guard: ApiGuard::new(config, services),
        bodies: Semaphore::new(BODIES.max(max_body).div_ceil(UNIT)),
        max_body,
    });
    Routes::new()
        .route("/api", any(commands))
        .route("/api/", any(commands))
        .route("/api/openapi.json", any(openapi::serve))
        .route("/api/{method}", any(method))
        .with_state(api)
}

/// `POST /api`: commands with their methods, a line each.
async fn commands(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (body, _held, _) = match api.admit(request).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal,
    };
    match batch::Envelope::read(&body) {
        Ok(envelopes) => match api.services.counters.too_fast(envelopes.len()) {
            Some(refusal) => refusal,
            None => {
                let (answer, charges) = batch::run_envelopes(&api.services, envelopes).await;
                json(StatusCode::OK, charges.hold(answer))
            }
        },
        Err(error) => unreadable(&error),
    }
}

/// `POST /api/METHOD`.
async fn method(State(api): State<Arc<Api>>, Path(method): Path<String>, request: Request) -> Response {
    if method != "batch" && !METHODS.contains(&&*method) {
        let known = METHODS.join(", ");
        let why = format!("no such method; there are {known}, batch, and openapi.json describes them\n");
        return (StatusCode::NOT_FOUND, why).into_response();
    }
    let (body, _held, as_status) = match api.admit(request).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal,
    };
    if method == "batch" {
        return match batch::Batch::read(&body) {
            Ok(batch) => match api.services.counters.too_fast(batch.len()) {
                Some(refusal) => refusal,
                None => {
                    let (answer, charges) = batch::run(&api.services, batch).await;
                    json(StatusCode::OK, charges.hold(answer))
                }
            },
            Err(error) => unreadable(&error),
        };
    }
    match Command::read(&method, &body) {
        Some(Ok(command)) => {
            if let Some(refusal) = api.services.counters.too_fast(1) {
                return refusal;
            }
            drop(body);
            methods::count(&api.services, &method);
            let (reply, mut charge) = methods::run(&api.services, command).await;
            methods::tally(&api.services, &reply);
            match reply {
                Err(error) if as_status => json(error.status(), error.json()),
                reply => {
                    let answer = reply::write(&reply);
                    charge.shrink_to(answer.len());
                    json(StatusCode::OK, charge.hold(answer))
                }
            }
        }
        Some(Err(error)) => unreadable(&error),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Api {
    /// Lets a request in and takes its body, with the room it has been given, and whether errors are asked for as
    /// statuses.
    ///
    /// # Errors
    /// The answer for one that is not let in.
    async fn admit(&self, request: Request) -> Result<(Bytes, SemaphorePermit<'_>, bool), Response> {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            let why = "the server API is asked with POST\n";
            return Err((StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "POST")], why).into_response());
        }
        self.guard.check(&parts).await?;
        let as_status = parts.headers.get(ERROR_MODE).is_some_and(|mode| mode == "transport");
        let (body, held) = self.body(&parts.headers, body).await?;
        Ok((body, held, as_status))
    }

    /// Takes a body of at most `http_api.max_body` bytes within [`ARRIVAL`], once there is room for it.
    async fn body(&self, headers: &HeaderMap, body: Body) -> Result<(Bytes, SemaphorePermit<'_>), Response> {
        let limit = self.max_body;
        let too_long = || {
            let why = format!("the body is longer than http_api.max_body ({limit} bytes)\n");
            (StatusCode::PAYLOAD_TOO_LARGE, why).into_response()
        };
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length: usize = announced.unwrap_or(limit);
        if length > limit {
            return Err(too_long());
        }
        let units = u32::try_from(length.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let Ok(held) = tokio::time::timeout(ARRIVAL, self.bodies.acquire_many(units)).await else {
            let why = "too many requests are under way; try again later\n";
            return Err((StatusCode::SERVICE_UNAVAILABLE, why).into_response());
        };
        let held = held.expect("a semaphore that nobody closes");
        match tokio::time::timeout(ARRIVAL, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => Ok((body.to_bytes(), held)),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
            Ok(Err(error)) => {
                let why = format!("the body did not arrive whole: {error}\n");
                Err((StatusCode::BAD_REQUEST, why).into_response())
            }
            Err(_) => {
                let why = format!("the body did not arrive within {} s\n", ARRIVAL.as_secs());
                Err((StatusCode::REQUEST_TIMEOUT, why).into_response())
            }
        }
    }
}

/// The answer to a body that is no request.
fn unreadable(error: &serde_json::Error) -> Response {
    (StatusCode::BAD_REQUEST, format!("the body is not what this method takes: {error}\n")).into_response()
}

fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.into()).into_response()
}
