//! The topics that should be subscribed at Redis, those that are, and the difference.
//!
//! Callers change the wanted topics; the link task takes the differences in batches, applies them, and reports back. A
//! difference is computed when it is taken, not when it arises, so a topic that is removed and added again quickly
//! ends in the last wanted state, whatever was in flight.
//!
//! Invariants:
//! - A topic is in the queue at most once, so the queue is no longer than the table.
//! - An entry leaves the table only when it is neither wanted nor subscribed.
//! - A topic is returned as live once for each time it became wanted, and only while Redis has its subscription.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use tidings_wire::Topic;
use tokio::sync::Notify;

use crate::lock;

/// The table of topics, shared between the callers and the link task.
#[derive(Debug, Default)]
pub(super) struct Interest {
    table: Mutex<InterestTable>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct InterestTable {
    topics: HashMap<Topic, TopicInterest>,
    /// Topics that may need a change, oldest first.
    queue: VecDeque<Topic>,
    connected: bool,
}

#[derive(Debug, Default)]
struct TopicInterest {
    wanted: bool,
    /// Redis has confirmed the subscription on this connection.
    subscribed: bool,
    /// The topic was reported live since it last became wanted.
    announced: bool,
    queued: bool,
}

/// The next changes; each list may be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// To subscribe at Redis.
    pub(super) subscribe: Vec<Topic>,
    /// To unsubscribe at Redis.
    pub(super) unsubscribe: Vec<Topic>,
    /// Still subscribed at Redis: wanted again before the unsubscription was sent.
    pub(super) live: Vec<Topic>,
}

impl Work {
    fn len(&self) -> usize {
        self.subscribe.len() + self.unsubscribe.len() + self.live.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Interest {
    /// Adds a topic to the wanted ones.
    pub(super) fn subscribe(&self, topic: &Topic) {
        let mut table = lock(&self.table);
        let entry = table.topics.entry(topic.clone()).or_default();
        entry.announced &= entry.wanted;
        entry.wanted = true;
        if !entry.announced {
            table.enqueue(topic);
            self.changed.notify_one();
        }
    }

    /// Removes a topic from the wanted ones.
    pub(super) fn unsubscribe(&self, topic: &Topic) {
        let mut table = lock(&self.table);
        let Some(entry) = table.topics.get_mut(topic) else { return };
        entry.wanted = false;
        if table.connected {
            table.enqueue(topic);
            self.changed.notify_one();
        } else {
            table.topics.remove(topic);
        }
    }

    /// Whether a topic is wanted.
    pub(super) fn is_wanted(&self, topic: &Topic) -> bool {
        lock(&self.table).topics.get(topic).is_some_and(|entry| entry.wanted)
    }

    /// Whether any pattern is wanted.
    pub(super) fn has_patterns(&self) -> bool {
        let table = lock(&self.table);
        table.topics.iter().any(|(topic, entry)| entry.wanted && matches!(topic, Topic::Pattern(_)))
    }

    /// Whether a topic is wanted, or still subscribed.
    pub(super) fn contains(&self, topic: &Topic) -> bool {
        lock(&self.table).topics.contains_key(topic)
    }

    /// Starts with a new connection, on which no topic is subscribed.
    pub(super) fn connected(&self) {
        let mut table = lock(&self.table);
        table.connected = true;
        let InterestTable { topics, queue, .. } = &mut *table;
        queue.extend(topics.iter_mut().map(|(topic, entry)| {
            entry.queued = true;
            topic.clone()
        }));
        self.changed.notify_one();
    }

    /// Records the end of the connection: no topic is subscribed any more.
    pub(super) fn disconnected(&self) {
        let mut table = lock(&self.table);
        table.connected = false;
        table.queue.clear();
        table.topics.retain(|_, entry| {
            *entry = TopicInterest { wanted: entry.wanted, ..TopicInterest::default() };
            entry.wanted
        });
    }

    /// Takes changes of up to `limit` topics; empty only when the queue is empty.
    pub(super) fn take(&self, limit: usize) -> Work {
        let mut table = lock(&self.table);
        let mut work = Work::default();
        while work.len() < limit {
            let Some(topic) = table.queue.pop_front() else { break };
            let Some(entry) = table.topics.get_mut(&topic) else { continue };
            entry.queued = false;
            match (entry.wanted, entry.subscribed) {
                (true, false) => work.subscribe.push(topic),
                (true, true) if entry.announced => {}
                (true, true) => {
                    entry.announced = true;
                    work.live.push(topic);
                }
                (false, true) => work.unsubscribe.push(topic),
                (false, false) => {
                    table.topics.remove(&topic);
                }
            }
        }
        work
    }

    /// Waits until there may be a change.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Records confirmed subscriptions; returns the topics to report as live.
    pub(super) fn subscribed(&self, mut topics: Vec<Topic>) -> Vec<Topic> {
        let mut table = lock(&self.table);
        topics.retain(|topic| {
            let Some(entry) = table.topics.get_mut(topic) else { return false };
            entry.subscribed = true;
            let news = entry.wanted && !entry.announced;
            entry.announced |= news;
            news
        });
        topics
    }

    /// Queues topics again that were taken and not confirmed; returns those that are not wanted any more.
    pub(super) fn requeue(&self, topics: Vec<Topic>) -> Vec<Topic> {
        let mut table = lock(&self.table);
        let (wanted, unwanted) = topics
            .into_iter()
            .partition::<Vec<_>, _>(|topic| table.topics.get(topic).is_some_and(|entry| entry.wanted));
        wanted.iter().for_each(|topic| table.enqueue(topic));
        self.changed.notify_one();
        unwanted
    }

    /// Records subscriptions that Redis has ended by itself, and queues them again.
    pub(super) fn ended(&self, topics: &[Topic]) {
        let mut table = lock(&self.table);
        for topic in topics {
            if let Some(entry) = table.topics.get_mut(topic) {
                (entry.subscribed, entry.announced) = (false, false);
                table.enqueue(topic);
            }
        }
        self.changed.notify_one();
    }

    /// Records confirmed unsubscriptions.
    pub(super) fn unsubscribed(&self, topics: &[Topic]) {
        let mut table = lock(&self.table);
        for topic in topics {
            let Some(entry) = table.topics.get_mut(topic) else { continue };
            entry.subscribed = false;
            if !entry.wanted && !entry.queued {
                table.topics.remove(topic);
            }
        }
    }
}

impl InterestTable {
    /// Adds a topic of the table to the queue, unless it is there or there is no connection.
    fn enqueue(&mut self, topic: &Topic) {
        if !self.connected {
            return;
        }
        if let Some(entry) = self.topics.get_mut(topic)
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.queue.push_back(topic.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tidings_wire::Channel;

    use super::*;

    fn topic(name: &str) -> Topic {
        Channel::new(name).unwrap().into()
    }

    #[test]
    fn a_topic_removed_and_added_at_once_stays_subscribed_and_is_live_again() {
        let interest = Interest::default();
        interest.connected();
        interest.subscribe(&topic("a"));
        assert_eq!(interest.take(9).subscribe, [topic("a")]);
        assert_eq!(interest.subscribed(vec![topic("a")]), [topic("a")]);
        interest.unsubscribe(&topic("a"));
        interest.subscribe(&topic("a"));
        assert_eq!(interest.take(9), Work { live: vec![topic("a")], ..Work::default() });
    }

    #[test]
    fn a_topic_added_during_its_unsubscription_is_subscribed_again() {
        let interest = Interest::default();
        interest.connected();
        interest.subscribe(&topic("a"));
        interest.take(9);
        interest.subscribed(vec![topic("a")]);
        interest.unsubscribe(&topic("a"));
        assert_eq!(interest.take(9).unsubscribe, [topic("a")]);
        interest.subscribe(&topic("a"));
        interest.unsubscribed(&[topic("a")]);
        assert_eq!(interest.take(9).subscribe, [topic("a")]);
        assert_eq!(interest.subscribed(vec![topic("a")]), [topic("a")]);
    }

    #[test]
    fn a_topic_removed_during_its_subscription_is_not_live_and_is_unsubscribed() {
        let interest = Interest::default();
        interest.connected();
        interest.subscribe(&topic("a"));
        interest.take(9);
        interest.unsubscribe(&topic("a"));
        assert_eq!(interest.subscribed(vec![topic("a")]), []);
        assert_eq!(interest.take(9).unsubscribe, [topic("a")]);
        interest.unsubscribed(&[topic("a")]);
        assert!(lock(&interest.table).topics.is_empty());
    }

    #[test]
    fn a_refused_topic_is_retried_when_it_is_added_again() {
        let interest = Interest::default();
        interest.connected();
        interest.subscribe(&topic("a"));
        assert_eq!(interest.take(9).subscribe, [topic("a")]);
        // A refused topic is not reported back.
        assert_eq!(interest.take(9), Work::default());
        interest.subscribe(&topic("a"));
        assert_eq!(interest.take(9).subscribe, [topic("a")]);
    }

    #[test]
    fn adding_a_live_topic_twice_changes_nothing() {
        let interest = Interest::default();
        interest.connected();
        interest.subscribe(&topic("a"));
        interest.take(9);
        interest.subscribed(vec![topic("a")]);
        interest.subscribe(&topic("a"));
        assert_eq!(interest.take(9), Work::default());
    }

    #[test]
    fn short_lived_topics_do_not_hide_a_lasting_one() {
        let interest = Interest::default();
        interest.connected();
        for i in 0..100 {
            interest.subscribe(&topic(&format!("gone{i}")));
            interest.unsubscribe(&topic(&format!("gone{i}")));
        }
        interest.subscribe(&topic("kept"));
        assert_eq!(interest.take(9).subscribe, [topic("kept")]);
    }

    #[test]
    fn without_a_connection_only_the_table_of_topics_is_stored() {
        let interest = Interest::default();
        for i in 0..100 {
            interest.subscribe(&topic(&format!("gone{i}")));
            interest.unsubscribe(&topic(&format!("gone{i}")));
        }
        interest.subscribe(&topic("kept"));
        {
            let table = lock(&interest.table);
            assert_eq!((table.topics.len(), table.queue.len()), (1, 0));
        }
        interest.connected();
        assert_eq!(interest.take(9).subscribe, [topic("kept")]);
    }

    /// The state of the callers.
    #[derive(Default)]
    struct Callers {
        wanted: HashSet<Topic>,
        live: HashSet<Topic>,
    }

    impl Callers {
        /// Adds and removes some topics at random.
        fn act(&mut self, interest: &Interest, random: &mut fastrand::Rng) {
            for _ in 0..random.usize(0..4) {
                let topic = topic(&format!("t{}", random.u8(0..6)));
                if random.bool() {
                    interest.subscribe(&topic);
                    if self.wanted.insert(topic.clone()) {
                        self.live.remove(&topic);
                    }
                } else {
                    interest.unsubscribe(&topic);
                    self.wanted.remove(&topic);
                }
            }
        }
    }

    /// Any interleaving of callers, confirmations and lost connections ends with exactly the wanted topics subscribed
    /// at Redis, and with every wanted topic reported live after it last became wanted.
    #[test]
    fn every_interleaving_ends_with_the_wanted_topics_subscribed() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let interest = Interest::default();
            let mut callers = Callers::default();
            let mut redis = HashSet::new();
            callers.act(&interest, &mut random);
            interest.connected();
            for step in 0..60 {
                // Towards the end no topic changes and the connection is kept.
                let calm = step > 40;
                if !calm && random.u8(0..10) == 0 {
                    interest.disconnected();
                    redis.clear();
                    callers.live.clear();
                    callers.act(&interest, &mut random);
                    interest.connected();
                }
                if !calm {
                    callers.act(&interest, &mut random);
                }
                let work = interest.take(random.usize(1..4));
                callers.live.extend(work.live);
                redis.retain(|topic| !work.unsubscribe.contains(topic));
                redis.extend(work.subscribe.iter().cloned());
                if !calm {
                    callers.act(&interest, &mut random);
                }
                interest.unsubscribed(&work.unsubscribe);
                callers.live.extend(interest.subscribed(work.subscribe));
            }
            assert_eq!(redis, callers.wanted, "seed {seed}");
            assert!(callers.wanted.is_subset(&callers.live), "seed {seed}");
            assert_eq!(
                lock(&interest.table).topics.len(),
                redis.len(),
                "nothing is left behind, seed {seed}"
            );
        }
    }
}
