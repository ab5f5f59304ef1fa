//! RESP: the commands of Pub/Sub, with Redis' own answers (redis.io, "Pub/Sub" and the commands' pages).
//!
//! What is not about Pub/Sub is in [`super::resp_commands`].

use std::borrow::Cow;

use bytes::Bytes;
use tidings_wire::code::{self, Code};
use tidings_wire::resp::{self, Version};
use tidings_wire::{Channel, Pattern, Topic};

use super::{Protocol, resp_table};
use crate::access::Action;
use crate::effects::{Answer, Effects, Query, Request};
use crate::hub::{Act, Hub};
use crate::subscribing::Begun;
use crate::topics::TopicKey;
use crate::usage::Cost;

impl Hub {
    /// Carries out one command of `bytes` bytes, if the limits allow it. `QUIT` is always carried out, and so is `MULTI`: a
    /// client that sends the commands behind it at once would have them carried out without it. What ends a transaction
    /// is charged, and ends it also where it is refused.
    pub(crate) fn resp_metered(
        &mut self,
        slot: u32,
        args: &[Cow<'_, [u8]>],
        bytes: usize,
        fx: &mut Effects,
    ) -> Act {
        let is = |name: &[u8]| args[0].eq_ignore_ascii_case(name);
        if is(b"quit") || is(b"multi") && !self.is_in_transaction(slot) {
            return self.resp_command(slot, args, fx);
        }
        let cost = Cost { bytes, publishes: is(b"publish") };
        let carry_out = |hub: &mut Self, fx: &mut Effects| hub.resp_command(slot, args, fx);
        self.metered_or(slot, cost, fx, carry_out, |hub, words, fx| {
            let text = error_text(code::TOO_MANY_REQUESTS, words);
            match hub.is_in_transaction(slot) {
                true if is(b"exec") => return hub.refuse_exec(slot, &text, fx),
                true if is(b"discard") || is(b"reset") => hub.discard_transaction(slot),
                true => hub.spoil_transaction(slot),
                false => {}
            }
            hub.resp_error(slot, fx, &text);
        })
    }

    /// Carries out one command; `args[0]` is its name.
    pub(crate) fn resp_command(&mut self, slot: u32, args: &[Cow<'_, [u8]>], fx: &mut Effects) -> Act {
        let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
        let session = &self.sessions[slot as usize];
        let listening = session.link.protocol() == Protocol::Resp { version: Version::V2 }
            && (!session.subscriptions().is_empty() || session.is_awaiting_subscription());
        let allowed_while_listening = matches!(
            &*name,
            "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" | "ping" | "quit" | "reset"
        );
        if listening && !allowed_while_listening {
            let known = resp_table::is_known(&name);
            // Redis names the whole command, as in "client|id".
            let name = match args.get(1) {
                Some(sub) if matches!(&*name, "client" | "pubsub") => {
                    format!("{name}|{}", String::from_utf8_lossy(sub).to_ascii_lowercase())
                }
                _ => name,
            };
            return self.in_turn(slot, fx, |hub, fx| {
                let text = format!(
                    "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
                );
                if name == "exec" {
                    hub.refuse_exec(slot, &text, fx);
                } else if known {
                    hub.resp_error(slot, fx, &text);
                } else {
                    hub.resp_unknown(slot, args, fx);
                }
            });
        }
        if self.is_in_transaction(slot) {
            return self.resp_in_transaction(slot, &name, args, fx);
        }
        self.resp_execute(slot, &name, args, fx)
    }

    /// Carries out one command, whose `name` is in lower case, whatever else holds for the session.
    pub(super) fn resp_execute(
        &mut self,
        slot: u32,
        name: &str,
        args: &[Cow<'_, [u8]>],
        fx: &mut Effects,
    ) -> Act {
        match name {
            "publish" => self.resp_publish(slot, args, fx),
            "subscribe" | "psubscribe" => self.resp_subscribe(slot, name, args, fx),
            "unsubscribe" => self.in_turn(slot, fx, |hub, fx| hub.resp_unsubscribe(slot, false, args, fx)),
            "punsubscribe" => self.in_turn(slot, fx, |hub, fx| hub.resp_unsubscribe(slot, true, args, fx)),
            "pubsub" => self.in_turn(slot, fx, |hub, fx| hub.resp_pubsub(slot, args, fx)),
            _ => self.resp_other(slot, name, args, fx),
        }
    }

    pub(crate) fn resp_version(&self, slot: u32) -> Version {
        match self.sessions[slot as usize].link.protocol() {
            Protocol::Resp { version } => version,
            _ => Version::V2,
        }
    }

    pub(crate) fn resp_error(&mut self, slot: u32, fx: &mut Effects, text: &str) {
        self.errors += 1;
        fx.send(slot, |out| resp::error(text, out));
    }

    pub(crate) fn resp_arity(&mut self, slot: u32, name: &str, fx: &mut Effects) {
        self.resp_error(slot, fx, &resp_table::wrong_arity(name));
    }

    fn resp_publish(&mut self, slot: u32, args: &[Cow<'_, [u8]>], fx: &mut Effects) -> Act {
        let session = &mut self.sessions[slot as usize];
        let awaiting = session.is_awaiting();
        if awaiting && !session.more().awaiting.takes_publish() {
            return Act::Hold;
        }
        let refusal = match args {
            [_, name, body] => match Channel::new(name) {
                Err(error) => error_text(code::BAD_REQUEST, &error.to_string()),
                Ok(channel) => match self.publishing(slot, channel, Bytes::copy_from_slice(body)) {
                    Err(code) => error_text(code, code.text),
                    Ok(request) => {
                        self.ask(slot, 0, request, fx);
                        return Act::Next;
                    }
                },
            },
            _ => "ERR wrong number of arguments for 'publish' command".to_owned(),
        };
        if awaiting {
            return Act::Hold;
        }
        self.resp_error(slot, fx, &refusal);
        Act::Next
    }

    fn resp_subscribe(&mut self, slot: u32, name: &str, args: &[Cow<'_, [u8]>], fx: &mut Effects) -> Act {
        let session = &mut self.sessions[slot as usize];
        let awaiting = session.is_awaiting();
        if awaiting && !session.more().awaiting.takes_subscribe() {
            return Act::Hold;
        }
        // All or nothing: a command that cannot be carried out whole is refused before any of it is.
        let topics = match self.resp_topics(slot, name, &args[1..]) {
            Ok(topics) => topics,
            Err(_) if awaiting => return Act::Hold,
            Err(text) => {
                self.resp_error(slot, fx, &text);
                return Act::Next;
            }
        };
        for topic in &topics {
            match self.begin_subscribe(slot, topic, 0, fx) {
                Begun::Now { .. } => {
                    if let Some(key) = self.topics.key(topic) {
                        self.resp_subscribed(slot, key, fx);
                    }
                }
                Begun::Waiting => {}
                Begun::Refused(code, words) => {
                    // Only the limit can say so here, and only for a topic named behind ones still under way.
                    let mut bytes = Vec::new();
                    resp::error(&error_text(code, &words), &mut bytes);
                    self.errors += 1;
                    if self.sessions[slot as usize].is_awaiting() {
                        self.sessions[slot as usize].more().awaiting.ready(bytes.into());
                    } else {
                        fx.send(slot, |out| out.extend_from_slice(&bytes));
                    }
                }
            }
        }
        Act::Next
    }

    pub(super) fn resp_topics(
        &self,
        slot: u32,
        name: &str,
        names: &[Cow<'_, [u8]>],
    ) -> Result<Vec<Topic>, String> {
        if names.is_empty() {
            return Err(format!("ERR wrong number of arguments for '{name}' command"));
        }
        let session = &self.sessions[slot as usize];
        let bad =
            |error: tidings_wire::channel::ChannelError| error_text(code::BAD_REQUEST, &error.to_string());
        let mut topics = Vec::with_capacity(names.len());
        for given in names {
            let topic = if name == "psubscribe" {
                self.settings
                    .access
                    .may_see_all(session.identity)
                    .map_err(|code| error_text(code, code.text))?;
                Topic::Pattern(Pattern::new(given).map_err(bad)?)
            } else {
                let channel = Channel::new(given).map_err(bad)?;
                self.may(slot, Action::Subscribe, &channel).map_err(|code| error_text(code, code.text))?;
                Topic::Channel(channel)
            };
            topics.push(topic);
        }
        Ok(topics)
    }

    pub(crate) fn resp_subscribed(&mut self, slot: u32, key: TopicKey, fx: &mut Effects) {
        let version = self.resp_version(slot);
        let count = self.sessions[slot as usize].subscriptions().len();
        let Some(topic) = self.topics.get(key).map(crate::topics::Entry::topic) else { return };
        let kind = match topic {
            Topic::Channel(_) => "subscribe",
            Topic::Pattern(_) => "psubscribe",
        };
        fx.send(slot, |out| resp::subscription(version, kind, Some(topic.as_str()), count as i64, out));
    }

    /// Says that a subscription has ended.
    pub(crate) fn resp_unsubscribed(&mut self, slot: u32, topic: &Topic, fx: &mut Effects) {
        let version = self.resp_version(slot);
        let kind = if matches!(topic, Topic::Pattern(_)) { "punsubscribe" } else { "unsubscribe" };
        let count = self.sessions[slot as usize].subscriptions().len() as i64;
        fx.send(slot, |out| resp::subscription(version, kind, Some(topic.as_str()), count, out));
    }

    fn resp_unsubscribe(&mut self, slot: u32, patterns: bool, args: &[Cow<'_, [u8]>], fx: &mut Effects) {
        let version = self.resp_version(slot);
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
            for s in self.sessions[slot as usize].subscriptions() {
                if let Some(topic) = self.topics.get(s.topic).map(|e| e.topic().clone())
                    && matches!(topic, Topic::Pattern(_)) == patterns
                {
                    let name = topic.as_str().to_owned();
                    left.push((Some(topic), name));
                }
            }
            if left.is_empty() {
                let count = self.sessions[slot as usize].subscriptions().len() as i64;
                fx.send(slot, |out| resp::subscription(version, kind, None, count, out));
            }
        }
        for (topic, name) in left {
            if let Some(topic) = topic {
                self.unsubscribe(slot, &topic, fx);
            }
            let count = self.sessions[slot as usize].subscriptions().len() as i64;
            fx.send(slot, |out| resp::subscription(version, kind, Some(&name), count, out));
        }
    }

    fn resp_pubsub(&mut self, slot: u32, args: &[Cow<'_, [u8]>], fx: &mut Effects) {
        let Some(subcommand) = args.get(1) else { return self.resp_arity(slot, "pubsub", fx) };
        let lower = subcommand.to_ascii_lowercase();
        let identity = self.sessions[slot as usize].identity;
        let permitted = match (&lower[..], &args[2..]) {
            (b"channels" | b"numpat", _) => self.settings.access.may_see_all(identity),
            (b"numsub", names) => names
                .iter()
                .filter_map(|name| Channel::new(name).ok())
                .try_for_each(|channel| self.may(slot, Action::Subscribe, &channel)),
            _ => Ok(()),
        };
        if let Err(code) = permitted {
            return self.refuse(slot, 0, code, code.text, fx);
        }
        let query = match (&lower[..], &args[2..]) {
            (b"channels", []) => Query::Channels(None),
            (b"channels", [glob]) => match Pattern::new(glob) {
                Ok(pattern) => Query::Channels(Some(pattern)),
                // What no channel's name can match.
                Err(_) => return fx.send(slot, |out| resp::array(0, out)),
            },
            (b"numsub", names) => {
                Query::Subscribers(names.iter().map(|n| Bytes::copy_from_slice(n)).collect())
            }
            (b"numpat", []) => Query::Patterns,
            (b"channels" | b"numpat", _) => {
                let name = format!("pubsub|{}", String::from_utf8_lossy(&lower));
                return self.resp_arity(slot, &name, fx);
            }
            _ => return self.resp_unknown_subcommand(slot, "PUBSUB", subcommand, fx),
        };
        self.ask(slot, 0, Request::Query(query), fx);
    }

    pub(crate) fn resp_answered(&mut self, slot: u32, answer: &Answer, fx: &mut Effects) {
        let version = self.resp_version(slot);
        fx.send(slot, |out| match answer {
            Answer::Published(count) | Answer::Count(count) => {
                resp::integer(i64::try_from(*count).unwrap_or(i64::MAX), out);
            }
            Answer::Channels(channels) => {
                resp::array(channels.len(), out);
                for channel in channels {
                    resp::bulk(channel.as_str().as_bytes(), out);
                }
            }
            Answer::Subscribers(counts) => {
                resp::array(counts.len() * 2, out);
                for (name, count) in counts {
                    resp::bulk(name, out);
                    resp::integer(i64::try_from(*count).unwrap_or(i64::MAX), out);
                }
            }
            Answer::Text(text) => resp::verbatim(version, text, out),
            // What fails is told elsewhere, and the rest is not asked for in this link.
            _ => {}
        });
    }

    pub(crate) fn resp_refuse(slot: u32, code: Code, text: &str, fx: &mut Effects) {
        fx.send(slot, |out| resp::error(&error_text(code, text), out));
    }
}

/// A code and words of ours as a Redis error: the kind first, as its clients look for it.
pub(super) fn error_text(code: Code, text: &str) -> String {
    if code.number == code::PERMISSION_DENIED.number {
        format!("NOPERM {} {text}", code.number)
    } else if matches!(code.number, 101 | 109) {
        format!("WRONGPASS {} {text}", code.number)
    } else {
        format!("ERR {} {text}", code.number)
    }
}
