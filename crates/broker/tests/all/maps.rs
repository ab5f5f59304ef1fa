//! Maps of the memory broker: delivery, expiry by the clock, limits. (Maps in Redis: `maps_redis.rs`, `maps_model.rs`.)

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tidings_broker::memory::{Limits, Memory};
use tidings_broker::{Broker, BrokerError, MapChange, Stateful};
use tidings_map_state::{Applied, KeyChange, MapOptions, SetKey, StateQuery};
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::{History, HistoryQuery};

use crate::node::{Event, Recorder, after, channel, name, wait};

pub(crate) fn options(key_ttl: Option<Duration>) -> MapOptions {
    MapOptions {
        ordered: false,
        key_ttl,
        keys: 1_000,
        bytes: 1 << 20,
        stream_size: 100,
        stream_ttl: Duration::from_secs(60),
        meta_ttl: Duration::from_secs(60),
    }
}

pub(crate) fn change(
    broker: &dyn Stateful,
    key: &str,
    body: Option<String>,
    options: MapOptions,
) -> Result<Applied, BrokerError> {
    let set = body.map(|body| SetKey { body: body.into(), ..SetKey::default() });
    let change = KeyChange { key: key.into(), set, tags: Vec::new(), info: None };
    let change = MapChange { change, options, idempotency_key: None };
    wait(|done| broker.map_change(&name("a"), change, done))
}

pub(crate) fn keys(broker: &dyn Stateful) -> usize {
    wait(|done| broker.map_key_count(&name("a"), done)).unwrap()
}

/// The keys of the delivered changes, with a minus sign for removals.
pub(crate) fn delivered(sink: &Recorder) -> Vec<String> {
    let publications = sink.publications("a");
    let key = |map: &tidings_wire::MapKey| format!("{}{}", if map.removed { "-" } else { "" }, map.key);
    publications.iter().filter_map(|p| p.extra.as_ref()?.map.as_deref().map(key)).collect()
}

#[test]
fn keys_that_end_are_removed_for_subscribers_without_another_change() {
    let sink = Arc::new(Recorder::default());
    let memory = Memory::new(sink.clone());
    memory.subscribe(&channel("a"));
    let expiring = Arc::clone(&memory);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    thread::spawn(move || runtime.block_on(expiring.run_key_expiry()));
    let brief = options(Some(Duration::from_millis(100)));
    change(&*memory, "stays", Some("1".into()), options(None)).unwrap();
    change(&*memory, "ends", Some("2".into()), brief).unwrap();
    change(&*memory, "earlier", Some("3".into()), options(Some(Duration::from_millis(20)))).unwrap();
    wait_until(PATIENCE, "both removals", || delivered(&sink).len() == 5);
    assert_eq!(delivered(&sink), ["stays", "ends", "earlier", "-earlier", "-ends"]);
    assert_eq!(keys(&*memory), 1);
    assert_eq!(memory.map_counters().expired.load(Ordering::Relaxed), 2);
    assert_eq!(memory.map_counts(), (1, 1));
}

#[test]
fn a_full_map_refuses_values_with_the_name_of_the_option_and_keeps_its_state() {
    let memory = Memory::with_limits(
        Arc::new(Recorder::default()),
        Limits { map_bytes: 100_000, ..Limits::default() },
    );
    let refused = |outcome: Result<Applied, BrokerError>| match outcome {
        Err(BrokerError::Full(text)) => text,
        other => panic!("{other:?}"),
    };
    let few = MapOptions { keys: 2, ..options(None) };
    for key in ["a", "b"] {
        change(&*memory, key, Some("x".into()), few).unwrap();
    }
    assert!(refused(change(&*memory, "c", Some("x".into()), few)).contains("2 keys in a map (map.max_keys)"));
    let small = MapOptions { bytes: 2_000, ..options(None) };
    let text = refused(change(&*memory, "a", Some("x".repeat(3_000)), small));
    assert!(text.contains("2000 bytes in a map (memory.map_max_channel)"), "{text}");
    let mut written = 0;
    let text = loop {
        match change(&*memory, &format!("k{written}"), Some("x".repeat(5_000)), options(None)) {
            Ok(_) => written += 1,
            other => break refused(other),
        }
    };
    assert!(text.contains("100000 bytes in all maps (memory.map_max_total)"), "{text}");
    // The stream has made room before a value was refused.
    assert!(written >= 15, "{written} values");
    assert!(memory.map_bytes() <= 100_000);
    assert_eq!(keys(&*memory), written + 2);
    assert_eq!(memory.map_counters().refused.load(Ordering::Relaxed), 3);
    // Removals always fit.
    for key in (0..written).map(|n| format!("k{n}")) {
        change(&*memory, &key, None, options(None)).unwrap();
    }
    assert_eq!(keys(&*memory), 2);
}

#[test]
fn a_cleared_map_has_another_epoch_and_a_gap_for_its_subscribers() {
    let sink = Arc::new(Recorder::default());
    let memory = Memory::new(sink.clone());
    memory.subscribe(&channel("a"));
    let read = |query| wait(|done| memory.map_stream(&name("a"), query, done)).unwrap();
    let begin = read(HistoryQuery::default()).position().clone();
    change(&*memory, "k", Some("1".into()), options(None)).unwrap();
    assert_eq!(
        read(after(Some(&begin))).publications().map(<[_]>::len),
        Some(1),
        "the first change follows it"
    );
    let last = read(after(None)).position().clone();
    wait(|done| memory.map_clear(&name("a"), done)).unwrap();
    assert_eq!(sink.count(|event| matches!(event, Event::Gap(..))), 1);
    assert!(
        matches!(read(after(Some(&last))), History::Unrecoverable(position) if position.epoch != last.epoch)
    );
    let query = StateQuery { limit: 9, max_bytes: 1 << 20, ..StateQuery::default() };
    assert_eq!(wait(|done| memory.map_state(&name("a"), query, false, done)).unwrap().entries.len(), 0);
    assert_eq!(memory.map_bytes(), 0);
}
