//! Requests of sessions, and the order of their responses.

use tidings_wire::Channel;

use crate::authorization::AuthorizationRequest;
use crate::close::CloseReason;
use crate::effects::{Effect, Effects, Request, Response};
use crate::hub::Hub;
use crate::index::Slot;
use crate::protocols::{Event, Protocols};
use crate::session::{Flag, SessionId};
use crate::subscribe::{InFlightKind, ReadyCommand};
use crate::topics::TopicEntry;

impl<P: Protocols> Hub<P> {
    /// Starts a request of a session. Its response is delivered in the order of the session's commands.
    pub fn request(
        &mut self,
        slot: Slot,
        id: u32,
        request: Request<P::Messages>,
        fx: &mut Effects<P::Messages>,
    ) {
        let session = &mut self.sessions[slot.index()];
        let generation = session.generation;
        let pending = &mut session.cold().pending;
        let publishes = match &request {
            Request::Publish(..) => true,
            Request::Authorize(decision) => matches!(**decision, AuthorizationRequest::Publish { .. }),
            _ => false,
        };
        let ticket = if publishes {
            self.published += 1;
            pending.push_publish(id)
        } else {
            pending.push_query(id)
        };
        fx.push(Effect::Request(SessionId { slot, generation }, ticket, request));
    }

    /// Starts a request with a response that may be delivered out of order. The event of the response contains `channel`.
    pub fn request_unordered(
        &mut self,
        slot: Slot,
        id: u32,
        channel: Option<Channel>,
        request: Request<P::Messages>,
        fx: &mut Effects<P::Messages>,
    ) {
        let own = self.session_id(slot);
        let kind = match request {
            Request::History(..) | Request::Presence(_) | Request::PresenceStats(_) => InFlightKind::Read,
            _ => InFlightKind::Command,
        };
        let ticket = self.sessions[slot.index()].cold().pending.add_in_flight(id, channel, kind);
        fx.push(Effect::Request(own, ticket, request));
    }

    /// Holds bytes back until the responses to earlier commands are written; `false` if there are none, and nothing is
    /// held.
    pub fn enqueue(&mut self, slot: Slot, bytes: &[u8]) -> bool {
        let session = &mut self.sessions[slot.index()];
        let waits = session.has_pending();
        if waits {
            session.cold().pending.push_bytes(bytes.into());
        }
        waits
    }

    /// Whether the session was ended.
    pub fn is_closing(&self, slot: Slot) -> bool {
        self.sessions[slot.index()].flags.has(Flag::Closing)
    }

    /// Callback for the response to a request.
    pub fn respond(
        &mut self,
        id: SessionId,
        ticket: u32,
        response: Response<P::Messages>,
        fx: &mut Effects<P::Messages>,
    ) {
        if !self.is_current(id) {
            return;
        }
        let slot = id.slot;
        let Some(cold) = self.sessions[slot.index()].existing_cold() else { return };
        if let Some(request) = cold.pending.remove_in_flight(ticket) {
            let (id, channel) = (request.id, request.channel.as_ref());
            if request.kind == InFlightKind::Renewal {
                self.context(slot, fx).on_renewal(channel, &response);
            } else {
                self.event(slot, Event::Response { id, channel, response }, fx);
            }
        } else if let Some(response) = self.context(slot, fx).on_subscribe_response(ticket, response)
            && let Some(cold) = self.sessions[slot.index()].existing_cold()
        {
            cold.pending.set_response(ticket, response);
        }
        self.advance(slot, fx);
    }

    /// Delivers the responses that are due. When none is pending any more, the session continues.
    pub(crate) fn advance(&mut self, slot: Slot, fx: &mut Effects<P::Messages>) {
        let mark = fx.mark();
        self.deliver_responses(slot, fx);
        P::responded(self, slot, mark, fx);
    }

    fn deliver_responses(&mut self, slot: Slot, fx: &mut Effects<P::Messages>) {
        loop {
            self.context(slot, fx).start_next_read();
            let topics = &self.topics;
            let session = &mut self.sessions[slot.index()];
            let Some(cold) = session.existing_cold() else { return };
            let Some((id, outcome)) =
                cold.pending.pop(|key| topics.get(key).is_some_and(TopicEntry::is_live))
            else {
                break;
            };
            if let ReadyCommand::TopicSubscribe(key, _) = &outcome {
                self.topics.remove_waiter(*key, SessionId { slot, generation: session.generation });
            }
            let session = &mut self.sessions[slot.index()];
            match outcome {
                ReadyCommand::TopicSubscribe(key, None) => {
                    let already = session.is_subscribed(key);
                    if !already {
                        self.add_subscriber(slot, key);
                    }
                    self.event(slot, Event::Subscribed { topic: key, already }, fx);
                }
                ReadyCommand::TopicSubscribe(key, Some(failure)) => {
                    self.release(key, fx);
                    self.event(slot, Event::Failed { id, failure: &failure }, fx);
                }
                ReadyCommand::Response(response) => {
                    self.event(slot, Event::Response { id, channel: None, response }, fx);
                }
                ReadyCommand::ChannelSubscribe(subscribe) => {
                    self.context(slot, fx).finish_subscribe(*subscribe);
                }
                ReadyCommand::Connect(pending_connect) => {
                    self.context(slot, fx).finish_accept(*pending_connect);
                }
                ReadyCommand::Ready(bytes) => self.event(slot, Event::Ready(&bytes), fx),
            }
        }
        let session = &mut self.sessions[slot.index()];
        if session.flags.has(Flag::Closing) || session.has_queued() {
            return;
        }
        if session.flags.has(Flag::Stopped) {
            // Unordered requests do not stop the session, unless there are too many.
            session.flags.set(Flag::Stopped, false);
            fx.push(Effect::Resume(slot));
        } else if session.has_pending() {
        } else if session.flags.has(Flag::Finishing) {
            self.end(slot, &CloseReason::Done, fx);
        } else {
            self.event(slot, Event::Idle, fx);
            self.sessions[slot.index()].free_unused_state();
        }
    }
}
