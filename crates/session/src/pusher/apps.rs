//! Apps that a reload has removed.

use std::sync::Arc;

use tidings_hub::CloseReason;
use tidings_pusher::{App, codes};

use super::Opening;
use crate::Hub;
use crate::messages::Effects;
use crate::settings::ProtocolSettings;

/// Ends the sessions of apps that `next` does not have: with code 4001, or with 4200 if another app there has their key, so that
/// clients connect to that one. `next` must be set afterwards.
///
/// An app with another key or another prefix of channels has another number there: its channels have other names.
pub fn end_removed_apps(hub: &mut Hub, next: &ProtocolSettings, fx: &mut Effects) {
    let settings = Arc::clone(&hub.protocols.settings);
    let is_removed = |number: u8| !next.pusher_apps.contains_key(&number);
    // The sessions are searched only where an app is removed.
    if !settings.pusher_apps.keys().any(|number| is_removed(*number)) {
        return;
    }
    let has_key = |key: &str| next.pusher_apps.values().any(|app| app.key == key);
    for slot in hub.slots() {
        let peer = &mut hub.session_mut(slot).peer;
        if peer.link.protocol() != crate::Protocol::Pusher {
            continue;
        }
        let Opening::App(number) = Opening::from_parameter(peer.parameter()) else { continue };
        let removed = settings.pusher_apps.get(&number).filter(|_| is_removed(number));
        let Some(app) = removed else { continue };
        // The connection is counted here, because the app is not found when it is closed.
        peer.set_parameter(Opening::Refused.parameter());
        App::close_connection(app);
        let (code, text) = if has_key(&app.key) {
            (codes::RECONNECT.number, "the channels of the app have other names")
        } else {
            (codes::UNKNOWN_APP.number, codes::UNKNOWN_APP.text)
        };
        hub.end(slot, &CloseReason::Code(code, text.to_owned()), fx);
    }
}
