//! The commands of the client protocol: connect, subscribe, publish, and requests about channels.

use bytes::Bytes;
use tidings_hub::{
    Action, CommandError, Connected, Decide, NamespaceOptions, Progress, RecoverFrom, Request,
    SubscribeOptions, SubscribeRequest,
};
use tidings_wire::client::reply::Outcome;
use tidings_wire::client::{Data, Encoding, request};
use tidings_wire::code;
use tidings_wire::{Channel, HistoryQuery, Position, Topic};

use crate::context::Context;

/// The bit of a subscription's `flag` by which a client requests error 112 in place of a subscription that misses
/// something: it then fetches the state anew. Other bits request nothing that would be missed where it is not done.
const REJECT_UNRECOVERED: i64 = 1 << 1;

/// What a client requests with a subscription.
fn wish(sub: &request::Subscribe<'_>) -> SubscribeOptions {
    SubscribeOptions {
        since: sub.recover.then(|| RecoverFrom { offset: sub.offset, epoch: sub.epoch.clone().into_owned() }),
        recoverable: sub.recoverable,
        positioned: sub.positioned,
        join_leave: sub.join_leave,
        all_or_error: sub.flag & REJECT_UNRECOVERED != 0,
        by_client: true,
        returns: false,
    }
}

/// Data of the application, to be kept.
fn bytes(data: Option<&Data<'_>>) -> Option<Bytes> {
    data.map(|data| Bytes::copy_from_slice(&data.bytes))
}

impl Context<'_> {
    /// Refuses a command, unless its turn has not come.
    fn client_refusal(&mut self, id: u32, refusal: &CommandError) -> Progress {
        if self.session().is_queued() {
            return Progress::Hold;
        }
        self.refuse(id, refusal.0, &refusal.1);
        if self.is_closing() { Progress::End } else { Progress::Next }
    }

    pub(super) fn client_subscribe(&mut self, id: u32, subscribe: &request::Subscribe<'_>) -> Progress {
        if !self.session().takes_subscribe() {
            return Progress::Hold;
        }
        let begun = client_channel(&subscribe.channel).and_then(|channel| {
            // A client that requests some publications alone must not get all of them.
            if subscribe.tf.is_some() {
                return Err(CommandError(code::NOT_AVAILABLE, "not available: filters by tags".to_owned()));
            }
            let (token, data) = (subscribe.token.clone().into_owned(), bytes(subscribe.data.as_ref()));
            let request = SubscribeRequest { id, channel, wish: wish(subscribe), token, data };
            self.hub.subscribe(self.slot, request, self.fx)
        });
        match begun {
            Err(refusal) => self.client_refusal(id, &refusal),
            Ok(()) if self.is_closing() => Progress::End,
            Ok(()) => Progress::Next,
        }
    }

    pub(super) fn client_connect(&mut self, id: u32, connect: &request::Connect<'_>) -> Progress {
        let asks = !connect.token.is_empty() || self.hub.settings().connect_proxy;
        // The response of the hook names all channels; the client adds only positions in those.
        let is_hooked = connect.token.is_empty() && asks;
        let requested = connect.subs.iter().filter_map(|(channel, sub)| {
            let channel = Channel::new(&**channel).ok()?;
            // A channel that cannot be recovered is reported in its part of the reply; an error would fail all channels.
            Some((channel, SubscribeOptions { by_client: !is_hooked, all_or_error: false, ..wish(sub) }))
        });
        // One more than the limit, so that an excess is noticed.
        let requested: Vec<_> = requested.take(self.hub.settings().channel_limit.saturating_add(1)).collect();
        if requested.len() > self.hub.settings().channel_limit {
            self.hub.too_many_channels(self.slot, self.fx);
            return Progress::End;
        }
        self.session_mut().set_requested(requested);
        let access = &self.hub.settings().access;
        if !asks {
            if !(access.open || access.anonymous_connect) {
                self.refuse(id, code::UNAUTHORIZED, code::UNAUTHORIZED.text);
                return if self.is_closing() { Progress::End } else { Progress::Next };
            }
            self.client_accept(id, Connected::default());
            return if self.is_closing() { Progress::End } else { Progress::Next };
        }
        let question = Decide::Connect {
            who: self.hub.requester(self.slot),
            token: connect.token.clone().into_owned(),
            data: bytes(connect.data.as_ref()),
            name: connect.name.clone().into_owned(),
            version: connect.version.clone().into_owned(),
            headers: connect
                .headers
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone().into_owned()))
                .collect(),
        };
        self.hub.request(self.slot, id, Request::Decide(Box::new(question)), self.fx);
        Progress::Next
    }

    pub(super) fn client_unsubscribe(&mut self, id: u32, name: &str) {
        match client_channel(name) {
            Err(refusal) => self.refuse(id, refusal.0, &refusal.1),
            Ok(channel) => {
                // An unsubscribe without a subscription is no error in this protocol.
                self.hub.unsubscribe(self.slot, &Topic::Channel(channel), self.fx);
                self.reply(id, Outcome::Unsubscribe);
                self.hub.forget_empty_member(self.slot);
            }
        }
    }

    pub(super) fn client_publish(&mut self, id: u32, publish: &request::Publish<'_>) -> Progress {
        if !self.session().takes_request() {
            return Progress::Hold;
        }
        let checked = client_channel(&publish.channel).and_then(|channel| {
            // An empty body is an absent field in Protobuf.
            let protobuf = self.link().encoding() == Encoding::Protobuf;
            let body = match &publish.data {
                Some(data) => Bytes::copy_from_slice(&data.bytes),
                None if protobuf => Bytes::new(),
                None => {
                    let words = "bad request: publish without data".to_owned();
                    return Err(CommandError(code::BAD_REQUEST, words));
                }
            };
            Ok(self.hub.publishing(self.slot, channel, body, Vec::new())?)
        });
        match checked {
            Err(refusal) => self.client_refusal(id, &refusal),
            Ok(request) => {
                self.hub.count_publish();
                self.hub.request_beside(self.slot, id, None, request, self.fx);
                Progress::Next
            }
        }
    }

    pub(super) fn client_presence(&mut self, id: u32, name: &str, stats: bool) -> Progress {
        if !self.session().takes_read() {
            return Progress::Hold;
        }
        match self.may_ask(name, Action::Presence, |options| options.presence) {
            Err(refusal) => self.client_refusal(id, &refusal),
            Ok(channel) => {
                let request =
                    if stats { Request::PresenceStats(channel) } else { Request::Presence(channel) };
                self.hub.request_beside(self.slot, id, None, request, self.fx);
                Progress::Next
            }
        }
    }

    pub(super) fn client_history(&mut self, id: u32, history: &request::History<'_>) -> Progress {
        if !self.session().takes_read() {
            return Progress::Hold;
        }
        let query = HistoryQuery {
            // Not more than a client that recovers may be sent.
            limit: usize::try_from(history.limit)
                .ok()
                .map(|limit| limit.min(self.hub.settings().recovery_limit))
                .or(Some(self.hub.settings().recovery_limit)),
            since: history
                .since
                .as_ref()
                .map(|since| Position { offset: since.offset, epoch: (&*since.epoch).into() }),
            reverse: history.reverse,
            for_subscriber: false,
            max_bytes: self.hub.settings().recovery_bytes,
        };
        match self.may_ask(&history.channel, Action::History, NamespaceOptions::has_history) {
            Err(refusal) => self.client_refusal(id, &refusal),
            Ok(channel) => {
                self.hub.request_beside(
                    self.slot,
                    id,
                    Some(channel.clone()),
                    Request::History(channel, query),
                    self.fx,
                );
                Progress::Next
            }
        }
    }

    /// The channel of a request, when the session may make the request and the channel has what is requested.
    fn may_ask(
        &self,
        name: &str,
        action: Action,
        keeps: impl Fn(&NamespaceOptions) -> bool,
    ) -> Result<Channel, CommandError> {
        let channel = client_channel(name)?;
        if !keeps(self.hub.settings().namespaces.options(channel.as_str())?) {
            return Err(code::NOT_AVAILABLE.into());
        }
        self.hub.may(self.slot, action, &channel)?;
        Ok(channel)
    }

    pub(super) fn client_rpc(&mut self, id: u32, rpc: &request::Rpc<'_>) -> Progress {
        if !self.session().takes_request() {
            return Progress::Hold;
        }
        let method = rpc.method.clone().into_owned();
        let question =
            Decide::Rpc { who: self.hub.requester(self.slot), method, data: bytes(rpc.data.as_ref()) };
        self.hub.request_beside(self.slot, id, None, Request::Decide(Box::new(question)), self.fx);
        Progress::Next
    }

    pub(super) fn client_refresh(&mut self, id: u32, token: &str) -> Progress {
        if !self.session().takes_request() {
            return Progress::Hold;
        }
        let question = Decide::Refresh { who: self.hub.requester(self.slot), token: token.to_owned() };
        self.hub.request_beside(self.slot, id, None, Request::Decide(Box::new(question)), self.fx);
        Progress::Next
    }

    pub(super) fn client_sub_refresh(&mut self, id: u32, name: &str, token: &str) -> Progress {
        if !self.session().takes_request() {
            return Progress::Hold;
        }
        let channel = client_channel(name).and_then(|channel| {
            if self.hub.is_subscribed(self.slot, &channel) {
                Ok(channel)
            } else {
                Err(code::PERMISSION_DENIED.into())
            }
        });
        match channel {
            Err(refusal) => self.client_refusal(id, &refusal),
            Ok(channel) => {
                let (who, about) = (self.hub.requester(self.slot), channel.clone());
                let question = Decide::SubRefresh { who, channel, token: token.to_owned() };
                self.hub.request_beside(
                    self.slot,
                    id,
                    Some(about),
                    Request::Decide(Box::new(question)),
                    self.fx,
                );
                Progress::Next
            }
        }
    }
}

fn client_channel(name: &str) -> Result<Channel, CommandError> {
    Channel::new(name).map_err(|error| CommandError(code::BAD_REQUEST, format!("bad request: {error}")))
}
