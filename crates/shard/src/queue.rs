//! The queue of a connection: bytes that its socket has not accepted.
//!
//! A queue exists only while its peer is behind. It is bounded in bytes; at the bound, the caller applies a policy with
//! the operations here. A partially sent entry is always completed, and control traffic is never dropped.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use crate::socket::Socket;
use bytes::Bytes;

/// Most slices per system call.
const SLICES: usize = 64;
/// The cost of an entry besides its bytes, in bytes.
pub(crate) const OVERHEAD: usize = 64;

/// Joined publications of one topic.
#[derive(Clone, Debug)]
pub(crate) struct PublicationBatch {
    /// The topic's serial number.
    pub(crate) topic: u64,
    /// Number of publications in the bytes.
    pub(crate) count: u64,
    pub(crate) bytes: Bytes,
    /// Whether the policy of the topic permits to drop them.
    pub(crate) droppable: bool,
}

#[derive(Debug)]
enum Entry {
    Control(Bytes),
    Data(PublicationBatch),
    /// The number of missing publications at this position.
    Gap(u64),
}

impl Entry {
    fn cost(&self) -> usize {
        match self {
            Self::Control(bytes) => bytes.len() + OVERHEAD,
            Self::Data(data) => data.bytes.len() + OVERHEAD,
            // A gap replaces dropped entries, and adjacent gaps are merged.
            Self::Gap(_) => 0,
        }
    }
}

/// The result of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    All,
    Part,
}

/// A connection's queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    /// Bytes of the first entry that are sent.
    begun: usize,
    cost: usize,
    control: usize,
    /// Whether the peer has accepted bytes since the last call of [`Self::has_progressed`].
    progressed: bool,
    /// Whether a timer checks the queue.
    pub(crate) watched: bool,
}

impl Queue {
    /// The cost of all entries, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Bytes of control traffic in it.
    pub(crate) fn control(&self) -> usize {
        self.control
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the peer has accepted bytes since the last call.
    pub(crate) fn has_progressed(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// Queues control traffic, without a bound.
    pub(crate) fn push_control(&mut self, bytes: Bytes) {
        self.control += bytes.len();
        self.push(Entry::Control(bytes));
    }

    /// Queues an entry of which the first `begun` bytes are sent.
    pub(crate) fn push_begun(&mut self, data: PublicationBatch, begun: usize) {
        debug_assert!(self.entries.is_empty());
        self.begun = begun;
        self.push(Entry::Data(data));
    }

    /// Queues publications, unless the queue would exceed `bound` bytes; returns whether they are queued.
    pub(crate) fn push_data(&mut self, data: &PublicationBatch, bound: usize) -> bool {
        if self.cost + data.bytes.len() + OVERHEAD > bound {
            return false;
        }
        self.push(Entry::Data(data.clone()));
        true
    }

    fn push(&mut self, entry: Entry) {
        self.cost += entry.cost();
        self.entries.push_back(entry);
    }

    /// Queues publications, and drops the oldest droppable ones until there is room, or else the new ones. A gap is
    /// recorded in their position. Returns the number of dropped publications.
    pub(crate) fn push_dropping_oldest(&mut self, data: &PublicationBatch, bound: usize) -> u64 {
        let room = data.bytes.len() + OVERHEAD;
        let mut dropped = 0;
        let mut at = None;
        let mut i = self.first_whole();
        while self.cost + room > bound && i < self.entries.len() {
            match &self.entries[i] {
                Entry::Data(d) if d.droppable => {
                    dropped += d.count;
                    at.get_or_insert(i);
                    self.remove(i);
                }
                _ => i += 1,
            }
        }
        if let Some(at) = at {
            self.gap(at, dropped);
        }
        if !self.push_data(data, bound) {
            dropped += data.count;
            self.gap(self.entries.len(), data.count);
        }
        dropped
    }

    /// Drops the waiting publications of the topic, and queues `newest`, one publication. `left_out` publications
    /// before it count as dropped. Other topics are dropped if the bound requires it. Returns the number of dropped
    /// publications.
    pub(crate) fn replace_topic(&mut self, newest: &PublicationBatch, left_out: u64, bound: usize) -> u64 {
        let (dropped, at) = self.remove_topic(newest.topic);
        let dropped = dropped + left_out;
        if dropped > 0 {
            self.gap(at.unwrap_or(self.entries.len()), dropped);
        }
        dropped + self.push_dropping_oldest(newest, bound)
    }

    /// Drops the waiting publications of the topic; returns their number.
    pub(crate) fn drop_topic(&mut self, topic: u64) -> u64 {
        self.remove_topic(topic).0
    }

    fn remove_topic(&mut self, topic: u64) -> (u64, Option<usize>) {
        let mut dropped = 0;
        let mut at = None;
        let mut i = self.first_whole();
        while i < self.entries.len() {
            match &self.entries[i] {
                Entry::Data(d) if d.topic == topic => {
                    dropped += d.count;
                    at.get_or_insert(i);
                    self.remove(i);
                }
                _ => i += 1,
            }
        }
        (dropped, at)
    }

    /// Drops all publications except a partially sent one, and all gaps; returns the number of missing publications.
    pub(crate) fn drop_all(&mut self) -> u64 {
        let mut dropped = 0;
        let mut i = self.first_whole();
        while i < self.entries.len() {
            match &self.entries[i] {
                Entry::Data(d) => dropped += d.count,
                Entry::Gap(n) => dropped += n,
                Entry::Control(_) => {
                    i += 1;
                    continue;
                }
            }
            self.remove(i);
        }
        dropped
    }

    /// Records missing publications at the end of the queue.
    pub(crate) fn push_gap(&mut self, dropped: u64) {
        self.gap(self.entries.len(), dropped);
    }

    /// Records a gap before entry `at`, merged with an adjacent one.
    fn gap(&mut self, at: usize, dropped: u64) {
        for near in [at.checked_sub(1), Some(at)].into_iter().flatten() {
            if let Some(Entry::Gap(n)) = self.entries.get_mut(near) {
                *n += dropped;
                return;
            }
        }
        self.entries.insert(at, Entry::Gap(dropped));
    }

    fn remove(&mut self, i: usize) {
        if let Some(entry) = self.entries.remove(i) {
            self.cost -= entry.cost();
            if let Entry::Control(bytes) = &entry {
                self.control -= bytes.len();
            }
        }
    }

    /// The index of the first entry of which nothing is sent.
    fn first_whole(&self) -> usize {
        usize::from(self.begun > 0)
    }

    /// Writes entries to the socket; adds the number of written bytes to `sent`.
    ///
    /// # Errors
    /// An error of the socket, except "would block".
    pub(crate) fn flush(&mut self, socket: &mut Socket, sent: &mut u64) -> io::Result<Flushed> {
        while !self.entries.is_empty() {
            self.write_out_gaps();
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut n = 0;
            for (i, entry) in self.entries.iter().take(SLICES).enumerate() {
                let (Entry::Control(bytes) | Entry::Data(PublicationBatch { bytes, .. })) = entry else {
                    break;
                };
                slices[i] = IoSlice::new(if i == 0 { &bytes[self.begun..] } else { bytes });
                n += 1;
            }
            match socket.write_vectored(&slices[..n]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    *sent += written as u64;
                    self.progressed = true;
                    self.advance(written);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Part),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Flushed::All)
    }

    /// Converts the gaps among the next entries to notices.
    fn write_out_gaps(&mut self) {
        for entry in self.entries.iter_mut().take(SLICES) {
            if let Entry::Gap(dropped) = entry {
                let mut notice = Vec::new();
                tidings_session::gap_notice(*dropped, &mut notice);
                self.control += notice.len();
                *entry = Entry::Control(notice.into());
                self.cost += entry.cost();
            }
        }
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(Entry::Control(bytes) | Entry::Data(PublicationBatch { bytes, .. })) =
            self.entries.front()
        {
            let left = bytes.len() - self.begun;
            if written < left {
                self.begun += written;
                return;
            }
            written -= left;
            self.begun = 0;
            self.remove(0);
            if written == 0 && self.entries.is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(topic: u64, count: u64, bytes: &'static str, droppable: bool) -> PublicationBatch {
        PublicationBatch { topic, count, bytes: Bytes::from_static(bytes.as_bytes()), droppable }
    }

    /// The bytes that a peer would read.
    fn contents(queue: &mut Queue) -> String {
        while queue.entries.iter().any(|e| matches!(e, Entry::Gap(_))) {
            queue.write_out_gaps();
        }
        let mut all = Vec::new();
        for (i, entry) in queue.entries.iter().enumerate() {
            if let Entry::Control(b) | Entry::Data(PublicationBatch { bytes: b, .. }) = entry {
                all.extend_from_slice(if i == 0 { &b[queue.begun..] } else { b });
            }
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn the_oldest_publications_are_dropped_counted_and_reported_in_their_position() {
        let mut q = Queue::default();
        let bound = 3 * (OVERHEAD + 2);
        q.push_control(Bytes::from_static(b"C\n"));
        assert!(q.push_data(&data(1, 1, "a\n", true), bound));
        assert!(q.push_data(&data(1, 2, "b\n", true), bound));
        assert_eq!(q.push_dropping_oldest(&data(1, 1, "c\n", true), bound), 1);
        assert_eq!(q.push_dropping_oldest(&data(1, 1, "d\n", true), bound), 2);
        assert!(q.cost() <= bound);
        assert_eq!(contents(&mut q), "C\nERROR 3008 slow: 3 messages dropped\r\nc\nd\n");
    }

    #[test]
    fn new_publications_are_dropped_if_queued_ones_must_stay() {
        let mut q = Queue::default();
        let bound = 2 * (OVERHEAD + 2);
        assert!(q.push_data(&data(1, 1, "a\n", false), bound));
        assert!(q.push_data(&data(1, 1, "b\n", false), bound));
        assert_eq!(q.push_dropping_oldest(&data(2, 5, "c\n", true), bound), 5);
        assert_eq!(q.push_dropping_oldest(&data(2, 1, "d\n", true), bound), 1);
        assert_eq!(contents(&mut q), "a\nb\nERROR 3008 slow: 6 messages dropped\r\n");
    }

    #[test]
    fn a_partially_sent_publication_is_completed_and_the_newest_stays() {
        let mut q = Queue::default();
        q.push_begun(data(1, 1, "abc\n", true), 2);
        assert!(q.push_data(&data(1, 1, "def\n", true), 1 << 20));
        assert!(q.push_data(&data(2, 1, "other\n", true), 1 << 20));
        assert_eq!(q.replace_topic(&data(1, 1, "new\n", true), 3, 1 << 20), 4);
        assert_eq!(contents(&mut q), "c\nERROR 3008 slow: 4 messages dropped\r\nother\nnew\n");
    }

    #[test]
    fn a_cut_drops_all_data_and_keeps_control() {
        let mut q = Queue::default();
        q.push_begun(data(1, 1, "abc\n", true), 2);
        assert!(q.push_data(&data(1, 7, "def\n", true), 1 << 20));
        q.push_control(Bytes::from_static(b"PONG\n"));
        q.push_gap(4);
        assert_eq!(q.drop_all(), 11);
        assert_eq!(contents(&mut q), "c\nPONG\n");
    }

    #[test]
    fn an_emptied_queue_costs_nothing() {
        let mut q = Queue::default();
        q.push_control(Bytes::from_static(b"one"));
        assert!(q.push_data(&data(1, 1, "two", true), 1 << 20));
        q.push_gap(1);
        q.write_out_gaps();
        q.advance(2);
        q.advance(3);
        assert_eq!(q.begun, 2);
        q.advance(1 + "ERROR 3008 slow: 1 messages dropped\r\n".len());
        assert!(q.is_empty());
        assert_eq!((q.cost(), q.control(), q.begun), (0, 0, 0));
    }
}
