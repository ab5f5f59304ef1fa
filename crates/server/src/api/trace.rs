//! `GET /api/trace`: what happens for a user or in a channel of this node, live, as lines of JSON.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::{FutureExt as _, stream};
use tidings_http::Hijacker;
use tidings_keys::Scope;
use tidings_trace::{TraceEnd, TraceReader, TraceSubject};
use tokio::time::Instant;

use super::Api;

/// The duration of a trace without the parameter `seconds`, and the longest one.
const DEFAULT_SECONDS: u64 = 60;
const MAX_SECONDS: u64 = 3600;
/// Time without events after which an empty line is sent, so that no proxy closes the connection.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Time for a client to read the rest of a trace that has ended.
const END_GRACE: Duration = Duration::from_secs(1);
/// Longest name of a user in bytes; channels have their own bound.
const MAX_USER: usize = 1024;

/// The subject and the seconds in the query of an address.
///
/// # Errors
/// Which parameter is missing, unknown or invalid.
fn parameters(query: &str) -> Result<(TraceSubject, u64), String> {
    let (mut user, mut channel, mut seconds) = (None, None, DEFAULT_SECONDS);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "user" => user = Some(value.into_owned()),
            "channel" => channel = Some(value.into_owned()),
            "seconds" => {
                let number = value.parse().ok().filter(|number| (1..=MAX_SECONDS).contains(number));
                seconds = number.ok_or_else(|| format!("`seconds` must be from 1 to {MAX_SECONDS}\n"))?;
            }
            _ => return Err("the parameters are `user` or `channel`, and `seconds`\n".to_owned()),
        }
    }
    let subject = match (user, channel) {
        (Some(user), None) if (1..=MAX_USER).contains(&user.len()) => TraceSubject::User(user),
        (None, Some(channel)) if !channel.is_empty() => TraceSubject::Channel(channel),
        _ => return Err(format!("expected either `user`, at most {MAX_USER} bytes, or `channel`\n")),
    };
    Ok((subject, seconds))
}

/// Begins a trace, which ends when the client closes the connection, after its time, and when the server stops. The key
/// needs the scope `read`.
pub(super) async fn trace(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if let Err(rejection) = api.guard.check_with(&parts, Scope::Read.into()).await {
        return rejection;
    }
    let (subject, seconds) = match parameters(parts.uri.query().unwrap_or_default()) {
        Ok(parameters) => parameters,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason).into_response(),
    };
    match api.services.process.traces.begin(subject) {
        Ok(reader) => {
            let headers = [
                (CONTENT_TYPE, "application/x-ndjson"),
                (CACHE_CONTROL, "no-store"),
                (HeaderName::from_static("x-accel-buffering"), "no"),
            ];
            let until = Instant::now() + Duration::from_secs(seconds);
            let connection =
                parts.extensions.get::<Hijacker>().filter(|hijacker| !hijacker.is_stream()).cloned();
            let has_connection = connection.is_some();
            tokio::spawn(end_in_time(reader.end_handle(), until, connection));
            let mut response = (headers, Body::from_stream(lines(reader))).into_response();
            if has_connection {
                // The connection has no further request, which its end in time would interrupt.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
        Err(error) => (StatusCode::TOO_MANY_REQUESTS, format!("{error}\n")).into_response(),
    }
}

/// Ends a trace at its time, and closes its connection of HTTP/1.1 soon after its end: the body of a client that does not read is
/// not polled, so that it cannot end the response.
async fn end_in_time(end: TraceEnd, until: Instant, connection: Option<Hijacker>) {
    // An error is the end of the time.
    let _ = tokio::time::timeout_at(until, end.ended()).await;
    end.end();
    if let Some(connection) = connection {
        tokio::time::sleep(END_GRACE).await;
        // It takes the connection out of HTTP, if it still exists, and never resolves.
        let _ = connection.hijack(drop).now_or_never();
    }
}

/// The lines of a trace until its end, the first one empty, so that the client gets the response at once.
fn lines(reader: TraceReader) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    let empty = Bytes::from_static(b"\n");
    stream::unfold((reader, Some(empty)), move |(mut reader, first)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (reader, None)));
        }
        match tokio::time::timeout(HEARTBEAT, reader.next()).await {
            Ok(lines) => lines.map(|lines| (Ok(lines.into()), (reader, None))),
            Err(_) => Some((Ok(Bytes::from_static(b"\n")), (reader, None))),
        }
    })
}
