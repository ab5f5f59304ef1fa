//! The Pusher protocol over WebSocket: its messages as operations of the hub. The codec is `tidings_pusher`.
//!
//! A channel of a client is the channel of the same name with the app's prefix before it. The app is the parameter of the
//! session's peer ([`Opening`]).
//!
//! Invariants:
//! - A subscription is confirmed when it is made; nothing published from then on is missed.
//! - Subscriptions are authorized here, by the app's signatures. The options of a channel do not restrict them.
//! - A member of a presence channel gets its list of users, and then each change of the list, once.
//! - A user that watches another one gets its online and offline events, once, and whether it was online before.

mod apps;
mod commands;
mod members;
pub(crate) mod roster;
pub(crate) mod state;
mod watchlist;

use std::sync::Arc;

pub use apps::end_removed_apps;

use tidings_hub::{
    AuthorizationRequest, CloseReason, Completed, Connected, Cost, Flag, LossReport, Origin, Progress,
    ServerSubscription,
};
use tidings_pusher::{self as codec, App, Command, ErrorCode, SocketId, codes};
use tidings_wire::code::{self, Code};
use tidings_wire::form::Message;
use tidings_wire::ws::{self, CloseCode, Opcode};
use tidings_wire::{Channel, Form, Framing, Topic};

use self::state::{Pending, Pusher, Role};
use crate::Hub;
use crate::consumed::StopReason;
use crate::context::Context;
use crate::messages::{Effects, Event, Request, Response};
use crate::module::Module;
use crate::notices::disconnect_code_and_reason;

pub(crate) const MODULE: Module = Module {
    message: |cx, bytes| cx.pusher_message(bytes),
    refuse: |cx, id, code, text| cx.pusher_refuse(id, code, text),
    too_long: |cx, words| cx.pusher_error(None, words),
    event: |cx, event| cx.pusher_event(event),
    closing: |cx, reason| cx.pusher_closing(reason),
    presence_changed: members::presence_changed,
    begin: |cx| cx.pusher_begin(),
    closed: |protocols, peer, state| {
        if let Some(state) = state.and_then(|state| state.pusher.as_ref()) {
            members::release(&mut protocols.rosters, state);
        }
        if let Opening::App(app) = Opening::from_parameter(peer.parameter())
            && let Some(app) = protocols.settings.pusher_apps.get(&app)
        {
            app.close_connection();
        }
    },
    // No message of the protocol reports missing events.
    loss_report: |_| LossReport::Reconnect,
    server_subscription: |_| ServerSubscription::Ignored,
    has_connect: true,
    answers_pings: true,
    ..Module::DEFAULT
};

/// The number of the connect hook's request. Commands have higher ones.
const CONNECT: u32 = 0;

/// How a session begins: the parameter of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// As a client of the app with this number.
    App(u8),
    /// With an error, because no app has its key.
    UnknownApp,
    /// With an error, because it states no version of the protocol.
    NoVersion,
    /// With an error, because its version is not a number.
    InvalidVersion,
    /// With an error, because its version is not supported.
    UnsupportedVersion,
    /// It has ended with an error.
    Refused,
}

impl Opening {
    const ERRORS: [Self; 5] =
        [Self::UnknownApp, Self::NoVersion, Self::InvalidVersion, Self::UnsupportedVersion, Self::Refused];

    /// The parameter of the peer.
    pub fn parameter(self) -> u8 {
        match self {
            Self::App(app) => app,
            error => {
                let at = Self::ERRORS.iter().position(|other| *other == error).unwrap_or_default();
                u8::MAX - u8::try_from(at).unwrap_or_default()
            }
        }
    }

    fn from_parameter(parameter: u8) -> Self {
        Self::ERRORS.get(usize::from(u8::MAX - parameter)).copied().unwrap_or(Self::App(parameter))
    }

    fn error(self) -> ErrorCode {
        match self {
            Self::NoVersion => codes::NO_VERSION,
            Self::InvalidVersion => codes::INVALID_VERSION,
            Self::UnsupportedVersion => codes::UNSUPPORTED_VERSION,
            // A reload during the handshake has changed the apps: the client connects again, and gets 4001 if its key is gone.
            Self::App(_) => codes::RECONNECT,
            Self::UnknownApp | Self::Refused => codes::UNKNOWN_APP,
        }
    }
}

/// The error code for the reason of a close: what the client should do next.
fn error_code(number: u16) -> ErrorCode {
    let is = |code: Code| number == code.number;
    match number {
        4000..=4299 => ErrorCode { number, text: "" },
        _ if is(code::NO_PONG) => codes::NO_PONG,
        _ if is(code::SLOW) || is(code::OVERLOADED) => codes::OVER_CAPACITY,
        _ if is(code::CONNECTION_LIMIT) => codes::OVER_QUOTA,
        3000..=3499 => codes::RECONNECT,
        _ => codes::UNAUTHORIZED,
    }
}

/// Sends the numbers of subscriptions of channels to their Pusher sessions.
pub fn subscription_counts(hub: &mut Hub, counts: &[(Channel, u64)], fx: &mut Effects) {
    let framing = Framing::WebSocket { deflate: false };
    for (channel, count) in counts {
        let entry = hub.topic(&Topic::Channel(channel.clone())).and_then(|key| hub.entry(key));
        let Some(entry) = entry else { continue };
        let (name, data) =
            (codec::visible_name(channel.as_str()), format!("{{\"subscription_count\":{count}}}"));
        for slot in entry.subscribers(Form::new(framing, Message::Pusher)) {
            fx.send(*slot, |out| {
                framing.frame_with(Opcode::Text, 128, out, |out| {
                    codec::internal("pusher_internal:subscription_count", Some(name), &data, out);
                });
            });
        }
    }
}

impl Context<'_> {
    fn pusher(&mut self) -> &mut Pusher {
        self.session_mut().state().pusher.get_or_insert_default()
    }

    /// The app of the session.
    fn pusher_app(&self) -> Option<Arc<App>> {
        match Opening::from_parameter(self.session().peer.parameter()) {
            Opening::App(app) => self.hub.protocols.settings.pusher_apps.get(&app).cloned(),
            _ => None,
        }
    }

    fn pusher_socket(&self) -> SocketId {
        let client = self.hub.client_id(self.hub.session_id(self.slot));
        SocketId::from_client(&client).expect("a client id is a UUID")
    }

    /// Begins the session: accepts the client of an app, or ends it with an error.
    fn pusher_begin(&mut self) {
        let opening = Opening::from_parameter(self.session().peer.parameter());
        let error = match self.pusher_app() {
            None => opening.error(),
            Some(app) if app.open_connection() => {
                if app.connect_hook && self.hub.settings().connect_proxy {
                    let decision = AuthorizationRequest::connect(self.hub.requester(self.slot), "");
                    return self.hub.request(
                        self.slot,
                        CONNECT,
                        Request::Authorize(Box::new(decision)),
                        self.fx,
                    );
                }
                return self.operations().accept(CONNECT, Connected::default(), true);
            }
            Some(_) => codes::OVER_QUOTA,
        };
        self.session_mut().peer.set_parameter(Opening::Refused.parameter());
        self.hub.count_error();
        self.end(&CloseReason::Code(error.number, error.text.to_owned()));
    }

    /// Executes one message.
    fn pusher_message(&mut self, message: &[u8]) -> (usize, StopReason) {
        self.session_mut().flags.set(Flag::PongDue, false);
        let command = codec::parse_command(message);
        let publishes = matches!(command, Ok(Command::ClientEvent { .. }));
        let cost = Cost { bytes: message.len(), publishes };
        let progress = self.metered_or(
            cost,
            |cx| match command {
                Ok(command) => cx.pusher_command(&command),
                Err(error) => cx.in_turn(|cx| cx.pusher_reject(None, &error.to_string())),
            },
            |cx, words| {
                let code = publishes.then_some(codes::CLIENT_EVENT_REJECTED);
                cx.pusher_reject(code, words);
            },
        );
        match progress {
            Progress::Next => (message.len(), StopReason::Partial),
            Progress::Hold => (0, StopReason::Hold),
            Progress::End => (message.len(), StopReason::End),
        }
    }

    fn pusher_event(&mut self, event: Event<'_>) {
        match event {
            Event::Connected { .. } => {
                let (socket, app) = (self.pusher_socket(), self.pusher_app());
                let timeout = app.map_or(0, |app| app.activity_timeout);
                self.pusher_write(|out| codec::established(socket, timeout, out));
            }
            Event::SubscribeCompleted { origin: Origin::Command(id), completed } => {
                self.pusher_subscribed(id, completed);
            }
            Event::Publications(key, publications) => self.send_publications(key, publications),
            Event::Response { id, response: Response::Failed(failure), .. } => self.failed(id, &failure),
            Event::Response { id, response: Response::Members(members), .. } => {
                self.pusher_members(id, &members);
            }
            Event::Response { id: CONNECT, response: Response::Connected(connected), .. } => {
                let mut connected = *connected;
                if let Some(app) = self.pusher_app().filter(|_| !connected.user.is_empty()) {
                    connected.user = app.user(&connected.user);
                }
                self.operations().accept(CONNECT, connected, true);
            }
            Event::Response { id, response: Response::Connected(connected), .. } => {
                self.pusher_signed_in(id, &connected);
            }
            Event::Unsubscribed { topic: Topic::Channel(channel), code, reason } => {
                self.pusher_unsubscribed_by_server(channel, code, reason);
            }
            Event::PingDue => {
                self.pusher_write(|out| codec::internal("pusher:ping", None, "{}", out));
                self.pusher_refresh_members();
            }
            _ => {}
        }
    }

    /// A subscription is made.
    fn pusher_subscribed(&mut self, id: u32, completed: &Completed) {
        match self.pusher().take(id) {
            Some(Pending::Subscribe { name, member: None }) => {
                self.pusher_confirm(&name, "{}");
                self.pusher_send_cached(&name, completed);
            }
            Some(Pending::Subscribe { name, member: Some(member) }) => {
                self.pusher_follow(&completed.channel, Role::Member(member));
                self.pusher_send_cached(&name, completed);
            }
            Some(Pending::UserChannel { user, data }) => {
                let answer = format!("{{\"user_data\":{}}}", serde_json::Value::from(&*data));
                self.pusher_write(|out| codec::internal("pusher:signin_success", None, &answer, out));
                self.pusher_watch(&user, &data);
            }
            Some(Pending::Watch { .. }) => self.pusher_follow(&completed.channel, Role::Watcher),
            _ => {}
        }
    }

    fn pusher_confirm(&mut self, name: &str, data: &str) {
        self.pusher_write(|out| {
            codec::internal("pusher_internal:subscription_succeeded", Some(name), data, out);
        });
    }

    /// The last event of a cache channel.
    fn pusher_send_cached(&mut self, name: &str, completed: &Completed) {
        if codec::is_cache(name) && completed.missed.is_empty() {
            self.pusher_write(|out| codec::internal("pusher:cache_miss", Some(name), "{}", out));
        }
        self.send_publications(completed.key, &completed.missed);
    }

    /// The application has ended a subscription. With a code from 2500 on the client must subscribe again, for which the
    /// protocol has no message: it connects again.
    fn pusher_unsubscribed_by_server(&mut self, channel: &Channel, number: u16, reason: &str) {
        self.pusher_leave(channel);
        if number >= code::INSUFFICIENT_STATE.number {
            return self.end(&CloseReason::Code(codes::RECONNECT.number, reason.to_owned()));
        }
        let name = codec::visible_name(channel.as_str());
        self.pusher_write(|out| codec::subscription_error(name, "Unsubscribed", reason, 403, out));
    }

    fn pusher_closing(&mut self, reason: &CloseReason) {
        if let Some(state) = self.session_mut().existing_state().and_then(|state| state.pusher.take()) {
            members::release(&mut self.hub.protocols.rosters, &state);
        }
        let (number, words) =
            disconnect_code_and_reason(reason).unwrap_or((CloseCode::NORMAL.0, String::new()));
        let close = match reason {
            CloseReason::Done | CloseReason::Transport(..) => number,
            _ => {
                let code = error_code(number);
                self.pusher_error(Some(code), &words);
                code.number
            }
        };
        self.send(|out| ws::close(CloseCode(close), &words, out));
    }

    /// Answers a command that failed.
    fn pusher_refuse(&mut self, id: u32, code: Code, text: &str) {
        match self.pusher().take(id) {
            Some(Pending::Subscribe { name, .. }) => {
                let status = code::http_status(code.number).number;
                self.pusher_reject_subscription(&name, "SubscriptionError", text, status);
            }
            Some(Pending::Members { channel, is_new }) => self.pusher_members_failed(&channel, is_new, text),
            Some(Pending::SignIn { .. } | Pending::UserChannel { .. }) => {
                self.hub.count_error();
                self.end(&CloseReason::Code(codes::UNAUTHORIZED.number, text.to_owned()));
            }
            // The client connects and signs in again, because a user that is not watched would seem to be offline.
            Some(Pending::Online | Pending::Watch { .. }) if code.temporary => {
                self.hub.count_error();
                self.end(&CloseReason::Code(codes::RECONNECT.number, text.to_owned()));
            }
            Some(Pending::Watch { user }) => {
                let text = format!("{user:?} cannot be watched: {text}");
                self.pusher_reject(Some(codes::WATCHLIST_REJECTED), &text);
            }
            Some(Pending::Online) => self.pusher_reject(Some(codes::WATCHLIST_REJECTED), text),
            // The connect hook has refused the connection, or has failed.
            None if !self.session().flags.has(Flag::Connected) => {
                self.hub.count_error();
                let error = if code.temporary { codes::OVER_CAPACITY } else { codes::UNAUTHORIZED };
                self.end(&CloseReason::Code(error.number, text.to_owned()));
            }
            None => self.pusher_reject(None, text),
        }
    }

    fn pusher_reject_subscription(&mut self, name: &str, kind: &str, text: &str, status: u16) {
        self.hub.count_error();
        self.pusher_write(|out| codec::subscription_error(name, kind, text, status, out));
    }

    /// Answers a message with an error. The session continues.
    fn pusher_reject(&mut self, code: Option<ErrorCode>, text: &str) {
        self.hub.count_error();
        self.pusher_error(code, text);
    }

    fn pusher_error(&mut self, code: Option<ErrorCode>, text: &str) {
        self.pusher_write(|out| codec::error(code, text, out));
    }

    fn pusher_write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let framing = self.link().framing();
        self.send(|out| framing.frame_with(Opcode::Text, 128, out, write));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_is_one_byte() {
        for opening in Opening::ERRORS.into_iter().chain([Opening::App(0), Opening::App(63)]) {
            assert_eq!(Opening::from_parameter(opening.parameter()), opening);
        }
    }

    #[test]
    fn a_client_connects_again_if_a_reload_has_removed_its_app_during_the_handshake() {
        assert_eq!(Opening::App(3).error(), codes::RECONNECT);
        assert_eq!(Opening::UnknownApp.error(), codes::UNKNOWN_APP);
    }

    #[test]
    fn a_close_code_determines_whether_clients_connect_again() {
        let cases = [
            (code::SHUTDOWN, 4200),
            (code::POSITION_LOST, 4200),
            (code::NO_PONG, 4201),
            (code::SLOW, 4100),
            (code::OVERLOADED, 4100),
            (code::CONNECTION_LIMIT, 4004),
            (code::FORCE_DISCONNECT, 4009),
            (code::STALE, 4009),
        ];
        for (code, number) in cases {
            assert_eq!(error_code(code.number).number, number, "{code:?}");
        }
        assert_eq!(error_code(4001).number, 4001);
    }
}
