//! Reads whose answers can be large: histories, presence, lists of channels. Each is charged before it is carried out, so
//! that answers are bounded while they are read, on their way and queued.
//!
//! Invariants:
//! - What is under way of one session reserves at most one queue's bytes, and nothing is begun for a session whose
//!   peer leaves answers unread.
//! - What is under way of all sessions reserves at most the shard's budget, or is one read alone.
//! - Reads of a session begin in order. A read that waits for a session that has ended is dropped.
//! - The waiting line is bounded; a read that finds it full is refused.

use std::collections::{HashMap, VecDeque};

use tidings_hub::{Request, SessionId};

/// Most reads that wait on one shard.
const LINE: usize = 16 * 1024;

/// A read that waits.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) session: SessionId,
    pub(crate) ticket: u32,
    pub(crate) request: Request,
    /// Bytes that its answer may take.
    pub(crate) bytes: usize,
}

/// Whether a session may begin a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It takes its answers.
    Ready,
    /// It leaves answers unread.
    Behind,
    /// It has ended.
    Gone,
}

/// The reads of a shard.
#[derive(Debug)]
pub(crate) struct Reads {
    /// Bytes that all may reserve.
    budget: usize,
    /// Bytes that those of one session may.
    queue: usize,
    reserved: usize,
    under_way: HashMap<(SessionId, u32), usize>,
    /// Reserved by session, for those that have some under way.
    by_session: HashMap<SessionId, usize>,
    /// Those that begin as soon as there is room, in order.
    line: VecDeque<Read>,
    /// Those whose session has answers to take first.
    held: HashMap<SessionId, VecDeque<Read>>,
    waiting: usize,
    /// Refused and dropped so far.
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
}

impl Reads {
    pub(crate) fn new(budget: usize, queue: usize) -> Self {
        Self {
            budget,
            queue,
            reserved: 0,
            under_way: HashMap::new(),
            by_session: HashMap::new(),
            line: VecDeque::new(),
            held: HashMap::new(),
            waiting: 0,
            refused: 0,
            dropped: 0,
        }
    }

    /// Bytes reserved for what is under way.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes in a read; gives it back when too many wait.
    pub(crate) fn enter(&mut self, read: Read) -> Result<(), Read> {
        if self.waiting >= LINE {
            self.refused += 1;
            return Err(read);
        }
        self.waiting += 1;
        match self.held.get_mut(&read.session) {
            Some(before) => before.push_back(read),
            None => self.line.push_back(read),
        }
        Ok(())
    }

    /// The next read that may begin now, for which its bytes are reserved then.
    pub(crate) fn begin(&mut self, peer: impl Fn(SessionId) -> Peer) -> Option<Read> {
        while let Some(read) = self.line.front() {
            let mine = self.by_session.get(&read.session).copied();
            let has_room = |reserved: usize, bound: usize| reserved == 0 || reserved + read.bytes <= bound;
            match peer(read.session) {
                Peer::Gone => {
                    self.line.pop_front();
                    self.waiting -= 1;
                    self.dropped += 1;
                }
                Peer::Ready if has_room(mine.unwrap_or(0), self.queue) => {
                    if !has_room(self.reserved, self.budget) {
                        return None;
                    }
                    let read = self.line.pop_front()?;
                    self.waiting -= 1;
                    self.reserved += read.bytes;
                    *self.by_session.entry(read.session).or_default() += read.bytes;
                    self.under_way.insert((read.session, read.ticket), read.bytes);
                    return Some(read);
                }
                Peer::Ready | Peer::Behind => {
                    // Its later ones wait behind it.
                    let session = read.session;
                    let (mut own, others): (VecDeque<_>, VecDeque<_>) =
                        std::mem::take(&mut self.line).into_iter().partition(|read| read.session == session);
                    self.line = others;
                    self.held.entry(session).or_default().append(&mut own);
                }
            }
        }
        None
    }

    /// A response has arrived: releases what was reserved for it, if it was one of these.
    pub(crate) fn ended(&mut self, session: SessionId, ticket: u32) -> bool {
        if self.under_way.is_empty() {
            return false;
        }
        let Some(bytes) = self.under_way.remove(&(session, ticket)) else { return false };
        self.reserved -= bytes;
        if let Some(mine) = self.by_session.get_mut(&session) {
            *mine -= bytes;
            if *mine == 0 {
                self.by_session.remove(&session);
            }
        }
        self.release(session);
        true
    }

    /// A session may have taken its answers: those of its reads that were held wait for room like others; gives whether
    /// there were some.
    pub(crate) fn release(&mut self, session: SessionId) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let Some(mut own) = self.held.remove(&session) else { return false };
        self.line.append(&mut own);
        true
    }

    /// A session has ended: drops what waits for it.
    pub(crate) fn forget(&mut self, session: SessionId) {
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

    fn read(slot: u32, ticket: u32, bytes: usize) -> Read {
        let request = Request::Presence(Channel::new("a").unwrap());
        Read { session: id(slot), ticket, request, bytes }
    }

    fn begun(reads: &mut Reads, peer: impl Fn(SessionId) -> Peer) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| reads.begin(&peer))
            .map(|read| (read.session.slot.number(), read.ticket))
            .collect()
    }

    #[test]
    fn a_session_reads_one_queue_at_a_time_and_all_together_the_budget() {
        let mut reads = Reads::new(300, 100);
        for slot in 1..=5 {
            for ticket in 1..=2 {
                reads.enter(read(slot, ticket, 100)).unwrap();
            }
        }
        let ready = |_| Peer::Ready;
        assert_eq!(begun(&mut reads, ready), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!((reads.reserved(), reads.waiting()), (300, 7));
        assert!(!reads.ended(id(1), 9), "an answer to something else");
        assert!(reads.ended(id(2), 1));
        assert_eq!(begun(&mut reads, ready), [(4, 1)], "the others were there before its second one");
        for slot in [1, 3, 4] {
            assert!(reads.ended(id(slot), 1));
        }
        assert_eq!(begun(&mut reads, ready), [(5, 1), (2, 2), (1, 2)]);
    }

    #[test]
    fn nothing_is_read_for_a_peer_that_leaves_its_answers_unread_or_has_gone() {
        let mut reads = Reads::new(1_000, 100);
        for ticket in 1..=3 {
            reads.enter(read(1, ticket, 10)).unwrap();
            reads.enter(read(2, ticket, 10)).unwrap();
        }
        let behind =
            |session: SessionId| if session.slot == Slot::new(1) { Peer::Behind } else { Peer::Gone };
        assert_eq!(begun(&mut reads, behind), []);
        assert_eq!((reads.waiting(), reads.dropped), (3, 3));
        reads.enter(read(1, 4, 10)).unwrap();
        assert!(reads.release(id(1)));
        assert_eq!(begun(&mut reads, |_| Peer::Ready), [(1, 1), (1, 2), (1, 3), (1, 4)], "in order");
        reads.enter(read(1, 5, 10)).unwrap();
        assert_eq!(begun(&mut reads, |_| Peer::Behind), []);
        reads.forget(id(1));
        assert_eq!((reads.waiting(), reads.dropped), (0, 4));
    }

    #[test]
    fn an_answer_larger_than_every_bound_is_read_alone() {
        let mut reads = Reads::new(50, 50);
        reads.enter(read(1, 1, 100)).unwrap();
        reads.enter(read(2, 1, 1)).unwrap();
        assert_eq!(begun(&mut reads, |_| Peer::Ready), [(1, 1)]);
        reads.ended(id(1), 1);
        assert_eq!(begun(&mut reads, |_| Peer::Ready), [(2, 1)]);
    }

    #[test]
    fn the_line_is_bounded() {
        let mut reads = Reads::new(1, 1);
        for ticket in 0..LINE {
            reads.enter(read(1, u32::try_from(ticket).unwrap(), 1)).unwrap();
        }
        assert!(reads.enter(read(2, 1, 1)).is_err());
        assert_eq!(reads.refused, 1);
    }
}
