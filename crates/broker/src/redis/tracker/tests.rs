//! The tracker against a simulated Redis with one channel.

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

/// Messages and responses on the connection. Responses are read later.
#[derive(Debug)]
enum ConnectionItem {
    Message(Delivery),
    PositionResponse(Option<Position>),
    StreamResponse(Position, Vec<Delivery>),
}

/// A Redis with one channel, and the subscriber link, in one thread.
struct Simulation {
    tracker: Tracker,
    epochs: u64,
    top: Option<Position>,
    window: u64,
    connection: VecDeque<ConnectionItem>,
    /// A response that has arrived and was not read yet.
    response: Option<ConnectionItem>,
    out: Vec<TrackOutput>,
    /// The position of the sink.
    sink: Option<Position>,
    gaps: usize,
}

#[derive(Clone, Debug)]
enum TrackerStep {
    Publish,
    PublishPlain,
    Flush,
    /// A message is lost, and the connection stays.
    LoseMessage,
    Receive,
    ReadResponse,
    Reconnect,
}

impl Simulation {
    fn new(window: u64) -> Self {
        let mut simulation = Self {
            tracker: Tracker::default(),
            epochs: 0,
            top: None,
            window,
            connection: VecDeque::new(),
            response: None,
            out: Vec::new(),
            sink: None,
            gaps: 0,
        };
        simulation.request_position();
        simulation
    }

    fn begin(&mut self) -> Position {
        self.epochs += 1;
        Position { offset: 0, epoch: self.epochs.to_string().as_str().into() }
    }

    fn publish(&mut self) {
        let mut top = self.top.clone().unwrap_or_else(|| self.begin());
        top.offset += 1;
        self.top = Some(top.clone());
        self.connection.push_back(ConnectionItem::Message(delivery(Some(top))));
    }

    /// Requests the position; like the library function, begins a history when the tracker has a position and Redis
    /// has none.
    fn request_position(&mut self) {
        if let (Some(_), None) = (self.tracker.unsettled_position(&channel()), &self.top) {
            self.top = Some(self.begin());
        }
        self.connection.push_back(ConnectionItem::PositionResponse(self.top.clone()));
    }

    fn read(&mut self, after: u64) {
        let top = self.top.clone().unwrap_or_else(|| self.begin());
        self.top = Some(top.clone());
        let first = (after + 1).max((top.offset + 1).saturating_sub(self.window));
        let at = |offset| delivery(Some(Position { offset, ..top.clone() }));
        // Two publications per response.
        let read = (first..=top.offset).take(2).map(at).collect();
        self.connection.push_back(ConnectionItem::StreamResponse(top, read));
    }

    /// Receives one item; first handles the last response if the item is another one. Returns whether there was an
    /// item.
    fn receive(&mut self) -> bool {
        match self.connection.front() {
            None => return false,
            Some(ConnectionItem::PositionResponse(_) | ConnectionItem::StreamResponse(..))
                if self.response.is_some() =>
            {
                self.handle_response();
            }
            Some(_) => {}
        }
        match self.connection.pop_front() {
            Some(ConnectionItem::Message(delivery)) => self.tracker.admit(delivery, &mut self.out),
            response => self.response = response,
        }
        if !self.tracker.take_holes().is_empty() {
            self.request_position();
        }
        true
    }

    fn handle_response(&mut self) {
        let next = match self.response.take() {
            Some(ConnectionItem::PositionResponse(now)) => {
                self.tracker.settle(&channel(), now, &mut self.out)
            }
            Some(ConnectionItem::StreamResponse(now, read)) => {
                self.tracker.fill(&channel(), now, read, &mut self.out)
            }
            _ => NextStep::Nothing,
        };
        if let NextStep::Fetch(after) = next {
            self.read(after);
        }
        if !self.tracker.take_holes().is_empty() {
            self.request_position();
        }
    }

    fn act(&mut self, step: &TrackerStep) {
        match step {
            TrackerStep::Publish => self.publish(),
            TrackerStep::PublishPlain => self.connection.push_back(ConnectionItem::Message(delivery(None))),
            TrackerStep::Flush => self.top = None,
            TrackerStep::LoseMessage => {
                if matches!(self.connection.front(), Some(ConnectionItem::Message(_))) {
                    self.connection.pop_front();
                }
            }
            TrackerStep::Receive => drop(self.receive()),
            TrackerStep::ReadResponse => self.handle_response(),
            TrackerStep::Reconnect => {
                self.connection.clear();
                self.response = None;
                self.tracker.disconnected(&mut self.out);
                self.request_position();
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
                    let expected = self.sink.clone().unwrap_or_else(|| Position { offset: 0, ..at.clone() });
                    assert_eq!(before(&at), expected);
                    self.check_epoch_order(&at);
                    self.sink = Some(at);
                }
                TrackOutput::Gap(_, Gap { last, next }) => {
                    assert_eq!(
                        Some(&last),
                        self.sink.as_ref().or(Some(&Position { offset: 0, ..last.clone() }))
                    );
                    assert_ne!(Some(&last), next.as_ref(), "a gap of nothing");
                    next.as_ref().into_iter().for_each(|next| self.check_epoch_order(next));
                    self.sink = next;
                    self.gaps += 1;
                }
            }
        }
    }

    /// Epochs are increasing numbers in the simulation, and none is used twice.
    fn check_epoch_order(&self, next: &Position) {
        let number = |at: &Position| at.epoch.as_str().parse::<u64>().unwrap();
        assert!(self.sink.as_ref().is_none_or(|sink| number(sink) <= number(next)));
    }

    /// Receives everything that is available.
    fn settle(&mut self) {
        while self.receive() || self.response.is_some() {
            self.handle_response();
            self.check();
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<TrackerStep>> {
    let step = prop_oneof![
        6 => Just(TrackerStep::Publish),
        2 => Just(TrackerStep::PublishPlain),
        1 => Just(TrackerStep::Flush),
        1 => Just(TrackerStep::LoseMessage),
        8 => Just(TrackerStep::Receive),
        4 => Just(TrackerStep::ReadResponse),
        2 => Just(TrackerStep::Reconnect),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn a_channel_continues_without_a_gap_or_reports_it(
        steps in steps(), window in prop_oneof![Just(3_u64), Just(1_000)], flushed in any::<bool>(),
    ) {
        let mut simulation = Simulation::new(window);
        simulation.settle();
        for step in steps.iter().filter(|step| flushed || !matches!(step, TrackerStep::Flush)) {
            simulation.act(step);
        }
        simulation.settle();
        simulation.publish();
        simulation.settle();
        prop_assert_eq!(&simulation.sink, &simulation.top, "the sink reaches the last position");
        prop_assert_eq!(lock(&simulation.tracker.table).unsettled_count, 0);
        if window > 100 && !flushed {
            prop_assert_eq!(simulation.gaps, 0, "nothing was lost");
        }
    }
}

#[test]
fn a_channel_that_moves_to_another_primary_continues_at_its_last_position() {
    let (here, there) = (Tracker::default(), Tracker::default());
    let mut out = Vec::new();
    let at = |offset| Some(Position { offset, epoch: "e".into() });
    here.settle(&channel(), at(3), &mut out);
    here.in_term(&channel(), 7);
    there.attach(here.release(&channel(), &mut out).unwrap());
    assert!(here.release(&channel(), &mut out).is_none(), "already released");
    // Messages with a position still arrive here and also there; those without arrive here alone.
    here.admit(delivery(at(4)), &mut out);
    assert_eq!(out, []);
    here.admit(delivery(None), &mut out);
    assert_eq!(out.drain(..).count(), 1);
    // An old subscription that ends there does not drop the attached track.
    there.forget(&channel());
    assert_eq!(there.unsettled_position(&channel()), Some((at(3).unwrap(), Some(7))));
    assert_eq!(there.settle(&channel(), at(5), &mut out), NextStep::Fetch(3));
    let missed = (4..6).map(|offset| delivery(at(offset))).collect();
    assert_eq!(there.fill(&channel(), at(5).unwrap(), missed, &mut out), NextStep::Nothing);
    assert_eq!(out.drain(..).count(), 2);
    // The rest of the track is dropped once no further message can arrive.
    here.sweep(|_| true);
    assert_eq!(lock(&here.table).tracks.len(), 1);
    here.sweep(|_| false);
    assert_eq!(lock(&here.table).tracks.len(), 0);
    assert_eq!(lock(&here.table).unsettled_count, 0);
    assert_eq!(lock(&there.table).unsettled_count, 0);
}

#[test]
fn messages_beyond_the_limit_are_fetched_again_or_without_a_position_emitted() {
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
    assert_eq!(out.len(), 1, "emitted at once, because it cannot be fetched");
    // 2 and 3 were held, 4 and 5 did not fit.
    assert_eq!(tracker.settle(&channel(), at(1), &mut out), NextStep::Fetch(3));
    let missed = (4..6).map(|offset| delivery(at(offset))).collect();
    assert_eq!(tracker.fill(&channel(), at(5).unwrap(), missed, &mut out), NextStep::Nothing);
    assert_eq!(out.len(), 5);
}
