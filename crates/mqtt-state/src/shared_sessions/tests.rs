//! What a node relies on, with a broker that answers at once.

use tidings_broker::{
    Broker, Change, CompletionCallback, HistoryCallback, PresenceCallback, PresenceStatsCallback,
    PublishCallback, PublishOptions, SessionsCallback,
};
use tidings_mqtt::Qos;
use tidings_wire::{ClientInfo, HistoryQuery, Topic};

use super::*;

#[derive(Default)]
struct FakeBroker {
    /// The answer of each function, or the error of all.
    answers: Mutex<HashMap<&'static str, Vec<&'static str>>>,
    is_away: std::sync::atomic::AtomicBool,
    calls: AtomicU64,
}

impl Broker for FakeBroker {
    fn subscribe(&self, _: &Topic) {}
    fn unsubscribe(&self, _: &Topic) {}
    fn publish(&self, _: &Channel, _: Bytes, _: PublishCallback) {}
    fn reset(&self, _: &str) {}
    fn name(&self) -> &'static str {
        "fake"
    }
}

impl Stateful for FakeBroker {
    fn publish_with(&self, _: &Channel, _: Bytes, _: PublishOptions, _: PublishCallback) {}
    fn history(&self, _: &Channel, _: HistoryQuery, _: HistoryCallback) {}
    fn history_remove(&self, _: &Channel, _: CompletionCallback) {}
    fn presence_add(&self, _: &Channel, _: &ClientInfo, _: Duration, _: CompletionCallback) {}
    fn presence_remove(&self, _: &Channel, _: &str, _: CompletionCallback) {}
    fn presence(&self, _: &Channel, _: usize, _: PresenceCallback) {}
    fn presence_stats(&self, _: &Channel, _: PresenceStatsCallback) {}
    fn announce(&self, _: &Channel, _: Change, _: CompletionCallback) {}

    fn call_sessions(&self, _: &Channel, function: SessionFunction, _: Vec<Bytes>, done: SessionsCallback) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.is_away.load(Ordering::Relaxed) {
            return done(Err(BrokerError::Unavailable));
        }
        let answer = self.answers.lock().unwrap().get(name(function)).cloned().unwrap_or_default();
        done(Ok(answer.into_iter().map(|text| Bytes::from_static(text.as_bytes())).collect()));
    }
}

fn name(function: SessionFunction) -> &'static str {
    match function {
        SessionFunction::Open => "open",
        SessionFunction::Sweep => "sweep",
        _ => "other",
    }
}

#[derive(Default)]
struct Woken(Mutex<Vec<Connection>>);

impl WakeSession for Woken {
    fn wake(&self, connection: Connection) {
        self.0.lock().unwrap().push(connection);
    }
}

const CONNECTION: Connection = Connection { shard: 0, slot: 7, generation: 1 };

fn shared() -> (Arc<FakeBroker>, Arc<Woken>, Arc<SharedSessions>) {
    let (broker, woken) = (Arc::<FakeBroker>::default(), Arc::<Woken>::default());
    let limits = SessionLimits {
        sessions: 10,
        queue_bytes: 1_000,
        total_bytes: 10_000,
        default_qos: Qos::AtLeastOnce,
    };
    let sessions = SharedSessions::new(
        Arc::clone(&broker) as Arc<dyn Stateful>,
        Channel::new("sessions").unwrap(),
        "n".to_owned(),
        Arc::clone(&woken) as Arc<dyn WakeSession>,
        limits,
    );
    (broker, woken, Arc::new(sessions))
}

/// The next renewals read these numbers of sessions, of wakes, and of sessions of this node.
fn set_sweep(broker: &FakeBroker, sessions: &'static str, wakes: &'static str, own: &'static str) {
    let answer = vec![sessions, sessions, "0", "0", "0", wakes, own];
    broker.answers.lock().unwrap().insert("sweep", answer);
}

fn open(sessions: &Arc<SharedSessions>, is_kept: bool) -> Result<OpenedSession, SharedError> {
    let outcome = Arc::new(Mutex::new(None));
    let into = Arc::clone(&outcome);
    let request = OpenSession {
        key: "k".into(),
        connection: CONNECTION,
        client: "c".to_owned(),
        expiry: u32::from(is_kept),
        clean_start: true,
        is_kept,
    };
    sessions.open(&request, move |opened| *into.lock().unwrap() = Some(opened));
    outcome.lock().unwrap().take().expect("an outcome")
}

#[test]
fn publications_pay_nothing_while_it_is_certain_that_there_is_no_session() {
    let (broker, _, sessions) = shared();
    assert!(sessions.is_needed(Qos::AtLeastOnce), "nothing is known yet");
    set_sweep(&broker, "0", "0", "0");
    sessions.renew();
    assert!(!sessions.is_needed(Qos::AtLeastOnce) && !sessions.is_needed(Qos::AtMostOnce));
    let calls = broker.calls.load(Ordering::Relaxed);
    assert_eq!(open(&sessions, false), Ok(OpenedSession::default()));
    assert_eq!(
        broker.calls.load(Ordering::Relaxed),
        calls,
        "a client without a session costs nothing either"
    );
    // The number is not relied on for ever.
    let began = Instant::now();
    while !sessions.is_needed(Qos::ExactlyOnce) {
        assert!(began.elapsed() < 2 * RELIABLE, "it is not certain any more");
        std::thread::sleep(Duration::from_millis(10));
    }
    sessions.renew();
    broker.answers.lock().unwrap().insert("open", vec!["1", "1"]);
    assert!(open(&sessions, true).is_ok_and(|opened| opened.is_stored));
    assert!(sessions.is_needed(Qos::AtLeastOnce), "a session has begun on this node");
}

#[test]
fn without_the_broker_a_client_without_a_session_connects_only_if_there_was_none() {
    let (broker, _, sessions) = shared();
    broker.is_away.store(true, Ordering::Relaxed);
    assert_eq!(open(&sessions, false), Ok(OpenedSession::default()));
    assert_eq!(open(&sessions, true), Err(SharedError::Broker(BrokerError::Unavailable)));
    broker.is_away.store(false, Ordering::Relaxed);
    set_sweep(&broker, "1", "0", "0");
    sessions.renew();
    broker.is_away.store(true, Ordering::Relaxed);
    assert!(open(&sessions, false).is_err(), "its earlier session could not be discarded");
}

#[test]
fn connections_are_woken_when_a_wake_or_their_sessions_are_lost() {
    let (broker, woken, sessions) = shared();
    broker.answers.lock().unwrap().insert("open", vec!["1", "1"]);
    open(&sessions, true).unwrap();
    let count = || std::mem::take(&mut *woken.0.lock().unwrap()).len();
    set_sweep(&broker, "1", "1", "1");
    sessions.renew();
    assert_eq!(count(), 0, "the wake may be on its way");
    sessions.on_wake(b"c other");
    assert_eq!(count(), 1);
    sessions.renew();
    assert_eq!(count(), 0, "it has arrived");
    set_sweep(&broker, "1", "2", "1");
    sessions.renew();
    assert_eq!(count(), 0);
    sessions.renew();
    assert_eq!(count(), 1, "it is lost");
    sessions.renew();
    assert_eq!(count(), 0, "once");
    set_sweep(&broker, "0", "2", "0");
    sessions.renew();
    assert_eq!(count(), 0, "a connection may be ending");
    sessions.renew();
    assert_eq!(count(), 1, "the session is lost");
}
