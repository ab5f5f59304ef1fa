//! `CONNECT` and `CONNACK`.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::Bytes;
use tidings_hub::{AuthorizationRequest, CloseReason, Connected, Timer};
use tidings_mqtt::{
    ConnAck, Connect, EncodeError, MAX_PACKET, Packet, PropertiesBuf, Property, PropertyId, ReasonCode,
    Version, Will,
};
use tidings_wire::Channel;

use super::publish;
use super::reason::TAKEN_OVER;
use super::state::{ClientLimits, Connecting, KeepAlive, Mqtt};
use crate::context::Context;
use crate::link::{Link, Protocol};
use crate::messages::{Effect, Notification, Request};

/// The longest client id in bytes: it is kept for the whole connection.
pub(super) const MAX_CLIENT_ID: usize = 1024;

/// An error for the client.
type Rejected = (ReasonCode, String);

impl Context<'_> {
    pub(super) fn mqtt_connect(&mut self, connect: &Connect<'_>) {
        let link = self.link();
        let protocol = Protocol::Mqtt { version: Some(connect.version), is_addressed: false };
        self.set_link(Link::new(link.framing(), protocol, link.direction()));
        match self.mqtt_checked_connect(connect) {
            Ok(mqtt) => {
                self.session_mut().state().mqtt = Some(Box::new(mqtt));
                self.mqtt_authenticate(connect.password.map(|password| password.0).unwrap_or_default());
            }
            Err((reason, words)) => {
                self.hub.count_error();
                self.mqtt_refuse_connect(reason, &words);
            }
        }
    }

    /// The state of the session that a `CONNECT` begins.
    fn mqtt_checked_connect(&mut self, connect: &Connect<'_>) -> Result<Mqtt, Rejected> {
        let settings = self.hub.protocols.mqtt_settings();
        let has_sessions = settings.session_expiry_max > 0;
        let is_persistent = connect.version == Version::V3 && !connect.clean_start;
        if connect.properties.get(PropertyId::AuthenticationMethod).is_some() {
            return Err((
                ReasonCode::BadAuthenticationMethod,
                "no authentication method is available".into(),
            ));
        }
        if connect.client_id.is_empty() && is_persistent {
            let words = "a session that is kept needs a client identifier";
            return Err((ReasonCode::ClientIdentifierNotValid, words.into()));
        }
        if connect.client_id.len() > MAX_CLIENT_ID {
            let words = format!("the client identifier is longer than {MAX_CLIENT_ID} bytes");
            return Err((ReasonCode::ClientIdentifierNotValid, words));
        }
        if is_persistent && !has_sessions {
            let words = "sessions are not kept after the connection: connect with a clean session";
            return Err((ReasonCode::ServerUnavailable, words.into()));
        }
        let (mut client, mut connecting) = (ClientLimits::default(), Connecting::default());
        connecting.clean_start = connect.clean_start;
        for property in connect.properties.iter() {
            match property {
                Property::ReceiveMaximum(number) => client.receive_maximum = number.get(),
                Property::TopicAliasMaximum(number) => client.topic_alias_maximum = number,
                Property::MaximumPacketSize(bytes) => client.max_packet = bytes.get(),
                Property::RequestProblemInformation(on) => client.accepts_problem_information = on,
                Property::SessionExpiryInterval(seconds) => connecting.expiry = seconds,
                _ => {}
            }
        }
        if is_persistent {
            connecting.expiry = u32::MAX;
        }
        let expiry = connecting.expiry.min(settings.session_expiry_max);
        let will = connect
            .will
            .as_ref()
            .map(|will| checked_will(will, settings.retain_available))
            .transpose()?
            .map(Box::new);
        let most = settings.max_keep_alive;
        let is_too_long = most > 0 && (connect.keep_alive == 0 || connect.keep_alive > most);
        let keep_alive = if is_too_long && connect.version == Version::V5 {
            connecting.server_keep_alive = Some(most);
            most
        } else {
            connect.keep_alive
        };
        let mut client_id = Box::from(connect.client_id);
        if connect.client_id.is_empty() {
            client_id = self.hub.client_id(self.hub.session_id(self.slot)).into();
            connecting.is_assigned = true;
        }
        Ok(Mqtt {
            client_id,
            client,
            keep_alive: KeepAlive::new(keep_alive),
            expiry,
            will,
            connecting: Some(Box::new(connecting)),
            ..Mqtt::default()
        })
    }

    /// The password is a connection token or the API key. It is ignored where neither is configured.
    fn mqtt_authenticate(&mut self, password: &[u8]) {
        let settings = Arc::clone(self.hub.settings());
        let access = &settings.access;
        let has_secrets = access.tokens || !access.keys.is_empty();
        if !password.is_empty() && has_secrets && !self.hub.authenticate(self.slot, password) {
            return self.hub.authenticate_token(self.slot, password, self.fx);
        }
        let is_backend = !password.is_empty() && has_secrets;
        if (settings.connect_proxy || self.hub.has_proxied_user(self.slot)) && !is_backend {
            let decision = AuthorizationRequest::connect(self.hub.requester(self.slot), "");
            return self.hub.request(self.slot, 0, Request::Authorize(Box::new(decision)), self.fx);
        }
        if !(is_backend || access.open || access.anonymous_connect) {
            self.hub.count_error();
            let words = "the password must be a connection token or an API key";
            return self.mqtt_refuse_connect(ReasonCode::NotAuthorized, words);
        }
        self.operations().accept(0, Connected::default(), true);
    }

    /// The connection is accepted: ends an earlier one of the same client, and requests its session or answers.
    pub(super) fn mqtt_connected(&mut self) {
        if let Err((reason, words)) = self.mqtt_check_will() {
            self.mqtt().will = None;
            self.hub.count_error();
            return self.mqtt_refuse_connect(reason, &words);
        }
        self.mqtt_take_over();
        if self.hub.protocols.mqtt_settings().has_shared_wills {
            self.mqtt_open_will();
        } else {
            self.mqtt_open_session();
        }
    }

    /// Requests the session of the client, or answers.
    pub(super) fn mqtt_open_session(&mut self) {
        let has_sessions = self.hub.protocols.mqtt_settings().session_expiry_max > 0;
        if !has_sessions || !self.mqtt_request_session() {
            self.mqtt_accept(false, 0);
        }
    }

    /// Sends `CONNACK`, with the number of messages that an earlier session has dropped.
    pub(super) fn mqtt_accept(&mut self, session_present: bool, dropped: u64) {
        self.mqtt_store_will();
        let client = &self.mqtt().client;
        if client.topic_alias_maximum > 0 || (client.max_packet as usize) < MAX_PACKET {
            // Messages with QoS 0 have aliases as well, and the limit applies to them (MQTT-3.1.2-24).
            self.mqtt_address_messages();
        }
        let connecting = self.mqtt().connecting.take().unwrap_or_default();
        let mut properties = PropertiesBuf::default();
        if self.mqtt_version() == Some(Version::V5) {
            // Numbers and a client id within its limit can be encoded.
            let _ = self.mqtt_connack_properties(&connecting, dropped, &mut properties);
        }
        let properties = properties.as_properties();
        let connack = ConnAck { session_present, reason: ReasonCode::Success, properties };
        self.mqtt_write(&Packet::ConnAck(connack));
        if let Some(interval) = self.mqtt().keep_alive.interval() {
            let id = self.hub.session_id(self.slot);
            self.fx.push(Effect::Start(id, Timer::KeepAlive, interval));
        }
    }

    fn mqtt_connack_properties(
        &mut self,
        connecting: &Connecting,
        dropped: u64,
        properties: &mut PropertiesBuf,
    ) -> Result<(), EncodeError> {
        let settings = self.hub.protocols.mqtt_settings();
        let expiry = self.mqtt().expiry;
        if connecting.expiry != expiry {
            properties.push(Property::SessionExpiryInterval(expiry))?;
        }
        if dropped > 0 {
            let bytes = settings.queue_bytes;
            let words = format!(
                "{dropped} messages of the session were dropped: limit of {bytes} bytes (mqtt.session_queue_size), or of all \
                 sessions (mqtt.sessions_max_bytes)"
            );
            properties.push(Property::ReasonString(&words))?;
            properties.push(Property::UserProperty("dropped", &dropped.to_string()))?;
        }
        if let Some(maximum) = NonZeroU16::new(settings.receive_maximum) {
            properties.push(Property::ReceiveMaximum(maximum))?;
        }
        if !settings.retain_available {
            properties.push(Property::RetainAvailable(false))?;
        }
        if let Some(bytes) = u32::try_from(settings.max_packet).ok().and_then(NonZeroU32::new) {
            properties.push(Property::MaximumPacketSize(bytes))?;
        }
        if connecting.is_assigned {
            let client_id = self.mqtt().client_id.clone();
            properties.push(Property::AssignedClientIdentifier(&client_id))?;
        }
        properties.push(Property::TopicAliasMaximum(settings.topic_alias_maximum))?;
        if !settings.shared_available {
            properties.push(Property::SharedSubscriptionAvailable(false))?;
        }
        if let Some(seconds) = connecting.server_keep_alive {
            properties.push(Property::ServerKeepAlive(seconds))?;
        }
        Ok(())
    }

    /// Ends the other session of this user with the same client id, on this shard at once and elsewhere by a command
    /// (MQTT-3.1.4-3). Client ids of different users do not collide.
    fn mqtt_take_over(&mut self) {
        let (user, name) = (self.hub.user(self.slot).to_owned(), self.mqtt().client_id.to_string());
        let now = self.hub.time();
        let former = self.hub.protocols.clients.insert(&user, &name, self.slot, now);
        if let Some(former) = former.filter(|former| *former != self.slot) {
            let reason = CloseReason::Code(TAKEN_OVER.number, TAKEN_OVER.text.into());
            self.hub.end(former, &reason, self.fx);
        }
        let client = self.hub.client_id(self.hub.session_id(self.slot));
        self.fx.push(Effect::Notify(Notification::TakenOver { user, name, client }));
    }

    /// Refuses the connection.
    pub(super) fn mqtt_refuse_connect(&mut self, reason: ReasonCode, words: &str) {
        self.mqtt_send_refusal(reason, words);
        self.end(&CloseReason::Done);
    }

    /// Sends a `CONNACK` of failure.
    pub(super) fn mqtt_send_refusal(&mut self, reason: ReasonCode, words: &str) {
        let properties = self.mqtt_explanation(words);
        let properties = properties.as_properties();
        let reason = match self.mqtt_version() {
            // 3.1.1 has five codes of errors.
            Some(Version::V3) if reason.return_code().is_none() => ReasonCode::ServerUnavailable,
            _ => reason,
        };
        self.mqtt_write(&Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
    }

    /// A reason string, if the client accepts one.
    pub(super) fn mqtt_explanation(&mut self, words: &str) -> PropertiesBuf {
        let mut properties = PropertiesBuf::default();
        if self.mqtt_version() == Some(Version::V5) && self.mqtt().client.accepts_problem_information {
            // Without U+0000 and shorter than 65,535 bytes.
            let _ = properties.push(Property::ReasonString(words));
        }
        properties
    }
}

/// A will whose topic can be a channel.
fn checked_will(will: &Will<'_>, retain_available: bool) -> Result<super::state::Will, Rejected> {
    let channel = Channel::new(will.topic)
        .map_err(|error| (ReasonCode::TopicNameInvalid, format!("the topic of the will: {error}")))?;
    if will.retain && !retain_available {
        return Err((ReasonCode::RetainNotSupported, "messages are not retained".into()));
    }
    let (tags, message) = publish::contents(will.qos, will.retain, &will.properties);
    let delay = match will.properties.get(PropertyId::WillDelayInterval) {
        Some(Property::WillDelayInterval(seconds)) => seconds,
        _ => 0,
    };
    Ok(super::state::Will { channel, payload: Bytes::copy_from_slice(will.payload), tags, message, delay })
}
