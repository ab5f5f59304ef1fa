//! Many clients that reconnect at once cause few reads in Redis.

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use tidings_broker::Stateful;
use tidings_broker::redis::Options;
use tidings_testkit::{PATIENCE, RedisServer, wait_until};
use tidings_wire::Position;
use tidings_wire::{History, HistoryQuery};

use crate::node::{Node, after, channel, keep, name, page, position};

/// How often a command was called.
fn calls(redis: &RedisServer, command: &str) -> u64 {
    let stats = redis.cli(&["INFO", "commandstats"]).text();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()).map_or(0, |count| count.parse().unwrap())
}

fn ten_thousand_recoveries(subscribed: bool, publishing: bool, most_reads: u64) {
    const TOP: u64 = 300;
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    if subscribed {
        node.subscribe(&channel("a"));
    }
    for i in 1..=TOP {
        keep(&*node.broker, "a", &i.to_string(), 10_000);
    }
    let top = position(&*node.broker, "a");
    assert_eq!(top.offset, TOP);
    if subscribed {
        wait_until(PATIENCE, "all publications", || node.sink.offsets("a").len() as u64 == TOP);
    }
    let before = calls(&redis, "xrange");
    let began = Instant::now();
    let (sender, pages) = mpsc::channel();
    thread::scope(|scope| {
        for part in 0..4 {
            let (sender, top, broker) = (sender.clone(), top.clone(), &node.broker);
            scope.spawn(move || {
                for i in 0..2_500 {
                    if publishing && part == 0 && i % 5 == 0 {
                        let done = |_: Result<_, _>| {};
                        let history = Some(crate::node::history_of(10_000));
                        let options = tidings_broker::PublishOptions { history, ..Default::default() };
                        broker.publish_with(&name("a"), "more".into(), options, Box::new(done));
                    }
                    let since = Position { offset: TOP - 50 + i % 50, epoch: top.epoch.clone() };
                    let (sender, offset) = (sender.clone(), since.offset);
                    let done = move |answer| sender.send((offset, answer)).unwrap();
                    let query = HistoryQuery { for_subscriber: true, ..after(Some(&since)) };
                    broker.history(&name("a"), query, Box::new(done));
                }
            });
        }
    });
    for _ in 0..10_000 {
        let (since, answer) = pages.recv_timeout(PATIENCE).unwrap();
        let Ok(History::Page(page)) = answer else { panic!("{answer:?}") };
        let offsets = page.publications.iter().filter_map(|publication| publication.offset());
        assert!(page.position.offset >= TOP && offsets.eq(since + 1..=page.position.offset));
    }
    let reads = calls(&redis, "xrange") - before;
    // A snapshot lives for two seconds, and the test takes longer only on a very busy machine.
    let most_reads = most_reads + began.elapsed().as_secs() / 2;
    assert!(reads <= most_reads, "{reads} reads");
}

#[test]
fn ten_thousand_recoveries_of_a_subscribed_channel_cost_one_read() {
    ten_thousand_recoveries(true, false, 1);
}

#[test]
fn ten_thousand_recoveries_during_publications_cost_one_read() {
    ten_thousand_recoveries(true, true, 1);
}

#[test]
fn recoveries_of_an_unsubscribed_channel_share_the_reads_in_flight() {
    ten_thousand_recoveries(false, false, 1_000);
}

#[test]
fn the_position_of_a_subscribed_channel_costs_no_read() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    node.subscribe(&channel("a"));
    node.subscribe(&channel("empty"));
    let top = keep(&*node.broker, "a", "1", 9);
    wait_until(PATIENCE, "the publication", || node.sink.offsets("a") == [1]);
    let empty = position(&*node.broker, "empty");
    let before = calls(&redis, "fcall");
    for _ in 0..100 {
        let received = |name| {
            let query = HistoryQuery { limit: Some(0), for_subscriber: true, ..after(None) };
            page(&*node.broker, name, query).position
        };
        assert_eq!((received("a"), received("empty")), (top.clone(), empty.clone()));
    }
    assert_eq!(calls(&redis, "fcall"), before);
}
