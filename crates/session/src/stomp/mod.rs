//! STOMP 1.2 over WebSocket: its frames as operations of the hub. The codec is `tidings_stomp`.
//!
//! A destination is the channel of the same name.
//!
//! Invariants:
//! - Frames are carried out and confirmed in their order: a `RECEIPT` confirms all frames before it.
//! - After an `ERROR` frame the connection is closed (STOMP 1.2, "ERROR"); nothing is sent behind it but a Close frame.
//! - A `MESSAGE` belongs to one subscription. A publication is encoded once; [`address`] adds the subscription's id.

mod commands;
pub(crate) mod state;

use std::sync::Arc;

use tidings_hub::{
    CloseReason, Cost, Flag, LossReport, Origin, Progress, ServerSubscription, Slot, Timer, TopicKey,
};
use tidings_stomp::{self as stomp, Command, Decoded, Frame};
use tidings_wire::Publication;
use tidings_wire::code::{self, Code};
use tidings_wire::ws::{self, CloseCode};

use state::Stomp;
use state::{Awaited, Progress as Subscribing};

use crate::Hub;
use crate::consumed::StopReason;
use crate::context::Context;
use crate::messages::{Event, Response};
use crate::module::{Addressed, Module};
use crate::notices::disconnect_code_and_reason;

pub(crate) const MODULE: Module = Module {
    message: |cx, bytes| cx.stomp_message(bytes),
    refuse: |cx, id, code, text| cx.stomp_refuse(id, code, text),
    too_long: |cx, words| cx.stomp_error(code::BAD_REQUEST.number, words, None),
    event: |cx, event| cx.stomp_event(event),
    closing: |cx, ending| cx.stomp_closing(ending),
    begin: |cx| {
        let id = cx.hub.session_id(cx.slot);
        cx.hub.start_stale_timer(id, Timer::Stale, cx.fx);
    },
    // The protocol has neither recovery nor a message that names a subscription with missing publications.
    loss_report: |_| LossReport::Reconnect,
    // A message needs the id of a subscription that the client chose.
    server_subscription: |_| ServerSubscription::Ignored,
    has_connect: true,
    // Heart-beats are no answers to pings: see `state::HeartBeats`.
    answers_pings: false,
    // Clients send text, or binary messages where a body is not text.
    accepts: |_, _| true,
    address,
    ..Module::DEFAULT
};

/// Appends a `MESSAGE` for each subscription of the session to the topic, and the end of each.
fn address(
    hub: &mut Hub,
    slot: Slot,
    topic: TopicKey,
    _: &Arc<Publication>,
    shared: &[u8],
    out: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Addressed {
    let session = hub.session_mut(slot);
    let framing = session.peer.link.framing();
    let Some(stomp) = session.existing_state().and_then(|state| state.stomp.as_mut()) else {
        return Addressed::Droppable;
    };
    let to_topic = |subscription: &&state::Subscription| subscription.progress == Subscribing::Made(topic);
    for subscription in stomp.subscriptions.iter().filter(to_topic) {
        stomp.messages += 1;
        tidings_wire::stomp::message(shared, &subscription.id, stomp.messages, framing, out);
        ends.push(out.len());
    }
    Addressed::Droppable
}

impl Context<'_> {
    fn stomp(&mut self) -> &mut Stomp {
        self.session_mut().state().stomp.get_or_insert_default()
    }

    /// Executes the frames of one message of the WebSocket; returns the number of consumed bytes. A frame may continue in the
    /// next message; it is decoded once its end may have arrived, so that many small messages cost no more than a large one.
    fn stomp_message(&mut self, message: &[u8]) -> (usize, StopReason) {
        let stomp = self.stomp();
        stomp.heart_beats.received();
        let mut kept = std::mem::take(&mut stomp.partial);
        let awaited = std::mem::replace(&mut stomp.awaited, Awaited::Nothing);
        if kept.is_empty() {
            let (used, stop, awaited) = self.stomp_frames(message);
            if stop == StopReason::Partial {
                return (message.len(), self.keep_partial(message[used..].to_vec(), awaited));
            }
            return (used, stop);
        }
        self.hub.protocols.kept -= kept.len();
        kept.extend_from_slice(message);
        if !awaited.has_arrived(kept.len(), message) {
            return (message.len(), self.keep_partial(kept, awaited));
        }
        let (used, stop, awaited) = self.stomp_frames(&kept);
        kept.drain(..used);
        match stop {
            StopReason::Partial => (message.len(), self.keep_partial(kept, awaited)),
            StopReason::Hold => {
                self.hub.protocols.kept += kept.len();
                self.stomp().partial = kept;
                (message.len(), stop)
            }
            StopReason::End => (message.len(), stop),
        }
    }

    /// Keeps the beginning of a frame, within the limit on a message.
    fn keep_partial(&mut self, partial: Vec<u8>, awaited: Awaited) -> StopReason {
        let limit = self.hub.protocols.settings.max_message;
        if partial.len() > limit {
            let words = format!("frame longer than {limit} bytes");
            self.hub.count_error();
            self.stomp_error(code::BAD_REQUEST.number, &words, None);
            self.end(&CloseReason::Transport(CloseCode::TOO_BIG.0, words));
            return StopReason::End;
        }
        self.hub.protocols.kept += partial.len();
        let stomp = self.stomp();
        (stomp.partial, stomp.awaited) = (partial, awaited);
        StopReason::Partial
    }

    /// Executes complete frames; returns the number of consumed bytes, and the end of an incomplete frame.
    fn stomp_frames(&mut self, bytes: &[u8]) -> (usize, StopReason, Awaited) {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match stomp::decode(rest) {
                Ok(Decoded::HeartBeat(length)) => {
                    self.charge_input(length);
                    used += length;
                }
                Ok(Decoded::Partial(whole)) => {
                    return (used, StopReason::Partial, whole.map_or(Awaited::Nul, Awaited::Bytes));
                }
                Ok(Decoded::Frame(frame, length)) => {
                    let cost = Cost { bytes: length, publishes: frame.command == Command::Send };
                    let receipt = frame.header("receipt").map(str::to_owned);
                    let progress = self.metered_or(
                        cost,
                        |cx| cx.stomp_frame(&frame),
                        |cx, words| {
                            let code = code::TOO_MANY_REQUESTS;
                            cx.stomp_reject(code, words, receipt.as_deref());
                        },
                    );
                    match progress {
                        Progress::Next => used += length,
                        Progress::Hold => return (used, StopReason::Hold, Awaited::Nothing),
                        Progress::End => return (bytes.len(), StopReason::End, Awaited::Nothing),
                    }
                }
                // The error follows the responses to the frames before it.
                Err(_) if self.session().has_queued() => return (used, StopReason::Hold, Awaited::Nothing),
                Err(error) => {
                    self.hub.count_error();
                    self.end(&CloseReason::Protocol(error.to_string()));
                    return (bytes.len(), StopReason::End, Awaited::Nothing);
                }
            }
        }
    }

    fn stomp_frame(&mut self, frame: &Frame<'_>) -> Progress {
        let is_connected = self.session().flags.has(Flag::Connected);
        match frame.command {
            Command::Connect | Command::Stomp => self.in_turn(|cx| cx.stomp_connect(frame, is_connected)),
            _ if !is_connected => self.in_turn(|cx| {
                cx.stomp_reject(code::BAD_REQUEST, "the first frame must be CONNECT", None);
            }),
            Command::Send => self.stomp_send(frame),
            Command::Subscribe => self.stomp_subscribe(frame),
            Command::Unsubscribe => self.in_turn(|cx| cx.stomp_unsubscribe(frame)),
            Command::Disconnect => self.in_turn(|cx| {
                cx.stomp_confirm(frame.header("receipt"));
                cx.end(&CloseReason::Done);
            }),
            Command::Ack | Command::Nack => self.stomp_unavailable(
                frame,
                "messages are not acknowledged: subscriptions have ack:auto, in which a message counts as acknowledged \
                 when it is sent",
            ),
            Command::Begin | Command::Commit | Command::Abort => {
                self.stomp_unavailable(frame, "transactions are not available")
            }
        }
    }

    fn stomp_event(&mut self, event: Event<'_>) {
        match event {
            Event::SubscribeCompleted { origin: Origin::Command(id), completed } => {
                for subscription in &mut self.stomp().subscriptions {
                    if subscription.progress == Subscribing::Subscribing(id) {
                        subscription.progress = Subscribing::Made(completed.key);
                    }
                }
                self.stomp_receipt(id);
                self.send_publications(completed.key, &completed.missed);
            }
            Event::Publications(key, publications) => self.send_publications(key, publications),
            Event::Connected { .. } => self.stomp_connected(),
            Event::Response { id, response: Response::Failed(failure), .. } => self.failed(id, &failure),
            // The client may subscribe to the channels that its token grants; it gets nothing that it did not request.
            Event::Response { id, response: Response::Connected(connected), .. } => {
                self.operations().accept(id, *connected, true);
            }
            Event::Response { id, .. } => self.stomp_receipt(id),
            // The protocol has no frame for the end of one subscription.
            Event::Unsubscribed { topic, code, reason } => {
                let words = format!("{reason}: {}", topic.as_str());
                self.stomp_error(code, &words, None);
                self.end(&CloseReason::Done);
            }
            Event::PingDue => {
                let is_stopped = self.session().flags.has(Flag::Stopped);
                let beats = &mut self.stomp().heart_beats;
                if is_stopped {
                    // Input is not read until earlier frames are answered.
                    beats.received();
                }
                if beats.is_overdue() {
                    self.end(&CloseReason::NoPong);
                } else if beats.sends {
                    let framing = self.link().framing();
                    self.send(|out| {
                        framing.frame_with(ws::Opcode::Text, 1, out, |out| {
                            out.extend_from_slice(stomp::HEART_BEAT);
                        });
                    });
                }
            }
            _ => {}
        }
    }

    /// An error that has a code of its own ends with an `ERROR` frame; every ending has a Close frame.
    fn stomp_closing(&mut self, ending: &CloseReason) {
        let (number, words) =
            disconnect_code_and_reason(ending).unwrap_or((CloseCode::NORMAL.0, String::new()));
        if !matches!(ending, CloseReason::Done | CloseReason::Transport(..)) {
            self.stomp_error(number, &words, None);
        }
        self.send(|out| ws::close(CloseCode(number), &words, out));
    }

    /// Answers a command that failed, and ends the session.
    fn stomp_refuse(&mut self, id: u32, code: Code, text: &str) {
        let receipt = self.stomp().take_receipt(id);
        self.stomp_reject(code, text, receipt.as_deref());
    }

    /// Answers a frame with an error, and ends the session.
    fn stomp_reject(&mut self, code: Code, text: &str, receipt: Option<&str>) {
        self.hub.count_error();
        self.stomp_error(code.number, text, receipt);
        self.end(&CloseReason::Done);
    }

    fn stomp_error(&mut self, code: u16, text: &str, receipt: Option<&str>) {
        let number = code.to_string();
        let mut headers = vec![("code", number.as_str())];
        headers.extend(receipt.map(|receipt| ("receipt-id", receipt)));
        self.stomp_write(|out| stomp::error(text, &headers, text, out));
    }

    /// Confirms a command that requested it.
    fn stomp_receipt(&mut self, id: u32) {
        let receipt = self.stomp().take_receipt(id);
        self.stomp_confirm(receipt.as_deref());
    }

    fn stomp_confirm(&mut self, receipt: Option<&str>) {
        if let Some(receipt) = receipt {
            self.stomp_write(|out| stomp::receipt(receipt, out));
        }
    }

    /// Sends a frame of text.
    fn stomp_write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let framing = self.link().framing();
        self.send(|out| framing.frame_with(ws::Opcode::Text, 128, out, write));
    }
}
