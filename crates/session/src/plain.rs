//! Plain lines: the commands of the line contract.
//!
//! Invariants:
//! - Telnet control sequences are not part of a line. A partial sequence is kept as a state, without its bytes.
//! - A `\r` ends a line at once; a `\n` after it is skipped, even if it arrives later.

use std::sync::Arc;

use bytes::Bytes;
use tidings_hub::{
    Action, CloseReason, Connected, Cost, Flow, LossReport, Progress, ServerSubscription, SubscribeOutcome,
    Timer,
};
use tidings_wire::code::{self, Code};
use tidings_wire::line;
use tidings_wire::plain::telnet::Telnet;
use tidings_wire::plain::{self, Command};
use tidings_wire::{Channel, Topic};

use crate::consumed::Consumed;
use crate::context::Context;
use crate::link::{Link, Protocol};
use crate::messages::{Effect, Event, Response};
use crate::module::Module;
use crate::notices::shutdown_reason;
use crate::peer::PeerFlag;

pub(crate) const MODULE: Module = Module {
    run: |cx, bytes, searched| cx.plain_run(bytes, searched),
    append_limit: |cx, held, bytes| {
        let bound = cx.line_limit().saturating_add(1);
        line::plain_piece(bytes).min(bound.saturating_sub(held))
    },
    refuse: |cx, _, code, text| cx.plain_refuse(code, text),
    event: |cx, event| cx.plain_event(event),
    closing: |cx, reason| cx.plain_closing(reason),
    begin: |cx| cx.plain_begin(),
    loss_report: |_| LossReport::Notice,
    server_subscription: |channel| {
        // `MESSAGE CHANNEL BODY` is ambiguous if the name of the channel contains a space.
        if channel.fits_a_line() { ServerSubscription::Unreported } else { ServerSubscription::Refused }
    },
    ..Module::DEFAULT
};

impl Context<'_> {
    /// Schedules the automatic subscriptions of a new connection of the line port. They wait for the first byte.
    fn plain_begin(&mut self) {
        if self.link() != Link::UNKNOWN || self.hub.protocols.settings.auto_subscribe.is_empty() {
            return;
        }
        self.set(PeerFlag::AutoSubscribePending, true);
        let (id, wait) = (self.hub.session_id(self.slot), self.hub.protocols.settings.first_byte_wait);
        self.fx.push(Effect::Start(id, Timer::FirstByte, wait));
    }

    /// Makes the pending automatic subscriptions.
    pub(crate) fn make_auto_subscriptions(&mut self) {
        if self.set(PeerFlag::AutoSubscribePending, false) {
            let settings = Arc::clone(&self.hub.protocols.settings);
            self.subscribe_if_allowed(&settings.auto_subscribe);
        }
    }

    /// The automatic subscriptions that a session of plain lines has no permission for.
    fn denied_auto_subscriptions(&self) -> Vec<Channel> {
        if self.link().protocol() != Protocol::Plain {
            return Vec::new();
        }
        let channels = self.hub.protocols.settings.auto_subscribe.iter();
        let is_refused =
            |channel: &&Channel| self.hub.authorize(self.slot, Action::Subscribe, channel).is_err();
        channels.filter(is_refused).cloned().collect()
    }

    fn subscribe_if_allowed(&mut self, channels: &[Channel]) {
        for channel in channels {
            if self.hub.authorize(self.slot, Action::Subscribe, channel).is_ok() {
                self.hub.subscribe_silently(self.slot, &Topic::Channel(channel.clone()), self.fx);
            }
        }
    }

    fn plain_run(&mut self, bytes: &[u8], searched: usize) -> Consumed {
        let mut skipped = 0;
        if !bytes.is_empty() && self.set(PeerFlag::AfterCarriageReturn, false) {
            skipped = line::begins_behind_return(bytes);
        }
        let rest = &bytes[skipped..];
        let mut used = 0;
        let consumed = self.run_lines(rest, searched, line::next_plain, |cx, line, length| {
            let act = cx.plain_line(line);
            if act == Progress::Next {
                used += length;
                if used == rest.len() && rest[used - 1] == b'\r' {
                    cx.set(PeerFlag::AfterCarriageReturn, true);
                }
            }
            act
        });
        Consumed { used: skipped + consumed.used, stop: consumed.stop }
    }

    fn plain_event(&mut self, event: Event<'_>) {
        match event {
            Event::Subscribed { already, .. } => self.plain_subscribed(already),
            Event::Response { id, response: Response::Failed(failure), .. } => self.failed(id, &failure),
            Event::Response { response: Response::Connected(connected), .. } => self.plain_accept(*connected),
            Event::Response { .. } => self.send(|out| out.extend_from_slice(plain::CONFIRMED)),
            Event::Unsubscribed { topic, code, reason } => {
                let words = format!("{reason}: {}", topic.as_str());
                self.send(|out| plain::error(code, &words, out));
            }
            Event::Interrupted { code, reason } => self.send(|out| plain::error(code.number, reason, out)),
            Event::Publications(key, publications) => self.send_publications(key, publications),
            _ => {}
        }
    }

    fn plain_refuse(&mut self, code: Code, text: &str) {
        self.hub.count_error();
        self.send(|out| plain::error(code.number, text, out));
    }

    fn plain_closing(&mut self, reason: &CloseReason) {
        let Some((code, mut words)) = reason.code_and_reason() else { return };
        if let CloseReason::Shutdown(delay) = reason {
            words = shutdown_reason(*delay);
        }
        self.send(|out| plain::error(code.number, &words, out));
    }

    /// Accepts the token of `AUTH`. Its channels are not subscribed: the client may subscribe to them.
    fn plain_accept(&mut self, connected: Connected) {
        let missing = self.denied_auto_subscriptions();
        if self.accept_with_grants(connected) {
            self.send(|out| out.extend_from_slice(plain::CONFIRMED));
            self.subscribe_if_allowed(&missing);
        }
    }

    /// Removes telnet control sequences from the input, and replies to them.
    pub(crate) fn telnet_input(&mut self, mut telnet: Telnet, bytes: &[u8]) -> Flow {
        let (mut text, mut answers) = (Vec::with_capacity(bytes.len()), Vec::new());
        let read = telnet.read(bytes, &mut text, &mut answers);
        self.session_mut().state().telnet = telnet;
        if !answers.is_empty() && self.charge_input(answers.len()) {
            self.send(|out| out.extend_from_slice(&answers));
        }
        let flow = self.commands_input(&text);
        if let Err(error) = read {
            self.hub.count_error();
            self.end(&CloseReason::Protocol(error.to_string()));
            return Flow::Ended;
        }
        flow
    }

    /// Executes one line.
    pub(crate) fn plain_line(&mut self, line: &[u8]) -> Progress {
        let first = !self.set(PeerFlag::FirstLineReceived, true);
        let command = plain::parse(line).ok();
        match command {
            None if first => {
                // The peer uses another protocol: further input is discarded.
                self.hub.count_error();
                self.end(&CloseReason::Protocol("the first line is not UTF-8".to_owned()));
                Progress::End
            }
            Some(Command::Exit) => self.in_turn(|cx| cx.end(&CloseReason::Done)),
            Some(Command::Other(text)) if first && is_http(text) => {
                // An HTTP request, usually of a browser. Its body is discarded: a web page can fill it with commands.
                let words = "this port speaks lines, not HTTP".to_owned();
                self.end(&CloseReason::Protocol(words));
                Progress::End
            }
            command => {
                let publishes = matches!(command, Some(Command::Publish { .. }));
                let cost = Cost { bytes: line.len(), publishes };
                self.metered(0, cost, |cx| cx.plain_command(command))
            }
        }
    }

    /// Executes a command, or responds to a line that is not UTF-8.
    fn plain_command(&mut self, command: Option<Command<'_>>) -> Progress {
        let Some(command) = command else {
            return self.in_turn(|cx| {
                cx.refuse(0, code::BAD_REQUEST, "bad request: the line is not UTF-8");
            });
        };
        match command {
            Command::Subscribe(name) => self.plain_subscribe(name),
            Command::Publish { channel, body } => self.plain_publish(channel, body),
            Command::Unsubscribe(name) => self.in_turn(|cx| cx.plain_unsubscribe(name)),
            Command::PublishWithoutBody => self.in_turn(|cx| {
                cx.refuse(0, code::BAD_REQUEST, "bad request: use PUBLISH channel body");
            }),
            Command::Auth(secret) => self.in_turn(|cx| cx.plain_auth(secret)),
            Command::Ping => self.in_turn(|cx| cx.send(|out| out.extend_from_slice(plain::PONG))),
            Command::Exit => self.in_turn(|cx| cx.end(&CloseReason::Done)),
            Command::Other(text) => self.in_turn(|cx| {
                if cx.hub.protocols.settings.echo {
                    cx.send(|out| plain::echo(text, out));
                } else {
                    cx.send(|out| out.extend_from_slice(plain::UNKNOWN_COMMAND));
                }
            }),
        }
    }

    /// The channel of a command; `None` after an error response for an invalid name.
    fn plain_channel(&mut self, name: Option<&str>) -> Option<Channel> {
        let Some(name) = name else { return Some(self.hub.settings().default_channel.clone()) };
        match Channel::new(name) {
            Ok(channel) if channel.fits_a_line() => Some(channel),
            Ok(_) => {
                self.refuse(0, code::BAD_REQUEST, NAME_WITH_SPACE);
                None
            }
            Err(error) => {
                self.refuse(0, code::BAD_REQUEST, &format!("bad request: {error}"));
                None
            }
        }
    }

    fn plain_subscribe(&mut self, name: Option<&str>) -> Progress {
        if self.session().has_pending() {
            return Progress::Hold;
        }
        let Some(channel) = self.plain_channel(name) else { return Progress::Next };
        if let Err(code) = self.hub.authorize_command(self.slot, Action::Subscribe, &channel) {
            self.refuse(0, code, code.text);
            return Progress::Next;
        }
        match self.hub.begin_subscribe(self.slot, &Topic::Channel(channel), 0, self.fx) {
            SubscribeOutcome::Now { already } => self.plain_subscribed(already),
            SubscribeOutcome::Refused(code, words) => self.refuse(0, code, &words),
            SubscribeOutcome::Waiting => {}
        }
        Progress::Next
    }

    pub(crate) fn plain_subscribed(&mut self, already: bool) {
        let words = if already { plain::ALREADY_SUBSCRIBED } else { plain::CONFIRMED };
        self.send(|out| out.extend_from_slice(words));
    }

    fn plain_unsubscribe(&mut self, name: Option<&str>) {
        let Some(channel) = self.plain_channel(name) else { return };
        let was = self.hub.unsubscribe(self.slot, &Topic::Channel(channel), self.fx);
        let words = if was { plain::CONFIRMED } else { plain::ALREADY_UNSUBSCRIBED };
        self.send(|out| out.extend_from_slice(words));
    }

    fn plain_publish(&mut self, channel: &str, body: &str) -> Progress {
        let awaiting = self.session().has_pending();
        if !self.session().can_publish() {
            return Progress::Hold;
        }
        let refusal = match Channel::new(channel) {
            Err(error) => Some((code::BAD_REQUEST, format!("bad request: {error}"))),
            Ok(channel) => {
                match self.hub.publish_request(
                    self.slot,
                    channel,
                    Bytes::copy_from_slice(body.as_bytes()),
                    Vec::new(),
                ) {
                    Err(code) => Some((code, code.text.to_owned())),
                    Ok(request) => {
                        self.hub.request(self.slot, 0, request, self.fx);
                        None
                    }
                }
            }
        };
        match refusal {
            Some(_) if awaiting => Progress::Hold,
            Some((code, words)) => {
                self.refuse(0, code, &words);
                Progress::Next
            }
            None => Progress::Next,
        }
    }

    fn plain_auth(&mut self, secret: &str) {
        let missing = self.denied_auto_subscriptions();
        if self.hub.authenticate(self.slot, secret.as_bytes()) {
            self.send(|out| out.extend_from_slice(plain::CONFIRMED));
            self.subscribe_if_allowed(&missing);
        } else {
            self.hub.authenticate_token(self.slot, secret.as_bytes(), self.fx);
        }
    }
}

/// The error for a channel name with a space.
const NAME_WITH_SPACE: &str =
    "bad request: on plain lines a channel name contains no spaces (RESP and JSON lines take them)";

/// Whether a line is the request line of HTTP (RFC 9112 §3).
fn is_http(line: &str) -> bool {
    let mut words = line.split(' ');
    let method = words.next().is_some_and(|m| !m.is_empty() && m.bytes().all(|b| b.is_ascii_uppercase()));
    method
        && words.next().is_some_and(|target| target.starts_with(['/', 'h', '*']))
        && words.next().is_some_and(|v| v.starts_with("HTTP/1."))
        && words.next().is_none()
}
