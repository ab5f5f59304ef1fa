//! The one-way transport over gRPC: `CentrifugoUniStream.Consume` (`proto/unistream.proto`), with the names and field numbers of
//! Centrifugo's public definition.
//!
//! A session of this transport is one of the client protocol in Protobuf, one-way, on a stream of HTTP/2. Its messages and those of the
//! service have the same fields; only the length before each message differs ([`pushes`]).
//!
//! Invariants:
//! - The request has one message of a bounded length, which is received within [`MESSAGE_TIMEOUT`].
//! - The output of a session is passed on as it arrives. Nothing is buffered here but an incomplete length.

mod pushes;

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::response::Response;
use tidings_grpc::{Code, Status};
use tidings_grpc_api::{IncomingMessage, check_request, from_rejection, refuse};
use tidings_wire::client::Encoding;
use tidings_wire::client::request::{Command, Request as ClientRequest};

use self::pushes::Pushes;

/// The path of the method.
pub const PATH: &str = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume";
/// Longest time until the message of a request is received.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the request of a client. Returns its head, and the `connect` command of the session in Protobuf, with its length.
///
/// # Errors
/// The response to a request that is not one of gRPC, or whose message is longer than `most` bytes, late, or of another form.
pub async fn connect_command(request: Request, most: usize) -> Result<(Parts, Vec<u8>), Response> {
    let (parts, body) = request.into_parts();
    let encoding = check_request(&parts)?;
    let receiving = async { IncomingMessage::begin(body, encoding, most).await?.finish().await };
    let received = tokio::time::timeout(MESSAGE_TIMEOUT, receiving).await.unwrap_or_else(|_| {
        let reason = format!("the message was not received within {} s", MESSAGE_TIMEOUT.as_secs());
        Err(Status::new(Code::DeadlineExceeded, reason))
    });
    let message = received.map_err(|status| refuse(&status))?;
    let connect = Encoding::Protobuf.parse_connect(&message).map_err(|error| {
        refuse(&Status::new(Code::InvalidArgument, format!("the message cannot be decoded: {error}")))
    })?;
    let mut command = Vec::with_capacity(message.len() + 16);
    Encoding::Protobuf
        .write_command(&Command { id: 1, request: ClientRequest::Connect(connect) }, &mut command);
    Ok((parts, command))
}

/// The response of gRPC for that of a session's stream: its body becomes a stream of messages with a status, and a rejection a status.
pub async fn into_grpc(response: Response) -> Response {
    if response.status() != StatusCode::OK {
        return from_rejection(response).await;
    }
    let mut response = response.map(|body| Body::new(Pushes::new(body)));
    let headers = response.headers_mut();
    headers.clear();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(tidings_grpc::CONTENT_TYPE));
    response
}

/// The response to another method.
pub async fn unknown_method() -> Response {
    refuse(&Status::new(Code::Unimplemented, "this port has the method Consume of CentrifugoUniStream"))
}
