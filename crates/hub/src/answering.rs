//! Answers: what a session is told, in its own dialect and in the order of its commands.

use tidings_wire::code::{self, Code};
use tidings_wire::plain;

use crate::deciding::{Connected, Decide, Verdict};
use crate::effects::{Answer, Effect, Effects, Failure, Request};
use crate::ending::Ending;
use crate::hub::Hub;
use crate::session::{Flag, Outcome, Protocol, SessionId};
use crate::topics::{Entry, TopicKey};

impl Hub {
    /// Notes a request of a session and has it carried out.
    pub(crate) fn ask(&mut self, slot: u32, id: u32, request: Request, fx: &mut Effects) {
        let session = &mut self.sessions[slot as usize];
        let generation = session.generation;
        let awaiting = &mut session.more().awaiting;
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
        fx.push(Effect::Ask(SessionId { slot, generation }, ticket, request));
    }

    /// What came of a request.
    pub fn answer(&mut self, id: SessionId, ticket: u32, answer: Answer, fx: &mut Effects) {
        if !self.is_current(id) {
            return;
        }
        let slot = id.slot;
        let Some(more) = self.sessions[slot as usize].existing_more() else { return };
        if let Some(flight) = more.awaiting.land(ticket) {
            self.landed(slot, flight.id, flight.channel.as_ref(), &answer, fx);
        } else if let Some(answer) = self.join_answered(slot, ticket, answer, fx)
            && let Some(more) = self.sessions[slot as usize].existing_more()
        {
            more.awaiting.answered(ticket, answer);
        }
        self.advance(slot, fx);
    }

    /// Gives every answer whose turn has come, and lets the session go on when none is left.
    pub(crate) fn advance(&mut self, slot: u32, fx: &mut Effects) {
        let mark = fx.mark();
        self.give_answers(slot, fx);
        self.collect_replies(slot, mark, fx);
    }

    fn give_answers(&mut self, slot: u32, fx: &mut Effects) {
        loop {
            self.read_for_head(slot, fx);
            let topics = &self.topics;
            let session = &mut self.sessions[slot as usize];
            let Some(more) = session.existing_more() else { return };
            let Some((id, outcome)) = more.awaiting.pop(|key| topics.get(key).is_some_and(Entry::is_live))
            else {
                break;
            };
            if let Outcome::Subscribe(key, _) = &outcome {
                self.topics.waits_no_more(*key, SessionId { slot, generation: session.generation });
            }
            let session = &mut self.sessions[slot as usize];
            match outcome {
                Outcome::Subscribe(key, None) => {
                    let already = session.is_subscribed(key);
                    if !already {
                        self.add_subscriber(slot, key);
                    }
                    self.subscribed(slot, key, already, fx);
                }
                Outcome::Subscribe(key, Some(failure)) => {
                    self.release(key, fx);
                    self.failed(slot, id, &failure, fx);
                }
                Outcome::Answer(answer) => self.answered(slot, id, answer, fx),
                Outcome::Join(join) => self.joined(slot, *join, fx),
                Outcome::Admit(admitting) => self.admitted(slot, *admitting, fx),
                Outcome::Ready(bytes) => fx.send(slot, |out| out.extend_from_slice(&bytes)),
            }
        }
        let session = &mut self.sessions[slot as usize];
        if session.flags.has(Flag::Closing) || session.is_queued() {
            return;
        }
        if session.flags.has(Flag::Stopped) {
            // Those beside the queue do not keep it from going on, as long as there is room for more.
            session.flags.set(Flag::Stopped, false);
            fx.push(Effect::Resume(slot));
        } else if session.is_awaiting() {
        } else if session.flags.has(Flag::Finishing) {
            self.end(slot, &Ending::Done, fx);
        } else {
            self.events_are_open(slot, fx);
            self.sessions[slot as usize].settle();
        }
    }

    /// Says that a subscription stands, in the session's link.
    pub(crate) fn subscribed(&mut self, slot: u32, key: TopicKey, already: bool, fx: &mut Effects) {
        match self.sessions[slot as usize].link.protocol() {
            Protocol::Unknown | Protocol::Plain => Self::plain_subscribed(slot, already, fx),
            Protocol::Resp { .. } => self.resp_subscribed(slot, key, fx),
            // They subscribe in their own way, see `joining`.
            Protocol::Client { .. } | Protocol::Events => {}
        }
    }

    fn answered(&mut self, slot: u32, id: u32, answer: Answer, fx: &mut Effects) {
        match answer {
            Answer::Failed(failure) => {
                if let Some(more) = self.sessions[slot as usize].existing_more() {
                    more.greeting = None;
                }
                return self.failed(slot, id, &failure, fx);
            }
            Answer::Connected(connected) => return self.let_in(slot, id, *connected, fx),
            _ => {}
        }
        match self.sessions[slot as usize].link.protocol() {
            Protocol::Unknown | Protocol::Plain => {
                fx.send(slot, |out| out.extend_from_slice(plain::CONFIRMED))
            }
            Protocol::Resp { .. } => self.resp_answered(slot, &answer, fx),
            Protocol::Client { .. } | Protocol::Events => self.landed(slot, id, None, &answer, fx),
        }
    }

    /// A token was accepted: of a client of the client protocol, or in `AUTH` on the other dialects.
    fn let_in(&mut self, slot: u32, id: u32, mut connected: Connected, fx: &mut Effects) {
        let protocol = self.sessions[slot as usize].link.protocol();
        if self.sessions[slot as usize].link.is_client() {
            return self.admit(slot, id, connected, fx);
        }
        let missing = self.refused_at_first(slot);
        // Nothing comes by itself to those who speak lines or RESP: they may ask for it.
        let granted = match self.channels_of(&mut connected) {
            Ok(granted) => granted,
            Err(failure) => return self.answered(slot, id, Answer::Failed(failure), fx),
        };
        if !self.identify(slot, &connected, fx) {
            return;
        }
        let session = &mut self.sessions[slot as usize];
        session.flags.set(Flag::Connected, true);
        if !granted.is_empty() || session.existing_more().is_some_and(|more| !more.granted.is_empty()) {
            session.more().granted = granted;
        }
        let greeting = self.sessions[slot as usize].existing_more().and_then(|more| more.greeting.take());
        match (protocol, greeting) {
            (Protocol::Resp { .. }, Some(greeting)) => self.resp_greet(slot, *greeting, fx),
            (Protocol::Resp { .. }, None) => fx.send(slot, |out| tidings_wire::resp::simple("OK", out)),
            _ => {
                fx.send(slot, |out| out.extend_from_slice(plain::CONFIRMED));
                self.subscribe_after_all(slot, &missing, fx);
            }
        }
    }

    pub(crate) fn failed(&mut self, slot: u32, id: u32, failure: &Failure, fx: &mut Effects) {
        if let Failure::Disconnect(code, text) = failure {
            return self.end(slot, &Ending::Verdict(*code, text.clone()), fx);
        }
        let (code, text) = failure_words(failure);
        self.refuse(slot, id, code, &text, fx);
    }

    /// Answers a command with an error, in the session's link.
    pub(crate) fn refuse(&mut self, slot: u32, id: u32, code: Code, text: &str, fx: &mut Effects) {
        match self.sessions[slot as usize].link.protocol() {
            Protocol::Client { .. } | Protocol::Events => return self.client_error(slot, id, code, text, fx),
            _ => self.errors += 1,
        }
        match self.sessions[slot as usize].link.protocol() {
            Protocol::Unknown | Protocol::Plain => {
                fx.send(slot, |out| plain::error(code.number, text, out));
            }
            Protocol::Resp { .. } => Self::resp_refuse(slot, code, text, fx),
            Protocol::Client { .. } | Protocol::Events => {}
        }
    }
}

fn failure_words(failure: &Failure) -> (Code, String) {
    match failure {
        Failure::Unavailable => (code::INTERNAL, "broker unavailable".into()),
        Failure::Overloaded => (code::TOO_MANY_REQUESTS, "broker overloaded".into()),
        Failure::Error(verdict) => {
            let Verdict { code, text, temporary } = verdict;
            (Code { number: *code, text: "", temporary: *temporary }, text.clone())
        }
        Failure::Disconnect(code, text) => (Code { number: *code, text: "", temporary: false }, text.clone()),
    }
}
