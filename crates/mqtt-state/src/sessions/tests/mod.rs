mod files;

use std::sync::Arc;

use bytes::Bytes;
use tidings_mqtt::{Qos, RetainHandling};
use tidings_mqtt_session::{Options, StoredSubscription, WillMessage};
use tidings_wire::{Channel, Extra, MessageProperties, Pattern, Publication};

use super::*;

const LIMITS: SessionLimits =
    SessionLimits { sessions: 10, queue_bytes: 1_000, total_bytes: 1_500, default_qos: Qos::AtLeastOnce };

fn connection(slot: u32) -> Connection {
    Connection { shard: 0, slot, generation: 1 }
}

fn topic(name: &str) -> Topic {
    Topic::Channel(Channel::new(name).unwrap())
}

fn open(key: &str, slot: u32) -> OpenSession {
    OpenSession {
        key: key.into(),
        connection: connection(slot),
        client: "own".into(),
        expiry: 60,
        clean_start: false,
        is_kept: true,
    }
}

fn parking(key: &str, slot: u32) -> Parking {
    let options = Options {
        qos: Qos::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        is_pattern: false,
        identifier: 0,
        retain_handling: RetainHandling::Send,
    };
    let subscription = StoredSubscription { filter: "t".into(), topic: topic("t"), options };
    let channel = Channel::new("will").unwrap();
    Parking {
        key: key.into(),
        connection: connection(slot),
        client: "own".into(),
        expiry: 60,
        subscriptions: vec![subscription],
        will: Some(WillMessage { channel, body: Bytes::from_static(b"w"), extra: None, delay: 10 }),
    }
}

fn complete(key: &str, slot: u32) -> SessionChange {
    SessionChange::Parked { key: key.into(), connection: connection(slot), state: Box::default() }
}

/// A session without a connection.
fn parked(sessions: &Sessions<u32>, key: &str, now: u64) {
    sessions.open(open(key, 1), 0, now);
    sessions.apply(SessionChange::Parking(Box::new(parking(key, 1))), now);
    sessions.apply(complete(key, 1), now);
}

fn publish(sessions: &Sessions<u32>, body: &str, now: u64) {
    let publication = Arc::new(Publication::new(Channel::new("t").unwrap(), body.to_owned()));
    sessions.deliver(&Delivery { topic: topic("t"), publication }, now);
}

/// The bodies of the messages of a session that continues, and the number of dropped ones.
fn resumed(effects: &SessionEffects<u32>) -> (Vec<String>, u64) {
    let [(_, _, Outcome::Resumed(state))] = &effects.responses[..] else { panic!("{effects:?}") };
    let mut waiting = state.waiting.clone();
    let bodies = std::iter::from_fn(|| waiting.pop());
    let bodies = bodies.map(|message| String::from_utf8_lossy(&message.publication.body).into_owned());
    (bodies.collect(), state.dropped)
}

#[test]
fn a_request_waits_until_the_session_is_complete_and_the_last_one_gets_it() {
    let sessions = Sessions::new(LIMITS);
    sessions.open(open("a", 1), 1, 0);
    assert!(sessions.open(open("a", 2), 2, 0).responses.is_empty(), "it is connected");
    let effects = sessions.open(open("a", 3), 3, 0);
    assert_eq!(effects.responses, [(2, connection(2), Outcome::Replaced)]);
    let effects = sessions.apply(SessionChange::Parking(Box::new(parking("a", 1))), 0);
    assert_eq!(effects.joined, [topic("t")]);
    publish(&sessions, "x", 0);
    let effects = sessions.apply(complete("a", 1), 0);
    assert_eq!(effects.released, [topic("t")]);
    assert_eq!(effects.responses[0].0, 3);
    assert!(effects.wills.is_empty(), "the client has returned before the delay");
    assert_eq!(resumed(&effects), (vec!["x".to_owned()], 0));
}

#[test]
fn a_connection_whose_session_was_discarded_changes_nothing() {
    let sessions = Sessions::new(LIMITS);
    sessions.open(open("a", 1), 1, 0);
    let clean = OpenSession { clean_start: true, ..open("a", 2) };
    assert_eq!(sessions.open(clean, 2, 0).responses[0].2, Outcome::New);
    let effects = sessions.apply(SessionChange::Parking(Box::new(parking("a", 1))), 0);
    assert!(effects.joined.is_empty());
    assert_eq!(effects.wills.len(), 1, "the session has ended, and with it the delay");
    assert!(sessions.apply(complete("a", 1), 0).responses.is_empty());
    let ended = SessionChange::Ended { key: "a".into(), connection: Some(connection(1)) };
    sessions.apply(ended, 0);
    assert!(sessions.contains("a"), "it belongs to the second connection");
    sessions.apply(SessionChange::Ended { key: "a".into(), connection: Some(connection(2)) }, 0);
    assert!(!sessions.contains("a"));
}

#[test]
fn the_sessions_share_a_bound_and_drop_their_own_messages() {
    let sessions = Sessions::new(LIMITS);
    parked(&sessions, "a", 0);
    parked(&sessions, "b", 0);
    let body = "x".repeat(370);
    // 500 bytes each: two fit into a session, three into both.
    for number in 0..3 {
        publish(&sessions, &format!("{number}{body}"), 0);
    }
    assert!(sessions.lock().bytes <= 1_500);
    let sizes: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|key| {
            let (bodies, dropped) = resumed(&sessions.open(open(key, 5), 5, 0));
            assert_eq!(bodies.len() as u64 + dropped, 3);
            bodies.len()
        })
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 3, "{sizes:?}");
    assert_eq!(sessions.lock().bytes, 0);
    assert_eq!(sessions.lock().dropped, 3);
}

#[test]
fn a_session_expires_after_its_will_and_makes_room() {
    let sessions = Sessions::new(SessionLimits { sessions: 1, ..LIMITS });
    parked(&sessions, "a", 100);
    publish(&sessions, "x", 100);
    assert_eq!(sessions.open(open("b", 2), 2, 159).responses[0].2, Outcome::Full(1));
    assert!(!sessions.is_due(109));
    let mut wills = sessions.sweep(159).wills;
    wills.extend(sessions.sweep(159).wills);
    assert_eq!(wills.len(), 0, "the request for another session has swept");
    let effects = sessions.sweep(160);
    assert_eq!((effects.released, effects.wills.len()), (vec![topic("t")], 0));
    assert_eq!(sessions.open(open("b", 2), 2, 160).responses[0].2, Outcome::New);
    let state = sessions.lock();
    assert_eq!((state.bytes, state.expired, state.subscribers.len()), (0, 1, 0));
}

#[test]
fn a_publication_of_several_subscriptions_waits_once_with_all_their_identifiers() {
    let sessions = Sessions::new(LIMITS);
    sessions.open(open("a", 1), 0, 0);
    let mut parking = parking("a", 1);
    let all = Topic::Pattern(Pattern::new("**").unwrap());
    let first = &mut parking.subscriptions[0];
    first.options.identifier = 5;
    let options = Options { qos: Qos::ExactlyOnce, is_pattern: true, identifier: 6, ..first.options };
    parking.subscriptions.push(StoredSubscription { filter: "#".into(), topic: all.clone(), options });
    sessions.apply(SessionChange::Parking(Box::new(parking)), 0);
    sessions.apply(complete("a", 1), 0);
    let mut publication = Publication::new(Channel::new("t").unwrap(), "x");
    let properties =
        MessageProperties { qos: Qos::ExactlyOnce, retain: false, expiry: None, properties: Bytes::new() };
    publication.extra = Some(Box::new(Extra { message: Some(Box::new(properties)), ..Extra::default() }));
    let publication = Arc::new(publication);
    for topic in [all, topic("t")] {
        sessions.deliver(&Delivery { topic, publication: Arc::clone(&publication) }, 0);
    }
    let effects = sessions.open(open("a", 2), 2, 0);
    let [(_, _, Outcome::Resumed(state))] = &effects.responses[..] else { panic!("{effects:?}") };
    let waiting: Vec<_> = state.waiting.required().collect();
    let [message] = &waiting[..] else { panic!("{waiting:?}") };
    assert_eq!(
        (message.qos, message.identifier, &*message.more_identifiers),
        (Qos::ExactlyOnce, 5, &[6][..])
    );
    assert!(!message.is_pattern);
}
