//! Wills: their permission, their copies in files or at the broker, their publication.
//!
//! Invariant: where the broker stores the wills, it has the will of a connection before `CONNACK`. The connection does not publish
//! it; its end begins the publication, once in the deployment.

use bytes::Bytes;
use tidings_mqtt::ReasonCode;
use tidings_mqtt_session as mqtt;
use tidings_mqtt_session::{CloseWill, OpenWill, SessionChange, WillMessage};

use super::state::{self, Phase, Will};
use crate::context::Context;
use crate::messages::{Effect, Request};

/// The ticket of the request that publishes a will. Its response is discarded: the session has ended.
const NO_TICKET: u32 = u32::MAX;

impl Context<'_> {
    /// Whether the topic of the will permits the client to publish.
    pub(super) fn mqtt_check_will(&mut self) -> Result<(), (ReasonCode, String)> {
        let Some(channel) = self.mqtt().will.as_ref().map(|will| will.channel.clone()) else { return Ok(()) };
        let request = self.hub.publish_request(self.slot, channel, Bytes::new(), Vec::new());
        request.map(drop).map_err(|code| (ReasonCode::NotAuthorized, format!("the will: {}", code.text)))
    }

    /// The will as a message; `None` without a will, and where the application decides about its publication.
    fn mqtt_will_message(&mut self) -> Option<WillMessage> {
        let Will { channel, payload, tags, message, delay } = *self.mqtt().will.clone()?;
        let request = self.hub.publish_message_request(self.slot, channel, payload, tags, Some(message));
        match request {
            Ok(Request::Publish(channel, body, extra)) => Some(WillMessage { channel, body, extra, delay }),
            _ => None,
        }
    }

    /// Passes the will to the files of the store, which publishes it if the server is killed.
    pub(super) fn mqtt_store_will(&mut self) {
        if self.hub.protocols.mqtt_settings().has_files
            && let Some(will) = self.mqtt_will_message()
        {
            self.mqtt().is_will_stored = true;
            let change = SessionChange::Will(self.mqtt_connection(), Some(Box::new(will)));
            self.mqtt_notify(change);
            self.fx.fence();
        }
    }

    /// Requests that the broker stores the will, and that the will of an earlier connection is published. A client without a will
    /// requests it too.
    pub(super) fn mqtt_open_will(&mut self) {
        let (key, expiry) = (self.mqtt_key(), self.mqtt().expiry);
        let will = self.mqtt_will_message();
        // With the end of the session it is due (MQTT-3.1.3-9).
        let will = will.map(|will| WillMessage { delay: will.delay.min(expiry), ..will });
        let continues = !self.mqtt().connecting.as_ref().is_none_or(|connecting| connecting.clean_start);
        let client = self.hub.client_id(self.hub.session_id(self.slot));
        let mqtt = self.mqtt();
        (mqtt.phase, mqtt.is_will_stored) = (Phase::StoringWill, will.is_some());
        let request = mqtt::Request::OpenWill(Box::new(OpenWill { key, client, will, continues }));
        self.hub.request(self.slot, state::SESSION, Request::Protocol(request), self.fx);
    }

    /// The broker has the will.
    pub(super) fn mqtt_will_opened(&mut self) {
        self.mqtt().phase = Phase::Open;
        self.mqtt_open_session();
    }

    /// The broker does not have the will: refuses a client with one.
    pub(super) fn mqtt_will_failed(&mut self, reason: ReasonCode, words: &str) {
        let mqtt = self.mqtt();
        mqtt.phase = Phase::Open;
        if std::mem::take(&mut mqtt.is_will_stored) {
            self.mqtt_refuse_connect(reason, words);
        } else {
            self.mqtt_open_session();
        }
    }

    /// Whether the broker has the will of the connection.
    pub(super) fn mqtt_has_shared_will(&mut self) -> bool {
        self.mqtt().is_will_stored && self.hub.protocols.mqtt_settings().has_shared_wills
    }

    /// The connection has ended: the broker begins the publication of its will, or discards it.
    pub(super) fn mqtt_close_will(&mut self, is_published: bool) {
        let (key, expiry) = (self.mqtt_key(), self.mqtt().expiry);
        let client = self.hub.client_id(self.hub.session_id(self.slot));
        self.mqtt_notify(SessionChange::CloseWill(CloseWill { key, client, is_published, expiry }));
    }

    /// Publishes a will, or returns it if it is published later.
    pub(super) fn mqtt_publish_will(&mut self, will: Will) -> Option<WillMessage> {
        let Will { channel, payload, tags, message, delay } = will;
        let is_delayed = delay > 0 && self.mqtt().is_kept();
        let request = self.hub.publish_message_request(self.slot, channel, payload, tags, Some(message));
        match request {
            Ok(Request::Publish(channel, body, extra)) if is_delayed => {
                return Some(WillMessage { channel, body, extra, delay });
            }
            Ok(request) => {
                let id = self.hub.session_id(self.slot);
                self.fx.push(Effect::Request(id, NO_TICKET, request));
            }
            // The permission was checked when the client connected; the options may have changed since.
            Err(_) => self.hub.count_error(),
        }
        None
    }
}
