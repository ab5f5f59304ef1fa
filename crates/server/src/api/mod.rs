//! The server API: over HTTP, a backend publishes, reads state, and controls sessions.
//!
//! Paths, JSON and codes are those of Centrifugo's HTTP API (its public documentation, "Server API walkthrough"), so
//! that its server libraries work unchanged; `docs/api.md` lists the differences. A request is authorized ([`tidings_api_access`]), parsed
//! into commands ([`command`](tidings_api::command)), and run ([`methods`]; [`in_flight`] sends many publications at a time); [`reply`] encodes
//! the results.
//!
//! Invariants:
//! - The body of a request is read only after the request was authorized.
//! - Each body is bounded, all bodies together and those of one key are bounded, and each must arrive in time.
//! - Responses have the same bounds ([`ResponseBudget`]): memory is reserved before the data of a response is read.
//! - The commands of one request take effect in their order, except in a parallel batch.
//! - A response to several commands has one reply for each, in their order.
//! - Over gRPC ([`grpc`]) the same functions authorize, bound and run a request; only its encoding differs.

mod arguments;
mod audit;
mod batch;
mod blocklist;
mod connections;
mod grpc;
mod guard;
mod in_flight;
mod methods;
mod trace;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router as Routes;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tidings_api::body_budget::{BodyBudget, BodyReservation};
use tidings_api::openapi::DESCRIPTION;
use tidings_api::{ApiError, Batch, Command, CommandMethod, CommandReply, Envelope, reply};
use tidings_audit::{Audit, AuditEvent};
use tidings_grpc::Status;
use tidings_otel::{SpanKind, TraceContext, Tracer};
use tidings_shard::{Process, RateLimit};
use tidings_shared_poll::SharedPolls;

use crate::blocklist_sync::BlocklistSync;
use crate::router::Router;
pub(crate) use audit::Caller;
pub(crate) use grpc::routes as grpc_routes;
pub(crate) use guard::ApiGuard;
use tidings_api::response_budget::{Reservation, ResponseBudget};
pub(crate) use tidings_api_access::{ApiAccess, api_key};
use tidings_auth_failures::AuthFailures;
use tidings_cluster::Nodes;
use tidings_config::HttpApiOptions;
use tidings_keys::{Scope, Scopes};
use tidings_metrics::{BYTES, Collect, KeyedCounters, KeyedDurations, Label as _, MetricWriter, labels};
use tidings_reload::{ReloadError, ReloadReport, Reloader};

/// Timeout of receiving a body, and before that of waiting for memory for it.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The header that, set to `transport`, requests errors as HTTP statuses.
const ERROR_MODE: &str = "x-centrifugo-error-mode";

labels! {
    /// The methods of a scope.
    enum CommandGroup {
        Publish => "publish",
        Read => "read",
        Manage => "manage",
    }
}

impl From<Scope> for CommandGroup {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Publish => Self::Publish,
            Scope::Read => Self::Read,
            Scope::Manage => Self::Manage,
        }
    }
}

/// The counters and limits of the API.
#[derive(Debug, Default)]
pub(crate) struct ApiCounters {
    /// Commands by method.
    commands: KeyedCounters<CommandMethod>,
    /// Commands, and publications of broadcasts, that failed.
    errors: AtomicU64,
    /// Requests that were rejected because they were not authorized.
    unauthorized: AtomicU64,
    /// Limit of commands per second.
    pub(crate) rate: RateLimit,
    /// How long commands took, by the scope that they need.
    durations: KeyedDurations<CommandGroup>,
    /// Requests that were rejected because of the rate limit of their key.
    key_rate_refused: AtomicU64,
    /// Memory for responses.
    responses: ResponseBudget,
}

impl ApiCounters {
    /// Counters of an API with a limit of `rate` commands per second; 0 is no limit.
    pub(crate) fn new(rate: usize) -> Self {
        Self { rate: RateLimit::per_second(rate), ..Self::default() }
    }

    /// Requests that were rejected because of the rate limit of their key.
    pub(crate) fn key_rate_refused(&self) -> u64 {
        self.key_rate_refused.load(Ordering::Relaxed)
    }

    /// Counts commands against the rate limits: first that of the key, so that a key above its limit does not use up the
    /// common one. Returns the response if they exceed one.
    fn check_rate(&self, caller: &Caller, commands: usize) -> Option<Response> {
        let limit = if caller.rate.as_ref().is_some_and(|rate| !rate.allows(commands)) {
            self.key_rate_refused.fetch_add(1, Ordering::Relaxed);
            format!("rate_limit of the key \"{}\" (http_api.keys)", caller.identity.name)
        } else if self.rate.allows(commands) {
            return None;
        } else {
            "http_api.rate_limit".to_owned()
        };
        let reason = format!("more commands per second than {limit}; try again later\n");
        Some((StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")], reason).into_response())
    }
}

impl Collect for ApiCounters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        out.counters(
            "tidings_api_commands",
            "Commands of backends to the server API; each command of a batch counts",
            "method",
            self.commands.iter(),
        )?;
        out.durations(
            "tidings_api_duration",
            "How long commands to the server API took, from their parameters to their result, by the scope that they need; without publications of batches, which are sent together",
            "scope",
            &self.durations,
        )?;
        out.gauge(
            "tidings_api_responses_reserved",
            BYTES,
            "Bytes reserved for responses of the server API that are being read or sent",
            self.responses.reserved(),
        )?;
        out.counter(
            "tidings_api_responses_refused",
            None,
            "Commands to the server API that got a temporary error because no memory for the response was free",
            load(&self.responses.rejected),
        )?;
        out.counter(
            "tidings_api_errors",
            None,
            "Commands to the server API, and publications of its broadcasts, that failed",
            load(&self.errors),
        )?;
        out.counter(
            "tidings_api_refused",
            None,
            "Requests to the server API that were rejected because they were not authorized",
            load(&self.unauthorized),
        )
    }
}

/// The parts of the server that the methods use.
pub(crate) struct Services {
    pub(crate) router: Arc<Router>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) blocklist: Arc<BlocklistSync>,
    pub(crate) counters: Arc<ApiCounters>,
    pub(crate) auth_failures: Arc<AuthFailures>,
    pub(crate) process: Arc<Process>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) tracer: Tracer,
    pub(crate) polls: SharedPolls,
    /// The rules of access, which a reload replaces.
    pub(crate) access: ArcSwap<ApiAccess>,
    pub(crate) reloader: Reloader,
}

impl Services {
    /// Reloads the configuration, and records it in the audit log with its cause, and with the sender of the request, if
    /// there is one.
    ///
    /// # Errors
    /// As [`Reloader::reload`].
    pub(crate) async fn reload(
        &self,
        cause: &str,
        caller: Option<&Caller>,
    ) -> Result<ReloadReport, ReloadError> {
        let result = self.reloader.reload().await;
        let error = result.as_ref().err().map(ToString::to_string);
        let key = caller.map_or("", |caller| &*caller.identity.name);
        let address = caller.and_then(|caller| caller.address);
        let error = error.as_deref();
        self.audit.record(&AuditEvent::ConfigurationReloaded { cause, key, address, error });
        result
    }
}

/// The state of the handlers.
struct Api {
    services: Arc<Services>,
    guard: ApiGuard,
    /// Memory for bodies.
    bodies: BodyBudget,
    max_body: usize,
    /// The option with this limit.
    max_body_option: &'static str,
}

/// The routes of `/api`, and of `http_api.handler_prefix`.
pub(crate) fn routes(options: &HttpApiOptions, services: &Arc<Services>) -> Routes {
    let limit = ("http_api.max_body", options.max_body);
    let api = Arc::new(Api::new(services, ApiGuard::new(services), limit));
    let mut routes = Routes::new();
    for base in BTreeSet::from(["/api", options.handler_prefix.as_str()]) {
        routes = routes
            .route(base, any(commands))
            .route(&format!("{base}/"), any(commands))
            .route(&format!("{base}/openapi.json"), any(description))
            .route(&format!("{base}/trace"), get(trace::trace))
            .route(&format!("{base}/{{method}}"), any(method));
    }
    routes.with_state(api)
}

/// `GET /api/openapi.json`. It needs no key, because the description is the same for every server.
async fn description(method: Method) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response();
    }
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], DESCRIPTION).into_response()
}

/// `POST /api`: one command with its method a line.
async fn commands(State(api): State<Arc<Api>>, request: Request) -> Response {
    let admitted = match api.admit(request, None).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    let run = async {
        match Envelope::parse(&admitted.body) {
            Ok(envelopes) => {
                let scopes = Envelope::scopes(&envelopes);
                match api.batch_rejection(&admitted, scopes, envelopes.len()) {
                    Some(response) => response,
                    None => {
                        let (body, reserved) =
                            batch::run_envelopes(&api.services, &admitted.caller, envelopes).await;
                        json(StatusCode::OK, reserved.hold(body))
                    }
                }
            }
            Err(error) => invalid_body(&error),
        }
    };
    in_span(&api, "api commands", admitted.context, run).await
}

/// `POST /api/METHOD`.
async fn method(State(api): State<Arc<Api>>, Path(name): Path<String>, request: Request) -> Response {
    let method = CommandMethod::from_name(&name);
    if method.is_none() && name != "batch" {
        let names: Vec<_> = CommandMethod::ALL.iter().map(|method| method.label()).collect();
        let names = names.join(", ");
        let reason = format!("no such method; the methods are {names} and batch, see /api/openapi.json\n");
        return (StatusCode::NOT_FOUND, reason).into_response();
    }
    let admitted = match api.admit(request, method).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    let name = method.map_or("api batch", CommandMethod::span);
    let context = admitted.context;
    in_span(&api, name, context, run_method(&api, method, admitted)).await
}

/// Runs the command of `POST /api/METHOD`, without a method those of a batch.
async fn run_method(api: &Api, method: Option<CommandMethod>, admitted: Admitted<'_>) -> Response {
    let Some(method) = method else {
        return match Batch::parse(&admitted.body) {
            Ok(batch) => match api.batch_rejection(&admitted, batch.scopes(), batch.commands.len()) {
                Some(response) => response,
                None => {
                    let (body, reserved) = batch::run(&api.services, &admitted.caller, batch).await;
                    json(StatusCode::OK, reserved.hold(body))
                }
            },
            Err(error) => invalid_body(&error),
        };
    };
    let Admitted { body, memory: _memory, as_status, caller, .. } = admitted;
    match Command::parse(method, &body) {
        Ok(command) => {
            if let Some(response) = api.services.counters.check_rate(&caller, 1) {
                return response;
            }
            drop(body);
            let (reply, mut reserved) = execute_counted(&api.services, &caller, command).await;
            match reply {
                Err(error) if as_status => json(error.status(), error.json()),
                reply => {
                    let body = reply::encode(&reply);
                    reserved.shrink_to(body.len());
                    json(StatusCode::OK, reserved.hold(body))
                }
            }
        }
        Err(error) => invalid_body(&error),
    }
}

/// A request that was authorized, with its body.
struct Admitted<'a> {
    body: Bytes,
    /// The memory that is reserved for the body.
    memory: BodyReservation<'a>,
    /// Whether errors are requested as HTTP statuses.
    as_status: bool,
    caller: Caller,
    context: Option<TraceContext>,
}

/// Handles a request within a span of its trace.
async fn in_span(
    api: &Api,
    name: &'static str,
    context: Option<TraceContext>,
    run: impl Future<Output = Response>,
) -> Response {
    let mut span = api.services.tracer.span(name, SpanKind::Server, context);
    let response = span.scope(run).await;
    span.set("http.request.method", "POST");
    span.set("http.response.status_code", u64::from(response.status().as_u16()));
    if let Some(status) = Status::read(response.headers()) {
        span.set("rpc.grpc.status_code", status.code as u64);
        span.fail(&status);
    }
    response
}

/// Runs and counts one command. Returns the reply, and the memory that was reserved for it.
pub(crate) async fn execute_counted(
    services: &Services,
    caller: &Caller,
    command: Command,
) -> (CommandReply, Reservation) {
    services.counters.commands.add(command.method());
    let (reply, reserved) = methods::run(services, caller, command).await;
    methods::count_errors(services, &reply);
    (reply, reserved)
}

/// Runs one command of a request that is authorized elsewhere. Returns its reply as a response.
///
/// # Errors
/// If the body is not the JSON of the command.
pub(crate) async fn run_command(
    services: &Services,
    caller: Caller,
    method: &str,
    body: Bytes,
) -> Result<Response, serde_json::Error> {
    let Some(method) = CommandMethod::from_name(method) else {
        return Ok((StatusCode::NOT_FOUND, "no such method\n").into_response());
    };
    let command = Command::parse(method, &body)?;
    let (reply, mut reserved) = execute_counted(services, &caller, command).await;
    let body = reply::encode(&reply);
    reserved.shrink_to(body.len());
    Ok(json(StatusCode::OK, reserved.hold(body)))
}

impl Api {
    /// An API of one port. A body has at most `max_body` bytes, the value of an option.
    fn new(
        services: &Arc<Services>,
        guard: ApiGuard,
        (max_body_option, max_body): (&'static str, usize),
    ) -> Self {
        let bodies = BodyBudget::new(max_body);
        Self { services: Arc::clone(services), guard, bodies, max_body, max_body_option }
    }

    /// Authorizes a request and receives its body. The scope of `method` is checked before the body is read.
    ///
    /// # Errors
    /// The response to a request that is rejected.
    async fn admit(&self, request: Request, method: Option<CommandMethod>) -> Result<Admitted<'_>, Response> {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            let reason = "the server API accepts only POST\n";
            return Err((StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "POST")], reason).into_response());
        }
        let caller = self.guard.check(&parts).await?;
        let as_status = parts.headers.get(ERROR_MODE).is_some_and(|mode| mode == "transport");
        if let Some(rejection) = method.and_then(|method| {
            self.scope_rejection(&caller, method.label(), method.scope().into(), as_status)
        }) {
            return Err(rejection);
        }
        let context = self.services.tracer.context(&parts.headers);
        let (body, memory) = self.receive_body(&caller, &parts.headers, body).await?;
        Ok(Admitted { body, memory, as_status, caller, context })
    }

    /// The rejection (403) of a whole request whose key lacks a scope that one of its commands needs. The body has the form
    /// of other errors in the same error mode.
    fn scope_rejection(
        &self,
        caller: &Caller,
        method: &str,
        needed: Scopes,
        as_status: bool,
    ) -> Option<Response> {
        let scope = self.guard.missing_scope(caller, method, needed)?;
        let error = ApiError::missing_scope(&caller.identity, scope);
        let body = if as_status { error.json() } else { reply::encode(&Err(error.clone())) };
        Some(json(error.status(), body))
    }

    /// The rejection of several commands, by their scopes or their rate.
    fn batch_rejection(&self, admitted: &Admitted<'_>, needed: Scopes, commands: usize) -> Option<Response> {
        let Admitted { caller, as_status, .. } = admitted;
        self.scope_rejection(caller, "batch", needed, *as_status)
            .or_else(|| self.services.counters.check_rate(caller, commands))
    }

    /// Waits for memory, and receives a body of at most `max_body` bytes within [`BODY_TIMEOUT`].
    async fn receive_body(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(Bytes, BodyReservation<'_>), Response> {
        let limit = self.max_body;
        let too_long = || {
            let reason = format!("the body is longer than {} ({limit} bytes)\n", self.max_body_option);
            (StatusCode::PAYLOAD_TOO_LARGE, reason).into_response()
        };
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length: usize = announced.unwrap_or(limit);
        if length > limit {
            return Err(too_long());
        }
        let key = &caller.identity.name;
        let Some(mut memory) = self.bodies.reserve(key, length, BODY_TIMEOUT).await else {
            let reason = "too many requests at the same time; try again later\n";
            return Err((StatusCode::SERVICE_UNAVAILABLE, reason).into_response());
        };
        match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => {
                let body = body.to_bytes();
                // A body without an announced length has reserved the most that it may have.
                memory.shrink_to(body.len());
                Ok((body, memory))
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
            Ok(Err(error)) => {
                let reason = format!("the body is incomplete: {error}\n");
                Err((StatusCode::BAD_REQUEST, reason).into_response())
            }
            Err(_) => {
                let reason = format!("the body was not received within {} s\n", BODY_TIMEOUT.as_secs());
                Err((StatusCode::REQUEST_TIMEOUT, reason).into_response())
            }
        }
    }
}

/// The response to a body that cannot be parsed.
fn invalid_body(error: &serde_json::Error) -> Response {
    (StatusCode::BAD_REQUEST, format!("the body is not a valid request: {error}\n")).into_response()
}

fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.into()).into_response()
}
