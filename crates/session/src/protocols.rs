//! The registry of protocols: calls the module of a session's protocol.
//!
//! Invariants:
//! - A protocol is one row of [`Protocol::module`]: no other module lists protocols.
//! - Publications do not pass through a module: the shard encodes them by their wire form.

use std::mem::discriminant;
use std::sync::Arc;

use tidings_hub::{
    CloseReason, LossReport, PresenceChange, SentMark, ServerSubscription, Slot, Timer, TopicKey,
};
use tidings_wire::body::DataFormat;
use tidings_wire::client::Encoding;
use tidings_wire::ws::Kind;
use tidings_wire::{Channel, Form, Publication};

use crate::context::Context;
use crate::link::{Link, Protocol};
use crate::messages::{Effects, Event, Messages};
use crate::module::{Addressed, Module};
use crate::peer::Peer;
use crate::shared::Protocols;
use crate::state::State;
use crate::{Hub, client, events, mqtt, plain, pusher, resp, stomp};

impl Protocol {
    /// The functions of the protocol.
    pub(crate) fn module(self) -> &'static Module {
        match self {
            Self::Unknown | Self::Plain => &plain::MODULE,
            Self::Resp { .. } => &resp::MODULE,
            Self::Client { .. } => &client::MODULE,
            Self::Events => &events::MODULE,
            Self::Stomp => &stomp::MODULE,
            Self::Pusher => &pusher::MODULE,
            Self::Mqtt { .. } => &mqtt::MODULE,
        }
    }
}

impl Link {
    /// Whether WebSocket messages of this kind contain its commands.
    pub(crate) fn accepts(self, kind: Kind) -> bool {
        (self.protocol().module().accepts)(self, kind)
    }
}

impl tidings_hub::Peer for Peer {
    fn form(self) -> Form {
        self.link.form()
    }

    fn name(self) -> &'static str {
        self.link.name()
    }

    fn encoding(self) -> Encoding {
        self.link.encoding()
    }

    fn publication_len(self, publication: &Publication, format: DataFormat) -> usize {
        self.link.encoding().publication_len(publication, format)
    }

    fn loss_report(self) -> LossReport {
        (self.link.protocol().module().loss_report)(self.link)
    }

    fn server_subscription(self, channel: &Channel) -> ServerSubscription {
        (self.link.protocol().module().server_subscription)(channel)
    }

    fn has_connect(self) -> bool {
        self.link.protocol().module().has_connect
    }

    fn answers_pings(self) -> bool {
        self.link.protocol().module().answers_pings && !self.link.is_one_way()
    }

    fn recovers(self) -> bool {
        (self.link.protocol().module().recovers)(self.link)
    }
}

/// Appends the messages of one publication for the session in `slot`. Its form must be
/// [addressed](tidings_wire::Form::is_addressed), and the end of each in `out`. `shared` is the publication encoded in that
/// form.
pub fn address(
    hub: &mut Hub,
    slot: Slot,
    topic: TopicKey,
    publication: &Arc<Publication>,
    shared: &[u8],
    out: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Addressed {
    let Some(session) = hub.get_session(slot) else { return Addressed::Droppable };
    let module = session.peer.link.protocol().module();
    (module.address)(hub, slot, topic, publication, shared, out, ends)
}

impl tidings_hub::Protocols for Protocols {
    type Peer = Peer;
    type State = State;
    type Messages = Messages;

    fn opened(hub: &mut Hub, slot: Slot, fx: &mut Effects) {
        let link = hub.session(slot).peer.link;
        hub.protocols.links[link.index()] += 1;
        hub.protocols.link_changes += 1;
        (link.protocol().module().begin)(&mut Context::new(hub, slot, fx));
    }

    fn event(hub: &mut Hub, slot: Slot, event: Event<'_>, fx: &mut Effects) {
        let mut cx = Context::new(hub, slot, fx);
        let module = cx.link().protocol().module();
        match event {
            Event::Failed { id, failure } => cx.failed(id, failure),
            Event::Ready(bytes) => cx.send(|out| out.extend_from_slice(bytes)),
            Event::Closing(reason) => (module.closing)(&mut cx, reason),
            event => (module.event)(&mut cx, event),
        }
    }

    fn presence_changed(hub: &mut Hub, slots: &[Slot], change: &PresenceChange<'_>, fx: &mut Effects) {
        // The subscribers of a channel may use several protocols.
        let mut rest = slots.to_vec();
        while let Some(first) = rest.first() {
            let protocol = hub.session(*first).peer.link.protocol();
            let is_same = |slot: &Slot| {
                discriminant(&hub.session(*slot).peer.link.protocol()) == discriminant(&protocol)
            };
            let (same, others): (Vec<Slot>, Vec<Slot>) = rest.iter().partition(|slot| is_same(slot));
            (protocol.module().presence_changed)(hub, &same, change, fx);
            rest = others;
        }
    }

    fn expired(hub: &mut Hub, slot: Slot, timer: Timer, fx: &mut Effects) {
        let mut cx = Context::new(hub, slot, fx);
        let is_connected = cx.session().flags.has(tidings_hub::Flag::Connected);
        match timer {
            Timer::FirstByte => cx.make_auto_subscriptions(),
            Timer::Stale if !is_connected => cx.end(&CloseReason::Stale),
            Timer::FirstInput if cx.link() == Link::UNKNOWN => cx.end(&CloseReason::Stale),
            timer => (cx.link().protocol().module().expired)(&mut cx, timer),
        }
    }

    fn responded(hub: &mut Hub, slot: Slot, mark: SentMark, fx: &mut Effects) {
        if hub.get_session(slot).is_some() {
            let mut cx = Context::new(hub, slot, fx);
            (cx.link().protocol().module().responded)(&mut cx, mark);
        }
    }

    fn disconnected(hub: &mut Hub, slot: Slot, fx: &mut Effects) {
        let mut cx = Context::new(hub, slot, fx);
        (cx.link().protocol().module().disconnected)(&mut cx);
    }

    fn named(&self, user: &str, name: &str) -> Option<Slot> {
        self.clients.get(user, name)
    }

    fn set_announced(&mut self, user: &str, name: &str) {
        self.clients.set_announced(user, name);
    }

    fn is_announced(&self, user: &str, name: &str, now: u64) -> bool {
        self.clients.is_announced(user, name, now)
    }

    fn closed(&mut self, peer: Peer, state: Option<&State>) {
        self.links[peer.link.index()] -= 1;
        self.link_changes += 1;
        self.kept -= state.map_or(0, State::kept);
        (peer.link.protocol().module().closed)(self, peer, state);
    }
}
