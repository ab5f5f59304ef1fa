//! The canary: a message of the server's own that travels through the broker again and again.
//!
//! That a connection stands, or that a broker answers pings, says nothing about whether publications come
//! through. Only a publication that came back does. One takes one way, though: where the broker has several parts that may
//! fail by themselves, as a cluster has, one canary flies through each, and the server is ready while all come back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_broker::Probe;
use tidings_wire::{Channel, Topic};
use tokio::sync::Notify;

use crate::router::Router;

/// How the channels of canaries begin, among those of the server's own ([`crate::cluster::RESERVED`]).
pub(crate) const PREFIX: &str = "tidings.node.canary.";
/// How those begin that go the way of what others publish, where that is another one.
const PLAIN: &str = "tidings.node.plain.";

/// One way through the broker.
#[derive(Clone, Debug)]
struct Flight {
    /// Through what, for people.
    through: String,
    /// When the last one came back, and how long it took.
    last: Option<(Instant, Duration)>,
    /// Since when it may have been expected.
    began: Instant,
    /// When its connections were made, or made anew, for all that is known.
    reset: Instant,
    /// The broker has said that this way is closed.
    away: bool,
}

/// Where canaries fly, and how the last ones did.
#[derive(Debug)]
pub(crate) struct Canary {
    own: String,
    plain: String,
    began: Instant,
    interval: Duration,
    limit: Duration,
    flights: Mutex<HashMap<Channel, Flight>>,
    sent: AtomicU64,
    hurry: Notify,
}

impl Canary {
    /// A canary of this node, which no other node has.
    pub(crate) fn new(node: u64, interval: Duration, limit: Duration) -> Self {
        Self {
            own: format!("{PREFIX}{node:016x}"),
            plain: format!("{PLAIN}{node:016x}"),
            began: Instant::now(),
            interval,
            limit,
            flights: Mutex::default(),
            sent: AtomicU64::new(0),
            hurry: Notify::new(),
        }
    }

    /// Whether this is a channel that it flies in, or did lately.
    pub(crate) fn is(&self, channel: &Channel) -> bool {
        channel.as_str().starts_with(&self.own) || channel.as_str().starts_with(&self.plain)
    }

    /// A canary has come back; its body says when it left.
    pub(crate) fn came_back(&self, channel: &Channel, body: &[u8]) {
        let left = std::str::from_utf8(body).ok().and_then(|s| s.parse().ok()).map(Duration::from_micros);
        let now = Instant::now();
        let Some(took) = left.and_then(|left| now.duration_since(self.began).checked_sub(left)) else {
            return;
        };
        // One that was lost on the way for longer than the limit says nothing good.
        if took <= self.limit
            && let Some(flight) = self.lock().get_mut(channel)
        {
            flight.last = Some((now, took));
        }
    }

    /// How long the slowest of the last ones took, if all came back within the limit.
    ///
    /// # Errors
    /// What is wrong, in words for an operator.
    pub(crate) fn verdict(&self) -> Result<Duration, String> {
        let flights = self.lock();
        let mut slowest = None;
        for flight in flights.values() {
            if let Some(took) = self.judge(flight)? {
                slowest = slowest.max(Some(took));
            }
        }
        slowest.ok_or_else(|| "nothing has come back through the broker yet".to_owned())
    }

    /// The same of one flight; nothing while a new one may still be expected.
    fn judge(&self, flight: &Flight) -> Result<Option<Duration>, String> {
        let Flight { through, last, began, .. } = flight;
        match last {
            Some((when, took)) if when.elapsed() <= self.limit => Ok(Some(*took)),
            Some((when, _)) => Err(format!(
                "nothing has come back through {through} for {:.1} s (limit {:.1} s)",
                when.elapsed().as_secs_f64(),
                self.limit.as_secs_f64()
            )),
            None if began.elapsed() <= self.limit => Ok(None),
            None => Err(format!("nothing has come back through {through} yet")),
        }
    }

    /// A canary was not taken by the broker.
    fn stays(&self, channel: &Channel) {
        if let Some(flight) = self.lock().get_mut(channel) {
            flight.reset = Instant::now();
        }
    }

    /// How long publications take through the broker: as long as the slowest of the last canaries, or, when the next one
    /// is overdue, as long as it is overdue by now.
    pub(crate) fn lag(&self) -> Duration {
        let of = |flight: &Flight| match flight.last {
            Some((when, took)) => took.max(when.elapsed().saturating_sub(self.interval)),
            None => flight.began.elapsed(),
        };
        self.lock().values().map(of).max().unwrap_or_else(|| self.began.elapsed())
    }

    /// Sends the next ones at once.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// The broker has confirmed a topic, or says that it is away.
    pub(crate) fn is_there(&self, topic: &Topic, there: bool) {
        if let Topic::Channel(channel) = topic
            && self.is(channel)
            && let Some(flight) = self.lock().get_mut(channel)
        {
            flight.away = !there;
            flight.reset = Instant::now();
            if there && flight.last.is_none() {
                self.hurry.notify_one();
            }
        }
    }

    /// These are the ways now; gives the channels that are new and those that are no longer among them.
    fn ways(&self, probes: Vec<Probe>) -> (Vec<Channel>, Vec<Channel>) {
        let mut flights = self.lock();
        let now = Instant::now();
        let mut old = std::mem::take(&mut *flights);
        let mut new = Vec::new();
        for Probe { channel, through } in probes {
            let flight = old.remove(&channel).filter(|flight| flight.through == through);
            let flight = flight.unwrap_or_else(|| {
                // The same way in another channel is no news.
                let last =
                    old.values().find(|flight| flight.through == through).and_then(|flight| flight.last);
                new.push(channel.clone());
                Flight { through, last, began: now, reset: now, away: false }
            });
            flights.insert(channel, flight);
        }
        (new, old.into_keys().collect())
    }

    /// The channels in which canaries are to fly, and why its connections are to be made anew, where nothing has come
    /// back for too long although they stand.
    fn due(&self) -> Vec<(Channel, Option<String>)> {
        let mut flights = self.lock();
        let due = flights.iter_mut().map(|(channel, flight)| {
            let why =
                self.judge(flight).err().filter(|_| !flight.away && flight.reset.elapsed() > self.limit);
            if why.is_some() {
                flight.reset = Instant::now();
            }
            (channel.clone(), why)
        });
        due.collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Channel, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends canaries for ever; when none has come back for too long, has the broker connect anew.
pub(crate) async fn fly(router: std::sync::Arc<Router>) {
    let canary = router.canary();
    loop {
        if let Some(broker) = router.broker() {
            let probes = broker.probes(&canary.own, &canary.plain);
            if !probes.is_empty() {
                let (new, gone) = canary.ways(probes);
                new.into_iter().for_each(|channel| broker.subscribe(&Topic::Channel(channel)));
                gone.into_iter().for_each(|channel| broker.unsubscribe(&Topic::Channel(channel)));
            }
            let connected = router.down_reason().is_none();
            let first = canary.sent.fetch_add(1, Ordering::Relaxed) == 0;
            for (channel, overdue) in canary.due() {
                let body = canary.began.elapsed().as_micros().to_string();
                let (sender, on) = (std::sync::Arc::clone(&router), channel.clone());
                // What is not sent cannot come back: that says nothing against the connection that would hear it.
                let done = move |outcome: Result<_, _>| {
                    if outcome.is_err() {
                        sender.canary().stays(&on);
                    }
                };
                broker.publish(&channel, Bytes::from(body), Box::new(done));
                if let Some(why) = overdue.filter(|_| connected && !first) {
                    tracing::warn!(reason = why, "connecting to the broker anew");
                    broker.reset_for(&channel, &why);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(canary.interval) => {}
            () = canary.hurry.notified() => {
                // A connection that has just been made is given its whole time.
                let now = Instant::now();
                canary.lock().values_mut().for_each(|flight| flight.reset = now);
            }
        }
    }
}
