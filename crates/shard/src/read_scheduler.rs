//! Reads with large responses: histories, presence, lists of channels. Bytes are reserved before a read starts, so that
//! responses are bounded while they are read, in transit and queued.
//!
//! Invariants:
//! - The reads of a session in progress reserve at most the bytes of one queue. No read starts for a session with
//!   a peer that leaves responses unread.
//! - All reads in progress reserve at most the shard's budget, or there is only one.
//! - Reads of a session start in order. A waiting read of a session that has ended is dropped.
//! - The number of waiting reads is bounded; further ones are refused.

use std::collections::{HashMap, VecDeque};
use tidings_session::Request;

use tidings_hub::SessionId;

/// Most waiting reads of one shard.
const MAX_WAITING: usize = 16 * 1024;

/// A waiting read.
#[derive(Debug)]
pub(crate) struct PendingRead {
    pub(crate) session: SessionId,
    pub(crate) ticket: u32,
    pub(crate) request: Request,
    /// Most bytes of its response.
    pub(crate) bytes: usize,
}

/// Whether a read of a session may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// The peer reads its responses.
    Ready,
    /// The peer leaves responses unread.
    Unread,
    /// The session has ended.
    Closed,
}

/// The reads of a shard.
#[derive(Debug)]
pub(crate) struct ReadScheduler {
    /// Most reserved bytes of all sessions.
    budget: usize,
    /// Most reserved bytes of one session.
    queue: usize,
    reserved: usize,
    in_progress: HashMap<(SessionId, u32), usize>,
    /// Reserved bytes by session.
    by_session: HashMap<SessionId, usize>,
    /// Reads that wait for a reservation, in order.
    waiting_reads: VecDeque<PendingRead>,
    /// Reads that wait for their session, in order.
    held: HashMap<SessionId, VecDeque<PendingRead>>,
    waiting: usize,
    /// Number of refused and of dropped reads.
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
}

impl ReadScheduler {
    pub(crate) fn new(budget: usize, queue: usize) -> Self {
        Self {
            budget,
            queue,
            reserved: 0,
            in_progress: HashMap::new(),
            by_session: HashMap::new(),
            waiting_reads: VecDeque::new(),
            held: HashMap::new(),
            waiting: 0,
            refused: 0,
            dropped: 0,
        }
    }

    /// Replaces the most reserved bytes of one session. The budget is at least that.
    pub(crate) fn set_queue(&mut self, queue: usize) {
        self.queue = queue;
        self.budget = self.budget.max(queue);
    }

    /// Bytes reserved for reads in progress.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Number of waiting reads.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds a read; returns it if too many wait.
    pub(crate) fn enqueue(&mut self, read: PendingRead) -> Result<(), PendingRead> {
        if self.waiting >= MAX_WAITING {
            self.refused += 1;
            return Err(read);
        }
        self.waiting += 1;
        match self.held.get_mut(&read.session) {
            Some(before) => before.push_back(read),
            None => self.waiting_reads.push_back(read),
        }
        Ok(())
    }

    /// Reserves the bytes of the next read that may start now, and returns the read.
    pub(crate) fn start_next(&mut self, peer: impl Fn(SessionId) -> PeerState) -> Option<PendingRead> {
        while let Some(read) = self.waiting_reads.front() {
            let mine = self.by_session.get(&read.session).copied();
            let has_room = |reserved: usize, bound: usize| reserved == 0 || reserved + read.bytes <= bound;
            match peer(read.session) {
                PeerState::Closed => {
                    self.waiting_reads.pop_front();
                    self.waiting -= 1;
                    self.dropped += 1;
                }
                PeerState::Ready if has_room(mine.unwrap_or(0), self.queue) => {
                    if !has_room(self.reserved, self.budget) {
                        return None;
                    }
                    let read = self.waiting_reads.pop_front()?;
                    self.waiting -= 1;
                    self.reserved += read.bytes;
                    *self.by_session.entry(read.session).or_default() += read.bytes;
                    self.in_progress.insert((read.session, read.ticket), read.bytes);
                    return Some(read);
                }
                PeerState::Ready | PeerState::Unread => {
                    // Later reads of the session wait as well, to keep the order.
                    let session = read.session;
                    let (mut own, others): (VecDeque<_>, VecDeque<_>) =
                        std::mem::take(&mut self.waiting_reads)
                            .into_iter()
                            .partition(|read| read.session == session);
                    self.waiting_reads = others;
                    self.held.entry(session).or_default().append(&mut own);
                }
            }
        }
        None
    }

    /// Callback for a response: releases the reservation; returns whether there was one.
    pub(crate) fn finish(&mut self, session: SessionId, ticket: u32) -> bool {
        if self.in_progress.is_empty() {
            return false;
        }
        let Some(bytes) = self.in_progress.remove(&(session, ticket)) else { return false };
        self.reserved -= bytes;
        if let Some(mine) = self.by_session.get_mut(&session) {
            *mine -= bytes;
            if *mine == 0 {
                self.by_session.remove(&session);
            }
        }
        self.release_held(session);
        true
    }

    /// Lets the held reads of a session wait for a reservation again; returns whether there were any.
    pub(crate) fn release_held(&mut self, session: SessionId) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let Some(mut own) = self.held.remove(&session) else { return false };
        self.waiting_reads.append(&mut own);
        true
    }

    /// Drops the held reads of a session that has ended.
    pub(crate) fn drop_session(&mut self, session: SessionId) {
        if let Some(own) = self.held.remove(&session) {
            self.waiting -= own.len();
            self.dropped += own.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {

    use tidings_hub::Slot;

    use super::*;
    use tidings_wire::Channel;

    fn id(slot: u32) -> SessionId {
        let slot = Slot::new(slot);
        SessionId { slot, generation: 1 }
    }

    fn read(slot: u32, ticket: u32, bytes: usize) -> PendingRead {
        let request = Request::Presence(Channel::new("a").unwrap());
        PendingRead { session: id(slot), ticket, request, bytes }
    }

    fn begun(reads: &mut ReadScheduler, peer: impl Fn(SessionId) -> PeerState) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| reads.start_next(&peer))
            .map(|read| (read.session.slot.number(), read.ticket))
            .collect()
    }

    #[test]
    fn a_session_reserves_at_most_one_queue_and_all_sessions_the_budget() {
        let mut reads = ReadScheduler::new(300, 100);
        for slot in 1..=5 {
            for ticket in 1..=2 {
                reads.enqueue(read(slot, ticket, 100)).unwrap();
            }
        }
        let ready = |_| PeerState::Ready;
        assert_eq!(begun(&mut reads, ready), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!((reads.reserved(), reads.waiting()), (300, 7));
        assert!(!reads.finish(id(1), 9), "the response to another request");
        assert!(reads.finish(id(2), 1));
        assert_eq!(begun(&mut reads, ready), [(4, 1)], "other sessions before the second read of a session");
        for slot in [1, 3, 4] {
            assert!(reads.finish(id(slot), 1));
        }
        assert_eq!(begun(&mut reads, ready), [(5, 1), (2, 2), (1, 2)]);
    }

    #[test]
    fn nothing_is_read_for_a_peer_with_unread_responses_or_a_closed_one() {
        let mut reads = ReadScheduler::new(1_000, 100);
        for ticket in 1..=3 {
            reads.enqueue(read(1, ticket, 10)).unwrap();
            reads.enqueue(read(2, ticket, 10)).unwrap();
        }
        let behind = |session: SessionId| {
            if session.slot == Slot::new(1) { PeerState::Unread } else { PeerState::Closed }
        };
        assert_eq!(begun(&mut reads, behind), []);
        assert_eq!((reads.waiting(), reads.dropped), (3, 3));
        reads.enqueue(read(1, 4, 10)).unwrap();
        assert!(reads.release_held(id(1)));
        assert_eq!(begun(&mut reads, |_| PeerState::Ready), [(1, 1), (1, 2), (1, 3), (1, 4)], "in order");
        reads.enqueue(read(1, 5, 10)).unwrap();
        assert_eq!(begun(&mut reads, |_| PeerState::Unread), []);
        reads.drop_session(id(1));
        assert_eq!((reads.waiting(), reads.dropped), (0, 4));
    }

    #[test]
    fn a_response_larger_than_every_bound_is_read_alone() {
        let mut reads = ReadScheduler::new(50, 50);
        reads.enqueue(read(1, 1, 100)).unwrap();
        reads.enqueue(read(2, 1, 1)).unwrap();
        assert_eq!(begun(&mut reads, |_| PeerState::Ready), [(1, 1)]);
        reads.finish(id(1), 1);
        assert_eq!(begun(&mut reads, |_| PeerState::Ready), [(2, 1)]);
    }

    #[test]
    fn the_queue_of_reads_is_bounded() {
        let mut reads = ReadScheduler::new(1, 1);
        for ticket in 0..MAX_WAITING {
            reads.enqueue(read(1, u32::try_from(ticket).unwrap(), 1)).unwrap();
        }
        assert!(reads.enqueue(read(2, 1, 1)).is_err());
        assert_eq!(reads.refused, 1);
    }
}
