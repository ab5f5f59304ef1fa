//! One subscribed channel: how far it has been heard, and what is held until it is clear what comes first.

use std::sync::Arc;
use std::time::Instant;

use tidings_wire::{Channel, Delivery, Epoch, Position, Publication};

use super::snapshot::Snapshot;
use crate::Gap;

/// How many bytes of messages are held of one channel.
const HELD_BYTES: usize = 1 << 20;
/// What holding a message costs besides its bytes.
const HELD: usize = 192;

/// What goes to the sink, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Out {
    Deliver(Delivery),
    Gap(Channel, Gap),
}

/// What is to be asked of a channel's stream next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: the channel is settled, or nobody asks for it any more.
    Nothing,
    /// The publications after this offset.
    Fetch(u64),
    /// Where the channel stands, once more.
    Ask,
}

/// One channel. See [`super::tracker`] for what settled means.
#[derive(Debug)]
pub(super) struct Track {
    channel: Channel,
    /// What was heard last. Without one, the channel had no history when it was asked for, and none was heard since.
    pub(super) last: Option<Position>,
    /// What waits until it is settled; `None` when it is.
    pub(super) held: Option<Held>,
    pub(super) snapshot: Option<Snapshot>,
    /// The term of what was heard last, in a cluster: how often the channel's primary had changed.
    pub(super) term: Option<u64>,
    /// How it stands with the channel's primary, in a cluster.
    pub(super) stay: Stay,
}

/// Whether a channel is with the primary that its track belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stay {
    /// It is.
    #[default]
    Here,
    /// It has come from another one, and is not subscribed here yet.
    Coming,
    /// It has gone to another one; what is still heard of it here is heard there as well.
    Gone,
}

/// Messages that wait.
#[derive(Debug, Default)]
pub(super) struct Held {
    deliveries: Vec<Delivery>,
    bytes: usize,
    /// Some did not fit and are to be fetched.
    overflowed: bool,
}

impl Track {
    /// One that begins at a position.
    pub(super) fn at(channel: Channel, last: Option<Position>) -> Self {
        Self { channel, last, held: None, snapshot: None, term: None, stay: Stay::Here }
    }

    /// One that has gone to another primary.
    pub(super) fn gone(channel: Channel) -> Self {
        Self { stay: Stay::Gone, ..Self::at(channel, None) }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Takes a message. When it skips offsets, the track is unsettled from then on.
    pub(super) fn admit(&mut self, delivery: Delivery, out: &mut Vec<Out>) {
        if self.stay == Stay::Gone {
            // What has a position is heard, or fetched, where the channel has gone to.
            if delivery.publication.position.is_none() {
                out.push(Out::Deliver(delivery));
            }
        } else if self.held.is_some() {
            self.hold(delivery, out);
        } else if let Some(early) = self.step(delivery, out) {
            self.held = Some(Held::default());
            self.hold(early, out);
        }
    }

    /// Goes on by one message, or gives it back when others are missing before it.
    fn step(&mut self, delivery: Delivery, out: &mut Vec<Out>) -> Option<Delivery> {
        let Some(position) = delivery.publication.position.clone() else {
            out.push(Out::Deliver(delivery));
            return None;
        };
        match &self.last {
            Some(last) if last.epoch == position.epoch => {
                if position.offset <= last.offset {
                    // Delivered before.
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

    fn go_on(&mut self, position: Position, delivery: Delivery, out: &mut Vec<Out>) {
        let kept = self
            .snapshot
            .as_mut()
            .is_none_or(|snapshot| !snapshot.is_over(Instant::now()) && snapshot.push(&delivery.publication));
        if !kept {
            self.snapshot = None;
        }
        self.last = Some(position);
        out.push(Out::Deliver(delivery));
    }

    /// Announces that everything up to `next` is lost.
    fn skip_to(&mut self, next: Position, out: &mut Vec<Out>) {
        if let Some(last) = self.last.replace(next.clone()) {
            if last.epoch != next.epoch {
                // An epoch begins with the first one.
                self.term = self.term.map(|_| 1);
            }
            out.push(Out::Gap(self.channel.clone(), Gap { last, next: Some(next) }));
        }
        self.snapshot = None;
    }

    fn hold(&mut self, delivery: Delivery, out: &mut Vec<Out>) {
        let Some(held) = &mut self.held else { return };
        let cost = delivery.publication.size() + HELD;
        if held.bytes + cost <= HELD_BYTES {
            held.bytes += cost;
            held.deliveries.push(delivery);
        } else if delivery.publication.position.is_some() {
            held.overflowed = true;
        } else {
            out.push(Out::Deliver(delivery));
        }
    }

    /// The channel stands there (`None`: it has no history); what is held may go on, or something is to be fetched.
    pub(super) fn settle(&mut self, now: Option<Position>, out: &mut Vec<Out>) -> Next {
        if self.held.is_none() {
            return Next::Nothing;
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
        if now.offset > offset { Next::Fetch(offset) } else { self.release(None, out) }
    }

    /// These are the publications after the last one, as far as they were read; the channel stands at `now`.
    pub(super) fn fill(&mut self, now: Position, missed: Vec<Delivery>, out: &mut Vec<Out>) -> Next {
        if self.held.is_none() {
            return Next::Nothing;
        }
        // Without a position, all that was ever published is missing.
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
                // A stream with a hole in it.
                self.skip_to(now, out);
                return self.release(None, out);
            }
        }
        match &self.last {
            Some(last) if last.offset < end => Next::Fetch(last.offset),
            _ => self.release(None, out),
        }
    }

    /// Lets go of what is held, but not of the publications of another epoch than that of the position: those of the one
    /// that is `over` belong to the gap, and whether others came before this epoch or after it, asking again will tell.
    fn release(&mut self, over: Option<&Epoch>, out: &mut Vec<Out>) -> Next {
        let Some(held) = self.held.take() else { return Next::Nothing };
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
            None => Next::Nothing,
            Some(_) if ask => Next::Ask,
            Some(_) => Next::Fetch(self.last.as_ref().map_or(0, |last| last.offset)),
        }
    }

    /// Nobody can say what was missed; what is held goes on.
    pub(super) fn abandon(&mut self, out: &mut Vec<Out>) {
        let gap = self.last.take().map(|last| Gap { last, next: None });
        out.extend(gap.map(|gap| Out::Gap(self.channel.clone(), gap)));
        out.extend(self.held.take().into_iter().flat_map(|held| held.deliveries).map(Out::Deliver));
        self.snapshot = None;
    }

    /// The connection is lost: what has a position can be fetched again, the rest goes on.
    pub(super) fn disconnect(&mut self, out: &mut Vec<Out>) {
        let held = self.held.replace(Held::default()).unwrap_or_default();
        let live_only = held.deliveries.into_iter().filter(|held| held.publication.position.is_none());
        out.extend(live_only.map(Out::Deliver));
        self.snapshot = None;
    }

    /// Puts what was read before the beginning of the snapshot.
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

/// The position before one.
pub(super) fn before(position: &Position) -> Position {
    Position { offset: position.offset.saturating_sub(1), epoch: position.epoch.clone() }
}
