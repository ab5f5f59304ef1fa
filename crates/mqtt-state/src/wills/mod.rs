//! The wills of a deployment's connections, which the broker stores for all nodes.
//!
//! A will is at the broker before its client is connected. It is published when its connection ends, when the client connects
//! again on any node, or when the lease of its node has ended: in each case the broker passes it to one node, which publishes it and
//! then removes it ([`WillChange`]).
//!
//! Invariants:
//! - One node at a time publishes a will. A node that ends between the publication and the removal is the only cause of a second
//!   publication.
//! - A change that the broker did not confirm is repeated with the next renewal of the lease.
//! - The number of the entries here is that of the connections with a will, of the wills that this node publishes, and of at most
//!   `MAX_REFUSED` refused connections, which have no bytes of a will.

mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_broker::{BegunWill, BrokerError, Stateful, WillChange, WillOutcome};
use tidings_metrics::{BYTES, Collect, MetricWriter};
use tidings_mqtt_session::{CloseWill, OpenWill, WillMessage};
use tidings_wire::Channel;

use crate::codec::{Decoder, Encoder};
use state::{Begun, Closed, State};

/// How long a node has its wills without a renewal.
const LEASE: Duration = Duration::from_secs(10);
/// The time between two renewals: a will whose delay has passed waits no longer.
const RENEWAL: Duration = Duration::from_secs(1);
/// Most wills that are claimed in one step, during which Redis does nothing else.
const CLAIMED_AT_ONCE: usize = 100;

/// Publishes a will, and calls `done` with whether that is settled; if not, it is tried again later. Called from any thread; must
/// not block.
pub trait PublishWill: Send + Sync {
    /// See [`PublishWill`].
    fn publish(&self, will: WillMessage, done: Box<dyn FnOnce(bool) + Send>);
}

/// The wills of this node, and the part of the node in the publication of those of others.
pub struct SharedWills {
    broker: Arc<dyn Stateful>,
    store: Channel,
    publisher: Arc<dyn PublishWill>,
    max_bytes: AtomicUsize,
    state: Mutex<State>,
    count: AtomicU64,
    bytes: AtomicU64,
    claimed: AtomicU64,
}

impl fmt::Debug for SharedWills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedWills").field("store", &self.store).finish_non_exhaustive()
    }
}

impl SharedWills {
    /// The wills that `broker` has under the name `store`, with at most `max_bytes`.
    pub fn new(
        broker: Arc<dyn Stateful>,
        store: Channel,
        publisher: Arc<dyn PublishWill>,
        max_bytes: usize,
    ) -> Self {
        Self {
            broker,
            store,
            publisher,
            max_bytes: AtomicUsize::new(max_bytes),
            state: Mutex::default(),
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
        }
    }

    /// Replaces the bound, for wills from now on.
    pub fn set_max_bytes(&self, max_bytes: usize) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client connects. Calls `done` when its will is stored and the publication of an earlier one has begun. Must not block.
    pub fn open(
        self: &Arc<Self>,
        request: OpenWill,
        done: impl FnOnce(Result<(), BrokerError>) + Send + 'static,
    ) {
        let OpenWill { key, client, will, continues } = request;
        let delay = will.as_ref().map_or(0, |will| will.delay);
        let will = will.map(|will| bytes::Bytes::from(std::mem::take(&mut Encoder::default().will(&will).0)));
        if let Some(will) = &will
            && !self.lock().open(client.clone(), key.clone(), will.clone())
        {
            return done(Err(BrokerError::Unavailable));
        }
        let max_bytes = self.max_bytes.load(Ordering::Relaxed);
        let change = WillChange::Open {
            key: key.into(),
            connection: client.clone(),
            will,
            lease: LEASE,
            max_bytes,
            is_again: false,
            delay: Duration::from_secs(delay.into()),
            continues,
        };
        let shared = Arc::clone(self);
        self.change(&change, move |outcome| match outcome {
            Ok(WillOutcome { is_full: true, .. }) => {
                shared.lock().remove(&client);
                let text = format!("limit exceeded: {max_bytes} bytes of wills (mqtt.sessions_max_bytes)");
                done(Err(BrokerError::Full(text)));
            }
            Ok(outcome) => {
                shared.lock().set_stored(&client);
                shared.begin(outcome.begun);
                done(Ok(()));
            }
            Err(BrokerError::Overloaded) => {
                // Nothing was sent.
                shared.lock().remove(&client);
                done(Err(BrokerError::Overloaded));
            }
            Err(error) => {
                // The broker may have the will nevertheless: it is discarded there.
                shared.lock().refuse(&client);
                done(Err(error));
            }
        });
    }

    /// A connection with a will has ended.
    pub fn close(self: &Arc<Self>, request: CloseWill) {
        let CloseWill { key, client, is_published, expiry } = request;
        let closed = Closed { is_published, expiry };
        self.lock().close(&client, closed);
        self.send_close(client, key.into(), closed);
    }

    fn send_close(self: &Arc<Self>, connection: String, key: String, closed: Closed) {
        let Closed { is_published, expiry } = closed;
        let max_delay = Duration::from_secs(expiry.into());
        let change = WillChange::Close { key, connection: connection.clone(), is_published, max_delay };
        let shared = Arc::clone(self);
        self.change(&change, move |outcome| {
            if let Ok(outcome) = outcome {
                shared.lock().remove(&connection);
                shared.begin(outcome.begun);
            }
        });
    }

    /// Renews the lease, claims wills of nodes that have ended, and repeats what has failed.
    pub fn renew(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let change = WillChange::Claim { lease: LEASE, most: CLAIMED_AT_ONCE };
        self.change(&change, move |outcome| {
            let Ok(outcome) = outcome else { return };
            shared.lock().set_more(outcome.begun.len() >= CLAIMED_AT_ONCE);
            let begun = shared.begin(outcome.begun);
            shared.claimed.fetch_add(begun as u64, Ordering::Relaxed);
            shared.repeat();
        });
    }

    /// Repeats the changes and publications that have failed.
    fn repeat(self: &Arc<Self>) {
        let repeats = self.lock().repeats();
        for (connection, key, closed) in repeats.closed {
            self.send_close(connection, key.into(), closed);
        }
        for (connection, key, will) in repeats.unstored {
            let (shared, max_bytes) = (Arc::clone(self), self.max_bytes.load(Ordering::Relaxed));
            let client = connection.clone();
            let delay = Decoder(&will).will().map_or(0, |will| will.delay);
            let change = WillChange::Open {
                key: key.into(),
                connection,
                will: Some(will),
                lease: LEASE,
                max_bytes,
                is_again: true,
                delay: Duration::from_secs(delay.into()),
                continues: true,
            };
            self.change(&change, move |outcome| {
                if outcome.is_ok_and(|outcome| !outcome.is_full) {
                    shared.lock().set_stored(&client);
                }
            });
        }
        for (connection, will) in repeats.failed {
            self.publish(connection, will);
        }
        for connection in repeats.published {
            self.send_done(connection);
        }
    }

    /// Publishes wills for which this node is the publisher now. Returns the number of those that are new here.
    fn begin(self: &Arc<Self>, begun: Vec<BegunWill>) -> usize {
        let (mut new, mut unknown) = (Vec::new(), Vec::new());
        for BegunWill { connection, will } in begun {
            let Some(will) = Decoder(&will).will() else {
                tracing::warn!(connection, "a will of another version cannot be decoded and is discarded");
                unknown.push(connection);
                continue;
            };
            // All are begun before the first one ends, which may be within `publish`.
            if self.lock().begin(&connection, &will) {
                new.push((connection, will));
            }
        }
        let count = new.len();
        new.into_iter().for_each(|(connection, will)| self.publish(connection, will));
        unknown.into_iter().for_each(|connection| self.send_done(connection));
        count
    }

    fn publish(self: &Arc<Self>, connection: String, will: WillMessage) {
        let shared = Arc::clone(self);
        let done = Box::new(move |is_settled: bool| {
            if is_settled {
                shared.lock().set_begun(&connection, Begun::Published);
                shared.send_done(connection);
            } else {
                shared.lock().set_begun(&connection, Begun::Failed);
            }
        });
        self.publisher.publish(will, done);
    }

    fn send_done(self: &Arc<Self>, connection: String) {
        let (shared, change) = (Arc::clone(self), WillChange::Done { connection: connection.clone() });
        self.change(&change, move |outcome| {
            if outcome.is_ok() && shared.lock().end(&connection) {
                shared.renew();
            }
        });
    }

    fn change(
        self: &Arc<Self>,
        change: &WillChange,
        done: impl FnOnce(Result<WillOutcome, BrokerError>) + Send + 'static,
    ) {
        let shared = Arc::clone(self);
        let done = Box::new(move |outcome: Result<WillOutcome, BrokerError>| {
            if let Ok(outcome) = &outcome {
                shared.count.store(outcome.count, Ordering::Relaxed);
                shared.bytes.store(outcome.bytes, Ordering::Relaxed);
                if outcome.had_no_lease {
                    shared.lock().set_unstored();
                }
            }
            done(outcome);
        });
        self.broker.change_will(&self.store, change, done);
    }

    /// Renews the lease for as long as the server runs.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.renew();
            tokio::time::sleep(RENEWAL).await;
        }
    }
}

impl Collect for SharedWills {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.gauge(
            "tidings_mqtt_wills",
            None,
            "Wills of MQTT in Redis, of the connections of all nodes, as last read",
            self.count.load(Ordering::Relaxed),
        )?;
        out.gauge(
            "tidings_mqtt_wills_stored",
            BYTES,
            "Bytes of wills of MQTT in Redis, with an allowance for each, as last read",
            self.bytes.load(Ordering::Relaxed),
        )?;
        out.counter(
            "tidings_mqtt_wills_claimed",
            None,
            "Wills of MQTT that this node has published after a renewal of its lease: of nodes that have ended, and of its own connections whose end Redis did not confirm",
            self.claimed.load(Ordering::Relaxed),
        )
    }
}
