//! The paths through the broker with the outcomes of the last probes. No clock: every function takes the time.
//!
//! Invariant: an error response of the broker is never evidence against its connections, because a publication that was
//! not accepted cannot return.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tidings_broker::{BrokerError, Probe};
use tidings_wire::Channel;

/// An operation of the broker that canaries try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A publication returns.
    Publish,
    /// A publication with a history returns with a position.
    PublishWithHistory,
    /// A history is read.
    History,
    /// A member is added and counted.
    Presence,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Publish, Self::PublishWithHistory, Self::History, Self::Presence];

    /// The name in the response of `/ready`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::PublishWithHistory => "publish_with_history",
            Self::History => "history",
            Self::Presence => "presence",
        }
    }

    /// Whether the response of the broker is the success. A publication must also return.
    pub(crate) fn succeeds_by_response(self) -> bool {
        matches!(self, Self::History | Self::Presence)
    }

    /// The description of a failure on the path `through`.
    fn failure(self, through: &str) -> String {
        match self {
            Self::Publish => format!("nothing has come back through {through}"),
            Self::PublishWithHistory => {
                format!("nothing published with a history has come back through {through}")
            }
            Self::History => format!("no history could be read through {through}"),
            Self::Presence => format!("no presence could be kept through {through}"),
        }
    }
}

/// The features, besides publishing, that the configuration uses and canaries therefore try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbedFeatures {
    /// Some namespace has a history.
    pub history: bool,
    /// Some namespace has presence.
    pub presence: bool,
}

impl ProbedFeatures {
    fn include(self, operation: Operation, stateful: bool) -> bool {
        match operation {
            Operation::Publish => true,
            Operation::PublishWithHistory | Operation::History => stateful && self.history,
            Operation::Presence => stateful && self.presence,
        }
    }
}

/// An operation on a path that has not succeeded within the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedProbe {
    /// The operation.
    pub operation: Operation,
    /// The reason, for an operator.
    pub reason: String,
}

/// The operations to try now on one path.
#[derive(Debug)]
pub(crate) struct DueProbes {
    pub(crate) channel: Channel,
    pub(crate) operations: Vec<Operation>,
    /// Why the broker should reconnect: canaries are overdue although the connections are established.
    pub(crate) overdue: Option<String>,
}

/// One path through the broker.
#[derive(Clone, Debug)]
struct ProbePath {
    /// The part of the broker on this path, for messages.
    through: String,
    /// Whether histories and presence are kept on this path.
    stateful: bool,
    /// The state of each operation that is tried, in the order of [`Operation::ALL`].
    outcomes: [Option<Outcomes>; Operation::ALL.len()],
    /// When the connections of the path were last (re-)established, as far as known.
    reset: Instant,
    /// The broker has reported that the path is unavailable.
    is_unavailable: bool,
}

/// The last outcomes of an operation.
#[derive(Clone, Debug, Default)]
struct Outcomes {
    /// When the operation last succeeded, and the round trip.
    success: Option<(Instant, Duration)>,
    /// When the operation was added while all others succeeded: it does not count until the limit has passed.
    grace: Option<Instant>,
    /// The broker's last response, if it was an error.
    error: Option<BrokerError>,
    /// When the broker last responded with an error: the next publication has the whole limit to return.
    failed: Option<Instant>,
}

impl ProbePath {
    fn outcomes(&self, operation: Operation) -> Option<&Outcomes> {
        self.outcomes[operation as usize].as_ref()
    }

    fn outcomes_mut(&mut self, operation: Operation) -> Option<&mut Outcomes> {
        self.outcomes[operation as usize].as_mut()
    }

    /// The round trip of one operation; `None` if it is not tried, or need not have succeeded yet.
    fn status(
        &self,
        operation: Operation,
        limit: Duration,
        now: Instant,
    ) -> Result<Option<Duration>, FailedProbe> {
        let Some(Outcomes { success, grace, error, .. }) = self.outcomes(operation) else { return Ok(None) };
        let age = |at: Instant| now.saturating_duration_since(at);
        let failure = operation.failure(&self.through);
        let cause = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let reason = match *success {
            Some((at, took)) if age(at) <= limit => return Ok(Some(took)),
            Some((at, _)) => {
                let (age, limit) = (age(at).as_secs_f64(), limit.as_secs_f64());
                format!("{failure} for {age:.1} s (limit {limit:.1} s){cause}")
            }
            None if grace.is_some_and(|since| age(since) <= limit) => return Ok(None),
            None => format!("{failure} yet{cause}"),
        };
        Err(FailedProbe { operation, reason })
    }

    /// Why the path needs new connections: they have been established for longer than the limit, and publications that
    /// the broker accepted have not returned.
    fn overdue(&self, limit: Duration, now: Instant) -> Option<String> {
        let age = |at: Instant| now.saturating_duration_since(at);
        if self.is_unavailable || age(self.reset) <= limit {
            return None;
        }
        // An operation with a response of its own is no evidence about the connection for publications.
        [Operation::Publish, Operation::PublishWithHistory].into_iter().find_map(|operation| {
            let outcomes = self.outcomes(operation)?;
            let is_accepted = outcomes.error.is_none() && outcomes.failed.is_none_or(|at| age(at) > limit);
            let failed = self.status(operation, limit, now).err();
            failed.filter(|_| is_accepted).map(|failed| failed.reason)
        })
    }
}

/// All paths, by the channel of their canaries.
#[derive(Debug)]
pub(crate) struct ProbePaths {
    began: Instant,
    interval: Duration,
    limit: Duration,
    features: ProbedFeatures,
    paths: HashMap<Channel, ProbePath>,
}

impl ProbePaths {
    /// No paths yet. Canaries are sent each `interval`, and a success counts for `limit`.
    pub(crate) fn new(interval: Duration, limit: Duration, features: ProbedFeatures, now: Instant) -> Self {
        Self { began: now, interval, limit, features, paths: HashMap::new() }
    }

    /// An operation has succeeded, with this round trip.
    pub(crate) fn succeeded(
        &mut self,
        channel: &Channel,
        operation: Operation,
        took: Duration,
        now: Instant,
    ) {
        if let Some(outcomes) = self.outcomes_mut(channel, operation) {
            (outcomes.success, outcomes.error) = (Some((now, took)), None);
        }
    }

    /// The broker has accepted a publication, which must still return.
    pub(crate) fn accepted(&mut self, channel: &Channel, operation: Operation) {
        if let Some(outcomes) = self.outcomes_mut(channel, operation) {
            outcomes.error = None;
        }
    }

    /// The broker has responded with an error.
    pub(crate) fn failed(
        &mut self,
        channel: &Channel,
        operation: Operation,
        error: BrokerError,
        now: Instant,
    ) {
        if let Some(outcomes) = self.outcomes_mut(channel, operation) {
            (outcomes.error, outcomes.failed) = (Some(error), Some(now));
        }
    }

    fn outcomes_mut(&mut self, channel: &Channel, operation: Operation) -> Option<&mut Outcomes> {
        self.paths.get_mut(channel)?.outcomes_mut(operation)
    }

    /// The longest round trip of the last canaries, if all operations succeeded within the limit.
    ///
    /// # Errors
    /// The operation that failed, and the reason.
    pub(crate) fn status(&self, now: Instant) -> Result<Duration, FailedProbe> {
        let mut slowest = None;
        for path in self.paths.values() {
            for operation in Operation::ALL {
                slowest = slowest.max(path.status(operation, self.limit, now)?);
            }
        }
        slowest.ok_or_else(|| FailedProbe {
            operation: Operation::Publish,
            reason: "nothing has come back through the broker yet".to_owned(),
        })
    }

    /// How long publications take through the broker: the longest round trip of the last canaries, or the time by which
    /// the next one is overdue.
    pub(crate) fn lag(&self, now: Instant) -> Duration {
        let age = |at: Instant| now.saturating_duration_since(at);
        let lag = |path: &ProbePath| match path.outcomes(Operation::Publish).and_then(|o| o.success) {
            Some((at, took)) => took.max(age(at).saturating_sub(self.interval)),
            None => age(path.reset),
        };
        self.paths.values().map(lag).max().unwrap_or_else(|| age(self.began))
    }

    /// Discards all outcomes, because the connection is a new one.
    pub(crate) fn discard_outcomes(&mut self) {
        for path in self.paths.values_mut() {
            for outcomes in path.outcomes.iter_mut().flatten() {
                *outcomes = Outcomes::default();
            }
        }
    }

    /// The broker has confirmed the channel of a path, or (`false`) reports that it is unavailable. Returns whether
    /// canaries should be sent at once.
    pub(crate) fn set_available(&mut self, channel: &Channel, is_available: bool, now: Instant) -> bool {
        let Some(path) = self.paths.get_mut(channel) else { return false };
        path.is_unavailable = !is_available;
        path.reset = now;
        is_available && path.outcomes.iter().flatten().any(|outcomes| outcomes.success.is_none())
    }

    /// Replaces the features that are tried. An added operation has the whole limit, if all others have succeeded.
    pub(crate) fn set_features(&mut self, features: ProbedFeatures, now: Instant) {
        let grace = self.status(now).is_ok().then_some(now);
        self.features = features;
        for path in self.paths.values_mut() {
            for (operation, outcomes) in Operation::ALL.into_iter().zip(&mut path.outcomes) {
                if !features.include(operation, path.stateful) {
                    *outcomes = None;
                } else if outcomes.is_none() {
                    *outcomes = Some(Outcomes { grace, ..Outcomes::default() });
                }
            }
        }
    }

    /// Gives every path the whole limit from now on.
    pub(crate) fn restart_limits(&mut self, now: Instant) {
        self.paths.values_mut().for_each(|path| path.reset = now);
    }

    /// Replaces the paths. Returns the channels that were added, and those that were removed.
    pub(crate) fn replace(&mut self, probes: Vec<Probe>, now: Instant) -> (Vec<Channel>, Vec<Channel>) {
        let grace = self.status(now).is_ok().then_some(now);
        let mut old = std::mem::take(&mut self.paths);
        let mut added = Vec::new();
        for Probe { channel, through, stateful } in probes {
            let path = old.remove(&channel).filter(|path| path.through == through).unwrap_or_else(|| {
                added.push(channel.clone());
                // The same path with another channel keeps its successes.
                let before = old.values().find(|path| path.through == through);
                let outcomes = |operation: Operation| {
                    let success = before.and_then(|path| path.outcomes(operation)?.success);
                    let outcomes = Outcomes { success, grace, error: None, failed: None };
                    self.features.include(operation, stateful).then_some(outcomes)
                };
                let outcomes = Operation::ALL.map(outcomes);
                ProbePath { through, stateful, outcomes, reset: now, is_unavailable: false }
            });
            self.paths.insert(channel, path);
        }
        (added, old.into_keys().collect())
    }

    /// The operations to try now, by path. A path that is overdue is reported once within the limit.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<DueProbes> {
        let due = self.paths.iter_mut().map(|(channel, path)| {
            let overdue = path.overdue(self.limit, now);
            if overdue.is_some() {
                path.reset = now;
            }
            let operations = Operation::ALL.into_iter().filter(|o| path.outcomes(*o).is_some()).collect();
            DueProbes { channel: channel.clone(), operations, overdue }
        });
        due.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);
    const TICK: Duration = Duration::from_millis(1);

    /// A path with one channel, and presence as the only feature besides publishing.
    fn one_path(start: Instant) -> (ProbePaths, Channel) {
        let features = ProbedFeatures { history: false, presence: true };
        let mut paths = ProbePaths::new(LIMIT / 2, LIMIT, features, start);
        let channel = Channel::new("tidings.canary.1").expect("a name");
        let probe = Probe { channel: channel.clone(), through: "the broker".to_owned(), stateful: true };
        assert_eq!(paths.replace(vec![probe], start), (vec![channel.clone()], vec![]));
        (paths, channel)
    }

    fn is_overdue(paths: &mut ProbePaths, now: Instant) -> bool {
        paths.due(now).iter().any(|due| due.overdue.is_some())
    }

    #[test]
    fn an_operation_that_always_fails_does_not_hide_missing_publications() {
        let start = Instant::now();
        let (mut paths, channel) = one_path(start);
        for now in [start, start + LIMIT] {
            paths.failed(&channel, Operation::Presence, BrokerError::NotPermitted, now);
            assert!(!is_overdue(&mut paths, now), "the path is new");
        }
        assert!(is_overdue(&mut paths, start + LIMIT + TICK));
        assert!(!is_overdue(&mut paths, start + 2 * LIMIT), "reported already");
    }

    #[test]
    fn a_publication_after_an_error_response_has_the_whole_limit_to_return() {
        let start = Instant::now();
        let (mut paths, channel) = one_path(start);
        let failed = start + 3 * LIMIT;
        paths.failed(&channel, Operation::Publish, BrokerError::Unavailable, failed);
        assert!(!is_overdue(&mut paths, failed + 2 * LIMIT), "a rejected publication cannot return");
        paths.failed(&channel, Operation::Publish, BrokerError::Unavailable, failed + 2 * LIMIT);
        paths.accepted(&channel, Operation::Publish);
        assert!(!is_overdue(&mut paths, failed + 3 * LIMIT));
        assert!(is_overdue(&mut paths, failed + 3 * LIMIT + TICK));
    }

    #[test]
    fn a_success_counts_for_the_limit_and_is_discarded_with_the_connection() {
        let start = Instant::now();
        let (mut paths, channel) = one_path(start);
        assert!(paths.status(start).is_err());
        paths.succeeded(&channel, Operation::Publish, TICK, start);
        let failed = paths.status(start).expect_err("presence has not succeeded");
        assert_eq!(failed.operation, Operation::Presence);
        paths.succeeded(&channel, Operation::Presence, 2 * TICK, start);
        assert_eq!(paths.status(start + LIMIT), Ok(2 * TICK));
        assert_eq!(paths.lag(start), TICK);
        assert!(paths.status(start + LIMIT + TICK).is_err());
        paths.discard_outcomes();
        assert!(paths.status(start).is_err());
    }
}
