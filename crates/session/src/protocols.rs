//! The registry of protocols, and what all sessions of one hub share for them.
//!
//! Invariants:
//! - A protocol is one row of [`Protocol::module`]: no other module lists protocols.
//! - Publications pass by: a shard encodes them by their form, without a call into a module.

use std::fmt;
use std::mem::discriminant;

use tidings_hub::{
    CloseReason, Effects, Event, LossReport, PresenceChange, SentMark, ServerSubscription, Slot, Timer,
    TopicKey,
};
use tidings_wire::Channel;
use tidings_wire::code::Code;
use tidings_wire::resp::Decoder;
use tidings_wire::ws::Kind;
use tidings_wire::ws::deflate::{Counts, Inflater};

use crate::context::Context;
use crate::frames::Frames;
use crate::input::{Step, Why};
use crate::link::{Link, Protocol};
use crate::state::{Peer, State};
use crate::{Hub, client, events, plain, resp, stomp};

/// A protocol: how its sessions read, and how they take events. [`Module::DEFAULT`] has the functions that do nothing.
pub(crate) struct Module {
    /// Carries out the commands in bytes of a connection that is no WebSocket. The first so many of them hold no line
    /// break.
    pub(crate) run: fn(&mut Context<'_>, &[u8], usize) -> Step,
    /// Carries out the commands in one message of a WebSocket; gives how many bytes of it are done with.
    pub(crate) message: fn(&mut Context<'_>, &[u8]) -> (usize, Why),
    /// How many of these bytes to append to those that are kept, so that the limit on a command is noticed.
    pub(crate) next_piece: fn(&Context<'_>, held: usize, bytes: &[u8]) -> usize,
    /// Answers the command with this number with an error.
    pub(crate) refuse: fn(&mut Context<'_>, u32, Code, &str),
    /// Reports an input that is longer than a limit, before the session ends.
    pub(crate) too_long: fn(&mut Context<'_>, &str),
    /// Reports an event to the peer.
    pub(crate) event: fn(&mut Context<'_>, Event<'_>),
    /// Responses were written to the session since the mark.
    pub(crate) responded: fn(&mut Context<'_>, SentMark),
    /// Reports the end of the session to the peer.
    pub(crate) closing: fn(&mut Context<'_>, &CloseReason),
    /// Notifies sessions of the protocol that a client has joined or left a channel.
    pub(crate) presence_changed: fn(&mut Hub, &[Slot], &PresenceChange<'_>, &mut Effects),
    /// A session of the protocol begins.
    pub(crate) begin: fn(&mut Context<'_>),
    /// How it reports that publications are missing.
    pub(crate) loss_report: fn(Link) -> LossReport,
    /// How it takes a subscription that the client did not request.
    pub(crate) server_subscription: fn(&Channel) -> ServerSubscription,
    /// Whether clients connect by a command.
    pub(crate) has_connect: bool,
    /// Whether clients answer pings.
    pub(crate) answers_pings: bool,
    /// Whether commands come in WebSocket messages of this kind.
    pub(crate) accepts: fn(Link, Kind) -> bool,
    /// Appends the messages for one session, where the form of its publications is
    /// [addressed](tidings_wire::Form::is_addressed): from the bytes that all subscribers share.
    pub(crate) address: fn(&mut Hub, Slot, TopicKey, &[u8], &mut Vec<u8>),
}

impl Module {
    /// A module without commands, events and state.
    pub(crate) const DEFAULT: Self = Self {
        run: |_, bytes, _| Step { used: bytes.len(), why: Why::Partial },
        message: |_, bytes| (bytes.len(), Why::Partial),
        next_piece: |_, _, bytes| bytes.len(),
        refuse: |_, _, _, _| {},
        too_long: |_, _| {},
        event: |_, _| {},
        responded: |_, _| {},
        closing: |_, _| {},
        presence_changed: |_, _, _, _| {},
        begin: |_| {},
        loss_report: |_| LossReport::Close,
        server_subscription: |_| ServerSubscription::Ignored,
        has_connect: false,
        answers_pings: false,
        accepts: |_, kind| kind == Kind::Text,
        address: |_, _, _, _, _| {},
    };
}

impl Protocol {
    /// The module of a protocol.
    pub(crate) fn module(self) -> &'static Module {
        match self {
            Self::Unknown | Self::Plain => &plain::MODULE,
            Self::Resp { .. } => &resp::MODULE,
            Self::Client { .. } => &client::MODULE,
            Self::Events => &events::MODULE,
            Self::Stomp => &stomp::MODULE,
        }
    }
}

/// Appends the messages of one publication for the session in `slot`, which takes publications in an
/// [addressed](tidings_wire::Form::is_addressed) form: from the `shared` bytes that the form was encoded to.
pub fn address(hub: &mut Hub, slot: Slot, topic: TopicKey, shared: &[u8], out: &mut Vec<u8>) {
    if let Some(session) = hub.get_session(slot) {
        (session.peer.link.protocol().module().address)(hub, slot, topic, shared, out);
    }
}

/// What the sessions of one hub share for their protocols.
#[derive(Default)]
pub struct Protocols {
    /// Sessions by link, in the order of [`Link::index`].
    links: [u64; Link::COUNT],
    /// Bytes of input that are kept for all sessions.
    pub(crate) kept: usize,
    /// The decoder of RESP sessions that have nothing half read.
    pub(crate) decoder: Decoder,
    /// What WebSockets that have nothing half read are read through.
    pub(crate) frames: Option<Box<Frames>>,
    /// What compressed messages are read with.
    pub(crate) inflater: Inflater,
}

impl fmt::Debug for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocols")
            .field("links", &self.links)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

/// Numbers about the protocols of a hub, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions by link, in the order of [`Link::index`].
    pub sessions: [u64; Link::COUNT],
    /// Bytes of half-read commands, and of those that wait for their turn.
    pub input_bytes: u64,
    /// Compressed messages of clients, since the start.
    pub inflated: Counts,
}

impl Protocols {
    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        Stats { sessions: self.links, input_bytes: self.kept as u64, inflated: self.inflater.counts() }
    }

    /// Bytes that clients' compressed messages have become since the start.
    pub fn inflated(&self) -> u64 {
        self.inflater.counts().plain
    }

    /// A session changed its link.
    pub(crate) fn moved(&mut self, from: Link, to: Link) {
        self.links[from.index()] -= 1;
        self.links[to.index()] += 1;
    }
}

impl tidings_hub::Protocols for Protocols {
    type Peer = Peer;
    type State = State;

    fn opened(hub: &mut Hub, slot: Slot, fx: &mut Effects) {
        let link = hub.session(slot).peer.link;
        hub.protocols.links[link.index()] += 1;
        (link.protocol().module().begin)(&mut Context::new(hub, slot, fx));
    }

    fn event(hub: &mut Hub, slot: Slot, event: Event<'_>, fx: &mut Effects) {
        let mut cx = Context::new(hub, slot, fx);
        let module = cx.link().protocol().module();
        match event {
            Event::Failed { id, failure } => cx.failed(id, failure),
            Event::Ready(bytes) => cx.send(|out| out.extend_from_slice(bytes)),
            Event::Closing(ending) => (module.closing)(&mut cx, ending),
            event => (module.event)(&mut cx, event),
        }
    }

    fn presence_changed(hub: &mut Hub, slots: &[Slot], change: &PresenceChange<'_>, fx: &mut Effects) {
        // A channel's subscribers may use several protocols.
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
            Timer::FirstByte => cx.release_held(),
            Timer::Stale if !is_connected => cx.end(&CloseReason::Stale),
            Timer::Introduction if cx.link() == Link::UNKNOWN => cx.end(&CloseReason::Stale),
            _ => {}
        }
    }

    fn responded(hub: &mut Hub, slot: Slot, mark: SentMark, fx: &mut Effects) {
        if hub.get_session(slot).is_some() {
            let mut cx = Context::new(hub, slot, fx);
            (cx.link().protocol().module().responded)(&mut cx, mark);
        }
    }

    fn closed(&mut self, peer: Peer, state: Option<&State>) {
        self.links[peer.link.index()] -= 1;
        self.kept -= state.map_or(0, State::kept);
    }
}
