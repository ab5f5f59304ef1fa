//! The client protocol: what its commands do. The codec is `tidings_wire::client`.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use bytes::Bytes;
use tidings_wire::client::{self, ConnectResult, Method};
use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, Topic};

use super::{Flag, SessionId};
use crate::effects::{Effect, Effects, Request, Timer};
use crate::ending::Ending;
use crate::hub::{Act, Hub};
use crate::subscribing::Begun;

/// What the server calls itself in the answer to `connect`.
const VERSION: &str = concat!("tidings ", env!("CARGO_PKG_VERSION"));

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

    /// Carries out one line, which is one command.
    pub(crate) fn client_line(&mut self, slot: u32, line: &[u8], fx: &mut Effects) -> Act {
        let command = match client::parse_json(line) {
            Ok(command) => command,
            Err(error) => {
                return self.in_turn(slot, fx, |hub, fx| {
                    hub.refuse(slot, error.id, code::BAD_REQUEST, &format!("bad request: {error}"), fx);
                });
            }
        };
        let id = command.id;
        let connected = self.sessions[slot as usize].flags.has(Flag::Connected);
        match command.method {
            Method::Pong => {
                self.sessions[slot as usize].flags.set(Flag::PongDue, false);
                Act::Next
            }
            // A command without a number that is owed an answer cannot be answered.
            Method::Other("send") if id == 0 => Act::Next,
            _ if id == 0 => self.client_break(slot, "bad request: a command needs an id", fx),
            Method::Connect(connect) => {
                if connected {
                    return self.client_break(slot, "bad request: connected already", fx);
                }
                self.in_turn(slot, fx, |hub, fx| hub.client_connect(slot, id, &connect.token, fx))
            }
            _ if !connected => self.client_break(slot, "bad request: connect first", fx),
            Method::Subscribe(subscribe) => self.client_subscribe(slot, id, &subscribe.channel, fx),
            Method::Publish { channel, data } => self.client_publish(slot, id, &channel, &data, fx),
            Method::Unsubscribe { channel } => {
                self.in_turn(slot, fx, |hub, fx| hub.client_unsubscribe(slot, id, &channel, fx))
            }
            Method::Ping => {
                self.in_turn(slot, fx, |_, fx| line_out(slot, fx, |out| client::reply_ping(id, out)))
            }
            Method::Other(_) => self.in_turn(slot, fx, |hub, fx| {
                hub.refuse(slot, id, code::NOT_AVAILABLE, code::NOT_AVAILABLE.text, fx);
            }),
            Method::Unknown => self.in_turn(slot, fx, |hub, fx| {
                hub.refuse(slot, id, code::METHOD_NOT_FOUND, code::METHOD_NOT_FOUND.text, fx);
            }),
        }
    }

    fn client_break(&mut self, slot: u32, words: &str, fx: &mut Effects) -> Act {
        self.errors += 1;
        self.end(slot, &Ending::Protocol(words.to_owned()), fx);
        Act::End
    }

    fn client_connect(&mut self, slot: u32, id: u32, token: &str, fx: &mut Effects) {
        let access = &self.settings.access;
        // No token can be checked by this version, and one that was not checked is never taken for nothing.
        if !token.is_empty() || !(access.open || access.anonymous_connect) {
            return self.refuse(slot, id, code::UNAUTHORIZED, code::UNAUTHORIZED.text, fx);
        }
        let session = &mut self.sessions[slot as usize];
        session.flags.set(Flag::Connected, true);
        let generation = session.generation;
        let name = self.client_name(SessionId { slot, generation });
        let interval = self.settings.ping_interval;
        let result = ConnectResult {
            client: &name,
            version: VERSION,
            ping: u32::try_from(interval.as_secs()).unwrap_or(u32::MAX),
            pong: !interval.is_zero() && !self.settings.pong_timeout.is_zero(),
        };
        line_out(slot, fx, |out| client::reply_connect(id, &result, out));
        if !interval.is_zero() {
            fx.push(Effect::Start(SessionId { slot, generation }, Timer::Ping, interval));
        }
    }

    /// A session's public id: not to be guessed, and made anew from what is known, so that nothing is kept.
    fn client_name(&self, id: SessionId) -> String {
        let mix = |salt: u8| {
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            hasher.hash_one((self.settings.node_seed, self.shard.0, id.slot, id.generation, salt))
        };
        let bits = (u128::from(mix(1)) << 64) | u128::from(mix(2));
        // RFC 9562 §5.8: version 8 (custom), variant 10.
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    fn client_subscribe(&mut self, slot: u32, id: u32, name: &str, fx: &mut Effects) -> Act {
        let session = &mut self.sessions[slot as usize];
        let awaiting = session.is_awaiting();
        if awaiting && !session.more().awaiting.takes_subscribe() {
            return Act::Hold;
        }
        let begun = match self.client_channel(name) {
            Err((code, words)) => Begun::Refused(code, words),
            Ok(channel) => match self.may_subscribe(slot, &channel) {
                Err(code) => Begun::Refused(code, code.text.to_owned()),
                Ok(()) => self.begin_subscribe(slot, &Topic::Channel(channel), id, fx),
            },
        };
        match begun {
            Begun::Refused(..) if awaiting => return Act::Hold,
            Begun::Refused(code, words) => self.refuse(slot, id, code, &words, fx),
            Begun::Now { already } => self.client_subscribed(slot, id, already, fx),
            Begun::Waiting => {}
        }
        Act::Next
    }

    pub(crate) fn client_subscribed(&mut self, slot: u32, id: u32, already: bool, fx: &mut Effects) {
        if already {
            self.refuse(slot, id, code::ALREADY_SUBSCRIBED, code::ALREADY_SUBSCRIBED.text, fx);
        } else {
            line_out(slot, fx, |out| client::reply_subscribe(id, out));
        }
    }

    fn client_unsubscribe(&mut self, slot: u32, id: u32, name: &str, fx: &mut Effects) {
        match self.client_channel(name) {
            Err((code, words)) => self.refuse(slot, id, code, &words, fx),
            Ok(channel) => {
                // Unsubscribing from what one is not subscribed to is no error in this protocol.
                self.unsubscribe(slot, &Topic::Channel(channel), fx);
                line_out(slot, fx, |out| client::reply_unsubscribe(id, out));
            }
        }
    }

    fn client_publish(&mut self, slot: u32, id: u32, name: &str, data: &[u8], fx: &mut Effects) -> Act {
        let session = &mut self.sessions[slot as usize];
        let awaiting = session.is_awaiting();
        if awaiting && !session.more().awaiting.takes_publish() {
            return Act::Hold;
        }
        let checked = self.client_channel(name).and_then(|c| {
            self.may_publish(slot, &c).map_err(|code| (code, code.text.to_owned())).map(|()| c)
        });
        match checked {
            Ok(channel) => {
                self.ask(slot, id, Request::Publish(channel, Bytes::copy_from_slice(data), None), fx);
                Act::Next
            }
            Err(_) if awaiting => Act::Hold,
            Err((code, words)) => {
                self.refuse(slot, id, code, &words, fx);
                Act::Next
            }
        }
    }

    pub(crate) fn client_published(slot: u32, id: u32, fx: &mut Effects) {
        line_out(slot, fx, |out| client::reply_publish(id, out));
    }

    fn client_channel(&self, name: &str) -> Result<Channel, (Code, String)> {
        Channel::new(name).map_err(|error| (code::BAD_REQUEST, format!("bad request: {error}")))
    }

    pub(crate) fn client_refuse(slot: u32, id: u32, code: Code, text: &str, fx: &mut Effects) {
        line_out(slot, fx, |out| client::reply_error(id, code.number, text, code.temporary, out));
    }

    /// Time to ping: a `{}` that must be answered in time, and the next one after the interval.
    pub(crate) fn ping(&mut self, id: SessionId, fx: &mut Effects) {
        let timeout = self.settings.pong_timeout;
        line_out(id.slot, fx, |out| out.extend_from_slice(client::PING));
        if !timeout.is_zero() {
            self.sessions[id.slot as usize].flags.set(Flag::PongDue, true);
            fx.push(Effect::Start(id, Timer::Pong, timeout));
        }
        fx.push(Effect::Start(id, Timer::Ping, self.settings.ping_interval));
    }
}

/// Sends one line of JSON.
fn line_out(slot: u32, fx: &mut Effects, write: impl FnOnce(&mut Vec<u8>)) {
    fx.send(slot, |out| {
        write(out);
        out.push(b'\n');
    });
}
