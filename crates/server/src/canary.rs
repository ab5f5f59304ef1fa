//! The canary: a message of the server's own that travels through the broker again and again.
//!
//! That a connection stands, or that a broker answers pings, says nothing about whether publications come
//! through. Only a publication that came back does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_wire::{Channel, Topic};
use tokio::sync::Notify;

use crate::router::Router;

/// How the channels of canaries begin, among those of the server's own ([`crate::cluster::RESERVED`]).
const PREFIX: &str = "tidings.node.canary.";

#[derive(Clone, Copy, Debug, Default)]
struct Flight {
    /// When the last one came back, and how long it took.
    last: Option<(Instant, Duration)>,
}

/// Where canaries fly, and how the last ones did.
#[derive(Debug)]
pub(crate) struct Canary {
    topic: Topic,
    channel: Channel,
    began: Instant,
    interval: Duration,
    limit: Duration,
    flight: Mutex<Flight>,
    sent: AtomicU64,
    hurry: Notify,
}

impl Canary {
    /// A canary of this node, which no other node has.
    pub(crate) fn new(node: u64, interval: Duration, limit: Duration) -> Self {
        let channel = Channel::new(format!("{PREFIX}{node:016x}")).expect("a short name of printable ASCII");
        Self {
            topic: Topic::Channel(channel.clone()),
            channel,
            began: Instant::now(),
            interval,
            limit,
            flight: Mutex::default(),
            sent: AtomicU64::new(0),
            hurry: Notify::new(),
        }
    }

    /// Whether this is the channel it flies in.
    pub(crate) fn is(&self, channel: &Channel) -> bool {
        *channel == self.channel
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// A canary has come back; its body says when it left.
    pub(crate) fn came_back(&self, body: &[u8]) {
        let left = std::str::from_utf8(body).ok().and_then(|s| s.parse().ok()).map(Duration::from_micros);
        let now = Instant::now();
        let Some(took) = left.and_then(|left| now.duration_since(self.began).checked_sub(left)) else {
            return;
        };
        // One that was lost on the way for longer than the limit says nothing good.
        if took <= self.limit {
            self.lock().last = Some((now, took));
        }
    }

    /// How long the last one took, if it came back within the limit.
    ///
    /// # Errors
    /// What is wrong, in words for an operator.
    pub(crate) fn verdict(&self) -> Result<Duration, String> {
        let limit = self.limit;
        match self.lock().last {
            Some((when, took)) if when.elapsed() <= limit => Ok(took),
            Some((when, _)) => Err(format!(
                "nothing has come back through the broker for {:.1} s (limit {:.1} s)",
                when.elapsed().as_secs_f64(),
                limit.as_secs_f64()
            )),
            None => Err("nothing has come back through the broker yet".into()),
        }
    }

    /// How long publications take through the broker: as long as the last canary, or, when the next one is overdue,
    /// as long as it is overdue by now.
    pub(crate) fn lag(&self) -> Duration {
        match self.lock().last {
            Some((when, took)) => took.max(when.elapsed().saturating_sub(self.interval)),
            None => self.began.elapsed(),
        }
    }

    /// Sends the next one at once.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends canaries for ever; when none has come back for too long, has the broker connect anew.
pub(crate) async fn fly(router: std::sync::Arc<Router>) {
    let canary = router.canary();
    let mut reset = Instant::now();
    loop {
        if let Some(broker) = router.broker() {
            let body = canary.began.elapsed().as_micros().to_string();
            canary.sent.fetch_add(1, Ordering::Relaxed);
            // A failure shows by the canary not coming back.
            broker.publish(&canary.channel, Bytes::from(body), Box::new(|_| {}));
            let connected = router.down_reason().is_none();
            if let Err(why) = canary.verdict()
                && connected
                && canary.sent.load(Ordering::Relaxed) > 1
                && reset.elapsed() > canary.limit
            {
                tracing::warn!(reason = why, "connecting to the broker anew");
                reset = Instant::now();
                broker.reset(&why);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(canary.interval) => {}
            () = canary.hurry.notified() => {
                // A connection that has just been made is given its whole time.
                reset = Instant::now();
            }
        }
    }
}
