//! RESP: publish, subscribe and `PUBSUB`.

use std::borrow::Cow;

use bytes::Bytes;
use tidings_hub::{Action, Progress, Query, SubscribeOutcome, TopicEntry, TopicKey};
use tidings_wire::code;
use tidings_wire::resp;
use tidings_wire::{Channel, Pattern, Topic};

use super::error_text;
use crate::context::Context;
use crate::messages::{Request, Response};

impl Context<'_> {
    pub(super) fn resp_publish(&mut self, args: &[Cow<'_, [u8]>]) -> Progress {
        let session = self.session();
        let awaiting = session.has_pending();
        if !session.can_publish() {
            return Progress::Hold;
        }
        let refusal = match args {
            [_, name, body] => match Channel::new(name) {
                Err(error) => error_text(code::BAD_REQUEST, &error.to_string()),
                Ok(channel) => {
                    match self.hub.publish_request(
                        self.slot,
                        channel,
                        Bytes::copy_from_slice(body),
                        Vec::new(),
                    ) {
                        Err(code) => error_text(code, code.text),
                        Ok(request) => {
                            self.hub.request(self.slot, 0, request, self.fx);
                            return Progress::Next;
                        }
                    }
                }
            },
            _ => "ERR wrong number of arguments for 'publish' command".to_owned(),
        };
        if awaiting {
            return Progress::Hold;
        }
        self.resp_error(&refusal);
        Progress::Next
    }

    pub(super) fn resp_subscribe(&mut self, name: &str, args: &[Cow<'_, [u8]>]) -> Progress {
        let session = self.session();
        let awaiting = session.has_pending();
        if !session.can_subscribe() {
            return Progress::Hold;
        }
        // All or nothing: a command that cannot be executed completely is rejected before any part of it is executed.
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
                    // Only the limit of channels is possible here, for a topic after topics that are still in progress.
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

    pub(super) fn resp_topics(&self, name: &str, names: &[Cow<'_, [u8]>]) -> Result<Vec<Topic>, String> {
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
                    .authorize_global(session.identity)
                    .map_err(|code| error_text(code, code.text))?;
                Topic::Pattern(Pattern::new(given).map_err(bad)?)
            } else {
                let channel = Channel::new(given).map_err(bad)?;
                self.hub
                    .authorize_command(self.slot, Action::Subscribe, &channel)
                    .map_err(|code| error_text(code, code.text))?;
                Topic::Channel(channel)
            };
            topics.push(topic);
        }
        Ok(topics)
    }

    pub(super) fn resp_subscribed(&mut self, key: TopicKey) {
        let version = self.resp_version();
        let count = self.session().subscriptions().len();
        let Some(topic) = self.hub.entry(key).map(TopicEntry::topic) else { return };
        let kind = match topic {
            Topic::Channel(_) => "subscribe",
            Topic::Pattern(_) => "psubscribe",
        };
        self.fx.send(self.slot, |out| {
            resp::subscription(version, kind, Some(topic.as_str()), count as i64, out);
        });
    }

    /// Reports that a subscription has ended.
    pub(super) fn resp_unsubscribed(&mut self, topic: &Topic) {
        let version = self.resp_version();
        let kind = if matches!(topic, Topic::Pattern(_)) { "punsubscribe" } else { "unsubscribe" };
        let count = self.session().subscriptions().len() as i64;
        self.send(|out| resp::subscription(version, kind, Some(topic.as_str()), count, out));
    }

    pub(super) fn resp_unsubscribe(&mut self, patterns: bool, args: &[Cow<'_, [u8]>]) {
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

    pub(super) fn resp_pubsub(&mut self, args: &[Cow<'_, [u8]>]) {
        let Some(subcommand) = args.get(1) else { return self.resp_arity("pubsub") };
        let lower = subcommand.to_ascii_lowercase();
        let identity = self.session().identity;
        let permitted = match (&lower[..], &args[2..]) {
            (b"channels" | b"numpat", _) => self.hub.settings().access.authorize_global(identity),
            (b"numsub", names) => names
                .iter()
                .filter_map(|name| Channel::new(name).ok())
                .try_for_each(|channel| self.hub.authorize(self.slot, Action::Subscribe, &channel)),
            _ => Ok(()),
        };
        if let Err(code) = permitted {
            return self.refuse(0, code, code.text);
        }
        let query = match (&lower[..], &args[2..]) {
            (b"channels", []) => Query::Channels(None),
            (b"channels", [glob]) => match Pattern::new(glob) {
                Ok(pattern) => Query::Channels(Some(pattern)),
                // No valid channel name can match.
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

    pub(super) fn resp_response(&mut self, response: &Response) {
        let version = self.resp_version();
        self.send(|out| match response {
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
}
