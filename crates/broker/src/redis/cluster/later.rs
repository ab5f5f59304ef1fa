//! What a connection to a primary is to try again in a moment: channels whose slot is being moved, or not served.

use std::time::Duration;

use tidings_wire::{Channel, Topic};
use tokio::time::Instant;

use crate::redis::interest::Interest;
use crate::redis::tracker::Tracker;

/// After how long.
const PAUSE: Duration = Duration::from_millis(100);

/// Each is either to be subscribed again or to be asked for again.
#[derive(Debug, Default)]
pub(in crate::redis) struct Later {
    topics: Vec<Topic>,
    holes: Vec<Channel>,
    due: Option<Instant>,
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

    fn wind(&mut self) {
        if self.due.is_none() && !(self.topics.is_empty() && self.holes.is_empty()) {
            self.due = Some(Instant::now() + PAUSE);
        }
    }

    /// Waits until it is time; for ever when there is nothing.
    pub(in crate::redis) async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Puts all of them back to where they are taken from; gives the topics that nobody wants any more.
    pub(in crate::redis) fn again(&mut self, interest: &Interest, tracker: &Tracker) -> Vec<Topic> {
        self.due = None;
        tracker.ask_again(std::mem::take(&mut self.holes));
        interest.again(std::mem::take(&mut self.topics))
    }
}
