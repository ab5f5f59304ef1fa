//! Maps of the Redis broker compared with those of the memory broker: the same operations have the same answers, and their
//! subscribers receive the same changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use tidings_broker::memory::Memory;
use tidings_broker::redis::Options;
use tidings_broker::{Broker, MapChange, Stateful};
use tidings_map_state::{Applied, KeyChange, KeyMode, MapOptions, SetKey, StateQuery, Version};
use tidings_testkit::{PATIENCE, RedisServer, wait_until};
use tidings_wire::{Channel, ClientInfo, Epoch, History, HistoryQuery, Position, Publication, Topic};

use crate::node::{Event, Node, Recorder, wait};

/// The lifetime of keys that expire.
const TTL: Duration = Duration::from_millis(200);
/// Operations on such keys take less time than this; then they expire in both brokers.
const SAFE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
enum Step {
    /// A change, whether the key expires, and an idempotency key.
    Change(Box<KeyChange>, bool, Option<u8>),
    /// Reads the whole state in pages.
    State {
        limit: usize,
        asc: bool,
        max_bytes: usize,
    },
    Key(u8),
    Stream {
        back: Option<u64>,
        limit: Option<usize>,
        reverse: bool,
    },
    /// The keys that expire do so.
    Expire,
    Clear,
    /// The map is ordered from now on, or not.
    Order,
}

fn key(number: u8) -> Box<str> {
    // With bytes above those of ASCII, and lengths that differ.
    format!("{}{number}", "\u{e9}:".repeat(usize::from(number % 3))).into()
}

fn change() -> impl Strategy<Value = KeyChange> {
    let mode = prop_oneof![
        5 => Just(KeyMode::Always),
        1 => Just(KeyMode::IfNew),
        1 => Just(KeyMode::IfExists),
        2 => Just(KeyMode::IfChanged),
    ];
    let number = prop_oneof![1..4_u64, (1 << 53)..(1 << 53) + 3_u64, Just(u64::MAX)];
    let version = prop::option::weighted(0.2, (number, "[ab]{0,2}"))
        .prop_map(|version| version.map(|(number, epoch)| Version { number, epoch: epoch.into() }));
    let score =
        prop_oneof![-3..4_i64, (1 << 53)..(1 << 53) + 3_i64, prop::sample::select(&[i64::MIN, i64::MAX][..])];
    let body = prop_oneof![2 => Just(Vec::new()), 3 => Just(vec![b'\n', 0]), 3 => prop::collection::vec(any::<u8>(), 0..200)];
    let set = (body, prop::option::weighted(0.1, Just(b"shown")), score, mode, version).prop_map(
        |(body, shown, score, mode, version)| {
            let stream_body = shown.map(|shown| shown[..].into());
            SetKey { body: body.into(), stream_body, score, mode, version }
        },
    );
    let tags = prop::collection::vec(("[a-c]", "[x-z\u{e9}]{0,3}"), 0..3);
    let info = prop::option::weighted(0.3, "[uv]").prop_map(|user| {
        user.map(|user| ClientInfo { client: format!("c{user}"), user, ..ClientInfo::default() })
    });
    (0..30_u8, prop::option::weighted(0.75, set), tags, info).prop_map(|(number, set, mut tags, info)| {
        tags.dedup_by(|a, b| a.0 == b.0);
        KeyChange { key: key(number), set, tags, info }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = prop::option::weighted(0.1, 0..3_u8);
    let max_bytes = prop_oneof![2 => Just(usize::MAX), 1 => 1..1_000_usize];
    let step = prop_oneof![
        20 => (change(), prop::bool::weighted(0.2), id).prop_map(|(c, ends, id)| Step::Change(Box::new(c), ends, id)),
        3 => (1..8_usize, any::<bool>(), max_bytes)
            .prop_map(|(limit, asc, max_bytes)| Step::State { limit, asc, max_bytes }),
        1 => Just(Step::State { limit: 0, asc: false, max_bytes: 1 }),
        1 => (0..30_u8).prop_map(Step::Key),
        3 => (prop::option::of(0..9_u64), prop::option::of(0..5_usize), any::<bool>())
            .prop_map(|(back, limit, reverse)| Step::Stream { back, limit, reverse }),
        1 => prop::bool::weighted(0.4).prop_map(|expire| if expire { Step::Expire } else { Step::Key(0) }),
        1 => prop::bool::weighted(0.2).prop_map(|clear| if clear { Step::Clear } else { Step::Order }),
    ];
    prop::collection::vec(step, 1..80)
}

/// The epochs of a broker as numbers, in the order of their appearance.
#[derive(Default)]
struct Epochs(Vec<Epoch>);

impl Epochs {
    fn number(&mut self, epoch: &Epoch) -> usize {
        self.0.iter().position(|known| known == epoch).unwrap_or_else(|| {
            self.0.push(epoch.clone());
            self.0.len() - 1
        })
    }

    fn position(&mut self, position: &Position) -> (u64, usize) {
        (position.offset, self.number(&position.epoch))
    }

    fn publication(&mut self, publication: &Publication) -> String {
        let Publication { body, position, extra, .. } = publication;
        // An entry of a state that was set in an earlier epoch has the current one with Redis alone.
        format!("{:?} {body:?} {extra:?}", position.as_ref().map(|position| position.offset))
    }
}

/// One broker, and what it has answered.
struct Side<'a> {
    broker: &'a dyn Stateful,
    channel: &'a Channel,
    epochs: Epochs,
    position: Option<Position>,
    begin: Position,
}

impl Side<'_> {
    fn stream(&self, query: HistoryQuery) -> History {
        wait(|done| self.broker.map_stream(self.channel, query, done)).expect("a stream")
    }

    fn run(&mut self, step: &Step, options: &MapOptions) -> String {
        match step {
            Step::Change(change, ends, id) => {
                let options = MapOptions { key_ttl: ends.then_some(TTL), ..*options };
                let idempotency_key = id.map(|id| format!("i{id}"));
                let change = MapChange { change: KeyChange::clone(change), options, idempotency_key };
                let applied = wait(|done| self.broker.map_change(self.channel, change, done));
                match applied {
                    Ok(Applied::Changed(publication)) => {
                        let position = publication.position.clone().expect("a position");
                        let shown = self.epochs.publication(&publication);
                        let at = self.epochs.position(&position);
                        self.position = Some(position);
                        format!("{shown} {at:?}")
                    }
                    Ok(Applied::Suppressed(why, position)) => {
                        format!("{why:?} {:?}", self.epochs.position(&position))
                    }
                    Err(error) => format!("{error:?}"),
                }
            }
            Step::State { limit, asc, max_bytes } => {
                let (mut answer, mut cursor) = (String::new(), String::new());
                loop {
                    let query =
                        StateQuery { cursor, limit: *limit, asc: *asc, key: None, max_bytes: *max_bytes };
                    let page = wait(|done| self.broker.map_state(self.channel, query, options.ordered, done));
                    let page = page.expect("a page");
                    let entries: Vec<_> =
                        page.entries.iter().map(|entry| self.epochs.publication(entry)).collect();
                    let at = self.epochs.position(&page.position);
                    answer += &format!("{at:?} {entries:?} {:?} {:?}\n", page.scores, page.cursor);
                    cursor = page.cursor;
                    if cursor.is_empty() {
                        let count = wait(|done| self.broker.map_key_count(self.channel, done));
                        return format!("{answer} {count:?}");
                    }
                }
            }
            Step::Key(number) => {
                let query = StateQuery { key: Some(key(*number).into()), limit: 9, ..StateQuery::default() };
                let page = wait(|done| self.broker.map_state(self.channel, query, options.ordered, done))
                    .expect("a page");
                let entries: Vec<_> =
                    page.entries.iter().map(|entry| self.epochs.publication(entry)).collect();
                format!("{:?} {entries:?} {:?}", self.epochs.position(&page.position), page.scores)
            }
            Step::Stream { back, limit, reverse } => {
                let last = self.position.as_ref().unwrap_or(&self.begin);
                let since = back.map(|back| Position {
                    offset: (last.offset + 2).saturating_sub(back),
                    epoch: last.epoch.clone(),
                });
                let query = HistoryQuery {
                    limit: *limit,
                    since,
                    reverse: *reverse,
                    for_subscriber: false,
                    max_bytes: usize::MAX,
                };
                let history = self.stream(query);
                let at = self.epochs.position(history.position());
                let all = history.publications().map(|all| {
                    all.iter().map(|publication| self.epochs.publication(publication)).collect::<Vec<_>>()
                });
                format!("{at:?} {all:?}")
            }
            Step::Clear => {
                self.position = None;
                format!("{:?}", wait(|done| self.broker.map_clear(self.channel, done)))
            }
            Step::Expire | Step::Order => String::new(),
        }
    }
}

fn received(sink: &Recorder, channel: &Channel) -> (Vec<String>, usize) {
    let mut epochs = Epochs::default();
    let all = sink.publications(channel.as_str());
    let topic = Topic::Channel(channel.clone());
    let gaps = sink.count(|event| matches!(event, Event::Gap(of, _) if *of == topic));
    (all.iter().map(|publication| epochs.publication(publication)).collect(), gaps)
}

fn compare(node: &Node, steps: &[Step], mut options: MapOptions) -> Result<(), TestCaseError> {
    static CASES: AtomicU64 = AtomicU64::new(0);
    let channel = Channel::new(format!("m{}", CASES.fetch_add(1, Ordering::Relaxed))).unwrap();
    let topic = Topic::Channel(channel.clone());
    let sink = Arc::new(Recorder::default());
    let memory = Memory::new(sink.clone());
    memory.subscribe(&topic);
    node.subscribe(&topic);
    let brokers: [&dyn Stateful; 2] = [&*memory, &*node.broker];
    let mut sides = brokers.map(|broker| {
        let begin = wait(|done| broker.map_stream(&channel, HistoryQuery::default(), done)).unwrap();
        let begin = begin.position().clone();
        Side { broker, channel: &channel, epochs: Epochs::default(), position: None, begin }
    });
    let mut first_end: Option<Instant> = None;
    let expire = |first_end: &mut Option<Instant>| {
        if let Some(begin) = first_end.take() {
            // No key was set later than `TTL` after the first one.
            sleep((2 * TTL).saturating_sub(begin.elapsed()));
            memory.expire_keys(Instant::now());
        }
    };
    for step in steps {
        if matches!(step, Step::Expire) || first_end.is_some_and(|begin| begin.elapsed() > SAFE) {
            expire(&mut first_end);
        }
        match step {
            Step::Order => options.ordered = !options.ordered,
            // Nothing is there to be cleared.
            Step::Clear if sides.iter().any(|side| side.position.is_none()) => continue,
            Step::Change(_, true, _) => {
                first_end.get_or_insert_with(Instant::now);
                // Keys with the same deadline expire in the order of their names, so no two have the same one.
                sleep(Duration::from_millis(2));
            }
            _ => {}
        }
        let [memory, redis] = sides.each_mut().map(|side| side.run(step, &options));
        if first_end.is_some_and(|begin| begin.elapsed() > TTL - Duration::from_millis(20)) {
            // The machine is too slow for this case.
            return Err(TestCaseError::reject("keys may have expired in one broker"));
        }
        prop_assert_eq!(memory, redis, "{:?}", step);
    }
    expire(&mut first_end);
    let step = Step::State { limit: 1_000, asc: false, max_bytes: usize::MAX };
    let [of_memory, of_redis] = sides.each_mut().map(|side| side.run(&step, &options));
    prop_assert_eq!(of_memory, of_redis);
    let wanted = received(&sink, &channel);
    wait_until(PATIENCE, "the changes at the subscriber", || {
        received(&node.sink, &channel).0.len() >= wanted.0.len()
    });
    prop_assert_eq!(wanted, received(&node.sink, &channel));
    node.broker.unsubscribe(&topic);
    Ok(())
}

#[test]
fn maps_in_redis_answer_as_those_in_memory() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let cases = (steps(), any::<bool>(), 3..30_usize, prop::bool::ANY, 1..6_usize);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) };
    let ran = TestRunner::new(config).run(&cases, |(steps, ordered, keys, is_small, stream_size)| {
        let options = MapOptions {
            ordered,
            key_ttl: None,
            keys,
            // The stream of the memory broker has this limit as well, and does not reach it here.
            bytes: if is_small { 4_000 } else { 1 << 20 },
            stream_size,
            stream_ttl: Duration::from_secs(600),
            meta_ttl: Duration::from_secs(600),
        };
        compare(&node, &steps, options)
    });
    ran.unwrap_or_else(|failure| panic!("{failure}"));
}
