//! Answers a session owes its peer and cannot give yet, in the order of the commands.

use std::collections::VecDeque;

use crate::effects::{Answer, Failure};
use crate::topics::TopicKey;

/// Most commands of one session that may be under way at once; behind them it is not read.
const LIMIT: usize = 1024;

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
    /// A question about the node to be answered.
    Query(u32, Option<Answer>),
    /// Nothing: an answer whose turn had not come when it was ready.
    Ready(Box<[u8]>),
}

/// What the head of the queue has come to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Subscribe(TopicKey, Option<Failure>),
    Answer(Answer),
    Ready(Box<[u8]>),
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Awaiting {
    queue: VecDeque<Awaited>,
    publishes: usize,
    queries: usize,
    next_ticket: u32,
}

impl Awaiting {
    pub(crate) fn is_empty(&self) -> bool {
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

    pub(crate) fn subscribe(&mut self, topic: TopicKey, id: u32) {
        self.queue.push_back(Awaited { what: What::Subscribe(topic, None), id });
    }

    pub(crate) fn ready(&mut self, bytes: Box<[u8]>) {
        self.queue.push_back(Awaited { what: What::Ready(bytes), id: 0 });
    }

    /// Notes a publish; gives its ticket.
    pub(crate) fn publish(&mut self, id: u32) -> u32 {
        let ticket = self.ticket();
        self.publishes += 1;
        self.queue.push_back(Awaited { what: What::Publish(ticket, None), id });
        ticket
    }

    /// Notes a question; gives its ticket.
    pub(crate) fn query(&mut self) -> u32 {
        let ticket = self.ticket();
        self.queries += 1;
        self.queue.push_back(Awaited { what: What::Query(ticket, None), id: 0 });
        ticket
    }

    fn ticket(&mut self) -> u32 {
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
    }

    /// Takes the head, if it has come to something; `live` tells whether a topic is.
    pub(crate) fn pop(&mut self, live: impl Fn(TopicKey) -> bool) -> Option<(u32, Outcome)> {
        let decided = match &self.queue.front()?.what {
            What::Subscribe(topic, failure) => failure.is_some() || live(*topic),
            What::Publish(_, answer) | What::Query(_, answer) => answer.is_some(),
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
            What::Ready(bytes) => Outcome::Ready(bytes),
        };
        Some((id, outcome))
    }

    /// Subscribes under way, for the limit of channels.
    pub(crate) fn subscribes(&self) -> usize {
        self.queue.iter().filter(|a| matches!(a.what, What::Subscribe(..))).count()
    }

    /// The topics that subscribes under way are for.
    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicKey> + '_ {
        self.queue.iter().filter_map(|a| match a.what {
            What::Subscribe(topic, _) => Some(topic),
            _ => None,
        })
    }
}
