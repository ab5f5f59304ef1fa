//! RESP: the commands around Pub/Sub that Redis clients send to get going (`HELLO`, `CLIENT SETINFO`, …).

use std::borrow::Cow;

use tidings_wire::resp::{self, Version};

use super::resp_table::{self, COMMANDS};
use super::{Flag, Link, SessionId};
use crate::access::Identity;
use crate::effects::{Effects, Query, Request};
use crate::ending::Ending;
use crate::hub::{Act, Hub};

/// The Redis version whose Pub/Sub commands are spoken here; clients choose what they send by it.
const REDIS_VERSION: &str = "7.2.0";

/// What `HELLO` asks for, while its token is looked at.
#[derive(Debug)]
pub(crate) struct Greeting {
    version: Option<Version>,
    /// The new name of the connection; `Some(None)` takes it away.
    name: Option<Option<Box<str>>>,
}

impl Hub {
    /// Carries out a command that is not about Pub/Sub.
    pub(crate) fn resp_other(
        &mut self,
        slot: u32,
        name: &str,
        args: &[Cow<'_, [u8]>],
        fx: &mut Effects,
    ) -> Act {
        if name == "quit" {
            return match self.in_turn(slot, fx, |hub, fx| {
                fx.send(slot, |out| resp::simple("OK", out));
                hub.end(slot, &Ending::Done, fx);
            }) {
                Act::Hold => Act::Hold,
                _ => Act::End,
            };
        }
        self.in_turn(slot, fx, |hub, fx| match (name, &args[1..]) {
            ("ping", []) => hub.resp_ping(slot, None, fx),
            ("ping", [text]) => hub.resp_ping(slot, Some(text), fx),
            ("echo", [text]) => fx.send(slot, |out| resp::bulk(text, out)),
            ("select", [index]) => hub.resp_select(slot, index, fx),
            ("auth", [secret]) => hub.resp_auth(slot, None, secret, fx),
            ("auth", [user, secret]) => hub.resp_auth(slot, Some(user), secret, fx),
            ("auth", [_, _, ..]) => hub.resp_error(slot, fx, "ERR syntax error"),
            ("hello", rest) => hub.resp_hello(slot, rest, fx),
            ("client", [subcommand, rest @ ..]) => hub.resp_client(slot, subcommand, rest, fx),
            ("command", rest) => hub.resp_describe(slot, rest, fx),
            ("info", _) => match hub.settings.access.may_see_all(hub.sessions[slot as usize].identity) {
                Ok(()) => hub.ask(slot, 0, Request::Query(Query::Info), fx),
                Err(code) => hub.refuse(slot, 0, code, code.text, fx),
            },
            ("reset", []) => hub.resp_reset(slot, fx),
            ("multi", []) => hub.begin_transaction(slot, fx),
            ("watch", [_, ..]) | ("unwatch", []) => fx.send(slot, |out| resp::simple("OK", out)),
            ("exec", []) => hub.resp_error(slot, fx, "ERR EXEC without MULTI"),
            ("exec", _) => hub.refuse_exec(slot, &resp_table::wrong_arity("exec"), fx),
            ("discard", []) => hub.resp_error(slot, fx, "ERR DISCARD without MULTI"),
            ("multi" | "discard" | "watch" | "unwatch", _) => hub.resp_arity(slot, name, fx),
            ("ping" | "echo" | "select" | "auth" | "client" | "reset", _) => hub.resp_arity(slot, name, fx),
            _ => hub.resp_unknown(slot, args, fx),
        })
    }

    fn resp_ping(&mut self, slot: u32, text: Option<&[u8]>, fx: &mut Effects) {
        let listening = !self.sessions[slot as usize].subscriptions().is_empty();
        let version = self.resp_version(slot);
        fx.send(slot, |out| {
            if listening && version == Version::V2 {
                resp::array(2, out);
                resp::bulk(b"pong", out);
                resp::bulk(text.unwrap_or_default(), out);
            } else if let Some(text) = text {
                resp::bulk(text, out);
            } else {
                resp::simple("PONG", out);
            }
        });
    }

    fn resp_select(&mut self, slot: u32, index: &[u8], fx: &mut Effects) {
        match std::str::from_utf8(index).ok().and_then(|i| i.parse::<i64>().ok()) {
            Some(0) => fx.send(slot, |out| resp::simple("OK", out)),
            Some(_) => self.resp_error(slot, fx, "ERR DB index is out of range"),
            None => self.resp_error(slot, fx, "ERR value is not an integer or out of range"),
        }
    }

    fn resp_auth(&mut self, slot: u32, user: Option<&[u8]>, secret: &[u8], fx: &mut Effects) {
        if self.takes_token(secret) {
            return self.authenticate_token(slot, secret, fx);
        }
        if self.resp_admits(slot, user, secret, fx) {
            fx.send(slot, |out| resp::simple("OK", out));
        }
    }

    /// Checks a password; answers with Redis' error when it is not accepted, in the end.
    fn resp_admits(&mut self, slot: u32, user: Option<&[u8]>, secret: &[u8], fx: &mut Effects) -> bool {
        let access = &self.settings.access;
        let no_password = access.open && access.api_key.is_none();
        // Redis takes any password for its default user while none is configured.
        if self.authenticate(slot, secret) || (no_password && user == Some(b"default")) {
            return true;
        }
        if no_password && user.is_none() {
            let text = "ERR AUTH <password> called without any password configured for the default user. \
                        Are you sure your configuration is correct?";
            self.resp_error(slot, fx, text);
        } else if no_password {
            self.resp_error(slot, fx, WRONG_PASSWORD);
        } else {
            self.authenticate_token(slot, secret, fx);
        }
        false
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`.
    fn resp_hello(&mut self, slot: u32, args: &[Cow<'_, [u8]>], fx: &mut Effects) {
        let version = match args.first() {
            None => None,
            Some(v) => match std::str::from_utf8(v).ok().and_then(|v| v.parse::<i64>().ok()) {
                Some(2) => Some(Version::V2),
                Some(3) => Some(Version::V3),
                Some(_) => return self.resp_error(slot, fx, "NOPROTO unsupported protocol version"),
                None => {
                    let text = "ERR Protocol version is not an integer or out of range";
                    return self.resp_error(slot, fx, text);
                }
            },
        };
        let mut rest = args.get(1..).unwrap_or_default();
        let (mut name, mut credentials) = (None, None);
        while let [option, tail @ ..] = rest {
            match (&option.to_ascii_lowercase()[..], tail) {
                (b"auth", [user, secret, tail @ ..]) => {
                    credentials = Some((user, secret));
                    rest = tail;
                }
                (b"setname", [given, tail @ ..]) => {
                    let Some(valid) = client_name(given) else {
                        return self.resp_error(slot, fx, BAD_CLIENT_NAME);
                    };
                    name = Some(valid);
                    rest = tail;
                }
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return self.resp_error(
                        slot,
                        fx,
                        &format!("ERR Syntax error in HELLO option '{option}'"),
                    );
                }
            }
        }
        let greeting = Greeting { version, name };
        if let Some((user, secret)) = credentials {
            if self.takes_token(secret) {
                self.sessions[slot as usize].more().greeting = Some(Box::new(greeting));
                return self.authenticate_token(slot, secret, fx);
            }
            if !self.resp_admits(slot, Some(user), secret, fx) {
                return;
            }
        }
        self.resp_greet(slot, greeting, fx);
    }

    /// Whether a password is to be looked at as a token.
    fn takes_token(&self, secret: &[u8]) -> bool {
        self.settings.access.tokens && !self.settings.access.is_key(secret)
    }

    /// Answers `HELLO`, which was allowed.
    pub(crate) fn resp_greet(&mut self, slot: u32, greeting: Greeting, fx: &mut Effects) {
        let Greeting { version, name } = greeting;
        if let Some(name) = name {
            self.sessions[slot as usize].more().name = name;
        }
        if let Some(version) = version {
            self.set_link(slot, Link::resp(version));
        }
        self.resp_introduce(slot, fx);
    }

    fn resp_introduce(&self, slot: u32, fx: &mut Effects) {
        let version = self.resp_version(slot);
        let number = self.resp_client_number(slot);
        fx.send(slot, |out| {
            resp::map(version, 7, out);
            for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
                resp::bulk(key.as_bytes(), out);
                resp::bulk(value.as_bytes(), out);
            }
            resp::bulk(b"proto", out);
            resp::integer(if version == Version::V3 { 3 } else { 2 }, out);
            resp::bulk(b"id", out);
            resp::integer(number, out);
            for (key, value) in [("mode", "standalone"), ("role", "master")] {
                resp::bulk(key.as_bytes(), out);
                resp::bulk(value.as_bytes(), out);
            }
            resp::bulk(b"modules", out);
            resp::array(0, out);
        });
    }

    /// A number that no other connection of this server has while it runs.
    fn resp_client_number(&self, slot: u32) -> i64 {
        let (index, shards) = self.shard;
        let SessionId { generation, .. } = self.id(slot).expect("a session that is being served");
        i64::from(generation) * i64::from(shards) + i64::from(index)
    }

    fn resp_client(&mut self, slot: u32, subcommand: &[u8], args: &[Cow<'_, [u8]>], fx: &mut Effects) {
        let lower = String::from_utf8_lossy(subcommand).to_ascii_lowercase();
        match (&*lower, args) {
            ("id", []) => {
                let number = self.resp_client_number(slot);
                fx.send(slot, |out| resp::integer(number, out));
            }
            ("getname", []) => {
                let version = self.resp_version(slot);
                let name = self.sessions[slot as usize].name();
                fx.send(slot, |out| match name {
                    Some(name) => resp::bulk(name.as_bytes(), out),
                    None => resp::null(version, out),
                });
            }
            ("setname", [name]) => match client_name(name) {
                Some(name) => {
                    self.sessions[slot as usize].more().name = name;
                    fx.send(slot, |out| resp::simple("OK", out));
                }
                None => self.resp_error(slot, fx, BAD_CLIENT_NAME),
            },
            ("setinfo", [key, _]) => match &key.to_ascii_lowercase()[..] {
                b"lib-name" | b"lib-ver" => fx.send(slot, |out| resp::simple("OK", out)),
                _ => {
                    let key = String::from_utf8_lossy(key);
                    self.resp_error(slot, fx, &format!("ERR Unrecognized option '{key}'"));
                }
            },
            ("id" | "getname" | "setname" | "setinfo", _) => {
                self.resp_arity(slot, &format!("client|{lower}"), fx);
            }
            _ => self.resp_unknown_subcommand(slot, "CLIENT", subcommand, fx),
        }
    }

    /// `COMMAND …`: enough for clients that ask what there is. No key positions, no documentation.
    fn resp_describe(&self, slot: u32, args: &[Cow<'_, [u8]>], fx: &mut Effects) {
        let version = self.resp_version(slot);
        let subcommand = args.first().map(|s| s.to_ascii_lowercase());
        fx.send(slot, |out| match subcommand.as_deref() {
            Some(b"count") => resp::integer(COMMANDS.len() as i64, out),
            Some(b"docs") => resp::map(version, 0, out),
            None | Some(b"info") => resp::array(0, out),
            Some(b"list") => {
                resp::array(COMMANDS.len(), out);
                for (command, _) in COMMANDS {
                    resp::bulk(command.as_bytes(), out);
                }
            }
            Some(_) => {
                let subcommand = String::from_utf8_lossy(&args[0]);
                resp::error(&format!("ERR unknown subcommand '{subcommand}'. Try COMMAND HELP."), out);
            }
        });
    }

    fn resp_reset(&mut self, slot: u32, fx: &mut Effects) {
        self.discard_transaction(slot);
        self.unsubscribe_all(slot, fx);
        self.set_link(slot, Link::resp(Version::V2));
        let session = &mut self.sessions[slot as usize];
        session.identity = Identity::Anonymous;
        session.flags.set(Flag::Connected, false);
        let member = session.existing_more().and_then(|more| {
            more.name = None;
            more.granted = Vec::new();
            more.member.take()
        });
        if let Some(member) = member {
            self.forget_user(slot, &member.user);
        }
        self.forget_meter(slot);
        fx.send(slot, |out| resp::simple("RESET", out));
    }

    pub(crate) fn resp_unknown(&mut self, slot: u32, args: &[Cow<'_, [u8]>], fx: &mut Effects) {
        self.resp_error(slot, fx, &resp_table::unknown(args));
    }

    pub(crate) fn resp_unknown_subcommand(
        &mut self,
        slot: u32,
        command: &str,
        subcommand: &[u8],
        fx: &mut Effects,
    ) {
        self.resp_error(slot, fx, &resp_table::unknown_subcommand(command, subcommand));
    }
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const BAD_CLIENT_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
/// Longest name a client may give itself here, in bytes; Redis has no such bound.
const CLIENT_NAME: usize = 255;

/// A connection's name, if it may be one: printable, without spaces; an empty one takes the name away.
fn client_name(given: &[u8]) -> Option<Option<Box<str>>> {
    if given.len() > CLIENT_NAME || !given.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let name = std::str::from_utf8(given).ok()?;
    Some((!name.is_empty()).then(|| name.into()))
}
