//! RESP: commands that Redis clients send around Pub/Sub (`HELLO`, `CLIENT SETINFO`, …).

use std::borrow::Cow;

use tidings_wire::resp::{self, Version};

use tidings_hub::{CloseReason, Progress, Query, SessionId};

use super::state::PendingHello;
use super::table::{self, COMMANDS};
use crate::context::Context;
use crate::link::Link;
use crate::messages::Request;

/// The emulated Redis version; clients select commands by it.
const REDIS_VERSION: &str = "7.2.0";

impl Context<'_> {
    /// Executes a command that is not part of Pub/Sub.
    pub(crate) fn resp_connection_command(&mut self, name: &str, args: &[Cow<'_, [u8]>]) -> Progress {
        if name == "quit" {
            return match self.in_turn(|cx| {
                cx.send(|out| resp::simple("OK", out));
                cx.end(&CloseReason::Done);
            }) {
                Progress::Hold => Progress::Hold,
                _ => Progress::End,
            };
        }
        self.in_turn(|cx| match (name, &args[1..]) {
            ("ping", []) => cx.resp_ping(None),
            ("ping", [text]) => cx.resp_ping(Some(text)),
            ("echo", [text]) => cx.send(|out| resp::bulk(text, out)),
            ("select", [index]) => cx.resp_select(index),
            ("auth", [secret]) => cx.resp_auth(None, secret),
            ("auth", [user, secret]) => cx.resp_auth(Some(user), secret),
            ("auth", [_, _, ..]) => cx.resp_error("ERR syntax error"),
            ("hello", rest) => cx.resp_hello(rest),
            ("client", [subcommand, rest @ ..]) => cx.resp_client(subcommand, rest),
            ("command", rest) => cx.resp_command_info(rest),
            ("info", _) => match cx.hub.settings().access.authorize_global(cx.session().identity) {
                Ok(()) => cx.hub.request(cx.slot, 0, Request::Query(Query::Info), cx.fx),
                Err(code) => cx.refuse(0, code, code.text),
            },
            ("reset", []) => cx.resp_reset(),
            ("multi", []) => cx.begin_transaction(),
            ("watch", [_, ..]) | ("unwatch", []) => cx.send(|out| resp::simple("OK", out)),
            ("exec", []) => cx.resp_error("ERR EXEC without MULTI"),
            ("exec", _) => cx.refuse_exec(&table::wrong_arity("exec")),
            ("discard", []) => cx.resp_error("ERR DISCARD without MULTI"),
            ("multi" | "discard" | "watch" | "unwatch", _) => cx.resp_arity(name),
            ("ping" | "echo" | "select" | "auth" | "client" | "reset", _) => cx.resp_arity(name),
            _ => cx.resp_unknown(args),
        })
    }

    fn resp_ping(&mut self, text: Option<&[u8]>) {
        let listening = !self.session().subscriptions().is_empty();
        let version = self.resp_version();
        self.send(|out| {
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

    fn resp_select(&mut self, index: &[u8]) {
        match std::str::from_utf8(index).ok().and_then(|i| i.parse::<i64>().ok()) {
            Some(0) => self.send(|out| resp::simple("OK", out)),
            Some(_) => self.resp_error("ERR DB index is out of range"),
            None => self.resp_error("ERR value is not an integer or out of range"),
        }
    }

    fn resp_auth(&mut self, user: Option<&[u8]>, secret: &[u8]) {
        if self.is_token(secret) {
            return self.hub.authenticate_token(self.slot, secret, self.fx);
        }
        if self.resp_check_password(user, secret) {
            self.send(|out| resp::simple("OK", out));
        }
    }

    /// Checks a password; responds with Redis' error if it is not accepted.
    fn resp_check_password(&mut self, user: Option<&[u8]>, secret: &[u8]) -> bool {
        let access = &self.hub.settings().access;
        let no_password = access.open && access.keys.is_empty();
        // Without a configured password, Redis accepts any password for its default user.
        if self.hub.authenticate(self.slot, secret) || (no_password && user == Some(b"default")) {
            return true;
        }
        if no_password && user.is_none() {
            let text = "ERR AUTH <password> called without any password configured for the default user. \
                        Are you sure your configuration is correct?";
            self.resp_error(text);
        } else if no_password {
            self.resp_error(WRONG_PASSWORD);
        } else {
            self.hub.authenticate_token(self.slot, secret, self.fx);
        }
        false
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`.
    fn resp_hello(&mut self, args: &[Cow<'_, [u8]>]) {
        let version = match args.first() {
            None => None,
            Some(v) => match std::str::from_utf8(v).ok().and_then(|v| v.parse::<i64>().ok()) {
                Some(2) => Some(Version::V2),
                Some(3) => Some(Version::V3),
                Some(_) => return self.resp_error("NOPROTO unsupported protocol version"),
                None => {
                    let text = "ERR Protocol version is not an integer or out of range";
                    return self.resp_error(text);
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
                    let Some(valid) = parse_client_name(given) else {
                        return self.resp_error(BAD_CLIENT_NAME);
                    };
                    name = Some(valid);
                    rest = tail;
                }
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return self.resp_error(&format!("ERR Syntax error in HELLO option '{option}'"));
                }
            }
        }
        let pending_hello = PendingHello { version, name };
        if let Some((user, secret)) = credentials {
            if self.is_token(secret) {
                self.session_mut().state().resp().pending_hello = Some(Box::new(pending_hello));
                return self.hub.authenticate_token(self.slot, secret, self.fx);
            }
            if !self.resp_check_password(Some(user), secret) {
                return;
            }
        }
        self.resp_finish_hello(pending_hello);
    }

    /// Whether a password must be verified as a token.
    fn is_token(&self, secret: &[u8]) -> bool {
        self.hub.settings().access.tokens && !self.hub.settings().access.is_key(secret)
    }

    /// Replies to a `HELLO` that is allowed.
    pub(crate) fn resp_finish_hello(&mut self, pending_hello: PendingHello) {
        let PendingHello { version, name } = pending_hello;
        if let Some(name) = name {
            self.session_mut().state().resp().name = name;
        }
        if let Some(version) = version {
            self.set_link(Link::resp(version));
        }
        self.write_hello_reply();
    }

    fn write_hello_reply(&mut self) {
        let version = self.resp_version();
        let number = self.resp_client_number();
        self.send(|out| {
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

    /// The client number, which is unique among the connections of this server.
    fn resp_client_number(&self) -> i64 {
        let (index, shards) = self.hub.shard();
        let SessionId { generation, .. } = self.hub.session_id(self.slot);
        i64::from(generation) * i64::from(shards) + i64::from(index)
    }

    fn resp_client(&mut self, subcommand: &[u8], args: &[Cow<'_, [u8]>]) {
        let lower = String::from_utf8_lossy(subcommand).to_ascii_lowercase();
        match (&*lower, args) {
            ("id", []) => {
                let number = self.resp_client_number();
                self.send(|out| resp::integer(number, out));
            }
            ("getname", []) => {
                let version = self.resp_version();
                let name = self
                    .hub
                    .session(self.slot)
                    .peek_state()
                    .and_then(|state| state.resp.as_ref()?.name.as_deref());
                self.fx.send(self.slot, |out| match name {
                    Some(name) => resp::bulk(name.as_bytes(), out),
                    None => resp::null(version, out),
                });
            }
            ("setname", [name]) => match parse_client_name(name) {
                Some(name) => {
                    self.session_mut().state().resp().name = name;
                    self.send(|out| resp::simple("OK", out));
                }
                None => self.resp_error(BAD_CLIENT_NAME),
            },
            ("setinfo", [key, _]) => match &key.to_ascii_lowercase()[..] {
                b"lib-name" | b"lib-ver" => self.send(|out| resp::simple("OK", out)),
                _ => {
                    let key = String::from_utf8_lossy(key);
                    self.resp_error(&format!("ERR Unrecognized option '{key}'"));
                }
            },
            ("id" | "getname" | "setname" | "setinfo", _) => {
                self.resp_arity(&format!("client|{lower}"));
            }
            _ => self.resp_unknown_subcommand("CLIENT", subcommand),
        }
    }

    /// `COMMAND …`: the list of commands, without key positions and documentation.
    fn resp_command_info(&mut self, args: &[Cow<'_, [u8]>]) {
        let version = self.resp_version();
        let subcommand = args.first().map(|s| s.to_ascii_lowercase());
        self.send(|out| match subcommand.as_deref() {
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

    fn resp_reset(&mut self) {
        self.discard_transaction();
        self.hub.unsubscribe_all(self.slot, self.fx);
        self.set_link(Link::resp(Version::V2));
        if let Some(state) = self.session_mut().existing_state() {
            state.resp().name = None;
        }
        self.operations().reset_identity();
        self.send(|out| resp::simple("RESET", out));
    }

    pub(crate) fn resp_unknown(&mut self, args: &[Cow<'_, [u8]>]) {
        self.resp_error(&table::unknown(args));
    }

    pub(crate) fn resp_unknown_subcommand(&mut self, command: &str, subcommand: &[u8]) {
        self.resp_error(&table::unknown_subcommand(command, subcommand));
    }
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const BAD_CLIENT_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
/// Longest name of a connection, in bytes. Redis has no such bound.
const CLIENT_NAME: usize = 255;

/// The name of a connection, if it is valid: printable, without spaces. An empty name removes the name.
fn parse_client_name(given: &[u8]) -> Option<Option<Box<str>>> {
    if given.len() > CLIENT_NAME || !given.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let name = std::str::from_utf8(given).ok()?;
    Some((!name.is_empty()).then(|| name.into()))
}
