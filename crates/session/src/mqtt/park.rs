//! Sessions that outlive their connection: the way to the store of sessions, and back.

use tidings_hub::{Admission, Flag, SubscribeOptions, SubscribeOutcome};
use tidings_mqtt::topic::Filter;
use tidings_mqtt_session as mqtt;
use tidings_mqtt_session::{
    Connection, OpenSession, Parking, SessionChange, SessionKey, SessionState, Step, StoredSubscription,
    WillMessage,
};
use tidings_wire::Topic;

use super::outgoing::Outgoing;
use super::shared::shared_filter;
use super::state::{self, Flow, Phase, Subscription};
use crate::context::Context;
use crate::messages::{Effect, Notification, Request};

/// The owner of sessions of backends without a user; no user has this name.
const BACKEND: &str = "\u{1}";

impl Context<'_> {
    /// The session as the store finds it.
    pub(super) fn mqtt_key(&mut self) -> SessionKey {
        let mut owner = self.hub.user(self.slot).to_owned();
        if owner.is_empty() && self.session().identity.is_backend() {
            BACKEND.clone_into(&mut owner);
        }
        // Neither contains U+0000.
        [&*owner, &*self.mqtt().client_id].join("\0").into()
    }

    pub(super) fn mqtt_connection(&self) -> Connection {
        let id = self.hub.session_id(self.slot);
        Connection { shard: self.hub.shard().0, slot: id.slot.number(), generation: id.generation }
    }

    /// Notifies the store of sessions.
    pub(super) fn mqtt_notify(&mut self, change: SessionChange) {
        self.fx.push(Effect::Notify(Notification::Protocol(Box::new(change))));
    }

    /// Requests the session of an earlier connection, or discards it. Returns whether a response follows.
    pub(super) fn mqtt_request_session(&mut self) -> bool {
        let key = self.mqtt_key();
        let connection = self.mqtt_connection();
        let mqtt = self.mqtt();
        let clean_start = mqtt.connecting.as_ref().is_none_or(|connecting| connecting.clean_start);
        let is_kept = mqtt.is_kept();
        let is_shared = self.hub.protocols.mqtt_settings().has_shared_sessions;
        if clean_start && !is_kept && !is_shared {
            let change = SessionChange::Ended { key, connection: None };
            self.mqtt_notify(change);
            return false;
        }
        let mqtt = self.mqtt();
        mqtt.phase = Phase::Opening;
        let expiry = mqtt.expiry;
        let client = self.hub.client_id(self.hub.session_id(self.slot));
        let request = OpenSession { key, connection, client, expiry, clean_start, is_kept };
        let request = Box::new(request);
        self.hub.request(
            self.slot,
            state::SESSION,
            Request::Protocol(mqtt::Request::OpenSession(request)),
            self.fx,
        );
        true
    }

    /// The store has no session for the connection.
    pub(super) fn mqtt_session_failed(&mut self) {
        let mqtt = self.mqtt();
        (mqtt.phase, mqtt.expiry) = (Phase::Open, 0);
        if self.session().flags.has(Flag::Parking) {
            self.mqtt_park(None);
        }
    }

    /// The response to the request for an earlier session.
    pub(super) fn mqtt_session(&mut self, state: Option<Box<SessionState>>) {
        let (is_present, state) = (state.is_some(), state.map(|state| *state).unwrap_or_default());
        let SessionState { subscriptions, in_flight, waiting, received, last_packet_id, dropped } = state;
        let settings = self.hub.protocols.mqtt_settings();
        let mqtt = self.mqtt();
        mqtt.phase = Phase::Open;
        mqtt.is_registered = mqtt.is_kept();
        mqtt.has_files = mqtt.is_registered && settings.has_files;
        if is_present {
            mqtt.last_packet_id = last_packet_id;
            let outgoing = Outgoing::resume(in_flight, waiting);
            // It may have the beginning of a packet.
            let flow = mqtt.flow();
            (flow.received, flow.outgoing) = (received, outgoing);
        }
        if mqtt.is_kept() {
            // A message must be kept until it is acknowledged.
            self.mqtt_address_messages();
        }
        if self.session().flags.has(Flag::Parking) {
            // The connection has ended meanwhile.
            for subscription in subscriptions {
                let mut key = None;
                if !subscription.is_shared() {
                    self.hub.subscribe_silently(self.slot, &subscription.topic, self.fx);
                    key = self.hub.topic(&subscription.topic);
                }
                let resumed = Subscription::resumed(&subscription, 0);
                self.mqtt().subscriptions.push(Subscription { key, ..resumed });
            }
            self.mqtt().flow().outgoing.dropped += dropped;
            return self.mqtt_park(None);
        }
        self.mqtt_accept(is_present, dropped);
        for subscription in subscriptions {
            self.mqtt_resume_subscription(subscription);
        }
        self.mqtt_send_waiting();
        self.mqtt_pass_steps();
    }

    /// Passes the steps of the session to the store with files. Bytes that are sent afterwards follow them.
    pub(super) fn mqtt_pass_steps(&mut self) {
        if self.mqtt().stored.is_some() {
            // They are passed with the packet that follows from them.
            return;
        }
        let steps = self.mqtt().take_steps();
        if !steps.is_empty() {
            let change = SessionChange::Steps(self.mqtt_connection(), steps);
            self.mqtt_notify(change);
            self.fx.fence();
        }
    }

    /// Subscribes again, if the client has the permission still. The shard gets the publications of the topic already.
    pub(super) fn mqtt_resume_subscription(&mut self, subscription: StoredSubscription) {
        let is_shared = subscription.is_shared();
        if self.mqtt_may_resume(&subscription) {
            let mqtt = self.mqtt();
            let command = mqtt.subscribe_id();
            mqtt.subscriptions.push(Subscription::resumed(&subscription, command));
            if !is_shared && !self.mqtt_subscribe_again(&subscription, command) {
                self.mqtt_remove(command);
            }
        } else {
            if is_shared {
                self.mqtt_leave(&subscription.filter);
            }
            self.mqtt().record(|| Step::Unsubscribed(subscription.filter));
        }
        if !is_shared && self.hub.topic(&subscription.topic).is_none() {
            self.fx.push(Effect::UnsubscribeTopic(subscription.topic));
        }
    }

    /// Whether the client has the permission for a subscription of its session still.
    fn mqtt_may_resume(&self, subscription: &StoredSubscription) -> bool {
        let StoredSubscription { filter, topic, .. } = subscription;
        if subscription.is_shared() {
            return Filter::new(filter).is_ok_and(|filter| self.mqtt_check_shared(&filter).is_ok());
        }
        match topic {
            Topic::Channel(channel) => self.hub.may_resume(self.slot, channel),
            Topic::Pattern(_) => self.mqtt_check_pattern(filter).is_ok(),
        }
    }

    /// Subscribes to the topic of a subscription that continues; returns whether the hub has accepted it.
    fn mqtt_subscribe_again(&mut self, subscription: &StoredSubscription, command: u32) -> bool {
        let topic = &subscription.topic;
        if let Topic::Channel(channel) = topic {
            let no_local = subscription.options.no_local;
            let options = SubscribeOptions { by_client: true, no_local, ..SubscribeOptions::default() };
            let admission = Admission::default();
            return self
                .operations()
                .subscribe_admitted(command, channel.clone(), options, admission)
                .is_ok();
        }
        match self.hub.begin_subscribe(self.slot, topic, command, self.fx) {
            SubscribeOutcome::Now { .. } => {
                if let Some(key) = self.hub.topic(topic) {
                    self.mqtt_subscribed(command, key);
                }
                true
            }
            SubscribeOutcome::Waiting => true,
            SubscribeOutcome::Refused(..) => false,
        }
    }

    /// The connection has ended: the session stays subscribed until the store has taken over.
    pub(super) fn mqtt_park(&mut self, will: Option<WillMessage>) {
        let (key, connection) = (self.mqtt_key(), self.mqtt_connection());
        let client = self.hub.client_id(self.hub.session_id(self.slot));
        self.session_mut().flags.set(Flag::Parking, true);
        let mqtt = self.mqtt();
        mqtt.phase = Phase::Parking;
        let expiry = mqtt.expiry;
        // A subscription that was not acknowledged is not part of the session.
        mqtt.subscriptions.retain(|subscription| subscription.key.is_some() || subscription.is_shared);
        let state = self.session().peek_state();
        let made = state.and_then(|state| state.mqtt.as_ref()).map(|mqtt| &*mqtt.subscriptions);
        let stored = made.unwrap_or_default().iter().filter_map(|subscription| {
            let topic = match subscription.key {
                Some(key) => self.hub.entry(key)?.topic().clone(),
                None => shared_filter(&subscription.filter)?.topic,
            };
            let filter = subscription.filter.clone();
            Some(StoredSubscription { filter, topic, options: subscription.options })
        });
        let subscriptions = stored.collect();
        let parking = Parking { key, connection, client, expiry, subscriptions, will };
        let change = SessionChange::Parking(Box::new(parking));
        self.mqtt_notify(change);
    }

    /// The last publication has arrived: passes the state to the store.
    pub(super) fn mqtt_parked(&mut self) {
        let (key, connection) = (self.mqtt_key(), self.mqtt_connection());
        if let Some(mqtt) = self.session_mut().state().mqtt.take() {
            let last_packet_id = mqtt.last_packet_id;
            let Flow { received, outgoing, .. } = mqtt.flow.map(|flow| *flow).unwrap_or_default();
            let (in_flight, waiting, dropped) = outgoing.into_parts();
            let subscriptions = Vec::new();
            let state = SessionState { subscriptions, in_flight, waiting, received, last_packet_id, dropped };
            let change = SessionChange::Parked { key, connection, state: Box::new(state) };
            self.mqtt_notify(change);
        }
        self.hub.finish_parking(self.slot, self.fx);
    }
}
