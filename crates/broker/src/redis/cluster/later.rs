//! What a connection is to try again: channels whose slot is being moved or not served, in a moment; topics that Redis
//! refuses to subscribe, after a pause that grows.

use std::collections::HashSet;
use std::time::Duration;

use tidings_wire::{Channel, Topic};
use tokio::time::Instant;

use crate::redis::interest::Interest;
use crate::redis::tracker::Tracker;

/// After how long a slot is looked for again.
const PAUSE: Duration = Duration::from_millis(100);
/// The first pause after a refusal. It doubles with every round in which anything is refused again.
const REFUSED_FIRST: Duration = Duration::from_secs(1);
/// The longest one.
const REFUSED_LAST: Duration = Duration::from_secs(10);
/// How many refused topics one round tries: a refusal costs several commands.
const ROUND: usize = 512;

/// Each is either to be subscribed again or to be asked for again. Topics are kept once each, so this is no longer than
/// the table of those that are wanted.
#[derive(Debug, Default)]
pub(in crate::redis) struct Later {
    topics: Vec<Topic>,
    holes: Vec<Channel>,
    due: Option<Instant>,
    refused: HashSet<Topic>,
    refused_due: Option<Instant>,
    /// The pause before the next round; zero before the first refusal.
    refused_pause: Duration,
    /// Whether anything was refused since the last round began.
    refused_again: bool,
}

impl Later {
    /// These could not be subscribed.
    pub(in crate::redis) fn topics(&mut self, topics: impl IntoIterator<Item = Topic>) {
        self.topics.extend(topics);
        self.wind();
    }

    /// Of these it is not clear where they stand.
    pub(in crate::redis) fn holes(&mut self, channels: Vec<Channel>) {
        self.holes.extend(channels);
        self.wind();
    }

    /// Redis has refused this one.
    pub(in crate::redis) fn refused(&mut self, topic: Topic) {
        self.refused.insert(topic);
        if !std::mem::replace(&mut self.refused_again, true) {
            self.refused_pause = (2 * self.refused_pause).clamp(REFUSED_FIRST, REFUSED_LAST);
            // Spread, so that the nodes of a deployment do not try in step.
            self.refused_due = Some(Instant::now() + self.refused_pause.mul_f64(0.5 + fastrand::f64() / 2.0));
        }
    }

    fn wind(&mut self) {
        if self.due.is_none() && !(self.topics.is_empty() && self.holes.is_empty()) {
            self.due = Some(Instant::now() + PAUSE);
        }
    }

    /// Waits until it is time; for ever when there is nothing.
    pub(in crate::redis) async fn due(&self) {
        match [self.due, self.refused_due].into_iter().flatten().min() {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Puts what is due back to where it is taken from; gives the topics that are wanted no longer.
    pub(in crate::redis) fn again(&mut self, interest: &Interest, tracker: &Tracker) -> Vec<Topic> {
        let now = Instant::now();
        let mut topics = Vec::new();
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            tracker.ask_again(std::mem::take(&mut self.holes));
            topics = std::mem::take(&mut self.topics);
        }
        if self.refused_due.is_some_and(|due| due <= now) {
            if !std::mem::replace(&mut self.refused_again, false) {
                // The last round went through, so the rest need not wait for long.
                self.refused_pause = Duration::ZERO;
            }
            let round: Vec<_> = self.refused.iter().take(ROUND).cloned().collect();
            for topic in &round {
                self.refused.remove(topic);
            }
            topics.extend(round);
            self.refused_due = (!self.refused.is_empty()).then(|| now + PAUSE.max(self.refused_pause));
        }
        interest.again(topics)
    }
}
