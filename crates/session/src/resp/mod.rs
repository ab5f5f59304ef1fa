//! RESP: the commands of Pub/Sub, with Redis' own answers (redis.io, "Pub/Sub" and the commands' pages).
//!
//! What is not about Pub/Sub is in [`commands`], transactions in [`transaction`].

mod commands;
mod table;
mod transaction;

use std::borrow::Cow;

use bytes::Bytes;
use tidings_hub::{
    Action, CloseReason, Connected, Cost, Entry, Event, LossReport, Progress, Query, Request, Response,
    ServerSubscription, SubscribeOutcome, TopicKey,
};
use tidings_wire::code::{self, Code};
use tidings_wire::resp::{self, Decoded, Decoder, Limits, Version};
use tidings_wire::{Channel, Pattern, Topic};

pub(crate) use commands::Greeting;
pub(crate) use transaction::Transaction;

use crate::context::Context;
use crate::input::{Step, Why};
use crate::link::Protocol;
use crate::protocols::Module;

pub(crate) const MODULE: Module = Module {
    run: |cx, bytes, _| cx.run_resp(bytes),
    message: |_, bytes| (bytes.len(), Why::Partial),
    next_piece: |cx, held, bytes| {
        let bound = cx.hub.settings().max_line + RESP_OVERHEAD + 1;
        bytes.len().min(bound.saturating_sub(held))
    },
    refuse: |cx, _, code, text| cx.resp_refuse(code, text),
    too_long: |_, _| {},
    event: |cx, event| cx.resp_event(event),
    responded: |cx, mark| cx.collect_replies(mark),
    closing: |cx, ending| cx.resp_closing(ending),
    presence_changed: |_, _, _, _| {},
    begin: |_| {},
    // RESP has no message for it: a subscriber that misses something is disconnected, as Redis does.
    loss_report: |_| LossReport::Close,
    // A RESP client takes a confirmation that it did not request for the reply to something else.
    server_subscription: |_| ServerSubscription::Ignored,
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
}

impl Context<'_> {
    /// Carries out one command of `bytes` bytes, if the limits allow it. `QUIT` is always carried out, and so is `MULTI`: a
    /// client that sends the commands behind it at once would have them carried out without it. What ends a transaction
    /// is charged, and ends it also where it is refused.
    pub(crate) fn resp_metered(&mut self, args: &[Cow<'_, [u8]>], bytes: usize) -> Progress {
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
    pub(crate) fn resp_command(&mut self, args: &[Cow<'_, [u8]>]) -> Progress {
        let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
        let session = self.session();
        let listening = session.peer.link.protocol() == Protocol::Resp { version: Version::V2 }
            && (!session.subscriptions().is_empty() || session.is_awaiting_subscription());
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
    pub(crate) fn resp_execute(&mut self, name: &str, args: &[Cow<'_, [u8]>]) -> Progress {
        match name {
            "publish" => self.resp_publish(args),
            "subscribe" | "psubscribe" => self.resp_subscribe(name, args),
            "unsubscribe" => self.in_turn(|cx| cx.resp_unsubscribe(false, args)),
            "punsubscribe" => self.in_turn(|cx| cx.resp_unsubscribe(true, args)),
            "pubsub" => self.in_turn(|cx| cx.resp_pubsub(args)),
            _ => self.resp_other(name, args),
        }
    }

    pub(crate) fn resp_version(&self) -> Version {
        match self.link().protocol() {
            Protocol::Resp { version } => version,
            _ => Version::V2,
        }
    }

    pub(crate) fn resp_error(&mut self, text: &str) {
        self.hub.count_error();
        self.send(|out| resp::error(text, out));
    }

    pub(crate) fn resp_arity(&mut self, name: &str) {
        self.resp_error(&table::wrong_arity(name));
    }

    fn resp_publish(&mut self, args: &[Cow<'_, [u8]>]) -> Progress {
        let session = self.session();
        let awaiting = session.is_awaiting();
        if !session.takes_publish() {
            return Progress::Hold;
        }
        let refusal = match args {
            [_, name, body] => match Channel::new(name) {
                Err(error) => error_text(code::BAD_REQUEST, &error.to_string()),
                Ok(channel) => match self.hub.publishing(self.slot, channel, Bytes::copy_from_slice(body)) {
                    Err(code) => error_text(code, code.text),
                    Ok(request) => {
                        self.hub.request(self.slot, 0, request, self.fx);
                        return Progress::Next;
                    }
                },
            },
            _ => "ERR wrong number of arguments for 'publish' command".to_owned(),
        };
        if awaiting {
            return Progress::Hold;
        }
        self.resp_error(&refusal);
        Progress::Next
    }

    fn resp_subscribe(&mut self, name: &str, args: &[Cow<'_, [u8]>]) -> Progress {
        let session = self.session();
        let awaiting = session.is_awaiting();
        if !session.takes_subscribe() {
            return Progress::Hold;
        }
        // All or nothing: a command that cannot be carried out whole is refused before any of it is.
        let topics = match self.resp_topics(name, &args[1..]) {
            Ok(topics) => topics,
            Err(_) if awaiting => return Progress::Hold,
            Err(text) => {
                self.resp_error(&text);
                return Progress::Next;
            }
        };
        for topic in &topics {
            match self.hub.begin_subscribe(self.slot, topic, 0, self.fx) {
                SubscribeOutcome::Now { .. } => {
                    if let Some(key) = self.hub.topic(topic) {
                        self.resp_subscribed(key);
                    }
                }
                SubscribeOutcome::Waiting => {}
                SubscribeOutcome::Refused(code, words) => {
                    // Only the limit of channels refuses here, and only a topic named behind topics that are still under way.
                    let mut bytes = Vec::new();
                    resp::error(&error_text(code, &words), &mut bytes);
                    self.hub.count_error();
                    if !self.hub.enqueue(self.slot, &bytes) {
                        self.send(|out| out.extend_from_slice(&bytes));
                    }
                }
            }
        }
        Progress::Next
    }

    pub(crate) fn resp_topics(&self, name: &str, names: &[Cow<'_, [u8]>]) -> Result<Vec<Topic>, String> {
        if names.is_empty() {
            return Err(format!("ERR wrong number of arguments for '{name}' command"));
        }
        let session = self.session();
        let bad =
            |error: tidings_wire::channel::ChannelError| error_text(code::BAD_REQUEST, &error.to_string());
        let mut topics = Vec::with_capacity(names.len());
        for given in names {
            let topic = if name == "psubscribe" {
                self.hub
                    .settings()
                    .access
                    .may_see_all(session.identity)
                    .map_err(|code| error_text(code, code.text))?;
                Topic::Pattern(Pattern::new(given).map_err(bad)?)
            } else {
                let channel = Channel::new(given).map_err(bad)?;
                self.hub
                    .may(self.slot, Action::Subscribe, &channel)
                    .map_err(|code| error_text(code, code.text))?;
                Topic::Channel(channel)
            };
            topics.push(topic);
        }
        Ok(topics)
    }

    pub(crate) fn resp_subscribed(&mut self, key: TopicKey) {
        let version = self.resp_version();
        let count = self.session().subscriptions().len();
        let Some(topic) = self.hub.entry(key).map(Entry::topic) else { return };
        let kind = match topic {
            Topic::Channel(_) => "subscribe",
            Topic::Pattern(_) => "psubscribe",
        };
        self.fx.send(self.slot, |out| {
            resp::subscription(version, kind, Some(topic.as_str()), count as i64, out);
        });
    }

    /// Reports that a subscription has ended.
    pub(crate) fn resp_unsubscribed(&mut self, topic: &Topic) {
        let version = self.resp_version();
        let kind = if matches!(topic, Topic::Pattern(_)) { "punsubscribe" } else { "unsubscribe" };
        let count = self.session().subscriptions().len() as i64;
        self.send(|out| resp::subscription(version, kind, Some(topic.as_str()), count, out));
    }

    fn resp_unsubscribe(&mut self, patterns: bool, args: &[Cow<'_, [u8]>]) {
        let version = self.resp_version();
        let kind = if patterns { "punsubscribe" } else { "unsubscribe" };
        let mut left: Vec<(Option<Topic>, String)> = Vec::new();
        if args.len() > 1 {
            for name in &args[1..] {
                let topic = if patterns {
                    Pattern::new(name).ok().map(Topic::Pattern)
                } else {
                    Channel::new(name).ok().map(Topic::Channel)
                };
                left.push((topic, String::from_utf8_lossy(name).into_owned()));
            }
        } else {
            for s in self.session().subscriptions() {
                if let Some(topic) = self.hub.entry(s.topic).map(|e| e.topic().clone())
                    && matches!(topic, Topic::Pattern(_)) == patterns
                {
                    let name = topic.as_str().to_owned();
                    left.push((Some(topic), name));
                }
            }
            if left.is_empty() {
                let count = self.session().subscriptions().len() as i64;
                self.send(|out| resp::subscription(version, kind, None, count, out));
            }
        }
        for (topic, name) in left {
            if let Some(topic) = topic {
                self.hub.unsubscribe(self.slot, &topic, self.fx);
            }
            let count = self.session().subscriptions().len() as i64;
            self.send(|out| resp::subscription(version, kind, Some(&name), count, out));
        }
    }

    fn resp_pubsub(&mut self, args: &[Cow<'_, [u8]>]) {
        let Some(subcommand) = args.get(1) else { return self.resp_arity("pubsub") };
        let lower = subcommand.to_ascii_lowercase();
        let identity = self.session().identity;
        let permitted = match (&lower[..], &args[2..]) {
            (b"channels" | b"numpat", _) => self.hub.settings().access.may_see_all(identity),
            (b"numsub", names) => names
                .iter()
                .filter_map(|name| Channel::new(name).ok())
                .try_for_each(|channel| self.hub.may(self.slot, Action::Subscribe, &channel)),
            _ => Ok(()),
        };
        if let Err(code) = permitted {
            return self.refuse(0, code, code.text);
        }
        let query = match (&lower[..], &args[2..]) {
            (b"channels", []) => Query::Channels(None),
            (b"channels", [glob]) => match Pattern::new(glob) {
                Ok(pattern) => Query::Channels(Some(pattern)),
                // What no channel's name can match.
                Err(_) => return self.send(|out| resp::array(0, out)),
            },
            (b"numsub", names) => {
                Query::Subscribers(names.iter().map(|n| Bytes::copy_from_slice(n)).collect())
            }
            (b"numpat", []) => Query::Patterns,
            (b"channels" | b"numpat", _) => {
                let name = format!("pubsub|{}", String::from_utf8_lossy(&lower));
                return self.resp_arity(&name);
            }
            _ => return self.resp_unknown_subcommand("PUBSUB", subcommand),
        };
        self.hub.request(self.slot, 0, Request::Query(query), self.fx);
    }

    pub(crate) fn resp_answered(&mut self, answer: &Response) {
        let version = self.resp_version();
        self.send(|out| match answer {
            Response::Published(count) | Response::Count(count) => {
                resp::integer(i64::try_from(*count).unwrap_or(i64::MAX), out);
            }
            Response::Channels(channels) => {
                resp::array(channels.len(), out);
                for channel in channels {
                    resp::bulk(channel.as_str().as_bytes(), out);
                }
            }
            Response::Subscribers(counts) => {
                resp::array(counts.len() * 2, out);
                for (name, count) in counts {
                    resp::bulk(name, out);
                    resp::integer(i64::try_from(*count).unwrap_or(i64::MAX), out);
                }
            }
            Response::Text(text) => resp::verbatim(version, text, out),
            // Failures are handled before, and RESP makes no other requests.
            _ => {}
        });
    }

    pub(crate) fn resp_refuse(&mut self, code: Code, text: &str) {
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
