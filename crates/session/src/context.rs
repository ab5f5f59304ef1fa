//! One session in the middle of an operation: the hub, the session's place in it, and the effects.

use std::sync::Arc;

use tidings_hub::{
    CloseReason, Connected, Cost, Effects, Failure, Flag, Progress, Rejection, Session, Slot, TopicKey,
};
use tidings_wire::code::{self, Code};
use tidings_wire::{Publication, form};

use crate::Hub;
use crate::link::Link;
use crate::protocols::Protocols;
use crate::state::PeerFlag;

/// A session, and what an operation on it needs.
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

    /// Sets or clears a flag of the protocol; gives what it was.
    pub(crate) fn set(&mut self, flag: PeerFlag, on: bool) -> bool {
        self.session_mut().peer.set(flag, on)
    }

    /// Changes the link, and with it the form in which the session takes publications.
    pub(crate) fn set_link(&mut self, link: Link) {
        let mut peer = self.session().peer;
        self.hub.protocols.moved(peer.link, link);
        peer.link = link;
        self.hub.set_peer(self.slot, peer);
    }

    /// Has `write` append bytes for the session's peer.
    pub(crate) fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.fx.send(self.slot, write);
    }

    /// Sends publications to this session alone, in its form.
    pub(crate) fn send_publications(&mut self, key: TopicKey, publications: &[Arc<Publication>]) {
        let to = self.link().form();
        if to.is_addressed() {
            return self.send_addressed(key, publications);
        }
        let Some(entry) = self.hub.entry(key) else { return };
        self.fx.send(self.slot, |out| {
            for publication in publications {
                form::encode(to, &entry.context(), publication, out);
            }
        });
    }

    /// The same, in an addressed form.
    fn send_addressed(&mut self, key: TopicKey, publications: &[Arc<Publication>]) {
        let (to, slot) = (self.link().form(), self.slot);
        let address = self.link().protocol().module().address;
        let mut shared = Vec::new();
        for publication in publications {
            let Some(entry) = self.hub.entry(key) else { return };
            shared.clear();
            form::encode(to, &entry.context(), publication, &mut shared);
            let hub = &mut *self.hub;
            self.fx.send(slot, |out| address(hub, slot, key, &shared, out));
        }
    }

    /// Ends the session.
    pub(crate) fn end(&mut self, ending: &CloseReason) {
        self.hub.end(self.slot, ending, self.fx);
    }

    /// Whether the session was ended.
    pub(crate) fn is_closing(&self) -> bool {
        self.hub.is_closing(self.slot)
    }

    /// Carries out what must not overtake a response that is still owed.
    pub(crate) fn in_turn(&mut self, act: impl FnOnce(&mut Self)) -> Progress {
        if self.session().is_queued() {
            return Progress::Hold;
        }
        act(self);
        if self.is_closing() { Progress::End } else { Progress::Next }
    }

    /// Carries out a command with `act` if the limits of its address and its user allow it; otherwise it is answered with
    /// error 111. `id` is its number in the client protocol; one without a number has no response.
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

    /// The same; `refuse` answers a command past a limit with the words that it is given.
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

    /// Charges input that is no command; `false` past a limit: then it is not answered.
    pub(crate) fn charge_input(&mut self, bytes: usize) -> bool {
        self.hub.charge_input(self.slot, bytes)
    }

    /// A token of `AUTH` was accepted: notes the user, and the channels that the client may subscribe to. `false` when that
    /// failed; then it is answered.
    pub(crate) fn accept_with_grants(&mut self, mut connected: Connected) -> bool {
        let granted = match self.hub.channels_of(&mut connected) {
            Ok(granted) => granted,
            Err(failure) => {
                self.failed(0, &failure);
                return false;
            }
        };
        if !self.hub.identify(self.slot, &connected, self.fx) {
            return false;
        }
        let session = self.session_mut();
        session.flags.set(Flag::Connected, true);
        session.set_granted(granted);
        true
    }

    /// Answers a command that failed.
    pub(crate) fn failed(&mut self, id: u32, failure: &Failure) {
        if let Failure::Disconnect(code, text) = failure {
            return self.end(&CloseReason::Code(*code, text.clone()));
        }
        let (code, text) = failure_words(failure);
        self.refuse(id, code, &text);
    }

    /// Answers a command with an error.
    pub(crate) fn refuse(&mut self, id: u32, code: Code, text: &str) {
        (self.link().protocol().module().refuse)(self, id, code, text);
    }
}

fn failure_words(failure: &Failure) -> (Code, String) {
    match failure {
        Failure::Unavailable => (code::INTERNAL, "broker unavailable".into()),
        Failure::Overloaded => (code::TOO_MANY_REQUESTS, "broker overloaded".into()),
        Failure::Error(verdict) => {
            let Rejection { code, text, temporary } = verdict;
            (Code { number: *code, text: "", temporary: *temporary }, text.clone())
        }
        Failure::Disconnect(code, text) => (Code { number: *code, text: "", temporary: false }, text.clone()),
    }
}
