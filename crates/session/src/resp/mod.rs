//! RESP: the Pub/Sub commands, with Redis' responses (redis.io, "Pub/Sub" and the pages of the commands).
//!
//! This module parses commands and reports events. Publish and subscribe are in [`pubsub`], transactions in
//! [`transaction`], other commands in [`commands`].

mod commands;
mod pubsub;
pub(crate) mod state;
mod table;
mod transaction;

use std::borrow::Cow;

use tidings_hub::{CloseReason, Connected, Cost, LossReport, Progress, ServerSubscription};
use tidings_wire::code::{self, Code};
use tidings_wire::resp::{self, Decoded, Decoder, Limits, Version};

use crate::consumed::{Consumed, StopReason};
use crate::context::Context;
use crate::link::Protocol;
use crate::messages::{Event, Response};
use crate::module::Module;

pub(crate) const MODULE: Module = Module {
    run: |cx, bytes, _| cx.run_resp(bytes),
    append_limit: |cx, held, bytes| {
        let bound = cx.hub.protocols.settings.max_line + RESP_OVERHEAD + 1;
        bytes.len().min(bound.saturating_sub(held))
    },
    refuse: |cx, _, code, text| cx.resp_refuse(code, text),
    event: |cx, event| cx.resp_event(event),
    responded: |cx, mark| cx.collect_replies(mark),
    closing: |cx, reason| cx.resp_closing(reason),
    // RESP has no message for a loss: a subscriber that misses publications is disconnected, as in Redis.
    loss_report: |_| LossReport::Close,
    // A RESP client would take an unrequested confirmation as the reply to another command.
    server_subscription: |_| ServerSubscription::Ignored,
    ..Module::DEFAULT
};

/// Most bytes of a RESP command besides one bulk string of the longest size: its name, a channel, the framing.
const RESP_OVERHEAD: usize = 4096;
/// Most arguments of a RESP command.
const RESP_ARGUMENTS: usize = 1024;

impl Context<'_> {
    fn resp_event(&mut self, event: Event<'_>) {
        match event {
            Event::Subscribed { topic, .. } => self.resp_subscribed(topic),
            Event::Response { id, response: Response::Failed(failure), .. } => {
                if let Some(resp) = self.session_mut().existing_state().and_then(|state| state.resp.as_mut())
                {
                    resp.pending_hello = None;
                }
                self.failed(id, &failure);
            }
            Event::Response { response: Response::Connected(connected), .. } => self.resp_accept(*connected),
            Event::Response { response, .. } => self.resp_response(&response),
            Event::Unsubscribed { topic, .. } => self.resp_unsubscribed(topic),
            Event::Publications(key, publications) => self.send_publications(key, publications),
            _ => {}
        }
    }

    /// Accepts the token of `AUTH` or `HELLO`.
    fn resp_accept(&mut self, connected: Connected) {
        if !self.accept_with_grants(connected) {
            return;
        }
        match self.session_mut().existing_state().and_then(|state| state.resp.as_mut()?.pending_hello.take())
        {
            Some(pending_hello) => self.resp_finish_hello(*pending_hello),
            None => self.send(|out| resp::simple("OK", out)),
        }
    }

    fn resp_closing(&mut self, reason: &CloseReason) {
        // Redis sends nothing at shutdown; its clients detect the end of the stream.
        if let Some((code, words)) = reason.code_and_reason()
            && !matches!(reason, CloseReason::Shutdown(_))
        {
            let text = match reason {
                CloseReason::Protocol(_) => format!("ERR {words}"),
                _ => format!("ERR {} {words}", code.number),
            };
            self.send(|out| resp::error(&text, out));
        }
    }

    fn run_resp(&mut self, bytes: &[u8]) -> Consumed {
        let max = self.hub.protocols.settings.max_line;
        let limits = Limits { max_bulk: max, max_args: RESP_ARGUMENTS, max_command: max + RESP_OVERHEAD };
        let mut decoder = match self.session_mut().existing_state().and_then(|state| state.resp.as_mut()) {
            Some(resp) => std::mem::take(&mut resp.decoder),
            None => std::mem::take(&mut self.hub.protocols.decoder),
        };
        let mut used = 0;
        let stop = loop {
            if let Some(stop) = self.run_transaction() {
                break stop;
            }
            if used == bytes.len() {
                break StopReason::Partial;
            }
            match decoder.decode(&bytes[used..], &limits) {
                Ok(Decoded::Command { args, used: length }) => match self.resp_metered(&args[..], length) {
                    Progress::Next => used += length,
                    Progress::Hold => break StopReason::Hold,
                    Progress::End => break StopReason::End,
                },
                Ok(Decoded::Nothing { used: length }) => {
                    self.charge_input(length);
                    used += length;
                }
                Ok(Decoded::Partial) => {
                    self.session_mut().state().resp().decoder = std::mem::take(&mut decoder);
                    break StopReason::Partial;
                }
                Err(error) => {
                    self.hub.count_error();
                    self.end(&CloseReason::Protocol(error.to_string()));
                    break StopReason::End;
                }
            }
        };
        self.hub.protocols.decoder = Decoder::default();
        if stop == StopReason::End {
            used = bytes.len();
        }
        Consumed { used, stop }
    }

    /// Executes one command of `bytes` bytes, if the limits allow it. `QUIT` is always executed. So is `MULTI`:
    /// otherwise the pipelined commands after it would be executed without a transaction. A command that ends a
    /// transaction is charged, and ends it even if it is refused.
    pub(super) fn resp_metered(&mut self, args: &[Cow<'_, [u8]>], bytes: usize) -> Progress {
        let is = |name: &[u8]| args[0].eq_ignore_ascii_case(name);
        if is(b"quit") || is(b"multi") && !self.is_in_transaction() {
            return self.resp_command(args);
        }
        let cost = Cost { bytes, publishes: is(b"publish") };
        self.metered_or(
            cost,
            |cx| cx.resp_command(args),
            |cx, words| {
                let text = error_text(code::TOO_MANY_REQUESTS, words);
                match cx.is_in_transaction() {
                    true if is(b"exec") => return cx.refuse_exec(&text),
                    true if is(b"discard") || is(b"reset") => cx.discard_transaction(),
                    true => cx.fail_transaction(),
                    false => {}
                }
                cx.resp_error(&text);
            },
        )
    }

    /// Executes one command; `args[0]` is its name.
    pub(super) fn resp_command(&mut self, args: &[Cow<'_, [u8]>]) -> Progress {
        let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
        let session = self.session();
        let listening = session.peer.link.protocol() == Protocol::Resp { version: Version::V2 }
            && (!session.subscriptions().is_empty() || session.has_pending_subscription());
        let allowed_while_listening = matches!(
            &*name,
            "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" | "ping" | "quit" | "reset"
        );
        if listening && !allowed_while_listening {
            let known = table::is_known(&name);
            // Redis names the whole command, as in "client|id".
            let name = match args.get(1) {
                Some(sub) if matches!(&*name, "client" | "pubsub") => {
                    format!("{name}|{}", String::from_utf8_lossy(sub).to_ascii_lowercase())
                }
                _ => name,
            };
            return self.in_turn(|cx| {
                let text = format!(
                    "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
                );
                if name == "exec" {
                    cx.refuse_exec(&text);
                } else if known {
                    cx.resp_error(&text);
                } else {
                    cx.resp_unknown(args);
                }
            });
        }
        if self.is_in_transaction() {
            return self.resp_in_transaction(&name, args);
        }
        self.resp_execute(&name, args)
    }

    /// Executes one command, with its `name` in lower case, without further checks of the session's state.
    pub(super) fn resp_execute(&mut self, name: &str, args: &[Cow<'_, [u8]>]) -> Progress {
        match name {
            "publish" => self.resp_publish(args),
            "subscribe" | "psubscribe" => self.resp_subscribe(name, args),
            "unsubscribe" => self.in_turn(|cx| cx.resp_unsubscribe(false, args)),
            "punsubscribe" => self.in_turn(|cx| cx.resp_unsubscribe(true, args)),
            "pubsub" => self.in_turn(|cx| cx.resp_pubsub(args)),
            _ => self.resp_connection_command(name, args),
        }
    }

    pub(super) fn resp_version(&self) -> Version {
        match self.link().protocol() {
            Protocol::Resp { version } => version,
            _ => Version::V2,
        }
    }

    pub(super) fn resp_error(&mut self, text: &str) {
        self.hub.count_error();
        self.send(|out| resp::error(text, out));
    }

    pub(super) fn resp_arity(&mut self, name: &str) {
        self.resp_error(&table::wrong_arity(name));
    }

    pub(super) fn resp_refuse(&mut self, code: Code, text: &str) {
        self.hub.count_error();
        self.send(|out| resp::error(&error_text(code, text), out));
    }
}

/// A code and text as a Redis error: the kind first, because clients parse it.
pub(crate) fn error_text(code: Code, text: &str) -> String {
    if code.number == code::PERMISSION_DENIED.number {
        format!("NOPERM {} {text}", code.number)
    } else if matches!(code.number, 101 | 109) {
        format!("WRONGPASS {} {text}", code.number)
    } else {
        format!("ERR {} {text}", code.number)
    }
}
