//! Members of channels: the list for a new member of a presence channel, and changes for the others; a watched user, whose
//! connections are the members of a channel, is online while it has one.

use tidings_hub::{Hub, PresenceChange, Slot};
use tidings_pusher as codec;
use tidings_wire::ws::Opcode;
use tidings_wire::{Channel, ClientInfo, Topic};

use super::roster::{Change, Rosters};
use super::state::{Membership, Pending, Pusher, Role};
use super::watchlist;
use crate::context::Context;
use crate::messages::{Effects, Request};
use crate::shared::Protocols;

/// Most channels whose members a session reads again after a ping.
const MAX_REFRESHED: usize = 8;

/// A client has joined or left: sends it to the members if a user has come or gone by it.
pub(super) fn presence_changed(
    hub: &mut Hub<Protocols>,
    slots: &[Slot],
    change: &PresenceChange<'_>,
    fx: &mut Effects,
) {
    let Some(roster) = hub.protocols.rosters.get(change.channel) else { return };
    if let Some(user) = roster.on_change(change.joined, change.info) {
        send_change(hub, slots, change.channel, &user, fx);
    }
}

fn send_change(
    hub: &mut Hub<Protocols>,
    slots: &[Slot],
    channel: &Channel,
    change: &Change,
    fx: &mut Effects,
) {
    let name = codec::visible_name(channel.as_str());
    let user = serde_json::Value::from(&*change.user);
    let (event, data) = if change.is_added {
        ("pusher_internal:member_added", format!("{{\"user_id\":{user},\"user_info\":{}}}", change.info))
    } else {
        ("pusher_internal:member_removed", format!("{{\"user_id\":{user}}}"))
    };
    // A watched user is the one in the name of the channel. Clients of other protocols may be members of it.
    let user = name.strip_prefix(codec::ONLINE).filter(|user| **user == *change.user);
    let watched = user.map(|user| codec::watchlist_event(change.is_added, user));
    for slot in slots {
        let session = hub.session_mut(*slot);
        let framing = session.peer.link.framing();
        let state = session.existing_state().and_then(|state| state.pusher.as_mut());
        let own = state.and_then(|state| state.membership(channel)).filter(|own| own.is_ready);
        let (event, channel, data) = match own.map(|own| &own.role) {
            Some(Role::Member(member)) if *member.user_id != *change.user => (event, Some(name), &data),
            Some(Role::Watcher) => match &watched {
                Some(watched) => (watchlist::EVENT, None, watched),
                None => continue,
            },
            _ => continue,
        };
        fx.send(*slot, |out| {
            framing.frame_with(Opcode::Text, 256, out, |out| codec::internal(event, channel, data, out));
        });
    }
}

/// Releases the rosters of a session that ends.
pub(super) fn release(rosters: &mut Rosters, state: &Pusher) {
    for channel in state.reads() {
        if let Some(roster) = rosters.get(channel) {
            roster.request_ended();
        }
    }
    for membership in &state.memberships {
        rosters.remove_session(&membership.channel);
    }
}

impl Context<'_> {
    /// The session is subscribed to a channel whose members it follows. Their list is the confirmation of a presence channel.
    pub(super) fn pusher_follow(&mut self, channel: &Channel, role: Role) {
        let is_loaded = self.hub.protocols.rosters.add_session(channel).is_loaded();
        let membership = Membership { channel: channel.clone(), role, is_ready: false };
        self.pusher().memberships.push(membership);
        if is_loaded {
            self.pusher_send_members(channel);
        } else {
            self.pusher_read_members(channel, true);
        }
    }

    fn pusher_read_members(&mut self, channel: &Channel, is_new: bool) {
        let now = self.hub.time();
        let Some(roster) = self.hub.protocols.rosters.get(channel) else { return };
        roster.requested(now);
        let id = self.pusher().begin(Pending::Members { channel: channel.clone(), is_new });
        self.hub.request(self.slot, id, Request::Presence(channel.clone()), self.fx);
    }

    /// Reads the members of channels again whose list is old, or could not be read; of at most [`MAX_REFRESHED`].
    pub(super) fn pusher_refresh_members(&mut self) {
        let now = self.hub.time();
        if self.session().has_pending() {
            return;
        }
        let Some(state) = self.hub.session(self.slot).peek_state().and_then(|state| state.pusher.as_ref())
        else {
            return;
        };
        let channels: Vec<Channel> = state.memberships.iter().map(|own| own.channel.clone()).collect();
        let waiting =
            state.memberships.iter().filter(|own| !own.is_ready && matches!(own.role, Role::Watcher));
        let waiting: Vec<Channel> = waiting.map(|own| own.channel.clone()).collect();
        let rosters = &mut self.hub.protocols.rosters;
        let is_loaded = |channel: &Channel| rosters.get(channel).is_some_and(|roster| roster.is_loaded());
        // Another session has read what this one could not.
        for channel in waiting.into_iter().filter(is_loaded).collect::<Vec<_>>() {
            self.pusher_send_members(&channel);
        }
        let rosters = &self.hub.protocols.rosters;
        let mut stale: Vec<_> = channels
            .iter()
            .filter_map(|channel| Some((rosters.peek(channel)?, channel)))
            .filter(|(roster, _)| roster.is_stale(now))
            .collect();
        // Those that were read least recently, so that each one has its turn.
        stale.sort_by_key(|(roster, _)| roster.last_read());
        let stale: Vec<_> =
            stale.into_iter().take(MAX_REFRESHED).map(|(_, channel)| channel.clone()).collect();
        for channel in &stale {
            self.pusher_read_members(channel, false);
        }
    }

    /// The members of a channel were read.
    pub(super) fn pusher_members(&mut self, id: u32, members: &[ClientInfo]) {
        let Some(Pending::Members { channel, is_new }) = self.pusher().take(id) else { return };
        let Some(roster) = self.hub.protocols.rosters.get(&channel) else { return };
        let changes = roster.on_list(members);
        if !changes.is_empty()
            && let Some(key) = self.hub.topic(&Topic::Channel(channel.clone()))
            && let Some(entry) = self.hub.entry(key)
        {
            let slots: Vec<Slot> = entry.all_subscribers().collect();
            for change in changes {
                send_change(self.hub, &slots, &channel, &change, self.fx);
            }
        }
        let is_due = self.pusher().membership(&channel).is_some_and(|own| match own.role {
            Role::Member(_) => is_new,
            Role::Watcher => !own.is_ready,
        });
        if is_due {
            self.pusher_send_members(&channel);
        }
    }

    /// Confirms the subscription of a new member, unless its channel is full. Tells a watcher if the user is online.
    fn pusher_send_members(&mut self, channel: &Channel) {
        let (name, Some(app)) = (codec::visible_name(channel.as_str()), self.pusher_app()) else { return };
        let Some(own) = self.pusher().membership(channel) else { return };
        own.is_ready = true;
        let member = match &own.role {
            Role::Member(member) => member.clone(),
            Role::Watcher => return self.pusher_send_online(channel),
        };
        let Some(roster) = self.hub.protocols.rosters.get(channel) else { return };
        if roster.is_full(&member.user_id, app.limits.presence_members) {
            return self.pusher_refuse_member(channel);
        }
        let data = roster.describe(&member);
        self.pusher_confirm(name, &data);
    }

    /// Ends a subscription because its channel is full.
    fn pusher_refuse_member(&mut self, channel: &Channel) {
        self.pusher_leave(channel);
        self.hub.unsubscribe(self.slot, &Topic::Channel(channel.clone()), self.fx);
        self.pusher_channel_full(codec::visible_name(channel.as_str()));
    }

    /// The list of members could not be read. A new member is not confirmed; a watcher reads it later.
    pub(super) fn pusher_members_failed(&mut self, channel: &Channel, is_new: bool, text: &str) {
        if let Some(roster) = self.hub.protocols.rosters.get(channel) {
            roster.request_ended();
        }
        let is_member =
            self.pusher().membership(channel).is_some_and(|own| matches!(own.role, Role::Member(_)));
        if is_new && is_member {
            self.pusher_leave(channel);
            self.hub.unsubscribe(self.slot, &Topic::Channel(channel.clone()), self.fx);
            let name = codec::visible_name(channel.as_str());
            self.pusher_reject_subscription(name, "SubscriptionError", text, 503);
        }
    }

    /// The session is not a member of the channel any more.
    pub(super) fn pusher_leave(&mut self, channel: &Channel) {
        let state = self.session_mut().existing_state().and_then(|state| state.pusher.as_mut());
        let Some(memberships) = state.map(|state| &mut state.memberships) else { return };
        if let Some(at) = memberships.iter().position(|own| own.channel == *channel) {
            memberships.swap_remove(at);
            self.hub.protocols.rosters.remove_session(channel);
        }
    }
}
