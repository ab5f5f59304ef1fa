//! How messages leave: each in the frame of its link, in this one place.

use tidings_wire::client::Encoding;
use tidings_wire::client::push::{self, Event, Push};
use tidings_wire::client::reply::{self, Outcome, Reply};
use tidings_wire::code::{self, Code};
use tidings_wire::{form, sse};

use super::super::{Flag, Link};
use crate::effects::Effects;
use crate::ending::Ending;
use crate::hub::Hub;

/// What most replies stay below, in bytes.
const EXPECTED: usize = 120;

/// Appends one message, which `write` appends, in the framing of the link. What is for one client alone is never
/// compressed, also where that was agreed on.
fn framed(link: Link, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    link.framing().frame_with(link.encoding().opcode(), EXPECTED, out, write);
}

/// Sends a message. To one-way clients go pushes alone, and being connected is one.
pub(crate) fn send_reply(link: Link, slot: u32, message: Reply<'_>, fx: &mut Effects) {
    let encoding = link.encoding();
    let push = match message.outcome {
        _ if !link.is_one_way() => {
            return fx.send(slot, |out| framed(link, out, |out| encoding.write_reply(&message, out)));
        }
        // Its events are publications and nothing else.
        _ if link.is_events() => return,
        Outcome::Push(push) => push,
        Outcome::Connect(connect) => {
            Push { channel: "".into(), event: Event::Connect(push::Connect::from(connect)) }
        }
        Outcome::Ping => return fx.send(slot, |out| framed(link, out, |out| encoding.write_ping(out))),
        _ => return,
    };
    fx.send(slot, |out| framed(link, out, |out| encoding.write_push(&push, out)));
}

/// Sends a push.
pub(crate) fn send_push(link: Link, slot: u32, channel: &str, event: Event<'_>, fx: &mut Effects) {
    let push = Push { channel: channel.into(), event };
    send_reply(link, slot, Reply { id: 0, outcome: Outcome::Push(push) }, fx);
}

/// The code that a one-way connection ends with in place of this error. The application's words may be others than the
/// table's, so the number alone says which error it is; those from 400 on are the application's own.
fn one_way_code(error: Code) -> Code {
    const APPLICATION: u16 = 400;
    match error.number {
        number if number == code::TOO_MANY_REQUESTS.number => code::OVERLOADED,
        _ if error.temporary => code::SERVER_ERROR,
        number if number == code::UNAUTHORIZED.number => code::INVALID_TOKEN,
        number if number == code::TOKEN_EXPIRED.number || number == code::EXPIRED.number => {
            code::CONNECTION_EXPIRED
        }
        number if number == code::PERMISSION_DENIED.number => code::NO_PERMISSION,
        APPLICATION.. => code::SERVER_ERROR,
        _ => code::BAD_PROTOCOL,
    }
}

impl Hub {
    /// Answers a command.
    pub(crate) fn reply(&mut self, slot: u32, id: u32, outcome: Outcome<'_>, fx: &mut Effects) {
        let link = self.sessions[slot as usize].link;
        send_reply(link, slot, Reply { id, outcome }, fx);
    }

    /// Answers a command with an error. A one-way client has no other command to give: it ends with it.
    pub(crate) fn client_error(&mut self, slot: u32, id: u32, code: Code, text: &str, fx: &mut Effects) {
        self.errors += 1;
        let link = self.sessions[slot as usize].link;
        if link.is_events() {
            self.send_error_event(slot, code.number, text, fx);
            return self.end(slot, &Ending::Done, fx);
        }
        if !link.is_one_way() {
            return self.reply(slot, id, Outcome::Error(reply::Error::new(code, text)), fx);
        }
        self.end(slot, &Ending::Verdict(one_way_code(code).number, text.to_owned()), fx);
    }

    /// Sends an error to a stream of plain events: as its refusal until it is open, as an event from then on.
    pub(crate) fn send_error_event(&mut self, slot: u32, number: u16, text: &str, fx: &mut Effects) {
        let error = reply::Error { code: number.into(), message: text.into(), temporary: false };
        if self.sessions[slot as usize].flags.has(Flag::Spoke) {
            let mut data = Vec::new();
            Encoding::Json.write_error(&error, &mut data);
            fx.send(slot, |out| sse::error(&data, out));
        } else {
            fx.refuse(slot, code::http_status(number), |out| Encoding::Json.write_error(&error, out));
        }
    }

    /// Answers a client's own ping; to an event source, the comment that says it may listen.
    pub(crate) fn client_pong(&mut self, slot: u32, id: u32, fx: &mut Effects) {
        self.reply(slot, id, Outcome::Pong, fx);
    }

    /// Tells a peer that its message is longer than the limit, which the words name.
    pub(crate) fn tell_too_big(&mut self, slot: u32, words: &str, fx: &mut Effects) {
        let text = format!("limit exceeded: {words}");
        self.reply(slot, 0, Outcome::Error(reply::Error::new(code::LIMIT_EXCEEDED, text)), fx);
    }

    /// Sends the server's ping.
    pub(crate) fn send_ping(&mut self, slot: u32, fx: &mut Effects) {
        let link = self.sessions[slot as usize].link;
        if link.is_events() {
            return fx.send(slot, |out| sse::comment("", out));
        }
        self.reply(slot, 0, Outcome::Ping, fx);
    }

    /// Sends publications to one session alone, in its form.
    pub(crate) fn send_publications<'p>(
        &self,
        slot: u32,
        key: crate::TopicKey,
        publications: impl Iterator<Item = &'p std::sync::Arc<tidings_wire::Publication>>,
        fx: &mut Effects,
    ) {
        let form = self.sessions[slot as usize].link.form();
        let Some(entry) = self.topics.get(key) else { return };
        fx.send(slot, |out| {
            for publication in publications {
                form::encode(form, &entry.context(), publication, out);
            }
        });
    }
}
