//! Checks of requests and the heads of responses.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Version};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use tidings_grpc::{Code, MessageEncoding, Status, UnaryBody, compression, frame, is_grpc};

/// Most bytes of the reason of a rejection.
const MAX_REASON: usize = 4 << 10;

/// The compression of the messages of a request. Rejects a request that is not one of gRPC over HTTP/2.
///
/// # Errors
/// The response in plain HTTP; the status of an unknown compression.
#[expect(clippy::result_large_err, reason = "the error is a response, which is constructed once and sent")]
pub fn check_request(parts: &Parts) -> Result<MessageEncoding, Response> {
    let rejection = |status, reason: &'static str| Err((status, reason).into_response());
    if parts.version != Version::HTTP_2 {
        return rejection(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "this port serves gRPC over HTTP/2\n");
    }
    if parts.method != Method::POST {
        return rejection(StatusCode::METHOD_NOT_ALLOWED, "this port serves gRPC: the method must be POST\n");
    }
    let media_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !media_type.is_some_and(is_grpc) {
        let reason = "this port serves gRPC: content-type must be application/grpc\n";
        return rejection(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason);
    }
    MessageEncoding::read(&parts.headers).map_err(|status| refuse(&status))
}

/// The response with one message, which has its prefix, in a call with this compression.
pub fn message(framed: Bytes, encoding: MessageEncoding) -> Response {
    let mut response = with_type(Response::new(Body::new(UnaryBody::response(framed))));
    encoding.write(response.headers_mut());
    response
}

/// A message with its prefix, compressed if `encoding` permits that.
pub fn compress(framed: Vec<u8>, encoding: MessageEncoding) -> Vec<u8> {
    match encoding {
        MessageEncoding::Identity => framed,
        MessageEncoding::Gzip => frame::framed(framed.get(frame::PREFIX..).unwrap_or_default(), encoding),
    }
}

/// The response with a status and no message.
pub fn refuse(status: &Status) -> Response {
    let mut response = with_type(Response::new(Body::empty()));
    status.write(response.headers_mut());
    response
}

/// A rejection of the HTTP API as a gRPC status, with its text as the reason.
pub async fn from_rejection(rejection: Response) -> Response {
    let code = Code::from_http(rejection.status());
    let body = Limited::new(rejection.into_body(), MAX_REASON).collect().await;
    let reason = body.map(|body| String::from_utf8_lossy(body.to_bytes().trim_ascii()).into_owned());
    refuse(&Status::new(code, reason.unwrap_or_default()))
}

/// Sets the media type.
pub(crate) fn with_type(mut response: Response) -> Response {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(tidings_grpc::CONTENT_TYPE));
    compression::write_accepted(response.headers_mut());
    response
}
