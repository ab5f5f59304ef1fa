//! The client protocol: its commands, independent of the transport. The codec is `tidings_wire::client`.
//!
//! Ordered commands (`connect`, `subscribe`, `unsubscribe`, and a `publish` after them) are executed and answered one
//! after the other. Requests are answered as their responses arrive.

mod commands;
mod replies;

use tidings_hub::{
    CloseReason, Connected, Cost, Flag, LossReport, Origin, Progress, ServerSubscription, Timer,
};
use tidings_wire::client::push::{self, Event as PushEvent};
use tidings_wire::client::reply::Outcome;
use tidings_wire::client::request::{Command, Request};
use tidings_wire::client::{Encoding, Malformed};
use tidings_wire::ws::Kind;
use tidings_wire::{code, line};

use crate::consumed::{Consumed, StopReason};
use crate::context::Context;
use crate::messages::Event;
use crate::module::Module;

pub(crate) const MODULE: Module = Module {
    run: |cx, bytes, searched| cx.client_run(bytes, searched),
    message: |cx, bytes| cx.run_messages(bytes),
    append_limit: |cx, held, bytes| cx.client_piece(held, bytes),
    refuse: |cx, id, code, text| cx.client_error(id, code, text),
    too_long: |cx, words| cx.client_too_long(words),
    event: |cx, event| cx.client_event(event),
    closing: |cx, reason| cx.client_closing(reason),
    presence_changed: replies::presence_changed,
    begin: |cx| cx.client_opened(),
    loss_report: |link| if link.is_one_way() { LossReport::Reconnect } else { LossReport::Resubscribe },
    server_subscription: |_| ServerSubscription::Reported,
    has_connect: true,
    answers_pings: true,
    // A one-way client would have to send the positions itself, and `EventSource` cannot change its URL.
    recovers: |link| !link.is_one_way(),
    accepts: |link, kind| match link.encoding() {
        Encoding::Json => kind == Kind::Text,
        Encoding::Protobuf => kind == Kind::Binary,
    },
    ..Module::DEFAULT
};

impl Context<'_> {
    fn client_event(&mut self, event: Event<'_>) {
        match event {
            Event::SubscribeCompleted { origin: Origin::Command(id), completed } => {
                self.client_subscribed(id, completed);
            }
            Event::SubscribeCompleted { completed, .. } => self.server_subscribed(completed),
            Event::Publications(key, publications) => self.send_publications(key, publications),
            Event::Connected { id, connected, subscriptions } => {
                self.client_connected(id, connected, subscriptions);
            }
            Event::StateRead { id, kind, page, format } => self.client_state(id, kind, page, format),
            Event::Response { id, channel, response } => self.client_response(id, channel, response, false),
            Event::Unsubscribed { topic, code, reason } => {
                let unsubscribe = push::Unsubscribe { code: code.into(), reason: reason.into() };
                self.push(topic.as_str(), PushEvent::Unsubscribe(unsubscribe));
            }
            Event::Renewed(left) => {
                let refresh = push::Refresh { expires: left.is_some(), ttl: left.unwrap_or(0) };
                self.push("", PushEvent::Refresh(refresh));
            }
            Event::PingDue => self.reply(0, Outcome::Ping),
            _ => {}
        }
    }

    /// Accepts a connection without a request to the control plane.
    fn client_accept(&mut self, id: u32, connected: Connected) {
        let grants = self.link().is_events();
        self.operations().accept(id, connected, grants);
    }

    /// Starts the timer by which the client must connect.
    pub(crate) fn client_opened(&mut self) {
        let id = self.hub.session_id(self.slot);
        self.hub.start_stale_timer(id, Timer::Stale, self.fx);
    }

    /// Executes the commands in bytes that are not WebSocket frames.
    fn client_run(&mut self, bytes: &[u8], searched: usize) -> Consumed {
        if self.link().encoding() == Encoding::Protobuf {
            let (used, stop) = self.run_messages(bytes);
            return Consumed { used, stop };
        }
        self.run_lines(bytes, searched, line::next, |cx, line, length| {
            if line.trim_ascii().is_empty() {
                // Blank lines keep connections alive.
                cx.charge_input(length);
                return Progress::Next;
            }
            cx.client_message(line)
        })
    }

    fn client_piece(&self, held: usize, bytes: &[u8]) -> usize {
        // The kept Protobuf input only waits, and has no limit of its own.
        if self.link().encoding() == Encoding::Protobuf {
            return bytes.len();
        }
        let line = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |i| i + 1);
        line.min(self.line_limit().saturating_add(2).saturating_sub(held))
    }

    /// Executes the commands in one frame; returns the number of consumed bytes.
    pub(crate) fn run_messages(&mut self, frame: &[u8]) -> (usize, StopReason) {
        let encoding = self.link().encoding();
        let mut messages = encoding.messages(frame);
        loop {
            let before = messages.rest();
            let act = match messages.next() {
                None => return (frame.len(), StopReason::Partial),
                Some(Ok(message)) => self.client_message(message),
                Some(Err(error)) => self.end_with_protocol_error(&format!("bad request: {error}")),
            };
            match act {
                Progress::Next => {}
                Progress::Hold => return (frame.len() - before.len(), StopReason::Hold),
                Progress::End => return (frame.len(), StopReason::End),
            }
        }
    }

    /// Executes one message, which is one command.
    pub(crate) fn client_message(&mut self, message: &[u8]) -> Progress {
        let link = self.link();
        let bytes = message.len();
        if link.is_websocket() && link.is_one_way() {
            let cost = Cost { bytes, publishes: false };
            return self.metered(1, cost, |cx| cx.client_first_message(message));
        }
        let parsed = link.encoding().parse_command(message);
        let (id, publishes) = match &parsed {
            // The reply to the server's ping is not charged.
            Ok(Command { request: Request::Pong, .. }) if self.session().flags.has(Flag::PongDue) => {
                return self.client_parsed(parsed);
            }
            Ok(command) => (command.id, matches!(command.request, Request::Publish(_))),
            Err(error) => (error.id, false),
        };
        let cost = Cost { bytes, publishes };
        self.metered(id, cost, |cx| cx.client_parsed(parsed))
    }

    /// Executes a command, or responds to an invalid message.
    fn client_parsed(&mut self, parsed: Result<Command<'_>, Malformed>) -> Progress {
        let connected = self.session().flags.has(Flag::Connected);
        let command = match parsed {
            Ok(command) => command,
            // A peer that is not connected and sends no command does not use this protocol.
            Err(error) if !connected && error.id == 0 && !self.session().has_queued() => {
                return self.end_with_protocol_error(&format!("bad request: {error}"));
            }
            Err(error) => {
                return self.in_turn(|cx| {
                    let words = format!("bad request: {error}");
                    cx.refuse(error.id, code::BAD_REQUEST, &words);
                });
            }
        };
        if connected {
            return self.client_command(&command);
        }
        // Further commands wait until the connection is accepted.
        if self.session().has_queued() && command.request != Request::Pong {
            return Progress::Hold;
        }
        match command.request {
            Request::Connect(connect) if command.id != 0 => self.client_connect(command.id, &connect),
            Request::Pong => Progress::Next,
            _ => self.end_with_protocol_error("bad request: connect first"),
        }
    }

    /// The first message of a one-way WebSocket contains the fields of `connect`; further messages are ignored.
    fn client_first_message(&mut self, message: &[u8]) -> Progress {
        let session = self.session();
        if session.flags.has(Flag::Connected) || session.has_queued() {
            return Progress::Next;
        }
        match session.peer.link.encoding().parse_connect(message) {
            Ok(connect) => self.client_connect(1, &connect),
            Err(error) => self.end_with_protocol_error(&format!("bad request: {error}")),
        }
    }

    fn client_command(&mut self, command: &Command<'_>) -> Progress {
        let id = command.id;
        match &command.request {
            Request::Pong => {
                self.session_mut().flags.set(Flag::PongDue, false);
                Progress::Next
            }
            // There is no hook for this message, and it has no reply.
            Request::Send(_) => Progress::Next,
            // A command without an id cannot be answered.
            _ if id == 0 => self.end_with_protocol_error("bad request: a command needs an id"),
            Request::Connect(_) => self.end_with_protocol_error("bad request: connected already"),
            Request::Subscribe(subscribe) => self.client_subscribe(id, subscribe),
            Request::Unsubscribe(unsubscribe) => {
                self.in_turn(|cx| cx.client_unsubscribe(id, &unsubscribe.channel))
            }
            Request::Publish(publish) => self.client_publish(id, publish),
            Request::Ping => self.in_turn(|cx| cx.reply(id, Outcome::Pong)),
            Request::Presence(presence) => self.client_presence(id, &presence.channel, false),
            Request::PresenceStats(stats) => self.client_presence(id, &stats.channel, true),
            Request::History(history) => self.client_history(id, history),
            Request::Rpc(rpc) => self.client_rpc(id, rpc),
            Request::Refresh(refresh) => self.client_refresh(id, &refresh.token),
            Request::SubRefresh(refresh) => self.client_sub_refresh(id, refresh),
            Request::Unknown => self.in_turn(|cx| {
                cx.refuse(id, code::METHOD_NOT_FOUND, code::METHOD_NOT_FOUND.text);
            }),
        }
    }

    pub(crate) fn end_with_protocol_error(&mut self, words: &str) -> Progress {
        self.hub.count_error();
        self.end(&CloseReason::Protocol(words.to_owned()));
        Progress::End
    }
}
