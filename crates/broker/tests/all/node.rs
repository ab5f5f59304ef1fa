//! A broker with a recording sink, for the tests of this crate.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tidings_broker::redis::{Options, Redis};
use tidings_broker::{
    Broker, BrokerError, Change, Gap, HistoryOptions, PublishOptions, Published, SharedSink, Sink, Stateful,
};
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::{Channel, Delivery, Pattern, Position, Publication, Topic};
use tidings_wire::{History, HistoryPage, HistoryQuery};
use tokio::runtime::Runtime;

/// The calls of a sink, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Delivered { topic: String, channel: String, body: Vec<u8> },
    Live(Topic),
    Refused(Topic, BrokerError),
    Up,
    Down(String),
    Away(Topic),
    Gap(Topic, Gap),
    Changed(String, Change),
}

/// A sink that records every call and counts one subscriber for every delivery.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    publications: Mutex<Vec<Arc<Publication>>>,
}

impl Recorder {
    pub(crate) fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap()
    }

    pub(crate) fn count(&self, condition: impl Fn(&Event) -> bool) -> usize {
        self.events().iter().filter(|event| condition(event)).count()
    }

    /// The bodies received in a channel through its own topic, in order.
    pub(crate) fn bodies(&self, name: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        for event in self.events().iter() {
            if let Event::Delivered { topic, channel, body } = event
                && topic == name
                && channel == name
            {
                bodies.push(String::from_utf8_lossy(body).into_owned());
            }
        }
        bodies
    }

    /// The publications received in a channel through its own topic, in order.
    pub(crate) fn publications(&self, name: &str) -> Vec<Arc<Publication>> {
        let all = self.publications.lock().unwrap();
        all.iter().filter(|publication| publication.channel.as_str() == name).cloned().collect()
    }

    /// Their offsets; 0 without a position.
    pub(crate) fn offsets(&self, name: &str) -> Vec<u64> {
        self.publications(name).iter().map(|publication| publication.offset().unwrap_or_default()).collect()
    }

    /// The reported gaps.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let gap = |event: &Event| if let Event::Gap(_, gap) = event { Some(gap.clone()) } else { None };
        self.events().iter().filter_map(gap).collect()
    }

    /// Waits until this many events meet the condition.
    #[track_caller]
    pub(crate) fn wait(&self, count: usize, what: &str, condition: impl Fn(&Event) -> bool) {
        wait_until(PATIENCE, what, || self.count(&condition) >= count);
    }

    #[track_caller]
    pub(crate) fn wait_live(&self, times: usize, topic: &Topic) {
        self.wait(times, "live", |event| matches!(event, Event::Live(t) if t == topic));
    }

    #[track_caller]
    pub(crate) fn wait_up(&self, times: usize) {
        self.wait(times, "up", |event| *event == Event::Up);
    }

    /// Waits for a `down` after the last `up`; returns the last reason.
    #[track_caller]
    pub(crate) fn wait_down(&self) -> String {
        let mut reason = String::new();
        wait_until(PATIENCE, "down", || {
            match self.events().iter().rev().find(|e| matches!(e, Event::Up | Event::Down(_))) {
                Some(Event::Down(why)) => reason.clone_from(why),
                _ => return false,
            }
            true
        });
        reason
    }
}

impl Sink for Recorder {
    fn deliver(&self, batch: &mut Vec<Delivery>) -> u64 {
        let count = batch.len() as u64;
        let own = batch.iter().filter(|delivery| matches!(delivery.topic, Topic::Channel(_)));
        self.publications.lock().unwrap().extend(own.map(|delivery| Arc::clone(&delivery.publication)));
        self.events().extend(batch.drain(..).map(|delivery| Event::Delivered {
            topic: delivery.topic.as_str().to_owned(),
            channel: delivery.publication.channel.as_str().to_owned(),
            body: delivery.publication.body.to_vec(),
        }));
        count
    }

    fn live(&self, topics: &[Topic]) {
        self.events().extend(topics.iter().cloned().map(Event::Live));
    }

    fn refused(&self, topic: &Topic, error: &BrokerError) {
        self.events().push(Event::Refused(topic.clone(), error.clone()));
    }

    fn up(&self) {
        self.events().push(Event::Up);
    }

    fn down(&self, reason: &str) {
        self.events().push(Event::Down(reason.to_owned()));
    }

    fn away(&self, topics: &[Topic], _reason: &str) {
        self.events().extend(topics.iter().cloned().map(Event::Away));
    }

    fn gap(&self, topic: &Topic, gap: &Gap) {
        self.events().push(Event::Gap(topic.clone(), gap.clone()));
    }

    fn changed(&self, channel: &Channel, change: &Change) {
        self.events().push(Event::Changed(channel.as_str().to_owned(), change.clone()));
    }
}

/// A Redis broker with its sink and its runtime.
pub(crate) struct Node {
    pub(crate) broker: Arc<Redis>,
    pub(crate) sink: Arc<Recorder>,
    runtime: Runtime,
}

impl Node {
    pub(crate) fn start(options: Options) -> Self {
        let sink = Arc::new(Recorder::default());
        let (broker, runtime) = start_with(options, sink.clone());
        Self { broker, sink, runtime }
    }

    /// Starts a node and waits until it is up and can publish.
    pub(crate) fn connected(options: Options) -> Self {
        let node = Self::start(options);
        node.sink.wait_up(1);
        node.wait_until_it_publishes();
        node
    }

    pub(crate) fn wait_until_it_publishes(&self) {
        self.wait_until_it_may_publish("tidings-probe");
    }

    /// As [`Self::connected`], for a user without permission to publish in all channels.
    pub(crate) fn wait_until_it_may_publish(&self, channel: &str) {
        wait_until(PATIENCE, "a connection to publish on", || self.publish(channel, b"").is_ok());
    }

    /// Subscribes and waits until the subscription is live.
    pub(crate) fn subscribe(&self, topic: &Topic) {
        let before = self.sink.count(|event| matches!(event, Event::Live(t) if t == topic));
        self.broker.subscribe(topic);
        self.sink.wait_live(before + 1, topic);
    }

    /// Publishes and waits for the outcome.
    pub(crate) fn publish(&self, channel: &str, body: &[u8]) -> Result<Published, BrokerError> {
        publish(&*self.broker, channel, body)
    }

    /// Stops the runtime while the broker exists.
    pub(crate) fn stop_runtime(self) -> (Arc<Redis>, Arc<Recorder>) {
        self.runtime.shutdown_timeout(PATIENCE);
        (self.broker, self.sink)
    }
}

pub(crate) fn start_with(options: Options, sink: SharedSink) -> (Arc<Redis>, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let broker = Redis::start(options, sink, runtime.handle()).unwrap();
    (broker, runtime)
}

/// Publishes and waits for the outcome, which must arrive exactly once.
pub(crate) fn publish(broker: &dyn Broker, channel: &str, body: &[u8]) -> Result<Published, BrokerError> {
    let (sender, outcome) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    broker.publish(&Channel::new(channel).unwrap(), Bytes::copy_from_slice(body), done);
    outcome.recv_timeout(PATIENCE).expect("an outcome")
}

/// Publishes with these options and waits for the outcome, which must arrive exactly once.
pub(crate) fn publish_with(
    broker: &dyn Stateful,
    channel: &str,
    body: &str,
    options: PublishOptions,
) -> Result<Published, BrokerError> {
    wait(|done| broker.publish_with(&name(channel), Bytes::copy_from_slice(body.as_bytes()), options, done))
}

/// Publishes into a history of this size.
pub(crate) fn keep(broker: &dyn Stateful, channel: &str, body: &str, size: usize) -> Position {
    let options = PublishOptions { history: Some(history_of(size)), ..PublishOptions::default() };
    publish_with(broker, channel, body, options).unwrap().position.expect("a position")
}

pub(crate) fn history_of(size: usize) -> HistoryOptions {
    HistoryOptions { size, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(600) }
}

/// A query for the publications after a position.
pub(crate) fn after(since: Option<&Position>) -> HistoryQuery {
    let since = since.cloned();
    HistoryQuery { limit: None, since, reverse: false, for_subscriber: false, max_bytes: usize::MAX }
}

/// Queries a part of a history and waits for it.
pub(crate) fn history(broker: &dyn Stateful, channel: &str, query: HistoryQuery) -> History {
    wait(|done| broker.history(&name(channel), query, done)).unwrap()
}

/// As [`history`], where no publication is missing.
#[track_caller]
pub(crate) fn page(broker: &dyn Stateful, channel: &str, query: HistoryQuery) -> HistoryPage {
    match history(broker, channel, query) {
        History::Page(page) => page,
        unrecoverable => panic!("{unrecoverable:?}"),
    }
}

/// Queries a channel's position.
pub(crate) fn position(broker: &dyn Stateful, channel: &str) -> Position {
    page(broker, channel, HistoryQuery { limit: Some(0), ..after(None) }).position
}

/// Waits for an outcome, which must arrive exactly once.
pub(crate) fn wait<T: Send + 'static>(
    ask: impl FnOnce(Box<dyn FnOnce(Result<T, BrokerError>) + Send>),
) -> Result<T, BrokerError> {
    let (sender, outcome) = mpsc::channel();
    ask(Box::new(move |result| sender.send(result).unwrap()));
    outcome.recv_timeout(PATIENCE).expect("an outcome")
}

pub(crate) fn name(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

pub(crate) fn channel(name: &str) -> Topic {
    Channel::new(name).unwrap().into()
}

pub(crate) fn pattern(glob: &str) -> Topic {
    Topic::Pattern(Pattern::new(glob).unwrap())
}

/// Options that detect a dead peer within a fraction of a second.
pub(crate) fn impatient(url: String) -> Options {
    Options {
        connect_timeout: Duration::from_millis(500),
        response_timeout: Duration::from_millis(500),
        ping_interval: Duration::from_millis(100),
        ..Options::new(url)
    }
}
