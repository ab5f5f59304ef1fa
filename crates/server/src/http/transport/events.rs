//! `GET /events?channel=a&channel=b`: publications of channels as plain server-sent events, for a browser's `EventSource` and
//! for `curl`, without a client library.

use std::borrow::Cow;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::Response;
use tidings_session::{Direction, Link, Protocol};
use tidings_wire::client::request::{Connect, Request as ClientRequest, Subscribe};
use tidings_wire::form::name_in_id;
use tidings_wire::{Channel, Framing};

use super::Transports;
use super::request::{bad_request, commands, parameter, parameters, reject_head};
use super::stream::{EVENT_STREAM, StreamResponse, retry};

/// The longest event id in bytes. A browser sends it back, and its request with the address and all other headers must fit
/// into the longest head.
const MAX_ID: usize = 8 << 10;
/// The most bytes of an offset, an epoch and their separators in an id.
const MAX_POSITION: usize = 48;
/// An epoch that no server assigns, so that recovery from a position in it always fails.
const UNKNOWN_EPOCH: &str = "-";

pub(super) async fn events(State(transports): State<Transports>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let token = bearer(&parts.headers).or_else(|| parameter(&parts.uri, "token")).unwrap_or_default();
    open(&transports, &parts, token, false).await
}

/// Opens the stream of the channels in the query, for a client with this token or for an operator.
pub(super) async fn open(
    transports: &Transports,
    parts: &Parts,
    token: Cow<'_, str>,
    is_backend: bool,
) -> Response {
    let checked = reject_head(parts).and_then(|()| {
        let header = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(Cow::Borrowed);
        // The header of the browser is newer than the parameter of the address.
        let last_id = header.filter(|id| !id.is_empty()).or_else(|| parameter(&parts.uri, "last_event_id"));
        let last_id = last_id.unwrap_or_default();
        let mut channels: Vec<Cow<'_, str>> = Vec::new();
        for (name, channel) in parameters(&parts.uri) {
            if name == "channel" && !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        check(&channels)?;
        let connect = ClientRequest::Connect(Connect { token, ..Connect::default() });
        let mut subscribes: Vec<_> =
            channels.into_iter().map(|channel| subscribe(channel, &last_id)).collect();
        let known: Vec<_> = subscribes.iter().filter(|subscribe| subscribe.recover).map(id).collect();
        if !last_id.is_empty() {
            let unknown = subscribes.iter_mut().filter(|subscribe| !subscribe.recover);
            unknown.for_each(|subscribe| report_loss(transports, subscribe));
        }
        let events = (subscribes.len() > 1, known.join(" "));
        let subscribes = subscribes.into_iter().map(ClientRequest::Subscribe);
        Ok((commands(std::iter::once(connect).chain(subscribes)), events))
    });
    let (received, events) = match checked {
        Ok(checked) => checked,
        Err(rejection) => return rejection,
    };
    let stream = StreamResponse {
        transport: "events",
        media_type: EVENT_STREAM,
        link: Link::new(Framing::SseEvent, Protocol::Events, Direction::OneWay),
        received,
        first: retry(),
        events: Some(events),
        is_backend,
    };
    transports.begin(parts, stream).await
}

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().into())
}

/// Rejects a request without a channel, or with more channels than fit into an event id.
fn check(channels: &[Cow<'_, str>]) -> Result<(), Response> {
    if channels.is_empty() {
        return Err(bad_request(
            "no channel is given: use /events?channel=NAME, and &channel=NAME for each further one",
        ));
    }
    let id: usize = channels.iter().map(|channel| name_in_id(channel).len() + MAX_POSITION).sum();
    if id > MAX_ID {
        return Err(bad_request(&format!(
            "too many channels: an event's id contains the position in each, and would be longer than {MAX_ID} bytes"
        )));
    }
    Ok(())
}

/// A subscription that recovers from the position in `last_id`, if the id contains one for this channel. An epoch with
/// characters that no server assigns is ignored, because it would become part of later ids.
fn subscribe<'a>(channel: Cow<'a, str>, last_id: &'a str) -> Subscribe<'a> {
    let name = name_in_id(&channel);
    let position = last_id.split(' ').find_map(|part| {
        let (offset, rest) = part.split_once('.')?;
        let (epoch, id_name) = rest.split_once('.')?;
        let is_position = id_name == name && epoch.bytes().all(|b| b.is_ascii_graphic());
        is_position.then_some((offset.parse().ok()?, epoch))
    });
    let (offset, epoch) = position.unwrap_or((0, ""));
    let recover = position.is_some();
    drop(name);
    // Recoverable, because a browser reconnects by itself with the last id.
    Subscribe { channel, recover, recoverable: true, offset, epoch: epoch.into(), ..Subscribe::default() }
}

/// Makes the recovery of a channel with a history fail. For a client that reconnects with an id without a position in this
/// channel, so that it is notified of possibly missed publications.
fn report_loss(transports: &Transports, subscribe: &mut Subscribe<'_>) {
    let Ok(channel) = Channel::new(&*subscribe.channel) else { return };
    if transports.router.options(&channel).is_some_and(|options| options.has_history()) {
        (subscribe.recover, subscribe.epoch) = (true, UNKNOWN_EPOCH.into());
    }
}

/// The position of a subscription in the format of an event id.
fn id(subscribe: &Subscribe<'_>) -> String {
    let Subscribe { offset, epoch, channel, .. } = subscribe;
    format!("{offset}.{epoch}.{}", name_in_id(channel))
}
