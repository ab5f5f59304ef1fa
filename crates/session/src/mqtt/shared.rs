//! Shared subscriptions: the server selects one member of a group for each publication, and passes it to its session. Where the
//! broker stores sessions, it selects the member, whose session reads the message (see [`super::stored`]).

use std::sync::Arc;

use tidings_hub::{Action, CloseReason};
use tidings_mqtt::ReasonCode;
use tidings_mqtt::topic::Filter;
use tidings_mqtt_session as mqtt;
use tidings_mqtt_session::{
    JoinGroup, Options, SessionChange, SharedDelivery, SharedFilter, Step, StoredSubscription,
};
use tidings_wire::{Channel, Pattern, Topic};

use super::state::SubscribeResult;
use super::subscribe::glob;
use crate::context::Context;
use crate::messages::Request;

/// The topic that has the publications of a filter.
fn topic_of(filter: &Filter<'_>) -> Result<Topic, ReasonCode> {
    let pattern = filter.pattern();
    if filter.has_wildcards() {
        return Pattern::new(glob(pattern)).map(Topic::Pattern).map_err(|_| ReasonCode::TopicFilterInvalid);
    }
    Channel::new(pattern).map(Topic::Channel).map_err(|_| ReasonCode::TopicFilterInvalid)
}

/// The filter with its topic; `None` if it is not valid.
pub(super) fn shared_filter(filter: &str) -> Option<SharedFilter> {
    let topic = topic_of(&Filter::new(filter).ok()?).ok()?;
    Some(SharedFilter { filter: filter.into(), topic })
}

impl Context<'_> {
    /// Whether the client may join groups of this filter. Where the application decides about subscriptions, it may not.
    pub(super) fn mqtt_check_shared(&self, filter: &Filter<'_>) -> Result<(), ReasonCode> {
        let Topic::Channel(channel) = topic_of(filter)? else {
            return self.mqtt_check_pattern(filter.pattern());
        };
        if self.hub.is_decided_by_application(self.slot, Action::Subscribe, &channel) {
            return Err(ReasonCode::NotAuthorized);
        }
        if self.hub.may_resume(self.slot, &channel) { Ok(()) } else { Err(ReasonCode::NotAuthorized) }
    }

    /// Joins the group of a filter, or changes the options there. Returns the result for now.
    pub(super) fn mqtt_request_group(
        &mut self,
        command: u32,
        text: &str,
        filter: &Filter<'_>,
        options: Options,
    ) -> Result<SubscribeResult, ReasonCode> {
        let shared = SharedFilter { filter: text.into(), topic: topic_of(filter)? };
        if self.hub.protocols.mqtt_settings().has_shared_groups {
            self.mqtt_begin_partial();
            let SharedFilter { filter, topic } = shared;
            self.mqtt().record(|| Step::Subscribed(StoredSubscription { filter, topic, options }));
            // SUBACK follows the step.
            return Ok(SubscribeResult::Decided(options.qos as u8));
        }
        let join = JoinGroup { connection: self.mqtt_connection(), shared, options };
        self.hub.request(
            self.slot,
            command,
            Request::Protocol(mqtt::Request::JoinGroup(Box::new(join))),
            self.fx,
        );
        Ok(SubscribeResult::Waits(command))
    }

    /// The session is a member.
    pub(super) fn mqtt_joined(&mut self, command: u32) {
        let subscription = self.mqtt().subscriptions.iter().find(|one| one.command == command);
        let found = subscription.map(|one| (one.options, one.is_resumed, shared_filter(&one.filter)));
        let Some((options, is_resumed, shared)) = found else { return };
        if let Some(SharedFilter { filter, topic }) = shared.filter(|_| !is_resumed) {
            self.mqtt().record(|| Step::Subscribed(StoredSubscription { filter, topic, options }));
            self.mqtt_pass_steps();
        }
        self.mqtt_decide(command, options.qos as u8);
    }

    /// Leaves a group of this node.
    pub(super) fn mqtt_leave(&mut self, filter: &str) {
        if self.hub.protocols.mqtt_settings().has_shared_groups {
            return;
        }
        if let Some(shared) = shared_filter(filter) {
            let change = SessionChange::Left(self.mqtt_connection(), shared);
            self.mqtt_notify(change);
        }
    }

    /// Leaves all groups.
    pub(super) fn mqtt_leave_all(&mut self) {
        let shared = self.mqtt().subscriptions.iter().filter(|one| one.is_shared);
        for filter in shared.map(|one| one.filter.clone()).collect::<Vec<_>>() {
            self.mqtt_leave(&filter);
        }
    }

    /// Sends a publication, or keeps it while the connection ends. Returns `false` if the session is not a member any more.
    pub(super) fn mqtt_deliver_shared(&mut self, delivery: &SharedDelivery) -> bool {
        let SharedDelivery { shared, publication } = delivery;
        let state = self.session().peek_state().and_then(|state| state.mqtt.as_ref());
        let subscription =
            state.and_then(|mqtt| mqtt.subscriptions.iter().find(|one| one.filter == shared.filter));
        let Some(options) = subscription.map(|one| one.options) else { return false };
        let channel = &publication.channel;
        if options.is_pattern && self.hub.authorize(self.slot, Action::Subscribe, channel).is_err() {
            self.mqtt().record(|| Step::Dropped(Arc::clone(publication)));
            self.mqtt_pass_steps();
            return true;
        }
        let message = publication.extra.as_ref().and_then(|extra| extra.message.as_ref());
        let retain = options.retain_as_published && message.is_some_and(|message| message.retain);
        if !self.mqtt_send_one(publication, options, retain) {
            self.end(&CloseReason::Slow(1));
        }
        true
    }
}
