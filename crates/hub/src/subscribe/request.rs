//! The first transition: checks whether a client may subscribe, or starts the decision.

use bytes::Bytes;
use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, Topic};

use super::options::SubscribeOptions;
use super::state::{Origin, PendingSubscribe, SubscribeState};
use crate::access::Action;
use crate::authorization::{Admission, AuthorizationRequest};
use crate::context::Context;
use crate::effects::{Effect, Request};
use crate::hub::Hub;
use crate::index::Slot;
use crate::kind::check_kind;
use crate::protocols::Protocols;

/// Why a command failed: a code, and a text for the client.
#[derive(Debug)]
pub struct CommandError(pub Code, pub String);

impl From<Code> for CommandError {
    fn from(code: Code) -> Self {
        Self(code, code.text.to_owned())
    }
}

/// A client's request for a subscription with options.
#[derive(Debug)]
pub struct SubscribeRequest {
    /// The id of the command.
    pub id: u32,
    /// The channel.
    pub channel: Channel,
    /// The requested options.
    pub sub_options: SubscribeOptions,
    /// The subscription token; may be empty.
    pub token: String,
    /// Data for the application.
    pub data: Option<Bytes>,
}

/// Whether a subscription is allowed.
enum Permission {
    Granted,
    /// The token or the application must be checked.
    Undecided,
}

impl<P: Protocols> Hub<P> {
    /// Whether a session is subscribed to a channel.
    pub fn is_subscribed(&self, slot: Slot, channel: &Channel) -> bool {
        let key = self.topics.key(&Topic::Channel(channel.clone()));
        key.is_some_and(|key| self.sessions[slot.index()].is_subscribed(key))
    }

    /// Whether the session may have a further subscription, which is to this channel.
    fn may_add_subscription(&self, slot: Slot, channel: &Channel) -> Result<(), CommandError> {
        let settings = &self.settings;
        settings.namespaces.options(channel.as_str())?;
        let key = self.topics.key(&Topic::Channel(channel.clone()));
        let session = &self.sessions[slot.index()];
        let in_progress = session.subscribe_count();
        let already = key.is_some_and(|key| session.is_subscribed(key))
            || session.pending_subscribes().any(|subscribe| subscribe.channel == *channel);
        if already {
            return Err(code::ALREADY_SUBSCRIBED.into());
        }
        if session.subscriptions().len() + in_progress >= settings.channel_limit {
            let words =
                format!("limit exceeded: {} a connection", code::counted(settings.channel_limit, "channel"));
            return Err(CommandError(code::LIMIT_EXCEEDED, words));
        }
        if settings.access.is_reserved(channel.as_str()) {
            return Err(code::PERMISSION_DENIED.into());
        }
        Ok(())
    }

    /// Whether a session may continue a subscription of an earlier connection of its client. A decision of the application
    /// remains valid.
    pub fn may_resume(&self, slot: Slot, channel: &Channel) -> bool {
        let Ok(options) = self.settings.namespaces.options(channel.as_str()) else { return false };
        if self.settings.access.is_reserved(channel.as_str()) {
            return false;
        }
        self.sessions[slot.index()].is_granted(channel)
            || match self.permission_from_name(slot, channel, options) {
                Some(true) => true,
                Some(false) => self.has_capability(slot, Action::Subscribe, channel),
                None => {
                    self.is_decided_by_application(slot, Action::Subscribe, channel)
                        || self.authorize(slot, Action::Subscribe, channel).is_ok()
                }
            }
    }

    /// Whether the session may subscribe to the channel.
    fn may_subscribe(&self, slot: Slot, channel: &Channel, token: &str) -> Result<Permission, CommandError> {
        self.may_add_subscription(slot, channel)?;
        let options = self.options(channel);
        if self.sessions[slot.index()].is_granted(channel) {
            return Ok(Permission::Granted);
        }
        self.check_name(slot, Action::Subscribe, channel)?;
        if !token.is_empty() {
            return Ok(Permission::Undecided);
        }
        match self.permission_from_name(slot, channel, options) {
            Some(true) => return Ok(Permission::Granted),
            Some(false) if self.has_capability(slot, Action::Subscribe, channel) => {
                return Ok(Permission::Granted);
            }
            Some(false) => return Err(code::PERMISSION_DENIED.into()),
            None => {}
        }
        if self.is_decided_by_application(slot, Action::Subscribe, channel) {
            return Ok(Permission::Undecided);
        }
        self.authorize(slot, Action::Subscribe, channel)?;
        Ok(Permission::Granted)
    }
}

impl<P: Protocols> Context<'_, P> {
    /// As [`Context::subscribe`], for a subscription that the protocol has authorized itself, with these properties: neither
    /// the options of the channel nor a token are checked.
    ///
    /// # Errors
    /// As [`Context::subscribe`]; also for an internal channel.
    pub fn subscribe_admitted(
        &mut self,
        id: u32,
        channel: Channel,
        mut sub_options: SubscribeOptions,
        admission: Admission,
    ) -> Result<(), CommandError> {
        self.hub.may_add_subscription(self.slot, &channel)?;
        let state = self.begin_topic(&channel, &mut sub_options, &admission);
        let origin = Origin::Command(id);
        self.enqueue_subscribe(PendingSubscribe { channel, origin, sub_options, admission, state });
        Ok(())
    }

    /// Begins a subscription. [`Event::SubscribeCompleted`](crate::Event::SubscribeCompleted) or
    /// [`Event::Failed`](crate::Event::Failed) reports the result, possibly before this returns.
    ///
    /// # Errors
    /// If it is rejected at once. No event follows.
    pub fn subscribe(&mut self, request: SubscribeRequest) -> Result<(), CommandError> {
        if let Ok(options) = self.hub.settings.namespaces.options(request.channel.as_str()) {
            check_kind(options, request.sub_options.kind())?;
        }
        let permission = self.hub.may_subscribe(self.slot, &request.channel, &request.token);
        let permission = permission.inspect_err(|error| {
            self.hub.trace_denial(self.slot, &request.channel, &error.0);
        })?;
        if request.sub_options.filter.is_some() && !self.hub.options(&request.channel).allow_tags_filter {
            let text = "bad request: filters by tags are not allowed in this channel (allow_tags_filter)";
            return Err(CommandError(code::BAD_REQUEST, text.to_owned()));
        }
        let SubscribeRequest { id, channel, mut sub_options, token, data } = request;
        let state = match permission {
            Permission::Granted => self.begin_topic(&channel, &mut sub_options, &Admission::default()),
            Permission::Undecided => {
                let decision = AuthorizationRequest::Subscribe {
                    requester: self.hub.requester(self.slot),
                    channel: channel.clone(),
                    token,
                    data,
                };
                let own = self.id();
                let ticket = self.session_mut().cold().pending.ticket();
                self.fx.push(Effect::Request(own, ticket, Request::Authorize(Box::new(decision))));
                SubscribeState::Deciding(ticket)
            }
        };
        let subscribe = PendingSubscribe {
            channel,
            origin: Origin::Command(id),
            sub_options,
            admission: Default::default(),
            state,
        };
        self.enqueue_subscribe(subscribe);
        Ok(())
    }

    /// Makes a subscription that is decided and next to be answered; otherwise queues it.
    pub(crate) fn enqueue_subscribe(&mut self, subscribe: PendingSubscribe) {
        let session = self.session_mut();
        if subscribe.is_decided() && !session.has_queued() {
            self.finish_subscribe(subscribe);
        } else {
            session.cold().pending.push_channel_subscribe(subscribe);
            self.start_next_read();
        }
    }
}
