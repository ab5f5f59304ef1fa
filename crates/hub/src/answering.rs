//! Answers: what a session is told, in its own dialect and in the order of its commands.

use tidings_wire::code::{self, Code};
use tidings_wire::plain;

use crate::deciding::Verdict;
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
        let ticket = match request {
            Request::Publish(..) => {
                self.published += 1;
                awaiting.publish(id)
            }
            _ => awaiting.query(),
        };
        fx.push(Effect::Ask(SessionId { slot, generation }, ticket, request));
    }

    /// What came of a request.
    pub fn answer(&mut self, id: SessionId, ticket: u32, answer: Answer, fx: &mut Effects) {
        if !self.is_current(id) {
            return;
        }
        if let Some(more) = self.sessions[id.slot as usize].existing_more() {
            more.awaiting.answered(ticket, answer);
            self.advance(id.slot, fx);
        }
    }

    /// Gives every answer whose turn has come, and lets the session go on when none is left.
    pub(crate) fn advance(&mut self, slot: u32, fx: &mut Effects) {
        loop {
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
                    self.subscribed(slot, key, id, already, fx);
                }
                Outcome::Subscribe(key, Some(failure)) => {
                    self.release(key, fx);
                    self.failed(slot, id, &failure, fx);
                }
                Outcome::Answer(answer) => self.answered(slot, id, &answer, fx),
                Outcome::Ready(bytes) => fx.send(slot, |out| out.extend_from_slice(&bytes)),
            }
        }
        let session = &mut self.sessions[slot as usize];
        if session.is_awaiting() || session.flags.has(Flag::Closing) {
            return;
        }
        if session.flags.set(Flag::Stopped, false) {
            fx.push(Effect::Resume(slot));
        } else if session.flags.has(Flag::Finishing) {
            self.end(slot, &Ending::Done, fx);
        } else {
            session.settle();
        }
    }

    /// Says that a subscription stands, in the session's dialect.
    pub(crate) fn subscribed(&mut self, slot: u32, key: TopicKey, id: u32, already: bool, fx: &mut Effects) {
        match self.sessions[slot as usize].dialect.protocol() {
            Protocol::Plain => Self::plain_subscribed(slot, already, fx),
            Protocol::Resp => self.resp_subscribed(slot, key, fx),
            Protocol::Client => self.client_subscribed(slot, id, already, fx),
        }
    }

    fn answered(&mut self, slot: u32, id: u32, answer: &Answer, fx: &mut Effects) {
        if let Answer::Failed(failure) = answer {
            return self.failed(slot, id, failure, fx);
        }
        match self.sessions[slot as usize].dialect.protocol() {
            Protocol::Plain => fx.send(slot, |out| out.extend_from_slice(plain::CONFIRMED)),
            Protocol::Resp => self.resp_answered(slot, answer, fx),
            Protocol::Client => Self::client_published(slot, id, fx),
        }
    }

    fn failed(&mut self, slot: u32, id: u32, failure: &Failure, fx: &mut Effects) {
        let (code, text) = failure_words(failure);
        self.refuse(slot, id, code, &text, fx);
    }

    /// Answers a command with an error, in the session's dialect.
    pub(crate) fn refuse(&mut self, slot: u32, id: u32, code: Code, text: &str, fx: &mut Effects) {
        self.errors += 1;
        match self.sessions[slot as usize].dialect.protocol() {
            Protocol::Plain => {
                fx.send(slot, |out| plain::error(code.number, text, out));
            }
            Protocol::Resp => Self::resp_refuse(slot, code, text, fx),
            Protocol::Client => Self::client_refuse(slot, id, code, text, fx),
        }
    }
}

fn failure_words(failure: &Failure) -> (Code, String) {
    match failure {
        Failure::Unavailable => (code::INTERNAL, "broker unavailable".into()),
        Failure::Overloaded => (code::TOO_MANY_REQUESTS, "broker overloaded".into()),
        Failure::Refused(why) => (code::PERMISSION_DENIED, format!("permission denied: {why}")),
        Failure::Error(verdict) => {
            let Verdict { code, text, temporary } = verdict;
            (Code { number: *code, text: "", temporary: *temporary }, text.clone())
        }
        Failure::Disconnect(code, text) => (Code { number: *code, text: "", temporary: false }, text.clone()),
    }
}
