//! Requirements on the memory broker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::node::{Event, Recorder, channel, pattern, publish};
use tidings_broker::memory::Memory;
use tidings_broker::{Broker, BrokerError, Published, Sink};
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::{Delivery, Topic};

#[test]
fn a_publication_reaches_its_channel_and_every_pattern_that_matches() {
    let sink = Arc::new(Recorder::default());
    let broker = Memory::new(sink.clone());
    for topic in [channel("news.art"), pattern("news.*"), pattern("*.art"), pattern("sport.*")] {
        broker.subscribe(&topic);
    }
    sink.events().clear();
    assert_eq!(publish(&*broker, "news.art", b"hi"), Ok(Published { receivers: 3, ..Published::default() }));
    let received = |topic: &str| Event::Delivered {
        topic: topic.to_owned(),
        channel: "news.art".to_owned(),
        body: b"hi".to_vec(),
    };
    assert_eq!(*sink.events(), [received("news.art"), received("news.*"), received("*.art")]);
}

#[test]
fn it_is_up_at_once_and_a_subscription_is_live_when_it_returns() {
    let sink = Arc::new(Recorder::default());
    let broker = Memory::new(sink.clone());
    for topic in [channel("a"), pattern("b*")] {
        broker.subscribe(&topic);
        broker.subscribe(&topic);
    }
    assert_eq!(*sink.events(), [Event::Up, Event::Live(channel("a")), Event::Live(pattern("b*"))]);
}

#[test]
fn an_unsubscribed_topic_receives_nothing() {
    let sink = Arc::new(Recorder::default());
    let broker = Memory::new(sink.clone());
    for topic in [channel("a"), pattern("*")] {
        broker.subscribe(&topic);
        broker.unsubscribe(&topic);
    }
    assert_eq!(publish(&*broker, "a", b"hi"), Ok(Published { receivers: 0, ..Published::default() }));
    assert_eq!(sink.count(|event| matches!(event, Event::Delivered { .. })), 0);
}

/// Two shards, called one after the other with a pause between them, as a sink with mailboxes does.
#[derive(Default)]
struct TwoShards {
    logs: [Mutex<Vec<Vec<u8>>>; 2],
}

impl Sink for TwoShards {
    fn deliver(&self, batch: &mut Vec<Delivery>) -> u64 {
        for log in &self.logs {
            log.lock().unwrap().extend(batch.iter().map(|d| d.publication.body.to_vec()));
            thread::yield_now();
        }
        2
    }

    fn live(&self, _: &[Topic]) {}
    fn refused(&self, _: &Topic, _: &BrokerError) {}
    fn up(&self) {}
    fn down(&self, _: &str) {}
}

#[test]
fn every_shard_receives_concurrent_publications_in_the_same_order() {
    let sink = Arc::new(TwoShards::default());
    let broker = Memory::new(sink.clone());
    broker.subscribe(&channel("a"));
    thread::scope(|scope| {
        for publisher in 0..4 {
            let broker = &broker;
            scope.spawn(move || {
                for i in 0..2_000 {
                    let outcome = publish(&**broker, "a", format!("{publisher}:{i}").as_bytes());
                    assert_eq!(outcome, Ok(Published { receivers: 2, ..Published::default() }));
                }
            });
        }
    });
    let [one, other] = &sink.logs;
    assert_eq!(one.lock().unwrap().len(), 8_000);
    assert!(*one.lock().unwrap() == *other.lock().unwrap(), "the shards saw different orders");
}

/// A sink that delays publishers in `slow`.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    held: AtomicU64,
}

impl Sink for Gate {
    fn deliver(&self, batch: &mut Vec<Delivery>) -> u64 {
        if batch.iter().any(|delivery| delivery.publication.channel.as_str() == "slow") {
            self.held.fetch_add(1, Ordering::SeqCst);
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
        }
        batch.len() as u64
    }

    fn live(&self, _: &[Topic]) {}
    fn refused(&self, _: &Topic, _: &BrokerError) {}
    fn up(&self) {}
    fn down(&self, _: &str) {}
}

/// Opens the gate when it is dropped.
struct OpenAtLast<'a>(&'a Gate);

impl Drop for OpenAtLast<'_> {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap() = true;
        self.0.opened.notify_all();
    }
}

#[test]
fn publishers_of_other_channels_are_not_blocked() {
    let sink = Arc::new(Gate::default());
    let broker = Memory::new(sink.clone());
    broker.subscribe(&channel("slow"));
    let names: Vec<String> = (0..16).map(|i| format!("fast{i}")).collect();
    for name in &names {
        broker.subscribe(&channel(name));
    }
    let through = AtomicU64::new(0);
    thread::scope(|scope| {
        // Opened also when the test fails, or the blocked publisher would wait without end.
        let gate = OpenAtLast(&sink);
        scope.spawn(|| publish(&*broker, "slow", b""));
        wait_until(PATIENCE, "a publisher that is held up", || sink.held.load(Ordering::SeqCst) == 1);
        for name in &names {
            let (broker, through) = (&broker, &through);
            scope.spawn(move || {
                publish(&**broker, name, b"").unwrap();
                through.fetch_add(1, Ordering::SeqCst);
            });
        }
        // One or two may share the stripe of the slow one.
        wait_until(PATIENCE, "most of the others to get through", || through.load(Ordering::SeqCst) >= 12);
        drop(gate);
    });
    assert_eq!(through.load(Ordering::SeqCst), 16);
}
