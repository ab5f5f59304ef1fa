//! The end of a connection: `DISCONNECT`, errors, wills.

use tidings_hub::{CloseReason, Effect};
use tidings_mqtt::{ConnAck, Disconnect, Packet, Property, PropertyId, ReasonCode, Version};
use tidings_wire::ws::{self, CloseCode};

use super::reason;
use crate::context::Context;
use crate::link::{Link, Protocol};
use crate::notices::disconnect_code_and_reason;

/// The ticket of the request that publishes a will. Its response is discarded: the session has ended.
const NO_TICKET: u32 = u32::MAX;

impl Context<'_> {
    /// Whether the topic of the will permits the client to publish.
    pub(super) fn mqtt_check_will(&mut self) -> Result<(), (ReasonCode, String)> {
        let Some(channel) = self.mqtt().will.as_ref().map(|will| will.channel.clone()) else { return Ok(()) };
        let request = self.hub.publish_request(self.slot, channel, bytes::Bytes::new(), Vec::new());
        request.map(drop).map_err(|code| (ReasonCode::NotAuthorized, format!("the will: {}", code.text)))
    }

    /// `DISCONNECT` of the client: without the will, unless it asks for it.
    pub(super) fn mqtt_client_disconnect(&mut self, disconnect: &Disconnect<'_>) {
        let expiry = disconnect.properties.get(PropertyId::SessionExpiryInterval);
        if expiry.is_some_and(|expiry| expiry != Property::SessionExpiryInterval(0)) {
            // The session ends with the connection, and the client was informed of that.
            let words = "the session expiry interval of the connection is 0";
            return self.mqtt_disconnect(ReasonCode::ProtocolError, words);
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
        let is_connected = self.session().flags.has(tidings_hub::Flag::Connected);
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

    /// The connection is gone: publishes the will, and gives up the client id.
    pub(super) fn mqtt_gone(&mut self) {
        let Some(mut mqtt) = self.session_mut().existing_state().and_then(|state| state.mqtt.take()) else {
            return;
        };
        self.hub.protocols.kept -= mqtt.kept();
        let user = self.hub.user(self.slot).to_owned();
        self.hub.protocols.clients.remove(&user, &mqtt.client_id, self.slot);
        let is_connected = self.session().flags.has(tidings_hub::Flag::Connected);
        if let Some(will) = mqtt.will.take().filter(|_| is_connected) {
            let super::state::Will { channel, payload, tags, message } = *will;
            let request = self.hub.publish_message_request(self.slot, channel, payload, tags, Some(message));
            // The permission was checked when the client connected; the options may have changed since.
            match request {
                Ok(request) => {
                    let id = self.hub.session_id(self.slot);
                    self.fx.push(Effect::Request(id, NO_TICKET, request));
                }
                Err(_) => self.hub.count_error(),
            }
        }
    }
}
