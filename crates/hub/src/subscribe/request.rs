//! The first transition: whether a client may subscribe, or where that is decided.

use bytes::Bytes;
use tidings_wire::code::{self, Code};
use tidings_wire::grant::ChannelOverrides;
use tidings_wire::{Channel, Topic};

use super::options::SubscribeOptions;
use super::state::{Origin, PendingSubscribe, SubscribeState};
use crate::access::Action;
use crate::decisions::Decide;
use crate::effects::{Effect, Effects, Request};
use crate::hub::Hub;
use crate::index::Slot;
use crate::protocols::Protocols;

/// Why a command cannot be carried out: a code, and words for the client.
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
    /// The number of the command.
    pub id: u32,
    /// The channel.
    pub channel: Channel,
    /// What the subscription is to have.
    pub wish: SubscribeOptions,
    /// The subscription token; empty without one.
    pub token: String,
    /// Data for the application.
    pub data: Option<Bytes>,
}

/// Whether a subscription is allowed.
enum Permit {
    Yes,
    /// A token or the application decides.
    Ask,
}

impl<P: Protocols> Hub<P> {
    /// Begins a subscription; [`Event::Joined`](crate::Event::Joined) or [`Event::Failed`](crate::Event::Failed) reports
    /// how it ends, perhaps before this returns.
    ///
    /// # Errors
    /// When it is refused at once. Then nothing is reported.
    pub fn subscribe(
        &mut self,
        slot: Slot,
        request: SubscribeRequest,
        fx: &mut Effects,
    ) -> Result<(), CommandError> {
        let permit = self.may_subscribe(slot, &request.channel, &request.token)?;
        let SubscribeRequest { id, channel, mut wish, token, data } = request;
        let stage = match permit {
            Permit::Yes => self.begin_topic(slot, &channel, &mut wish, &ChannelOverrides::default(), fx),
            Permit::Ask => {
                let question =
                    Decide::Subscribe { who: self.requester(slot), channel: channel.clone(), token, data };
                let own = self.id_of(slot);
                let ticket = self.sessions[slot.index()].cold().pending.ticket();
                fx.push(Effect::Request(own, ticket, Request::Decide(Box::new(question))));
                SubscribeState::Deciding(ticket)
            }
        };
        let join = PendingSubscribe {
            channel,
            owner: Origin::Command(id),
            wish,
            admission: Default::default(),
            stage,
        };
        self.enqueue_subscribe(slot, join, fx);
        Ok(())
    }

    /// Makes a subscription whose turn has come; otherwise it waits for that.
    pub(crate) fn enqueue_subscribe(&mut self, slot: Slot, join: PendingSubscribe, fx: &mut Effects) {
        let session = &mut self.sessions[slot.index()];
        if join.is_decided() && !session.is_queued() {
            self.finish_subscribe(slot, join, fx);
        } else {
            session.cold().pending.join(join);
            self.read_for_next(slot, fx);
        }
    }

    /// Whether a session is subscribed to a channel.
    pub fn is_subscribed(&self, slot: Slot, channel: &Channel) -> bool {
        let key = self.topics.key(&Topic::Channel(channel.clone()));
        key.is_some_and(|key| self.sessions[slot.index()].is_subscribed(key))
    }

    /// Whether the session may subscribe, or a token or the application decides that.
    fn may_subscribe(&self, slot: Slot, channel: &Channel, token: &str) -> Result<Permit, CommandError> {
        let settings = std::sync::Arc::clone(&self.settings);
        let (name, access) = (channel.as_str(), &settings.access);
        let options = settings.namespaces.options(name)?;
        let key = self.topics.key(&Topic::Channel(channel.clone()));
        let session = &self.sessions[slot.index()];
        let under_way = session.subscribes();
        let again = key.is_some_and(|key| session.is_subscribed(key))
            || session.joins().any(|join| join.channel == *channel);
        if again {
            return Err(code::ALREADY_SUBSCRIBED.into());
        }
        if session.subscriptions().len() + under_way >= settings.channel_limit {
            let words = format!("limit exceeded: {} channels a connection", settings.channel_limit);
            return Err(CommandError(code::LIMIT_EXCEEDED, words));
        }
        if access.is_reserved(name) {
            return Err(code::PERMISSION_DENIED.into());
        }
        if session.is_granted(channel) {
            return Ok(Permit::Yes);
        }
        if !token.is_empty() {
            return Ok(Permit::Ask);
        }
        match self.permission_by_name(slot, channel, options) {
            Some(true) => return Ok(Permit::Yes),
            Some(false) => return Err(code::PERMISSION_DENIED.into()),
            None => {}
        }
        if self.is_decided_by_application(slot, Action::Subscribe, channel) {
            return Ok(Permit::Ask);
        }
        self.may(slot, Action::Subscribe, channel)?;
        Ok(Permit::Yes)
    }
}
