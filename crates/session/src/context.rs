//! The context of an operation on a session: the hub, the session's slot, and the effects.

use std::sync::Arc;

use tidings_hub::{
    CloseReason, Connected, Cost, Failure, Flag, Progress, Rejection, Session, Slot, TopicKey,
};
use tidings_wire::code::{self, Code};
use tidings_wire::{Publication, form};

use crate::Hub;
use crate::link::Link;
use crate::messages::Effects;
use crate::module::Addressed;
use crate::peer::PeerFlag;
use crate::shared::Protocols;

/// A session during an operation.
pub(crate) struct Context<'a> {
    pub(crate) hub: &'a mut Hub,
    pub(crate) slot: Slot,
    pub(crate) fx: &'a mut Effects,
}

impl<'a> Context<'a> {
    pub(crate) fn new(hub: &'a mut Hub, slot: Slot, fx: &'a mut Effects) -> Self {
        Self { hub, slot, fx }
    }
}

impl Context<'_> {
    /// The operations of the hub on the session.
    pub(crate) fn operations(&mut self) -> tidings_hub::Context<'_, Protocols> {
        self.hub.context(self.slot, self.fx)
    }

    pub(crate) fn session(&self) -> &Session<Protocols> {
        self.hub.session(self.slot)
    }

    pub(crate) fn session_mut(&mut self) -> &mut Session<Protocols> {
        self.hub.session_mut(self.slot)
    }

    pub(crate) fn link(&self) -> Link {
        self.session().peer.link
    }

    pub(crate) fn has(&self, flag: PeerFlag) -> bool {
        self.session().peer.has(flag)
    }

    /// Sets or clears a flag of the protocol; returns its previous value.
    pub(crate) fn set(&mut self, flag: PeerFlag, on: bool) -> bool {
        self.session_mut().peer.set(flag, on)
    }

    /// Changes the link, and with it the wire form of publications.
    pub(crate) fn set_link(&mut self, link: Link) {
        let mut peer = self.session().peer;
        self.hub.protocols.link_changed(peer.link, link);
        peer.link = link;
        self.hub.set_peer(self.slot, peer);
    }

    /// Sends the bytes that `write` appends to the session's peer.
    pub(crate) fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.fx.send(self.slot, write);
    }

    /// Sends publications to this session alone, in its wire form.
    pub(crate) fn send_publications(&mut self, key: TopicKey, publications: &[Arc<Publication>]) {
        let to = self.link().form();
        if to.is_addressed() {
            return self.send_addressed(key, publications);
        }
        let has_deltas = self.hub.has_deltas(key, self.slot);
        let encoding = self.link().encoding();
        let Some(entry) = self.hub.entry(key) else { return };
        self.fx.send(self.slot, |out| {
            for publication in publications {
                if has_deltas {
                    let content = encoding.content(publication, entry.context().data_format);
                    form::encode_content(to, &entry.context(), publication, (&content, false), None, out);
                    continue;
                }
                form::encode(to, &entry.context(), publication, out);
            }
        });
    }

    /// Sends publications to this session alone, in its addressed form.
    fn send_addressed(&mut self, key: TopicKey, publications: &[Arc<Publication>]) {
        let (to, slot) = (self.link().form(), self.slot);
        let address = self.link().protocol().module().address;
        let mut shared = Vec::new();
        for publication in publications {
            let Some(entry) = self.hub.entry(key) else { return };
            shared.clear();
            form::encode(to, &entry.context(), publication, &mut shared);
            let hub = &mut *self.hub;
            let mut result = Addressed::Droppable;
            self.fx.send(slot, |out| {
                result = address(hub, slot, key, publication, &shared, out, &mut Vec::new());
            });
            if result == Addressed::Overflow {
                return self.end(&CloseReason::Slow(1));
            }
        }
    }

    /// Ends the session.
    pub(crate) fn end(&mut self, reason: &CloseReason) {
        self.hub.end(self.slot, reason, self.fx);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.hub.is_closing(self.slot)
    }

    /// Executes a command that must not overtake a pending response.
    pub(crate) fn in_turn(&mut self, act: impl FnOnce(&mut Self)) -> Progress {
        if self.session().has_queued() {
            return Progress::Hold;
        }
        act(self);
        if self.is_closing() { Progress::End } else { Progress::Next }
    }

    /// Executes a command with `act` if the limits of its address and its user allow it; otherwise responds with error
    /// 111. `id` is its id in the client protocol; a command with id 0 there has no response.
    pub(crate) fn metered(
        &mut self,
        id: u32,
        cost: Cost,
        act: impl FnOnce(&mut Context<'_>) -> Progress,
    ) -> Progress {
        self.metered_or(cost, act, |cx, words| {
            let is_silent = id == 0 && cx.link().is_client();
            if is_silent {
                cx.hub.count_error();
            } else {
                cx.refuse(id, code::TOO_MANY_REQUESTS, words);
            }
        })
    }

    /// Like [`Context::metered`], but `refuse` responds to a command beyond a limit; its argument names the limit.
    pub(crate) fn metered_or(
        &mut self,
        cost: Cost,
        act: impl FnOnce(&mut Context<'_>) -> Progress,
        refuse: impl FnOnce(&mut Context<'_>, &str),
    ) -> Progress {
        let slot = self.slot;
        self.hub.metered_or(
            slot,
            cost,
            self.fx,
            |hub, fx| act(&mut Context::new(hub, slot, fx)),
            |hub, words, fx| refuse(&mut Context::new(hub, slot, fx), words),
        )
    }

    /// Charges input that is no command. Returns `false` if a limit is exceeded; then the input is not answered.
    pub(crate) fn charge_input(&mut self, bytes: usize) -> bool {
        self.hub.charge_input(self.slot, bytes)
    }

    /// Sets the user of an accepted `AUTH` token, and the channels that the client may subscribe to. Returns `false`
    /// after an error response if that fails.
    pub(crate) fn accept_with_grants(&mut self, mut connected: Connected) -> bool {
        let granted = match self.hub.connection_channels(&mut connected) {
            Ok(granted) => granted,
            Err(failure) => {
                self.failed(0, &failure);
                return false;
            }
        };
        if !self.operations().set_user(&connected) {
            return false;
        }
        let session = self.session_mut();
        session.flags.set(Flag::Connected, true);
        session.set_granted(granted);
        true
    }

    /// Responds to a command that failed.
    pub(crate) fn failed(&mut self, id: u32, failure: &Failure) {
        if let Failure::Disconnect(code, text) = failure {
            return self.end(&CloseReason::Code(*code, text.clone()));
        }
        let (code, text) = failure_code_and_text(failure);
        self.refuse(id, code, &text);
    }

    /// Responds to a command with an error.
    pub(crate) fn refuse(&mut self, id: u32, code: Code, text: &str) {
        (self.link().protocol().module().refuse)(self, id, code, text);
    }
}

fn failure_code_and_text(failure: &Failure) -> (Code, String) {
    match failure {
        Failure::Unavailable => (code::INTERNAL, "broker unavailable".into()),
        Failure::Overloaded => (code::TOO_MANY_REQUESTS, "broker overloaded".into()),
        Failure::Error(rejection) => {
            let Rejection { code, text, temporary } = rejection;
            (Code { number: *code, text: "", temporary: *temporary }, text.clone())
        }
        Failure::Disconnect(code, text) => (Code { number: *code, text: "", temporary: false }, text.clone()),
    }
}
