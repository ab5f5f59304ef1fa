//! Watchlists: a signed-in user gets online and offline events of the users that its application lists.
//!
//! The connections of a user are the members of a channel of their own (`#online-ID`). A watcher subscribes to that channel
//! without being a member, and follows its members.

use bytes::Bytes;
use tidings_hub::{Admission, ChannelOverrides, SubscribeOptions};
use tidings_pusher::{self as codec, App, Member, codes};
use tidings_wire::Channel;

use super::state::Pending;
use crate::context::Context;

/// The event with the users who have come online or gone offline.
pub(super) const EVENT: &str = "pusher_internal:watchlist_events";

impl Context<'_> {
    /// The user of the session has signed in with this `user_data`: it comes online, and follows the users of its watchlist.
    pub(super) fn pusher_watch(&mut self, user: &str, data: &str) {
        let Some(app) = self.pusher_app().filter(|app| app.watchlist_events) else { return };
        let member = Member { user_id: user.to_owned(), user_info: None };
        if !self.pusher_subscribe_online(&app, user, Pending::Online, Some(&member)) {
            return;
        }
        let watched = match codec::watchlist(data) {
            Ok(watched) => watched,
            Err(error) => return self.pusher_reject(Some(codes::WATCHLIST_REJECTED), &error.to_string()),
        };
        for other in watched.iter().filter(|other| *other != user) {
            let pending = Pending::Watch { user: other.as_str().into() };
            if !self.pusher_subscribe_online(&app, other, pending, None) || self.is_closing() {
                return;
            }
        }
    }

    /// Subscribes to the channel of a user's connections, as one of them if `member` is given. Returns `false` and reports an
    /// error if it is refused at once.
    fn pusher_subscribe_online(
        &mut self,
        app: &App,
        user: &str,
        pending: Pending,
        member: Option<&Member>,
    ) -> bool {
        let channel = Channel::new(app.channel(&App::online_channel(user)));
        let channel = channel.expect("a prefix and the id of a user fit into a name");
        let overrides = ChannelOverrides {
            presence: Some(member.is_some()),
            join_leave: Some(member.is_some()),
            force_push_join_leave: Some(member.is_none()),
            force_recovery: Some(false),
            force_positioning: Some(false),
        };
        let info = member.map(|member| Bytes::from(member.data()));
        let admission = Admission { info, overrides, ..Admission::default() };
        let id = self.pusher().begin(pending);
        let begun = self.operations().subscribe_admitted(id, channel, SubscribeOptions::default(), admission);
        if let Err(error) = &begun {
            self.pusher_refuse(id, error.0, &error.1);
        }
        begun.is_ok()
    }

    /// Sends an `online` event to a watcher if the user is online, and nothing otherwise.
    pub(super) fn pusher_send_online(&mut self, channel: &Channel) {
        let user = codec::visible_name(channel.as_str()).strip_prefix(codec::ONLINE);
        if let Some(user) = user
            && self.hub.protocols.rosters.get(channel).is_some_and(|roster| roster.has_user(user))
        {
            let data = codec::watchlist_event(true, user);
            self.pusher_write(|out| codec::internal(EVENT, None, &data, out));
        }
    }
}
