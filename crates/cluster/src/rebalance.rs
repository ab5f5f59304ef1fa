//! Rebalancing: how many clients a node moves to nodes with fewer connections, and when.
//!
//! Each node decides for itself, from its own number of connections and those that the other nodes announce. A node with
//! more than the average (its fair share) moves its excess. The numbers are inaccurate while clients are moved: a client
//! that reconnects is counted on no node for some time, and announcements are up to three seconds old. So clients are
//! moved in rounds: a node measures, moves at most what it has measured, waits until the clients have reconnected and
//! every node has announced itself, and measures again. Clients that other nodes have moved recently are added to the
//! sum: some are counted twice, so that the average is rather too high and too few clients are moved.
//!
//! Invariants:
//! - No round begins while this node or another one is not ready, is overdue with its announcement, or has a version that
//!   does not announce whether it is ready; a round in progress ends then. The wait `settle` begins when this is over.
//! - A node moves at most its excess in a round, so the order of the nodes by their connections is not reversed. Rounds
//!   begin when a node differs from the average by more than the tolerance and end at half of it.
//! - If three quarters of the moved clients return to this node, it moves no more until the set of nodes changes.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use crate::registry::ANNOUNCE_INTERVAL;

/// An announcement older than this is overdue: the node may have ended.
const OVERDUE: Duration = Duration::from_millis(3_000 + 2_000);
/// The time in which most clients have reconnected: the first delay of SDKs is below two seconds, that of `EventSource`
/// three.
const RECONNECT_TIME: Duration = Duration::from_secs(4);
/// The time after which a moved client is counted on another node: it has reconnected, and that node has announced itself.
const RECENT: Duration = Duration::from_millis(4_000 + 3_000);
/// The longest time in which clients are moved without a new measurement.
const ROUND: Duration = Duration::from_secs(30);
/// Time for the shards to move the last clients of a round.
const LATENESS: Duration = Duration::from_secs(1);
/// Fewer moved clients are no evidence that the balancer returns them.
const EVIDENCE: u64 = 30;

/// The limits of rebalancing.
#[derive(Clone, Copy, Debug)]
pub struct RebalanceLimits {
    /// Most clients per second that all nodes together move.
    pub rate: f64,
    /// Most clients that this node moves between two changes of the set of nodes.
    pub total: u64,
    /// The tolerated difference from the average, as a fraction of it.
    pub tolerance: f64,
    /// The wait after a node has joined, left or become ready.
    pub settle: Duration,
}

/// What another node has announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLoad {
    /// The unique id.
    pub uid: String,
    /// Connections of clients.
    pub clients: u64,
    /// Clients that it has moved recently. They may be counted on no node, or on another one.
    pub moving: u64,
    /// Whether it is ready; `None` for a version that does not announce it.
    pub ready: Option<bool>,
    /// The time since the announcement.
    pub age: Duration,
}

/// The state of the deployment and of this node.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The time.
    pub now: Instant,
    /// Whether this node is ready.
    pub is_ready: bool,
    /// The connections of this node.
    pub clients: u64,
    /// Clients that this node has moved since its start.
    pub moved: u64,
    /// Those that have connected to this node again.
    pub returned: u64,
    /// The other nodes.
    pub others: &'a [NodeLoad],
}

/// The action of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing changes.
    Wait,
    /// Move this number of clients, evenly over this time.
    Move(usize, Duration),
    /// Move no more clients.
    End,
}

/// The state of rebalancing on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RebalanceState {
    /// Switched off.
    #[default]
    Off,
    /// A node has joined, left or become ready, and its clients are still connecting.
    Settling,
    /// A node is not ready, does not announce itself, or has an earlier version.
    Paused,
    /// No node differs from the average by more than the tolerance.
    Balanced,
    /// This node has no excess; other nodes move clients.
    Waiting,
    /// This node moves clients, or measures between two rounds.
    Moving,
    /// Moved clients return to this node, or the limit is reached.
    Stopped,
}

impl RebalanceState {
    /// All states.
    pub const ALL: [Self; 7] =
        [Self::Off, Self::Settling, Self::Paused, Self::Balanced, Self::Waiting, Self::Moving, Self::Stopped];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Settling => "settling",
            Self::Paused => "paused",
            Self::Balanced => "balanced",
            Self::Waiting => "waiting",
            Self::Moving => "moving",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for RebalanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The decisions of one node.
#[derive(Debug)]
pub struct Rebalancer {
    limits: RebalanceLimits,
    state: RebalanceState,
    /// The other nodes at the last step.
    known: HashSet<String>,
    /// The last time at which the set of nodes changed or a node was not ready.
    restless: Option<Instant>,
    /// Announcements before this time are not used.
    measure_from: Instant,
    /// Whether clients are moved until the difference is below half of the tolerance.
    is_active: bool,
    round: Option<Round>,
    /// Moved and returned clients at the last change of the set of nodes.
    base: (u64, u64),
    is_stopped: bool,
    /// Whether a round that could not move enough clients is logged.
    has_logged_shortage: bool,
    /// The number of moved clients at the steps within [`RECENT`].
    history: VecDeque<(Instant, u64)>,
}

/// Clients that are being moved.
#[derive(Clone, Copy, Debug)]
struct Round {
    until: Instant,
    planned: u64,
    /// The number of connections at which this node has its fair share.
    target: u64,
    /// Moved clients at the beginning.
    moved: u64,
}

/// The numbers of connections of all nodes, measured at one time.
struct Measurement {
    own_excess: u64,
    total_excess: u64,
    /// The average, rounded up.
    target: u64,
    average: f64,
    /// The largest difference from the average.
    difference: f64,
}

impl Measurement {
    fn new(own: u64, others: &[NodeLoad]) -> Self {
        let total = own + others.iter().map(|node| node.clients + node.moving).sum::<u64>();
        let nodes = others.len() as u64 + 1;
        let target = total.div_ceil(nodes);
        let average = total as f64 / nodes as f64;
        let all = || others.iter().map(|node| node.clients).chain([own]);
        Self {
            own_excess: own.saturating_sub(target),
            total_excess: all().map(|clients| clients.saturating_sub(target)).sum(),
            target,
            average,
            difference: all().map(|clients| (clients as f64 - average).abs()).fold(0.0, f64::max),
        }
    }
}

impl Rebalancer {
    /// A node that begins at this time.
    pub fn new(limits: RebalanceLimits, now: Instant) -> Self {
        Self {
            limits,
            state: RebalanceState::Settling,
            known: HashSet::new(),
            restless: None,
            measure_from: now,
            is_active: false,
            round: None,
            base: (0, 0),
            is_stopped: false,
            has_logged_shortage: false,
            history: VecDeque::new(),
        }
    }

    /// Clients that were moved recently, for the announcement of this node.
    pub fn moving(&self) -> u64 {
        let ends = self.history.front().zip(self.history.back());
        ends.map_or(0, |((_, first), (_, last))| last - first)
    }

    /// The present state.
    pub fn state(&self) -> RebalanceState {
        self.state
    }

    /// Decides what to do now. Call it at least once a second.
    pub fn step(&mut self, seen: &Observation<'_>) -> Step {
        while self.history.front().is_some_and(|(time, _)| seen.now - *time > RECENT) {
            self.history.pop_front();
        }
        self.history.push_back((seen.now, seen.moved));
        let is_same = self.known.len() == seen.others.len()
            && seen.others.iter().all(|node| self.known.contains(&node.uid));
        if !is_same {
            self.known = seen.others.iter().map(|node| node.uid.clone()).collect();
            self.base = (seen.moved, seen.returned);
            self.is_stopped = false;
        }
        let pause = pause_reason(seen);
        if !is_same || pause.is_some() {
            self.restless = Some(seen.now);
            self.is_active = false;
            self.has_logged_shortage = false;
            if let (Some(reason), true) = (pause, self.round.is_some()) {
                tracing::info!(reason, "rebalancing pauses");
            }
        }
        let calm_from = self.restless.map_or(seen.now, |restless| restless + self.limits.settle);
        if pause.is_some() || seen.now < calm_from {
            self.measure_from = self.measure_from.max(calm_from);
            self.state = if pause.is_some() { RebalanceState::Paused } else { RebalanceState::Settling };
            return self.end_round();
        }
        if self.is_stopped || self.must_stop(seen) {
            self.is_stopped = true;
            self.state = RebalanceState::Stopped;
            return self.end_round();
        }
        if let Some(round) = self.round {
            return self.continue_round(seen, round);
        }
        if seen.others.iter().any(|node| seen.now - node.age.min(OVERDUE) < self.measure_from) {
            return Step::Wait;
        }
        self.begin_round(seen)
    }

    fn begin_round(&mut self, seen: &Observation<'_>) -> Step {
        let measured = Measurement::new(seen.clients, seen.others);
        let part = if self.is_active { self.limits.tolerance / 2.0 } else { self.limits.tolerance };
        if measured.difference <= (part * measured.average).max(1.0) {
            if std::mem::take(&mut self.is_active) {
                let moved = seen.moved - self.base.0;
                tracing::info!(
                    clients = seen.clients,
                    moved,
                    "rebalancing has ended: all nodes have their share"
                );
            }
            self.state = RebalanceState::Balanced;
            return Step::Wait;
        }
        if measured.own_excess == 0 {
            self.is_active = true;
            self.state = RebalanceState::Waiting;
            return Step::Wait;
        }
        if !self.is_active || self.state != RebalanceState::Moving {
            tracing::info!(
                clients = seen.clients,
                share = measured.target,
                "rebalancing: clients above the fair share are requested to reconnect"
            );
        }
        self.is_active = true;
        self.state = RebalanceState::Moving;
        let left = self.limits.total - (seen.moved - self.base.0).min(self.limits.total);
        let rate = self.limits.rate * measured.own_excess as f64 / measured.total_excess as f64;
        // At least one, at a rate below one in a round.
        let most = (rate * ROUND.as_secs_f64()).ceil() as u64;
        let clients = measured.own_excess.min(left).min(most);
        let over = Duration::from_secs_f64((clients as f64 / rate).min(ROUND.as_secs_f64()));
        self.round = Some(Round {
            until: seen.now + over + LATENESS,
            planned: clients,
            target: measured.target,
            moved: seen.moved,
        });
        Step::Move(usize::try_from(clients).unwrap_or(usize::MAX), over)
    }

    fn continue_round(&mut self, seen: &Observation<'_>, round: Round) -> Step {
        let moved = seen.moved - round.moved;
        if moved < round.planned && seen.clients > round.target && seen.now < round.until {
            return Step::Wait;
        }
        if seen.now >= round.until && moved < round.planned / 2 && !self.has_logged_shortage {
            self.has_logged_shortage = true;
            tracing::info!(
                moved,
                planned = round.planned,
                "rebalancing moves fewer clients than planned: the others do not recover missed publications, or have \
                 connected within cluster.rebalance.min_connection_age"
            );
        }
        self.measure_from = seen.now + RECONNECT_TIME;
        self.end_round()
    }

    fn end_round(&mut self) -> Step {
        if self.round.take().is_some() { Step::End } else { Step::Wait }
    }

    /// Whether the limit is reached, or moved clients return. Logs the reason.
    fn must_stop(&self, seen: &Observation<'_>) -> bool {
        let (moved, returned) = (seen.moved - self.base.0, seen.returned - self.base.1);
        // Of two nodes, a balancer that selects at random returns half of the clients.
        let do_return = moved >= EVIDENCE && returned * 4 >= moved * 3;
        if do_return {
            tracing::warn!(
                moved,
                returned,
                "rebalancing stops until a node joins or leaves: moved clients have connected to this node again; the \
                 balancer must select the node with the fewest connections (not by address or cookie), or \
                 cluster.rebalance.enabled be false"
            );
        } else if moved >= self.limits.total {
            tracing::warn!(
                moved,
                "rebalancing stops until a node joins or leaves: cluster.rebalance.limit is reached"
            );
        }
        do_return || moved >= self.limits.total
    }
}

/// Why no clients may be moved now.
fn pause_reason(seen: &Observation<'_>) -> Option<&'static str> {
    let any = |is: fn(&NodeLoad) -> bool| seen.others.iter().any(is);
    if !seen.is_ready {
        Some("this node is not ready")
    } else if any(|node| node.ready == Some(false)) {
        Some("another node is not ready")
    } else if any(|node| node.ready.is_none()) {
        Some("another node has an earlier version, which does not announce whether it is ready")
    } else if any(|node| node.age > OVERDUE) {
        Some("another node does not announce itself")
    } else {
        None
    }
}

const _: () = {
    let interval = ANNOUNCE_INTERVAL.as_millis();
    assert!(OVERDUE.as_millis() > interval);
    assert!(RECENT.as_millis() >= RECONNECT_TIME.as_millis() + interval);
};

#[cfg(test)]
mod tests;
