//! Answers a session owes its peer and cannot give yet.
//!
//! Commands whose order matters stand in a queue and are answered in it. Those of the client protocol that only ask
//! for something are under way beside it, and are answered as their answers come: their ids tell which is which.

use std::collections::VecDeque;

use tidings_wire::Channel;

use super::state::{Admitting, Join};
use crate::effects::{Answer, Failure};
use crate::topics::TopicKey;

/// Most commands of one session that may be under way at once; behind them it is not read.
const LIMIT: usize = 1024;
/// Most of them that read a history or who is present: their answers can be large, and each keeps the broker busy.
const READS: usize = 4;

/// A command under way.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) what: What,
    /// The command's number in the client protocol.
    pub(crate) id: u32,
}

/// What it waits for.
#[derive(Debug)]
pub(crate) enum What {
    /// The topic to be live.
    Subscribe(TopicKey, Option<Failure>),
    /// A publish to be answered.
    Publish(u32, Option<Answer>),
    /// A question to be answered.
    Query(u32, Option<Answer>),
    /// A subscription of the client protocol.
    Join(Box<Join>),
    /// A connection of the client protocol, whose subscriptions are made.
    Admit(Box<Admitting>),
    /// Nothing: an answer whose turn had not come when it was ready.
    Ready(Box<[u8]>),
}

/// What the head of the queue has come to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Subscribe(TopicKey, Option<Failure>),
    Answer(Answer),
    Join(Box<Join>),
    Admit(Box<Admitting>),
    Ready(Box<[u8]>),
}

/// A command under way beside the queue.
#[derive(Debug)]
pub(crate) struct Flight {
    ticket: u32,
    pub(crate) id: u32,
    /// The channel that it is about, where the answer needs that.
    pub(crate) channel: Option<Channel>,
    /// Whether it is one of the [`READS`].
    reads: bool,
}

/// The queue, and what is under way beside it.
#[derive(Debug, Default)]
pub(crate) struct Awaiting {
    queue: VecDeque<Awaited>,
    flights: Vec<Flight>,
    publishes: usize,
    queries: usize,
    next_ticket: u32,
}

impl Awaiting {
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

    /// Whether something may be asked beside the queue.
    pub(crate) fn takes_flight(&self) -> bool {
        self.queue.is_empty() && self.flights.len() < LIMIT
    }

    /// Whether a history or who is present may be read beside the queue.
    pub(crate) fn takes_read(&self) -> bool {
        self.takes_flight() && self.flights.iter().filter(|flight| flight.reads).count() < READS
    }

    /// The subscriptions at the head of the queue, whose turn it is.
    pub(crate) fn head_joins(&self) -> &[Join] {
        match self.queue.front().map(|awaited| &awaited.what) {
            Some(What::Join(join)) => std::slice::from_ref(&**join),
            Some(What::Admit(admitting)) => &admitting.joins,
            _ => &[],
        }
    }

    pub(crate) fn subscribe(&mut self, topic: TopicKey, id: u32) {
        self.push(id, What::Subscribe(topic, None));
    }

    pub(crate) fn ready(&mut self, bytes: Box<[u8]>) {
        self.push(0, What::Ready(bytes));
    }

    pub(crate) fn join(&mut self, join: Join) {
        self.push(0, What::Join(Box::new(join)));
    }

    pub(crate) fn admit(&mut self, admitting: Admitting) {
        self.push(admitting.id, What::Admit(Box::new(admitting)));
    }

    fn push(&mut self, id: u32, what: What) {
        self.queue.push_back(Awaited { what, id });
    }

    /// Notes a publish; gives its ticket.
    pub(crate) fn publish(&mut self, id: u32) -> u32 {
        let ticket = self.ticket();
        self.publishes += 1;
        self.push(id, What::Publish(ticket, None));
        ticket
    }

    /// Notes a question whose answer has its turn; gives its ticket.
    pub(crate) fn query(&mut self, id: u32) -> u32 {
        let ticket = self.ticket();
        self.queries += 1;
        self.push(id, What::Query(ticket, None));
        ticket
    }

    /// Notes a question beside the queue; gives its ticket.
    pub(crate) fn fly(&mut self, id: u32, channel: Option<Channel>, reads: bool) -> u32 {
        let ticket = self.ticket();
        self.flights.push(Flight { ticket, id, channel, reads });
        ticket
    }

    /// Ends a flight.
    pub(crate) fn land(&mut self, ticket: u32) -> Option<Flight> {
        let at = self.flights.iter().position(|flight| flight.ticket == ticket)?;
        Some(self.flights.swap_remove(at))
    }

    /// A number for a question.
    pub(crate) fn ticket(&mut self) -> u32 {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.next_ticket
    }

    /// Keeps an answer until its turn. An unknown ticket is nobody's any more.
    pub(crate) fn answered(&mut self, ticket: u32, answer: Answer) {
        let slot = self.queue.iter_mut().find_map(|a| match &mut a.what {
            What::Publish(t, slot) | What::Query(t, slot) if *t == ticket => Some(slot),
            _ => None,
        });
        if let Some(slot) = slot {
            *slot = Some(answer);
        }
    }

    /// The topic cannot be had.
    pub(crate) fn failed(&mut self, topic: TopicKey, failure: &Failure) {
        for awaited in &mut self.queue {
            if let What::Subscribe(t, slot) = &mut awaited.what
                && *t == topic
            {
                *slot = Some(failure.clone());
            }
        }
        for join in self.joins_mut() {
            if join.waits_for() == Some(topic) {
                join.stage = super::state::Stage::Failed(failure.clone());
            }
        }
    }

    /// Takes the head, if it has come to something; `live` tells whether a topic is.
    pub(crate) fn pop(&mut self, live: impl Fn(TopicKey) -> bool) -> Option<(u32, Outcome)> {
        let decided = match &self.queue.front()?.what {
            What::Subscribe(topic, failure) => failure.is_some() || live(*topic),
            What::Publish(_, answer) | What::Query(_, answer) => answer.is_some(),
            What::Join(join) => join.is_decided(),
            What::Admit(admitting) => admitting.joins.iter().all(Join::is_decided),
            What::Ready(_) => true,
        };
        if !decided {
            return None;
        }
        let Awaited { what, id } = self.queue.pop_front()?;
        let outcome = match what {
            What::Subscribe(topic, failure) => Outcome::Subscribe(topic, failure),
            What::Publish(_, answer) => {
                self.publishes -= 1;
                Outcome::Answer(answer?)
            }
            What::Query(_, answer) => {
                self.queries -= 1;
                Outcome::Answer(answer?)
            }
            What::Join(join) => Outcome::Join(join),
            What::Admit(admitting) => Outcome::Admit(admitting),
            What::Ready(bytes) => Outcome::Ready(bytes),
        };
        Some((id, outcome))
    }

    /// Subscribes under way, for the limit of channels.
    pub(crate) fn subscribes(&self) -> usize {
        let plain = self.queue.iter().filter(|a| matches!(a.what, What::Subscribe(..))).count();
        plain + self.joins().count()
    }

    /// The topics that must stay because subscribes are under way for them.
    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicKey> + '_ {
        let plain = self.queue.iter().filter_map(|a| match a.what {
            What::Subscribe(topic, _) => Some(topic),
            _ => None,
        });
        plain.chain(self.joins().filter_map(Join::holds))
    }

    /// The topics that keep publications for subscribes under way, each as often as it does.
    pub(crate) fn catching(&self) -> impl Iterator<Item = TopicKey> + '_ {
        self.joins().filter_map(Join::catches)
    }

    /// The subscriptions of the client protocol that are under way.
    pub(crate) fn joins(&self) -> impl Iterator<Item = &Join> {
        self.queue.iter().flat_map(|awaited| match &awaited.what {
            What::Join(join) => std::slice::from_ref(&**join),
            What::Admit(admitting) => &admitting.joins[..],
            _ => &[],
        })
    }

    /// The same, to be changed.
    pub(crate) fn joins_mut(&mut self) -> impl Iterator<Item = &mut Join> {
        self.queue.iter_mut().flat_map(|awaited| match &mut awaited.what {
            What::Join(join) => std::slice::from_mut(&mut **join),
            What::Admit(admitting) => &mut admitting.joins[..],
            _ => &mut [],
        })
    }
}
