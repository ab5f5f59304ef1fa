//! Plain event streams: publications as server-sent events, and nothing else.
//!
//! The request of the stream names its channels. The HTTP transport writes them as commands of the client protocol, so
//! this module has output only.
//!
//! Invariants:
//! - Until everything that was requested is there, the stream is not open: an error is then its refusal.
//! - An id of an event is a position, from which the client can return.

use tidings_hub::{CloseReason, Completed, Effect, Event, Flag, LossReport, ServerSubscription};
use tidings_wire::client::{Encoding, reply};
use tidings_wire::code::{self, Code};
use tidings_wire::form::event_id;
use tidings_wire::sse;

use crate::client;
use crate::context::Context;
use crate::notices::{asks_to_return, disconnect_words};
use crate::protocols::Module;
use crate::state::PeerFlag;

pub(crate) const MODULE: Module = Module {
    refuse: |cx, _, code, text| cx.events_error(code, text),
    too_long: |_, _| {},
    event: |cx, event| cx.events_event(event),
    closing: |cx, ending| cx.events_closing(ending),
    presence_changed: |_, _, _, _| {},
    loss_report: |_| LossReport::Reconnect,
    server_subscription: |_| ServerSubscription::Reported,
    ..client::MODULE
};

/// The comment that a stream gets once it is open.
const OPEN: &[u8] = b":ok\n\n";

impl Context<'_> {
    fn events_event(&mut self, event: Event<'_>) {
        match event {
            Event::Joined { settled, .. } => self.events_joined(settled),
            Event::Publications(key, publications) => self.send_publications(key, publications),
            // What its token grants it may subscribe to; it gets what it requested and nothing else.
            Event::Response { id, answer, .. } => self.client_answered(id, None, answer, true),
            // The client has no other way to learn of it, and would wait for ever.
            Event::Unsubscribed { code, reason, .. } => {
                let end = if code < 2500 { code::FORCE_DISCONNECT } else { code::POSITION_LOST };
                self.end(&CloseReason::Code(end.number, reason.to_owned()));
            }
            Event::PingDue => self.send(|out| sse::comment("", out)),
            Event::Idle => self.events_are_open(),
            _ => {}
        }
    }

    /// Sends where the client stands in a channel, so that it can return there, or what it missed.
    fn events_joined(&mut self, settled: &Completed) {
        if settled.gap {
            self.send(|out| {
                let event = sse::Event { id: None, event: Some("gap"), data: settled.channel.as_str() };
                event.write(out).expect("a name without a line break");
            });
        }
        if let Some(position) = settled.position.as_ref().filter(|_| settled.missed.is_empty()) {
            let id = event_id(position, settled.channel.as_str());
            self.send(|out| {
                out.extend_from_slice(b"id: ");
                out.extend_from_slice(id.as_bytes());
                out.extend_from_slice(b"\n\n");
            });
        }
        self.send_publications(settled.key, &settled.missed);
    }

    /// Opens the stream, once, when everything that it requested is there.
    fn events_are_open(&mut self) {
        let flags = self.session().flags;
        if flags.has(Flag::Connected)
            && !flags.has(Flag::Closing)
            && !self.set(PeerFlag::SubscribeOutcome, true)
        {
            self.send(|out| out.extend_from_slice(OPEN));
            self.fx.push(Effect::Opened(self.slot));
        }
    }

    fn events_error(&mut self, code: Code, text: &str) {
        self.hub.count_error();
        self.send_error_event(code.number, text);
        self.end(&CloseReason::Done);
    }

    /// A client of a stream reconnects by itself: it gets only the errors after which it must not.
    fn events_closing(&mut self, ending: &CloseReason) {
        if let Some((number, words)) = disconnect_words(ending).filter(|(number, _)| !asks_to_return(*number))
        {
            self.send_error_event(number, &words);
        }
    }

    /// Sends an error: as the refusal of the stream until it is open, as an event from then on.
    fn send_error_event(&mut self, number: u16, text: &str) {
        let error = reply::Error { code: number.into(), message: text.into(), temporary: false };
        if self.has(PeerFlag::SubscribeOutcome) {
            let mut data = Vec::new();
            Encoding::Json.write_error(&error, &mut data);
            self.send(|out| sse::error(&data, out));
        } else {
            let status = code::http_status(number);
            self.fx.refuse(self.slot, status, |out| Encoding::Json.write_error(&error, out));
        }
    }
}
