//! Reading the history of a channel after a gap, until it succeeds.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::counters::FeedCounters;
use crate::{Feed, Histories};

/// The timeout of a history.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two attempts to read a history.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Whether the history of a channel must be read again.
#[derive(Debug, Default)]
pub(crate) struct CatchUp {
    /// The time of the next attempt; `None` when the last one succeeded.
    retry_at: Option<Instant>,
}

impl CatchUp {
    /// Waits until there is something to write. Returns the publications of the history, the oldest first, if it must be read and
    /// can be read now. One that cannot be read is tried again by a later call; publications of the queue do not wait for it.
    pub(crate) async fn wait(
        &mut self,
        feed: &Feed,
        histories: &dyn Histories,
        counters: &FeedCounters,
    ) -> Option<Vec<Box<[u8]>>> {
        let is_due = match self.retry_at {
            Some(at) if at <= Instant::now() => true,
            Some(at) => timeout_at(at, feed.queue.wait()).await.unwrap_or(true),
            None => feed.queue.wait().await,
        };
        if !is_due {
            return None;
        }
        let (sender, history) = oneshot::channel();
        histories.history(&feed.channel, Box::new(move |publications| drop(sender.send(publications))));
        if let Ok(Ok(Some(publications))) = timeout(TIMEOUT, history).await {
            self.retry_at = None;
            return Some(publications.iter().map(|publication| (*publication.body).into()).collect());
        }
        counters.count_history_failure(feed);
        self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tidings_config::TableFeed;
    use tidings_wire::{Channel, Publication};

    use super::*;
    use crate::HistoryCallback;
    use crate::counters::FeedLines;
    use crate::queue::Queue;

    /// A history that cannot be read the first four times.
    #[derive(Default)]
    struct FailsFourTimes(AtomicUsize);

    impl Histories for FailsFourTimes {
        fn history(&self, channel: &Channel, done: HistoryCallback) {
            let attempt = self.0.fetch_add(1, Ordering::Relaxed);
            let publication = Publication::new(channel.clone(), r#"{"id":"A"}"#);
            done((attempt >= 4).then(|| vec![Arc::new(publication)]));
        }
    }

    #[tokio::test]
    async fn a_history_that_cannot_be_read_is_read_later_and_publications_do_not_wait_for_it() {
        let options = TableFeed {
            channel: "prices".to_owned(),
            key: vec!["id".to_owned()],
            name: String::new(),
            max_rows: 10,
        };
        let channel = Channel::new("prices").expect("a channel");
        let feed = Feed { channel, options, queue: Queue::default(), lines: FeedLines::default() };
        let (histories, counters, mut catch_up) =
            (FailsFourTimes::default(), FeedCounters::default(), CatchUp::default());
        feed.queue.open();
        feed.queue.request_history();
        assert_eq!(catch_up.wait(&feed, &histories, &counters).await, None);
        feed.queue.push(b"{}");
        let waited = Instant::now();
        assert_eq!(catch_up.wait(&feed, &histories, &counters).await, None);
        assert!(waited.elapsed() < RETRY_INTERVAL, "the publication waited for the history");
        assert_eq!(feed.queue.take().len(), 1);
        for _ in 0..3 {
            assert_eq!(catch_up.wait(&feed, &histories, &counters).await, None);
        }
        assert_eq!(counters.history_failures(), 4);
        let bodies = catch_up.wait(&feed, &histories, &counters).await.expect("the fifth attempt");
        assert_eq!(bodies.iter().map(|body| &**body).collect::<Vec<_>>(), [br#"{"id":"A"}"#]);
        // It is not read once more.
        feed.queue.push(b"{}");
        assert_eq!(catch_up.wait(&feed, &histories, &counters).await, None);
        assert_eq!(histories.0.load(Ordering::Relaxed), 5);
    }
}
