//! The plain dialect: what the lines of the contract do.

use bytes::Bytes;
use tidings_wire::code;
use tidings_wire::plain::{self, Command};
use tidings_wire::{Channel, Topic};

use super::Flag;
use crate::access::Action;
use crate::effects::Effects;
use crate::ending::Ending;
use crate::hub::{Act, Hub};
use crate::subscribing::Begun;
use crate::usage::Cost;

impl Hub {
    /// Carries out one line.
    pub(crate) fn plain_line(&mut self, slot: u32, line: &[u8], fx: &mut Effects) -> Act {
        let first = !self.sessions[slot as usize].flags.set(Flag::Spoke, true);
        let command = plain::parse(line).ok();
        match command {
            None if first => {
                // The peer speaks something else: whatever follows is not for this server.
                self.errors += 1;
                self.end(slot, &Ending::Protocol("the first line is not UTF-8".to_owned()), fx);
                Act::End
            }
            Some(Command::Exit) => self.in_turn(slot, fx, |hub, fx| hub.end(slot, &Ending::Done, fx)),
            Some(Command::Other(text)) if first && is_http(text) => {
                // A browser was pointed here. Whatever follows is not meant for us (and may be meant to harm).
                let words = "this port speaks lines, not HTTP".to_owned();
                self.end(slot, &Ending::Protocol(words), fx);
                Act::End
            }
            command => {
                let publishes = matches!(command, Some(Command::Publish { .. }));
                let cost = Cost { bytes: line.len(), publishes };
                self.metered(slot, 0, cost, fx, |hub, fx| hub.plain_command(slot, command, fx))
            }
        }
    }

    /// Carries out a command, or answers a line that is not UTF-8.
    fn plain_command(&mut self, slot: u32, command: Option<Command<'_>>, fx: &mut Effects) -> Act {
        let Some(command) = command else {
            return self.in_turn(slot, fx, |hub, fx| {
                hub.refuse(slot, 0, code::BAD_REQUEST, "bad request: the line is not UTF-8", fx);
            });
        };
        match command {
            Command::Subscribe(name) => self.plain_subscribe(slot, name, fx),
            Command::Publish { channel, body } => self.plain_publish(slot, channel, body, fx),
            Command::Unsubscribe(name) => {
                self.in_turn(slot, fx, |hub, fx| hub.plain_unsubscribe(slot, name, fx))
            }
            Command::PublishWithoutBody => self.in_turn(slot, fx, |hub, fx| {
                hub.refuse(slot, 0, code::BAD_REQUEST, "bad request: use PUBLISH channel body", fx);
            }),
            Command::Auth(secret) => self.in_turn(slot, fx, |hub, fx| hub.plain_auth(slot, secret, fx)),
            Command::Ping => {
                self.in_turn(slot, fx, |_, fx| fx.send(slot, |out| out.extend_from_slice(plain::PONG)))
            }
            Command::Exit => self.in_turn(slot, fx, |hub, fx| hub.end(slot, &Ending::Done, fx)),
            Command::Other(text) => self.in_turn(slot, fx, |hub, fx| {
                if hub.settings.echo {
                    fx.send(slot, |out| plain::echo(text, out));
                } else {
                    fx.send(slot, |out| out.extend_from_slice(plain::UNKNOWN_COMMAND));
                }
            }),
        }
    }

    /// Does what must not overtake an answer that is still owed.
    pub(crate) fn in_turn(
        &mut self,
        slot: u32,
        fx: &mut Effects,
        act: impl FnOnce(&mut Self, &mut Effects),
    ) -> Act {
        if self.sessions[slot as usize].is_queued() {
            return Act::Hold;
        }
        act(self, fx);
        if self.is_closing(slot) { Act::End } else { Act::Next }
    }

    /// The channel a command names; answers with an error and gives nothing when it is no channel's name.
    fn plain_channel(&mut self, slot: u32, name: Option<&str>, fx: &mut Effects) -> Option<Channel> {
        let Some(name) = name else { return Some(self.settings.default_channel.clone()) };
        match Channel::new(name) {
            Ok(channel) if channel.fits_a_line() => Some(channel),
            Ok(_) => {
                self.refuse(slot, 0, code::BAD_REQUEST, SPACE, fx);
                None
            }
            Err(error) => {
                self.refuse(slot, 0, code::BAD_REQUEST, &format!("bad request: {error}"), fx);
                None
            }
        }
    }

    fn plain_subscribe(&mut self, slot: u32, name: Option<&str>, fx: &mut Effects) -> Act {
        if self.sessions[slot as usize].is_awaiting() {
            return Act::Hold;
        }
        let Some(channel) = self.plain_channel(slot, name, fx) else { return Act::Next };
        if let Err(code) = self.may(slot, Action::Subscribe, &channel) {
            self.refuse(slot, 0, code, code.text, fx);
            return Act::Next;
        }
        match self.begin_subscribe(slot, &Topic::Channel(channel), 0, fx) {
            Begun::Now { already } => Self::plain_subscribed(slot, already, fx),
            Begun::Refused(code, words) => self.refuse(slot, 0, code, &words, fx),
            Begun::Waiting => {}
        }
        Act::Next
    }

    pub(crate) fn plain_subscribed(slot: u32, already: bool, fx: &mut Effects) {
        let words = if already { plain::ALREADY_SUBSCRIBED } else { plain::CONFIRMED };
        fx.send(slot, |out| out.extend_from_slice(words));
    }

    fn plain_unsubscribe(&mut self, slot: u32, name: Option<&str>, fx: &mut Effects) {
        let Some(channel) = self.plain_channel(slot, name, fx) else { return };
        let was = self.unsubscribe(slot, &Topic::Channel(channel), fx);
        let words = if was { plain::CONFIRMED } else { plain::ALREADY_UNSUBSCRIBED };
        fx.send(slot, |out| out.extend_from_slice(words));
    }

    fn plain_publish(&mut self, slot: u32, channel: &str, body: &str, fx: &mut Effects) -> Act {
        let session = &mut self.sessions[slot as usize];
        let awaiting = session.is_awaiting();
        if awaiting && !session.more().awaiting.takes_publish() {
            return Act::Hold;
        }
        let refusal = match Channel::new(channel) {
            Err(error) => Some((code::BAD_REQUEST, format!("bad request: {error}"))),
            Ok(channel) => match self.publishing(slot, channel, Bytes::copy_from_slice(body.as_bytes())) {
                Err(code) => Some((code, code.text.to_owned())),
                Ok(request) => {
                    self.ask(slot, 0, request, fx);
                    None
                }
            },
        };
        match refusal {
            Some(_) if awaiting => Act::Hold,
            Some((code, words)) => {
                self.refuse(slot, 0, code, &words, fx);
                Act::Next
            }
            None => Act::Next,
        }
    }

    fn plain_auth(&mut self, slot: u32, secret: &str, fx: &mut Effects) {
        let missing = self.refused_at_first(slot);
        if self.authenticate(slot, secret.as_bytes()) {
            fx.send(slot, |out| out.extend_from_slice(plain::CONFIRMED));
            self.subscribe_after_all(slot, &missing, fx);
        } else {
            self.authenticate_token(slot, secret.as_bytes(), fx);
        }
    }
}

/// What a client is told that names a channel with a space.
const SPACE: &str =
    "bad request: on plain lines a channel name contains no spaces (RESP and JSON lines take them)";

/// Whether a line is the first of an HTTP request (RFC 9112 §3).
fn is_http(line: &str) -> bool {
    let mut words = line.split(' ');
    let method = words.next().is_some_and(|m| !m.is_empty() && m.bytes().all(|b| b.is_ascii_uppercase()));
    method
        && words.next().is_some_and(|target| target.starts_with(['/', 'h', '*']))
        && words.next().is_some_and(|v| v.starts_with("HTTP/1."))
        && words.next().is_none()
}
