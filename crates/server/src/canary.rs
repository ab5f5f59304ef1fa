//! The canary: messages of the server's own that take every way through the broker, again and again.
//!
//! That a connection stands, or that a broker answers pings, says nothing about whether publications come through. Only
//! a publication that came back does. One takes one way, though. Where the broker has several parts that may fail by
//! themselves, as a cluster has, each is tried; and so is each operation that the configuration makes use of: see [`Part`].
//!
//! Invariants:
//! - The server is ready while every part of every way has succeeded within the limit.
//! - After the connection to the broker was lost, and at the start, nothing counts that was proved before.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_broker::{BrokerError, HistoryOptions, Probe, PublishOptions, Stateful};
use tidings_wire::HistoryQuery;
use tidings_wire::{Channel, ClientInfo, Publication, Topic};
use tokio::sync::Notify;

use crate::interest::Interests;
use crate::metrics::{Collect, MetricWriter, SECONDS};

/// How the channels of canaries begin, among those of the server's own ([`RESERVED_PREFIX`](tidings_wire::channel::RESERVED_PREFIX)).
pub(crate) const PREFIX: &str = "tidings.node.canary.";
/// How those begin that go the way of what others publish, where that is another one.
const PLAIN: &str = "tidings.node.plain.";
/// For how long the broker keeps what the canaries of a node that has ended have left.
const KEPT: Duration = Duration::from_secs(60);

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A publication comes back.
    Publish,
    /// A publication that is kept in a history comes back with a position.
    PublishWithHistory,
    /// A history is read.
    History,
    /// A member is added, and counted.
    Presence,
}

impl Part {
    const ALL: [Self; 4] = [Self::Publish, Self::PublishWithHistory, Self::History, Self::Presence];

    /// As `/ready` names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::PublishWithHistory => "publish_with_history",
            Self::History => "history",
            Self::Presence => "presence",
        }
    }
}

/// Which operations the configuration makes use of, besides publishing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// Some namespace has a history.
    pub(crate) history: bool,
    /// Some namespace has presence.
    pub(crate) presence: bool,
}

/// A part of a way that has not succeeded within the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    pub(crate) part: Part,
    /// In words for an operator.
    pub(crate) reason: String,
}

/// One way through the broker.
#[derive(Clone, Debug)]
struct Way {
    /// Through what, for people.
    through: String,
    /// What is tried on it, in the order of [`Part::ALL`].
    proofs: [Option<Proof>; 4],
    /// When its connections were made, or made anew, for all that is known.
    reset: Instant,
    /// The broker has said that this way is closed.
    away: bool,
}

/// How a part did.
#[derive(Clone, Debug, Default)]
struct Proof {
    /// When it last succeeded, and how long it took.
    last: Option<(Instant, Duration)>,
    /// Since when it may be expected, where it is new and all others succeed: for as long as the limit it does not count.
    grace: Option<Instant>,
    /// What the broker answered last, if that was an error.
    error: Option<BrokerError>,
    /// When the broker last answered with an error: what it takes next is given the whole limit to come back.
    failed: Option<Instant>,
}

impl Way {
    fn proof(&mut self, part: Part) -> Option<&mut Proof> {
        self.proofs[part as usize].as_mut()
    }
}

/// Where canaries fly, and how the last ones did.
#[derive(Debug)]
pub(crate) struct Canary {
    own: String,
    plain: String,
    began: Instant,
    interval: Duration,
    limit: Duration,
    used: Used,
    ways: Mutex<HashMap<Channel, Way>>,
    sent: AtomicU64,
    hurry: Notify,
}

/// What is to be sent on one way.
struct Due {
    channel: Channel,
    parts: [bool; 4],
    /// Why its connections are to be made anew, where nothing has come back for too long although they stand.
    overdue: Option<String>,
}

impl Canary {
    /// A canary of this node, which no other node has.
    pub(crate) fn new(node: u64, interval: Duration, limit: Duration, used: Used) -> Self {
        Self {
            own: format!("{PREFIX}{node:016x}"),
            plain: format!("{PLAIN}{node:016x}"),
            began: Instant::now(),
            interval,
            limit,
            used,
            ways: Mutex::default(),
            sent: AtomicU64::new(0),
            hurry: Notify::new(),
        }
    }

    /// Whether this is a channel that it flies in, or did lately.
    pub(crate) fn is(&self, channel: &Channel) -> bool {
        channel.as_str().starts_with(&self.own) || channel.as_str().starts_with(&self.plain)
    }

    /// The same of a topic.
    pub(crate) fn is_topic(&self, topic: &Topic) -> bool {
        matches!(topic, Topic::Channel(channel) if self.is(channel))
    }

    /// A canary has come back; its body says when it left.
    pub(crate) fn came_back(&self, publication: &Publication) {
        let part = match publication.position {
            Some(_) => Part::PublishWithHistory,
            None => Part::Publish,
        };
        let left = std::str::from_utf8(&publication.body).ok().and_then(|s| s.parse().ok());
        if let Some(left) = left.map(Duration::from_micros) {
            self.succeeded(&publication.channel, part, left);
        }
    }

    /// A part that was begun at `left`, from the start, has succeeded.
    fn succeeded(&self, channel: &Channel, part: Part, left: Duration) {
        let now = Instant::now();
        let Some(took) = now.duration_since(self.began).checked_sub(left) else { return };
        // One that was lost on the way for longer than the limit says nothing good.
        if took <= self.limit
            && let Some(proof) = self.lock().get_mut(channel).and_then(|way| way.proof(part))
        {
            (proof.last, proof.error) = (Some((now, took)), None);
        }
    }

    /// The broker has answered with an error. What is not sent cannot come back: that says nothing against the
    /// connection by which it would.
    fn failed(&self, channel: &Channel, part: Part, error: BrokerError) {
        if let Some(way) = self.lock().get_mut(channel)
            && let Some(proof) = way.proof(part)
        {
            (proof.error, proof.failed) = (Some(error), Some(Instant::now()));
        }
    }

    /// How long the slowest of the last ones took, if all succeeded within the limit.
    ///
    /// # Errors
    /// Which part does not, and what is wrong.
    pub(crate) fn verdict(&self) -> Result<Duration, Failing> {
        self.judge_all(&self.lock())
    }

    fn judge_all(&self, ways: &HashMap<Channel, Way>) -> Result<Duration, Failing> {
        let mut slowest = None;
        for way in ways.values() {
            for part in Part::ALL {
                if let Some(took) = self.judge(way, part)? {
                    slowest = slowest.max(Some(took));
                }
            }
        }
        slowest.ok_or_else(|| Failing {
            part: Part::Publish,
            reason: "nothing has come back through the broker yet".to_owned(),
        })
    }

    /// The same of one part; nothing where it is not tried, or may still be expected.
    fn judge(&self, way: &Way, part: Part) -> Result<Option<Duration>, Failing> {
        let Some(Proof { last, grace, error, .. }) = &way.proofs[part as usize] else { return Ok(None) };
        let through = &way.through;
        let what = match part {
            Part::Publish => format!("nothing has come back through {through}"),
            Part::PublishWithHistory => {
                format!("nothing published with a history has come back through {through}")
            }
            Part::History => format!("no history could be read through {through}"),
            Part::Presence => format!("no presence could be kept through {through}"),
        };
        let why = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let reason = match last {
            Some((when, took)) if when.elapsed() <= self.limit => return Ok(Some(*took)),
            Some((when, _)) => format!(
                "{what} for {:.1} s (limit {:.1} s){why}",
                when.elapsed().as_secs_f64(),
                self.limit.as_secs_f64()
            ),
            None if grace.is_some_and(|since| since.elapsed() <= self.limit) => return Ok(None),
            None => format!("{what} yet{why}"),
        };
        Err(Failing { part, reason })
    }

    /// How long publications take through the broker: as long as the slowest of the last canaries, or, when the next one
    /// is overdue, as long as it is overdue by now.
    fn lag(&self) -> Duration {
        let of = |way: &Way| match way.proofs[Part::Publish as usize].as_ref().and_then(|proof| proof.last) {
            Some((when, took)) => took.max(when.elapsed().saturating_sub(self.interval)),
            None => way.reset.elapsed(),
        };
        self.lock().values().map(of).max().unwrap_or_else(|| self.began.elapsed())
    }

    /// The broker is connected, for the first time or again: everything has to be proved anew, at once.
    pub(crate) fn up(&self) {
        for way in self.lock().values_mut() {
            for proof in way.proofs.iter_mut().flatten() {
                *proof = Proof::default();
            }
        }
        self.hurry.notify_one();
    }

    /// The broker has confirmed a topic, or says that it is away.
    pub(crate) fn is_there(&self, topic: &Topic, there: bool) {
        if let Topic::Channel(channel) = topic
            && let Some(way) = self.lock().get_mut(channel)
        {
            way.away = !there;
            way.reset = Instant::now();
            if there && way.proofs.iter().flatten().any(|proof| proof.last.is_none()) {
                self.hurry.notify_one();
            }
        }
    }

    /// These are the ways now; gives the channels that are new and those that are no longer among them.
    fn take_ways(&self, probes: Vec<Probe>) -> (Vec<Channel>, Vec<Channel>) {
        let mut ways = self.lock();
        let now = Instant::now();
        let grace = self.judge_all(&ways).is_ok().then_some(now);
        let mut old = std::mem::take(&mut *ways);
        let mut new = Vec::new();
        for Probe { channel, through, stateful } in probes {
            let tried = [
                true,
                stateful && self.used.history,
                stateful && self.used.history,
                stateful && self.used.presence,
            ];
            let way = old.remove(&channel).filter(|way| way.through == through).unwrap_or_else(|| {
                new.push(channel.clone());
                // The same way in another channel is no news.
                let before = old.values().find(|way| way.through == through);
                let proof = |part: Part| {
                    let last = before.and_then(|way| way.proofs[part as usize].as_ref()?.last);
                    tried[part as usize].then_some(Proof { last, grace, error: None, failed: None })
                };
                Way { through, proofs: Part::ALL.map(proof), reset: now, away: false }
            });
            ways.insert(channel, way);
        }
        (new, old.into_keys().collect())
    }

    /// What is to be sent, on each way.
    fn due(&self) -> Vec<Due> {
        let mut ways = self.lock();
        let due = ways.iter_mut().map(|(channel, way)| {
            let stands = !way.away && way.reset.elapsed() > self.limit;
            // What comes back in answer to a request is given up with it.
            let overdue =
                [Part::Publish, Part::PublishWithHistory].into_iter().filter(|_| stands).find_map(|part| {
                    let sent = way.proofs[part as usize].as_ref().is_some_and(|proof| {
                        let has_failed = proof.failed.is_some_and(|at| at.elapsed() <= self.limit);
                        proof.error.is_none() && !has_failed
                    });
                    self.judge(way, part).err().filter(|_| sent).map(|failing| failing.reason)
                });
            if overdue.is_some() {
                way.reset = Instant::now();
            }
            let parts = Part::ALL.map(|part| way.proofs[part as usize].is_some());
            Due { channel: channel.clone(), parts, overdue }
        });
        due.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Channel, Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for Canary {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.gauge(
            "tidings_broker_lag",
            SECONDS,
            "How long publications take through the broker: the round trip of the last canary, or by how much the next is overdue",
            self.lag().as_secs_f64(),
        )
    }
}

/// Sends canaries until the task is cancelled; when none has come back for too long, makes the broker reconnect.
pub(crate) async fn run(canary: Arc<Canary>, broker: Arc<dyn Stateful>, interests: Arc<Interests>) {
    loop {
        let probes = broker.probes(&canary.own, &canary.plain);
        if !probes.is_empty() {
            let (new, gone) = canary.take_ways(probes);
            new.into_iter().for_each(|channel| broker.subscribe(&Topic::Channel(channel)));
            gone.into_iter().for_each(|channel| broker.unsubscribe(&Topic::Channel(channel)));
        }
        let is_connected = interests.down_reason().is_none();
        let is_first = canary.sent.fetch_add(1, Ordering::Relaxed) == 0;
        for Due { channel, parts, overdue } in canary.due() {
            for part in Part::ALL.into_iter().filter(|part| parts[*part as usize]) {
                send(&canary, &broker, &channel, part);
            }
            if let Some(why) = overdue.filter(|_| is_connected && !is_first) {
                tracing::warn!(reason = why, "connecting to the broker anew");
                broker.reset_for(&channel, &why);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(canary.interval) => {}
            () = canary.hurry.notified() => {
                // A new connection gets the whole time limit.
                let now = Instant::now();
                canary.lock().values_mut().for_each(|way| way.reset = now);
            }
        }
    }
}

/// Tries one part of one way.
fn send(canary: &Arc<Canary>, broker: &Arc<dyn Stateful>, channel: &Channel, part: Part) {
    let left = canary.began.elapsed();
    let body = Bytes::from(left.as_micros().to_string());
    let (canary, on) = (Arc::clone(canary), channel.clone());
    let is_answered = matches!(part, Part::History | Part::Presence);
    let done = move |outcome: Result<(), BrokerError>| match outcome {
        Ok(()) if is_answered => canary.succeeded(&on, part, left),
        // A publication has to come back as well.
        Ok(()) => {}
        Err(error) => canary.failed(&on, part, error),
    };
    match part {
        Part::Publish => broker.publish(channel, body, Box::new(move |outcome| done(outcome.map(drop)))),
        Part::PublishWithHistory => {
            let history = Some(HistoryOptions { size: 1, ttl: KEPT, meta_ttl: KEPT });
            let options = PublishOptions { history, ..PublishOptions::default() };
            broker.publish_with(channel, body, options, Box::new(move |outcome| done(outcome.map(drop))));
        }
        Part::History => {
            let query =
                HistoryQuery { limit: Some(1), since: None, reverse: true, heard: false, max_bytes: 1 << 10 };
            broker.history(channel, query, Box::new(move |outcome| done(outcome.map(drop))));
        }
        Part::Presence => {
            let info = ClientInfo { client: "canary".to_owned(), ..ClientInfo::default() };
            let (counting, of) = (Arc::clone(broker), channel.clone());
            let count = move |outcome: Result<(), BrokerError>| match outcome {
                Err(error) => done(Err(error)),
                Ok(()) => counting.presence_stats(
                    &of,
                    Box::new(move |outcome| {
                        done(outcome.and_then(|stats| match stats.clients {
                            0 => Err(BrokerError::Failed("nobody is present")),
                            _ => Ok(()),
                        }));
                    }),
                ),
            };
            broker.presence_add(channel, &info, KEPT, Box::new(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_fails_for_good_does_not_hide_that_publications_no_longer_come_back() {
        // Long enough for the first lines below, also on a busy machine.
        let limit = Duration::from_millis(500);
        let canary = Canary::new(1, limit / 2, limit, Used { history: false, presence: true });
        let channel = Channel::new("tidings.canary.1").expect("a name");
        let probe = Probe { channel: channel.clone(), through: "the broker".to_owned(), stateful: true };
        canary.take_ways(vec![probe]);
        let overdue = || {
            canary.failed(&channel, Part::Presence, BrokerError::NotPermitted);
            canary.due().iter().any(|due| due.overdue.is_some())
        };
        assert!(!overdue(), "it is new");
        let began = Instant::now();
        while !overdue() {
            assert!(began.elapsed() < 20 * limit, "the missing publications are not reported");
            std::thread::sleep(limit / 10);
        }
        // What cannot be published cannot come back, nor at once when it is published again.
        std::thread::sleep(2 * limit);
        canary.failed(&channel, Part::Publish, BrokerError::Unavailable);
        assert!(!overdue());
    }
}
