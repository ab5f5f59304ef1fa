//! Beginning an answer that goes on: from here on its connection is a shard's.

use std::time::{Duration, SystemTime};

use axum::http::request::Parts;
use axum::http::{StatusCode, Version};
use axum::response::{IntoResponse, Response};
use tidings_session::Link;
use tidings_shard::{Arrival, Events, Opening};

use super::Transports;
use super::cors::Cors;
use tidings_http::Exit;

/// The type of server-sent events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// An answer that goes on.
pub(super) struct Stream {
    /// What its transport is called.
    pub(super) transport: &'static str,
    /// Its media type.
    pub(super) kind: &'static str,
    /// How the session's messages travel.
    pub(super) link: Link,
    /// The client's first commands, in the link's framing.
    pub(super) received: Vec<u8>,
    /// The first bytes of its body; may be empty.
    pub(super) first: Vec<u8>,
    /// For plain events: whether there are several channels, and the id that the client has come back with.
    pub(super) events: Option<(bool, String)>,
}

impl Transports {
    /// Begins the answer and hands the connection over; what this resolves to is the answer to a request that is
    /// refused.
    pub(super) async fn begin(&self, parts: &Parts, stream: Stream) -> Response {
        let permit = match self.policy.acquire() {
            Ok(permit) => permit,
            Err(refusal) => return refusal,
        };
        let Some(exit) = parts.extensions.get::<Exit>() else {
            tracing::error!("a request does not know its connection");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let Stream { transport, kind, link, received, first, events } = stream;
        let common = common(parts.extensions.get::<Cors>());
        // RFC 9112 §6.1: no chunks for a client that may not know them.
        let chunked = parts.version == Version::HTTP_11;
        let opening = Opening {
            head: head(kind, chunked, &common),
            first,
            chunked,
            events: events.map(|(several, since)| Events::new(common.into_bytes(), several, &since)),
        };
        let about = self.about(transport, &parts.headers);
        let forwarded = self.forwarded(&parts.headers);
        let transports = self.clone();
        exit.leave(move |socket| {
            // The shard counts the connection from here on.
            drop(permit);
            let socket = socket.answering(opening);
            transports.hand_over(Arrival { socket, link, received, about, forwarded });
        })
        .await
    }
}

/// The lines of the header that every answer has which is sent past HTTP.
fn common(cors: Option<&Cors>) -> String {
    let mut lines = format!(
        "date: {}\r\ncache-control: no-store, no-transform\r\nx-content-type-options: nosniff\r\nconnection: close\r\n",
        httpdate::fmt_http_date(SystemTime::now())
    );
    for (name, value) in cors.iter().flat_map(|cors| cors.headers()) {
        // An origin is one line: HTTP's reader took it for a header's value.
        lines.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    }
    lines
}

fn head(kind: &str, chunked: bool, common: &str) -> Vec<u8> {
    let framing = if chunked { "transfer-encoding: chunked\r\n" } else { "" };
    // nginx would hold back what is less than its buffer.
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nx-accel-buffering: no\r\n{common}{framing}\r\n")
        .into_bytes()
}

/// When browsers that lose a connection are to come back: not all at once.
pub(super) fn retry() -> Vec<u8> {
    let wait = Duration::from_millis(fastrand::u64(1_000..4_000));
    let mut out = Vec::new();
    tidings_wire::sse::retry(wait.as_millis() as u64, &mut out);
    out
}
