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
    holding: usize,
    /// Channels that became unsettled because a message skipped offsets.
    holes: Vec<Channel>,
    /// Channels that may have a snapshot, the oldest first.
    remembered: VecDeque<(Instant, Channel)>,
}

impl Tracker {
    /// Takes a message of a channel; appends to `out` what the sink may receive now.
    pub(super) fn admit(&self, delivery: Delivery, out: &mut Vec<TrackOutput>) {
        let mut table = lock(&self.table);
        let TrackTable { tracks, holding, holes, .. } = &mut *table;
        let channel = &delivery.publication.channel;
        let track = match &delivery.publication.position {
            None if *holding == 0 => None,
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
            *holding += 1;
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
    pub(super) fn heard(&self, channel: &Channel) -> Option<(Position, Option<u64>)> {
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
        let mut released = if track.ownership == Ownership::Coming {
            table.tracks.remove(channel)?
        } else {
            std::mem::replace(track, Track::gone(channel.clone()))
        };
        released.ownership = Ownership::Coming;
        table.holding -= usize::from(was_held);
        Some(released)
    }

    /// Attaches a track that another tracker has released.
    pub(super) fn attach(&self, track: Track) {
        let mut table = lock(&self.table);
        let channel = track.channel().clone();
        table.holding += usize::from(track.held.is_some());
        if table.tracks.insert(channel, track).is_some_and(|old| old.held.is_some()) {
            table.holding -= 1;
        }
    }

    /// Drops the track of a channel that has moved here or away while the channel is not wanted: it begins anew later.
    pub(super) fn drop_foreign_track(&self, channel: &Channel) {
        let mut table = lock(&self.table);
        if table.tracks.get(channel).is_some_and(|track| track.ownership != Ownership::Here)
            && table.tracks.remove(channel).is_some_and(|track| track.held.is_some())
        {
            table.holding -= 1;
        }
    }

    /// Drops the tracks of channels that have moved away, except of those that may still receive messages here.
    pub(super) fn sweep(&self, heard: impl Fn(&Channel) -> bool) {
        let mut table = lock(&self.table);
        table.tracks.retain(|channel, track| track.ownership != Ownership::Gone || heard(channel));
        table.holding = table.tracks.values().filter(|track| track.held.is_some()).count();
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
        if track.ownership == Ownership::Coming {
            track.ownership = Ownership::Here;
        }
        let next = table.act(channel, |track| track.settle(now, out)).unwrap_or(NextStep::Nothing);
        self.again(&mut table, channel, next)
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
        self.again(&mut table, channel, next)
    }

    /// Queues a channel again if its position must be read again.
    fn again(&self, table: &mut TrackTable, channel: &Channel, next: NextStep) -> NextStep {
        if next != NextStep::Ask {
            return next;
        }
        table.holes.push(channel.clone());
        self.unsettled.notify_one();
        NextStep::Nothing
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
        table.holding = table.tracks.len();
        table.holes.clear();
    }

    /// Drops the tracks of channels that are not to be kept.
    pub(super) fn retain(&self, keep: impl Fn(&Channel) -> bool) {
        let mut table = lock(&self.table);
        table.tracks.retain(|channel, track| match track.ownership {
            Ownership::Coming => true,
            Ownership::Here => keep(channel),
            Ownership::Gone => false,
        });
        table.holding = table.tracks.values().filter(|track| track.held.is_some()).count();
    }

    /// Drops a channel's track.
    pub(super) fn forget(&self, channel: &Channel) {
        let mut table = lock(&self.table);
        if table.tracks.get(channel).is_some_and(|track| track.ownership == Ownership::Coming) {
            // The channel has moved here again; the subscription that has ended is its earlier one.
            return;
        }
        if table.tracks.remove(channel).is_some_and(|track| track.held.is_some()) {
            table.holding -= 1;
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
        if !query.heard {
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
        while let Some((until, _)) = table.remembered.front()
            && *until <= now
            && let Some((_, channel)) = table.remembered.pop_front()
        {
            if let Some(track) = table.tracks.get_mut(&channel)
                && track.snapshot.as_ref().is_some_and(|snapshot| snapshot.is_over(now))
            {
                track.snapshot = None;
            }
        }
        let TrackTable { tracks, remembered, .. } = &mut *table;
        if let Some(track) = tracks.get_mut(channel)
            && track.held.is_none()
            && track.snapshot.as_ref().is_none_or(|snapshot| snapshot.is_over(now))
            && let Some(last) = &track.last
        {
            let snapshot = Snapshot::new(last.offset, now, Arc::clone(&self.snapshots));
            remembered.push_back((snapshot.until(), channel.clone()));
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
        self.holding -= usize::from(track.held.is_some());
        let result = act(track);
        self.holding += usize::from(track.held.is_some());
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_wire::Topic;

    use super::*;
    use crate::Gap;

    fn channel() -> Channel {
        Channel::new("a").unwrap()
    }

    fn delivery(position: Option<Position>) -> Delivery {
        let publication = Publication { position, ..Publication::new(channel(), "x") };
        Delivery { topic: Topic::Channel(channel()), publication: Arc::new(publication) }
    }

    /// Messages on the connection, and responses among them, which are read later.
    #[derive(Debug)]
    enum Wire {
        Message(Delivery),
        Stands(Option<Position>),
        Read(Position, Vec<Delivery>),
    }

    /// A Redis with one channel, and the subscriber link, in one thread.
    struct World {
        tracker: Tracker,
        epochs: u64,
        top: Option<Position>,
        window: u64,
        wire: VecDeque<Wire>,
        /// A response that has arrived and was not read yet.
        answer: Option<Wire>,
        out: Vec<TrackOutput>,
        /// The position of the sink.
        sink: Option<Position>,
        gaps: usize,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish,
        PublishPlain,
        Flush,
        /// A message is lost, and the connection stays.
        Lose,
        Hear,
        LookAtAnswer,
        Reconnect,
    }

    impl World {
        fn new(window: u64) -> Self {
            let mut world = Self {
                tracker: Tracker::default(),
                epochs: 0,
                top: None,
                window,
                wire: VecDeque::new(),
                answer: None,
                out: Vec::new(),
                sink: None,
                gaps: 0,
            };
            world.ask();
            world
        }

        fn begin(&mut self) -> Position {
            self.epochs += 1;
            Position { offset: 0, epoch: self.epochs.to_string().as_str().into() }
        }

        fn publish(&mut self) {
            let mut top = self.top.clone().unwrap_or_else(|| self.begin());
            top.offset += 1;
            self.top = Some(top.clone());
            self.wire.push_back(Wire::Message(delivery(Some(top))));
        }

        /// As the function does it.
        fn ask(&mut self) {
            if let (Some(_), None) = (self.tracker.heard(&channel()), &self.top) {
                self.top = Some(self.begin());
            }
            self.wire.push_back(Wire::Stands(self.top.clone()));
        }

        fn read(&mut self, after: u64) {
            let top = self.top.clone().unwrap_or_else(|| self.begin());
            self.top = Some(top.clone());
            let first = (after + 1).max((top.offset + 1).saturating_sub(self.window));
            let at = |offset| delivery(Some(Position { offset, ..top.clone() }));
            // Two at a time.
            let read = (first..=top.offset).take(2).map(at).collect();
            self.wire.push_back(Wire::Read(top, read));
        }

        /// Receives one item, unless it is a response and the last one is still to be read.
        fn hear(&mut self) -> bool {
            match self.wire.front() {
                None => return false,
                Some(Wire::Stands(_) | Wire::Read(..)) if self.answer.is_some() => self.read_answer(),
                Some(_) => {}
            }
            match self.wire.pop_front() {
                Some(Wire::Message(delivery)) => self.tracker.admit(delivery, &mut self.out),
                answer => self.answer = answer,
            }
            if !self.tracker.take_holes().is_empty() {
                self.ask();
            }
            true
        }

        fn read_answer(&mut self) {
            let next = match self.answer.take() {
                Some(Wire::Stands(now)) => self.tracker.settle(&channel(), now, &mut self.out),
                Some(Wire::Read(now, read)) => self.tracker.fill(&channel(), now, read, &mut self.out),
                _ => NextStep::Nothing,
            };
            if let NextStep::Fetch(after) = next {
                self.read(after);
            }
            if !self.tracker.take_holes().is_empty() {
                self.ask();
            }
        }

        fn act(&mut self, step: &Step) {
            match step {
                Step::Publish => self.publish(),
                Step::PublishPlain => self.wire.push_back(Wire::Message(delivery(None))),
                Step::Flush => self.top = None,
                Step::Lose => {
                    if matches!(self.wire.front(), Some(Wire::Message(_))) {
                        self.wire.pop_front();
                    }
                }
                Step::Hear => drop(self.hear()),
                Step::LookAtAnswer => self.read_answer(),
                Step::Reconnect => {
                    self.wire.clear();
                    self.answer = None;
                    self.tracker.disconnected(&mut self.out);
                    self.ask();
                }
            }
            self.check();
        }

        /// The sink's positions have no gap that was not reported.
        fn check(&mut self) {
            for out in std::mem::take(&mut self.out) {
                match out {
                    TrackOutput::Deliver(delivery) => {
                        let Some(at) = delivery.publication.position.clone() else { continue };
                        let expected =
                            self.sink.clone().unwrap_or_else(|| Position { offset: 0, ..at.clone() });
                        assert_eq!(before(&at), expected);
                        self.go_to(&at);
                        self.sink = Some(at);
                    }
                    TrackOutput::Gap(_, Gap { last, next }) => {
                        assert_eq!(
                            Some(&last),
                            self.sink.as_ref().or(Some(&Position { offset: 0, ..last.clone() }))
                        );
                        assert_ne!(Some(&last), next.as_ref(), "a gap of nothing");
                        next.as_ref().into_iter().for_each(|next| self.go_to(next));
                        self.sink = next;
                        self.gaps += 1;
                    }
                }
            }
        }

        /// Epochs are numbers here, and none is used twice.
        fn go_to(&self, next: &Position) {
            let number = |at: &Position| at.epoch.as_str().parse::<u64>().unwrap();
            assert!(self.sink.as_ref().is_none_or(|sink| number(sink) <= number(next)));
        }

        /// Receives everything that is available.
        fn settle(&mut self) {
            while self.hear() || self.answer.is_some() {
                self.read_answer();
                self.check();
            }
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => Just(Step::Publish),
            2 => Just(Step::PublishPlain),
            1 => Just(Step::Flush),
            1 => Just(Step::Lose),
            8 => Just(Step::Hear),
            4 => Just(Step::LookAtAnswer),
            2 => Just(Step::Reconnect),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn a_channel_goes_on_without_a_hole_or_says_where_it_is(
            steps in steps(), window in prop_oneof![Just(3_u64), Just(1_000)], flushed in any::<bool>(),
        ) {
            let mut world = World::new(window);
            world.settle();
            for step in steps.iter().filter(|step| flushed || !matches!(step, Step::Flush)) {
                world.act(step);
            }
            world.settle();
            world.publish();
            world.settle();
            prop_assert_eq!(&world.sink, &world.top, "it comes to its end");
            prop_assert_eq!(lock(&world.tracker.table).holding, 0);
            if window > 100 && !flushed {
                prop_assert_eq!(world.gaps, 0, "nothing was lost");
            }
        }
    }

    #[test]
    fn a_channel_that_goes_to_another_primary_goes_on_there_where_it_was_heard_last() {
        let (here, there) = (Tracker::default(), Tracker::default());
        let mut out = Vec::new();
        let at = |offset| Some(Position { offset, epoch: "e".into() });
        here.settle(&channel(), at(3), &mut out);
        here.in_term(&channel(), 7);
        there.attach(here.release(&channel(), &mut out).unwrap());
        assert!(here.release(&channel(), &mut out).is_none(), "it is gone");
        // Messages with a position still arrive here and also there; those without arrive here alone.
        here.admit(delivery(at(4)), &mut out);
        assert_eq!(out, []);
        here.admit(delivery(None), &mut out);
        assert_eq!(out.drain(..).count(), 1);
        // An old subscription that ends there does not drop the attached track.
        there.forget(&channel());
        assert_eq!(there.heard(&channel()), Some((at(3).unwrap(), Some(7))));
        assert_eq!(there.settle(&channel(), at(5), &mut out), NextStep::Fetch(3));
        let missed = (4..6).map(|offset| delivery(at(offset))).collect();
        assert_eq!(there.fill(&channel(), at(5).unwrap(), missed, &mut out), NextStep::Nothing);
        assert_eq!(out.drain(..).count(), 2);
        // The rest of the track is dropped once no further message can arrive.
        here.sweep(|_| true);
        assert_eq!(lock(&here.table).tracks.len(), 1);
        here.sweep(|_| false);
        assert_eq!(lock(&here.table).tracks.len(), 0);
        assert_eq!(lock(&here.table).holding, 0);
        assert_eq!(lock(&there.table).holding, 0);
    }

    #[test]
    fn what_does_not_fit_is_fetched_again_and_without_a_position_passed_on() {
        let tracker = Tracker::default();
        let mut out = Vec::new();
        let at = |offset| Some(Position { offset, epoch: "e".into() });
        tracker.settle(&channel(), at(1), &mut out);
        tracker.disconnected(&mut out);
        let big = |position| {
            let publication = Publication { position, ..Publication::new(channel(), vec![b'x'; 400_000]) };
            Delivery { topic: Topic::Channel(channel()), publication: Arc::new(publication) }
        };
        (2..6).for_each(|offset| tracker.admit(big(at(offset)), &mut out));
        assert_eq!(out, []);
        tracker.admit(big(None), &mut out);
        assert_eq!(out.len(), 1, "late would be a loss");
        // 2 and 3 were held, 4 and 5 did not fit.
        assert_eq!(tracker.settle(&channel(), at(1), &mut out), NextStep::Fetch(3));
        let missed = (4..6).map(|offset| delivery(at(offset))).collect();
        assert_eq!(tracker.fill(&channel(), at(5).unwrap(), missed, &mut out), NextStep::Nothing);
        assert_eq!(out.len(), 5);
    }
}
