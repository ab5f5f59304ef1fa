//! Presence as a map: the subscribers of a channel are keys of a map in another channel.
//!
//! A client that subscribes sets its keys, and renews them with the timer of the presence. Its id is removed when it
//! unsubscribes; its user, who may have other connections, expires.

use tidings_wire::Channel;
use tidings_wire::channel::ChannelError;

use crate::context::Context;
use crate::effects::{Effect, Notification};
use crate::index::TopicKey;
use crate::protocols::Protocols;

/// The beginnings of the names of the maps with the subscribers of a channel; the name of the channel follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceMaps {
    /// Of the map of clients, if there is one.
    pub clients: Option<Box<str>>,
    /// Of the map of users, if there is one.
    pub users: Option<Box<str>>,
}

impl PresenceMaps {
    fn clients_of(&self, channel: &Channel) -> Option<Result<Channel, ChannelError>> {
        self.clients.as_ref().map(|prefix| Channel::new(format!("{prefix}{channel}")))
    }

    fn users_of(&self, channel: &Channel) -> Option<Result<Channel, ChannelError>> {
        self.users.as_ref().map(|prefix| Channel::new(format!("{prefix}{channel}")))
    }

    /// Checks that the names of the maps of a channel are valid.
    ///
    /// # Errors
    /// A text for the client.
    pub(crate) fn check(&self, channel: &Channel) -> Result<(), String> {
        for (name, option) in [
            (self.clients_of(channel), "map_clients_presence_channel_prefix"),
            (self.users_of(channel), "map_users_presence_channel_prefix"),
        ] {
            if let Some(Err(error)) = name {
                return Err(format!("bad request: the channel of its presence ({option}): {error}"));
            }
        }
        Ok(())
    }
}

impl<P: Protocols> Context<'_, P> {
    /// Sets or renews the keys of a subscriber in the maps of its channel.
    pub(crate) fn enter_maps(&mut self, channel: &Channel, topic: TopicKey) {
        let Some(maps) = self.hub.options(channel).presence_maps.clone() else { return };
        let info = self.hub.client_info(self.slot, Some(topic));
        // An anonymous client has no user.
        if let (Some(Ok(users)), false) = (maps.users_of(channel), info.user.is_empty()) {
            self.fx.push(Effect::Notify(Notification::MapEntered(users, info.user.as_str().into(), None)));
        }
        if let Some(Ok(clients)) = maps.clients_of(channel) {
            let key = info.client.as_str().into();
            self.fx.push(Effect::Notify(Notification::MapEntered(clients, key, Some(Box::new(info)))));
        }
    }

    /// Removes the id of a subscriber from the map of clients of its channel.
    pub(crate) fn leave_maps(&mut self, channel: &Channel) {
        let Some(maps) = &self.hub.options(channel).presence_maps else { return };
        if let Some(Ok(clients)) = maps.clients_of(channel) {
            let key = self.hub.client_id(self.id());
            self.fx.push(Effect::Notify(Notification::MapLeft(clients, key.into())));
        }
    }
}
