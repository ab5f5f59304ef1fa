//! The registry of protocols, and the protocol state that all sessions of one hub share.
//!
//! Invariants:
//! - A protocol is one row of [`Protocol::module`]: no other module lists protocols.
//! - Publications do not pass through a module: the shard encodes them by their wire form.

use std::fmt;
use std::mem::discriminant;
use std::sync::Arc;

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
use crate::input::{Consumed, StopReason};
use crate::link::{Link, Protocol};
use crate::settings::ProtocolSettings;
use crate::state::{Peer, State};
use crate::{Hub, client, events, plain, resp, stomp};

/// See [`address`].
type AddressFn = fn(&mut Hub, Slot, TopicKey, &[u8], &mut Vec<u8>, &mut Vec<usize>);

/// The functions of a protocol: input of its sessions, and events for their peers. [`Module::DEFAULT`] has functions without
/// an effect.
pub(crate) struct Module {
    /// Executes the commands in the bytes of a connection that is not a WebSocket. The first `usize` bytes contain no line
    /// break.
    pub(crate) run: fn(&mut Context<'_>, &[u8], usize) -> Consumed,
    /// Executes the commands in one WebSocket message; returns the number of consumed bytes.
    pub(crate) message: fn(&mut Context<'_>, &[u8]) -> (usize, StopReason),
    /// How many of `bytes` to append to the `held` kept bytes, so that a command beyond the limit is detected.
    pub(crate) append_limit: fn(&Context<'_>, held: usize, bytes: &[u8]) -> usize,
    /// Responds to the command with this id with an error.
    pub(crate) refuse: fn(&mut Context<'_>, u32, Code, &str),
    /// Reports an input that is longer than a limit, before the session ends.
    pub(crate) too_long: fn(&mut Context<'_>, &str),
    /// Reports an event to the peer.
    pub(crate) event: fn(&mut Context<'_>, Event<'_>),
    /// Callback after responses were written to the session since the mark.
    pub(crate) responded: fn(&mut Context<'_>, SentMark),
    /// Reports the close reason to the peer.
    pub(crate) closing: fn(&mut Context<'_>, &CloseReason),
    /// Notifies sessions of the protocol that a client has joined or left a channel.
    pub(crate) presence_changed: fn(&mut Hub, &[Slot], &PresenceChange<'_>, &mut Effects),
    /// Callback when a session of the protocol begins.
    pub(crate) begin: fn(&mut Context<'_>),
    /// How the protocol reports missing publications.
    pub(crate) loss_report: fn(Link) -> LossReport,
    /// How a session handles a subscription that its client did not request.
    pub(crate) server_subscription: fn(&Channel) -> ServerSubscription,
    /// Whether clients connect by a command.
    pub(crate) has_connect: bool,
    /// Whether clients answer pings.
    pub(crate) answers_pings: bool,
    /// Whether commands come in WebSocket messages of this kind.
    pub(crate) accepts: fn(Link, Kind) -> bool,
    /// Appends the messages of one publication for one session, and the end of each; see [`address`].
    pub(crate) address: AddressFn,
}

impl Module {
    /// A module without commands, events and state.
    pub(crate) const DEFAULT: Self = Self {
        run: |_, bytes, _| Consumed { used: bytes.len(), stop: StopReason::Partial },
        message: |_, bytes| (bytes.len(), StopReason::Partial),
        append_limit: |_, _, bytes| bytes.len(),
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
        address: |_, _, _, _, _, _| {},
    };
}

impl Protocol {
    /// The functions of the protocol.
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

/// Appends the messages of one publication for the session in `slot`. Its form must be
/// [addressed](tidings_wire::Form::is_addressed), and the end of each in `out`. `shared` is the publication encoded in that
/// form.
pub fn address(
    hub: &mut Hub,
    slot: Slot,
    topic: TopicKey,
    shared: &[u8],
    out: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) {
    if let Some(session) = hub.get_session(slot) {
        (session.peer.link.protocol().module().address)(hub, slot, topic, shared, out, ends);
    }
}

/// Protocol state that the sessions of one hub share.
pub struct Protocols {
    pub(crate) settings: Arc<ProtocolSettings>,
    /// Number of sessions per link, in the order of [`Link::index`].
    links: [u64; Link::COUNT],
    /// Number of changes of `links`.
    link_changes: u64,
    /// Bytes of unused input of all sessions.
    pub(crate) kept: usize,
    /// The decoder for RESP sessions without a partial command.
    pub(crate) decoder: Decoder,
    /// The frame reader for WebSocket sessions without a partial message.
    pub(crate) frames: Option<Box<Frames>>,
    /// Decompresses messages of WebSocket clients.
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

/// Protocol counters of a hub, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of partial commands and of commands that are held back.
    pub input_bytes: u64,
    /// Compressed messages of clients: bytes before and after decompression, since the start.
    pub inflated: Counts,
}

impl Protocols {
    /// The state without sessions.
    pub fn new(settings: Arc<ProtocolSettings>) -> Self {
        Self {
            settings,
            links: [0; Link::COUNT],
            link_changes: 0,
            kept: 0,
            decoder: Decoder::default(),
            frames: None,
            inflater: Inflater::default(),
        }
    }

    /// The counters for metrics.
    pub fn stats(&self) -> Stats {
        Stats { input_bytes: self.kept as u64, inflated: self.inflater.counts() }
    }

    /// Number of sessions per link, in the order of [`Link::index`].
    pub fn sessions(&self) -> &[u64; Link::COUNT] {
        &self.links
    }

    /// A number that changes whenever [`Self::sessions`] changes.
    pub fn session_changes(&self) -> u64 {
        self.link_changes
    }

    /// Bytes of clients' messages after decompression, since the start.
    pub fn inflated(&self) -> u64 {
        self.inflater.counts().plain
    }

    /// Counts the change of a session's link.
    pub(crate) fn link_changed(&mut self, from: Link, to: Link) {
        self.links[from.index()] -= 1;
        self.links[to.index()] += 1;
        self.link_changes += 1;
    }
}

impl tidings_hub::Protocols for Protocols {
    type Peer = Peer;
    type State = State;

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
        self.link_changes += 1;
        self.kept -= state.map_or(0, State::kept);
    }
}
