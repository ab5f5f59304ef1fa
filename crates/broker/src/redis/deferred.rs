//! Delayed retries of a connection: channels with a moving or unserved slot, after a short pause; topics that Redis
//! refuses to subscribe, after a pause that grows.

use std::collections::HashSet;
use std::time::Duration;

use tidings_wire::{Channel, Topic};
use tokio::time::Instant;

use super::interest::Interest;
use super::tracker::Tracker;

/// The pause before another attempt for a channel with a moving slot.
const MOVED_SLOT_PAUSE: Duration = Duration::from_millis(100);
/// The first pause after a refusal. It doubles with every round in which a topic is refused again.
const MIN_REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a refusal.
const MAX_REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// Most refused topics in one round: a refusal costs several commands.
const MAX_ROUND: usize = 512;

/// Topics to subscribe again, and channels with a position to read again. Each topic is in it once, so the size is at
/// most that of the table of wanted topics.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    topics: Vec<Topic>,
    holes: Vec<Channel>,
    due: Option<Instant>,
    refused: HashSet<Topic>,
    refused_due: Option<Instant>,
    /// The pause before the next round of refused topics; zero before the first refusal.
    refused_pause: Duration,
    /// Whether a topic was refused since the last round began.
    refused_again: bool,
}

impl Deferred {
    /// Schedules topics that could not be subscribed.
    pub(super) fn topics(&mut self, topics: impl IntoIterator<Item = Topic>) {
        self.topics.extend(topics);
        self.schedule();
    }

    /// Schedules channels with an unknown position.
    pub(super) fn holes(&mut self, channels: Vec<Channel>) {
        self.holes.extend(channels);
        self.schedule();
    }

    /// Schedules a topic that Redis has refused.
    pub(super) fn refused(&mut self, topic: Topic) {
        self.refused.insert(topic);
        if !std::mem::replace(&mut self.refused_again, true) {
            self.refused_pause = (2 * self.refused_pause).clamp(MIN_REFUSED_PAUSE, MAX_REFUSED_PAUSE);
            // Spread, so that the nodes of a deployment do not retry at the same time.
            self.refused_due = Some(Instant::now() + self.refused_pause.mul_f64(0.5 + fastrand::f64() / 2.0));
        }
    }

    fn schedule(&mut self) {
        if self.due.is_none() && !(self.topics.is_empty() && self.holes.is_empty()) {
            self.due = Some(Instant::now() + MOVED_SLOT_PAUSE);
        }
    }

    /// Waits until work is due; without work, forever.
    pub(super) async fn due(&self) {
        match [self.due, self.refused_due].into_iter().flatten().min() {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Returns due work to its queues; returns the topics that are not wanted any more.
    pub(super) fn requeue(&mut self, interest: &Interest, tracker: &Tracker) -> Vec<Topic> {
        let now = Instant::now();
        let mut topics = Vec::new();
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            tracker.requeue_unsettled(std::mem::take(&mut self.holes));
            topics = std::mem::take(&mut self.topics);
        }
        if self.refused_due.is_some_and(|due| due <= now) {
            if !std::mem::replace(&mut self.refused_again, false) {
                // The last round succeeded, so the other topics need no long pause.
                self.refused_pause = Duration::ZERO;
            }
            let round: Vec<_> = self.refused.iter().take(MAX_ROUND).cloned().collect();
            for topic in &round {
                self.refused.remove(topic);
            }
            topics.extend(round);
            self.refused_due =
                (!self.refused.is_empty()).then(|| now + MOVED_SLOT_PAUSE.max(self.refused_pause));
        }
        interest.requeue(topics)
    }
}
