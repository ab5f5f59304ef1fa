//! `GET /events?channel=a&channel=b`: what is published in channels, as plain server-sent events. A browser's
//! `EventSource` needs nothing else, and neither does `curl`.

use std::borrow::Cow;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use tidings_hub::NamespaceOptions;
use tidings_session::{Direction, Link, Protocol};
use tidings_wire::client::request::{Connect, Request as ClientRequest, Subscribe};
use tidings_wire::form::name_in_id;
use tidings_wire::{Channel, Framing};

use super::Transports;
use super::request::{bad_request, commands, parameter, parameters, reject_head};
use super::stream::{EVENT_STREAM, Stream, retry};

/// Longest id that a browser has to send back, in bytes, so that its request fits into the longest head with the
/// address and everything else in it.
const LONGEST_ID: usize = 8 << 10;
/// What an offset, an epoch, and what stands between them may take in an id, in bytes.
const POSITION: usize = 48;
/// No server gives this as an epoch, so a position in it is one from which nothing can be recovered.
const NOWHERE: &str = "-";

pub(super) async fn events(State(transports): State<Transports>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let asked = reject_head(&parts).and_then(|()| {
        let token = bearer(&parts.headers).or_else(|| parameter(&parts.uri, "token")).unwrap_or_default();
        let header = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(Cow::Borrowed);
        // What the browser says is newer than what the address does.
        let since = header.filter(|id| !id.is_empty()).or_else(|| parameter(&parts.uri, "last_event_id"));
        let since = since.unwrap_or_default();
        let mut channels: Vec<Cow<'_, str>> = Vec::new();
        for (name, channel) in parameters(&parts.uri) {
            if name == "channel" && !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        check(&channels)?;
        let connect = ClientRequest::Connect(Connect { token, ..Connect::default() });
        let mut subscribes: Vec<_> = channels.into_iter().map(|channel| subscribe(channel, &since)).collect();
        let known: Vec<_> = subscribes.iter().filter(|subscribe| subscribe.recover).map(id).collect();
        if !since.is_empty() {
            let unknown = subscribes.iter_mut().filter(|subscribe| !subscribe.recover);
            unknown.for_each(|subscribe| lose(&transports, subscribe));
        }
        let events = (subscribes.len() > 1, known.join(" "));
        let subscribes = subscribes.into_iter().map(ClientRequest::Subscribe);
        Ok((commands(std::iter::once(connect).chain(subscribes)), events))
    });
    let (received, events) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    let stream = Stream {
        transport: "events",
        kind: EVENT_STREAM,
        link: Link::new(Framing::SseEvent, Protocol::Events, Direction::OneWay),
        received,
        first: retry(),
        events: Some(events),
    };
    transports.begin(&parts, stream).await
}

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().into())
}

/// Refuses a request that names no channel, or so many that a browser could not come back to them.
fn check(channels: &[Cow<'_, str>]) -> Result<(), Response> {
    if channels.is_empty() {
        return Err(bad_request(
            "which channels? /events?channel=NAME, and &channel=NAME for each further one",
        ));
    }
    let id: usize = channels.iter().map(|channel| name_in_id(channel).len() + POSITION).sum();
    if id > LONGEST_ID {
        return Err(bad_request(&format!(
            "too many channels: an event's id names the position of each, and would be longer than {LONGEST_ID} bytes"
        )));
    }
    Ok(())
}

/// A subscription, from where the client stands in the channel if its id tells. What no server can have given as an
/// epoch is none: it would be part of the ids to come.
fn subscribe<'a>(channel: Cow<'a, str>, since: &'a str) -> Subscribe<'a> {
    let name = name_in_id(&channel);
    let position = since.split(' ').find_map(|part| {
        let (offset, rest) = part.split_once('.')?;
        let (epoch, of) = rest.split_once('.')?;
        let given = of == name && epoch.bytes().all(|b| b.is_ascii_graphic());
        given.then_some((offset.parse().ok()?, epoch))
    });
    let (offset, epoch) = position.unwrap_or((0, ""));
    let recover = position.is_some();
    drop(name);
    // Recoverable, because a browser comes back by itself with the last id.
    Subscribe { channel, recover, recoverable: true, offset, epoch: epoch.into(), ..Subscribe::default() }
}

/// Has a client that comes back, but not to a position in this channel, be told that it may have missed something there,
/// if the channel keeps what could be missed.
fn lose(transports: &Transports, subscribe: &mut Subscribe<'_>) {
    let Ok(channel) = Channel::new(&*subscribe.channel) else { return };
    if transports.router.options(&channel).is_some_and(NamespaceOptions::has_history) {
        (subscribe.recover, subscribe.epoch) = (true, NOWHERE.into());
    }
}

/// Where a subscription begins, as an id says it.
fn id(subscribe: &Subscribe<'_>) -> String {
    let Subscribe { offset, epoch, channel, .. } = subscribe;
    format!("{offset}.{epoch}.{}", name_in_id(channel))
}
