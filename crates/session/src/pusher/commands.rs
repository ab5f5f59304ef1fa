//! The commands of clients.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidings_hub::{
    Admission, AuthorizationRequest, ChannelOverrides, CloseReason, Connected, Flag, Progress, RecoverFrom,
    SubscribeOptions,
};
use tidings_pusher::{self as codec, App, ChannelKind, Command, Member, SignIn, Subscribe, codes};
use tidings_wire::{Channel, Topic};

use super::state::Pending;
use crate::context::Context;
use crate::messages::Request;

/// Why a subscription is rejected: the type, the text and the status of the error.
struct Rejection(&'static str, String, u16);

impl Rejection {
    fn unauthorized(text: impl Into<String>) -> Self {
        Self("AuthError", text.into(), 401)
    }

    fn invalid(text: impl Into<String>) -> Self {
        Self("InvalidRequest", text.into(), 400)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Context<'_> {
    pub(super) fn pusher_command(&mut self, command: &Command<'_>) -> Progress {
        if !self.session().flags.has(Flag::Connected) {
            // The connect hook has not decided yet.
            return if self.session().has_pending() { Progress::Hold } else { Progress::End };
        }
        match command {
            Command::Ping => {
                self.in_turn(|cx| cx.pusher_write(|out| codec::internal("pusher:pong", None, "{}", out)))
            }
            Command::Pong => Progress::Next,
            Command::Subscribe(subscribe) => self.pusher_subscribe(subscribe),
            Command::Unsubscribe(name) => self.in_turn(|cx| cx.pusher_unsubscribe(name)),
            Command::SignIn(sign_in) => self.in_turn(|cx| cx.pusher_sign_in(sign_in)),
            Command::ClientEvent { event, channel, data } => self.pusher_client_event(event, channel, data),
        }
    }

    fn pusher_subscribe(&mut self, subscribe: &Subscribe<'_>) -> Progress {
        if !self.session().can_subscribe() {
            return Progress::Hold;
        }
        let Some(app) = self.pusher_app() else { return Progress::Next };
        let name = &*subscribe.channel;
        let (channel, member) = match self.pusher_check_subscribe(&app, subscribe) {
            Ok(checked) => checked,
            Err(Rejection(kind, text, status)) => {
                return self.in_turn(|cx| cx.pusher_reject_subscription(name, kind, &text, status));
            }
        };
        if let Some(member) = &member
            && let Some(roster) = self.hub.protocols.rosters.get(&channel)
            && roster.is_loaded()
            && roster.is_full(&member.user_id, app.limits.presence_members)
        {
            return self.in_turn(|cx| cx.pusher_channel_full(name));
        }
        let is_presence = member.is_some().then_some(true);
        let is_cache = codec::is_cache(name);
        let overrides = ChannelOverrides {
            presence: is_presence,
            join_leave: is_presence,
            force_push_join_leave: is_presence,
            force_recovery: is_cache.then_some(true),
            ..ChannelOverrides::default()
        };
        let info = member.as_ref().map(|member| Bytes::from(member.data()));
        let options = SubscribeOptions {
            since: is_cache.then(|| RecoverFrom { offset: 0, epoch: String::new() }),
            // A client does not get its own events, nor those of a request with its socket id.
            no_local: true,
            ..SubscribeOptions::default()
        };
        let pending = Pending::Subscribe { name: name.into(), member: member.map(Box::new) };
        let id = self.pusher().begin(pending);
        let admission = Admission { info, overrides, ..Admission::default() };
        if let Err(error) = self.operations().subscribe_admitted(id, channel, options, admission) {
            return self.in_turn(|cx| cx.pusher_refuse(id, error.0, &error.1));
        }
        if self.is_closing() { Progress::End } else { Progress::Next }
    }

    /// Checks the name, the signature and the member of a subscription.
    fn pusher_check_subscribe(
        &self,
        app: &App,
        subscribe: &Subscribe<'_>,
    ) -> Result<(Channel, Option<Member>), Rejection> {
        let name = &*subscribe.channel;
        codec::check_channel(name).map_err(|error| Rejection::invalid(error.to_string()))?;
        let kind = ChannelKind::of(name);
        if kind != ChannelKind::Public {
            let auth = subscribe.auth.as_deref();
            let auth =
                auth.ok_or_else(|| Rejection::unauthorized("the channel needs auth: key:signature"))?;
            let socket = self.pusher_socket().to_string();
            let data = subscribe.channel_data.as_deref();
            app.secret.verify_channel(&app.key, auth, &socket, name, data).map_err(|error| {
                count(&app.counters.unauthorized);
                Rejection::unauthorized(error.to_string())
            })?;
        }
        let member = match (kind, subscribe.channel_data.as_deref()) {
            (ChannelKind::Presence, Some(data)) => {
                Some(Member::parse(data).map_err(|error| Rejection::invalid(error.to_string()))?)
            }
            (ChannelKind::Presence, None) => {
                return Err(Rejection::invalid("a presence channel needs channel_data with a user_id"));
            }
            _ => None,
        };
        let channel =
            Channel::new(app.channel(name)).map_err(|error| Rejection::invalid(error.to_string()))?;
        Ok((channel, member))
    }

    pub(super) fn pusher_channel_full(&mut self, name: &str) {
        let Some(app) = self.pusher_app() else { return };
        count(&app.counters.members_refused);
        let limit = app.limits.presence_members;
        let text = format!(
            "the channel has {limit} users, the limit of a presence channel (limits.presence_members)"
        );
        self.pusher_reject_subscription(name, "LimitReached", &text, codes::OVER_QUOTA.number);
    }

    fn pusher_unsubscribe(&mut self, name: &str) {
        let Some(channel) = self.pusher_app().and_then(|app| Channel::new(app.channel(name)).ok()) else {
            return self.pusher_reject(None, &format!("not subscribed to {name:?}"));
        };
        // A client that unsubscribes while it is not subscribed needs no error.
        self.pusher_leave(&channel);
        self.hub.unsubscribe(self.slot, &Topic::Channel(channel), self.fx);
    }

    /// Signs the user of the connection in. A connection has one user until it ends.
    fn pusher_sign_in(&mut self, sign_in: &SignIn<'_>) {
        let Some(app) = self.pusher_app() else { return };
        let end = |cx: &mut Self, text: &str| {
            cx.hub.count_error();
            cx.end(&CloseReason::Code(codes::UNAUTHORIZED.number, text.to_owned()));
        };
        let SignIn { auth, user_data } = sign_in;
        if self.pusher().is_signed_in {
            return self.pusher_reject(None, "signed in already");
        }
        let socket = self.pusher_socket().to_string();
        if let Err(error) = app.secret.verify_user(&app.key, auth, &socket, user_data) {
            count(&app.counters.unauthorized);
            return end(self, &error.to_string());
        }
        let user = codec::signed_in_user(user_data);
        let user = match user {
            Ok(user) => user,
            Err(error) => return end(self, &error.to_string()),
        };
        self.pusher().is_signed_in = true;
        let requester = self.hub.requester(self.slot);
        let request = AuthorizationRequest::SignIn { requester, user: app.user(&user) };
        let pending = Pending::SignIn { user: user.into(), data: (&**user_data).into() };
        let id = self.pusher().begin(pending);
        self.hub.request(self.slot, id, Request::Authorize(Box::new(request)), self.fx);
    }

    /// The user is accepted: it is subscribed to its own channel.
    pub(super) fn pusher_signed_in(&mut self, id: u32, connected: &Connected) {
        let Some(Pending::SignIn { user, data }) = self.pusher().take(id) else { return };
        let Some(app) = self.pusher_app() else { return };
        // What the connect hook has set stays.
        let connected = self.operations().merge_connected(connected);
        if !self.operations().set_user(&connected) {
            return;
        }
        let channel = Channel::new(app.channel(&App::user_channel(&user)));
        let id = self.pusher().begin(Pending::UserChannel { user, data });
        let channel = channel.expect("a prefix and the id of a user fit into a name");
        let (options, admission) = (SubscribeOptions::default(), Admission::default());
        if let Err(error) = self.operations().subscribe_admitted(id, channel, options, admission) {
            self.pusher_refuse(id, error.0, &error.1);
        }
    }

    fn pusher_client_event(&mut self, event: &str, name: &str, data: &str) -> Progress {
        if !self.session().can_publish() {
            return Progress::Hold;
        }
        let Some(app) = self.pusher_app() else { return Progress::Next };
        match self.pusher_check_client_event(&app, event, name, data) {
            Ok(channel) => {
                count(&app.counters.client_events);
                let body = Bytes::copy_from_slice(data.as_bytes());
                let tags = vec![("event".to_owned(), event.to_owned())];
                let request = self.hub.admitted_publish(self.slot, channel, body, tags);
                self.hub.request(self.slot, 0, request, self.fx);
                Progress::Next
            }
            Err(text) => {
                count(&app.counters.client_events_rejected);
                self.in_turn(|cx| cx.pusher_reject(Some(codes::CLIENT_EVENT_REJECTED), &text))
            }
        }
    }

    fn pusher_check_client_event(
        &mut self,
        app: &App,
        event: &str,
        name: &str,
        data: &str,
    ) -> Result<Channel, String> {
        if !app.client_events {
            return Err("client events are disabled for this app (client_events)".to_owned());
        }
        codec::check_event(event).map_err(|error| error.to_string())?;
        if !ChannelKind::of(name).allows_client_events() {
            return Err("client events are available in private and presence channels only".to_owned());
        }
        let channel = Channel::new(app.channel(name)).ok();
        let channel = channel.filter(|channel| self.hub.is_subscribed(self.slot, channel));
        let channel = channel.ok_or_else(|| "the client is not subscribed to the channel".to_owned())?;
        let settings = self.hub.settings();
        if settings
            .namespaces
            .options(channel.as_str())
            .is_ok_and(|options| options.subscribe_stream_bidirectional)
        {
            // The publications of clients go to the streams of their subscriptions alone.
            return Err(
                "client events are not available in channels with subscribe_stream_bidirectional".to_owned()
            );
        }
        if data.len() > app.limits.event_size {
            let limit = app.limits.event_size;
            return Err(format!("the data has {} bytes, more than {limit} (limits.event_size)", data.len()));
        }
        let (now, limit) = (self.hub.time(), app.limits.client_event_rate);
        if !self.pusher().count_client_event(now, limit) {
            return Err(format!("more than {limit} client events in a second (limits.client_event_rate)"));
        }
        Ok(channel)
    }
}
