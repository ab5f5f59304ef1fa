//! Sessions that the broker stores: their messages are read from it, and it has each step before the client can observe it.
//!
//! Invariants:
//! - A message with QoS 1 or 2 reaches the client from the broker alone, with the packet identifier that the broker has assigned.
//! - A packet that follows from a step waits until the broker has the step. Acknowledgements of the client are passed without a
//!   response: a message that it has acknowledged may be sent again.
//! - A message of a subscription that the broker may not have yet is sent with QoS 0, and not at all if it has QoS 2: the broker may
//!   have it.
//! - One read is in progress at a time, and reads no more messages than the client accepts.
//!
//! A client whose session is not kept has one at the broker from its first shared subscription on, for its shared subscriptions
//! alone: a partial one, which ends with the connection. Its messages get packet identifiers of the connection.

use std::collections::VecDeque;

use tidings_hub::{CloseReason, Flag};
use tidings_mqtt::{Packet, PacketId, Qos};
use tidings_mqtt_session as mqtt;
use tidings_mqtt_session::{
    Acknowledgement, CloseSession, MessagePage, MessageQueue, OpenedSession, Options, QueuedMessage,
    ReadMessages, SessionChange, SessionKey, SessionState, Step, StoreSteps,
};
use tidings_wire::{Channel, MessageProperties};

use super::outgoing::Outgoing;
use super::state::{Mqtt, Phase, READ, STORE};
use crate::context::Context;
use crate::messages::Request;

/// Most bytes of messages that are read at once, except for a single message.
const READ_BYTES: usize = 128 * 1024;

/// The owner of partial sessions; no user has this name.
const PARTIAL: &str = "\u{2}";

/// The part of a session that the broker stores.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// It has the shared subscriptions alone.
    is_partial: bool,
    /// A partial session was requested at the broker.
    has_begun: bool,
    /// Messages that were read, and wait until the client has acknowledged others; of a partial session alone.
    pending: VecDeque<QueuedMessage>,
    /// The packet identifiers of the connection, and those of the broker; of a partial session alone.
    ids: Vec<(PacketId, PacketId)>,
    /// Subscriptions with QoS 1 or 2 that have ended, and which the broker may have still; with the request, or 0 until it is made.
    ending: Vec<(u64, Box<str>, Options)>,
    /// The serial up to which messages were read.
    after: u64,
    /// The serial up to which earlier connections have read messages.
    sent: u64,
    is_reading: bool,
    /// There may be messages that were not read.
    has_more: bool,
    /// Packets that wait for the steps before them, or for a packet that does.
    packets: VecDeque<WaitingPacket>,
    /// The number of the last request with steps.
    last_request: u64,
    /// The requests with subscriptions that the broker did not confirm yet, and their filters.
    unconfirmed: Vec<(u64, Box<str>)>,
}

/// A packet that is sent when the broker has its steps, and the packets before it are sent.
#[derive(Debug)]
struct WaitingPacket {
    /// The request with its steps; 0 without steps, or when the broker has them.
    request: u64,
    bytes: Vec<u8>,
}

impl Stored {
    /// The step as the broker has it; `None` if it does not concern the broker.
    pub(super) fn translate(&mut self, step: Step) -> Option<Step> {
        if !self.is_partial {
            // The broker has the message until the client has acknowledged it.
            return (!matches!(step, Step::Sent(_) | Step::Dropped(_))).then_some(step);
        }
        match step {
            Step::Subscribed(made) => made.is_shared().then_some(Step::Subscribed(made)),
            Step::Unsubscribed(filter) => filter.starts_with("$share/").then_some(Step::Unsubscribed(filter)),
            // The session ends with the connection, which has the rest of the exchange.
            Step::Ended(id) | Step::Released(id) => {
                let at = self.ids.iter().position(|(own, _)| *own == id)?;
                Some(Step::Ended(self.ids.swap_remove(at).1))
            }
            _ => None,
        }
    }
}

impl Mqtt {
    /// Whether the broker stores the session, with all its subscriptions.
    pub(super) fn is_stored(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| !stored.is_partial)
    }

    /// A subscription ends, or gets QoS 0.
    pub(super) fn end_subscription(&mut self, filter: &str, options: Options) {
        if let Some(stored) = self.stored.as_mut().filter(|stored| !stored.is_partial)
            && options.qos != Qos::AtMostOnce
        {
            stored.ending.push((0, filter.into(), options));
        }
    }

    /// Whether the broker may add a message to the session because of a subscription that has ended.
    pub(super) fn may_be_at_broker(&self, channel: &Channel, message: Option<&MessageProperties>) -> bool {
        let Some(stored) = self.stored.as_ref().filter(|stored| !stored.ending.is_empty()) else {
            return false;
        };
        message.is_some_and(|message| message.qos != Qos::AtMostOnce)
            && stored.ending.iter().any(|(_, filter, options)| options.matches(filter, channel.as_str()))
    }

    /// Whether the broker certainly adds a publication of this channel to the session, with QoS 1 or 2.
    pub(super) fn is_at_broker(&self, channel: &Channel) -> bool {
        let Some(stored) = &self.stored else { return false };
        let has_steps = self.flow.as_ref().is_some_and(|flow| flow.has_subscribed());
        if stored.unconfirmed.is_empty() && !has_steps {
            return true;
        }
        self.subscriptions.iter().any(|subscription| {
            let options = subscription.options;
            subscription.key.is_some()
                && subscription.is_certain
                && options.qos != Qos::AtMostOnce
                && options.matches(&subscription.filter, channel.as_str())
                && !options.no_local
        })
    }
}

impl Context<'_> {
    /// The response to the request for the session.
    pub(super) fn mqtt_opened(&mut self, opened: OpenedSession) {
        let OpenedSession { is_stored, is_present, sent, state } = opened;
        let SessionState { subscriptions, in_flight, received, dropped, .. } = state;
        let mqtt = self.mqtt();
        mqtt.phase = Phase::Open;
        if is_stored {
            mqtt.stored = Some(Box::new(Stored { sent, ..Stored::default() }));
        }
        if is_present {
            let outgoing = Outgoing::resume(in_flight, MessageQueue::default());
            // It may have the beginning of a packet.
            let flow = mqtt.flow();
            (flow.received, flow.outgoing) = (received, outgoing);
        }
        if self.session().flags.has(Flag::Parking) {
            // The connection has ended meanwhile.
            self.mqtt_close_session();
            self.session_mut().state().mqtt = None;
            return self.hub.finish_parking(self.slot, self.fx);
        }
        if is_stored {
            self.mqtt_address_messages();
        }
        self.mqtt_accept(is_present, dropped);
        for subscription in subscriptions {
            self.mqtt_resume_subscription(subscription);
        }
        self.mqtt_pass_acknowledgements();
        self.mqtt_send_waiting();
        self.mqtt_read_messages();
    }

    /// Passes the steps to the broker without a response.
    pub(super) fn mqtt_pass_acknowledgements(&mut self) {
        if self.mqtt().stored.is_none() || self.mqtt().flow.as_ref().is_some_and(|flow| flow.has_subscribed())
        {
            // A step of a subscription is passed with SUBACK, and those before it too.
            return;
        }
        if let Some(request) = self.mqtt_steps() {
            self.mqtt_notify(SessionChange::StoreSteps(request));
        }
    }

    /// The steps since the last call, if there are any.
    fn mqtt_steps(&mut self) -> Option<Box<StoreSteps>> {
        let steps = self.mqtt().take_steps();
        if steps.is_empty() {
            return None;
        }
        let connection = self.mqtt_connection();
        let (number, begins) = self.mqtt().stored.as_mut().map_or((0, None), |stored| {
            stored.last_request += 1;
            for (request, ..) in stored.ending.iter_mut().filter(|(request, ..)| *request == 0) {
                *request = stored.last_request;
            }
            for step in &steps {
                if let Step::Subscribed(subscription) = step {
                    stored.unconfirmed.push((stored.last_request, subscription.filter.clone()));
                }
            }
            let begins = (stored.is_partial && !stored.has_begun).then_some(connection);
            stored.has_begun = true;
            (stored.last_request, begins)
        });
        let (key, client) = self.mqtt_stored_key();
        Some(Box::new(StoreSteps { number, key, client, steps, begins }))
    }

    /// The session as the broker finds it, and the id of the client.
    fn mqtt_stored_key(&mut self) -> (SessionKey, String) {
        let client = self.hub.client_id(self.hub.session_id(self.slot));
        let is_partial = self.mqtt().stored.as_ref().is_some_and(|stored| stored.is_partial);
        // The id of a client contains no U+0000.
        let key = if is_partial { [PARTIAL, &client].join("\0").into() } else { self.mqtt_key() };
        (key, client)
    }

    /// The broker stores the shared subscriptions of the session from now on, if it does not store all of it.
    pub(super) fn mqtt_begin_partial(&mut self) {
        let mqtt = self.mqtt();
        if mqtt.stored.is_none() {
            mqtt.stored = Some(Box::new(Stored { is_partial: true, ..Stored::default() }));
        }
    }

    /// Sends a packet, after the broker has the steps since the last one.
    pub(super) fn mqtt_write_stored(&mut self, packet: &Packet<'_>) {
        let Some(has_waiting) = self.mqtt().stored.as_ref().map(|stored| !stored.packets.is_empty()) else {
            return self.mqtt_write(packet);
        };
        let request = self.mqtt_steps();
        if request.is_none() && !has_waiting {
            return self.mqtt_write(packet);
        }
        let bytes = self.mqtt_encoded(packet);
        let number = request.as_ref().map_or(0, |request| request.number);
        if let Some(stored) = &mut self.mqtt().stored {
            stored.packets.push_back(WaitingPacket { request: number, bytes });
        }
        if let Some(request) = request {
            let request = Request::Protocol(mqtt::Request::StoreSteps(request));
            self.hub.request_unordered(self.slot, STORE, None, request, self.fx);
        }
    }

    /// The broker has the steps of a request: sends the packets that waited for it alone. Responses may overtake each other.
    pub(super) fn mqtt_stored(&mut self, request: u64) {
        let mqtt = self.mqtt();
        let Some(stored) = &mut mqtt.stored else { return };
        stored.ending.retain(|(ending, ..)| *ending != request);
        for (_, filter) in stored.unconfirmed.extract_if(.., |(number, _)| *number == request) {
            let made = mqtt.subscriptions.iter_mut().find(|made| made.filter == filter);
            if let Some(made) = made {
                made.is_certain = made.options.qos != Qos::AtMostOnce;
            }
        }
        let waiting = stored.packets.iter_mut().find(|packet| packet.request == request);
        if let Some(packet) = waiting {
            packet.request = 0;
        }
        let count = stored.packets.iter().take_while(|packet| packet.request == 0).count();
        let packets: Vec<_> = stored.packets.drain(..count).collect();
        let is_partial = stored.is_partial;
        for packet in packets {
            self.send(|out| out.extend_from_slice(&packet.bytes));
        }
        if is_partial {
            // A wake before the response to its begin is missed.
            self.mqtt_read_messages();
        }
    }

    /// Reads messages, if the client accepts some and no read is in progress.
    pub(super) fn mqtt_read_messages(&mut self) {
        let settings = self.hub.protocols.mqtt_settings();
        let mqtt = self.mqtt();
        let most = usize::from(mqtt.client.receive_maximum.min(settings.max_in_flight));
        let most = most.saturating_sub(mqtt.flow.as_ref().map_or(0, |flow| flow.outgoing.sent()));
        let Some(stored) = &mut mqtt.stored else { return };
        stored.has_more = true;
        if stored.is_reading || most == 0 || !stored.pending.is_empty() {
            return;
        }
        (stored.is_reading, stored.has_more) = (true, false);
        let after = stored.after;
        let (key, client) = self.mqtt_stored_key();
        let request = ReadMessages { key, client, after, most, max_bytes: READ_BYTES };
        let request = Request::Protocol(mqtt::Request::ReadMessages(Box::new(request)));
        self.hub.request_unordered(self.slot, READ, None, request, self.fx);
    }

    /// Reads further messages, if there may be some.
    pub(super) fn mqtt_read_more(&mut self) {
        if self.mqtt().stored.is_none() {
            return;
        }
        self.mqtt_send_pending();
        if self.mqtt().stored.as_ref().is_some_and(|stored| stored.has_more) {
            self.mqtt_read_messages();
        }
    }

    /// Sends messages that were read.
    pub(super) fn mqtt_send_read(&mut self, page: MessagePage) {
        let MessagePage { messages, has_more, dropped } = page;
        let Some(stored) = &mut self.mqtt().stored else { return };
        stored.is_reading = false;
        stored.has_more |= has_more;
        stored.pending.extend(messages);
        self.mqtt_send_pending();
        if dropped > 0 {
            // The client is informed of their number when it connects again.
            return self.end(&CloseReason::Slow(dropped));
        }
        self.mqtt_read_more();
    }

    /// Sends messages that were read. While one was read for a partial session, the connection may have sent others.
    fn mqtt_send_pending(&mut self) {
        let settings = self.hub.protocols.mqtt_settings();
        let before = self.mqtt().stored.as_ref().map_or(0, |stored| stored.pending.len());
        while let Some(next) = self.mqtt().stored.as_mut().and_then(|stored| stored.pending.pop_front()) {
            let mqtt = self.mqtt();
            let must_wait = !mqtt.is_stored()
                && next.id.is_some()
                && (!mqtt.may_send(&settings) || mqtt.flow().outgoing.has_waiting());
            if must_wait {
                if let Some(stored) = &mut mqtt.stored {
                    stored.pending.push_front(next);
                }
                break;
            }
            self.mqtt_send_queued(next);
        }
        if before > 0 {
            self.mqtt_pass_acknowledgements();
        }
    }

    fn mqtt_send_queued(&mut self, queued: QueuedMessage) {
        let QueuedMessage { id, serial, message } = queued;
        let Some(stored) = &mut self.mqtt().stored else { return };
        stored.after = stored.after.max(serial);
        let (is_again, is_partial) = (serial <= stored.sent, stored.is_partial);
        let sent_as = id.filter(|_| !is_partial).map(|id| (id, is_again));
        let is_sent = message
            .as_ref()
            .is_some_and(|message| self.mqtt_may_receive(message) && self.mqtt_send_later(message, sent_as));
        match (id, message) {
            (Some(id), Some(_)) if is_sent && is_partial => self.mqtt_map_last(id),
            (Some(id), Some(message)) if is_sent => self.mqtt_begin_queued(id, message.qos),
            (Some(id), _) => self.mqtt().flow().steps.push(Step::Ended(id)),
            _ => {}
        }
    }

    /// The last message of the connection has this packet identifier at the broker.
    fn mqtt_map_last(&mut self, id: PacketId) {
        let mqtt = self.mqtt();
        let own = mqtt.flow().outgoing.last().map(|sent| sent.id);
        if let (Some(stored), Some(own)) = (&mut mqtt.stored, own) {
            stored.ids.push((own, id));
        }
    }

    fn mqtt_begin_queued(&mut self, id: PacketId, qos: Qos) {
        let awaits = match qos {
            Qos::ExactlyOnce => Acknowledgement::Receive,
            _ => Acknowledgement::Acknowledge,
        };
        self.mqtt().flow().outgoing.begin(id, awaits, None);
    }

    /// The connection has ended: the broker keeps its session, or ends it.
    pub(super) fn mqtt_close_session(&mut self) {
        if self.mqtt().stored.is_none() {
            return;
        }
        if let Some(request) = self.mqtt_steps() {
            self.mqtt_notify(SessionChange::StoreSteps(request));
        }
        let (key, client) = self.mqtt_stored_key();
        if let Some(stored) =
            self.mqtt().stored.take().filter(|stored| !stored.is_partial || stored.has_begun)
        {
            let expiry = if stored.is_partial { 0 } else { self.mqtt().expiry };
            let sent = Some(stored.after.max(stored.sent));
            let close = CloseSession { key, client, expiry, sent };
            self.mqtt_notify(SessionChange::CloseSession(Box::new(close)));
        }
    }
}
