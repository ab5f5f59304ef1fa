//! The server API over gRPC: requests are authorized, bounded and run as those over HTTP.

use std::sync::Arc;

use axum::Router as Routes;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use tidings_api::body_budget::BodyReservation;
use tidings_api::{ApiError, CommandMethod};
use tidings_config::GrpcApiOptions;
use tidings_grpc::{Code, MessageEncoding, Status, timeout};
use tidings_grpc_api::{
    CallCounters, IncomingMessage, Rpc, SERVICES, check_request, from_rejection, message, refuse,
};
use tidings_keys::Scopes;
use tidings_metrics::Label as _;

use super::audit::Caller;
use super::{Api, ApiGuard, BODY_TIMEOUT, Services, batch, execute_counted, in_span};

/// The state of the handler.
struct GrpcApi {
    api: Api,
    counters: Arc<CallCounters>,
}

/// The routes of the services. Other paths get the status of an unknown method.
pub(crate) fn routes(
    options: &GrpcApiOptions,
    services: &Arc<Services>,
    counters: &Arc<CallCounters>,
) -> Routes {
    let max_body = ("grpc_api.max_receive_message_size", options.max_receive_message_size);
    let api = Api::new(services, ApiGuard::for_grpc(services), max_body);
    let state = Arc::new(GrpcApi { api, counters: Arc::clone(counters) });
    let methods = SERVICES
        .iter()
        .fold(Routes::new(), |routes, service| routes.route(&format!("/{service}/{{method}}"), any(call)));
    methods.fallback(call).with_state(state)
}

async fn call(State(state): State<Arc<GrpcApi>>, request: Request) -> Response {
    let response = respond(&state.api, request).await;
    state.counters.count(&response);
    response
}

/// Responds within the deadline of the client, if it has one.
async fn respond(api: &Api, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let encoding = match check_request(&parts) {
        Ok(encoding) => encoding,
        Err(rejection) => return rejection,
    };
    let path = parts.uri.path().strip_prefix('/').and_then(|path| path.rsplit_once('/'));
    let Some(rpc) = path.and_then(|(service, name)| Rpc::find(service, name)) else {
        return refuse(&Status::new(Code::Unimplemented, "this server has no such method"));
    };
    // The deadline does not end the delay after a wrong key.
    let caller = match api.guard.check(&parts).await {
        Ok(caller) => caller,
        Err(rejection) => return from_rejection(rejection).await,
    };
    let name = rpc.method().map_or("api batch", CommandMethod::span);
    let context = api.services.tracer.context(&parts.headers);
    let deadline = timeout::read(&parts.headers);
    let run = in_span(api, name, context, run(api, rpc, &caller, (body, encoding)));
    match deadline {
        None => run.await,
        Some(deadline) => tokio::time::timeout(deadline, run).await.unwrap_or_else(|_| {
            refuse(&Status::new(Code::DeadlineExceeded, "the command has not ended within the deadline"))
        }),
    }
}

async fn run(api: &Api, rpc: Rpc, caller: &Caller, (body, encoding): (Body, MessageEncoding)) -> Response {
    if let Some(method) = rpc.method()
        && let Err(status) = check_scopes(api, caller, method.label(), method.scope().into())
    {
        return refuse(&status);
    }
    let (body, memory) = match receive(api, caller, (body, encoding)).await {
        Ok(received) => received,
        Err(status) => return refuse(&status),
    };
    let (parsed, commands) = match parse(api, rpc, caller, body) {
        Ok(parsed) => parsed,
        Err(status) => return refuse(&status),
    };
    if let Some(rejection) = api.services.counters.check_rate(caller, commands) {
        return from_rejection(rejection).await;
    }
    let (body, mut reserved) = match parsed {
        Parsed::Batch(batch) => batch::run_grpc(&api.services, caller, batch).await,
        Parsed::Command(command) => {
            let (reply, mut reserved) = execute_counted(&api.services, caller, command).await;
            let body = tidings_grpc_api::encode_response(&reply);
            reserved.shrink_to(body.len());
            (body, reserved)
        }
    };
    drop(memory);
    let body = tidings_grpc_api::compress(body, encoding);
    reserved.shrink_to(body.len());
    message(reserved.hold(body), encoding)
}

/// Receives a message: waits for memory when its prefix has arrived. Each of the three has [`BODY_TIMEOUT`].
///
/// # Errors
/// The status of a request that is rejected.
async fn receive<'a>(
    api: &'a Api,
    caller: &Caller,
    (body, encoding): (Body, MessageEncoding),
) -> Result<(Bytes, BodyReservation<'a>), Status> {
    let named = |status: Status| match status.code {
        Code::ResourceExhausted => {
            let reason =
                format!("the message is longer than {} ({} bytes)", api.max_body_option, api.max_body);
            Status::new(Code::ResourceExhausted, reason)
        }
        _ => status,
    };
    let incoming = within(IncomingMessage::begin(body, encoding, api.max_body)).await.map_err(named)?;
    let memory = api.bodies.reserve(&caller.identity.name, incoming.length(), BODY_TIMEOUT).await;
    let memory = memory.ok_or_else(|| {
        Status::new(Code::Unavailable, "too many requests at the same time; try again later")
    })?;
    Ok((within(incoming.finish()).await.map_err(named)?, memory))
}

/// The outcome of receiving, within [`BODY_TIMEOUT`].
async fn within<T>(receiving: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(BODY_TIMEOUT, receiving).await.unwrap_or_else(|_| {
        let reason = format!("the message was not received within {} s", BODY_TIMEOUT.as_secs());
        Err(Status::new(Code::DeadlineExceeded, reason))
    })
}

/// What a request contains.
enum Parsed {
    Batch(tidings_api::Batch),
    Command(tidings_api::Command),
}

/// The commands of a request, and their number. The scopes of a batch are checked.
fn parse(api: &Api, rpc: Rpc, caller: &Caller, body: Bytes) -> Result<(Parsed, usize), Status> {
    match rpc {
        Rpc::Batch => {
            let batch = tidings_grpc_api::batch(body)?;
            check_scopes(api, caller, "batch", batch.scopes())?;
            let commands = batch.commands.len();
            Ok((Parsed::Batch(batch), commands))
        }
        Rpc::Command(method) => Ok((Parsed::Command(tidings_grpc_api::command(method, body)?), 1)),
    }
}

/// Checks that the key of a request has these scopes.
///
/// # Errors
/// [`Code::PermissionDenied`] with the first scope that it lacks.
fn check_scopes(api: &Api, caller: &Caller, method: &str, needed: Scopes) -> Result<(), Status> {
    let Some(scope) = api.guard.missing_scope(caller, method, needed) else { return Ok(()) };
    let reason = ApiError::missing_scope(&caller.identity, scope).message;
    Err(Status::new(Code::PermissionDenied, reason))
}
