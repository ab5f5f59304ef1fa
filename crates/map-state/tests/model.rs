//! Maps compared with a naive model: every change is kept, and the state is computed from all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidings_map_state::{
    Applied, Budget, KeyChange, KeyMode, MapError, MapOptions, Maps, SetKey, StateQuery, Suppression, Version,
};
use tidings_wire::{Channel, Epoch, History, HistoryQuery, Position, Publication};

/// An event of a channel; times are in seconds.
#[derive(Clone, Debug)]
enum Step {
    Set {
        key: u8,
        score: i64,
        bytes: usize,
        mode: KeyMode,
        version: Option<u64>,
    },
    Remove(u8),
    Wait(u64),
    Sweep,
    Clear,
    /// A client begins to read the state in pages of this size.
    Begin {
        limit: usize,
        asc: bool,
    },
    /// The client reads the next page, or after the last one the stream.
    Next,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode = prop_oneof![
        4 => Just(KeyMode::Always),
        1 => Just(KeyMode::IfNew),
        1 => Just(KeyMode::IfExists),
        1 => Just(KeyMode::IfChanged),
    ];
    let version = prop_oneof![3 => Just(None), 1 => (1..4_u64).prop_map(Some)];
    let step = prop_oneof![
        8 => (0..8_u8, 0..4_i64, 0..200_usize, mode, version)
            .prop_map(|(key, score, bytes, mode, version)| Step::Set { key, score, bytes, mode, version }),
        2 => (0..8_u8).prop_map(Step::Remove),
        2 => (0..4_u64).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        1 => prop::bool::weighted(0.1).prop_map(|clear| if clear { Step::Clear } else { Step::Sweep }),
        2 => (1..4_usize, any::<bool>()).prop_map(|(limit, asc)| Step::Begin { limit, asc }),
        6 => Just(Step::Next),
    ];
    prop::collection::vec(step, 1..80)
}

/// A value of the model.
#[derive(Clone, Debug, PartialEq)]
struct Value {
    body: Vec<u8>,
    expires: Option<u64>,
    version: Option<u64>,
}

/// The state that results from publications.
fn replay(state: &mut BTreeMap<String, Vec<u8>>, publication: &Publication) {
    let map = publication.extra.as_ref().and_then(|extra| extra.map.as_ref()).expect("a key");
    if map.removed {
        state.remove(&*map.key);
    } else {
        state.insert(map.key.to_string(), publication.body.to_vec());
    }
}

/// A client that reads the state and then the stream, as the SDK does.
struct Client {
    query: StateQuery,
    from: Option<Position>,
    done: bool,
    state: BTreeMap<String, Vec<u8>>,
}

struct World {
    maps: Maps,
    budget: Arc<Budget>,
    options: MapOptions,
    channel: Channel,
    start: Instant,
    now: u64,
    model: BTreeMap<String, Value>,
    /// The state of a subscriber that has received every publication.
    live: BTreeMap<String, Vec<u8>>,
    offset: u64,
    client: Option<Client>,
}

impl World {
    fn at(&self) -> Instant {
        self.start + Duration::from_secs(self.now)
    }

    fn epoch(&self) -> Epoch {
        Epoch::from(format!("e{}", self.maps.ended()).as_str())
    }

    /// Takes publications as a subscriber does: their offsets are consecutive.
    fn receive(&mut self, publications: &[Arc<Publication>]) {
        for publication in publications {
            self.offset += 1;
            assert_eq!(publication.offset(), Some(self.offset));
            replay(&mut self.live, publication);
        }
    }

    fn sweep(&mut self) {
        let mut out = Vec::new();
        let before = self.maps.ended();
        while self.maps.expire(self.at(), &mut out) {}
        self.receive(&out);
        if self.maps.ended() > before {
            self.offset = 0;
        }
        self.model.retain(|_, value| value.expires.is_none_or(|at| at > self.now));
    }

    fn change(&mut self, key: u8, set: Option<SetKey>) -> Result<Applied, MapError> {
        let change = KeyChange { key: key.to_string().into(), set, tags: Vec::new(), info: None };
        let (mut out, epoch, at) = (Vec::new(), self.epoch(), self.at());
        let applied = self.maps.apply(&self.channel, change, &self.options, &epoch, at, &mut out);
        self.receive(&out);
        self.model.retain(|_, value| value.expires.is_none_or(|at| at > self.now));
        applied
    }

    fn set(&mut self, key: u8, set: SetKey) {
        let name = key.to_string();
        let (body, mode) = (set.body.to_vec(), set.mode);
        let version = set.version.as_ref().map(|version| version.number);
        let applied = self.change(key, Some(set));
        let held = self.model.get(&name);
        let expected = match (held, mode) {
            (Some(_), KeyMode::IfNew) => Err(Suppression::KeyExists),
            (None, KeyMode::IfExists) => Err(Suppression::KeyNotFound),
            (Some(held), KeyMode::IfChanged) if held.body == body => Err(Suppression::KeyExists),
            (Some(Value { version: Some(old), .. }), _) if version.is_some_and(|new| new <= *old) => {
                Err(Suppression::Version)
            }
            _ => Ok(()),
        };
        match (applied, expected) {
            (Ok(Applied::Changed(_)), Ok(())) => {
                let expires = self.options.key_ttl.map(|ttl| self.now + ttl.as_secs());
                self.model.insert(name, Value { body, expires, version });
            }
            (Ok(Applied::Suppressed(why, _)), Err(expected)) => {
                assert_eq!(why, expected);
                if let (KeyMode::IfChanged, Suppression::KeyExists) = (mode, why) {
                    let expires = self.options.key_ttl.map(|ttl| self.now + ttl.as_secs());
                    self.model.get_mut(&name).expect("the key").expires = expires;
                }
            }
            (Err(MapError::Keys(limit)), Ok(())) => {
                assert!(held.is_none() && self.model.len() == limit);
            }
            (Err(MapError::ChannelBytes(_) | MapError::TotalBytes(_)), Ok(())) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The next page of the client, or the stream after it, which completes its state.
    fn next(&mut self) {
        let epoch = self.epoch();
        let Some(client) = self.client.as_mut() else { return };
        if !client.done {
            let page = self.maps.read_state(&self.channel, &client.query, self.options.ordered, &epoch);
            let page = page.expect("its own cursor");
            if client.from.as_ref().is_some_and(|from| from.epoch != page.position.epoch) {
                // The client begins again.
                self.client = None;
                return;
            }
            client.from.get_or_insert(page.position);
            for entry in &page.entries {
                replay(&mut client.state, entry);
            }
            client.done = page.cursor.is_empty();
            client.query.cursor = page.cursor;
            return;
        }
        let Some(mut client) = self.client.take() else { return };
        let query = HistoryQuery { since: client.from, max_bytes: usize::MAX, ..HistoryQuery::default() };
        match self.maps.read_stream(&self.channel, &query, &epoch) {
            History::Page(page) => {
                page.publications.iter().for_each(|publication| replay(&mut client.state, publication));
                assert_eq!(client.state, self.live, "state + stream = the state of a subscriber");
            }
            History::Unrecoverable(position) => assert!(
                position.epoch != query.since.clone().expect("a position").epoch
                    || position.offset - query.since.expect("a position").offset > 0
            ),
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Set { key, score, bytes, mode, version } => {
                // Short values recur, so that a change with [`KeyMode::IfChanged`] changes nothing.
                let number = if bytes < 40 { 0 } else { self.offset };
                let body = format!("{number}:{key}:{}", "x".repeat(bytes / 40 * 40)).into();
                let version = version.map(|number| Version { number, epoch: "v".into() });
                self.set(key, SetKey { body, score, mode, version, stream_body: None });
            }
            Step::Remove(key) => {
                let applied = self.change(key, None).expect("a removal always succeeds");
                let held = self.model.remove(&key.to_string()).is_some();
                assert_eq!(matches!(applied, Applied::Changed(_)), held);
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Sweep => self.sweep(),
            Step::Clear => {
                self.maps.clear(&self.channel);
                self.model.clear();
                self.live.clear();
                self.offset = 0;
            }
            Step::Begin { limit, asc } => {
                let query = StateQuery { limit, asc, max_bytes: usize::MAX, ..StateQuery::default() };
                self.client = Some(Client { query, from: None, done: false, state: BTreeMap::new() });
            }
            Step::Next => self.next(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn state_and_stream_give_the_state_of_a_subscriber(
        steps in steps(),
        ordered in any::<bool>(),
        key_ttl in prop::option::of(1..6_u64),
        keys in 3..9_usize,
        stream_size in 0..40_usize,
        stream_ttl in 1..8_u64,
        meta_ttl in 1..12_u64,
        total in 4_000..16_000_u64,
    ) {
        let budget = Arc::new(Budget::new(total));
        let mut world = World {
            maps: Maps::new(Arc::clone(&budget)),
            budget,
            options: MapOptions {
                ordered,
                key_ttl: key_ttl.map(Duration::from_secs),
                keys,
                bytes: 4_000,
                stream_size,
                stream_ttl: Duration::from_secs(stream_ttl),
                meta_ttl: Duration::from_secs(meta_ttl),
            },
            channel: Channel::new("a").unwrap(),
            start: Instant::now(),
            now: 0,
            model: BTreeMap::new(),
            live: BTreeMap::new(),
            offset: 0,
            client: None,
        };
        for step in &steps {
            world.run(step);
            world.sweep();
            let bodies: BTreeMap<_, _> =
                world.model.iter().map(|(key, value)| (key.clone(), value.body.clone())).collect();
            prop_assert_eq!(&bodies, &world.live);
            prop_assert_eq!(world.maps.keys(), bodies.len());
            prop_assert_eq!(world.maps.key_count(&world.channel), bodies.len());
            prop_assert!(world.budget.used() <= total);
        }
        world.maps.clear(&world.channel);
        prop_assert_eq!(world.budget.used(), 0, "every byte is released");
        prop_assert_eq!(world.maps.next_timer(), None, "no timer remains");
    }
}
