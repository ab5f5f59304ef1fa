//! A subscriber that is cut repeatedly, recovers, and records all publications.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidings_testkit::PATIENCE;

use crate::publisher::{CHANNEL, LAST};
use crate::wire::Wire;

/// The publications of a subscriber.
#[derive(Default)]
pub(crate) struct ReceivedLog {
    /// The published number, by offset.
    pub(crate) seen: BTreeMap<u64, u64>,
    pub(crate) cuts: usize,
    /// The number of recoveries with missing publications.
    pub(crate) unrecovered: usize,
}

impl ReceivedLog {
    /// The number of gaps in the offsets.
    pub(crate) fn holes(&self) -> usize {
        let offsets: Vec<_> = self.seen.keys().collect();
        offsets.windows(2).filter(|pair| *pair[1] != pair[0] + 1).count()
    }
}

pub(crate) struct Subscriber {
    story: ReceivedLog,
    /// The addresses of the nodes: lines, and HTTP.
    nodes: Vec<(SocketAddr, SocketAddr)>,
    /// Whether there are no more cuts.
    calm: Arc<AtomicBool>,
    random: fastrand::Rng,
    epoch: String,
    offset: u64,
    /// Whether it was subscribed before.
    known: bool,
    /// Whether it subscribes once and then returns.
    beginning: bool,
    /// The deadline for the last publication, after the cuts have ended.
    deadline: Option<Instant>,
    finished: bool,
}

impl Subscriber {
    pub(crate) fn new(seed: u64, nodes: Vec<(SocketAddr, SocketAddr)>, calm: Arc<AtomicBool>) -> Self {
        Self {
            story: ReceivedLog::default(),
            nodes,
            calm,
            random: fastrand::Rng::with_seed(seed),
            epoch: String::new(),
            offset: 0,
            known: false,
            beginning: true,
            deadline: None,
            finished: false,
        }
    }

    /// Subscribes for the first time.
    pub(crate) fn begin(mut self) -> Self {
        let end = Instant::now() + PATIENCE;
        while !self.known {
            assert!(Instant::now() < end, "no subscription");
            let _ = self.connection();
        }
        self.beginning = false;
        self
    }

    /// Reconnects until the last publication has arrived.
    pub(crate) fn run(mut self) -> ReceivedLog {
        while !self.finished {
            // Disconnected for a moment, during which publications continue.
            let _ = self.connection();
            thread::sleep(Duration::from_millis(self.random.u64(0..25)));
        }
        self.story
    }

    /// One connection, until it is cut or ends.
    fn connection(&mut self) -> io::Result<()> {
        let (lines, http) = self.nodes[self.random.usize(..self.nodes.len())];
        let mut wire = if self.random.bool() { Wire::lines(lines)? } else { Wire::websocket(http)? };
        let recover = if self.known {
            format!(r#","recover":true,"offset":{},"epoch":"{}""#, self.offset, self.epoch)
        } else {
            String::new()
        };
        wire.send(r#"{"id":1,"connect":{}}"#)?;
        wire.send(&format!(
            r#"{{"id":2,"subscribe":{{"channel":"{CHANNEL}","recoverable":true{recover}}}}}"#
        ))?;
        let life = Duration::from_millis(self.random.u64(1..80));
        let cut_at = Instant::now() + life;
        let mut subscribed = false;
        let mut messages = Vec::new();
        loop {
            let calm = self.calm.load(Ordering::Relaxed);
            if self.finished || (self.beginning && subscribed) {
                return Ok(());
            }
            if calm && !self.beginning {
                let end = *self.deadline.get_or_insert_with(|| Instant::now() + PATIENCE * 2);
                assert!(Instant::now() < end, "stands at {} and gets nothing more", self.offset);
            }
            if !calm && Instant::now() >= cut_at {
                // Without a close, as a phone that loses its network; messages in flight are lost.
                self.story.cuts += 1;
                return Ok(());
            }
            messages.clear();
            wire.messages(Duration::from_millis(20), &mut messages)?;
            for message in &messages {
                if message.as_object().is_some_and(serde_json::Map::is_empty) {
                    wire.send("{}")?;
                }
                if message["error"].is_object() {
                    // For example, the broker is unavailable; retried later.
                    let error = &message["error"];
                    assert_eq!(error["temporary"], true, "{message}");
                    return Err(io::Error::other("refused for now"));
                }
                if message["subscribe"].is_object() {
                    subscribed = true;
                    if !self.subscribed(&message["subscribe"]) {
                        wire.send(&format!(
                            r#"{{"id":3,"history":{{"channel":"{CHANNEL}","limit":1,"reverse":true}}}}"#
                        ))?;
                    }
                }
                // The last publication may be among the recovered ones.
                if let Some(newest) = message["history"]["publications"].get(0) {
                    self.finished |= newest["data"].as_u64() >= Some(LAST)
                        && newest["offset"].as_u64() <= Some(self.offset);
                }
                let push = &message["push"];
                if push["pub"].is_object() {
                    assert!(subscribed, "nothing before the answer");
                    self.publication(&push["pub"]);
                }
                if push["unsubscribe"].is_object() || push["disconnect"].is_object() {
                    return Ok(());
                }
            }
        }
    }

    /// Returns whether all missed publications were received.
    fn subscribed(&mut self, reply: &Value) -> bool {
        let epoch = reply["epoch"].as_str().expect("a position in every answer").to_owned();
        let offset = reply["offset"].as_u64().unwrap_or(0);
        let whole = !self.known || reply["recovered"] == true;
        if self.known && whole {
            assert_eq!(epoch, self.epoch, "another life of the history");
            for publication in reply["publications"].as_array().unwrap_or(&Vec::new()) {
                self.publication(publication);
            }
            assert_eq!(self.offset, offset, "all of what was missed");
        } else if self.known {
            assert!(reply["publications"].is_null(), "all or nothing");
            self.story.unrecovered += 1;
        }
        self.epoch = epoch;
        self.offset = offset;
        self.known = true;
        whole
    }

    fn publication(&mut self, publication: &Value) {
        let offset = publication["offset"].as_u64().expect("an offset");
        assert_eq!(offset, self.offset + 1, "without a gap, once, in order");
        self.offset = offset;
        let number = publication["data"].as_u64().expect("a number");
        assert!(self.story.seen.insert(offset, number).is_none(), "twice");
        self.finished |= number >= LAST;
    }
}
