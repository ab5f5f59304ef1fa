//! Shared polls compared with a naive model: the application is a table of values, and a subscriber is a table of the versions
//! that it got. Whatever happens in between, every subscriber ends with the values of the application.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tidings_hub::PollNamespace;
use tidings_shared_poll::{
    Batch, Counters, Limits, Polls, RETRY, Sink, Subscriber, TrackError, TrackedKey, Update, Value, Values,
};
use tidings_wire::Channel;

const INTERVAL: u64 = 1_000;
const BATCH: usize = 2;
const REQUESTS: usize = 2;
const KEYS_PER_SUBSCRIBER: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Reader(u8);

impl Subscriber for Reader {
    fn shard(self) -> u32 {
        u32::from(self.0 % 2)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(u8, bool),
    Leave(u8),
    Track(u8, Vec<u8>),
    Untrack(u8, u8),
    /// The application changes a value.
    Change(u8, u8),
    /// The application removes a key.
    Remove(u8),
    /// The application publishes its value of a key.
    Publish(u8),
    Wait(u64),
    /// The application responds to the oldest request, or fails.
    Respond(bool),
    /// The mailboxes of a shard are full, or have room.
    Full(u8, bool),
    /// The application begins again: its versions have another epoch.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (reader, key) = (0..4_u8, 0..6_u8);
    let step = prop_oneof![
        3 => (reader.clone(), any::<bool>()).prop_map(|(reader, delta)| Step::Join(reader, delta)),
        1 => reader.clone().prop_map(Step::Leave),
        6 => (reader.clone(), prop::collection::vec(key.clone(), 1..5)).prop_map(|(r, keys)| Step::Track(r, keys)),
        2 => (reader, key.clone()).prop_map(|(reader, key)| Step::Untrack(reader, key)),
        8 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Change(key, value)),
        1 => key.clone().prop_map(Step::Remove),
        2 => key.prop_map(Step::Publish),
        6 => prop_oneof![Just(1), Just(RETRY), 100..2_500_u64].prop_map(Step::Wait),
        8 => prop::bool::weighted(0.85).prop_map(Step::Respond),
        1 => (0..2_u8, any::<bool>()).prop_map(|(shard, full)| Step::Full(shard, full)),
        1 => prop::bool::weighted(0.2).prop_map(|restart| if restart { Step::Restart } else { Step::Wait(1) }),
    ];
    prop::collection::vec(step, 1..120)
}

/// What a subscriber has of a key: its version, its body, and whether it was delivered.
type Held = (u64, Option<Bytes>);

#[derive(Default)]
struct Model {
    /// The keys that each subscriber tracks.
    readers: BTreeMap<Reader, (bool, BTreeMap<String, Held>)>,
    full: [bool; 2],
}

impl Sink<Reader> for Model {
    fn deliver(&mut self, update: Update<Reader>) -> bool {
        if self.full[update.shard as usize] {
            return false;
        }
        let map = update.publication.extra.as_ref().and_then(|extra| extra.map.as_ref()).expect("a key");
        let readers =
            update.full.iter().map(|one| (one, false)).chain(update.deltas.iter().map(|one| (one, true)));
        for (reader, is_delta) in readers {
            assert_eq!(reader.shard(), update.shard);
            let (delta, keys) = self.readers.get_mut(reader).expect("a subscriber that has not ended");
            let held = keys.get_mut(&*map.key).expect("a key that it tracks");
            if map.removed {
                keys.remove(&*map.key);
                continue;
            }
            assert!(map.version > held.0, "version {} after {}", map.version, held.0);
            if is_delta {
                let base = update.base.as_ref().expect("a base");
                assert!(*delta && held.1.as_ref() == Some(&base.body), "a delta to what it has");
            }
            *held = (map.version, Some(update.publication.body.clone()));
        }
        true
    }

    fn end(&mut self, _: &Channel, reader: Reader) {
        self.readers.remove(&reader).expect("a subscriber that has not ended");
    }
}

/// The application.
#[derive(Default)]
struct Application {
    values: BTreeMap<String, (u64, Bytes)>,
    removed: Vec<String>,
    version: u64,
    epoch: u32,
}

impl Application {
    fn respond(&self, batch: &Batch) -> Values {
        let items = batch.items.iter().filter_map(|(key, _)| {
            if self.removed.contains(&key.to_string()) {
                return Some(Value { key: key.to_string(), removed: true, ..Value::default() });
            }
            let (version, data) = self.values.get(&**key)?;
            Some(Value { key: key.to_string(), data: Some(data.clone()), version: *version, removed: false })
        });
        Values { epoch: self.epoch_text(), items: items.collect() }
    }

    fn epoch_text(&self) -> String {
        if self.epoch == 0 { String::new() } else { self.epoch.to_string() }
    }
}

fn options(versioned: bool) -> PollNamespace {
    PollNamespace {
        hook: None,
        interval: Duration::from_millis(INTERVAL),
        batch: BATCH,
        keys_per_subscriber: KEYS_PER_SUBSCRIBER,
        keys: 5,
        versioned,
        shutdown_delay: Duration::from_millis(10),
        expired_delay: Duration::ZERO,
        publishes_to_all: false,
    }
}

struct World {
    polls: Polls<Reader>,
    model: Model,
    application: Application,
    batches: Vec<Batch>,
    now: u64,
    channel: Channel,
    options: PollNamespace,
}

impl World {
    fn new(versioned: bool) -> Self {
        let limits = Limits { requests: REQUESTS, bytes: 1 << 20, burst: 600 };
        Self {
            polls: Polls::new(limits, "12345678".to_owned(), Arc::<Counters>::default()),
            model: Model::default(),
            application: Application::default(),
            batches: Vec::new(),
            now: 1_000_000,
            channel: Channel::new("poll:1").expect("a name"),
            options: options(versioned),
        }
    }

    fn advance(&mut self) {
        let (batches, _) = self.polls.advance(self.now, 0, &mut self.model);
        for batch in &batches {
            assert!(!batch.items.is_empty() && batch.items.len() <= BATCH);
            for (key, _) in &batch.items {
                let is_tracked = self.model.readers.values().any(|(_, keys)| keys.contains_key(&**key));
                assert!(is_tracked, "{key} is requested, and no subscriber tracks it");
            }
        }
        self.batches.extend(batches);
        assert!(self.batches.len() <= REQUESTS);
    }

    fn respond(&mut self, succeeds: bool) {
        if self.batches.is_empty() {
            return;
        }
        let batch = self.batches.remove(0);
        let values = succeeds.then(|| self.application.respond(&batch));
        self.polls.respond(self.now, batch.id, values, &mut self.model);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Join(reader, delta) => {
                let (polls, reader) = (&mut self.polls, Reader(reader));
                polls.join(self.now, &self.channel, &self.options, reader, delta);
                self.model.readers.entry(reader).or_insert((delta, BTreeMap::new()));
            }
            Step::Leave(reader) => {
                self.polls.leave(self.now, &self.channel, Reader(reader));
                self.model.readers.remove(&Reader(reader));
            }
            Step::Track(reader, keys) => self.track(Reader(reader), &keys),
            Step::Untrack(reader, key) => {
                let reader = Reader(reader);
                let outcome = self.polls.untrack(&self.channel, reader, &[name(key)]);
                assert_eq!(outcome.is_ok(), self.model.readers.contains_key(&reader));
                if let Some((_, keys)) = self.model.readers.get_mut(&reader) {
                    keys.remove(&name(key));
                }
            }
            Step::Change(key, value) => {
                self.application.version += 1;
                self.application.removed.retain(|removed| *removed != name(key));
                let body = Bytes::from(vec![value; usize::from(value)]);
                self.application.values.insert(name(key), (self.application.version, body));
            }
            Step::Remove(key) => {
                self.application.removed.push(name(key));
            }
            Step::Publish(key) if self.options.versioned => {
                let Some((version, data)) = self.application.values.get(&name(key)).cloned() else { return };
                let value = Value { key: name(key), data: Some(data), version, removed: false };
                let epoch = self.application.epoch_text();
                self.polls.publish(self.now, &self.channel, value, &epoch, &mut self.model);
            }
            Step::Publish(_) => {}
            Step::Wait(millis) => self.now += millis,
            Step::Respond(succeeds) => self.respond(succeeds),
            Step::Full(shard, full) => self.model.full[usize::from(shard)] = full,
            Step::Restart => {
                self.application.epoch += 1;
                self.application.version = 0;
                for (version, _) in self.application.values.values_mut() {
                    self.application.version += 1;
                    *version = self.application.version;
                }
            }
        }
        self.advance();
    }

    fn track(&mut self, reader: Reader, keys: &[u8]) {
        let held = self.model.readers.get(&reader);
        let version = |key: &u8| held.and_then(|(_, keys)| keys.get(&name(*key))).map_or(0, |held| held.0);
        let tracked: Vec<_> = keys
            .iter()
            .map(|key| TrackedKey { key: name(*key), version: version(key), expires: None })
            .collect();
        match self.polls.track(self.now, &self.channel, reader, &tracked, &[]) {
            Ok(()) => {
                let (_, tracked) = self.model.readers.get_mut(&reader).expect("a subscriber");
                for key in keys {
                    tracked.entry(name(*key)).or_default();
                }
                assert!(tracked.len() <= KEYS_PER_SUBSCRIBER);
            }
            Err(TrackError::NotSubscribed) => assert!(held.is_none()),
            Err(TrackError::Unanswered | TrackError::Limit(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Everything works from now on: each subscriber gets the values of the application.
    fn settle(&mut self) {
        self.model.full = [false; 2];
        for _ in 0..200 {
            self.now += RETRY;
            self.advance();
            while !self.batches.is_empty() {
                self.respond(true);
                self.advance();
            }
        }
        for (reader, (_, keys)) in &self.model.readers {
            for (key, (version, body)) in keys {
                assert!(
                    !self.application.removed.contains(key),
                    "{reader:?} was not notified of the removal of {key}"
                );
                let Some((number, value)) = self.application.values.get(key) else { continue };
                if self.options.versioned && *version >= *number && body.is_none() {
                    continue;
                }
                assert_eq!(body.as_ref(), Some(value), "{reader:?} {key} {version}");
            }
        }
    }

    /// When all have left, nothing remains.
    fn leave(&mut self) {
        for reader in 0..4 {
            self.run(Step::Leave(reader));
        }
        assert_eq!(self.polls.bytes(), 0);
        self.now += 20;
        self.advance();
        assert_eq!(self.polls.counts(), (0, 0));
    }
}

fn name(key: u8) -> String {
    format!("key{key}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_subscriber_ends_with_the_values_of_the_application(steps in steps(), versioned in any::<bool>()) {
        let mut world = World::new(versioned);
        for step in steps {
            world.run(step);
        }
        world.settle();
        world.leave();
    }
}

fn tracked(key: &str, version: u64) -> TrackedKey {
    TrackedKey { key: key.to_owned(), version, expires: None }
}

/// A channel with one subscriber.
fn one_subscriber(versioned: bool) -> World {
    let mut world = World::new(versioned);
    world.run(Step::Join(0, false));
    world
}

#[test]
fn keys_without_a_value_are_requested_at_once_and_then_once_in_an_interval() {
    let mut world = one_subscriber(true);
    world.run(Step::Join(1, false));
    for reader in [0, 1] {
        world.run(Step::Track(reader, vec![0]));
    }
    let requests = |world: &mut World| {
        let count = world.batches.len();
        while !world.batches.is_empty() {
            world.respond(true);
            world.advance();
        }
        count
    };
    assert_eq!(requests(&mut world), 1, "both subscribers share a request");
    world.run(Step::Wait(INTERVAL - 1));
    assert_eq!(requests(&mut world), 0);
    world.run(Step::Wait(1));
    assert_eq!(requests(&mut world), 1);
    // New keys of a short time share a request.
    for (key, expected) in [(4, 1), (5, 0)] {
        world.run(Step::Track(0, vec![key]));
        assert_eq!(requests(&mut world), expected);
    }
    world.run(Step::Wait(20));
    assert_eq!(requests(&mut world), 1);
    for key in [4, 5] {
        world.run(Step::Untrack(0, key));
    }
    // Parts are spread over the interval.
    world.run(Step::Track(0, vec![1, 2, 3]));
    world.run(Step::Wait(20));
    while !world.batches.is_empty() {
        world.respond(true);
        world.advance();
    }
    world.run(Step::Wait(INTERVAL));
    assert_eq!(requests(&mut world), 1, "the first part of two");
    world.run(Step::Wait(INTERVAL / 2));
    assert_eq!(requests(&mut world), 1, "the second part");
}

#[test]
fn requests_back_off_while_the_application_fails_and_new_keys_get_an_error() {
    let mut world = one_subscriber(true);
    world.run(Step::Track(0, vec![0]));
    let mut waited = Vec::new();
    for _ in 0..8 {
        world.run(Step::Respond(false));
        let refused = world.polls.track(world.now, &world.channel, Reader(0), &[tracked("new", 0)], &[]);
        assert_eq!(refused, Err(TrackError::Unanswered));
        let before = world.now;
        while world.batches.is_empty() {
            world.run(Step::Wait(RETRY));
        }
        waited.push((world.now - before) / 1_000);
    }
    assert_eq!(waited, [2, 4, 8, 16, 30, 30, 30, 30]);
    world.run(Step::Respond(true));
    let tracked = world.polls.track(world.now, &world.channel, Reader(0), &[tracked("new", 0)], &[]);
    assert_eq!(tracked, Ok(()));
}

#[test]
fn keys_are_bounded_for_a_subscriber_and_for_a_channel_and_in_bytes() {
    let mut world = one_subscriber(true);
    world.run(Step::Join(1, false));
    let mut track = |reader, keys: &[&str], untrack: &[String]| {
        let keys: Vec<_> = keys.iter().map(|key| tracked(key, 0)).collect();
        world.polls.track(world.now, &world.channel, Reader(reader), &keys, untrack)
    };
    assert_eq!(track(0, &["a", "b", "c", "d", "d"], &[]), Ok(()));
    assert!(
        matches!(track(0, &["e"], &[]), Err(TrackError::Limit(text)) if text.contains("max_keys_per_connection"))
    );
    assert_eq!(track(0, &["e", "f"], &["a".into(), "f".into()]), Ok(()), "what ends makes room");
    assert!(matches!(track(1, &["x", "y"], &[]), Err(TrackError::Limit(text)) if text.contains("max_keys)")));
    assert_eq!(track(1, &["x", "b"], &[]), Ok(()), "keys of others are shared");
    for (key, length) in [("", 0), (&*"k".repeat(256), 256)] {
        assert_eq!(track(1, &[key], &[]), Err(TrackError::Key(length)));
    }
    assert_eq!(track(0, &["e"], &["d".into()]), Ok(()));
    assert_eq!(track(1, &[&"k".repeat(255)], &[]), Ok(()));
}

#[test]
fn values_beyond_the_bound_of_bytes_are_refused_and_the_ones_before_stay() {
    let mut world = one_subscriber(true);
    world.polls.set_limits(Limits { requests: 1, bytes: 1_000, burst: 1_000 });
    world.run(Step::Track(0, vec![0]));
    let publish = |world: &mut World, version, length| {
        let data = Some(Bytes::from(vec![b'1'; length]));
        let value = Value { key: name(0), data, version, removed: false };
        let outcome = world.polls.publish(world.now, &world.channel, value, "", &mut world.model);
        world.advance();
        (outcome, world.polls.value(&world.channel, &name(0)).map(|(version, _)| version))
    };
    use tidings_shared_poll::Published::{Applied, Ignored, Refused};
    assert_eq!(publish(&mut world, 1, 500), (Applied, Some(1)));
    assert_eq!(publish(&mut world, 2, 900), (Refused, Some(1)));
    assert_eq!(publish(&mut world, 3, 100), (Applied, Some(3)));
    assert_eq!(publish(&mut world, 3, 90), (Ignored, Some(3)), "a version is applied once");
    assert_eq!(publish(&mut world, 2, 90), (Ignored, Some(3)), "versions do not go back");
}

#[test]
fn a_tracker_ends_when_its_signature_has_expired() {
    let mut world = one_subscriber(true);
    let expires = |key: &str, expires| TrackedKey { key: key.to_owned(), version: 0, expires };
    let keys = vec![expires("a", Some(50)), expires("b", Some(70)), expires("c", None)];
    world.polls.track(world.now, &world.channel, Reader(0), &keys, &[]).expect("tracked");
    for (time, count) in [(49, 3), (50, 2), (69, 2), (70, 1), (1_000, 1)] {
        world.now += INTERVAL;
        for batch in world.polls.advance(world.now, time, &mut world.model).0 {
            world.polls.respond(world.now, batch.id, Some(Values::default()), &mut world.model);
        }
        for _ in 0..3 {
            for batch in world.polls.advance(world.now, time, &mut world.model).0 {
                world.polls.respond(world.now, batch.id, Some(Values::default()), &mut world.model);
            }
            world.now += INTERVAL;
        }
        assert_eq!(world.polls.counts().1, count, "at {time}");
    }
}

#[test]
fn another_epoch_ends_the_subscriptions_so_that_clients_begin_again() {
    let mut world = one_subscriber(true);
    world.run(Step::Change(0, 7));
    world.run(Step::Track(0, vec![0]));
    world.run(Step::Respond(true));
    assert_eq!(world.model.readers[&Reader(0)].1[&name(0)].0, 1);
    world.run(Step::Restart);
    world.run(Step::Wait(INTERVAL));
    world.run(Step::Respond(true));
    assert!(world.model.readers.is_empty(), "the subscription has ended");
    let epoch = world.polls.join(world.now, &world.channel, &world.options, Reader(0), false);
    assert_eq!(epoch, "1", "the new one has the epoch");
    let versionless = &options(false);
    let other = Channel::new("poll:2").expect("a name");
    assert_eq!(world.polls.join(world.now, &other, versionless, Reader(0), false), "12345678");
}
