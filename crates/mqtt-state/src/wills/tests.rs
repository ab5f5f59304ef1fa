//! The changes that a node requests, with a broker that stores wills of ended nodes and answers at once.

use std::sync::atomic::AtomicBool;

use tidings_broker::{
    Broker, Change, CompletionCallback, HistoryCallback, PresenceCallback, PresenceStatsCallback,
    PublishCallback, PublishOptions, WillCallback,
};
use tidings_wire::{ClientInfo, HistoryQuery, Topic};

use super::*;

#[derive(Default)]
struct FakeBroker {
    /// Wills that the node publishes, or may claim.
    wills: Mutex<Vec<String>>,
    /// The error of each change, if there is one.
    error: Mutex<Option<BrokerError>>,
    /// Whether the next change reports that the node had no lease.
    had_no_lease: AtomicBool,
    /// Connections whose wills were stored again.
    stored_again: Mutex<Vec<String>>,
    claims: AtomicU64,
    changes: AtomicU64,
}

impl Broker for FakeBroker {
    fn subscribe(&self, _: &Topic) {}
    fn unsubscribe(&self, _: &Topic) {}
    fn publish(&self, _: &Channel, _: bytes::Bytes, _: PublishCallback) {}
    fn reset(&self, _: &str) {}
    fn name(&self) -> &'static str {
        "fake"
    }
}

impl Stateful for FakeBroker {
    fn publish_with(&self, _: &Channel, _: bytes::Bytes, _: PublishOptions, _: PublishCallback) {}
    fn history(&self, _: &Channel, _: HistoryQuery, _: HistoryCallback) {}
    fn history_remove(&self, _: &Channel, _: CompletionCallback) {}
    fn presence_add(&self, _: &Channel, _: &ClientInfo, _: Duration, _: CompletionCallback) {}
    fn presence_remove(&self, _: &Channel, _: &str, _: CompletionCallback) {}
    fn presence(&self, _: &Channel, _: usize, _: PresenceCallback) {}
    fn presence_stats(&self, _: &Channel, _: PresenceStatsCallback) {}
    fn announce(&self, _: &Channel, _: Change, _: CompletionCallback) {}

    fn change_will(&self, _: &Channel, change: &WillChange, done: WillCallback) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        if let Some(error) = self.error.lock().unwrap().clone() {
            return done(Err(error));
        }
        let mut wills = self.wills.lock().unwrap();
        let had_no_lease = self.had_no_lease.swap(false, Ordering::Relaxed);
        let mut outcome = WillOutcome { had_no_lease, ..WillOutcome::default() };
        match change {
            WillChange::Claim { most, .. } => {
                self.claims.fetch_add(1, Ordering::Relaxed);
                let begun =
                    |connection: &String| BegunWill { connection: connection.clone(), will: encoded() };
                outcome.begun = wills.iter().take(*most).map(begun).collect();
            }
            WillChange::Done { connection } => wills.retain(|of| of != connection),
            WillChange::Open { connection, is_again: true, .. } => {
                self.stored_again.lock().unwrap().push(connection.clone());
            }
            WillChange::Open { .. } | WillChange::Close { .. } => {}
        }
        drop(wills);
        done(Ok(outcome));
    }
}

/// Settles a publication.
type Settle = Box<dyn FnOnce(bool) + Send>;

/// Publishes nothing; each publication is settled by the test.
#[derive(Default)]
struct Pending(Mutex<Vec<Settle>>);

impl Pending {
    /// Settles what is in progress, and what follows; returns the number.
    fn settle(&self) -> usize {
        let mut count = 0;
        loop {
            let pending = std::mem::take(&mut *self.0.lock().unwrap());
            if pending.is_empty() {
                return count;
            }
            count += pending.len();
            pending.into_iter().for_each(|done| done(true));
        }
    }
}

impl PublishWill for Pending {
    fn publish(&self, _: WillMessage, done: Settle) {
        self.0.lock().unwrap().push(done);
    }
}

fn will() -> WillMessage {
    WillMessage { channel: Channel::new("gone").unwrap(), body: "bye".into(), extra: None, delay: 0 }
}

fn encoded() -> bytes::Bytes {
    std::mem::take(&mut Encoder::default().will(&will()).0).into()
}

fn shared() -> (Arc<FakeBroker>, Arc<Pending>, Arc<SharedWills>) {
    let (broker, pending) = (Arc::new(FakeBroker::default()), Arc::new(Pending::default()));
    let wills = SharedWills::new(
        Arc::clone(&broker) as Arc<dyn Stateful>,
        Channel::new("wills").unwrap(),
        Arc::clone(&pending) as Arc<dyn PublishWill>,
        1 << 20,
    );
    (broker, pending, Arc::new(wills))
}

#[test]
fn all_wills_of_an_ended_node_are_published_after_one_renewal() {
    let (broker, pending, wills) = shared();
    *broker.wills.lock().unwrap() = (0..250).map(|number| format!("c{number}")).collect();
    wills.renew();
    assert_eq!(pending.settle(), 250, "each will once");
    assert_eq!(broker.claims.load(Ordering::Relaxed), 3, "a claim follows only a full one");
    assert_eq!(wills.claimed.load(Ordering::Relaxed), 250);
}

#[test]
fn connections_that_are_refused_while_the_broker_is_away_are_bounded_and_keep_no_will() {
    let (broker, _, wills) = shared();
    let open = |number: usize| {
        let outcome = Arc::new(Mutex::new(None));
        let into = Arc::clone(&outcome);
        let client = format!("c{number}");
        let request = OpenWill { key: client.as_str().into(), client, will: Some(will()), continues: false };
        wills.open(request, move |result| *into.lock().unwrap() = Some(result));
        outcome.lock().unwrap().take().expect("an outcome")
    };
    *broker.error.lock().unwrap() = Some(BrokerError::Overloaded);
    assert_eq!(open(0), Err(BrokerError::Overloaded));
    assert_eq!(wills.lock().counts(), (0, 0), "nothing was sent");
    *broker.error.lock().unwrap() = Some(BrokerError::Unavailable);
    for number in 0..state::MAX_REFUSED {
        assert_eq!(open(number), Err(BrokerError::Unavailable));
    }
    let sent = broker.changes.load(Ordering::Relaxed);
    assert_eq!(open(state::MAX_REFUSED), Err(BrokerError::Unavailable));
    assert_eq!(broker.changes.load(Ordering::Relaxed), sent, "it is refused without a request");
    assert_eq!(wills.lock().counts(), (state::MAX_REFUSED, 0));
    // The broker is back: a bounded number is discarded there with each renewal.
    *broker.error.lock().unwrap() = None;
    wills.renew();
    assert_eq!(wills.lock().counts(), (state::MAX_REFUSED - 1_000, 0));
    assert_eq!(open(state::MAX_REFUSED), Ok(()));
}

#[test]
fn after_a_client_has_renewed_an_ended_lease_the_wills_of_the_others_are_stored_again() {
    let (broker, _, wills) = shared();
    let open = |client: &str| {
        let request =
            OpenWill { key: client.into(), client: client.to_owned(), will: Some(will()), continues: false };
        wills.open(request, |result| assert_eq!(result, Ok(())));
    };
    open("a");
    open("b");
    broker.had_no_lease.store(true, Ordering::Relaxed);
    open("c");
    wills.renew();
    broker.stored_again.lock().unwrap().sort();
    assert_eq!(*broker.stored_again.lock().unwrap(), ["a", "b"]);
    wills.renew();
    assert_eq!(broker.stored_again.lock().unwrap().len(), 2, "once");
}
