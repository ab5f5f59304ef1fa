//! Commands of a session that are in progress.
//!
//! Ordered commands are queued and answered in the order of the queue. Unordered requests of the client protocol only
//! read; they are answered as their responses arrive, identified by the id of the command.

use std::collections::VecDeque;

use tidings_wire::Channel;

use super::state::{PendingConnect, PendingSubscribe};
use crate::effects::{Failure, Response};
use crate::index::TopicKey;
use crate::protocols::ControlMessages;

/// Most commands of one session in progress; the session is not read from beyond it.
const MAX_IN_PROGRESS: usize = 1024;
/// Most unordered reads of a history or presence of one session: their responses can be large, and each occupies the
/// broker.
const MAX_READS: usize = 4;

/// A queued command.
#[derive(Debug)]
pub(crate) struct PendingCommand<M: ControlMessages> {
    pub(crate) state: PendingState<M>,
    /// The id of the command in the client protocol.
    pub(crate) id: u32,
}

/// The state of a queued command: the event that it waits for, and its result.
#[derive(Debug)]
pub(crate) enum PendingState<M: ControlMessages> {
    /// Waits until the topic is live.
    TopicSubscribe(TopicKey, Option<Failure>),
    /// Waits for the response to a publish, with this ticket.
    Publish(u32, Option<Response<M>>),
    /// Waits for the response to a request, with this ticket.
    Query(u32, Option<Response<M>>),
    /// A subscription of the client protocol.
    ChannelSubscribe(Box<PendingSubscribe>),
    /// A connection of the client protocol with its subscriptions in progress.
    Connect(Box<PendingConnect>),
    /// Bytes that wait only for the commands before them.
    Ready(Box<[u8]>),
}

/// A completed command from the head of the queue.
#[derive(Debug)]
pub(crate) enum ReadyCommand<M: ControlMessages> {
    TopicSubscribe(TopicKey, Option<Failure>),
    Response(Response<M>),
    ChannelSubscribe(Box<PendingSubscribe>),
    Connect(Box<PendingConnect>),
    Ready(Box<[u8]>),
}

/// An unordered request.
#[derive(Debug)]
pub(crate) struct InFlight {
    ticket: u32,
    pub(crate) id: u32,
    /// The channel of the request, if the response needs it.
    pub(crate) channel: Option<Channel>,
    pub(crate) kind: InFlightKind,
}

/// The kind of an unordered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InFlightKind {
    /// A command of the client.
    Command,
    /// A read of a history or presence, which counts for [`MAX_READS`].
    Read,
    /// A renewal of the connection or of the subscription to `channel`, which is no command of the client.
    Renewal,
}

/// The commands of a session in progress. Without any, it has no memory of its own.
#[derive(Debug, Default)]
pub(crate) struct PendingCommands<M: ControlMessages> {
    commands: Option<Box<Commands<M>>>,
    next_ticket: u32,
}

#[derive(Debug, Default)]
struct Commands<M: ControlMessages> {
    queue: VecDeque<PendingCommand<M>>,
    in_flight: Vec<InFlight>,
    publishes: usize,
    queries: usize,
}

impl<M: ControlMessages> PendingCommands<M> {
    pub(crate) fn is_empty(&self) -> bool {
        self.commands.as_ref().is_none_or(|c| c.queue.is_empty() && c.in_flight.is_empty())
    }

    /// Returns the memory of completed commands.
    pub(crate) fn free_unused(&mut self) {
        if self.is_empty() {
            self.commands = None;
        }
    }

    fn commands(&mut self) -> &mut Commands<M> {
        self.commands.get_or_insert_default()
    }

    fn queue(&self) -> impl Iterator<Item = &PendingCommand<M>> {
        self.commands.iter().flat_map(|commands| &commands.queue)
    }

    /// Whether no ordered command is queued.
    pub(crate) fn is_queue_empty(&self) -> bool {
        self.commands.as_ref().is_none_or(|c| c.queue.is_empty())
    }

    /// Whether a queued command has this id.
    pub(crate) fn has_command(&self, id: u32) -> bool {
        self.queue().any(|command| command.id == id)
    }

    /// Whether a publish may be queued: only after other publishes.
    pub(crate) fn can_publish(&self) -> bool {
        self.commands.as_ref().is_none_or(|c| c.queue.len() < MAX_IN_PROGRESS && c.publishes == c.queue.len())
    }

    /// Whether a subscribe may be queued: only after other subscribes.
    pub(crate) fn can_subscribe(&self) -> bool {
        self.commands
            .as_ref()
            .is_none_or(|c| c.queue.len() < MAX_IN_PROGRESS && c.publishes == 0 && c.queries == 0)
    }

    /// Whether an unordered request may be started.
    pub(crate) fn can_request(&self) -> bool {
        self.commands.as_ref().is_none_or(|c| c.queue.is_empty() && c.in_flight.len() < MAX_IN_PROGRESS)
    }

    /// Whether an unordered read of a history or presence may be started.
    pub(crate) fn can_read(&self) -> bool {
        let in_flight = self.commands.iter().flat_map(|commands| &commands.in_flight);
        let reads = in_flight.filter(|request| request.kind == InFlightKind::Read).count();
        self.can_request() && reads < MAX_READS
    }

    /// The subscribes at the head of the queue, which are next to be answered.
    pub(crate) fn head_subscribes(&self) -> &[PendingSubscribe] {
        match self.commands.as_ref().and_then(|c| c.queue.front()).map(|command| &command.state) {
            Some(PendingState::ChannelSubscribe(subscribe)) => std::slice::from_ref(&**subscribe),
            Some(PendingState::Connect(pending_connect)) => &pending_connect.subscribes,
            _ => &[],
        }
    }

    pub(crate) fn push_topic_subscribe(&mut self, topic: TopicKey, id: u32) {
        self.push(id, PendingState::TopicSubscribe(topic, None));
    }

    pub(crate) fn push_bytes(&mut self, bytes: Box<[u8]>) {
        self.push(0, PendingState::Ready(bytes));
    }

    pub(crate) fn push_channel_subscribe(&mut self, subscribe: PendingSubscribe) {
        self.push(0, PendingState::ChannelSubscribe(Box::new(subscribe)));
    }

    pub(crate) fn push_connect(&mut self, pending_connect: PendingConnect) {
        self.push(pending_connect.id, PendingState::Connect(Box::new(pending_connect)));
    }

    fn push(&mut self, id: u32, state: PendingState<M>) {
        self.commands().queue.push_back(PendingCommand { state, id });
    }

    /// Queues a publish; returns its ticket.
    pub(crate) fn push_publish(&mut self, id: u32) -> u32 {
        let ticket = self.ticket();
        self.commands().publishes += 1;
        self.push(id, PendingState::Publish(ticket, None));
        ticket
    }

    /// Queues a request; returns its ticket.
    pub(crate) fn push_query(&mut self, id: u32) -> u32 {
        let ticket = self.ticket();
        self.commands().queries += 1;
        self.push(id, PendingState::Query(ticket, None));
        ticket
    }

    /// Adds an unordered request; returns its ticket.
    pub(crate) fn add_in_flight(&mut self, id: u32, channel: Option<Channel>, kind: InFlightKind) -> u32 {
        let ticket = self.ticket();
        self.commands().in_flight.push(InFlight { ticket, id, channel, kind });
        ticket
    }

    /// Removes the unordered request with this ticket.
    pub(crate) fn remove_in_flight(&mut self, ticket: u32) -> Option<InFlight> {
        let in_flight = &mut self.commands.as_mut()?.in_flight;
        let at = in_flight.iter().position(|request| request.ticket == ticket)?;
        Some(in_flight.swap_remove(at))
    }

    /// A new ticket: a number that identifies a request of the session.
    pub(crate) fn ticket(&mut self) -> u32 {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.next_ticket
    }

    /// Stores the response to a queued command. A response with an unknown ticket is discarded.
    pub(crate) fn set_response(&mut self, ticket: u32, response: Response<M>) {
        let mut queue = self.commands.iter_mut().flat_map(|commands| &mut commands.queue);
        let slot = queue.find_map(|a| match &mut a.state {
            PendingState::Publish(t, slot) | PendingState::Query(t, slot) if *t == ticket => Some(slot),
            _ => None,
        });
        if let Some(slot) = slot {
            *slot = Some(response);
        }
    }

    /// Fails all commands that wait for the topic.
    pub(crate) fn fail_topic(&mut self, topic: TopicKey, failure: &Failure) {
        self.fail_plain_topic(topic, failure);
        for subscribe in self.pending_subscribes_mut() {
            if subscribe.awaited_topic() == Some(topic) {
                subscribe.state = super::state::SubscribeState::Failed(failure.clone());
            }
        }
    }

    /// The topics of the subscribes without options that are in progress.
    pub(crate) fn plain_topics(&self) -> impl Iterator<Item = TopicKey> + '_ {
        self.queue().filter_map(|command| match command.state {
            PendingState::TopicSubscribe(topic, None) => Some(topic),
            _ => None,
        })
    }

    /// Fails the subscribes without options that wait for the topic.
    pub(crate) fn fail_plain_topic(&mut self, topic: TopicKey, failure: &Failure) {
        for command in self.commands.iter_mut().flat_map(|commands| &mut commands.queue) {
            if let PendingState::TopicSubscribe(t, slot) = &mut command.state
                && *t == topic
            {
                *slot = Some(failure.clone());
            }
        }
    }

    /// Removes the head of the queue if it is completed; `live` returns whether a topic is live.
    pub(crate) fn pop(&mut self, live: impl Fn(TopicKey) -> bool) -> Option<(u32, ReadyCommand<M>)> {
        let commands = self.commands.as_mut()?;
        let decided = match &commands.queue.front()?.state {
            PendingState::TopicSubscribe(topic, failure) => failure.is_some() || live(*topic),
            PendingState::Publish(_, response) | PendingState::Query(_, response) => response.is_some(),
            PendingState::ChannelSubscribe(subscribe) => subscribe.is_decided(),
            PendingState::Connect(pending_connect) => {
                pending_connect.subscribes.iter().all(PendingSubscribe::is_decided)
            }
            PendingState::Ready(_) => true,
        };
        if !decided {
            return None;
        }
        let PendingCommand { state, id } = commands.queue.pop_front()?;
        let outcome = match state {
            PendingState::TopicSubscribe(topic, failure) => ReadyCommand::TopicSubscribe(topic, failure),
            PendingState::Publish(_, response) => {
                commands.publishes -= 1;
                ReadyCommand::Response(response?)
            }
            PendingState::Query(_, response) => {
                commands.queries -= 1;
                ReadyCommand::Response(response?)
            }
            PendingState::ChannelSubscribe(subscribe) => ReadyCommand::ChannelSubscribe(subscribe),
            PendingState::Connect(pending_connect) => ReadyCommand::Connect(pending_connect),
            PendingState::Ready(bytes) => ReadyCommand::Ready(bytes),
        };
        Some((id, outcome))
    }

    /// Number of subscribes in progress, for the limit of channels.
    pub(crate) fn subscribe_count(&self) -> usize {
        let plain = self.queue().filter(|a| matches!(a.state, PendingState::TopicSubscribe(..))).count();
        plain + self.pending_subscribes().count()
    }

    /// The topics that must be kept for subscribes in progress.
    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicKey> + '_ {
        let plain = self.queue().filter_map(|a| match a.state {
            PendingState::TopicSubscribe(topic, _) => Some(topic),
            _ => None,
        });
        plain.chain(self.pending_subscribes().filter_map(PendingSubscribe::held_topic))
    }

    /// The topics that record publications for subscribes in progress, once per subscribe.
    pub(crate) fn recording_topics(&self) -> impl Iterator<Item = TopicKey> + '_ {
        self.pending_subscribes().filter_map(PendingSubscribe::recording_topic)
    }

    /// The subscribes with options that are in progress.
    pub(crate) fn pending_subscribes(&self) -> impl Iterator<Item = &PendingSubscribe> {
        self.queue().flat_map(|command| match &command.state {
            PendingState::ChannelSubscribe(subscribe) => std::slice::from_ref(&**subscribe),
            PendingState::Connect(pending_connect) => &pending_connect.subscribes[..],
            _ => &[],
        })
    }

    /// The subscribes with options that are in progress, mutable.
    pub(crate) fn pending_subscribes_mut(&mut self) -> impl Iterator<Item = &mut PendingSubscribe> {
        self.commands.iter_mut().flat_map(|commands| &mut commands.queue).flat_map(|command| {
            match &mut command.state {
                PendingState::ChannelSubscribe(subscribe) => std::slice::from_mut(&mut **subscribe),
                PendingState::Connect(pending_connect) => &mut pending_connect.subscribes[..],
                _ => &mut [],
            }
        })
    }
}
