//! Subscribing races publishing, and topics that nobody wants are let go meanwhile: a model checker runs the table where
//! they meet (`src/interest.rs`, with its own locks) through thousands of interleavings.
//!
//! The promise: whatever is published after a shard was told that a topic is live, reaches that shard, once, in order.

// The file is compiled here a second time, with the model checker's locks.
#[path = "../src/interest.rs"]
#[expect(dead_code, reason = "what only looks at the table is not part of the model")]
mod interest;

mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use shuttle::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use interest::Interests;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;
use tidings_hub::Interest;
use tidings_wire::{Channel, Topic};

/// What a shard finds in its mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mail {
    Live,
    Publication(u32),
}

/// How the broker confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirms {
    /// Within the call, as the one in memory does.
    AtOnce,
    /// From another thread, as Redis' link does.
    Later,
}

/// A node with two shards, one topic, and a broker of one flag.
struct World {
    interests: Interests,
    topic: Topic,
    mailboxes: [Mutex<Vec<Mail>>; 2],
    /// Whether the topic is subscribed at the broker.
    subscribed: Mutex<bool>,
    asked: AtomicBool,
    confirms: Confirms,
}

impl World {
    fn new(confirms: Confirms) -> Arc<Self> {
        let world = Self {
            interests: Interests::new(),
            topic: Topic::Channel(Channel::new("news").expect("a name")),
            mailboxes: Default::default(),
            subscribed: Mutex::new(false),
            asked: AtomicBool::new(false),
            confirms,
        };
        world.interests.up();
        Arc::new(world)
    }

    fn post(&self, shards: interest::ShardSet, mail: Mail) {
        for index in shards.indices() {
            self.mailboxes[index].lock().expect("whole").push(mail);
        }
    }

    fn confirm(&self, subscribed: &mut bool) {
        *subscribed = true;
        self.interests.live(&self.topic, |shards| self.post(shards, Mail::Live));
    }

    fn subscribe(&self) {
        match self.confirms {
            Confirms::AtOnce => self.confirm(&mut self.subscribed.lock().expect("whole")),
            Confirms::Later => self.asked.store(true, Ordering::SeqCst),
        }
    }

    /// The link's thread takes its turn.
    fn link(&self) {
        if self.asked.swap(false, Ordering::SeqCst) {
            self.confirm(&mut self.subscribed.lock().expect("whole"));
        }
    }

    fn publish(&self, number: u32) {
        let subscribed = self.subscribed.lock().expect("whole");
        if *subscribed && let Some(route) = self.interests.read().route(&self.topic) {
            self.post(route.shards, Mail::Publication(number));
        }
    }

    fn sweep(&self) {
        let later = Instant::now() + Duration::from_secs(60);
        self.interests.sweep(later, Duration::ZERO, |_| {
            self.asked.store(false, Ordering::SeqCst);
            *self.subscribed.lock().expect("whole") = false;
        });
    }

    /// A shard subscribes and waits until it is told that the topic is live.
    fn want(&self, shard: usize) {
        let (state, _) = self.interests.want(shard, &self.topic, |_| self.subscribe());
        while state != Interest::Live && !self.mailboxes[shard].lock().expect("whole").contains(&Mail::Live) {
            thread::yield_now();
        }
    }
}

fn race(confirms: Confirms) {
    let world = World::new(confirms);
    let confirmed = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (world, confirmed) = (Arc::clone(&world), Arc::clone(&confirmed));
        thread::spawn(move || {
            let mut promised = Vec::new();
            for number in 0..4 {
                let sure = confirmed.load(Ordering::SeqCst);
                world.publish(number);
                if sure {
                    promised.push(number);
                }
            }
            promised
        })
    };
    let other = {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            // Comes, goes, and has the topic let go of, perhaps under the first one's hands.
            let (_, count) = world.interests.want(1, &world.topic, |_| world.subscribe());
            drop(count);
            world.interests.unwant(1, &world.topic, Instant::now());
            world.sweep();
        })
    };
    let done = Arc::new(AtomicBool::new(false));
    let link = {
        let (world, done) = (Arc::clone(&world), Arc::clone(&done));
        thread::spawn(move || {
            while !done.load(Ordering::SeqCst) {
                world.link();
                thread::yield_now();
            }
        })
    };
    world.want(0);
    confirmed.store(true, Ordering::SeqCst);
    let promised = publisher.join().expect("the publisher");
    other.join().expect("the other shard");
    done.store(true, Ordering::SeqCst);
    link.join().expect("the link");
    let mail = world.mailboxes[0].lock().expect("whole").clone();
    let numbers: Vec<u32> =
        mail.iter().filter_map(|m| if let Mail::Publication(n) = m { Some(*n) } else { None }).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "once and in order: {mail:?}");
    for number in promised {
        assert!(numbers.contains(&number), "{number} was published after the confirmation: {mail:?}");
    }
}

#[test]
fn what_is_published_after_a_confirmation_reaches_the_shard_when_the_broker_is_in_memory() {
    shuttle::check_random(|| race(Confirms::AtOnce), 5_000);
}

#[test]
fn what_is_published_after_a_confirmation_reaches_the_shard_when_the_broker_confirms_later() {
    shuttle::check_pct(|| race(Confirms::Later), 5_000, 3);
}
