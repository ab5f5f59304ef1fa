//! What a request says: its parameters, its body, and the commands in it.

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

/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(10);
/// The parameter in which a `GET` has the first commands.
const CONNECT: &str = "cf_connect";

/// What stands behind the `?` of an address, name by name.
pub(super) fn parameters(address: &Uri) -> Parse<'_> {
    form_urlencoded::parse(address.query().unwrap_or_default().as_bytes())
}

/// One of them.
pub(super) fn parameter<'u>(address: &'u Uri, name: &str) -> Option<Cow<'u, str>> {
    parameters(address).find(|(known, _)| known == name).map(|(_, value)| value)
}

/// How the client encodes what it sends, and wants to be sent: as SDKs say it.
pub(super) fn encoding(headers: &HeaderMap) -> Encoding {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind {
        "application/octet-stream" | "application/x-protobuf" | "application/protobuf" => Encoding::Protobuf,
        _ => Encoding::Json,
    }
}

/// Refuses with these words.
pub(super) fn bad_request(words: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{words}\n")).into_response()
}

/// Refuses what begins a stream and could not have one: `HEAD`, which comes wherever `GET` does.
pub(super) fn reject_head(parts: &Parts) -> Result<(), Response> {
    if parts.method == Method::HEAD {
        let text = "a stream has no head of its own; ask with GET or POST\n";
        return Err((StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, POST")], text).into_response());
    }
    Ok(())
}

/// Takes a request apart and reads its body, which may have so many bytes.
///
/// # Errors
/// The answer: 413 for a larger body, 408 for one that takes too long.
pub(super) async fn read(request: Request, limit: usize) -> Result<(Parts, Bytes), Response> {
    let (parts, body) = request.into_parts();
    let too_large = || {
        let text = format!("the body of the request is larger than {limit} bytes\n");
        (StatusCode::PAYLOAD_TOO_LARGE, text).into_response()
    };
    // Nobody need send what is too large anyway.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok((parts, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(bad_request(&format!("the body of the request could not be read: {error}"))),
        Err(_) => {
            let text = format!("the body of the request took longer than {BODY:?}\n");
            Err((StatusCode::REQUEST_TIMEOUT, text).into_response())
        }
    }
}

/// What the first commands are: the body of a `POST`, a parameter of a `GET`.
///
/// # Errors
/// The answer to a request without them.
pub(super) fn first(parts: &Parts, body: Bytes) -> Result<Bytes, Response> {
    let first = match parts.method {
        Method::POST => body,
        _ => parameter(&parts.uri, CONNECT).unwrap_or_default().into_owned().into(),
    };
    if first.trim_ascii().is_empty() {
        return Err(bad_request(
            "the request has no connect command, neither in its body (POST) nor in cf_connect (GET)",
        ));
    }
    Ok(first)
}

/// Refuses commands that change something. Browsers send a `GET` wherever a page embeds its address.
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
                "a GET cannot {name}; send that to /emulation, or begin with POST"
            )));
        }
    }
    Ok(())
}

/// The `connect` command of a client that only listens, from what it says of itself, which may be nothing.
///
/// # Errors
/// The answer to a request that says something else.
pub(super) fn connect_command(said: &[u8]) -> Result<Vec<u8>, Response> {
    let said = said.trim_ascii();
    let said = if said.is_empty() { b"{}" } else { said };
    let connect = Encoding::Json.parse_connect(said).map_err(|error| {
        bad_request(&format!(
            "the request is to hold what connect does, such as {{\"token\":\"…\"}}: {error}"
        ))
    })?;
    Ok(commands([ClientRequest::Connect(connect)]))
}

/// Commands in JSON, a line each, numbered from 1.
pub(super) fn commands<'a>(all: impl IntoIterator<Item = ClientRequest<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, request) in (1..).zip(all) {
        Encoding::Json.write_command(&Command { id, request }, &mut out);
        out.push(b'\n');
    }
    out
}
