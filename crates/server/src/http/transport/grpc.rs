//! The one-way transport over gRPC, on a port of its own.

use axum::Router as Routes;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use tidings_session::{Direction, Link, Protocol};
use tidings_wire::Framing;
use tidings_wire::client::Encoding;

use super::Transports;
use super::stream::StreamResponse;
use crate::http::HttpServices;

/// The route of the method; other paths get the status of an unknown one.
pub(crate) fn uni_grpc_routes(services: &HttpServices) -> Routes {
    Routes::new()
        .route(tidings_uni_grpc::PATH, post(consume))
        .fallback(tidings_uni_grpc::unknown_method)
        .with_state((Transports::new(services), services.config.load().uni_grpc.max_receive_message_size))
}

async fn consume(State((transports, limit)): State<(Transports, usize)>, request: Request) -> Response {
    let (parts, received) = match tidings_uni_grpc::connect_command(request, limit).await {
        Ok(connect) => connect,
        Err(response) => return response,
    };
    let protocol = Protocol::Client { encoding: Encoding::Protobuf };
    let stream = StreamResponse {
        transport: "uni_grpc",
        media_type: tidings_grpc::CONTENT_TYPE,
        link: Link::new(Framing::Raw, protocol, Direction::OneWay),
        received,
        first: Vec::new(),
        events: None,
        is_backend: false,
    };
    tidings_uni_grpc::into_grpc(transports.begin(&parts, stream).await).await
}
