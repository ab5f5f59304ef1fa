//! Subscribing, publishing, and what clients ask about channels.

use bytes::Bytes;
use tidings_wire::client::reply::{self, Outcome};
use tidings_wire::client::{Data, Encoding, push, request};
use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, Position, Topic};

use super::super::{Join, Owner, Stage};
use super::connect::{bytes, seconds_left};
use crate::access::Action;
use crate::deciding::{ChannelOverrides, Decide, TokenId};
use crate::effects::{Answer, Effects, HistoryQuery, Request};
use crate::hub::{Act, Hub};
use crate::joining::wish;

/// Why a command cannot be carried out.
struct Refusal(Code, String);

/// Whether a subscription is allowed.
enum Permit {
    Yes,
    /// Somebody else decides.
    Ask,
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self(code, code.text.to_owned())
    }
}

impl Hub {
    fn client_channel(&self, name: &str) -> Result<Channel, Refusal> {
        Channel::new(name).map_err(|error| Refusal(code::BAD_REQUEST, format!("bad request: {error}")))
    }

    /// Refuses a command, unless its turn has not come.
    fn client_refusal(&mut self, slot: u32, id: u32, refusal: &Refusal, fx: &mut Effects) -> Act {
        if self.sessions[slot as usize].is_queued() {
            return Act::Hold;
        }
        self.client_error(slot, id, refusal.0, &refusal.1, fx);
        if self.is_closing(slot) { Act::End } else { Act::Next }
    }

    pub(crate) fn client_subscribe(
        &mut self,
        slot: u32,
        id: u32,
        subscribe: &request::Subscribe<'_>,
        fx: &mut Effects,
    ) -> Act {
        let session = &mut self.sessions[slot as usize];
        if session.is_queued() && !session.more().awaiting.takes_subscribe() {
            return Act::Hold;
        }
        let permit = self.client_channel(&subscribe.channel).and_then(|channel| {
            // Who wants some publications alone is not to be sent all of them.
            if subscribe.tf.is_some() {
                return Err(Refusal(code::NOT_AVAILABLE, "not available: filters by tags".to_owned()));
            }
            let permit = self.may_join(slot, &channel, &subscribe.token)?;
            Ok((channel, permit))
        });
        let (channel, permit) = match permit {
            Ok(permit) => permit,
            Err(refusal) => return self.client_refusal(slot, id, &refusal, fx),
        };
        let mut wish = wish(subscribe);
        let stage = match permit {
            Permit::Yes => self.reach(slot, &channel, &mut wish, &ChannelOverrides::default(), fx),
            Permit::Ask => {
                let question = Decide::Subscribe {
                    who: self.who(slot),
                    channel: channel.clone(),
                    token: subscribe.token.clone().into_owned(),
                    data: bytes(subscribe.data.as_ref()),
                };
                let own = self.id_of(slot);
                let ticket = self.sessions[slot as usize].more().awaiting.ticket();
                let request = Request::Decide(Box::new(question));
                fx.push(crate::Effect::Ask(own, ticket, request));
                Stage::Deciding(ticket)
            }
        };
        let join = Join { channel, owner: Owner::Command(id), wish, admission: Default::default(), stage };
        let session = &mut self.sessions[slot as usize];
        if join.is_decided() && !session.is_queued() {
            self.joined(slot, join, fx);
        } else {
            session.more().awaiting.join(join);
            self.read_for_head(slot, fx);
        }
        if self.is_closing(slot) { Act::End } else { Act::Next }
    }

    /// Whether the session may subscribe, or who decides that.
    fn may_join(&mut self, slot: u32, channel: &Channel, token: &str) -> Result<Permit, Refusal> {
        let settings = std::sync::Arc::clone(&self.settings);
        let (name, access) = (channel.as_str(), &settings.access);
        let options = settings.namespaces.of(name)?;
        let key = self.topics.key(&Topic::Channel(channel.clone()));
        let session = &mut self.sessions[slot as usize];
        let under_way = session.existing_more().map_or(0, |more| more.awaiting.subscribes());
        let again = key.is_some_and(|key| session.is_subscribed(key))
            || session.existing_more().is_some_and(|m| m.awaiting.joins().any(|j| j.channel == *channel));
        if again {
            return Err(code::ALREADY_SUBSCRIBED.into());
        }
        if session.subscriptions().len() + under_way >= settings.channel_limit {
            let words = format!("limit exceeded: {} channels a connection", settings.channel_limit);
            return Err(Refusal(code::LIMIT_EXCEEDED, words));
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
        match self.by_name(slot, channel, options) {
            Some(true) => return Ok(Permit::Yes),
            Some(false) => return Err(code::PERMISSION_DENIED.into()),
            None => {}
        }
        if self.is_asked(slot, Action::Subscribe, channel) {
            return Ok(Permit::Ask);
        }
        self.may(slot, Action::Subscribe, channel)?;
        Ok(Permit::Yes)
    }

    pub(crate) fn client_unsubscribe(&mut self, slot: u32, id: u32, name: &str, fx: &mut Effects) {
        match self.client_channel(name) {
            Err(refusal) => self.client_error(slot, id, refusal.0, &refusal.1, fx),
            Ok(channel) => {
                // Unsubscribing from what one is not subscribed to is no error in this protocol.
                self.unsubscribe(slot, &Topic::Channel(channel), fx);
                self.reply(slot, id, Outcome::Unsubscribe, fx);
                self.forget_nobody(slot);
            }
        }
    }

    pub(crate) fn client_publish(
        &mut self,
        slot: u32,
        id: u32,
        publish: &request::Publish<'_>,
        fx: &mut Effects,
    ) -> Act {
        if !self.takes_flight(slot) {
            return Act::Hold;
        }
        let checked = self.client_channel(&publish.channel).and_then(|channel| {
            // Protobuf has no other way to say that there are no bytes.
            let protobuf = self.sessions[slot as usize].link.encoding() == Encoding::Protobuf;
            let body = match &publish.data {
                Some(data) => Bytes::copy_from_slice(&data.bytes),
                None if protobuf => Bytes::new(),
                None => {
                    let words = "bad request: publish without data".to_owned();
                    return Err(Refusal(code::BAD_REQUEST, words));
                }
            };
            Ok(self.publishing(slot, channel, body)?)
        });
        match checked {
            Err(refusal) => self.client_refusal(slot, id, &refusal, fx),
            Ok(request) => {
                self.published += 1;
                self.fly(slot, id, None, request, fx);
                Act::Next
            }
        }
    }

    pub(crate) fn client_presence(
        &mut self,
        slot: u32,
        id: u32,
        name: &str,
        stats: bool,
        fx: &mut Effects,
    ) -> Act {
        if !self.takes_read(slot) {
            return Act::Hold;
        }
        match self.may_ask(slot, name, Action::Presence, |options| options.presence) {
            Err(refusal) => self.client_refusal(slot, id, &refusal, fx),
            Ok(channel) => {
                let request =
                    if stats { Request::PresenceStats(channel) } else { Request::Presence(channel) };
                self.fly(slot, id, None, request, fx);
                Act::Next
            }
        }
    }

    pub(crate) fn client_history(
        &mut self,
        slot: u32,
        id: u32,
        history: &request::History<'_>,
        fx: &mut Effects,
    ) -> Act {
        if !self.takes_read(slot) {
            return Act::Hold;
        }
        let query = HistoryQuery {
            // Not more than a client that recovers may be sent.
            limit: usize::try_from(history.limit)
                .ok()
                .map(|limit| limit.min(self.settings.recovery_limit))
                .or(Some(self.settings.recovery_limit)),
            since: history
                .since
                .as_ref()
                .map(|since| Position { offset: since.offset, epoch: (&*since.epoch).into() }),
            reverse: history.reverse,
            heard: false,
            max_bytes: self.settings.recovery_bytes,
        };
        match self.may_ask(slot, &history.channel, Action::History, crate::NamespaceOptions::has_history) {
            Err(refusal) => self.client_refusal(slot, id, &refusal, fx),
            Ok(channel) => {
                self.fly(slot, id, Some(channel.clone()), Request::History(channel, query), fx);
                Act::Next
            }
        }
    }

    /// The channel that a question is about, when it may be asked and the channel keeps the answer.
    fn may_ask(
        &self,
        slot: u32,
        name: &str,
        action: Action,
        keeps: impl Fn(&crate::NamespaceOptions) -> bool,
    ) -> Result<Channel, Refusal> {
        let channel = self.client_channel(name)?;
        if !keeps(self.settings.namespaces.of(channel.as_str())?) {
            return Err(code::NOT_AVAILABLE.into());
        }
        self.may(slot, action, &channel)?;
        Ok(channel)
    }

    pub(crate) fn client_rpc(&mut self, slot: u32, id: u32, rpc: &request::Rpc<'_>, fx: &mut Effects) -> Act {
        if !self.takes_flight(slot) {
            return Act::Hold;
        }
        let method = rpc.method.clone().into_owned();
        let question = Decide::Rpc { who: self.who(slot), method, data: bytes(rpc.data.as_ref()) };
        self.fly(slot, id, None, Request::Decide(Box::new(question)), fx);
        Act::Next
    }

    pub(crate) fn client_refresh(&mut self, slot: u32, id: u32, token: &str, fx: &mut Effects) -> Act {
        if !self.takes_flight(slot) {
            return Act::Hold;
        }
        let question = Decide::Refresh { who: self.who(slot), token: token.to_owned() };
        self.fly(slot, id, None, Request::Decide(Box::new(question)), fx);
        Act::Next
    }

    pub(crate) fn client_sub_refresh(
        &mut self,
        slot: u32,
        id: u32,
        name: &str,
        token: &str,
        fx: &mut Effects,
    ) -> Act {
        if !self.takes_flight(slot) {
            return Act::Hold;
        }
        let channel = self.client_channel(name).and_then(|channel| {
            let key = self.topics.key(&Topic::Channel(channel.clone()));
            let subscribed = key.is_some_and(|key| self.sessions[slot as usize].is_subscribed(key));
            if subscribed { Ok(channel) } else { Err(code::PERMISSION_DENIED.into()) }
        });
        match channel {
            Err(refusal) => self.client_refusal(slot, id, &refusal, fx),
            Ok(channel) => {
                let (who, about) = (self.who(slot), channel.clone());
                let question = Decide::SubRefresh { who, channel, token: token.to_owned() };
                self.fly(slot, id, Some(about), Request::Decide(Box::new(question)), fx);
                Act::Next
            }
        }
    }

    fn takes_flight(&mut self, slot: u32) -> bool {
        self.sessions[slot as usize].existing_more().is_none_or(|more| more.awaiting.takes_flight())
    }

    fn takes_read(&mut self, slot: u32) -> bool {
        self.sessions[slot as usize].existing_more().is_none_or(|more| more.awaiting.takes_read())
    }

    /// Has something done whose answer needs no turn.
    fn fly(&mut self, slot: u32, id: u32, channel: Option<Channel>, request: Request, fx: &mut Effects) {
        let own = self.id_of(slot);
        let reads =
            matches!(request, Request::History(..) | Request::Presence(_) | Request::PresenceStats(_));
        let ticket = self.sessions[slot as usize].more().awaiting.fly(id, channel, reads);
        fx.push(crate::Effect::Ask(own, ticket, request));
    }

    /// Answers a command that was under way beside the queue.
    pub(crate) fn landed(
        &mut self,
        slot: u32,
        id: u32,
        channel: Option<&Channel>,
        answer: &Answer,
        fx: &mut Effects,
    ) {
        let format = channel.map(|channel| self.options(channel).publication_data_format).unwrap_or_default();
        let outcome = match answer {
            Answer::Failed(failure) => return self.failed(slot, id, failure, fx),
            Answer::Published(_) => Outcome::Publish,
            Answer::Members(members) => {
                let presence: Vec<_> =
                    members.iter().map(|m| (m.client.as_str().into(), push::ClientInfo::from(m))).collect();
                Outcome::Presence(reply::Presence { presence: presence.into() })
            }
            Answer::Presence(clients, users) => Outcome::PresenceStats(reply::PresenceStats {
                num_clients: u32::try_from(*clients).unwrap_or(u32::MAX),
                num_users: u32::try_from(*users).unwrap_or(u32::MAX),
            }),
            Answer::History(page) => {
                let Some(publications) = &page.publications else {
                    let code = code::UNRECOVERABLE_POSITION;
                    return self.client_error(slot, id, code, code.text, fx);
                };
                // What was read is bounded as it is stored; escapes and base 64 make it longer. The client reads on from
                // the last publication that it gets.
                let encoding = self.sessions[slot as usize].link.encoding();
                let all = publications.iter().map(|publication| &**publication);
                let count = encoding.publications_within(all, format, self.settings.recovery_bytes);
                let shown: Vec<_> =
                    publications.iter().take(count).map(|p| push::Publication::new(p, format)).collect();
                let Position { offset, epoch } = &page.position;
                Outcome::History(reply::History {
                    publications: shown.into(),
                    epoch: epoch.as_str().into(),
                    offset: *offset,
                })
            }
            Answer::Replied(data) => Outcome::Rpc(reply::Rpc { data: data.as_deref().map(Data::from) }),
            Answer::Renewed { expires, info, token } => {
                if let Some(token) = token
                    && channel.is_none()
                    && let Some(member) = self.sessions[slot as usize].existing_member()
                {
                    member.set_token(Some(token));
                }
                return self.renewed(slot, id, channel, (*expires, info.as_ref(), token.as_ref()), fx);
            }
            _ => return self.client_error(slot, id, code::INTERNAL, code::INTERNAL.text, fx),
        };
        self.reply(slot, id, outcome, fx);
    }

    /// The connection, or its subscription to `channel`, may stay.
    fn renewed(
        &mut self,
        slot: u32,
        id: u32,
        channel: Option<&Channel>,
        (expires, info, token): (Option<u64>, Option<&Bytes>, Option<&TokenId>),
        fx: &mut Effects,
    ) {
        let ttl = expires.map(|at| seconds_left(at, self.time));
        let (expires_too, ttl) = (ttl.is_some(), ttl.unwrap_or(0));
        let Some(channel) = channel else {
            self.renew_connection(slot, expires, info, fx);
            let name = self.client_name(self.id_of(slot));
            let client = name.as_str().into();
            let refresh = reply::Refresh { client, version: "".into(), expires: expires_too, ttl };
            return self.reply(slot, id, Outcome::Refresh(refresh), fx);
        };
        let key = self.topics.key(&Topic::Channel(channel.clone()));
        let member = self.sessions[slot as usize].existing_member();
        if let Some(sub) = key.and_then(|key| member?.sub_mut(key)) {
            sub.expires = expires;
            if let Some(token) = token {
                sub.token = Some(Box::new(token.clone()));
            }
            if let Some(info) = info {
                sub.info = Some(info.clone());
            }
            if let Some(at) = expires {
                self.start_sub_expiry(slot, at, fx);
            }
        }
        let refresh = reply::SubRefresh { expires: expires_too, ttl };
        self.reply(slot, id, Outcome::SubRefresh(refresh), fx);
    }

    /// The connection may stay until another time.
    pub(crate) fn renew_connection(
        &mut self,
        slot: u32,
        expires: Option<u64>,
        info: Option<&Bytes>,
        fx: &mut Effects,
    ) {
        let member = self.sessions[slot as usize].more().member.get_or_insert_default();
        member.expires = expires;
        if let Some(info) = info {
            member.info = Some(info.clone());
        }
        if let Some(at) = expires {
            self.start_expiry(slot, at, fx);
        }
    }
}
