//! The client protocol: what its commands do, whatever transport they come over. The codec is `tidings_wire::client`.
//!
//! Commands whose order matters (`connect`, `subscribe`, `unsubscribe`, and `publish` behind those) are carried out
//! and answered one after the other; those that only ask are answered as their answers come.

mod asking;
mod connect;
mod expiry;
mod identity;
mod replies;

pub(crate) use connect::seconds_left;
pub use identity::{SessionKey, locate};
pub(crate) use replies::send_push;

use tidings_wire::client::Malformed;
use tidings_wire::client::request::{Command, Request};
use tidings_wire::code;

use super::Flag;
use super::feed::Why;
use crate::effects::{Effect, Effects, Timer};
use crate::ending::Ending;
use crate::hub::{Act, Hub};
use crate::usage::Cost;

impl Hub {
    /// A session of the client protocol has begun: it must say `connect` in time.
    pub(crate) fn client_opened(&mut self, slot: u32, fx: &mut Effects) {
        let delay = self.settings.stale_close_delay;
        if let Some(id) = self.id(slot)
            && !delay.is_zero()
        {
            fx.push(Effect::Start(id, Timer::Stale, delay));
        }
    }

    /// Carries out the commands in one frame; gives how many bytes of it are done with.
    pub(crate) fn run_messages(&mut self, slot: u32, frame: &[u8], fx: &mut Effects) -> (usize, Why) {
        let encoding = self.sessions[slot as usize].link.encoding();
        let mut messages = encoding.messages(frame);
        loop {
            let before = messages.rest();
            let act = match messages.next() {
                None => return (frame.len(), Why::Partial),
                Some(Ok(message)) => self.client_message(slot, message, fx),
                Some(Err(error)) => self.client_break(slot, &format!("bad request: {error}"), fx),
            };
            match act {
                Act::Next => {}
                Act::Hold => return (frame.len() - before.len(), Why::Hold),
                Act::End => return (frame.len(), Why::End),
            }
        }
    }

    /// Carries out one message, which is one command.
    pub(crate) fn client_message(&mut self, slot: u32, message: &[u8], fx: &mut Effects) -> Act {
        let link = self.sessions[slot as usize].link;
        let bytes = message.len();
        if link.is_websocket() && link.is_one_way() {
            let cost = Cost { bytes, publishes: false };
            return self.metered(slot, 1, cost, fx, |hub, fx| hub.client_introduction(slot, message, fx));
        }
        let parsed = link.encoding().parse_command(message);
        let (id, publishes) = match &parsed {
            // It answers the server's ping.
            Ok(Command { request: Request::Pong, .. })
                if self.sessions[slot as usize].flags.has(Flag::PongDue) =>
            {
                return self.client_parsed(slot, parsed, fx);
            }
            Ok(command) => (command.id, matches!(command.request, Request::Publish(_))),
            Err(error) => (error.id, false),
        };
        let cost = Cost { bytes, publishes };
        self.metered(slot, id, cost, fx, |hub, fx| hub.client_parsed(slot, parsed, fx))
    }

    /// Carries out a command, or answers what is none.
    fn client_parsed(&mut self, slot: u32, parsed: Result<Command<'_>, Malformed>, fx: &mut Effects) -> Act {
        let connected = self.sessions[slot as usize].flags.has(Flag::Connected);
        let command = match parsed {
            Ok(command) => command,
            // A peer that has not said who it is and speaks something else does not know this protocol.
            Err(error) if !connected && error.id == 0 && !self.sessions[slot as usize].is_queued() => {
                return self.client_break(slot, &format!("bad request: {error}"), fx);
            }
            Err(error) => {
                return self.in_turn(slot, fx, |hub, fx| {
                    let words = format!("bad request: {error}");
                    hub.client_error(slot, error.id, code::BAD_REQUEST, &words, fx);
                });
            }
        };
        if connected {
            return self.client_command(slot, &command, fx);
        }
        // While it is being let in, whatever comes behind waits.
        if self.sessions[slot as usize].is_queued() && command.request != Request::Pong {
            return Act::Hold;
        }
        match command.request {
            Request::Connect(connect) if command.id != 0 => {
                self.client_connect(slot, command.id, &connect, fx)
            }
            Request::Pong => Act::Next,
            _ => self.client_break(slot, "bad request: connect first", fx),
        }
    }

    /// The first message of a one-way WebSocket is what a `connect` command holds; more of them mean nothing.
    fn client_introduction(&mut self, slot: u32, message: &[u8], fx: &mut Effects) -> Act {
        let session = &self.sessions[slot as usize];
        if session.flags.has(Flag::Connected) || session.is_queued() {
            return Act::Next;
        }
        match session.link.encoding().parse_connect(message) {
            Ok(connect) => self.client_connect(slot, 1, &connect, fx),
            Err(error) => self.client_break(slot, &format!("bad request: {error}"), fx),
        }
    }

    fn client_command(&mut self, slot: u32, command: &Command<'_>, fx: &mut Effects) -> Act {
        let id = command.id;
        match &command.request {
            Request::Pong => {
                self.sessions[slot as usize].flags.set(Flag::PongDue, false);
                Act::Next
            }
            // A message that nobody takes: there is no hook for it, and it has no answer.
            Request::Send(_) => Act::Next,
            // A command without a number that is owed an answer cannot be answered.
            _ if id == 0 => self.client_break(slot, "bad request: a command needs an id", fx),
            Request::Connect(_) => self.client_break(slot, "bad request: connected already", fx),
            Request::Subscribe(subscribe) => self.client_subscribe(slot, id, subscribe, fx),
            Request::Unsubscribe(unsubscribe) => {
                self.in_turn(slot, fx, |hub, fx| hub.client_unsubscribe(slot, id, &unsubscribe.channel, fx))
            }
            Request::Publish(publish) => self.client_publish(slot, id, publish, fx),
            Request::Ping => self.in_turn(slot, fx, |hub, fx| hub.client_pong(slot, id, fx)),
            Request::Presence(presence) => self.client_presence(slot, id, &presence.channel, false, fx),
            Request::PresenceStats(stats) => self.client_presence(slot, id, &stats.channel, true, fx),
            Request::History(history) => self.client_history(slot, id, history, fx),
            Request::Rpc(rpc) => self.client_rpc(slot, id, rpc, fx),
            Request::Refresh(refresh) => self.client_refresh(slot, id, &refresh.token, fx),
            Request::SubRefresh(refresh) => {
                self.client_sub_refresh(slot, id, &refresh.channel, &refresh.token, fx)
            }
            Request::Unknown => self.in_turn(slot, fx, |hub, fx| {
                hub.client_error(slot, id, code::METHOD_NOT_FOUND, code::METHOD_NOT_FOUND.text, fx);
            }),
        }
    }

    pub(crate) fn client_break(&mut self, slot: u32, words: &str, fx: &mut Effects) -> Act {
        self.errors += 1;
        self.end(slot, &Ending::Protocol(words.to_owned()), fx);
        Act::End
    }
}
