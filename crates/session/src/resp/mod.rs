//! RESP: the commands of Pub/Sub, with Redis' own answers (redis.io, "Pub/Sub" and the commands' pages).
//!
//! This module reads commands and reports events. Publish and subscribe are in [`pubsub`], transactions in [`transaction`],
//! other commands in [`commands`].

mod commands;
mod pubsub;
mod table;
mod transaction;

use std::borrow::Cow;

use tidings_hub::{CloseReason, Connected, Cost, Event, LossReport, Progress, Response, ServerSubscription};
use tidings_wire::code::{self, Code};
use tidings_wire::resp::{self, Decoded, Decoder, Limits, Version};

pub(crate) use commands::Greeting;
pub(crate) use transaction::Transaction;

use crate::context::Context;
use crate::input::{Step, Why};
use crate::link::Protocol;
use crate::protocols::Module;

pub(crate) const MODULE: Module = Module {
    run: |cx, bytes, _| cx.run_resp(bytes),
    next_piece: |cx, held, bytes| {
        let bound = cx.hub.settings().max_line + RESP_OVERHEAD + 1;
        bytes.len().min(bound.saturating_sub(held))
    },
    refuse: |cx, _, code, text| cx.resp_refuse(code, text),
    event: |cx, event| cx.resp_event(event),
    responded: |cx, mark| cx.collect_replies(mark),
    closing: |cx, ending| cx.resp_closing(ending),
    // RESP has no message for a loss: a subscriber that misses something is disconnected, as Redis does.
    loss_report: |_| LossReport::Close,
    // A RESP client takes a confirmation that it did not request for the reply to something else.
    server_subscription: |_| ServerSubscription::Ignored,
    ..Module::DEFAULT
};

/// What a RESP command may take besides one bulk string of the longest size: its name, a channel, the framing.
const RESP_OVERHEAD: usize = 4096;
/// Most arguments of a RESP command.
const RESP_ARGUMENTS: usize = 1024;

impl Context<'_> {
    fn resp_event(&mut self, event: Event<'_>) {
        match event {
            Event::Subscribed { topic, .. } => self.resp_subscribed(topic),
            Event::Response { id, answer: Response::Failed(failure), .. } => {
                if let Some(state) = self.session_mut().existing_state() {
                    state.greeting = None;
                }
                self.failed(id, &failure);
            }
            Event::Response { answer: Response::Connected(connected), .. } => self.resp_accept(*connected),
            Event::Response { answer, .. } => self.resp_answered(&answer),
            Event::Unsubscribed { topic, .. } => self.resp_unsubscribed(topic),
            Event::Publications(key, publications) => self.send_publications(key, publications),
            _ => {}
        }
    }

    /// A token was accepted, in `AUTH` or `HELLO`.
    fn resp_accept(&mut self, connected: Connected) {
        if !self.accept_with_grants(connected) {
            return;
        }
        match self.session_mut().existing_state().and_then(|state| state.greeting.take()) {
            Some(greeting) => self.resp_greet(*greeting),
            None => self.send(|out| resp::simple("OK", out)),
        }
    }

    fn resp_closing(&mut self, ending: &CloseReason) {
        // Redis sends nothing when it shuts down; its clients notice the end of the stream.
        if let Some((code, words)) = ending.words()
            && !matches!(ending, CloseReason::Shutdown(_))
        {
            let text = match ending {
                CloseReason::Protocol(_) => format!("ERR {words}"),
                _ => format!("ERR {} {words}", code.number),
            };
            self.send(|out| resp::error(&text, out));
        }
    }

    fn run_resp(&mut self, bytes: &[u8]) -> Step {
        let max = self.hub.settings().max_line;
        let limits = Limits { max_bulk: max, max_args: RESP_ARGUMENTS, max_command: max + RESP_OVERHEAD };
        let mut decoder = match self.session_mut().existing_state() {
            Some(more) => std::mem::take(&mut more.decoder),
            None => std::mem::take(&mut self.hub.protocols.decoder),
        };
        let mut used = 0;
        let why = loop {
            if let Some(why) = self.run_transaction() {
                break why;
            }
            if used == bytes.len() {
                break Why::Partial;
            }
            match decoder.decode(&bytes[used..], &limits) {
                Ok(Decoded::Command { args, used: length }) => match self.resp_metered(&args[..], length) {
                    Progress::Next => used += length,
                    Progress::Hold => break Why::Hold,
                    Progress::End => break Why::End,
                },
                Ok(Decoded::Nothing { used: length }) => {
                    self.charge_input(length);
                    used += length;
                }
                Ok(Decoded::Partial) => {
                    self.session_mut().state().decoder = std::mem::take(&mut decoder);
                    break Why::Partial;
                }
                Err(error) => {
                    self.hub.count_error();
                    self.end(&CloseReason::Protocol(error.to_string()));
                    break Why::End;
                }
            }
        };
        self.hub.protocols.decoder = Decoder::default();
        if why == Why::End {
            used = bytes.len();
        }
        Step { used, why }
    }

    /// Carries out one command of `bytes` bytes, if the limits allow it. `QUIT` is always carried out, and so is `MULTI`: a
    /// client that sends the commands behind it at once would have them carried out without it. What ends a transaction
    /// is charged, and ends it also where it is refused.
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
                    true => cx.spoil_transaction(),
                    false => {}
                }
                cx.resp_error(&text);
            },
        )
    }

    /// Carries out one command; `args[0]` is its name.
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

    /// Carries out one command, whose `name` is in lower case, whatever else holds for the session.
    pub(super) fn resp_execute(&mut self, name: &str, args: &[Cow<'_, [u8]>]) -> Progress {
        match name {
            "publish" => self.resp_publish(args),
            "subscribe" | "psubscribe" => self.resp_subscribe(name, args),
            "unsubscribe" => self.in_turn(|cx| cx.resp_unsubscribe(false, args)),
            "punsubscribe" => self.in_turn(|cx| cx.resp_unsubscribe(true, args)),
            "pubsub" => self.in_turn(|cx| cx.resp_pubsub(args)),
            _ => self.resp_other(name, args),
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

/// A code and words of ours as a Redis error: the kind first, as its clients look for it.
pub(crate) fn error_text(code: Code, text: &str) -> String {
    if code.number == code::PERMISSION_DENIED.number {
        format!("NOPERM {} {text}", code.number)
    } else if matches!(code.number, 101 | 109) {
        format!("WRONGPASS {} {text}", code.number)
    } else {
        format!("ERR {} {text}", code.number)
    }
}
