//! Commands of a session that are under way.
//!
//! Commands whose order matters stand in a queue and are answered in its order. Requests of the client protocol that only
//! read something are under way beside it, and are answered as their responses come: the id of the command identifies each.

use std::collections::VecDeque;

use tidings_wire::Channel;

use super::state::{PendingConnect, PendingSubscribe};
use crate::effects::{Failure, Response};
use crate::index::TopicKey;

/// Most commands of one session that may be under way at once; behind them it is not read.
const LIMIT: usize = 1024;
/// Most of them that read a history or presence: their responses can be large, and each occupies the broker.
const READS: usize = 4;

/// A command under way.
#[derive(Debug)]
pub(crate) struct PendingCommand {
    pub(crate) what: PendingState,
    /// The command's number in the client protocol.
    pub(crate) id: u32,
}

/// What it waits for.
#[derive(Debug)]
pub(crate) enum PendingState {
    /// The topic to be live.
    Subscribe(TopicKey, Option<Failure>),
    /// The response to a publish.
    Publish(u32, Option<Response>),
    /// The response to a request.
    Query(u32, Option<Response>),
    /// A subscription of the client protocol.
    PendingSubscribe(Box<PendingSubscribe>),
    /// A connection of the client protocol, whose subscriptions are made.
    Admit(Box<PendingConnect>),
    /// Nothing: bytes whose turn had not come when they were ready.
    Ready(Box<[u8]>),
}

/// The head of the queue, decided.
#[derive(Debug)]
pub(crate) enum ReadyCommand {
    Subscribe(TopicKey, Option<Failure>),
    Response(Response),
    PendingSubscribe(Box<PendingSubscribe>),
    Admit(Box<PendingConnect>),
    Ready(Box<[u8]>),
}

/// A command under way beside the queue.
#[derive(Debug)]
pub(crate) struct InFlight {
    ticket: u32,
    pub(crate) id: u32,
    /// The channel that it is about, where the answer needs that.
    pub(crate) channel: Option<Channel>,
    /// Whether it is one of the [`READS`].
    reads: bool,
}

/// The queue, and what is under way beside it.
#[derive(Debug, Default)]
pub(crate) struct PendingCommands {
    queue: VecDeque<PendingCommand>,
    flights: Vec<InFlight>,
    publishes: usize,
    queries: usize,
    next_ticket: u32,
}

impl PendingCommands {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty()
    }

    /// Whether nothing stands in the queue: what must not overtake anything may be done.
    pub(crate) fn is_clear(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a publish may be started beside those under way: only behind other publishes.
    pub(crate) fn takes_publish(&self) -> bool {
        self.queue.len() < LIMIT && self.publishes == self.queue.len()
    }

    /// Whether a subscribe may be started beside those under way: only behind other subscribes.
    pub(crate) fn takes_subscribe(&self) -> bool {
        self.queue.len() < LIMIT && self.publishes == 0 && self.queries == 0
    }

    /// Whether a request may be started beside the queue.
    pub(crate) fn takes_request(&self) -> bool {
        self.queue.is_empty() && self.flights.len() < LIMIT
    }

    /// Whether a history or presence may be read beside the queue.
    pub(crate) fn takes_read(&self) -> bool {
        self.takes_request() && self.flights.iter().filter(|flight| flight.reads).count() < READS
    }

    /// The subscriptions at the head of the queue, whose turn it is.
    pub(crate) fn head_joins(&self) -> &[PendingSubscribe] {
        match self.queue.front().map(|awaited| &awaited.what) {
            Some(PendingState::PendingSubscribe(join)) => std::slice::from_ref(&**join),
            Some(PendingState::Admit(admitting)) => &admitting.joins,
            _ => &[],
        }
    }

    pub(crate) fn subscribe(&mut self, topic: TopicKey, id: u32) {
        self.push(id, PendingState::Subscribe(topic, None));
    }

    pub(crate) fn ready(&mut self, bytes: Box<[u8]>) {
        self.push(0, PendingState::Ready(bytes));
    }

    pub(crate) fn join(&mut self, join: PendingSubscribe) {
        self.push(0, PendingState::PendingSubscribe(Box::new(join)));
    }

    pub(crate) fn connect(&mut self, admitting: PendingConnect) {
        self.push(admitting.id, PendingState::Admit(Box::new(admitting)));
    }

    fn push(&mut self, id: u32, what: PendingState) {
        self.queue.push_back(PendingCommand { what, id });
    }

    /// Adds a publish; gives its ticket.
    pub(crate) fn publish(&mut self, id: u32) -> u32 {
        let ticket = self.ticket();
        self.publishes += 1;
        self.push(id, PendingState::Publish(ticket, None));
        ticket
    }

    /// Adds a request whose response has its turn; gives its ticket.
    pub(crate) fn query(&mut self, id: u32) -> u32 {
        let ticket = self.ticket();
        self.queries += 1;
        self.push(id, PendingState::Query(ticket, None));
        ticket
    }

    /// Adds a request beside the queue; gives its ticket.
    pub(crate) fn add_in_flight(&mut self, id: u32, channel: Option<Channel>, reads: bool) -> u32 {
        let ticket = self.ticket();
        self.flights.push(InFlight { ticket, id, channel, reads });
        ticket
    }

    /// Removes the request with this ticket from those beside the queue.
    pub(crate) fn take_in_flight(&mut self, ticket: u32) -> Option<InFlight> {
        let at = self.flights.iter().position(|flight| flight.ticket == ticket)?;
        Some(self.flights.swap_remove(at))
    }

    /// A ticket: a number for a request.
    pub(crate) fn ticket(&mut self) -> u32 {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.next_ticket
    }

    /// Keeps a response until its turn. A response with an unknown ticket is discarded.
    pub(crate) fn answered(&mut self, ticket: u32, answer: Response) {
        let slot = self.queue.iter_mut().find_map(|a| match &mut a.what {
            PendingState::Publish(t, slot) | PendingState::Query(t, slot) if *t == ticket => Some(slot),
            _ => None,
        });
        if let Some(slot) = slot {
            *slot = Some(answer);
        }
    }

    /// The topic cannot be subscribed: what waits for it fails.
    pub(crate) fn failed(&mut self, topic: TopicKey, failure: &Failure) {
        for awaited in &mut self.queue {
            if let PendingState::Subscribe(t, slot) = &mut awaited.what
                && *t == topic
            {
                *slot = Some(failure.clone());
            }
        }
        for join in self.joins_mut() {
            if join.waits_for() == Some(topic) {
                join.stage = super::state::SubscribeState::Failed(failure.clone());
            }
        }
    }

    /// Takes the head of the queue if it is decided; `live` gives whether a topic is live.
    pub(crate) fn pop(&mut self, live: impl Fn(TopicKey) -> bool) -> Option<(u32, ReadyCommand)> {
        let decided = match &self.queue.front()?.what {
            PendingState::Subscribe(topic, failure) => failure.is_some() || live(*topic),
            PendingState::Publish(_, answer) | PendingState::Query(_, answer) => answer.is_some(),
            PendingState::PendingSubscribe(join) => join.is_decided(),
            PendingState::Admit(admitting) => admitting.joins.iter().all(PendingSubscribe::is_decided),
            PendingState::Ready(_) => true,
        };
        if !decided {
            return None;
        }
        let PendingCommand { what, id } = self.queue.pop_front()?;
        let outcome = match what {
            PendingState::Subscribe(topic, failure) => ReadyCommand::Subscribe(topic, failure),
            PendingState::Publish(_, answer) => {
                self.publishes -= 1;
                ReadyCommand::Response(answer?)
            }
            PendingState::Query(_, answer) => {
                self.queries -= 1;
                ReadyCommand::Response(answer?)
            }
            PendingState::PendingSubscribe(join) => ReadyCommand::PendingSubscribe(join),
            PendingState::Admit(admitting) => ReadyCommand::Admit(admitting),
            PendingState::Ready(bytes) => ReadyCommand::Ready(bytes),
        };
        Some((id, outcome))
    }

    /// Subscribes under way, for the limit of channels.
    pub(crate) fn subscribes(&self) -> usize {
        let plain = self.queue.iter().filter(|a| matches!(a.what, PendingState::Subscribe(..))).count();
        plain + self.joins().count()
    }

    /// The topics that must stay because subscribes are under way for them.
    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicKey> + '_ {
        let plain = self.queue.iter().filter_map(|a| match a.what {
            PendingState::Subscribe(topic, _) => Some(topic),
            _ => None,
        });
        plain.chain(self.joins().filter_map(PendingSubscribe::holds))
    }

    /// The topics that keep publications for subscribes under way, each as often as it does.
    pub(crate) fn catching(&self) -> impl Iterator<Item = TopicKey> + '_ {
        self.joins().filter_map(PendingSubscribe::catches)
    }

    /// The subscriptions of the client protocol that are under way.
    pub(crate) fn joins(&self) -> impl Iterator<Item = &PendingSubscribe> {
        self.queue.iter().flat_map(|awaited| match &awaited.what {
            PendingState::PendingSubscribe(join) => std::slice::from_ref(&**join),
            PendingState::Admit(admitting) => &admitting.joins[..],
            _ => &[],
        })
    }

    /// The same, to be changed.
    pub(crate) fn joins_mut(&mut self) -> impl Iterator<Item = &mut PendingSubscribe> {
        self.queue.iter_mut().flat_map(|awaited| match &mut awaited.what {
            PendingState::PendingSubscribe(join) => std::slice::from_mut(&mut **join),
            PendingState::Admit(admitting) => &mut admitting.joins[..],
            _ => &mut [],
        })
    }
}
