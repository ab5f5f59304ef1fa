//! New settings for a hub with sessions.
//!
//! Every operation from now on uses the new settings. A subscription and the state of a session stay as they are, with two
//! exceptions: the properties of topics are those of the new settings, and a backend whose API key is no longer valid is
//! ended.

use std::sync::Arc;

use tidings_wire::code;

use crate::access::Identity;
use crate::close::CloseReason;
use crate::effects::Effects;
use crate::hub::Hub;
use crate::index::Slot;
use crate::protocols::Protocols;
use crate::settings::Settings;

impl<P: Protocols> Hub<P> {
    /// Replaces the settings. The key of sessions and the meters of usage must be those of the settings before.
    pub fn set_settings(&mut self, settings: Arc<Settings>, fx: &mut Effects<P::Messages>) {
        let before = std::mem::replace(&mut self.settings, settings);
        let settings = Arc::clone(&self.settings);
        self.topics.reconfigure(|topic| settings.topic_options(topic));
        self.meter_existing_users();
        if before.access.keys != settings.access.keys {
            self.carry_over_backends(&before, fx);
        }
    }

    /// Gives each backend the new number of its key, or ends it.
    fn carry_over_backends(&mut self, before: &Settings, fx: &mut Effects<P::Messages>) {
        let keys = &self.settings.access.keys;
        let mut ended = Vec::new();
        for (slot, session) in &mut self.sessions {
            let Some(key) = session.identity.key() else { continue };
            match keys.carry_over(&before.access.keys, key) {
                Some(key) => session.identity = Identity::backend(key),
                None => {
                    session.identity = Identity::ANONYMOUS;
                    ended.push(Slot::from_index(slot));
                }
            }
        }
        for slot in ended {
            let reason = format!("{}: the API key is no longer valid", code::INVALID_TOKEN.text);
            self.end(slot, &CloseReason::Code(code::INVALID_TOKEN.number, reason), fx);
        }
    }
}
