//! Canaries: internal publications that are sent periodically on every path through the broker.
//!
//! An established connection or an answered ping does not prove that publications are delivered; only a publication that
//! returns does. A broker with several parts that fail independently, such as a Redis Cluster, has one path for each. On
//! each path every operation that the configuration uses is tried, see [`Part`].
//!
//! Invariants:
//! - The server is ready while every part of every path has succeeded within the limit.
//! - At the start, and after the connection to the broker was lost, earlier successes do not count.

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
use tidings_metrics::{Collect, MetricWriter, SECONDS};

/// Prefix of the channels of canaries; internal, see [`RESERVED_PREFIX`](tidings_wire::channel::RESERVED_PREFIX).
pub(crate) const PREFIX: &str = "tidings.node.canary.";
/// Prefix of the channels of canaries on the path of plain publications, where that is a separate path.
const PLAIN: &str = "tidings.node.plain.";
/// How long the broker keeps the histories and members of canaries of an ended node.
const KEPT: Duration = Duration::from_secs(60);

/// An operation that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A publication returns.
    Publish,
    /// A publication with a history returns with a position.
    PublishWithHistory,
    /// A history is read.
    History,
    /// A member is added and counted.
    Presence,
}

impl Part {
    const ALL: [Self; 4] = [Self::Publish, Self::PublishWithHistory, Self::History, Self::Presence];

    /// The name in the response of `/ready`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::PublishWithHistory => "publish_with_history",
            Self::History => "history",
            Self::Presence => "presence",
        }
    }
}

/// The operations that the configuration uses, besides publishing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// Some namespace has a history.
    pub(crate) history: bool,
    /// Some namespace has presence.
    pub(crate) presence: bool,
}

/// A part of a path that has not succeeded within the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedProbe {
    pub(crate) part: Part,
    /// The reason, for an operator.
    pub(crate) reason: String,
}

/// One path through the broker.
#[derive(Clone, Debug)]
struct ProbePath {
    /// The part of the broker on this path, for messages.
    through: String,
    /// The state of each part that is tried, in the order of [`Part::ALL`].
    proofs: [Option<Proof>; 4],
    /// When the connections of the path were last (re-)established, as far as known.
    reset: Instant,
    /// The broker has reported that the path is unavailable.
    away: bool,
}

/// The last outcomes of a part.
#[derive(Clone, Debug, Default)]
struct Proof {
    /// When the part last succeeded, and the round trip.
    last: Option<(Instant, Duration)>,
    /// When the part was added while all others succeeded: it does not count until the limit has passed.
    grace: Option<Instant>,
    /// The last error of the broker, if the last response was one.
    error: Option<BrokerError>,
    /// When the broker last responded with an error: the next publication has the whole limit to return.
    failed: Option<Instant>,
}

impl ProbePath {
    fn proof(&mut self, part: Part) -> Option<&mut Proof> {
        self.proofs[part as usize].as_mut()
    }
}

/// The paths through the broker, and the outcomes of the last canaries.
#[derive(Debug)]
pub(crate) struct Canary {
    own: String,
    plain: String,
    began: Instant,
    interval: Duration,
    limit: Duration,
    used: Used,
    paths: Mutex<HashMap<Channel, ProbePath>>,
    sent: AtomicU64,
    hurry: Notify,
}

/// The parts to try on one path.
struct Due {
    channel: Channel,
    parts: [bool; 4],
    /// Why the broker should reconnect: canaries are overdue although the connections are established.
    overdue: Option<String>,
}

impl Canary {
    /// Canaries of the node with this unique number.
    pub(crate) fn new(node: u64, interval: Duration, limit: Duration, used: Used) -> Self {
        Self {
            own: format!("{PREFIX}{node:016x}"),
            plain: format!("{PLAIN}{node:016x}"),
            began: Instant::now(),
            interval,
            limit,
            used,
            paths: Mutex::default(),
            sent: AtomicU64::new(0),
            hurry: Notify::new(),
        }
    }

    /// Whether this is a channel of this node's canaries.
    pub(crate) fn is(&self, channel: &Channel) -> bool {
        channel.as_str().starts_with(&self.own) || channel.as_str().starts_with(&self.plain)
    }

    /// Whether this is the topic of such a channel.
    pub(crate) fn is_topic(&self, topic: &Topic) -> bool {
        matches!(topic, Topic::Channel(channel) if self.is(channel))
    }

    /// A canary has returned; its body is the time of its departure.
    pub(crate) fn returned(&self, publication: &Publication) {
        let part = match publication.position {
            Some(_) => Part::PublishWithHistory,
            None => Part::Publish,
        };
        let left = std::str::from_utf8(&publication.body).ok().and_then(|s| s.parse().ok());
        if let Some(left) = left.map(Duration::from_micros) {
            self.succeeded(&publication.channel, part, left);
        }
    }

    /// A part that was begun at `left`, a time since the start, has succeeded.
    fn succeeded(&self, channel: &Channel, part: Part, left: Duration) {
        let now = Instant::now();
        let Some(took) = now.duration_since(self.began).checked_sub(left) else { return };
        // A canary that was delayed for longer than the limit is no success.
        if took <= self.limit
            && let Some(proof) = self.lock().get_mut(channel).and_then(|path| path.proof(part))
        {
            (proof.last, proof.error) = (Some((now, took)), None);
        }
    }

    /// The broker has responded with an error. A publication that was not accepted cannot return, so this is no evidence
    /// against the connection.
    fn failed(&self, channel: &Channel, part: Part, error: BrokerError) {
        if let Some(path) = self.lock().get_mut(channel)
            && let Some(proof) = path.proof(part)
        {
            (proof.error, proof.failed) = (Some(error), Some(Instant::now()));
        }
    }

    /// The longest round trip of the last canaries, if all parts succeeded within the limit.
    ///
    /// # Errors
    /// The part that failed, and the reason.
    pub(crate) fn verdict(&self) -> Result<Duration, FailedProbe> {
        self.judge_all(&self.lock())
    }

    fn judge_all(&self, paths: &HashMap<Channel, ProbePath>) -> Result<Duration, FailedProbe> {
        let mut slowest = None;
        for path in paths.values() {
            for part in Part::ALL {
                if let Some(took) = self.judge(path, part)? {
                    slowest = slowest.max(Some(took));
                }
            }
        }
        slowest.ok_or_else(|| FailedProbe {
            part: Part::Publish,
            reason: "nothing has come back through the broker yet".to_owned(),
        })
    }

    /// The round trip of one part; `None` if the part is not tried, or is not due yet.
    fn judge(&self, path: &ProbePath, part: Part) -> Result<Option<Duration>, FailedProbe> {
        let Some(Proof { last, grace, error, .. }) = &path.proofs[part as usize] else { return Ok(None) };
        let through = &path.through;
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
        Err(FailedProbe { part, reason })
    }

    /// How long publications take through the broker: the longest round trip of the last canaries, or the time by which the
    /// next one is overdue.
    fn lag(&self) -> Duration {
        let of = |path: &ProbePath| match path.proofs[Part::Publish as usize]
            .as_ref()
            .and_then(|proof| proof.last)
        {
            Some((when, took)) => took.max(when.elapsed().saturating_sub(self.interval)),
            None => path.reset.elapsed(),
        };
        self.lock().values().map(of).max().unwrap_or_else(|| self.began.elapsed())
    }

    /// The broker is connected, for the first time or again: earlier successes are discarded, and all parts are tried at once.
    pub(crate) fn up(&self) {
        for path in self.lock().values_mut() {
            for proof in path.proofs.iter_mut().flatten() {
                *proof = Proof::default();
            }
        }
        self.hurry.notify_one();
    }

    /// The broker has confirmed a topic, or (`false`) reports that it is unavailable.
    pub(crate) fn set_subscribed(&self, topic: &Topic, there: bool) {
        if let Topic::Channel(channel) = topic
            && let Some(path) = self.lock().get_mut(channel)
        {
            path.away = !there;
            path.reset = Instant::now();
            if there && path.proofs.iter().flatten().any(|proof| proof.last.is_none()) {
                self.hurry.notify_one();
            }
        }
    }

    /// Replaces the paths. Returns the channels that are new, and those that are not used any more.
    fn set_paths(&self, probes: Vec<Probe>) -> (Vec<Channel>, Vec<Channel>) {
        let mut paths = self.lock();
        let now = Instant::now();
        let grace = self.judge_all(&paths).is_ok().then_some(now);
        let mut old = std::mem::take(&mut *paths);
        let mut new = Vec::new();
        for Probe { channel, through, stateful } in probes {
            let tried = [
                true,
                stateful && self.used.history,
                stateful && self.used.history,
                stateful && self.used.presence,
            ];
            let path = old.remove(&channel).filter(|path| path.through == through).unwrap_or_else(|| {
                new.push(channel.clone());
                // The same path with another channel keeps its state.
                let before = old.values().find(|path| path.through == through);
                let proof = |part: Part| {
                    let last = before.and_then(|path| path.proofs[part as usize].as_ref()?.last);
                    tried[part as usize].then_some(Proof { last, grace, error: None, failed: None })
                };
                ProbePath { through, proofs: Part::ALL.map(proof), reset: now, away: false }
            });
            paths.insert(channel, path);
        }
        (new, old.into_keys().collect())
    }

    /// The parts to try now, on each path.
    fn due(&self) -> Vec<Due> {
        let mut paths = self.lock();
        let due = paths.iter_mut().map(|(channel, path)| {
            let stands = !path.away && path.reset.elapsed() > self.limit;
            // Requests with a response of their own are not evidence about the connection for publications.
            let overdue =
                [Part::Publish, Part::PublishWithHistory].into_iter().filter(|_| stands).find_map(|part| {
                    let sent = path.proofs[part as usize].as_ref().is_some_and(|proof| {
                        let has_failed = proof.failed.is_some_and(|at| at.elapsed() <= self.limit);
                        proof.error.is_none() && !has_failed
                    });
                    self.judge(path, part).err().filter(|_| sent).map(|failing| failing.reason)
                });
            if overdue.is_some() {
                path.reset = Instant::now();
            }
            let parts = Part::ALL.map(|part| path.proofs[part as usize].is_some());
            Due { channel: channel.clone(), parts, overdue }
        });
        due.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Channel, ProbePath>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
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
            let (new, gone) = canary.set_paths(probes);
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
                canary.lock().values_mut().for_each(|path| path.reset = now);
            }
        }
    }
}

/// Tries one part on one path.
fn send(canary: &Arc<Canary>, broker: &Arc<dyn Stateful>, channel: &Channel, part: Part) {
    let left = canary.began.elapsed();
    let body = Bytes::from(left.as_micros().to_string());
    let (canary, on) = (Arc::clone(canary), channel.clone());
    let is_answered = matches!(part, Part::History | Part::Presence);
    let done = move |outcome: Result<(), BrokerError>| match outcome {
        Ok(()) if is_answered => canary.succeeded(&on, part, left),
        // A publication must also return.
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
        canary.set_paths(vec![probe]);
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
        // A publication that is refused cannot return; after the error the next one has the whole limit.
        std::thread::sleep(2 * limit);
        canary.failed(&channel, Part::Publish, BrokerError::Unavailable);
        assert!(!overdue());
    }
}
