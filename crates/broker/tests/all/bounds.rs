//! Results are limited in bytes, and queries store nothing: on the memory broker and on Redis.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tidings_broker::memory::{Limits, Memory};
use tidings_broker::redis::Options;
use tidings_broker::{BrokerError, HistoryOptions, PublishOptions, Stateful};
use tidings_testkit::{RedisServer, Reply};
use tidings_wire::{ClientInfo, Position};
use tidings_wire::{History, HistoryQuery};

use crate::node::{Node, Recorder, after, history, keep, name, page, position, publish_with, wait};
use crate::state::on_both;

#[test]
fn a_page_ends_at_its_bytes_and_the_next_begins_there() {
    on_both(|broker, other, _| {
        let body = "x".repeat(1_000);
        let at: Vec<_> = (0..100).map(|_| keep(broker, "a", &body, 100)).collect();
        for reverse in [false, true] {
            let (mut since, mut offsets, mut pages) = (None, Vec::new(), 0);
            loop {
                let query = HistoryQuery { max_bytes: 10_000, reverse, ..after(since.as_ref()) };
                let page = page(other, "a", query);
                assert_eq!(page.position, at[99]);
                let bytes: usize = page.publications.iter().map(|p| p.size()).sum();
                assert!(bytes <= 10_000, "{bytes} bytes");
                let Some(last) = page.publications.last() else { break };
                since = last.position.clone();
                offsets.extend(page.publications.iter().filter_map(|p| p.offset()));
                pages += 1;
            }
            assert_eq!(pages, 12, "nine publications of 1,064 bytes in each");
            if reverse {
                offsets.reverse();
            }
            assert!(offsets.into_iter().eq(1..=100));
        }
        // A publication larger than the page is returned all the same: otherwise paging would not advance.
        let query = HistoryQuery { max_bytes: 10, ..after(Some(&at[49])) };
        let offsets: Vec<_> = page(other, "a", query).publications.iter().map(|p| p.offset()).collect();
        assert_eq!(offsets, [Some(51)]);
    });
}

#[test]
fn publications_beyond_the_byte_limit_are_not_recovered() {
    on_both(|broker, other, _| {
        let at: Vec<_> = (0..100).map(|_| keep(broker, "a", &"x".repeat(1_000), 100)).collect();
        let recover =
            |since: &Position| HistoryQuery { for_subscriber: true, max_bytes: 10_000, ..after(Some(since)) };
        assert_eq!(history(other, "a", recover(&at[89])), History::Unrecoverable(at[99].clone()));
        assert_eq!(page(other, "a", recover(&at[91])).publications.len(), 8);
        assert_eq!(page(other, "a", recover(&at[99])).publications.len(), 0);
    });
}

#[test]
fn members_beyond_the_limit_are_counted_but_not_listed() {
    on_both(|broker, other, _| {
        for i in 0..300 {
            let client = format!("client-{i:04}");
            let info = ClientInfo {
                user: format!("user{}", i % 7),
                client,
                conn_info: Some(Bytes::from_static(b"{}")),
                chan_info: None,
            };
            wait(|done| broker.presence_add(&name("a"), &info, Duration::from_secs(60), done)).unwrap();
        }
        let presence = |max_bytes| wait(|done| other.presence(&name("a"), max_bytes, done));
        assert_eq!(presence(usize::MAX).unwrap().len(), 300);
        assert_eq!(presence(1 << 20).unwrap().len(), 300);
        assert_eq!(presence(10_000), Err(BrokerError::LimitExceeded(10_000)));
        let stats = wait(|done| other.presence_stats(&name("a"), done)).unwrap();
        assert_eq!((stats.clients, stats.users), (300, 7));
    });
}

#[test]
fn queries_store_nothing_and_the_first_publication_follows_the_returned_position() {
    on_both(|broker, other, _| {
        let at = position(broker, "kept");
        assert_eq!(keep(broker, "kept", "1", 9).epoch, at.epoch, "the returned position holds");
        for i in 0..2_000 {
            let name = format!("invented{i}");
            let at = position(broker, &name);
            assert_eq!(at.offset, 0);
            assert_eq!(position(other, &name), at, "all nodes return the same position");
            let page = page(other, &name, after(Some(&at)));
            assert!(page.publications.is_empty() && page.position == at);
        }
        assert_eq!(page(other, "kept", after(Some(&at))).publications.len(), 1);
        let ahead = Position { offset: 1, ..position(broker, "invented1") };
        assert!(matches!(history(other, "invented1", after(Some(&ahead))), History::Unrecoverable(_)));
    });
}

#[test]
fn no_two_histories_have_the_same_epoch() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let mut epochs = std::collections::HashSet::new();
    for round in 0..3 {
        let begin = position(&*node.broker, "a");
        let kept = keep(&*node.broker, "a", "x", 9);
        assert_eq!(kept.epoch, begin.epoch);
        assert!(epochs.insert(kept.epoch.as_str().to_owned()), "round {round}");
        redis.cli(&["FLUSHALL"]);
    }
    // Other nodes that start later do not change the position of a channel without a history either.
    let begin = position(&*node.broker, "a");
    let other = Node::connected(Options::new(redis.url()));
    assert_eq!(position(&*other.broker, "a"), begin);
    assert_eq!(redis.cli(&["DBSIZE"]), Reply::Int(0));
}

#[test]
fn a_full_redis_still_answers_queries() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let kept = keep(&*node.broker, "a", "x", 9);
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(position(&*node.broker, "a"), kept);
    assert_eq!(position(&*node.broker, "empty").offset, 0);
    assert_eq!(wait(|done| node.broker.presence(&name("a"), 1000, done)), Ok(Vec::new()));
    assert_eq!(wait(|done| node.broker.presence_stats(&name("a"), done)).unwrap().clients, 0);
}

#[test]
fn a_full_namespace_evicts_only_its_own_histories_and_counts_them() {
    let limits =
        Limits { channel_bytes: 10_000, namespace_bytes: 50_000, total_bytes: 100_000, ..Limits::default() };
    let memory = Memory::with_limits(Arc::new(Recorder::default()), limits);
    let begin = position(&*memory, "calm:a");
    keep(&*memory, "calm:a", "kept", 9);
    let oldest = keep(&*memory, "busy:0", &"x".repeat(1_000), 9);
    for i in 1..1_000 {
        keep(&*memory, &format!("busy:{i}"), &"x".repeat(1_000), 9);
        assert!(memory.bytes() <= 60_000, "{} bytes", memory.bytes());
    }
    assert_eq!(page(&*memory, "calm:a", after(Some(&begin))).publications.len(), 1);
    let evictions = memory.evictions();
    assert!(evictions.nonempty.load(Ordering::Relaxed) > 900, "{evictions:?}");
    assert_eq!(evictions.publications.load(Ordering::Relaxed), 0);
    // Of an evicted history nothing is recovered, neither now nor after it has begun again.
    assert!(matches!(history(&*memory, "busy:0", after(Some(&oldest))), History::Unrecoverable(_)));
    let again = keep(&*memory, "busy:0", "again", 9);
    assert_ne!(again.epoch, oldest.epoch);
    assert!(matches!(history(&*memory, "busy:0", after(Some(&oldest))), History::Unrecoverable(_)));
}

#[test]
fn histories_without_publications_are_evicted_first() {
    let limits =
        Limits { channel_bytes: 20_000, namespace_bytes: 100_000, total_bytes: 100_000, ..Limits::default() };
    let memory = Memory::with_limits(Arc::new(Recorder::default()), limits);
    let begin = position(&*memory, "kept");
    for _ in 0..10 {
        keep(&*memory, "kept", &"x".repeat(1_000), 100);
    }
    let brief = HistoryOptions { size: 9, ttl: Duration::from_millis(1), meta_ttl: Duration::from_secs(600) };
    let evicted = || memory.evictions().empty.load(Ordering::Relaxed);
    let mut published = 0;
    let end = std::time::Instant::now() + tidings_testkit::PATIENCE;
    while evicted() < 100 {
        assert!(std::time::Instant::now() < end, "{} bytes, {:?}", memory.bytes(), memory.evictions());
        published += 1;
        let options = PublishOptions { history: Some(brief), ..PublishOptions::default() };
        publish_with(&*memory, &format!("brief{published}"), "x", options).expect("room is made");
        std::thread::sleep(Duration::from_micros(500));
    }
    assert_eq!(memory.evictions().nonempty.load(Ordering::Relaxed), 0);
    assert_eq!(page(&*memory, "kept", after(Some(&begin))).publications.len(), 10);
}
