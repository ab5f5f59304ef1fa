//! Plain event streams: publications as server-sent events.
//!
//! The request of the stream names its channels. The HTTP transport translates them to commands of the client protocol,
//! so this module has output only.
//!
//! Invariants:
//! - The stream opens when everything that was requested is subscribed. An error before that refuses the stream.
//! - The id of an event is a position that the client can recover from.

use tidings_hub::{CloseReason, Completed, Flag, LossReport, ServerSubscription};
use tidings_wire::client::{Encoding, reply};
use tidings_wire::code::{self, Code};
use tidings_wire::form::event_id;
use tidings_wire::sse;

use crate::client;
use crate::context::Context;
use crate::messages::{Effect, Event};
use crate::module::Module;
use crate::notices::{disconnect_code_and_reason, requests_reconnect};
use crate::peer::PeerFlag;

pub(crate) const MODULE: Module = Module {
    refuse: |cx, _, code, text| cx.events_error(code, text),
    too_long: |_, _| {},
    event: |cx, event| cx.events_event(event),
    closing: |cx, reason| cx.events_closing(reason),
    presence_changed: |_, _, _, _| {},
    loss_report: |_| LossReport::Reconnect,
    server_subscription: |_| ServerSubscription::Reported,
    // `EventSource` connects again with `Last-Event-ID`, which contains the positions.
    recovers: |_| true,
    ..client::MODULE
};

/// The comment that opens a stream.
const OPEN_COMMENT: &[u8] = b":ok\n\n";

impl Context<'_> {
    fn events_event(&mut self, event: Event<'_>) {
        match event {
            Event::SubscribeCompleted { completed, .. } => self.events_subscribed(completed),
            Event::Publications(key, publications) => self.send_publications(key, publications),
            // The client gets the channels that it requested. Channels that its token grants are only permitted.
            Event::Response { id, response, .. } => self.client_response(id, None, response, true),
            // The stream has no other way to report it, and the client would wait for ever.
            Event::Unsubscribed { code, reason, .. } => {
                let end = if code < 2500 { code::FORCE_DISCONNECT } else { code::POSITION_LOST };
                self.end(&CloseReason::Code(end.number, reason.to_owned()));
            }
            Event::PingDue => self.send(|out| sse::comment("", out)),
            Event::Idle => self.events_open_stream(),
            _ => {}
        }
    }

    /// Sends the client's position in a channel, or its missed publications.
    fn events_subscribed(&mut self, completed: &Completed) {
        if completed.gap {
            self.send(|out| {
                let event = sse::Event { id: None, event: Some("gap"), data: completed.channel.as_str() };
                event.write(out).expect("a name without a line break");
            });
        }
        if let Some(position) = completed.position.as_ref().filter(|_| completed.missed.is_empty()) {
            let id = event_id(position, completed.channel.as_str());
            self.send(|out| {
                out.extend_from_slice(b"id: ");
                out.extend_from_slice(id.as_bytes());
                out.extend_from_slice(b"\n\n");
            });
        }
        self.send_publications(completed.key, &completed.missed);
    }

    /// Opens the stream once everything that was requested is subscribed.
    fn events_open_stream(&mut self) {
        let flags = self.session().flags;
        if flags.has(Flag::Connected) && !flags.has(Flag::Closing) && !self.set(PeerFlag::StreamOpen, true) {
            self.send(|out| out.extend_from_slice(OPEN_COMMENT));
            self.fx.push(Effect::Opened(self.slot));
        }
    }

    fn events_error(&mut self, code: Code, text: &str) {
        self.hub.count_error();
        self.send_error_event(code.number, text);
        self.end(&CloseReason::Done);
    }

    /// Clients of a stream reconnect by themselves: they get only the errors after which they must not.
    fn events_closing(&mut self, reason: &CloseReason) {
        if let Some((number, words)) =
            disconnect_code_and_reason(reason).filter(|(number, _)| !requests_reconnect(*number))
        {
            self.send_error_event(number, &words);
        }
    }

    /// Sends an error: it refuses a stream that is not open, and is an event of an open one.
    fn send_error_event(&mut self, number: u16, text: &str) {
        let error = reply::Error { code: number.into(), message: text.into(), temporary: false };
        if self.has(PeerFlag::StreamOpen) {
            let mut data = Vec::new();
            Encoding::Json.write_error(&error, &mut data);
            self.send(|out| sse::error(&data, out));
        } else {
            let status = code::http_status(number);
            self.fx.refuse(self.slot, status, |out| Encoding::Json.write_error(&error, out));
        }
    }
}
