//! Permissions of a session: from its key or token, from the name of a channel, and from the options of the channel's
//! namespace.
//!
//! Invariants:
//! - The server's internal channels are closed to every session.
//! - If the application decides about a channel, the options of the channel are ignored.

use bytes::Bytes;
use tidings_keys::Scope;
use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, Extra, MessageProperties, Topic};

use crate::access::{Action, Identity};
use crate::authorization::AuthorizationRequest;
use crate::effects::{Effects, Request};
use crate::hub::Hub;
use crate::index::Slot;
use crate::kind::SubscriptionKind;
use crate::namespace::NamespaceOptions;
use crate::protocols::{Peer as _, Protocols};
use crate::session::Flag;
use crate::settings::Settings;
use crate::subscribe::CommandError;

impl<P: Protocols> Hub<P> {
    /// Compares a secret with the API keys; returns whether it is one, which makes the session a backend.
    pub fn authenticate(&mut self, slot: Slot, secret: &[u8]) -> bool {
        let key = self.settings.access.keys.find(secret);
        if let Some(key) = key {
            self.sessions[slot.index()].identity = Identity::backend(key);
        }
        key.is_some()
    }

    /// Starts the verification of a secret as a connection token, or its rejection if it cannot be a token.
    pub fn authenticate_token(&mut self, slot: Slot, secret: &[u8], fx: &mut Effects<P::Messages>) {
        let requester = self.requester(slot);
        let decision = match std::str::from_utf8(secret).ok().filter(|_| self.settings.access.tokens) {
            Some(token) => AuthorizationRequest::connect(requester, token),
            None => AuthorizationRequest::Reject { requester },
        };
        self.request(slot, 0, Request::Authorize(Box::new(decision)), fx);
    }

    /// Whether the application decides about `action` in `channel` for this session. A backend with the scope of the action
    /// is the application itself.
    pub fn is_decided_by_application(&self, slot: Slot, action: Action, channel: &Channel) -> bool {
        self.application_decides(self.options(channel), action, self.sessions[slot.index()].identity)
    }

    /// Whether the application decides about `action` in a channel with these options, for a session with this identity.
    fn application_decides(&self, options: &NamespaceOptions, action: Action, identity: Identity) -> bool {
        let has_hook = match action {
            Action::Subscribe => options.subscribe_proxy || options.subscribe_stream_proxy,
            Action::Publish => options.publish_proxy,
            Action::History | Action::Presence | Action::MapPublish | Action::MapRemove => false,
        };
        has_hook && !self.settings.access.has_scope(identity, action.scope())
    }

    /// The request that publishes a body with tags, if the session has the permission.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`], [`code::PERMISSION_DENIED`], or [`code::BAD_REQUEST`] for a name that clients may not use.
    pub fn publish_request(
        &self,
        slot: Slot,
        channel: Channel,
        body: Bytes,
        tags: Vec<(String, String)>,
    ) -> Result<Request<P::Messages>, Code> {
        self.publish_message_request(slot, channel, body, tags, None)
    }

    /// As [`Hub::publish_request`], for a message of MQTT with these properties.
    ///
    /// # Errors
    /// As [`Hub::publish_request`].
    pub fn publish_message_request(
        &self,
        slot: Slot,
        channel: Channel,
        body: Bytes,
        tags: Vec<(String, String)>,
        message: Option<Box<MessageProperties>>,
    ) -> Result<Request<P::Messages>, Code> {
        self.trace_publish(slot, &channel, body.len());
        let session = &self.sessions[slot.index()];
        let has_connect = session.peer.has_connect();
        if self.options(&channel).subscribe_stream_bidirectional
            && !self.settings.access.has_scope(session.identity, Scope::Publish)
        {
            // Only the stream of the own subscription takes publications of clients.
            let stream = self.publication_stream(slot, &channel).ok_or(code::PERMISSION_DENIED)?;
            return Ok(Request::StreamPublish(stream, body));
        }
        if !self.is_decided_by_application(slot, Action::Publish, &channel) {
            self.authorize_command(slot, Action::Publish, &channel)?;
            // Publications of connected clients contain information about the client.
            let key = self.topics.key(&Topic::Channel(channel.clone()));
            let info = has_connect.then(|| self.client_info(slot, key));
            let extra = Extra { info, tags, message, ..Extra::default() };
            return Ok(Request::Publish(channel, body, (!extra.is_empty()).then(|| Box::new(extra))));
        }
        self.settings.namespaces.options(channel.as_str())?;
        self.check_name(slot, Action::Publish, &channel).map_err(|error| error.0)?;
        // With a connect hook, a client must connect before it publishes, on every port.
        let is_unknown = self.settings.connect_proxy && !has_connect && !session.flags.has(Flag::Connected);
        if is_unknown || self.settings.access.is_reserved(channel.as_str()) {
            return Err(code::PERMISSION_DENIED);
        }
        let info = self.client_info(slot, self.topics.key(&Topic::Channel(channel.clone())));
        let requester = self.requester(slot);
        let decision = AuthorizationRequest::Publish { requester, channel, body, info, tags, message };
        Ok(Request::Authorize(Box::new(decision)))
    }

    /// The request that publishes a body with tags, for a session whose protocol has authorized it itself. Publications of
    /// clients contain information about the client.
    pub fn admitted_publish(
        &self,
        slot: Slot,
        channel: Channel,
        body: Bytes,
        tags: Vec<(String, String)>,
    ) -> Request<P::Messages> {
        let key = self.topics.key(&Topic::Channel(channel.clone()));
        let info = Some(self.client_info(slot, key));
        Request::Publish(channel, body, Some(Box::new(Extra { info, tags, ..Extra::default() })))
    }

    /// Whether the name of a channel allows or denies a subscription; `None` if the options decide, or if the session
    /// is unrestricted. A private channel requires a token. A channel that names users is open to these users.
    pub(crate) fn permission_from_name(
        &self,
        slot: Slot,
        channel: &Channel,
        options: &NamespaceOptions,
    ) -> Option<bool> {
        let session = &self.sessions[slot.index()];
        if session.is_granted(channel) {
            return Some(true);
        }
        if self.settings.access.is_unrestricted(session.identity, Scope::Read) {
            return None;
        }
        let (name, prefix) = (channel.as_str(), &self.settings.private_prefix);
        if !prefix.is_empty() && name.starts_with(prefix.as_str()) {
            return Some(false);
        }
        let user = session.user_state().map(|user_state| &*user_state.user).unwrap_or_default();
        if let Some(variable) = options.user_variable.as_deref() {
            let variables = self.settings.namespaces.variables(name);
            let owner = variables.into_iter().find(|(name, _)| *name == variable).map(|(_, owner)| owner);
            // A value of a variable is never empty, and so no anonymous user is an owner.
            return Some(owner == Some(user));
        }
        let owner = self.personal_user(name);
        let boundaries = &self.settings.user_boundaries;
        let Some((_, users)) =
            name.rsplit_once(&*boundaries.boundary).filter(|_| options.allow_user_limited_channels)
        else {
            // The options decide for the user of a personal channel; other users are denied.
            let is_of_other = owner.is_some_and(|owner| owner != user) && self.is_personal(name);
            return is_of_other.then_some(false);
        };
        // An id that contains a separator is ambiguous.
        if user.is_empty() || !boundaries.is_unambiguous(user) {
            return Some(false);
        }
        if let Some(owner) = owner {
            return Some(owner == user);
        }
        Some(users.split(&*boundaries.separator).any(|one| one == user))
    }

    /// Whether a capability of the connection, or of its subscription to `channel`, permits `action` there. Capabilities of
    /// connections do not apply to private channels.
    pub(crate) fn has_capability(&self, slot: Slot, action: Action, channel: &Channel) -> bool {
        if self.is_decided_by_application(slot, action, channel) {
            return false;
        }
        let (Some(user_state), Some(operation)) =
            (self.sessions[slot.index()].user_state(), action.operation())
        else {
            return false;
        };
        let (name, prefix) = (channel.as_str(), &self.settings.private_prefix);
        let capabilities = user_state.capabilities.as_ref();
        let is_private = !prefix.is_empty() && name.starts_with(prefix.as_str());
        if !is_private && capabilities.is_some_and(|capabilities| capabilities.allow(name, operation)) {
            return true;
        }
        if user_state.subs.is_empty() {
            return false;
        }
        let key = self.topics.key(&Topic::Channel(channel.clone()));
        key.and_then(|key| user_state.sub(key)).is_some_and(|sub| sub.allow.contains(operation))
    }

    /// Whether personal channels are enabled and this is one, in the namespace of personal channels.
    fn is_personal(&self, name: &str) -> bool {
        let begins_with_user = name.starts_with(&*self.settings.user_boundaries.boundary);
        match self.settings.personal_channel.as_deref() {
            None => false,
            Some("") => begins_with_user,
            Some(_) => !begins_with_user && self.personal_user(name).is_some(),
        }
    }

    /// The user of a personal channel: `#USER`, or `NAMESPACE:#USER` if personal channels have a namespace. The whole rest is one
    /// user, even if it contains separators.
    fn personal_user<'n>(&self, name: &'n str) -> Option<&'n str> {
        let Settings { namespaces, user_boundaries, personal_channel, .. } = &*self.settings;
        let boundary = &*user_boundaries.boundary;
        let in_namespace = |name: &'n str| {
            let namespace = personal_channel.as_deref().filter(|name| !name.is_empty())?;
            name.strip_prefix(namespace)?.strip_prefix(namespaces.boundary())?.strip_prefix(boundary)
        };
        name.strip_prefix(boundary).or_else(|| in_namespace(name))
    }

    /// Whether clients may use the name of a channel; a backend with the scope of the action may use any.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`], with the option that does not permit the name.
    pub fn check_name(&self, slot: Slot, action: Action, channel: &Channel) -> Result<(), CommandError> {
        let Settings { access, namespaces, .. } = &*self.settings;
        match namespaces.check_name(channel.as_str()) {
            Err(error) if !access.has_scope(self.sessions[slot.index()].identity, action.scope()) => {
                Err(CommandError(code::BAD_REQUEST, error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// As [`Self::authorize`], for a command of the client: live traces get an error.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub fn authorize_command(&self, slot: Slot, action: Action, channel: &Channel) -> Result<(), Code> {
        self.authorize(slot, action, channel).inspect_err(|error| self.trace_denial(slot, channel, error))
    }

    /// Whether the session has the permission for `action` in `channel`.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`] or [`code::PERMISSION_DENIED`]. The latter also if the application decides, because
    /// only commands of the client protocol request its decision. [`code::BAD_REQUEST`] as [`Hub::check_name`].
    pub fn authorize(&self, slot: Slot, action: Action, channel: &Channel) -> Result<(), Code> {
        let identity = self.sessions[slot.index()].identity;
        let Settings { access, namespaces, .. } = &*self.settings;
        let options = namespaces.options(channel.as_str())?;
        if access.is_reserved(channel.as_str()) {
            return Err(code::PERMISSION_DENIED);
        }
        self.check_name(slot, action, channel).map_err(|error| error.0)?;
        if action == Action::Publish && options.kind() != SubscriptionKind::Stream {
            return Err(code::NOT_AVAILABLE);
        }
        // Looks the topic up, so it is evaluated only where it matters.
        let is_subscribed = || self.is_subscribed(slot, channel);
        // Names of channels do not affect publishing.
        if !matches!(action, Action::Publish | Action::MapPublish | Action::MapRemove) {
            match (action, self.permission_from_name(slot, channel, options)) {
                (Action::Subscribe, Some(true)) => return Ok(()),
                (_, Some(false)) if self.has_capability(slot, action, channel) => return Ok(()),
                (Action::Subscribe, Some(false)) => return Err(code::PERMISSION_DENIED),
                // The history and presence of a channel that names users are for these users.
                (_, Some(false)) if !is_subscribed() => return Err(code::PERMISSION_DENIED),
                _ => {}
            }
        }
        let is_permitted = !self.application_decides(options, action, identity)
            && (access.is_unrestricted(identity, action.scope())
                || access.permits(action, identity, is_subscribed(), options)
                || self.has_capability(slot, action, channel));
        if is_permitted { Ok(()) } else { Err(code::PERMISSION_DENIED) }
    }
}
