//! What a session may do: by its key or token, by the name of a channel, by the options of the channel's namespace.
//!
//! Invariants:
//! - The server's internal channels are closed to every session.
//! - Where the application decides about a channel, its options do not.

use bytes::Bytes;
use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, Extra, Topic};

use crate::access::{Action, Identity, USER, USERS, has_own_channel};
use crate::decisions::Decide;
use crate::effects::{Effects, Request};
use crate::hub::Hub;
use crate::index::Slot;
use crate::namespace::NamespaceOptions;
use crate::protocols::{Peer as _, Protocols};
use crate::session::Flag;
use crate::settings::Settings;

impl<P: Protocols> Hub<P> {
    /// Compares a secret with the API key; gives whether it made the session a backend.
    pub fn authenticate(&mut self, slot: Slot, secret: &[u8]) -> bool {
        let accepted = self.settings.access.api_key.as_ref().is_some_and(|key| key.is(secret));
        if accepted {
            self.sessions[slot.index()].identity = Identity::Backend;
        }
        accepted
    }

    /// Has a secret that is not the API key verified as a connection token, or rejected where it cannot be one.
    pub fn authenticate_token(&mut self, slot: Slot, secret: &[u8], fx: &mut Effects) {
        let who = self.requester(slot);
        let question = match std::str::from_utf8(secret).ok().filter(|_| self.settings.access.tokens) {
            Some(token) => Decide::Connect {
                who,
                token: token.to_owned(),
                data: None,
                name: String::new(),
                version: String::new(),
                headers: Vec::new(),
            },
            None => Decide::Reject { who },
        };
        self.request(slot, 0, Request::Decide(Box::new(question)), fx);
    }

    /// Whether the application decides about `action` in `channel` for this session; the channel's options do not count
    /// then. A backend is the application itself.
    pub fn is_decided_by_application(&self, slot: Slot, action: Action, channel: &Channel) -> bool {
        let options = self.options(channel);
        let asked = match action {
            Action::Subscribe => options.subscribe_proxy,
            Action::Publish => options.publish_proxy,
            Action::History | Action::Presence => false,
        };
        asked && self.sessions[slot.index()].identity != Identity::Backend
    }

    /// The request that publishes a body with tags, if the session may.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`] or [`code::PERMISSION_DENIED`].
    pub fn publishing(
        &self,
        slot: Slot,
        channel: Channel,
        body: Bytes,
        tags: Vec<(String, String)>,
    ) -> Result<Request, Code> {
        let session = &self.sessions[slot.index()];
        let has_connect = session.peer.has_connect();
        if !self.is_decided_by_application(slot, Action::Publish, &channel) {
            self.may(slot, Action::Publish, &channel)?;
            // Publications of connected clients contain the client.
            let key = self.topics.key(&Topic::Channel(channel.clone()));
            let info = has_connect.then(|| self.client_info(slot, key));
            let has_extra = info.is_some() || !tags.is_empty();
            return Ok(Request::Publish(channel, body, has_extra.then(|| Box::new(Extra { info, tags }))));
        }
        self.settings.namespaces.options(channel.as_str())?;
        // With a connect hook, a client must connect before its publications are decided about, on every port.
        let is_unknown = self.settings.connect_proxy && !has_connect && !session.flags.has(Flag::Connected);
        if is_unknown || self.settings.access.is_reserved(channel.as_str()) {
            return Err(code::PERMISSION_DENIED);
        }
        let info = self.client_info(slot, self.topics.key(&Topic::Channel(channel.clone())));
        let question = Decide::Publish { who: self.requester(slot), channel, body, info, tags };
        Ok(Request::Decide(Box::new(question)))
    }

    /// Whether the session may subscribe to a channel, as far as the channel's name decides it (`None`: the options
    /// decide). A private channel needs a token for it; a channel that names users is open to these users. `None` for a
    /// session that may do everything.
    pub(crate) fn permission_by_name(
        &self,
        slot: Slot,
        channel: &Channel,
        options: &NamespaceOptions,
    ) -> Option<bool> {
        let session = &self.sessions[slot.index()];
        if session.is_granted(channel) {
            return Some(true);
        }
        if self.settings.access.is_free(session.identity) {
            return None;
        }
        let (name, prefix) = (channel.as_str(), &self.settings.private_prefix);
        if !prefix.is_empty() && name.starts_with(prefix.as_str()) {
            return Some(false);
        }
        let user = session.member().map(|member| &*member.user).unwrap_or_default();
        let owner = self.personal_user(name);
        let Some((_, users)) = name.rsplit_once(USERS).filter(|_| options.allow_user_limited_channels) else {
            // The options decide whether its user may subscribe to it, and nothing lets another one.
            let is_of_other = owner.is_some_and(|owner| owner != user) && self.is_personal(name);
            return is_of_other.then_some(false);
        };
        // An id with one of the separators in it could be mistaken for several.
        if user.is_empty() || !has_own_channel(user) {
            return Some(false);
        }
        if let Some(owner) = owner {
            return Some(owner == user);
        }
        Some(users.split(USER).any(|one| one == user))
    }

    /// Whether personal channels are on and this is one, in the namespace that they belong to.
    fn is_personal(&self, name: &str) -> bool {
        match self.settings.personal_channel.as_deref() {
            None => false,
            Some("") => name.starts_with(USERS),
            Some(_) => !name.starts_with(USERS) && self.personal_user(name).is_some(),
        }
    }

    /// The user whose personal channel has this name: `#USER`, and `NAMESPACE:#USER` where personal channels belong to a
    /// namespace. It is one user, whatever separators stand in the id.
    fn personal_user<'n>(&self, name: &'n str) -> Option<&'n str> {
        let in_namespace = |name: &'n str| {
            let namespace = self.settings.personal_channel.as_deref().filter(|name| !name.is_empty())?;
            name.strip_prefix(namespace)?.strip_prefix(':')?.strip_prefix(USERS)
        };
        name.strip_prefix(USERS).or_else(|| in_namespace(name))
    }

    /// Whether the session may do `action` in `channel`.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`] or [`code::PERMISSION_DENIED`]; the latter also where the application would have to
    /// decide, which only commands of the client protocol request.
    pub fn may(&self, slot: Slot, action: Action, channel: &Channel) -> Result<(), Code> {
        let session = &self.sessions[slot.index()];
        let subscribed =
            self.topics.key(&Topic::Channel(channel.clone())).is_some_and(|key| session.is_subscribed(key));
        let Settings { access, namespaces, .. } = &*self.settings;
        // A name does not decide about publishing.
        if action != Action::Publish {
            match (action, self.permission_by_name(slot, channel, namespaces.options(channel.as_str())?)) {
                (Action::Subscribe, Some(true)) if !access.is_reserved(channel.as_str()) => return Ok(()),
                (Action::Subscribe, Some(false)) => return Err(code::PERMISSION_DENIED),
                // The history and presence of a channel for some users are for these users.
                (_, Some(false)) if !subscribed => return Err(code::PERMISSION_DENIED),
                _ => {}
            }
        }
        if self.is_decided_by_application(slot, action, channel) {
            return Err(code::PERMISSION_DENIED);
        }
        access.may(action, session.identity, subscribed, namespaces, channel.as_str())
    }
}
