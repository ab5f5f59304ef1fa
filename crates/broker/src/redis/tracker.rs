//! The received position of each subscribed channel, so that missed publications are detected, and fetched or
//! announced.
//!
//! A channel is *settled* while every message since its subscription has been received and admitted. It becomes
//! unsettled when the connection is lost or an offset is skipped. From then on its messages are held, its position is
//! read, and missing publications are fetched from its stream. Nothing reaches the sink out of order.
//!
//! Invariants:
//! - Per channel and epoch, admitted offsets are consecutive. Anything else is reported as a [`Gap`](crate::Gap), at
//!   its place in the order.
//! - This node has received a settled channel completely up to its position, so an answer to a query of this node may
//!   end there (see [`HistoryPage::position`]).
//! - Held messages of one channel are bounded. A message that does not fit is fetched from the stream again, or,
//!   without a position, emitted at once: a late message would be lost, an early one is not.
//! - A snapshot contains the consecutive publications that end at the channel's position.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tidings_wire::{Channel, Delivery, Epoch, Position, Publication};
use tokio::sync::Notify;

use super::snapshot::{Snapshot, Total};
use super::track::{NextStep, Ownership, Track, TrackOutput, before};
use crate::{ANSWER_OVERHEAD, lock};
use tidings_wire::{History, HistoryPage, HistoryQuery};

/// The subscribed channels.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    table: Mutex<TrackTable>,
    unsettled: Notify,
    snapshots: Total,
}

#[derive(Debug, Default)]
struct TrackTable {
    tracks: HashMap<Channel, Track>,
    /// Number of unsettled tracks.
    unsettled_count: usize,
    /// Channels that became unsettled because a message skipped offsets.
    holes: Vec<Channel>,
    /// Channels that may have a snapshot, the oldest first.
    snapshots: VecDeque<(Instant, Channel)>,
}

impl Tracker {
    /// Takes a message of a channel; appends to `out` what the sink may receive now.
    pub(super) fn admit(&self, delivery: Delivery, out: &mut Vec<TrackOutput>) {
        let mut table = lock(&self.table);
        let TrackTable { tracks, unsettled_count, holes, .. } = &mut *table;
        let channel = &delivery.publication.channel;
        let track = match &delivery.publication.position {
            None if *unsettled_count == 0 => None,
            None => tracks.get_mut(channel),
            // Received before the channel's position was read: it was the one before this message.
            Some(at) => Some(
                tracks
                    .entry(channel.clone())
                    .or_insert_with(|| Track::starting_at(channel.clone(), Some(before(at)))),
            ),
        };
        let Some(track) = track else {
            out.push(TrackOutput::Deliver(delivery));
            return;
        };
        let settled = track.held.is_none();
        let channel = settled.then(|| channel.clone());
        track.admit(delivery, out);
        if let Some(channel) = channel
            && track.held.is_some()
        {
            *unsettled_count += 1;
            holes.push(channel);
            self.unsettled.notify_one();
        }
    }

    /// An epoch by its text; shares the memory of the channel's own epoch.
    pub(super) fn epoch(&self, channel: &Channel, text: &str) -> Epoch {
        let table = lock(&self.table);
        let last = table.tracks.get(channel).and_then(|track| track.last.as_ref());
        last.filter(|last| last.epoch.as_str() == text).map_or_else(|| text.into(), |last| last.epoch.clone())
    }

    /// The last position of an unsettled channel, and its term.
    pub(super) fn unsettled_position(&self, channel: &Channel) -> Option<(Position, Option<u64>)> {
        let table = lock(&self.table);
        let track = table.tracks.get(channel).filter(|track| track.held.is_some())?;
        Some((track.last.clone()?, track.term))
    }

    /// Sets the term of the messages that follow.
    pub(super) fn in_term(&self, channel: &Channel, term: u64) {
        if let Some(track) = lock(&self.table).tracks.get_mut(channel) {
            track.term = Some(term);
        }
    }

    /// Detaches a channel's track for another primary's tracker, where it is unsettled. No further message with a
    /// position of the channel is emitted here.
    pub(super) fn release(&self, channel: &Channel, out: &mut Vec<TrackOutput>) -> Option<Track> {
        let mut table = lock(&self.table);
        let track = table.tracks.get_mut(channel).filter(|track| track.ownership != Ownership::Gone)?;
        let was_held = track.held.is_some();
        track.disconnect(out);
        let mut released = if track.ownership == Ownership::Arriving {
            table.tracks.remove(channel)?
        } else {
            std::mem::replace(track, Track::gone(channel.clone()))
        };
        released.ownership = Ownership::Arriving;
        table.unsettled_count -= usize::from(was_held);
        Some(released)
    }

    /// Attaches a track that another tracker has released.
    pub(super) fn attach(&self, track: Track) {
        let mut table = lock(&self.table);
        let channel = track.channel().clone();
        table.unsettled_count += usize::from(track.held.is_some());
        if table.tracks.insert(channel, track).is_some_and(|old| old.held.is_some()) {
            table.unsettled_count -= 1;
        }
    }

    /// Drops the track of a channel that has moved here or away while the channel is not wanted: it begins anew later.
    pub(super) fn drop_foreign_track(&self, channel: &Channel) {
        let mut table = lock(&self.table);
        if table.tracks.get(channel).is_some_and(|track| track.ownership != Ownership::Here)
            && table.tracks.remove(channel).is_some_and(|track| track.held.is_some())
        {
            table.unsettled_count -= 1;
        }
    }

    /// Drops the tracks of channels that have moved away, except of those that may still receive messages here.
    pub(super) fn sweep(&self, receives: impl Fn(&Channel) -> bool) {
        let mut table = lock(&self.table);
        table.tracks.retain(|channel, track| track.ownership != Ownership::Gone || receives(channel));
        table.unsettled_count = table.tracks.values().filter(|track| track.held.is_some()).count();
    }

    /// Queues these channels again if they are still unsettled.
    pub(super) fn requeue_unsettled(&self, channels: Vec<Channel>) {
        lock(&self.table).holes.extend(channels);
        self.unsettled.notify_one();
    }

    /// Applies the position that Redis has returned after the subscription (`None`: no history).
    pub(super) fn settle(
        &self,
        channel: &Channel,
        now: Option<Position>,
        out: &mut Vec<TrackOutput>,
    ) -> NextStep {
        let mut table = lock(&self.table);
        let Some(track) = table.tracks.get_mut(channel) else {
            table.tracks.insert(channel.clone(), Track::starting_at(channel.clone(), now));
            return NextStep::Nothing;
        };
        if track.ownership == Ownership::Arriving {
            track.ownership = Ownership::Here;
        }
        let next = table.act(channel, |track| track.settle(now, out)).unwrap_or(NextStep::Nothing);
        self.requeue(&mut table, channel, next)
    }

    /// Applies publications after the last received one, in order, and the channel's position.
    pub(super) fn fill(
        &self,
        channel: &Channel,
        now: Position,
        missed: Vec<Delivery>,
        out: &mut Vec<TrackOutput>,
    ) -> NextStep {
        let mut table = lock(&self.table);
        let next = table.act(channel, |track| track.fill(now, missed, out)).unwrap_or(NextStep::Nothing);
        self.requeue(&mut table, channel, next)
    }

    /// Queues a channel again if its position must be read again.
    fn requeue(&self, table: &mut TrackTable, channel: &Channel, next: NextStep) -> NextStep {
        if next != NextStep::ReadPosition {
            return next;
        }
        table.holes.push(channel.clone());
        self.unsettled.notify_one();
        NextStep::Nothing
    }

    /// Handles the end of a channel's history; the next one has this epoch.
    pub(super) fn begin_epoch(&self, channel: &Channel, epoch: &str, out: &mut Vec<TrackOutput>) {
        let mut table = lock(&self.table);
        if let Some(track) = table.tracks.get_mut(channel).filter(|track| track.ownership == Ownership::Here)
        {
            track.begin_epoch(epoch.into(), out);
        }
    }

    /// Handles a channel without a readable position.
    pub(super) fn abandon(&self, channel: &Channel, out: &mut Vec<TrackOutput>) {
        let mut table = lock(&self.table);
        table.act(channel, |track| track.abandon(out));
        table.tracks.remove(channel);
    }

    /// Handles a lost connection.
    pub(super) fn disconnected(&self, out: &mut Vec<TrackOutput>) {
        let mut table = lock(&self.table);
        table.tracks.values_mut().for_each(|track| track.disconnect(out));
        table.unsettled_count = table.tracks.len();
        table.holes.clear();
    }

    /// Drops the tracks of channels that are not to be kept.
    pub(super) fn retain(&self, keep: impl Fn(&Channel) -> bool) {
        let mut table = lock(&self.table);
        table.tracks.retain(|channel, track| match track.ownership {
            Ownership::Arriving => true,
            Ownership::Here => keep(channel),
            Ownership::Gone => false,
        });
        table.unsettled_count = table.tracks.values().filter(|track| track.held.is_some()).count();
    }

    /// Drops a channel's track.
    pub(super) fn forget(&self, channel: &Channel) {
        let mut table = lock(&self.table);
        if table.tracks.get(channel).is_some_and(|track| track.ownership == Ownership::Arriving) {
            // The channel has moved here again; the subscription that has ended is its earlier one.
            return;
        }
        if table.tracks.remove(channel).is_some_and(|track| track.held.is_some()) {
            table.unsettled_count -= 1;
        }
    }

    /// The channels that became unsettled by a skipped offset.
    pub(super) fn take_holes(&self) -> Vec<Channel> {
        let mut table = lock(&self.table);
        let mut holes = std::mem::take(&mut table.holes);
        holes.retain(|channel| table.tracks.get(channel).is_some_and(|track| track.held.is_some()));
        holes
    }

    /// Waits until there may be such a channel.
    pub(super) async fn unsettled(&self) {
        self.unsettled.notified().await;
    }

    /// Answers a query for the publications after a position (or for the position alone) without Redis, if the tracker
    /// has all of them and the query accepts received messages.
    pub(super) fn try_answer(&self, channel: &Channel, query: &HistoryQuery) -> Option<History> {
        if !query.for_subscriber {
            return None;
        }
        let table = lock(&self.table);
        let track = table
            .tracks
            .get(channel)
            .filter(|track| track.held.is_none() && track.ownership == Ownership::Here)?;
        let position = track.last.clone()?;
        let publications = match &query.since {
            None => Vec::new(),
            // Redis must answer: another node may have received a later message.
            Some(since) if !since.is_in(&position.epoch) || since.offset > position.offset => return None,
            Some(since) if since.offset == position.offset || query.limit == Some(0) => {
                // Without a publication to return, the answer still depends on a gap.
                if since.offset < position.offset && track.snapshot.as_ref()?.after() > since.offset {
                    return None;
                }
                Vec::new()
            }
            Some(since) => {
                let snapshot = track.snapshot.as_ref()?;
                if snapshot.after() > since.offset || snapshot.is_over(Instant::now()) {
                    return None;
                }
                let missed = snapshot.since(since.offset).take(query.limit.unwrap_or(usize::MAX));
                let mut bytes = 0;
                let count = |publication: &&Arc<Publication>| {
                    bytes += publication.size() + ANSWER_OVERHEAD;
                    bytes <= query.max_bytes
                };
                let missed: Vec<_> = missed.take_while(count).cloned().collect();
                if bytes > query.max_bytes {
                    return Some(History::Unrecoverable(position));
                }
                missed
            }
        };
        Some(History::Page(HistoryPage { position, publications }))
    }

    /// Begins a snapshot of a settled channel, before its stream is read.
    pub(super) fn record(&self, channel: &Channel) {
        let mut table = lock(&self.table);
        let now = Instant::now();
        while let Some((until, _)) = table.snapshots.front()
            && *until <= now
            && let Some((_, channel)) = table.snapshots.pop_front()
        {
            if let Some(track) = table.tracks.get_mut(&channel)
                && track.snapshot.as_ref().is_some_and(|snapshot| snapshot.is_over(now))
            {
                track.snapshot = None;
            }
        }
        let TrackTable { tracks, snapshots, .. } = &mut *table;
        if let Some(track) = tracks.get_mut(channel)
            && track.held.is_none()
            && track.snapshot.as_ref().is_none_or(|snapshot| snapshot.is_over(now))
            && let Some(last) = &track.last
        {
            let snapshot = Snapshot::new(last.offset, now, Arc::clone(&self.snapshots));
            snapshots.push_back((snapshot.until(), channel.clone()));
            track.snapshot = Some(snapshot);
        }
    }

    /// Adds the publications of a read up to `now`, without a gap. A settled channel without any publication gets its
    /// position.
    pub(super) fn complete(&self, channel: &Channel, now: &Position, read: &[Arc<Publication>]) {
        let mut table = lock(&self.table);
        let Some(track) = table.tracks.get_mut(channel).filter(|track| track.ownership == Ownership::Here)
        else {
            return;
        };
        if track.last.is_none() && track.held.is_none() && now.offset == 0 {
            track.last = Some(now.clone());
        }
        track.complete(now, read);
    }

    /// Drops the snapshot of a channel.
    pub(super) fn drop_snapshot(&self, channel: &Channel) {
        if let Some(track) = lock(&self.table).tracks.get_mut(channel) {
            track.snapshot = None;
        }
    }
}

impl TrackTable {
    /// Runs a change of a track that may settle or unsettle it, and keeps the count.
    fn act<T>(&mut self, channel: &Channel, act: impl FnOnce(&mut Track) -> T) -> Option<T> {
        let track = self.tracks.get_mut(channel)?;
        self.unsettled_count -= usize::from(track.held.is_some());
        let result = act(track);
        self.unsettled_count += usize::from(track.held.is_some());
        Some(result)
    }
}

#[cfg(test)]
mod tests;
