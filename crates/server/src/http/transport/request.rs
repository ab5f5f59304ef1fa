//! Parsing of requests: parameters, bodies, and the commands in them.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Bytes;
use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use form_urlencoded::Parse;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tidings_wire::client::Encoding;
use tidings_wire::client::request::{Command, Request as ClientRequest};

/// The limit on the time of receiving a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The parameter of a `GET` with the first commands.
const CONNECT: &str = "cf_connect";

/// The query parameters of a URI.
pub(super) fn parameters(uri: &Uri) -> Parse<'_> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

/// The first query parameter with this name.
pub(super) fn parameter<'u>(uri: &'u Uri, name: &str) -> Option<Cow<'u, str>> {
    parameters(uri).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// The encoding of a client's messages in both directions, by `Content-Type` as SDKs set it.
pub(super) fn encoding(headers: &HeaderMap) -> Encoding {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        "application/octet-stream" | "application/x-protobuf" | "application/protobuf" => Encoding::Protobuf,
        _ => Encoding::Json,
    }
}

/// The response 400 with this text.
pub(super) fn bad_request(text: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response()
}

/// Rejects `HEAD`, which axum routes like `GET`, because a stream begins with a body.
pub(super) fn reject_head(parts: &Parts) -> Result<(), Response> {
    if parts.method == Method::HEAD {
        let text = "HEAD is not supported for a stream; use GET or POST\n";
        return Err((StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, POST")], text).into_response());
    }
    Ok(())
}

/// Splits a request and reads its body, of `limit` bytes at most.
///
/// # Errors
/// The response: 413 for a larger body, 408 for one that takes too long.
pub(super) async fn read(request: Request, limit: usize) -> Result<(Parts, Bytes), Response> {
    let (parts, body) = request.into_parts();
    let too_large = || {
        let text = format!("the body of the request is larger than {limit} bytes\n");
        (StatusCode::PAYLOAD_TOO_LARGE, text).into_response()
    };
    // Rejects a body that is too large before the client sends it.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok((parts, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(bad_request(&format!("the body of the request could not be read: {error}"))),
        Err(_) => {
            let text = format!("the body of the request took longer than {BODY_TIMEOUT:?}\n");
            Err((StatusCode::REQUEST_TIMEOUT, text).into_response())
        }
    }
}

/// The first commands: the body of a `POST`, or a parameter of a `GET`.
///
/// # Errors
/// The response to a request without commands.
pub(super) fn first_commands(parts: &Parts, body: Bytes) -> Result<Bytes, Response> {
    let commands = match parts.method {
        Method::POST => body,
        _ => parameter(&parts.uri, CONNECT).unwrap_or_default().into_owned().into(),
    };
    if commands.trim_ascii().is_empty() {
        return Err(bad_request(
            "the request has no connect command, neither in its body (POST) nor in cf_connect (GET)",
        ));
    }
    Ok(commands)
}

/// Rejects commands of a `GET` that change something, because browsers send a `GET` for every address that a page embeds.
pub(super) fn reject_changes(parts: &Parts, commands: &[u8]) -> Result<(), Response> {
    if parts.method != Method::GET {
        return Ok(());
    }
    for message in Encoding::Json.messages(commands).flatten() {
        if let Ok(command) = Encoding::Json.parse_command(message)
            && matches!(
                command.request,
                ClientRequest::Publish(_) | ClientRequest::Rpc(_) | ClientRequest::Send(_)
            )
        {
            let name = command.request.name();
            return Err(bad_request(&format!(
                "{name} is not allowed in a GET; send it to /emulation, or begin with POST"
            )));
        }
    }
    Ok(())
}

/// The `connect` command of a one-way client, from its fields as JSON, which may be empty.
///
/// # Errors
/// The response to a request that cannot be parsed.
pub(super) fn connect_command(fields: &[u8]) -> Result<Vec<u8>, Response> {
    let fields = fields.trim_ascii();
    let fields = if fields.is_empty() { b"{}" } else { fields };
    let connect = Encoding::Json.parse_connect(fields).map_err(|error| {
        bad_request(&format!(
            "the request must contain the fields of connect, such as {{\"token\":\"…\"}}: {error}"
        ))
    })?;
    Ok(commands([ClientRequest::Connect(connect)]))
}

/// Commands in JSON, one per line, numbered from 1.
pub(super) fn commands<'a>(all: impl IntoIterator<Item = ClientRequest<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, request) in (1..).zip(all) {
        Encoding::Json.write_command(&Command { id, request }, &mut out);
        out.push(b'\n');
    }
    out
}
