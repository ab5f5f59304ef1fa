//! Both brokers have the same state: each test runs on both.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_broker::memory::{Limits, Memory};
use tidings_broker::redis::Options;
use tidings_broker::{BrokerError, Change, HistoryOptions, MAX_IDEMPOTENCY_KEY, PublishOptions, Stateful};
use tidings_testkit::{PATIENCE, RedisServer, wait_until};
use tidings_wire::{ClientInfo, Extra, Position};
use tidings_wire::{History, HistoryQuery};

use crate::node::{
    Event, Node, Recorder, after, channel, history, history_of, keep, name, page, position, publish_with,
    wait,
};

/// Runs a test on two nodes that share a broker; the memory broker has only one node.
pub(crate) fn on_both(test: impl Fn(&dyn Stateful, &dyn Stateful, &Recorder)) {
    let sink = Arc::new(Recorder::default());
    let memory = Memory::new(sink.clone());
    test(&*memory, &*memory, &sink);
    let redis = RedisServer::start();
    let node = Node::connected(Options { prefix: "app:".to_owned(), ..Options::new(redis.url()) });
    let other = Node::connected(Options { prefix: "app:".to_owned(), ..Options::new(redis.url()) });
    test(&*node.broker, &*other.broker, &node.sink);
}

fn bodies(broker: &dyn Stateful, query: HistoryQuery) -> Vec<String> {
    let page = page(broker, "a", query);
    page.publications.iter().map(|p| String::from_utf8_lossy(&p.body).into_owned()).collect()
}

#[test]
fn a_history_returns_the_requested_publications_or_is_unrecoverable() {
    on_both(|broker, other, _| {
        let begin = position(other, "a");
        let at: Vec<_> = (1..=5).map(|i| keep(broker, "a", &i.to_string(), 3)).collect();
        assert!(at.iter().map(|at| at.offset).eq(1..=5) && at.iter().all(|at| at.epoch == begin.epoch));
        let all = page(other, "a", after(None));
        assert_eq!(all.position, at[4]);
        assert!(all.publications.iter().map(|p| p.position.clone().unwrap()).eq(at[2..].iter().cloned()));
        assert_eq!(bodies(other, after(Some(&at[1]))), ["3", "4", "5"]);
        assert_eq!(bodies(other, after(Some(&at[3]))), ["5"]);
        assert_eq!(bodies(other, after(Some(&at[4]))), [""; 0]);
        assert_eq!(bodies(other, HistoryQuery { limit: Some(2), ..after(Some(&at[1])) }), ["3", "4"]);
        assert_eq!(bodies(other, HistoryQuery { limit: Some(2), ..after(None) }), ["3", "4"]);
        assert_eq!(bodies(other, HistoryQuery { reverse: true, ..after(None) }), ["5", "4", "3"]);
        let reverse = HistoryQuery { limit: Some(1), reverse: true, ..after(Some(&at[4])) };
        assert_eq!(bodies(other, reverse), ["4"]);
        // Without an epoch, the current one is meant.
        let anywhere = Position { epoch: "".into(), ..at[3].clone() };
        assert_eq!(bodies(other, after(Some(&anywhere))), ["5"]);
        let gone = Position { offset: 0, ..anywhere };
        assert_eq!(history(other, "a", after(Some(&gone))), History::Unrecoverable(at[4].clone()));
        let elsewhere = Position { epoch: "elsewhere".into(), ..at[4].clone() };
        let ahead = Position { offset: 6, ..at[4].clone() };
        for since in [&at[0], &begin, &elsewhere, &ahead] {
            for limit in [None, Some(0)] {
                let query = HistoryQuery { limit, ..after(Some(since)) };
                assert_eq!(history(other, "a", query), History::Unrecoverable(at[4].clone()), "{since:?}");
            }
        }
        for since in [&elsewhere, &ahead] {
            let query = HistoryQuery { reverse: true, ..after(Some(since)) };
            assert_eq!(history(other, "a", query), History::Unrecoverable(at[4].clone()), "{since:?}");
        }
    });
}

#[test]
fn the_position_of_an_empty_channel_leads_to_its_first_publication() {
    on_both(|broker, other, sink| {
        broker.subscribe(&channel("a"));
        sink.wait_live(1, &channel("a"));
        let begin = position(broker, "a");
        assert_eq!(begin.offset, 0);
        assert_eq!(position(other, "a"), begin);
        keep(other, "a", "first", 9);
        assert_eq!(bodies(broker, after(Some(&begin))), ["first"]);
        wait_until(PATIENCE, "the delivery", || sink.offsets("a") == [1]);
        assert_eq!(sink.gaps(), []);
    });
}

#[test]
fn a_removed_history_keeps_its_position() {
    on_both(|broker, other, _| {
        keep(broker, "a", "1", 9);
        let at = keep(broker, "a", "2", 9);
        wait(|done| broker.history_remove(&name("a"), done)).unwrap();
        assert_eq!(bodies(other, after(None)), [""; 0]);
        assert_eq!(position(other, "a"), at);
        let begin = Position { offset: 0, ..at.clone() };
        assert_eq!(history(other, "a", after(Some(&begin))), History::Unrecoverable(at.clone()));
        assert_eq!(keep(other, "a", "3", 9), Position { offset: 3, ..at });
    });
}

#[test]
fn a_history_and_its_position_expire_after_their_ttls() {
    on_both(|broker, other, _| {
        let ttl = Duration::from_millis(50);
        let options = |meta_ttl| PublishOptions {
            history: Some(HistoryOptions { size: 9, ttl, meta_ttl }),
            ..PublishOptions::default()
        };
        let kept = publish_with(broker, "a", "1", options(Duration::from_secs(60))).unwrap();
        wait_until(PATIENCE, "the history to go", || bodies(other, after(None)).is_empty());
        assert_eq!(Some(position(other, "a")), kept.position);
        let last = publish_with(broker, "a", "2", options(ttl)).unwrap().position.unwrap();
        wait_until(PATIENCE, "the position to go", || position(other, "a").epoch != last.epoch);
        assert_eq!(position(other, "a").offset, 0);
    });
}

#[test]
fn the_same_idempotency_key_publishes_once_and_returns_the_first_result() {
    on_both(|broker, other, sink| {
        broker.subscribe(&channel("a"));
        broker.subscribe(&channel("b"));
        sink.wait_live(1, &channel("b"));
        let options = |key: &str, size| PublishOptions {
            history: Some(history_of(size)),
            idempotency_key: Some(key.to_owned()),
            ..PublishOptions::default()
        };
        for size in [9, 0] {
            let key = format!("k{size}");
            let first = publish_with(broker, "a", "once", options(&key, size)).unwrap();
            assert!(!first.repeated && first.receivers > 0);
            assert_eq!(first.position.is_some(), size > 0);
            let second = publish_with(other, "a", "twice", options(&key, size)).unwrap();
            assert!(second.repeated);
            assert_eq!((second.position, second.receivers), (first.position, first.receivers));
            assert!(!publish_with(other, "b", "elsewhere", options(&key, size)).unwrap().repeated);
        }
        assert!(!publish_with(other, "a", "no key", options("", 9)).unwrap().repeated);
        assert!(!publish_with(other, "a", "no key", options("", 9)).unwrap().repeated);
        publish_with(broker, "a", "last", options("other", 9)).unwrap();
        wait_until(PATIENCE, "the last", || sink.bodies("a").last().is_some_and(|body| body == "last"));
        assert_eq!(sink.bodies("a"), ["once", "once", "no key", "no key", "last"]);
        let long = publish_with(broker, "a", "", options(&"k".repeat(MAX_IDEMPOTENCY_KEY + 1), 9));
        assert!(matches!(long, Err(BrokerError::Invalid(why)) if why.contains("255")));
    });
}

fn info(user: &str, client: &str) -> ClientInfo {
    ClientInfo {
        user: user.to_owned(),
        client: client.to_owned(),
        conn_info: Some(Bytes::from_static(br#"{"name":"Ann"}"#)),
        chan_info: None,
    }
}

#[test]
fn publisher_info_and_tags_are_delivered_and_stored() {
    on_both(|broker, other, sink| {
        broker.subscribe(&channel("a"));
        sink.wait_live(1, &channel("a"));
        let tags = vec![("k".to_owned(), "v 1".to_owned())];
        let extra = Extra {
            info: Some(info("ann", "c1")),
            tags,
            origin: Some("other".into()),
            delta: true,
            ..Extra::default()
        };
        for history in [None, Some(history_of(9))] {
            let extra = Some(Box::new(extra.clone()));
            let options = PublishOptions { history, extra, ..PublishOptions::default() };
            publish_with(other, "a", "hi", options).unwrap();
        }
        wait_until(PATIENCE, "both", || sink.publications("a").len() == 2);
        assert_eq!(sink.offsets("a"), [0, 1]);
        for publication in sink.publications("a").iter().chain(&page(broker, "a", after(None)).publications) {
            assert_eq!(publication.body, "hi");
            assert_eq!(publication.extra.as_deref(), Some(&extra));
        }
    });
}

#[test]
fn members_are_visible_on_every_node_until_they_leave_or_expire() {
    on_both(|broker, other, _| {
        let add = |who: &ClientInfo, ttl| {
            wait(|done| broker.presence_add(&name("a"), who, ttl, done)).unwrap();
        };
        let present = || {
            let mut members = wait(|done| other.presence(&name("a"), usize::MAX, done)).unwrap();
            members.sort_by(|a, b| a.client.cmp(&b.client));
            members
        };
        let stats = || {
            let stats = wait(|done| other.presence_stats(&name("a"), done)).unwrap();
            (stats.clients, stats.users)
        };
        assert_eq!((present(), stats()), (Vec::new(), (0, 0)));
        let minute = Duration::from_secs(60);
        let (one, two, three) = (info("ann", "1"), info("ann", "2"), info("", "3"));
        add(&one, minute);
        add(&two, Duration::from_millis(100));
        add(&three, minute);
        // Renewed in time, and with other information.
        let two = ClientInfo { chan_info: Some(Bytes::from_static(b"{}")), ..two };
        add(&two, minute);
        assert_eq!(present(), [one.clone(), two.clone(), three.clone()]);
        assert_eq!(stats(), (3, 2));
        wait(|done| broker.presence_remove(&name("a"), "3", done)).unwrap();
        add(&one, Duration::from_millis(1));
        wait_until(PATIENCE, "the silent one to go", || present() == [two.clone()]);
        assert_eq!(stats(), (1, 1));
    });
}

#[test]
fn joins_and_leaves_reach_every_node_with_the_channel() {
    on_both(|broker, other, sink| {
        broker.subscribe(&channel("a"));
        sink.wait_live(1, &channel("a"));
        let changes = [Change::Join(info("ann", "1")), Change::Leave(info("ann", "1"))];
        for change in &changes {
            wait(|done| other.announce(&name("a"), change.clone(), done)).unwrap();
            wait(|done| other.announce(&name("b"), change.clone(), done)).unwrap();
        }
        sink.wait(2, "both changes", |event| matches!(event, Event::Changed(..)));
        let reported: Vec<_> =
            sink.events().iter().filter(|event| matches!(event, Event::Changed(..))).cloned().collect();
        assert_eq!(reported, changes.map(|change| Event::Changed("a".to_owned(), change)));
    });
}

#[test]
fn memory_is_bounded_and_evicted_publications_are_unrecoverable() {
    let sink = Arc::new(Recorder::default());
    let memory = Memory::with_limits(
        sink,
        Limits { channel_bytes: 10_000, namespace_bytes: 15_000, total_bytes: 15_000, ..Limits::default() },
    );
    let begin = position(&*memory, "a");
    let body = "x".repeat(1_000);
    for i in 0..100 {
        keep(&*memory, "a", &body, 1_000);
        keep(&*memory, &format!("other{}", i % 5), &body, 1_000);
        assert!(memory.bytes() <= 15_000);
    }
    assert!(
        matches!(history(&*memory, "a", after(Some(&begin))), History::Unrecoverable(at) if at.offset == 100)
    );
    assert!(page(&*memory, "a", after(None)).publications.len() < 10);
    let full = (0..100).map(|i| {
        let key = PublishOptions { idempotency_key: Some(i.to_string()), ..PublishOptions::default() };
        publish_with(&*memory, "b", "", key)
    });
    assert!(full.into_iter().any(|outcome| outcome == Err(BrokerError::Overloaded)), "no room for results");
}
