//! Messages of the client protocol to the client, in the framing of the session's link.

use std::borrow::Cow;
use std::ops::Range;

use tidings_hub::{
    CloseReason, Completed, Connected, MapKind, PresenceChange, Renewed, Slot, SubscriptionKind, seconds_left,
};
use tidings_map_state::StatePage;
use tidings_wire::body::DataFormat;
use tidings_wire::client::push::{self, Disconnect, Event as PushEvent, Push};
use tidings_wire::client::reply::{self, Outcome, Reply};
use tidings_wire::client::{Data, Encoding};
use tidings_wire::code::{self, Code};
use tidings_wire::ws::{self, CloseCode};
use tidings_wire::{Channel, Position};

use super::commands::{PHASE_STATE, kind_number};
use crate::Hub;
use crate::context::Context;
use crate::link::{Link, Protocol};
use crate::messages::{Effect, Effects, Response};
use crate::notices::{DISCONNECT_CODES, disconnect_code_and_reason, requests_reconnect};

/// The name and version of the server in the reply to `connect`.
const VERSION: &str = concat!("tidings ", env!("CARGO_PKG_VERSION"));

/// The length that most replies stay below, in bytes.
const EXPECTED_REPLY_LEN: usize = 120;

/// Appends the message that `write` appends, in the framing of the link. Messages to a single client are never
/// compressed, even if compression was negotiated.
fn framed(link: Link, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    link.framing().frame_with(link.encoding().opcode(), EXPECTED_REPLY_LEN, out, write);
}

/// Appends a message. One-way clients get only pushes; a connection is one of them.
fn write_reply(link: Link, message: Reply<'_>, out: &mut Vec<u8>) {
    let encoding = link.encoding();
    let push = match message.outcome {
        _ if !link.is_one_way() => {
            return framed(link, out, |out| encoding.write_reply(&message, out));
        }
        Outcome::Push(push) => push,
        Outcome::Connect(connect) => {
            Push { channel: "".into(), event: PushEvent::Connect(push::Connect::from(connect)) }
        }
        Outcome::Ping => return framed(link, out, |out| encoding.write_ping(out)),
        _ => return,
    };
    framed(link, out, |out| encoding.write_push(&push, out));
}

/// Sends a join or leave to sessions. It is encoded once per link.
pub(super) fn presence_changed(hub: &mut Hub, slots: &[Slot], change: &PresenceChange<'_>, fx: &mut Effects) {
    let mut written: Vec<(Link, Range<usize>)> = Vec::new();
    for &slot in slots {
        let link = hub.session(slot).peer.link;
        if let Some((_, range)) = written.iter().find(|(one, _)| *one == link) {
            fx.push(Effect::Send(slot, range.clone()));
            continue;
        }
        let info = Some(push::ClientInfo::from(change.info));
        let event = if change.joined {
            PushEvent::Join(push::Join { info })
        } else {
            PushEvent::Leave(push::Leave { info })
        };
        let start = fx.bytes.len();
        Context::new(hub, slot, fx).push(change.channel.as_str(), event);
        written.push((link, start..fx.bytes.len()));
    }
}

/// The close code of a one-way connection for this error. The application may use its own texts, so only the number
/// identifies the error. Numbers from 400 on belong to the application.
fn one_way_code(error: Code) -> Code {
    const APPLICATION: u16 = 400;
    match error.number {
        number if number == code::TOO_MANY_REQUESTS.number => code::OVERLOADED,
        _ if error.temporary => code::SERVER_ERROR,
        number if number == code::UNAUTHORIZED.number => code::INVALID_TOKEN,
        number if number == code::TOKEN_EXPIRED.number || number == code::EXPIRED.number => {
            code::CONNECTION_EXPIRED
        }
        number if number == code::PERMISSION_DENIED.number => code::NO_PERMISSION,
        APPLICATION.. => code::SERVER_ERROR,
        _ => code::BAD_PROTOCOL,
    }
}

/// The reply to a subscribe; `now` in Unix seconds. A client with deltas gets the missed publications in full.
fn subscribe_reply(completed: &Completed, encoding: Encoding, now: u64) -> reply::Subscribe<'_> {
    let expires = completed.expires.filter(|_| !completed.is_renewed_by_application);
    let left = expires.map(|at| seconds_left(at, now));
    let publication = |p| {
        let publication = push::Publication::new(p, completed.format);
        if !completed.delta {
            return publication;
        }
        let data = encoding.content_data(encoding.content(p, completed.format));
        push::Publication { data, ..publication }
    };
    let shown: Vec<_> = completed.missed.iter().map(|p| publication(p)).collect();
    reply::Subscribe {
        expires: left.is_some(),
        ttl: left.unwrap_or(0),
        recoverable: completed.recoverable,
        epoch: epoch(completed),
        publications: shown.into(),
        recovered: completed.recovered,
        offset: completed.position.as_ref().map_or(0, |p| p.offset),
        positioned: completed.positioned,
        data: completed.data.as_deref().map(Data::from),
        was_recovering: completed.was_recovering,
        delta: completed.delta,
        kind: kind_number(completed.kind),
        ..reply::Subscribe::default()
    }
}

fn epoch(completed: &Completed) -> Cow<'_, str> {
    let position = completed.position.as_ref().map(|p| p.epoch.as_str());
    position.or(completed.poll_epoch.as_deref()).unwrap_or_default().into()
}

impl Context<'_> {
    /// Sends the outcome of a command. A stream of plain events gets none.
    pub(super) fn reply(&mut self, id: u32, outcome: Outcome<'_>) {
        let link = self.link();
        if matches!(link.protocol(), Protocol::Client { .. }) {
            self.send(|out| write_reply(link, Reply { id, outcome }, out));
        }
    }

    pub(super) fn push(&mut self, channel: &str, event: PushEvent<'_>) {
        self.reply(0, Outcome::Push(Push { channel: channel.into(), event }));
    }

    /// Responds to a command with an error. A one-way client has only one command: its session ends with the error.
    pub(super) fn client_error(&mut self, id: u32, code: Code, text: &str) {
        self.hub.count_error();
        if !self.link().is_one_way() {
            return self.reply(id, Outcome::Error(reply::Error::new(code, text)));
        }
        self.end(&CloseReason::Code(one_way_code(code).number, text.to_owned()));
    }

    /// Reports a message that is longer than the limit, which `text` names.
    pub(super) fn client_too_long(&mut self, text: &str) {
        let text = format!("limit exceeded: {text}");
        self.reply(0, Outcome::Error(reply::Error::new(code::LIMIT_EXCEEDED, text)));
    }

    /// Replies to a subscribe of the client.
    pub(super) fn client_subscribed(&mut self, id: u32, completed: &Completed) {
        let now = self.hub.time();
        let encoding = self.link().encoding();
        self.reply(id, Outcome::Subscribe(subscribe_reply(completed, encoding, now)));
    }

    /// Replies to a subscribe that reads a page of the state of a map.
    pub(super) fn client_state(&mut self, id: u32, kind: MapKind, page: &StatePage, format: DataFormat) {
        let state: Vec<_> = page.entries.iter().map(|entry| push::Publication::new(entry, format)).collect();
        let result = reply::Subscribe {
            epoch: page.position.epoch.as_str().into(),
            offset: page.position.offset,
            kind: kind_number(SubscriptionKind::Map(kind)),
            phase: PHASE_STATE,
            cursor: (&*page.cursor).into(),
            state: state.into(),
            ..reply::Subscribe::default()
        };
        self.reply(id, Outcome::Subscribe(result));
    }

    /// Reports a subscription that the server made.
    pub(super) fn server_subscribed(&mut self, completed: &Completed) {
        let event = PushEvent::Subscribe(push::Subscribe {
            recoverable: completed.recoverable,
            epoch: epoch(completed),
            offset: completed.position.as_ref().map_or(0, |p| p.offset),
            positioned: completed.positioned,
            data: completed.data.as_deref().map(Data::from),
        });
        self.push(completed.channel.as_str(), event);
        self.send_publications(completed.key, &completed.missed);
    }

    /// Replies to `connect`.
    pub(super) fn client_connected(&mut self, id: u32, connected: &Connected, subscriptions: &[Completed]) {
        let (link, now) = (self.link(), self.hub.time());
        let own = self.hub.session_id(self.slot);
        let (name, secret) = (self.hub.client_id(own), self.hub.session_secret(own));
        let settings = std::sync::Arc::clone(self.hub.settings());
        let interval = settings.ping_interval;
        // A client that got an expiry would send a new token.
        let expires = connected.expires.filter(|_| !settings.refresh_proxy);
        let left = expires.map(|at| seconds_left(at, now));
        // An emulated session is found by the secret in its HTTP requests. A one-way client passes the secret to its
        // backend, which uses it in the server API.
        let is_found = link.is_emulated();
        let is_named = is_found || link.is_one_way();
        let subs: Vec<_> = subscriptions
            .iter()
            .map(|one| (one.channel.as_str().into(), subscribe_reply(one, link.encoding(), now)))
            .collect();
        let result = reply::Connect {
            client: name.as_str().into(),
            version: VERSION.into(),
            expires: left.is_some(),
            ttl: left.unwrap_or(0),
            data: connected.data.as_deref().map(Data::from),
            subs: subs.into(),
            // In whole seconds; 0 would mean never.
            ping: u32::try_from(interval.as_millis().div_ceil(1000)).unwrap_or(u32::MAX),
            pong: !interval.is_zero() && !settings.pong_timeout.is_zero() && !link.is_one_way(),
            session: if is_named { secret.as_str().into() } else { "".into() },
            node: if is_found { settings.node.as_str().into() } else { "".into() },
            time: if settings.connect_has_time { self.hub.time_millis() } else { 0 },
        };
        self.reply(id, Outcome::Connect(result));
    }

    /// A WebSocket ends with a close frame, other connections with a push.
    pub(super) fn client_closing(&mut self, reason: &CloseReason) {
        let link = self.link();
        let disconnect = disconnect_code_and_reason(reason);
        if !link.is_websocket() {
            if let Some((number, words)) = disconnect {
                self.push_disconnect(number, words);
            }
            return;
        }
        let (number, words) = disconnect.unwrap_or((CloseCode::NORMAL.0, String::new()));
        // One-way clients that only read messages do not observe a close frame. If it replies to the client's own,
        // there is nothing to report.
        let is_answer = matches!(reason, CloseReason::Transport(..));
        if link.is_one_way() && !is_answer && DISCONNECT_CODES.contains(&number) {
            self.push_disconnect(number, words.clone());
        }
        self.send(|out| ws::close(CloseCode(number), &words, out));
    }

    fn push_disconnect(&mut self, number: u16, words: String) {
        let reconnect = requests_reconnect(number);
        let event =
            PushEvent::Disconnect(Disconnect { code: number.into(), reason: words.into(), reconnect });
        self.push("", event);
    }

    /// Replies to a command with the response to its request. With `grants`, the channels of an accepted connection are
    /// not subscribed.
    pub(crate) fn client_response(
        &mut self,
        id: u32,
        channel: Option<&Channel>,
        response: Response,
        grants: bool,
    ) {
        let outcome = match &response {
            Response::Failed(failure) => return self.failed(id, failure),
            Response::Connected(_) => {
                let Response::Connected(connected) = response else { return };
                return self.operations().accept(id, *connected, grants);
            }
            Response::Published(_) => Outcome::Publish,
            Response::Members(members) => {
                let presence: Vec<_> =
                    members.iter().map(|m| (m.client.as_str().into(), push::ClientInfo::from(m))).collect();
                Outcome::Presence(reply::Presence { presence: presence.into() })
            }
            Response::Presence(clients, users) => Outcome::PresenceStats(reply::PresenceStats {
                num_clients: u32::try_from(*clients).unwrap_or(u32::MAX),
                num_users: u32::try_from(*users).unwrap_or(u32::MAX),
            }),
            Response::History(history) => {
                let Some(publications) = history.publications() else {
                    let code = code::UNRECOVERABLE_POSITION;
                    return self.refuse(id, code, code.text);
                };
                let options = channel.map(|channel| self.hub.options(channel));
                let format = options.map(|options| options.publication_data_format).unwrap_or_default();
                // The bound of the read is in stored bytes; escapes and base64 make the encoding longer. The client
                // continues after the last publication that it gets.
                let all = publications.iter().map(|publication| &**publication);
                let bytes = self.hub.settings().recovery_bytes;
                let count = self.link().encoding().publications_within(all, format, bytes);
                let shown: Vec<_> =
                    publications.iter().take(count).map(|p| push::Publication::new(p, format)).collect();
                let Position { offset, epoch } = history.position();
                Outcome::History(reply::History {
                    publications: shown.into(),
                    epoch: epoch.as_str().into(),
                    offset: *offset,
                })
            }
            Response::Replied(data) => Outcome::Rpc(reply::Rpc { data: data.as_deref().map(Data::from) }),
            Response::Renewed(renewed) => return self.client_renewed(id, channel, renewed),
            Response::Tracked(expires) => {
                let left = expires.map(|at| seconds_left(at, self.hub.time()));
                Outcome::SubRefresh(reply::SubRefresh { expires: left.is_some(), ttl: left.unwrap_or(0) })
            }
            _ => return self.refuse(id, code::INTERNAL, code::INTERNAL.text),
        };
        self.reply(id, outcome);
    }

    /// Renews the connection, or its subscription to `channel`.
    fn client_renewed(&mut self, id: u32, channel: Option<&Channel>, renewal: &Renewed) {
        let ttl = renewal.expires.map(|at| seconds_left(at, self.hub.time()));
        let (expires, ttl) = (ttl.is_some(), ttl.unwrap_or(0));
        let Some(channel) = channel else {
            self.operations().renew_connection(renewal);
            let name = self.hub.client_id(self.hub.session_id(self.slot));
            let refresh = reply::Refresh { client: name.as_str().into(), version: "".into(), expires, ttl };
            return self.reply(id, Outcome::Refresh(refresh));
        };
        self.operations().renew_subscription(channel, renewal);
        self.reply(id, Outcome::SubRefresh(reply::SubRefresh { expires, ttl }));
    }
}
