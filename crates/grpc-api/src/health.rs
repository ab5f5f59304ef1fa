//! The health service, `grpc.health.v1.Health`, with the state of `/ready`.

use std::sync::Arc;

use axum::Router as Routes;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use prost::Message;
use tidings_grpc::{Code, MessageEncoding, Status, frame};

use crate::receive::IncomingMessage;
use crate::response::{check_request, message, refuse};
use crate::rpc::SERVICES;

/// Longest request, in bytes.
const MAX_REQUEST: usize = 1 << 10;

/// Whether the server is ready.
type IsReady = Arc<dyn Fn() -> bool + Send + Sync>;

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    /// 1 is serving, 2 is not serving.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The route of `Check`. `is_ready` is called for each request. `Watch` is not available.
pub fn routes(is_ready: Arc<dyn Fn() -> bool + Send + Sync>) -> Routes {
    Routes::new().route("/grpc.health.v1.Health/Check", any(check)).with_state(is_ready)
}

async fn check(State(is_ready): State<IsReady>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let encoding = match check_request(&parts) {
        Ok(encoding) => encoding,
        Err(rejection) => return rejection,
    };
    match receive(body, encoding).await.and_then(|request| respond(request, &*is_ready)) {
        Ok(response) => message(response, MessageEncoding::Identity),
        Err(status) => refuse(&status),
    }
}

async fn receive(body: Body, encoding: MessageEncoding) -> Result<Bytes, Status> {
    IncomingMessage::begin(body, encoding, MAX_REQUEST).await?.finish().await
}

/// The response to a request: of the whole server (an empty name), or of one of its services.
fn respond(message: Bytes, is_ready: &dyn Fn() -> bool) -> Result<Bytes, Status> {
    let request = HealthCheckRequest::decode(message)
        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    if !request.service.is_empty() && !SERVICES.contains(&&*request.service) {
        return Err(Status::new(Code::NotFound, "no such service"));
    }
    let response = HealthCheckResponse { status: if is_ready() { 1 } else { 2 } };
    let mut out = Vec::new();
    frame::write_with(&mut out, |out| out.extend_from_slice(&response.encode_to_vec()));
    Ok(out.into())
}
