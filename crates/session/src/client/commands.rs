//! The commands of the client protocol: connect, subscribe, publish, and requests about channels.

use std::sync::Arc;

use bytes::Bytes;
use tidings_hub::{
    Action, AuthorizationRequest, CommandError, Connected, MapKind, MapStep, MapSubscribe, NamespaceOptions,
    Progress, RecoverFrom, SubscribeOptions, SubscribeRequest, SubscriptionKind, TrackedKeys,
};
use tidings_tags_filter::Filter;
use tidings_wire::client::reply::{self, Outcome};
use tidings_wire::client::{Data, Encoding, RawMessage, request};
use tidings_wire::code;
use tidings_wire::{Channel, HistoryQuery, Position, Topic};

use crate::context::Context;
use crate::messages::Request;

/// The bit of a subscription's `flag` that requests error 112 for a subscription that cannot be recovered; the client
/// then fetches the state. Other bits can be ignored without harm.
const REJECT_UNRECOVERED: i64 = 1 << 1;

/// The options that a client requests for a subscription.
fn sub_options(sub: &request::Subscribe<'_>) -> SubscribeOptions {
    SubscribeOptions {
        since: sub.recover.then(|| RecoverFrom { offset: sub.offset, epoch: sub.epoch.clone().into_owned() }),
        recoverable: sub.recoverable,
        positioned: sub.positioned,
        join_leave: sub.join_leave,
        all_or_error: sub.flag & REJECT_UNRECOVERED != 0,
        by_client: true,
        recovery_requested: false,
        no_local: false,
        filter: None,
        delta: &*sub.delta == "fossil",
        map: None,
        shared_poll: false,
    }
}

/// The phases of a subscription to a map.
const PHASE_STREAM: i32 = 1;
pub(super) const PHASE_STATE: i32 = 2;

/// The number of the kind of a subscription.
pub(super) fn kind_number(kind: SubscriptionKind) -> i32 {
    match kind {
        SubscriptionKind::Stream => 0,
        SubscriptionKind::Map(MapKind::Keys) => 1,
        SubscriptionKind::Map(MapKind::Clients) => 2,
        SubscriptionKind::Map(MapKind::Users) => 3,
        SubscriptionKind::SharedPoll => 4,
    }
}

/// The kind of the channel that a subscription or publication is for.
fn kind(number: i32) -> Result<SubscriptionKind, CommandError> {
    SubscriptionKind::ALL.into_iter().find(|kind| kind_number(*kind) == number).ok_or_else(|| {
        let text = format!(
            "not available: type {number}, of 0 (stream), 1 (map), 2 (map_clients), 3 (map_users), 4 (shared_poll)"
        );
        CommandError(code::NOT_AVAILABLE, text)
    })
}

/// The actions of `sub_refresh` for the keys of a shared poll.
const TRACK: i32 = 1;
const UNTRACK: i32 = 2;

/// The options of a subscription, with the step of a subscription to a map.
fn options_of_kind(sub: &request::Subscribe<'_>) -> Result<SubscribeOptions, CommandError> {
    let options = sub_options(sub);
    let kind = match kind(sub.kind)? {
        SubscriptionKind::Stream => return Ok(options),
        SubscriptionKind::SharedPoll => return Ok(SubscribeOptions { shared_poll: true, ..options }),
        SubscriptionKind::Map(kind) => kind,
    };
    let bad = |text: &str| Err(CommandError(code::BAD_REQUEST, format!("bad request: {text}")));
    let step = match sub.phase {
        PHASE_STATE => {
            let limit = usize::try_from(sub.limit).unwrap_or_default();
            return Ok(SubscribeOptions {
                map: Some(Box::new(MapSubscribe {
                    kind,
                    step: MapStep::State { cursor: sub.cursor.clone().into(), limit, asc: sub.asc },
                })),
                since: None,
                ..options
            });
        }
        // The live phase follows the stream at once.
        PHASE_STREAM | 0 if sub.epoch.is_empty() => {
            return bad("the stream of a map needs the epoch of its state; begin with phase 2");
        }
        PHASE_STREAM | 0 => MapStep::Stream { returns: sub.recover },
        _ => return bad("the phase of a map is 2 (state), 1 (stream) or 0 (live)"),
    };
    let since = Some(RecoverFrom { offset: sub.offset, epoch: sub.epoch.clone().into_owned() });
    Ok(SubscribeOptions { map: Some(Box::new(MapSubscribe { kind, step })), since, ..options })
}

/// The filter that a client requests for a subscription.
fn filter(sub: &request::Subscribe<'_>, encoding: Encoding) -> Result<Option<Arc<Filter>>, CommandError> {
    let Some(RawMessage(bytes)) = &sub.tf else { return Ok(None) };
    let filter = match encoding {
        Encoding::Json => Filter::from_json(bytes),
        Encoding::Protobuf => Filter::from_protobuf(bytes),
    };
    filter.map(|filter| Some(Arc::new(filter))).map_err(|error| {
        let code = if error.is_limit() { code::LIMIT_EXCEEDED } else { code::BAD_REQUEST };
        CommandError(code, error.to_string())
    })
}

/// A copy of the application's data.
fn copy_data(data: Option<&Data<'_>>) -> Option<Bytes> {
    data.map(|data| Bytes::copy_from_slice(&data.bytes))
}

impl Context<'_> {
    /// Responds to a rejected command, unless it must wait.
    fn client_refusal(&mut self, id: u32, refusal: &CommandError) -> Progress {
        if self.session().has_queued() {
            return Progress::Hold;
        }
        self.refuse(id, refusal.0, &refusal.1);
        if self.is_closing() { Progress::End } else { Progress::Next }
    }

    pub(super) fn client_subscribe(&mut self, id: u32, subscribe: &request::Subscribe<'_>) -> Progress {
        if !self.session().can_subscribe() {
            return Progress::Hold;
        }
        let begun = client_channel(&subscribe.channel).and_then(|channel| {
            let filter = filter(subscribe, self.link().encoding())?;
            let sub_options = SubscribeOptions { filter, ..options_of_kind(subscribe)? };
            let (token, data) = (subscribe.token.clone().into_owned(), copy_data(subscribe.data.as_ref()));
            let request = SubscribeRequest { id, channel, sub_options, token, data };
            self.operations().subscribe(request)
        });
        match begun {
            Err(refusal) => self.client_refusal(id, &refusal),
            Ok(()) if self.is_closing() => Progress::End,
            Ok(()) => Progress::Next,
        }
    }

    pub(super) fn client_connect(&mut self, id: u32, connect: &request::Connect<'_>) -> Progress {
        // A client that requests a filter must not receive all publications.
        if connect.subs.iter().any(|(_, sub)| sub.tf.is_some()) {
            self.refuse(
                id,
                code::BAD_REQUEST,
                "bad request: a filter by tags is for subscribe, and not for connect",
            );
            return if self.is_closing() { Progress::End } else { Progress::Next };
        }
        // A stream that the server itself has authorized, see `Arrival::is_backend`.
        let is_backend = self.session().identity.is_backend();
        // The response of the hook contains all channels; the client contributes only positions.
        let is_hooked = !is_backend && connect.token.is_empty() && self.hub.settings().connect_proxy;
        let has_user = !connect.token.is_empty() || self.hub.has_proxied_user(self.slot);
        let needs_decision = is_hooked || !is_backend && has_user;
        let requested = connect.subs.iter().filter_map(|(channel, sub)| {
            let channel = Channel::new(&**channel).ok()?;
            // A channel that cannot be recovered is reported in its part of the reply; an error would fail all
            // channels.
            Some((
                channel,
                SubscribeOptions {
                    by_client: !is_hooked,
                    all_or_error: false,
                    // Clients apply deltas in subscriptions of their own alone.
                    delta: false,
                    ..sub_options(sub)
                },
            ))
        });
        // One more than the limit, so that an excess is detected.
        let requested: Vec<_> = requested.take(self.hub.settings().channel_limit.saturating_add(1)).collect();
        if requested.len() > self.hub.settings().channel_limit {
            self.operations().end_for_channel_limit();
            return Progress::End;
        }
        self.session_mut().set_requested(requested);
        let access = &self.hub.settings().access;
        if !needs_decision {
            if !(is_backend || access.open || access.anonymous_connect) {
                self.refuse(id, code::UNAUTHORIZED, code::UNAUTHORIZED.text);
                return if self.is_closing() { Progress::End } else { Progress::Next };
            }
            self.client_accept(id, Connected::default());
            return if self.is_closing() { Progress::End } else { Progress::Next };
        }
        let decision = AuthorizationRequest::Connect {
            requester: self.hub.requester(self.slot),
            token: connect.token.clone().into_owned(),
            data: copy_data(connect.data.as_ref()),
            name: connect.name.clone().into_owned(),
            version: connect.version.clone().into_owned(),
            headers: connect
                .headers
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone().into_owned()))
                .collect(),
        };
        self.hub.request(self.slot, id, Request::Authorize(Box::new(decision)), self.fx);
        Progress::Next
    }

    pub(super) fn client_unsubscribe(&mut self, id: u32, name: &str) {
        match client_channel(name) {
            Err(refusal) => self.refuse(id, refusal.0, &refusal.1),
            Ok(channel) => {
                // In this protocol, an unsubscribe without a subscription is no error.
                self.hub.unsubscribe(self.slot, &Topic::Channel(channel), self.fx);
                self.reply(id, Outcome::Unsubscribe);
                self.operations().drop_empty_user_state();
            }
        }
    }

    pub(super) fn client_publish(&mut self, id: u32, publish: &request::Publish<'_>) -> Progress {
        if !self.session().can_request() {
            return Progress::Hold;
        }
        let checked = client_channel(&publish.channel).and_then(|channel| {
            let is_map = match kind(publish.kind)? {
                SubscriptionKind::Stream => false,
                SubscriptionKind::Map(MapKind::Keys) => true,
                kind => {
                    let text = format!("not available: the server maintains the keys of {}", kind.name());
                    return Err(CommandError(code::NOT_AVAILABLE, text));
                }
            };
            if is_map && publish.removed {
                return self.hub.map_change_request(self.slot, channel, &publish.key, None);
            }
            // In Protobuf, an empty body is an absent field.
            let protobuf = self.link().encoding() == Encoding::Protobuf;
            let body = match &publish.data {
                Some(data) => Bytes::copy_from_slice(&data.bytes),
                None if protobuf => Bytes::new(),
                None => {
                    let words = "bad request: publish without data".to_owned();
                    return Err(CommandError(code::BAD_REQUEST, words));
                }
            };
            self.hub.check_name(self.slot, Action::Publish, &channel)?;
            if is_map {
                return self.hub.map_change_request(self.slot, channel, &publish.key, Some(body));
            }
            Ok(self.hub.publish_request(self.slot, channel, body, Vec::new())?)
        });
        match checked {
            Err(refusal) => self.client_refusal(id, &refusal),
            Ok(request) => {
                self.hub.count_publish();
                self.hub.request_unordered(self.slot, id, None, request, self.fx);
                Progress::Next
            }
        }
    }

    pub(super) fn client_presence(&mut self, id: u32, name: &str, stats: bool) -> Progress {
        if !self.session().can_read() {
            return Progress::Hold;
        }
        match self.check_read(name, Action::Presence, |options| options.presence) {
            Err(refusal) => self.client_refusal(id, &refusal),
            Ok(channel) => {
                let request =
                    if stats { Request::PresenceStats(channel) } else { Request::Presence(channel) };
                self.hub.request_unordered(self.slot, id, None, request, self.fx);
                Progress::Next
            }
        }
    }

    pub(super) fn client_history(&mut self, id: u32, history: &request::History<'_>) -> Progress {
        if !self.session().can_read() {
            return Progress::Hold;
        }
        let query = HistoryQuery {
            limit: usize::try_from(history.limit)
                .ok()
                .map(|limit| limit.min(self.hub.settings().history_limit))
                .or(Some(self.hub.settings().history_limit)),
            since: history
                .since
                .as_ref()
                .map(|since| Position { offset: since.offset, epoch: (&*since.epoch).into() }),
            reverse: history.reverse,
            for_subscriber: false,
            max_bytes: self.hub.settings().recovery_bytes,
        };
        match self.check_read(&history.channel, Action::History, NamespaceOptions::has_history) {
            Err(refusal) => self.client_refusal(id, &refusal),
            Ok(channel) => {
                self.hub.request_unordered(
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

    /// The channel of a read, if the session has the permission, and the channel has the requested data.
    fn check_read(
        &self,
        name: &str,
        action: Action,
        keeps: impl Fn(&NamespaceOptions) -> bool,
    ) -> Result<Channel, CommandError> {
        let channel = client_channel(name)?;
        if !keeps(self.hub.settings().namespaces.options(channel.as_str())?) {
            return Err(code::NOT_AVAILABLE.into());
        }
        self.hub.check_name(self.slot, action, &channel)?;
        self.hub.authorize_command(self.slot, action, &channel)?;
        Ok(channel)
    }

    pub(super) fn client_rpc(&mut self, id: u32, rpc: &request::Rpc<'_>) -> Progress {
        if !self.session().can_request() {
            return Progress::Hold;
        }
        if self.hub.settings().rpc_ping.as_deref() == Some(&*rpc.method) {
            self.reply(id, Outcome::Rpc(reply::Rpc { data: None }));
            return Progress::Next;
        }
        let method = rpc.method.clone().into_owned();
        let decision = AuthorizationRequest::Rpc {
            requester: self.hub.requester(self.slot),
            method,
            data: copy_data(rpc.data.as_ref()),
        };
        self.hub.request_unordered(self.slot, id, None, Request::Authorize(Box::new(decision)), self.fx);
        Progress::Next
    }

    pub(super) fn client_refresh(&mut self, id: u32, token: &str) -> Progress {
        if !self.session().can_request() {
            return Progress::Hold;
        }
        let decision = AuthorizationRequest::Refresh {
            requester: self.hub.requester(self.slot),
            token: token.to_owned(),
        };
        self.hub.request_unordered(self.slot, id, None, Request::Authorize(Box::new(decision)), self.fx);
        Progress::Next
    }

    pub(super) fn client_sub_refresh(&mut self, id: u32, refresh: &request::SubRefresh<'_>) -> Progress {
        if !self.session().can_request() {
            return Progress::Hold;
        }
        if refresh.kind != 0 {
            return self.client_track(id, refresh);
        }
        let request::SubRefresh { channel: name, token, .. } = refresh;
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
                let requester = self.hub.requester(self.slot);
                let (own, token) = (channel.clone(), token.clone().into_owned());
                let decision = AuthorizationRequest::SubRefresh { requester, channel: own, token };
                self.hub.request_unordered(
                    self.slot,
                    id,
                    Some(channel),
                    Request::Authorize(Box::new(decision)),
                    self.fx,
                );
                Progress::Next
            }
        }
    }

    /// Changes the keys of a shared poll that the client tracks.
    fn client_track(&mut self, id: u32, refresh: &request::SubRefresh<'_>) -> Progress {
        let bad = |text: &str| Err(CommandError(code::BAD_REQUEST, format!("bad request: {text}")));
        let begun = client_channel(&refresh.channel).and_then(|channel| {
            match refresh.kind {
                TRACK if refresh.track.is_empty() => return bad("track without keys"),
                UNTRACK if refresh.untrack.is_empty() => return bad("untrack without keys"),
                UNTRACK if !refresh.track.is_empty() => return bad("untrack with keys to track"),
                TRACK | UNTRACK => {}
                _ => return bad("the type of sub_refresh is 0 (token), 1 (track) or 2 (untrack)"),
            }
            let batches = refresh.track.iter().map(|batch| TrackedKeys {
                signature: batch.signature.clone().into_owned(),
                items: batch.items.iter().map(|item| (item.key.clone().into_owned(), item.version)).collect(),
            });
            let untrack = refresh.untrack.iter().map(|key| key.clone().into_owned()).collect();
            let request = self.hub.track_request(self.slot, channel.clone(), batches.collect(), untrack)?;
            Ok((channel, request))
        });
        match begun {
            Err(refusal) => self.client_refusal(id, &refusal),
            Ok((channel, request)) => {
                self.hub.request_unordered(self.slot, id, Some(channel), request, self.fx);
                Progress::Next
            }
        }
    }
}

fn client_channel(name: &str) -> Result<Channel, CommandError> {
    Channel::new(name).map_err(|error| CommandError(code::BAD_REQUEST, format!("bad request: {error}")))
}
