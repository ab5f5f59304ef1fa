//! What a node relies on, with a broker that answers at once.

use std::collections::VecDeque;

use tidings_broker::{
    Broker, Change, CompletionCallback, HistoryCallback, PresenceCallback, PresenceStatsCallback,
    PublishCallback, PublishOptions, SessionsCallback,
};
use tidings_mqtt::Qos;
use tidings_mqtt_session::Step;
use tidings_wire::{ClientInfo, HistoryQuery, Topic};

use super::failed::MAX_FAILED;
use super::*;

#[derive(Default)]
struct FakeBroker {
    /// The answer of each function, or the error of all.
    answers: Mutex<HashMap<&'static str, Vec<&'static str>>>,
    is_away: AtomicBool,
    calls: AtomicU64,
    /// The arguments of the functions that are called for one session.
    calls_of_sessions: Mutex<Vec<String>>,
    /// Calls are not answered: their arguments, and the callback.
    is_held: AtomicBool,
    held: Mutex<VecDeque<(String, SessionsCallback)>>,
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

    fn call_sessions(
        &self,
        _: &Channel,
        function: SessionFunction,
        args: Vec<Bytes>,
        done: SessionsCallback,
    ) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.is_held.load(Ordering::Relaxed) {
            let args: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
            return self.held.lock().unwrap().push_back((args.join(" "), done));
        }
        if name(function) == "other" {
            let args: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
            self.calls_of_sessions.lock().unwrap().push(args.join(" "));
        }
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
    let answer = vec![sessions, sessions, "0", "0", "0", wakes, own, "0", "0", "0"];
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
    sessions.on_wake(b"1 c other");
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

#[test]
fn acknowledgements_and_ends_of_connections_are_repeated_until_the_broker_confirms_them() {
    let (broker, _, sessions) = shared();
    set_sweep(&broker, "1", "0", "0");
    broker.answers.lock().unwrap().insert("other", vec!["0", "0"]);
    let calls = || std::mem::take(&mut *broker.calls_of_sessions.lock().unwrap());
    let id = tidings_mqtt::PacketId::new(7).unwrap();
    // A step that later ones may contradict is not repeated.
    let steps = vec![Step::Ended(id), Step::Unsubscribed("f".into())];
    broker.is_away.store(true, Ordering::Relaxed);
    sessions.acknowledge(StoreSteps {
        number: 0,
        key: "k".into(),
        client: "c".to_owned(),
        steps,
        begins: None,
    });
    sessions.close(CloseSession { key: "k".into(), client: "c".to_owned(), expiry: 9, sent: None });
    assert_eq!(calls(), ["n k c A 7 U f", "n k c 9  1000 10000"]);
    sessions.renew();
    assert_eq!(calls(), [""; 0], "the broker is away");
    broker.is_away.store(false, Ordering::Relaxed);
    sessions.renew();
    assert_eq!(calls(), ["n k c A 7", "n k c 9  1000 10000"]);
    sessions.renew();
    assert_eq!(calls(), [""; 0], "they are confirmed");
}

#[test]
fn the_number_of_requests_that_are_repeated_is_bounded() {
    let (broker, _, sessions) = shared();
    broker.is_away.store(true, Ordering::Relaxed);
    let id = tidings_mqtt::PacketId::new(7).unwrap();
    let request = CloseSession { key: "k".into(), client: "c".to_owned(), expiry: 9, sent: None };
    for _ in 0..=MAX_FAILED {
        let steps = vec![Step::Ended(id)];
        sessions.acknowledge(StoreSteps {
            number: 0,
            key: "k".into(),
            client: "c".to_owned(),
            steps,
            begins: None,
        });
        sessions.close(request.clone());
        assert!(open(&sessions, true).is_err());
    }
    assert_eq!(sessions.lock().failed.counts(), (MAX_FAILED, sessions.limits().sessions, MAX_FAILED));
}

#[test]
fn a_session_whose_opening_the_broker_did_not_confirm_is_closed() {
    let (broker, _, sessions) = shared();
    set_sweep(&broker, "1", "0", "0");
    broker.answers.lock().unwrap().insert("other", vec!["0"]);
    broker.is_away.store(true, Ordering::Relaxed);
    assert!(open(&sessions, true).is_err());
    broker.is_away.store(false, Ordering::Relaxed);
    sessions.renew();
    assert_eq!(*broker.calls_of_sessions.lock().unwrap(), ["n k c 1  1000 10000"]);
}

#[test]
fn a_session_is_discarded_at_the_broker_although_there_was_none_before() {
    let (broker, _, sessions) = shared();
    set_sweep(&broker, "0", "0", "0");
    sessions.renew();
    // Another node may have begun one meanwhile.
    let calls = broker.calls.load(Ordering::Relaxed);
    open(&sessions, false).unwrap_or_default();
    assert_eq!(broker.calls.load(Ordering::Relaxed), calls + 1);
}

#[test]
fn messages_with_qos_0_are_added_from_the_end_of_a_connection_on() {
    let (broker, _, sessions) = shared();
    broker.answers.lock().unwrap().insert("sweep", vec!["1", "1", "0", "0", "0", "0", "1", "0", "0", "0"]);
    sessions.renew();
    assert!(!sessions.is_needed(Qos::AtMostOnce), "the client is connected");
    sessions.close(CloseSession { key: "k".into(), client: "c".to_owned(), expiry: 9, sent: None });
    assert!(sessions.is_needed(Qos::AtMostOnce));
}

#[test]
fn a_wake_that_arrives_late_hides_no_later_one() {
    let (broker, woken, sessions) = shared();
    broker.answers.lock().unwrap().insert("open", vec!["1", "1"]);
    open(&sessions, true).unwrap();
    let count = || std::mem::take(&mut *woken.0.lock().unwrap()).len();
    set_sweep(&broker, "1", "2", "1");
    sessions.renew();
    sessions.renew();
    assert_eq!(count(), 1, "two wakes are late");
    sessions.on_wake(b"1 c");
    sessions.on_wake(b"2 c");
    assert_eq!(count(), 2);
    set_sweep(&broker, "1", "3", "1");
    sessions.renew();
    sessions.renew();
    assert_eq!(count(), 1, "the third one is lost");
}

#[test]
fn a_session_without_a_connection_is_closed_by_the_second_search_that_finds_it() {
    let (broker, _, sessions) = shared();
    broker.answers.lock().unwrap().insert("open", vec!["1", "1"]);
    broker.answers.lock().unwrap().insert("other", vec!["0"]);
    open(&sessions, true).unwrap();
    let page = |next: &'static str| {
        let page = ["2", "2", "0", "0", "0", "0", "2", "0", "0", next, "k", "c", "9", "k2", "c2", "7"];
        broker.answers.lock().unwrap().insert("sweep", page.to_vec());
        sessions.renew();
        std::mem::take(&mut *broker.calls_of_sessions.lock().unwrap())
    };
    assert_eq!(page("0"), [""; 0], "its end may be on its way");
    assert_eq!(page("0"), ["n k2 c2 7  1000 10000"], "the other one has its connection");
    assert_eq!(page("0"), [""; 0], "once");
    // A search of several pages finds each session once.
    let (broker, _, sessions) = shared();
    broker.answers.lock().unwrap().insert("other", vec!["0"]);
    let page = |next: &'static str, key: &'static str| {
        let page = ["2", "2", "0", "0", "0", "0", "2", "0", "0", next, key, key, "7"];
        broker.answers.lock().unwrap().insert("sweep", page.to_vec());
        sessions.renew();
        std::mem::take(&mut *broker.calls_of_sessions.lock().unwrap())
    };
    assert_eq!([page("5", "k1"), page("0", "k2"), page("5", "k3")], [(); 3].map(|()| Vec::<String>::new()));
    assert_eq!(page("0", "k2"), ["n k2 k2 7  1000 10000"]);
}

#[test]
fn publications_with_qos_0_are_added_while_there_are_shared_subscriptions() {
    let (broker, _, sessions) = shared();
    assert!(sessions.is_needed(Qos::AtMostOnce), "nothing is known yet");
    let sweep = |groups| {
        let page = ["1", "1", "0", "0", "0", "0", "1", "0", groups, "0"];
        broker.answers.lock().unwrap().insert("sweep", page.to_vec());
        sessions.renew();
    };
    sweep("0");
    assert!(!sessions.is_needed(Qos::AtMostOnce));
    sweep("1");
    assert!(sessions.is_needed(Qos::AtMostOnce));
}

/// A publication, and what the broker was called with for it so far: progress of each step, and the outcome.
fn add(sessions: &Arc<SharedSessions>, body: &'static str) -> Arc<Mutex<Option<Result<u64, BrokerError>>>> {
    let outcome = Arc::new(Mutex::new(None));
    let into = Arc::clone(&outcome);
    let publication = tidings_wire::Publication::new(Channel::new("t").unwrap(), body);
    sessions.add(&publication, Qos::AtLeastOnce, "", move |added| *into.lock().unwrap() = Some(added));
    outcome
}

#[test]
fn a_publication_of_several_steps_is_complete_after_the_last_one_and_later_ones_of_its_topic_wait() {
    let (broker, _, sessions) = shared();
    broker.is_held.store(true, Ordering::Relaxed);
    let steps = || broker.held.lock().unwrap().len();
    let answer = |answer: &[&'static str]| {
        let (_, done) = broker.held.lock().unwrap().pop_front().expect("a call");
        done(Ok(answer.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()));
    };
    let first = add(&sessions, "1");
    answer(&["1000", "3000", "3000", "@1"]);
    let second = add(&sessions, "2");
    assert_eq!((steps(), first.lock().unwrap().is_some()), (1, false));
    assert!(broker.held.lock().unwrap()[0].0.ends_with(" @1 "), "it continues there");
    answer(&["2000", "3000", "3000", "@2"]);
    assert_eq!((steps(), first.lock().unwrap().is_some()), (1, false));
    answer(&["3000", "3000", "3000"]);
    assert_eq!(*first.lock().unwrap(), Some(Ok(3000)));
    assert_eq!((steps(), second.lock().unwrap().is_some()), (1, false), "the second one begins");
    answer(&["3000", "3000", "3000"]);
    assert_eq!(*second.lock().unwrap(), Some(Ok(3000)));
    // Nothing waits in the topic any more.
    let both = [add(&sessions, "3"), add(&sessions, "4")];
    assert_eq!(steps(), 2);
    (0..2).for_each(|_| answer(&["5", "5", "5"]));
    assert!(both.iter().all(|outcome| *outcome.lock().unwrap() == Some(Ok(5))));
}

#[test]
fn publications_that_wait_are_bounded_and_fail_with_the_broker() {
    let (broker, _, sessions) = shared();
    broker.is_held.store(true, Ordering::Relaxed);
    add(&sessions, "1");
    let (_, done) = broker.held.lock().unwrap().pop_front().expect("a call");
    done(Ok(["1", "3000", "3000", "@1"].map(|text| Bytes::from_static(text.as_bytes())).to_vec()));
    let large: &'static str = Box::leak("x".repeat(9 << 20).into_boxed_str());
    let (waits, refused) = (add(&sessions, large), add(&sessions, large));
    assert!(waits.lock().unwrap().is_none());
    assert_eq!(*refused.lock().unwrap(), Some(Err(BrokerError::Overloaded)));
    let (_, done) = broker.held.lock().unwrap().pop_front().expect("the next step");
    done(Err(BrokerError::Unavailable));
    assert_eq!(*waits.lock().unwrap(), Some(Err(BrokerError::Unavailable)));
}

#[test]
fn the_session_of_a_connection_begins_with_its_first_shared_subscription_within_the_limit() {
    let (broker, woken, sessions) = shared();
    let begin = || {
        let outcome = Arc::new(Mutex::new(None));
        let into = Arc::clone(&outcome);
        let steps = vec![Step::Unsubscribed("$share/g/t".into())];
        let request = StoreSteps {
            number: 1,
            key: "k".into(),
            client: "c".to_owned(),
            steps,
            begins: Some(CONNECTION),
        };
        sessions.store(&request, move |stored| *into.lock().unwrap() = Some(stored));
        outcome.lock().unwrap().take()
    };
    broker.answers.lock().unwrap().insert("open", vec!["2", "10"]);
    broker.answers.lock().unwrap().insert("other", vec!["2", "0"]);
    assert_eq!(begin(), Some(Err(SharedError::Full(10))));
    sessions.on_wake(b"1 c");
    assert!(woken.0.lock().unwrap().is_empty());
    broker.answers.lock().unwrap().insert("open", vec!["1", "1"]);
    broker.answers.lock().unwrap().insert("other", vec!["0", "0"]);
    assert_eq!(begin(), Some(Ok(())));
    sessions.on_wake(b"2 c");
    assert_eq!(*woken.0.lock().unwrap(), [CONNECTION]);
}

#[test]
fn publications_keep_their_order_when_the_first_one_proves_to_need_several_steps() {
    let (broker, _, sessions) = shared();
    broker.is_held.store(true, Ordering::Relaxed);
    let requested = || {
        let held = broker.held.lock().unwrap();
        let body = |args: &String| args.chars().find(|found| "vwxyz".contains(*found)).expect("a body");
        held.iter().map(|(args, _)| (body(args), args.ends_with('1'))).collect::<Vec<_>>()
    };
    let few = || release(&broker, &["5", "3000", "5"]);
    let many = || release(&broker, &["0", "3000", "3000", "@0"]);
    drop([add(&sessions, "v"), add(&sessions, "w")]);
    assert_eq!(requested(), [('v', false), ('w', false)], "they do not wait for each other");
    few();
    few();
    drop([add(&sessions, "x"), add(&sessions, "y")]);
    many();
    let last = add(&sessions, "z");
    assert_eq!(requested(), [('y', false), ('x', false)], "the first one continues, the last one waits");
    many();
    assert_eq!(requested(), [('x', false)], "the second one waits too");
    few();
    assert_eq!(requested(), [('y', true)]);
    few();
    assert_eq!(requested(), [('z', true)]);
    few();
    assert_eq!(*last.lock().unwrap(), Some(Ok(5)));
    assert!(sessions.adding.is_empty() && requested().is_empty());
}

#[test]
fn publications_wait_for_the_response_to_a_large_one_whose_steps_are_small() {
    let (broker, _, sessions) = shared();
    broker.is_held.store(true, Ordering::Relaxed);
    let count = || broker.held.lock().unwrap().len();
    let large: &'static str = Box::leak("x".repeat(10_000).into_boxed_str());
    drop([add(&sessions, "1"), add(&sessions, large), add(&sessions, "2")]);
    assert_eq!(count(), 2);
    // The first one needs several steps, so the others wait for it.
    release(&broker, &["0", "3000", "3000", "@0"]);
    release(&broker, &["0", "3000", "3000", "@0"]);
    for _ in 0..3 {
        assert_eq!(count(), 1);
        release(&broker, &["5", "3000", "3000"]);
    }
    assert!(sessions.adding.is_empty() && count() == 0);
    drop([add(&sessions, large), add(&sessions, "2")]);
    assert_eq!(count(), 1);
    release(&broker, &["5", "5", "5"]);
    release(&broker, &["5", "5", "5"]);
    assert!(sessions.adding.is_empty());
}

/// A connection requests its first shared subscription.
fn subscribe_shared(
    sessions: &Arc<SharedSessions>,
    done: impl FnOnce(Result<(), SharedError>) + Send + 'static,
) {
    let options = tidings_mqtt_session::Options {
        qos: Qos::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        is_pattern: false,
        identifier: 0,
        retain_handling: tidings_mqtt::RetainHandling::DoNotSend,
    };
    let topic = Topic::Channel(Channel::new("t").unwrap());
    let subscription =
        tidings_mqtt_session::StoredSubscription { filter: "$share/g/t".into(), topic, options };
    let request = StoreSteps {
        number: 0,
        key: "k".into(),
        client: "c".to_owned(),
        steps: vec![Step::Subscribed(subscription)],
        begins: Some(CONNECTION),
    };
    sessions.store(&request, done);
}

fn release(broker: &FakeBroker, answer: &[&'static str]) {
    let (_, done) = broker.held.lock().unwrap().pop_front().expect("a call");
    done(Ok(answer.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()));
}

#[test]
fn a_connection_that_ends_before_its_session_begins_leaves_nothing() {
    let (broker, woken, sessions) = shared();
    broker.is_held.store(true, Ordering::Relaxed);
    subscribe_shared(&sessions, |_| {});
    assert_eq!(sessions.lock().connections.len(), 1, "wakes reach it from now on");
    sessions.close(CloseSession { key: "k".into(), client: "c".to_owned(), expiry: 0, sent: None });
    release(&broker, &["1", "1"]);
    release(&broker, &["0", "0"]);
    release(&broker, &["0"]);
    assert!(sessions.lock().connections.is_empty());
    broker.is_held.store(false, Ordering::Relaxed);
    set_sweep(&broker, "0", "0", "0");
    sessions.renew();
    sessions.renew();
    assert_eq!(*woken.0.lock().unwrap(), []);
    // A session that is refused leaves no connection either.
    broker.is_held.store(true, Ordering::Relaxed);
    subscribe_shared(&sessions, |outcome| assert_eq!(outcome, Err(SharedError::Full(10))));
    release(&broker, &["2", "10"]);
    release(&broker, &["2", "0"]);
    assert!(sessions.lock().connections.is_empty());
}

#[test]
fn publications_with_qos_0_are_added_after_the_first_shared_subscription_is_acknowledged() {
    let (broker, _, sessions) = shared();
    broker.is_held.store(true, Ordering::Relaxed);
    sessions.renew();
    subscribe_shared(&sessions, |outcome| assert_eq!(outcome, Ok(())));
    // The renewal was carried out before the subscription.
    release(&broker, &["1", "1", "0", "0", "0", "0", "1", "0", "0", "0"]);
    release(&broker, &["1", "1"]);
    release(&broker, &["0", "0"]);
    assert!(sessions.is_needed(Qos::AtMostOnce));
}
