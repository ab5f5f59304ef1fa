//! The end of a connection: `DISCONNECT`, errors.

use tidings_hub::{CloseReason, Flag};
use tidings_mqtt::{ConnAck, Disconnect, Packet, Property, PropertyId, ReasonCode, Version};
use tidings_mqtt_session::SessionChange;
use tidings_wire::ws::{self, CloseCode};

use super::reason;
use super::state::Phase;
use crate::context::Context;
use crate::link::{Link, Protocol};
use crate::notices::disconnect_code_and_reason;

impl Context<'_> {
    /// `DISCONNECT` of the client: without the will, unless it asks for it.
    pub(super) fn mqtt_client_disconnect(&mut self, disconnect: &Disconnect<'_>) {
        let expiry = disconnect.properties.get(PropertyId::SessionExpiryInterval);
        if let Some(Property::SessionExpiryInterval(seconds)) = expiry {
            if self.mqtt().expiry == 0 && seconds > 0 {
                // The session ends with the connection, and the client was informed of that.
                let words = "the session expiry interval of the connection is 0";
                return self.mqtt_disconnect(ReasonCode::ProtocolError, words);
            }
            let most = self.hub.protocols.mqtt_settings().session_expiry_max;
            self.mqtt().expiry = seconds.min(most);
        }
        if disconnect.reason == ReasonCode::Success {
            self.mqtt().will = None;
        }
        self.end(&CloseReason::Done);
    }

    /// Ends the connection because of the client: with `DISCONNECT` in 5.0.
    pub(super) fn mqtt_disconnect(&mut self, reason: ReasonCode, words: &str) {
        self.hub.count_error();
        self.mqtt_send_disconnect(reason, words);
        self.end(&CloseReason::Done);
    }

    fn mqtt_send_disconnect(&mut self, reason: ReasonCode, words: &str) {
        if self.mqtt_version() == Some(Version::V5) {
            let properties = self.mqtt_explanation(words);
            let properties = properties.as_properties();
            self.mqtt_write(&Packet::Disconnect(Disconnect { reason, properties }));
        }
    }

    /// A packet cannot be decoded: `CONNACK` where the client expects one, `DISCONNECT` in 5.0.
    pub(super) fn mqtt_malformed(&mut self, error: &tidings_mqtt::Error) {
        if self.mqtt_version().is_some() {
            return self.mqtt_disconnect(error.reason(), &error.to_string());
        }
        self.hub.count_error();
        if let Some(version) = error.connack_version() {
            let link = self.link();
            let protocol = Protocol::Mqtt { version: Some(version), is_addressed: false };
            self.set_link(Link::new(link.framing(), protocol, link.direction()));
            let properties = self.mqtt_explanation(&error.to_string());
            let properties = properties.as_properties();
            let connack = ConnAck { session_present: false, reason: error.reason(), properties };
            self.mqtt_write(&Packet::ConnAck(connack));
        }
        self.end(&CloseReason::Done);
    }

    /// The session ends: `DISCONNECT` with the reason of the server, and the will.
    pub(super) fn mqtt_closing(&mut self, reason: &CloseReason) {
        if self.mqtt().phase == Phase::Parking {
            if let CloseReason::Slow(missed) = reason {
                self.mqtt().flow().outgoing.dropped += missed;
            }
            return;
        }
        let is_connected = self.session().flags.has(Flag::Connected);
        if let Some(code) = reason::of_close(reason) {
            let words = reason.code_and_reason().map(|(_, words)| words).unwrap_or_default();
            if is_connected {
                self.mqtt_send_disconnect(code, &words);
            } else if self.mqtt_version().is_some() {
                self.mqtt_send_refusal(reason::in_connack(code), &words);
            }
        }
        if self.link().is_websocket() {
            let (number, words) =
                disconnect_code_and_reason(reason).unwrap_or((CloseCode::NORMAL.0, String::new()));
            self.send(|out| ws::close(CloseCode(number), &words, out));
        }
        self.mqtt_gone();
    }

    /// The connection is gone: publishes the will, gives up the client id, and passes a session that is kept to the store.
    pub(super) fn mqtt_gone(&mut self) {
        let state = self.session_mut().existing_state();
        let Some(mqtt) = state.and_then(|state| state.mqtt.as_mut()) else { return };
        if mqtt.phase == Phase::Parking {
            return;
        }
        let kept = mqtt.take_partial().len();
        let client_id = mqtt.client_id.clone();
        self.hub.protocols.kept -= kept;
        let user = self.hub.user(self.slot).to_owned();
        self.hub.protocols.clients.remove(&user, &client_id, self.slot);
        if self.mqtt().phase == Phase::Opening {
            // The response has publications behind it.
            self.session_mut().flags.set(Flag::Parking, true);
            return;
        }
        let is_connected = self.session().flags.has(Flag::Connected) && self.mqtt().connecting.is_none();
        let will = self.mqtt().will.take().filter(|_| is_connected);
        let delayed = if self.mqtt_has_shared_will() {
            self.mqtt_close_will(will.is_some());
            None
        } else {
            will.and_then(|will| self.mqtt_publish_will(*will))
        };
        if is_connected && self.mqtt().is_kept() {
            return self.mqtt_park(delayed);
        }
        self.mqtt_close_session();
        self.mqtt_leave_all();
        let connection = self.mqtt_connection();
        if self.mqtt().is_registered {
            let change = SessionChange::Ended { key: self.mqtt_key(), connection: Some(connection) };
            self.mqtt_notify(change);
        } else if self.mqtt().is_will_stored && !self.mqtt_has_shared_will() {
            self.mqtt_notify(SessionChange::Will(connection, None));
        }
        self.session_mut().state().mqtt = None;
    }
}
