//! Requests of sessions, and their responses, in the order of the session's commands.

use tidings_wire::Channel;

use crate::close::CloseReason;
use crate::decisions::Decide;
use crate::effects::{Effect, Effects, Request, Response};
use crate::hub::Hub;
use crate::index::Slot;
use crate::protocols::{Event, Protocols};
use crate::session::{Flag, SessionId};
use crate::subscribe::ReadyCommand;
use crate::topics::Entry;

impl<P: Protocols> Hub<P> {
    /// Has a request of a session carried out; its response comes in the order of the session's commands.
    pub fn request(&mut self, slot: Slot, id: u32, request: Request, fx: &mut Effects) {
        let session = &mut self.sessions[slot.index()];
        let generation = session.generation;
        let awaiting = &mut session.cold().pending;
        let publishes = match &request {
            Request::Publish(..) => true,
            Request::Decide(question) => matches!(**question, Decide::Publish { .. }),
            _ => false,
        };
        let ticket = if publishes {
            self.published += 1;
            awaiting.publish(id)
        } else {
            awaiting.query(id)
        };
        fx.push(Effect::Request(SessionId { slot, generation }, ticket, request));
    }

    /// Has a request carried out whose response needs no turn. The response comes with `channel`.
    pub fn request_beside(
        &mut self,
        slot: Slot,
        id: u32,
        channel: Option<Channel>,
        request: Request,
        fx: &mut Effects,
    ) {
        let own = self.id_of(slot);
        let reads =
            matches!(request, Request::History(..) | Request::Presence(_) | Request::PresenceStats(_));
        let ticket = self.sessions[slot.index()].cold().pending.add_in_flight(id, channel, reads);
        fx.push(Effect::Request(own, ticket, request));
    }

    /// Keeps bytes until their turn among the responses has come; `false` when it has come already.
    pub fn enqueue(&mut self, slot: Slot, bytes: &[u8]) -> bool {
        let session = &mut self.sessions[slot.index()];
        let waits = session.has_pending();
        if waits {
            session.cold().pending.ready(bytes.into());
        }
        waits
    }

    /// Whether the session was ended.
    pub fn is_closing(&self, slot: Slot) -> bool {
        self.sessions[slot.index()].flags.has(Flag::Closing)
    }

    /// What came of a request.
    pub fn respond(&mut self, id: SessionId, ticket: u32, answer: Response, fx: &mut Effects) {
        if !self.is_current(id) {
            return;
        }
        let slot = id.slot;
        let Some(cold) = self.sessions[slot.index()].existing_cold() else { return };
        if let Some(flight) = cold.pending.take_in_flight(ticket) {
            let (id, channel) = (flight.id, flight.channel.as_ref());
            self.event(slot, Event::Response { id, channel, answer }, fx);
        } else if let Some(answer) = self.on_subscribe_response(slot, ticket, answer, fx)
            && let Some(cold) = self.sessions[slot.index()].existing_cold()
        {
            cold.pending.answered(ticket, answer);
        }
        self.advance(slot, fx);
    }

    /// Gives every answer whose turn has come, and lets the session go on when none is left.
    pub(crate) fn advance(&mut self, slot: Slot, fx: &mut Effects) {
        let mark = fx.mark();
        self.give_answers(slot, fx);
        P::responded(self, slot, mark, fx);
    }

    fn give_answers(&mut self, slot: Slot, fx: &mut Effects) {
        loop {
            self.read_for_next(slot, fx);
            let topics = &self.topics;
            let session = &mut self.sessions[slot.index()];
            let Some(cold) = session.existing_cold() else { return };
            let Some((id, outcome)) = cold.pending.pop(|key| topics.get(key).is_some_and(Entry::is_live))
            else {
                break;
            };
            if let ReadyCommand::Subscribe(key, _) = &outcome {
                self.topics.remove_waiter(*key, SessionId { slot, generation: session.generation });
            }
            let session = &mut self.sessions[slot.index()];
            match outcome {
                ReadyCommand::Subscribe(key, None) => {
                    let already = session.is_subscribed(key);
                    if !already {
                        self.add_subscriber(slot, key);
                    }
                    self.event(slot, Event::Subscribed { topic: key, already }, fx);
                }
                ReadyCommand::Subscribe(key, Some(failure)) => {
                    self.release(key, fx);
                    self.event(slot, Event::Failed { id, failure: &failure }, fx);
                }
                ReadyCommand::Response(answer) => {
                    self.event(slot, Event::Response { id, channel: None, answer }, fx);
                }
                ReadyCommand::PendingSubscribe(join) => self.finish_subscribe(slot, *join, fx),
                ReadyCommand::Admit(admitting) => self.finish_accept(slot, *admitting, fx),
                ReadyCommand::Ready(bytes) => self.event(slot, Event::Ready(&bytes), fx),
            }
        }
        let session = &mut self.sessions[slot.index()];
        if session.flags.has(Flag::Closing) || session.is_queued() {
            return;
        }
        if session.flags.has(Flag::Stopped) {
            // Those beside the queue do not keep it from going on, as long as there is room for more.
            session.flags.set(Flag::Stopped, false);
            fx.push(Effect::Resume(slot));
        } else if session.has_pending() {
        } else if session.flags.has(Flag::Finishing) {
            self.end(slot, &CloseReason::Done, fx);
        } else {
            self.event(slot, Event::Idle, fx);
            self.sessions[slot.index()].settle();
        }
    }
}
