//! A model checker runs the topic table (`src/table.rs`, with the locks of the checker) through thousands of
//! interleavings of subscribing, publishing, and sweeping topics without subscribers.
//!
//! The invariant: a publication after a shard got the confirmation of a topic reaches that shard, once and in order.

// The file is compiled a second time, with the locks of the model checker.
#[path = "../src/table.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "a copy for the model, which needs no function that only reads the table"
)]
mod table;

mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use shuttle::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;
use table::TopicTable;
use tidings_hub::Interest;
use tidings_wire::{Channel, Topic};

/// A message to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Live,
    Publication(u32),
}

/// When the broker confirms a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirmation {
    /// Within the call, as the memory broker.
    Synchronous,
    /// From another thread, as the Redis broker.
    Asynchronous,
}

/// A node with two shards, one topic, and a broker of one flag.
struct ModelNode {
    table: TopicTable,
    topic: Topic,
    mailboxes: [Mutex<Vec<Message>>; 2],
    /// Whether the topic is subscribed at the broker.
    subscribed: Mutex<bool>,
    requested: AtomicBool,
    confirms: Confirmation,
}

impl ModelNode {
    fn new(confirms: Confirmation) -> Arc<Self> {
        let node = Self {
            table: TopicTable::default(),
            topic: Topic::Channel(Channel::new("news").expect("a name")),
            mailboxes: Default::default(),
            subscribed: Mutex::new(false),
            requested: AtomicBool::new(false),
            confirms,
        };
        node.table.on_broker_up();
        Arc::new(node)
    }

    fn post(&self, shards: table::ShardSet, message: Message) {
        for index in shards.indices() {
            self.mailboxes[index].lock().expect("no panic").push(message);
        }
    }

    fn confirm(&self, subscribed: &mut bool) {
        *subscribed = true;
        self.table.on_confirmed(&self.topic, |shards| self.post(shards, Message::Live));
    }

    fn subscribe(&self) {
        match self.confirms {
            Confirmation::Synchronous => self.confirm(&mut self.subscribed.lock().expect("no panic")),
            Confirmation::Asynchronous => self.requested.store(true, Ordering::SeqCst),
        }
    }

    /// One turn of the thread of an asynchronous broker.
    fn confirm_requested(&self) {
        if self.requested.swap(false, Ordering::SeqCst) {
            self.confirm(&mut self.subscribed.lock().expect("no panic"));
        }
    }

    fn publish(&self, number: u32) {
        let subscribed = self.subscribed.lock().expect("no panic");
        if *subscribed && let Some(route) = self.table.read().route(&self.topic) {
            self.post(route.shards, Message::Publication(number));
        }
    }

    fn sweep(&self) {
        let later = Instant::now() + Duration::from_secs(60);
        self.table.sweep(later, Duration::ZERO, |_| {
            self.requested.store(false, Ordering::SeqCst);
            *self.subscribed.lock().expect("no panic") = false;
        });
    }

    /// Subscribes a shard and waits for the confirmation.
    fn subscribe_shard(&self, shard: usize) {
        let (state, _) = self.table.subscribe(shard, &self.topic, |_| self.subscribe());
        while state != Interest::Live
            && !self.mailboxes[shard].lock().expect("no panic").contains(&Message::Live)
        {
            thread::yield_now();
        }
    }
}

fn race(confirms: Confirmation) {
    let node = ModelNode::new(confirms);
    let confirmed = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (node, confirmed) = (Arc::clone(&node), Arc::clone(&confirmed));
        thread::spawn(move || {
            let mut guaranteed = Vec::new();
            for number in 0..4 {
                let is_confirmed = confirmed.load(Ordering::SeqCst);
                node.publish(number);
                if is_confirmed {
                    guaranteed.push(number);
                }
            }
            guaranteed
        })
    };
    let other = {
        let node = Arc::clone(&node);
        thread::spawn(move || {
            // Subscribes, unsubscribes and sweeps, at the same time as the first shard.
            let (_, count) = node.table.subscribe(1, &node.topic, |_| node.subscribe());
            drop(count);
            node.table.unsubscribe(1, &node.topic, Instant::now());
            node.sweep();
        })
    };
    let done = Arc::new(AtomicBool::new(false));
    let link = {
        let (node, done) = (Arc::clone(&node), Arc::clone(&done));
        thread::spawn(move || {
            while !done.load(Ordering::SeqCst) {
                node.confirm_requested();
                thread::yield_now();
            }
        })
    };
    node.subscribe_shard(0);
    confirmed.store(true, Ordering::SeqCst);
    let guaranteed = publisher.join().expect("the publisher");
    other.join().expect("the other shard");
    done.store(true, Ordering::SeqCst);
    link.join().expect("the link");
    let messages = node.mailboxes[0].lock().expect("no panic").clone();
    let numbers: Vec<u32> = messages
        .iter()
        .filter_map(|m| if let Message::Publication(n) = m { Some(*n) } else { None })
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "once and in order: {messages:?}");
    for number in guaranteed {
        assert!(numbers.contains(&number), "{number} was published after the confirmation: {messages:?}");
    }
}

#[test]
fn a_publication_after_the_confirmation_reaches_the_shard_with_a_synchronous_broker() {
    shuttle::check_random(|| race(Confirmation::Synchronous), 5_000);
}

#[test]
fn a_publication_after_the_confirmation_reaches_the_shard_with_an_asynchronous_broker() {
    shuttle::check_pct(|| race(Confirmation::Asynchronous), 5_000, 3);
}
