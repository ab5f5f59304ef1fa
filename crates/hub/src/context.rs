//! The context of an operation on a session: the hub, the session's slot, and the effects.

use std::time::Duration;

use crate::close::CloseReason;
use crate::effects::{Effect, Effects, Timer};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::protocols::{Event, Protocols};
use crate::session::{Session, SessionId};

/// A session during an operation.
#[derive(Debug)]
pub struct Context<'a, P: Protocols> {
    pub(crate) hub: &'a mut Hub<P>,
    pub(crate) slot: Slot,
    pub(crate) fx: &'a mut Effects<P::Messages>,
}

impl<P: Protocols> Hub<P> {
    /// The context of an operation on the session in `slot`. The operations panic if the slot is empty.
    pub fn context<'a>(&'a mut self, slot: Slot, fx: &'a mut Effects<P::Messages>) -> Context<'a, P> {
        Context { hub: self, slot, fx }
    }
}

impl<P: Protocols> Context<'_, P> {
    pub(crate) fn session(&self) -> &Session<P> {
        self.hub.session(self.slot)
    }

    pub(crate) fn session_mut(&mut self) -> &mut Session<P> {
        self.hub.session_mut(self.slot)
    }

    pub(crate) fn id(&self) -> SessionId {
        self.hub.session_id(self.slot)
    }

    pub(crate) fn start_timer(&mut self, timer: Timer, after: Duration) {
        let id = self.id();
        self.fx.push(Effect::Start(id, timer, after));
    }

    pub(crate) fn event(&mut self, event: Event<'_, P::Messages>) {
        self.hub.event(self.slot, event, self.fx);
    }

    pub(crate) fn end(&mut self, reason: &CloseReason) {
        self.hub.end(self.slot, reason, self.fx);
    }

    pub(crate) fn advance(&mut self) {
        self.hub.advance(self.slot, self.fx);
    }

    pub(crate) fn unsubscribe_key(&mut self, key: TopicKey) -> bool {
        self.hub.unsubscribe_key(self.slot, key, self.fx)
    }

    pub(crate) fn unsubscribe_all(&mut self) {
        self.hub.unsubscribe_all(self.slot, self.fx);
    }

    pub(crate) fn release(&mut self, key: TopicKey) {
        self.hub.release(key, self.fx);
    }
}
