//! One subscribed channel: its received position, and the messages that are held until their order is known.

use std::sync::Arc;
use std::time::Instant;

use tidings_wire::{Channel, Delivery, Epoch, Position, Publication};

use super::snapshot::Snapshot;
use crate::Gap;

/// Most bytes of held messages of one channel.
const MAX_HELD_BYTES: usize = 1 << 20;
/// Memory of a held message besides its bytes.
const HELD_OVERHEAD: usize = 192;

/// Output for the sink, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TrackOutput {
    Deliver(Delivery),
    Gap(Channel, Gap),
}

/// The next query of a channel's stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// None: the channel is settled, or not wanted any more.
    Nothing,
    /// Fetch the publications after this offset.
    Fetch(u64),
    /// Read the position again.
    ReadPosition,
}

/// One channel. [`super::tracker`] defines "settled".
#[derive(Debug)]
pub(super) struct Track {
    channel: Channel,
    /// The position of the last message. `None`: the channel had no history when its position was read, and no message
    /// with a position has arrived since.
    pub(super) last: Option<Position>,
    /// Messages that wait until the channel is settled; `None` when it is.
    pub(super) held: Option<HeldMessages>,
    pub(super) snapshot: Option<Snapshot>,
    /// In a cluster, the term of the last message: how often the channel's primary has changed.
    pub(super) term: Option<u64>,
    /// In a cluster, whether the channel belongs to the primary of this track.
    pub(super) ownership: Ownership,
}

/// Whether a channel belongs to the primary of its track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ownership {
    /// It does.
    #[default]
    Here,
    /// It has moved here from another primary, and is not subscribed here yet.
    Arriving,
    /// It has moved to another primary; messages that still arrive here also arrive there.
    Gone,
}

/// Held messages.
#[derive(Debug, Default)]
pub(super) struct HeldMessages {
    deliveries: Vec<Delivery>,
    bytes: usize,
    /// Some messages did not fit and must be fetched.
    overflowed: bool,
}

impl Track {
    /// A track that begins at a position.
    pub(super) fn starting_at(channel: Channel, last: Option<Position>) -> Self {
        Self { channel, last, held: None, snapshot: None, term: None, ownership: Ownership::Here }
    }

    /// A track that has moved to another primary.
    pub(super) fn gone(channel: Channel) -> Self {
        Self { ownership: Ownership::Gone, ..Self::starting_at(channel, None) }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Takes a message. When it skips offsets, the track becomes unsettled.
    pub(super) fn admit(&mut self, delivery: Delivery, out: &mut Vec<TrackOutput>) {
        if self.ownership == Ownership::Gone {
            // A message with a position arrives, or is fetched, at the new primary.
            if delivery.publication.position.is_none() {
                out.push(TrackOutput::Deliver(delivery));
            }
        } else if self.held.is_some() {
            self.hold(delivery, out);
        } else if let Some(early) = self.step(delivery, out) {
            self.held = Some(HeldMessages::default());
            self.hold(early, out);
        }
    }

    /// Advances by one message; returns it when messages before it are missing.
    fn step(&mut self, delivery: Delivery, out: &mut Vec<TrackOutput>) -> Option<Delivery> {
        let Some(position) = delivery.publication.position.clone() else {
            out.push(TrackOutput::Deliver(delivery));
            return None;
        };
        match &self.last {
            Some(last) if last.epoch == position.epoch => {
                if position.offset <= last.offset {
                    // A repetition.
                    return None;
                }
                if position.offset > last.offset + 1 {
                    return Some(delivery);
                }
            }
            Some(_) => self.skip_to(before(&position), out),
            None if position.offset > 1 => return Some(delivery),
            None => {}
        }
        self.go_on(position, delivery, out);
        None
    }

    fn go_on(&mut self, position: Position, delivery: Delivery, out: &mut Vec<TrackOutput>) {
        let kept = self
            .snapshot
            .as_mut()
            .is_none_or(|snapshot| !snapshot.is_over(Instant::now()) && snapshot.push(&delivery.publication));
        if !kept {
            self.snapshot = None;
        }
        self.last = Some(position);
        out.push(TrackOutput::Deliver(delivery));
    }

    /// Reports everything up to `next` as lost.
    fn skip_to(&mut self, next: Position, out: &mut Vec<TrackOutput>) {
        if let Some(last) = self.last.replace(next.clone()) {
            if last.epoch != next.epoch {
                // An epoch begins with term 1.
                self.term = self.term.map(|_| 1);
            }
            out.push(TrackOutput::Gap(self.channel.clone(), Gap { last, next: Some(next) }));
        }
        self.snapshot = None;
    }

    /// Continues in another epoch. While the track is unsettled, its position is read from Redis, which has this epoch already.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch, out: &mut Vec<TrackOutput>) {
        if self.held.is_none() && self.last.as_ref().is_some_and(|last| last.epoch != epoch) {
            self.skip_to(Position { offset: 0, epoch }, out);
        }
    }

    fn hold(&mut self, delivery: Delivery, out: &mut Vec<TrackOutput>) {
        let Some(held) = &mut self.held else { return };
        let cost = delivery.publication.size() + HELD_OVERHEAD;
        if held.bytes + cost <= MAX_HELD_BYTES {
            held.bytes += cost;
            held.deliveries.push(delivery);
        } else if delivery.publication.position.is_some() {
            held.overflowed = true;
        } else {
            out.push(TrackOutput::Deliver(delivery));
        }
    }

    /// Applies the position that Redis has returned (`None`: no history); emits held messages, or names the range to
    /// fetch.
    pub(super) fn settle(&mut self, now: Option<Position>, out: &mut Vec<TrackOutput>) -> NextStep {
        if self.held.is_none() {
            return NextStep::Nothing;
        }
        let Some(now) = now else { return self.release(None, out) };
        let (epoch, offset) = match &self.last {
            Some(last) => (last.epoch.clone(), last.offset),
            None => (now.epoch.clone(), 0),
        };
        if epoch != now.epoch {
            self.skip_to(now, out);
            return self.release(Some(&epoch), out);
        }
        self.last = Some(Position { offset, epoch });
        if now.offset > offset { NextStep::Fetch(offset) } else { self.release(None, out) }
    }

    /// Applies publications after the last one, as far as they were read; `now` is the channel's position.
    pub(super) fn fill(
        &mut self,
        now: Position,
        missed: Vec<Delivery>,
        out: &mut Vec<TrackOutput>,
    ) -> NextStep {
        if self.held.is_none() {
            return NextStep::Nothing;
        }
        // Without a position, all publications of the epoch are missing.
        let last = self.last.get_or_insert_with(|| Position { offset: 0, ..now.clone() });
        let (epoch, offset) = (last.epoch.clone(), last.offset);
        let first = missed.first().and_then(|delivery| delivery.publication.offset());
        if epoch != now.epoch {
            self.skip_to(now, out);
            return self.release(Some(&epoch), out);
        }
        if now.offset <= offset {
            return self.release(None, out);
        }
        if first != Some(offset + 1) {
            self.skip_to(now, out);
            return self.release(None, out);
        }
        let end = now.offset;
        for delivery in missed {
            if self.step(delivery, out).is_some() {
                // The stream lacks an entry.
                self.skip_to(now, out);
                return self.release(None, out);
            }
        }
        match &self.last {
            Some(last) if last.offset < end => NextStep::Fetch(last.offset),
            _ => self.release(None, out),
        }
    }

    /// Emits held messages, except publications of another epoch than the current position. Those of the epoch that is
    /// `over` belong to the gap; for others the position must be read again to find out which epoch is newer.
    fn release(&mut self, over: Option<&Epoch>, out: &mut Vec<TrackOutput>) -> NextStep {
        let Some(held) = self.held.take() else { return NextStep::Nothing };
        let current = self.last.as_ref().map(|last| last.epoch.clone());
        let mut ask = false;
        for delivery in held.deliveries {
            let epoch = delivery.publication.position.as_ref().map(|position| &position.epoch);
            if epoch.is_none() || current.is_none() || epoch == current.as_ref() {
                self.admit(delivery, out);
            } else {
                ask |= epoch != over;
            }
        }
        if held.overflowed || ask {
            self.held.get_or_insert_default();
        }
        match &self.held {
            None => NextStep::Nothing,
            Some(_) if ask => NextStep::ReadPosition,
            Some(_) => NextStep::Fetch(self.last.as_ref().map_or(0, |last| last.offset)),
        }
    }

    /// Reports a gap of unknown size, because missed messages cannot be determined; emits held messages.
    pub(super) fn abandon(&mut self, out: &mut Vec<TrackOutput>) {
        let gap = self.last.take().map(|last| Gap { last, next: None });
        out.extend(gap.map(|gap| TrackOutput::Gap(self.channel.clone(), gap)));
        out.extend(self.held.take().into_iter().flat_map(|held| held.deliveries).map(TrackOutput::Deliver));
        self.snapshot = None;
    }

    /// Handles a lost connection: messages with a position can be fetched again, the others are emitted.
    pub(super) fn disconnect(&mut self, out: &mut Vec<TrackOutput>) {
        let held = self.held.replace(HeldMessages::default()).unwrap_or_default();
        let live_only = held.deliveries.into_iter().filter(|held| held.publication.position.is_none());
        out.extend(live_only.map(TrackOutput::Deliver));
        self.snapshot = None;
    }

    /// Adds publications that were read before the beginning of the snapshot.
    pub(super) fn complete(&mut self, now: &Position, read: &[Arc<Publication>]) {
        let Some(snapshot) = &mut self.snapshot else { return };
        let same = self.last.as_ref().is_some_and(|last| last.epoch == now.epoch);
        let fits = read.partition_point(|publication| publication.offset() <= Some(snapshot.after()));
        let reaches =
            read[..fits].last().and_then(|publication| publication.offset()) == Some(snapshot.after());
        if same && reaches && !snapshot.prepend(&read[..fits]) {
            self.snapshot = None;
        }
    }
}

/// The position before `position`.
pub(super) fn before(position: &Position) -> Position {
    Position { offset: position.offset.saturating_sub(1), epoch: position.epoch.clone() }
}
