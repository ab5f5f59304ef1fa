//! Presence: the refresh of a client's membership before it expires, and the reports of joins and leaves.

use std::time::Duration;

use tidings_wire::{Channel, ClientInfo, Topic};

use crate::context::Context;
use crate::effects::{Effect, Effects, Notification, Timer};
use crate::hub::Hub;
use crate::index::Slot;
use crate::protocols::{PresenceChange, Protocols};
use crate::user_state::{SubscriptionFlag, SubscriptionFlags};

/// How often the presence of a client is refreshed; below its time to live.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(25);

impl<P: Protocols> Hub<P> {
    /// A client has joined or left a channel: reports it to the subscribers that requested it.
    pub fn on_presence_change(
        &mut self,
        channel: &Channel,
        joined: bool,
        info: &ClientInfo,
        fx: &mut Effects<P::Messages>,
    ) {
        let Some(key) = self.topics.key(&Topic::Channel(channel.clone())) else { return };
        let Some(entry) = self.topics.get(key) else { return };
        let watching = |slot: &Slot| {
            let user_state = self.sessions[slot.index()].user_state();
            user_state
                .and_then(|user_state| user_state.sub(key))
                .is_some_and(|sub| sub.flags.has(SubscriptionFlag::Watching))
        };
        let slots: Vec<Slot> = entry.all_subscribers().filter(watching).collect();
        P::presence_changed(self, &slots, &PresenceChange { channel, joined, info }, fx);
    }
}

impl<P: Protocols> Context<'_, P> {
    /// Starts the timer that refreshes a session's presence.
    pub(crate) fn start_presence_timer(&mut self) {
        if let Some(user_state) = self.session_mut().user_state_mut()
            && !std::mem::replace(&mut user_state.presence_timer, true)
        {
            self.start_timer(Timer::Presence, PRESENCE_INTERVAL);
        }
    }

    /// Refreshes the presence of a session, if it is present in any channel.
    pub(crate) fn refresh_presence(&mut self) {
        let Some(user_state) = self.session_mut().user_state_mut() else { return };
        user_state.presence_timer = false;
        let is_present = |flags: SubscriptionFlags| {
            flags.has(SubscriptionFlag::Present) || flags.has(SubscriptionFlag::InMaps)
        };
        let present = user_state.subs.iter().filter(|sub| is_present(sub.flags));
        let present: Vec<_> = present.map(|sub| (sub.topic, sub.flags)).collect();
        for (key, flags) in &present {
            let Some(channel) = self.hub.channel_of(*key) else { continue };
            if flags.has(SubscriptionFlag::InMaps) {
                self.enter_maps(&channel, *key);
            }
            if flags.has(SubscriptionFlag::Present) {
                let info = Box::new(self.hub.client_info(self.slot, Some(*key)));
                let announced = flags.has(SubscriptionFlag::Announced);
                self.fx.push(Effect::Notify(Notification::Present(channel, info, announced)));
            }
        }
        if present.is_empty() {
            self.drop_empty_user_state();
        } else {
            self.start_presence_timer();
        }
    }
}
