//! Commands of the application to sessions: subscribe, unsubscribe, disconnect, refresh.

use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, Position, Topic};

use crate::authorization::{Admission, Rejection, Renewed, TokenId};
use crate::close::CloseReason;
use crate::connect::seconds_left;
use crate::context::Context;
use crate::effects::Effects;
use crate::hub::Hub;
use crate::identity::locate;
use crate::index::{Slot, TopicKey};
use crate::protocols::{Event, Peer as _, Protocols, ServerSubscription};
use crate::session::Flag;
use crate::subscribe::{Origin, PendingSubscribe, RecoverFrom, SubscribeOptions, SubscribeState};

/// A command of the application to sessions, and its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCommand {
    /// The sessions of this user. If empty and `client` or `session` is set, the user does not matter; if all are
    /// empty, the sessions of anonymous clients.
    pub user: String,
    /// The connection with this id.
    pub client: Option<String>,
    /// The session with this secret.
    pub session: Option<String>,
    /// The effect on each session.
    pub action: SessionAction,
}

/// The effect of a command on a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionAction {
    /// Subscribe to a channel.
    Subscribe {
        /// The channel.
        channel: Channel,
        /// The properties of the subscription.
        admission: Box<Admission>,
        /// Recover from this position.
        since: Option<Position>,
    },
    /// Unsubscribe.
    Unsubscribe {
        /// The channel; `None` for all channels.
        channel: Option<Channel>,
        /// The code for the client; from 2500 on it subscribes again.
        code: u16,
        /// The reason.
        reason: String,
    },
    /// End the session.
    Disconnect {
        /// The code for the client; below 3500 it connects again.
        code: u16,
        /// The reason.
        reason: String,
        /// The ids of connections that are not ended.
        except: Vec<String>,
    },
    /// End the session in favour of a newer connection of the same user.
    Replace {
        /// The id of the newer connection.
        client: String,
        /// When that was accepted, in Unix microseconds. Connections with the same time are ordered by their ids.
        since: u64,
    },
    /// End the session of the user whose client has chosen a name, in favour of a newer connection.
    TakeOver {
        /// The name.
        name: String,
        /// The id of the newer connection.
        client: String,
    },
    /// End sessions and subscriptions with matching tokens. A user in the command is optional.
    EndTokens {
        /// The id of the token.
        id: Option<String>,
        /// Tokens issued before this time, in Unix seconds, or without a time.
        issued_before: Option<u64>,
        /// The code for the client; from 3500 on it does not connect again.
        code: u16,
        /// The reason.
        reason: String,
    },
    /// Change the expiry of a session, or end it as expired.
    Refresh {
        /// End it as expired.
        expired: bool,
        /// The new expiry, in Unix seconds; `None` is never.
        expires: Option<u64>,
    },
}

impl<P: Protocols> Hub<P> {
    /// Executes the action of a command on its sessions of this shard.
    pub fn apply_session_command(&mut self, command: &SessionCommand, fx: &mut Effects<P::Messages>) {
        if let SessionAction::TakeOver { name, client } = &command.action
            && let Some(slot) = self.protocols.named(&command.user, name)
        {
            if self.client_id(self.session_id(slot)) == *client {
                return self.protocols.set_announced(&command.user, name);
            }
            if !self.protocols.is_announced(&command.user, name, self.time) {
                return;
            }
        }
        for slot in self.target_sessions(command) {
            if self.sessions.contains(slot.index()) && !self.is_closing(slot) {
                self.clients.session_commands += 1;
                self.context(slot, fx).apply_action(&command.action);
            }
        }
    }

    /// The sessions of a command.
    fn target_sessions(&self, command: &SessionCommand) -> Vec<Slot> {
        let SessionCommand { user, client, session, .. } = command;
        if let SessionAction::TakeOver { name, .. } = &command.action {
            return self.protocols.named(user, name).into_iter().collect();
        }
        let mut slots: Vec<Slot> = if let Some(session) = session {
            let found = locate(&self.settings.session_key, session);
            found
                .filter(|(shard, id)| *shard == self.shard.0 && self.is_current(*id))
                .map(|(_, id)| id.slot)
                .into_iter()
                .collect()
        } else if !user.is_empty() {
            self.users.get(user.as_str()).cloned().unwrap_or_default()
        } else {
            self.slots()
        };
        let by_token = matches!(command.action, SessionAction::EndTokens { .. });
        let is_anyone = user.is_empty() && (client.is_some() || session.is_some() || by_token);
        // Sessions that are not accepted yet are included; with a client id, also those of protocols without accounts.
        let is_end = by_token
            || matches!(command.action, SessionAction::Disconnect { .. } | SessionAction::Replace { .. });
        let is_one = client.is_some() && matches!(command.action, SessionAction::Disconnect { .. });
        slots.retain(|slot| {
            let session = &self.sessions[slot.index()];
            let session_user = session.user_state().map(|user_state| &*user_state.user).unwrap_or_default();
            (session.flags.has(Flag::Connected) || is_one || is_end && session.user_state().is_some())
                && (is_anyone || session_user == user)
                && client.as_ref().is_none_or(|client| self.client_id(self.session_id(*slot)) == *client)
                && self.has_token_of(*slot, &command.action)
        });
        slots
    }

    /// Whether the action names no tokens, or names the token of the session or of one of its subscriptions.
    fn has_token_of(&self, slot: Slot, action: &SessionAction) -> bool {
        let SessionAction::EndTokens { .. } = action else { return true };
        let session = &self.sessions[slot.index()];
        let is_named = |token: Option<&TokenId>| token.is_some_and(|token| names_token(action, token));
        self.has_connection_token_of(slot, action)
            || session.user_state().is_some_and(|m| m.subs.iter().any(|sub| is_named(sub.token.as_deref())))
            || session.pending_subscribes().any(|subscribe| is_named(subscribe.admission.token.as_ref()))
    }

    /// Whether the action names the token of the connection.
    fn has_connection_token_of(&self, slot: Slot, action: &SessionAction) -> bool {
        let Some(user_state) = self.sessions[slot.index()].user_state() else { return false };
        let Some(issued) = user_state.token_issued else { return false };
        let token = TokenId { id: user_state.token_id.as_deref().map(str::to_owned), issued: Some(issued) };
        names_token(action, &token)
    }
}

impl<P: Protocols> Context<'_, P> {
    /// Ends the subscriptions of a session with a token that the action names, also those in progress. The client does
    /// not subscribe again by itself.
    fn end_subscriptions(&mut self, action: &SessionAction, reason: &str) {
        let is_named = |token: Option<&TokenId>| token.is_some_and(|token| names_token(action, token));
        let user_state = self.session().user_state();
        let subs = user_state.into_iter().flat_map(|user_state| &user_state.subs);
        let keys: Vec<TopicKey> =
            subs.filter(|sub| is_named(sub.token.as_deref())).map(|sub| sub.topic).collect();
        self.cancel_pending(code::UNAUTHORIZED, |subscribe| is_named(subscribe.admission.token.as_ref()));
        for key in keys {
            self.end_subscription(key, code::UNSUBSCRIBED_BY_SERVER.number, reason);
        }
        self.drop_empty_user_state();
    }

    fn apply_action(&mut self, action: &SessionAction) {
        match action {
            SessionAction::Subscribe { channel, admission, since } => {
                let since = since
                    .as_ref()
                    .map(|p| RecoverFrom { offset: p.offset, epoch: p.epoch.as_str().to_owned() });
                self.subscribe_by_server(channel, admission, since);
            }
            SessionAction::Unsubscribe { channel, code, reason } => {
                let keys: Vec<TopicKey> = match channel {
                    Some(channel) => {
                        self.hub.topics.key(&Topic::Channel(channel.clone())).into_iter().collect()
                    }
                    None => self.session().subscriptions().iter().map(|s| s.topic).collect(),
                };
                self.cancel_pending(code::UNSUBSCRIBED_BY_SERVER, |subscribe| {
                    subscribe.origin == Origin::SessionCommand
                        && channel.as_ref().is_none_or(|channel| subscribe.channel == *channel)
                });
                for key in keys {
                    self.end_subscription(key, *code, reason);
                }
                self.drop_empty_user_state();
            }
            SessionAction::Disconnect { code, reason, except } => {
                if !except.contains(&self.hub.client_id(self.id())) {
                    self.end(&CloseReason::Code(*code, reason.clone()));
                }
            }
            SessionAction::Replace { client, since } => {
                let own = self.session().user_state().map_or(0, |user_state| user_state.since);
                let name = self.hub.client_id(self.id());
                if name != *client && (own, name) < (*since, client.clone()) {
                    let reason = "replaced by a newer connection of the user (client.single_connection)";
                    self.end(&CloseReason::Code(code::FORCE_DISCONNECT.number, reason.to_owned()));
                }
            }
            SessionAction::TakeOver { client, .. } => {
                debug_assert_ne!(self.hub.client_id(self.id()), *client);
                let code = code::SESSION_TAKEN_OVER;
                self.end(&CloseReason::Code(code.number, code.text.to_owned()));
            }
            SessionAction::EndTokens { code, reason, .. }
                if self.hub.has_connection_token_of(self.slot, action) =>
            {
                self.end(&CloseReason::Code(*code, reason.clone()));
            }
            SessionAction::EndTokens { reason, .. } => self.end_subscriptions(action, reason),
            SessionAction::Refresh { expired: true, .. } => self.end(&CloseReason::Expired),
            SessionAction::Refresh { expires, .. } => {
                self.renew_connection(&Renewed { expires: *expires, ..Renewed::default() });
                let left = expires.map(|at| seconds_left(at, self.hub.time));
                self.event(Event::Renewed(left));
            }
        }
    }

    fn subscribe_by_server(&mut self, channel: &Channel, admission: &Admission, since: Option<RecoverFrom>) {
        if self.hub.settings.access.is_reserved(channel.as_str()) {
            // The server API of this version refuses such an action; other nodes may not.
            self.hub.errors += 1;
            return;
        }
        let session = self.session();
        if session.subscriptions().len() + session.subscribe_count() >= self.hub.settings.channel_limit {
            return self.end(&CloseReason::Code(code::CHANNEL_LIMIT.number, code::CHANNEL_LIMIT.text.into()));
        }
        match session.peer.server_subscription(channel) {
            ServerSubscription::Reported => {}
            // Such a subscription would get all publications.
            ServerSubscription::Unreported if admission.filter.is_some() => {
                self.hub.errors += 1;
                return;
            }
            ServerSubscription::Unreported => {
                return self.hub.subscribe_silently(self.slot, &Topic::Channel(channel.clone()), self.fx);
            }
            ServerSubscription::Refused => {
                self.hub.errors += 1;
                return;
            }
            ServerSubscription::Ignored => return,
        }
        let mut sub_options = SubscribeOptions { since, ..SubscribeOptions::default() };
        let state = self.begin_topic(channel, &mut sub_options, admission);
        let (channel, admission) = (channel.clone(), admission.clone());
        let subscribe =
            PendingSubscribe { channel, origin: Origin::SessionCommand, sub_options, admission, state };
        self.enqueue_subscribe(subscribe);
    }

    /// Cancels the subscriptions in progress that match `which`.
    fn cancel_pending(&mut self, code: Code, which: impl Fn(&PendingSubscribe) -> bool) {
        let mut index = 0;
        loop {
            let Some(cold) = self.session_mut().existing_cold() else { return };
            let Some(subscribe) = cold.pending.pending_subscribes_mut().nth(index) else { break };
            index += 1;
            if !which(subscribe) {
                continue;
            }
            let (recording, held) = (subscribe.recording_topic(), subscribe.held_topic());
            let joined = subscribe.has_joined_poll().then(|| subscribe.channel.clone());
            subscribe.state = SubscribeState::Failed(Rejection::from(code).into());
            if let Some(channel) = joined {
                self.leave_poll(channel);
            }
            self.release_pending(recording, held);
        }
        self.advance();
    }
}

/// Whether the action ends this token includes this one.
fn names_token(action: &SessionAction, token: &TokenId) -> bool {
    let SessionAction::EndTokens { id, issued_before, .. } = action else { return false };
    (id.is_none() || token.id == *id) && issued_before.is_none_or(|time| token.issued.unwrap_or(0) < time)
}
