//! `SUBSCRIBE` and `UNSUBSCRIBE`.

use std::sync::Arc;

use tidings_hub::{
    Action, CloseReason, Progress, SubscribeOptions, SubscribeOutcome, SubscribeRequest, TopicKey,
};
use tidings_mqtt::topic::Filter;
use tidings_mqtt::{
    Packet, Properties, Property, PropertyId, Qos, ReasonCode, ReasonCodes, RetainHandling, SubAck,
    Subscribe, UnsubAck, Unsubscribe,
};
use tidings_mqtt_session as mqtt;
use tidings_mqtt_session::{Options, Step, StoredSubscription};
use tidings_wire::{Channel, Pattern, Publication, Topic};

use super::reason::of_subscribe;
use super::state::{Command, PendingSubAck, SubscribeResult, Subscription};
use crate::context::Context;
use crate::link::{Link, Protocol};
use crate::messages::Request;

impl Context<'_> {
    pub(super) fn mqtt_subscribe(&mut self, subscribe: &Subscribe<'_>) -> Progress {
        if !self.session().can_subscribe() {
            return Progress::Hold;
        }
        let identifier = match subscribe.properties.get(PropertyId::SubscriptionIdentifier) {
            Some(Property::SubscriptionIdentifier(identifier)) => identifier,
            _ => 0,
        };
        let requests: Vec<_> = subscribe.subscriptions.iter().collect();
        // The result of each is set below; until then nothing is sent.
        let results = vec![SubscribeResult::Waits(0); requests.len()];
        let pending = PendingSubAck { packet_id: subscribe.packet_id, results };
        self.mqtt().flow().subacks.push_back(pending);
        for (index, request) in requests.into_iter().enumerate() {
            let options = Options {
                qos: request.options.qos,
                no_local: request.options.no_local,
                retain_as_published: request.options.retain_as_published,
                identifier,
                is_pattern: false,
                retain_handling: request.options.retain_handling,
            };
            let result = self.mqtt_subscribe_one(index, request.filter, options);
            if self.is_closing() {
                return Progress::End;
            }
            if let Err(reason) = result {
                self.hub.count_error();
                self.mqtt_set_result(index, SubscribeResult::Decided(reason.number()));
            }
        }
        self.mqtt_send_subacks();
        Progress::Next
    }

    /// Sets a result of the last `SUBSCRIBE`.
    fn mqtt_set_result(&mut self, index: usize, result: SubscribeResult) {
        if let Some(pending) = self.mqtt().flow().subacks.back_mut() {
            pending.results[index] = result;
        }
    }

    fn mqtt_subscribe_one(
        &mut self,
        index: usize,
        text: &str,
        mut options: Options,
    ) -> Result<(), ReasonCode> {
        let filter = Filter::new(text).map_err(|_| ReasonCode::TopicFilterInvalid)?;
        if filter.share().is_some() && !self.hub.protocols.mqtt_settings().shared_available {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        options.is_pattern = filter.has_wildcards();
        if options.needs_address() {
            self.mqtt_address_messages();
        }
        let known = self.mqtt().subscriptions.iter_mut().find(|known| *known.filter == *text);
        if let Some(known) = known {
            // The options are replaced (MQTT-3.8.4-3).
            let former = std::mem::replace(&mut known.options, options);
            known.is_certain &= options.qos != Qos::AtMostOnce;
            let (command, key) = (known.command, known.key);
            if options.qos == Qos::AtMostOnce && key.is_some() {
                self.mqtt().end_subscription(text, former);
            }
            let result = match key {
                None if filter.share().is_some() => {
                    self.mqtt_request_group(command, text, &filter, options)?
                }
                Some(key) => {
                    self.hub.set_no_local(self.slot, key, options.no_local);
                    self.mqtt_record_subscription(text, key, options);
                    if options.retain_handling == RetainHandling::Send {
                        self.mqtt_read_retained(command);
                    }
                    SubscribeResult::Decided(options.qos as u8)
                }
                None => SubscribeResult::Waits(command),
            };
            self.mqtt_set_result(index, result);
            return Ok(());
        }
        if self.mqtt().subscriptions.len() >= self.hub.settings().channel_limit {
            return Err(ReasonCode::QuotaExceeded);
        }
        if filter.share().is_some() {
            self.mqtt_check_shared(&filter)?;
            let command = self.mqtt_begin_subscription(index, text, options);
            let result = self.mqtt_request_group(command, text, &filter, options)?;
            self.mqtt_set_result(index, result);
            return Ok(());
        }
        if options.is_pattern {
            // The check of a filter may compare it with every rule of the namespaces.
            if index >= self.hub.settings().channel_limit {
                return Err(ReasonCode::QuotaExceeded);
            }
            let pattern = Pattern::new(glob(filter.pattern())).map_err(|_| ReasonCode::TopicFilterInvalid)?;
            self.mqtt_check_pattern(filter.pattern())?;
            let command = self.mqtt_begin_subscription(index, text, options);
            let topic = Topic::Pattern(pattern);
            match self.hub.begin_subscribe(self.slot, &topic, command, self.fx) {
                SubscribeOutcome::Now { .. } => {
                    if let Some(key) = self.hub.topic(&topic) {
                        self.mqtt_subscribed(command, key);
                    }
                }
                SubscribeOutcome::Waiting => {}
                SubscribeOutcome::Refused(code, _) => {
                    self.mqtt_remove(command);
                    return Err(of_subscribe(code));
                }
            }
            return Ok(());
        }
        let channel = Channel::new(text).map_err(|_| ReasonCode::TopicFilterInvalid)?;
        let command = self.mqtt_begin_subscription(index, text, options);
        let request = SubscribeRequest {
            id: command,
            channel,
            sub_options: SubscribeOptions {
                by_client: true,
                no_local: options.no_local,
                ..SubscribeOptions::default()
            },
            token: String::new(),
            data: None,
        };
        self.operations().subscribe(request).map_err(|refusal| {
            self.mqtt_remove(command);
            of_subscribe(refusal.0)
        })
    }

    fn mqtt_begin_subscription(&mut self, index: usize, filter: &str, options: Options) -> u32 {
        let mqtt = self.mqtt();
        let command = mqtt.subscribe_id();
        mqtt.subscriptions.reserve_exact(1);
        mqtt.subscriptions.push(Subscription {
            filter: filter.into(),
            command,
            key: None,
            options,
            is_resumed: false,
            is_certain: false,
            is_shared: Filter::new(filter).is_ok_and(|filter| filter.share().is_some()),
        });
        self.mqtt_set_result(index, SubscribeResult::Waits(command));
        command
    }

    /// Whether a session may subscribe to a filter with wildcards. Each publication is checked as well: this answers a client
    /// that would get none. The client needs the permission for one name at least that the filter matches: one in the namespace of
    /// the levels before the first wildcard, or one that a rule of a namespace claims.
    pub(super) fn mqtt_check_pattern(&self, pattern: &str) -> Result<(), ReasonCode> {
        if self.hub.settings().access.authorize_global(self.session().identity).is_ok() {
            return Ok(());
        }
        let example = Channel::new(pattern.replace(['+', '#'], "0"));
        let channel = example.map_err(|_| ReasonCode::TopicFilterInvalid)?;
        let refusal = match self.hub.authorize_command(self.slot, Action::Subscribe, &channel) {
            Ok(()) => return Ok(()),
            Err(code) => of_subscribe(code),
        };
        let namespaces = &self.hub.settings().namespaces;
        // Some names are open to their user alone.
        let user = self.hub.user(self.slot);
        let user = Some(user).filter(|user| !user.is_empty() && !user.contains('/'));
        let names = ["0"].into_iter().chain(user).flat_map(|filler| namespaces.common_names(pattern, filler));
        let mut channels = names.filter_map(|name| Channel::new(name).ok());
        let is_permitted =
            channels.any(|channel| self.hub.authorize(self.slot, Action::Subscribe, &channel).is_ok());
        if is_permitted { Ok(()) } else { Err(refusal) }
    }

    /// From now on the session's messages are made for it alone.
    pub(super) fn mqtt_address_messages(&mut self) {
        let link = self.link();
        if let Protocol::Mqtt { version, is_addressed: false } = link.protocol() {
            let protocol = Protocol::Mqtt { version, is_addressed: true };
            self.set_link(Link::new(link.framing(), protocol, link.direction()));
        }
    }

    /// A subscription is made.
    pub(super) fn mqtt_subscribed(&mut self, command: u32, key: TopicKey) {
        let made = self.mqtt().subscriptions.iter_mut().find(|one| one.command == command);
        let Some(made) = made else { return };
        made.key = Some(key);
        let (options, is_resumed, filter) = (made.options, made.is_resumed, made.filter.clone());
        self.hub.set_no_local(self.slot, key, options.no_local);
        if !is_resumed {
            self.mqtt_record_subscription(&filter, key, options);
        }
        self.mqtt_decide(command, options.qos as u8);
        if options.retain_handling != RetainHandling::DoNotSend && !is_resumed {
            self.mqtt_read_retained(command);
        }
    }

    /// Passes a subscription to the files of the store.
    fn mqtt_record_subscription(&mut self, filter: &str, key: TopicKey, options: Options) {
        let Some(topic) = self.hub.entry(key).map(|entry| entry.topic().clone()) else { return };
        let filter = filter.into();
        self.mqtt().record(|| Step::Subscribed(StoredSubscription { filter, topic, options }));
        self.mqtt_pass_steps();
    }

    /// Requests the retained messages for a subscription that is made.
    fn mqtt_read_retained(&mut self, command: u32) {
        if !self.hub.protocols.mqtt_settings().retain_available {
            return;
        }
        let subscription = self.mqtt().subscriptions.iter().find(|one| one.command == command);
        let Some(filter) = subscription.map(|one| one.filter.clone()) else { return };
        let request = Request::Protocol(mqtt::Request::Retained(filter, self.hub.settings().recovery_bytes));
        self.hub.request_unordered(self.slot, Command::retained_id(command), None, request, self.fx);
    }

    /// Sends retained messages to the subscription for which they were read.
    pub(super) fn mqtt_send_retained(&mut self, id: u32, messages: &[Arc<Publication>]) {
        let Command::Retained(command) = Command::from_id(id) else { return };
        let subscription = self.mqtt().subscriptions.iter().find(|one| one.command == command);
        let Some(options) = subscription.map(|one| one.options) else { return };
        for publication in messages {
            let channel = &publication.channel;
            // The permission for a filter was not decided for each of its channels.
            if options.is_pattern && self.hub.authorize(self.slot, Action::Subscribe, channel).is_err() {
                continue;
            }
            self.mqtt_record_retained(publication, options);
            if self.mqtt_reads(publication, options) {
                continue;
            }
            if !self.mqtt_send_one(publication, options, true) {
                return self.end(&CloseReason::Slow(1));
            }
        }
        self.mqtt_pass_steps();
        self.mqtt_pass_acknowledgements();
    }

    /// A subscription with wildcards that waited for the broker is made.
    pub(super) fn mqtt_pattern_subscribed(&mut self, key: TopicKey) {
        let Some(Topic::Pattern(pattern)) = self.hub.entry(key).map(|entry| entry.topic().clone()) else {
            return;
        };
        let is_made = |one: &&Subscription| {
            one.key.is_none() && one.options.is_pattern && glob(&one.filter) == pattern.as_str()
        };
        let command = self.mqtt().subscriptions.iter().find(is_made).map(|one| one.command);
        if let Some(command) = command {
            self.mqtt_subscribed(command, key);
        }
    }

    /// A subscription is refused.
    pub(super) fn mqtt_subscribe_failed(&mut self, command: u32, reason: ReasonCode) {
        self.mqtt_remove(command);
        self.mqtt_decide(command, reason.number());
    }

    pub(super) fn mqtt_remove(&mut self, command: u32) {
        let mqtt = self.mqtt();
        let Some(at) = mqtt.subscriptions.iter().position(|one| one.command == command) else { return };
        let removed = mqtt.subscriptions.remove(at);
        if removed.is_resumed {
            mqtt.record(|| Step::Unsubscribed(removed.filter));
            self.mqtt_pass_steps();
        }
    }

    /// Sets the result of a subscribe.
    pub(super) fn mqtt_decide(&mut self, command: u32, code: u8) {
        let subacks = &mut self.mqtt().flow().subacks;
        for result in subacks.iter_mut().flat_map(|pending| &mut pending.results) {
            if *result == SubscribeResult::Waits(command) {
                *result = SubscribeResult::Decided(code);
            }
        }
        self.mqtt_send_subacks();
    }

    /// Sends the acknowledgements whose subscriptions are decided, in the order of the requests.
    fn mqtt_send_subacks(&mut self) {
        loop {
            let subacks = &mut self.mqtt().flow().subacks;
            let is_decided = |result: &SubscribeResult| matches!(result, SubscribeResult::Decided(_));
            let is_next = |pending: &PendingSubAck| pending.results.iter().all(is_decided);
            if !subacks.front().is_some_and(is_next) {
                return;
            }
            let Some(pending) = subacks.pop_front() else { return };
            let codes = pending.results.iter().map(|result| match result {
                SubscribeResult::Decided(code) => *code,
                SubscribeResult::Waits(_) => ReasonCode::UnspecifiedError.number(),
            });
            let codes: Vec<u8> = codes.collect();
            let reasons = ReasonCodes::from_numbers(&codes).unwrap_or(ReasonCodes::NONE);
            let properties = Properties::NONE;
            self.mqtt_write_stored(&Packet::SubAck(SubAck {
                packet_id: pending.packet_id,
                properties,
                reasons,
            }));
        }
    }

    pub(super) fn mqtt_unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>) {
        let codes: Vec<u8> =
            unsubscribe.filters.iter().map(|filter| self.mqtt_unsubscribe_one(filter).number()).collect();
        let reasons = ReasonCodes::from_numbers(&codes).unwrap_or(ReasonCodes::NONE);
        let (packet_id, properties) = (unsubscribe.packet_id, Properties::NONE);
        self.mqtt_write_stored(&Packet::UnsubAck(UnsubAck { packet_id, properties, reasons }));
    }

    fn mqtt_unsubscribe_one(&mut self, text: &str) -> ReasonCode {
        if Filter::new(text).is_err() {
            return ReasonCode::TopicFilterInvalid;
        }
        let subscriptions = &mut self.mqtt().subscriptions;
        let Some(at) = subscriptions.iter().position(|one| *one.filter == *text) else {
            return ReasonCode::NoSubscriptionExisted;
        };
        let ended = subscriptions.remove(at);
        if ended.key.is_some() {
            self.mqtt().end_subscription(text, ended.options);
        }
        self.mqtt().record(|| Step::Unsubscribed(ended.filter.clone()));
        self.mqtt_pass_steps();
        if ended.is_shared {
            self.mqtt_leave(&ended.filter);
        }
        if let Some(topic) = ended.key.and_then(|key| self.hub.entry(key)).map(|entry| entry.topic().clone())
        {
            self.hub.unsubscribe(self.slot, &topic, self.fx);
        }
        ReasonCode::Success
    }
}

/// A glob that matches at least the channels that a filter matches. Different filters have different globs, so that each has a
/// topic of its own.
pub(super) fn glob(filter: &str) -> String {
    let mut glob = String::with_capacity(filter.len() + 4);
    for (index, level) in filter.split('/').enumerate() {
        match level {
            // The parent matches as well; two asterisks distinguish it from `+`. Of `/#`, the parent is the empty name, which does
            // not exist; the brackets distinguish it from `//#`.
            "#" => glob.push_str(if filter == "/#" { "[/]**" } else { "**" }),
            level => {
                if index > 0 {
                    glob.push('/');
                }
                match level {
                    "+" => glob.push('*'),
                    level => level.chars().for_each(|character| {
                        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
                            glob.push('\\');
                        }
                        glob.push(character);
                    }),
                }
            }
        }
    }
    glob
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_glob_matches_what_its_filter_matches_and_belongs_to_one_filter() {
        let filters = [
            "#", "+", "+/#", "/#", "/+", "a/#", "a/+", "a/+/#", "a/+/b", "+/+", "+/b", "a*/#", "a?/+",
            "[ab]/+", "a\\b/+", "a//#", "a/+/", "+/", "//#", "+//#",
        ];
        let names = [
            "a", "a/b", "a/b/b", "a/c/b", "/", "/a", "a/", "a*/x", "a?/x", "[ab]/x", "a\\b/x", "a//x",
            "a/x/", "//", "a//", "aX/y",
        ];
        let mut globs = HashMap::new();
        for filter in filters {
            let glob = glob(filter);
            let pattern = Pattern::new(&glob).unwrap();
            let parsed = Filter::new(filter).unwrap();
            for name in names.iter().filter(|name| parsed.matches(name)) {
                assert!(pattern.matches(name), "{filter} as {glob} on {name}");
            }
            assert_eq!(globs.insert(glob.clone(), filter), None, "{glob}");
        }
    }
}
