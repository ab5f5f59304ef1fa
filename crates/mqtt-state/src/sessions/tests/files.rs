//! Sessions with files, across starts of the server.

use std::path::Path;

use tidings_mqtt::PacketId;
use tidings_mqtt_session::{Acknowledgement, InFlight, Message, SharedFilter, Step};

use super::*;
use crate::Storage;

fn start(folder: &Path, now: u64) -> (Sessions<u32>, Vec<Topic>) {
    Sessions::open_files(LIMITS, folder, now).unwrap()
}

fn subscription(filter: &str) -> StoredSubscription {
    let [one] = &parking("", 0).subscriptions[..] else { panic!("one subscription") };
    StoredSubscription { filter: filter.into(), ..one.clone() }
}

fn step(sessions: &Sessions<u32>, slot: u32, step: Step) -> SessionEffects<u32> {
    sessions.apply(SessionChange::Steps(connection(slot), vec![step]), 0)
}

/// Publishes, and returns the message that the shard sends with this packet identifier.
fn published(sessions: &Sessions<u32>, body: &str, id: u16) -> InFlight {
    let publication = Arc::new(Publication::new(Channel::new("t").unwrap(), body.to_owned()));
    sessions.deliver(&Delivery { topic: topic("t"), publication: Arc::clone(&publication) }, 0);
    let message = Message {
        publication,
        qos: Qos::AtLeastOnce,
        retain: false,
        identifier: 0,
        more_identifiers: Box::default(),
        is_pattern: false,
        is_unchecked: false,
        received: 0,
    };
    let id = PacketId::new(id).unwrap();
    InFlight { id, awaits: Acknowledgement::Acknowledge, message: Some(Box::new(message)) }
}

/// The state of a session that continues, from now on with an expiry of 30 seconds.
fn state(sessions: &Sessions<u32>, key: &str, now: u64) -> SessionState {
    let effects = sessions.open(OpenSession { expiry: 30, ..open(key, 9) }, 9, now);
    match effects.responses.into_iter().next() {
        Some((_, _, Outcome::Resumed(state))) => *state,
        other => panic!("{other:?}"),
    }
}

fn bodies(mut state: SessionState) -> Vec<String> {
    let waiting = std::iter::from_fn(|| state.waiting.pop());
    waiting.map(|one| String::from_utf8_lossy(&one.publication.body).into_owned()).collect()
}

#[test]
fn a_connected_session_continues_after_the_end_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, topics) = start(folder.path(), 0);
    assert!(topics.is_empty());
    sessions.open(open("a", 1), 1, 0);
    assert_eq!(step(&sessions, 1, Step::Subscribed(subscription("t"))).joined, [topic("t")]);
    let acknowledged = published(&sessions, "acknowledged", 1);
    let (id, dropped) = (acknowledged.id, published(&sessions, "dropped", 2));
    step(&sessions, 1, Step::Sent(acknowledged));
    step(&sessions, 1, Step::Ended(id));
    step(&sessions, 1, Step::Dropped(dropped.message.unwrap().publication));
    let sent = published(&sessions, "sent", 3);
    step(&sessions, 1, Step::Sent(sent.clone()));
    published(&sessions, "waits", 4);
    step(&sessions, 1, Step::Received(8));
    step(&sessions, 1, Step::Received(7));
    step(&sessions, 1, Step::Completed(8));
    drop(sessions);

    let (sessions, topics) = start(folder.path(), 100);
    assert_eq!(topics, [topic("t")]);
    assert_eq!(sessions.lock().bytes, 2 * sent.cost() + 1, "\"waits\" has one byte more than \"sent\"");
    let found = state(&sessions, "a", 159);
    let [found_sent] = &Vec::from(found.in_flight.clone())[..] else { panic!("{found:?}") };
    assert_eq!((found_sent.id, found_sent.awaits), (sent.id, sent.awaits));
    assert_eq!((found.received.clone(), found.last_packet_id), (vec![7], 3));
    assert_eq!(found.subscriptions, [subscription("t")]);
    assert_eq!(bodies(found), ["waits"]);
    drop(sessions);

    // It was connected, so it expires after its interval from the start on.
    let (sessions, _) = start(folder.path(), 200);
    assert!(sessions.sweep(229).released.is_empty());
    let effects = sessions.sweep(230);
    assert_eq!(effects.released, [topic("t")]);
    drop(sessions);
    let (sessions, topics) = start(folder.path(), 300);
    assert!(!sessions.contains("a") && topics.is_empty());
}

#[test]
fn an_absent_session_keeps_its_messages_its_expiry_and_its_will() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = start(folder.path(), 0);
    parked(&sessions, "a", 100);
    let body = "x".repeat(370);
    for number in 0..3 {
        publish(&sessions, &format!("{number}{body}"), 100);
    }
    drop(sessions);
    let (sessions, _) = start(folder.path(), 105);
    assert_eq!(sessions.sweep(110).wills.len(), 1);
    drop(sessions);
    let (sessions, _) = start(folder.path(), 111);
    assert!(sessions.sweep(159).wills.is_empty(), "the will is published once");
    let found = state(&sessions, "a", 159);
    assert_eq!(found.dropped, 1);
    let starts: Vec<_> = bodies(found).iter().map(|body| body[..1].to_owned()).collect();
    assert_eq!(starts, ["1", "2"], "the first one was dropped at the bound");
}

fn will(body: &'static str, delay: u32) -> Box<WillMessage> {
    let body = Bytes::from_static(body.as_bytes());
    Box::new(WillMessage { channel: Channel::new("will").unwrap(), body, extra: None, delay })
}

fn wills(effects: &SessionEffects<u32>) -> Vec<&[u8]> {
    effects.wills.iter().map(|will| &*will.body).collect()
}

#[test]
fn wills_of_connections_are_published_by_the_next_start_once() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = start(folder.path(), 0);
    // 1 and 2 have sessions that are kept, 3 and 4 have none.
    for (slot, key) in [(1, "a"), (2, "b")] {
        sessions.open(open(key, slot), slot, 0);
    }
    for (slot, body, delay) in [(1, "at once", 0), (2, "later", 10), (3, "alone", 10), (4, "gone", 0)] {
        sessions.apply(SessionChange::Will(connection(slot), Some(will(body, delay))), 0);
    }
    sessions.apply(SessionChange::Will(connection(4), None), 0);
    drop(sessions);
    let (sessions, _) = start(folder.path(), 100);
    let alone = sessions.earlier_wills();
    let [(number, message)] = &alone[..] else { panic!("{alone:?}") };
    assert_eq!(*message, *will("alone", 10));
    assert_eq!(wills(&sessions.sweep(100)), [b"at once"]);
    drop(sessions);
    // The end of this process comes before the first will is published.
    let (sessions, _) = start(folder.path(), 105);
    assert_eq!(sessions.earlier_wills(), alone);
    sessions.end_will(*number);
    assert!(sessions.sweep(109).wills.is_empty());
    assert_eq!(wills(&sessions.sweep(110)), [b"later"], "its delay began with the second start");
    drop(sessions);
    let (sessions, _) = start(folder.path(), 111);
    assert!(sessions.earlier_wills().is_empty() && sessions.sweep(120).wills.is_empty());
}

#[test]
fn a_will_ends_with_the_parking_or_the_end_of_its_session_or_its_return() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = start(folder.path(), 0);
    for (slot, key) in [(1, "a"), (2, "b"), (3, "c")] {
        sessions.open(open(key, slot), slot, 0);
        sessions.apply(SessionChange::Will(connection(slot), Some(will("x", 20))), 0);
    }
    sessions.apply(SessionChange::Parking(Box::new(Parking { will: None, ..parking("a", 1) })), 0);
    sessions.apply(SessionChange::Ended { key: "b".into(), connection: Some(connection(2)) }, 0);
    drop(sessions);
    let (sessions, _) = start(folder.path(), 0);
    // The client with the third one returns in time, without a will.
    sessions.open(open("c", 4), 4, 10);
    drop(sessions);
    let (sessions, _) = start(folder.path(), 15);
    assert!(sessions.earlier_wills().is_empty());
    assert!(sessions.sweep(1_000).wills.is_empty());
}

#[test]
fn a_session_that_was_discarded_or_ended_does_not_return() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = start(folder.path(), 0);
    parked(&sessions, "a", 0);
    sessions.apply(SessionChange::Ended { key: "a".into(), connection: None }, 0);
    sessions.open(open("b", 2), 2, 0);
    step(&sessions, 2, Step::Subscribed(subscription("t")));
    let ended = SessionChange::Ended { key: "b".into(), connection: Some(connection(2)) };
    assert_eq!(sessions.apply(ended, 0).released, [topic("t")]);
    parked(&sessions, "c", 0);
    let left = OpenSession { is_kept: false, ..open("c", 3) };
    assert_eq!(sessions.open(left, 3, 0).released, [topic("t")]);
    drop(sessions);
    let (sessions, topics) = start(folder.path(), 0);
    assert!(topics.is_empty());
    assert!(["a", "b", "c"].iter().all(|key| !sessions.contains(key)));
}

#[test]
fn unsubscribed_topics_and_their_messages_do_not_return() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = start(folder.path(), 0);
    sessions.open(open("a", 1), 1, 0);
    step(&sessions, 1, Step::Subscribed(subscription("t")));
    published(&sessions, "x", 1);
    assert_eq!(step(&sessions, 1, Step::Unsubscribed("t".into())).released, [topic("t")]);
    drop(sessions);
    let (sessions, topics) = start(folder.path(), 0);
    assert!(topics.is_empty());
    assert!(bodies(state(&sessions, "a", 0)).is_empty());
}

#[test]
fn a_member_of_a_group_keeps_the_messages_that_were_passed_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = start(folder.path(), 0);
    sessions.open(open("a", 1), 1, 0);
    let shared = subscription("$share/g/t");
    let (filter, topic) = (shared.filter.clone(), shared.topic.clone());
    let shared_filter = SharedFilter { filter, topic };
    let options = shared.options;
    sessions.join(&JoinGroup { connection: connection(1), shared: shared_filter, options });
    step(&sessions, 1, Step::Subscribed(shared));
    publish(&sessions, "job", 0);
    drop(sessions);
    let (sessions, _) = start(folder.path(), 0);
    publish(&sessions, "another", 0);
    assert_eq!(bodies(state(&sessions, "a", 0)), ["job", "another"]);
}

#[test]
fn messages_that_the_shard_does_not_process_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = start(folder.path(), 0);
    sessions.open(open("a", 1), 1, 0);
    step(&sessions, 1, Step::Subscribed(subscription("t")));
    let body = "x".repeat(370);
    for number in 0..9 {
        publish(&sessions, &format!("{number}{body}"), 0);
    }
    drop(sessions);
    let (sessions, _) = start(folder.path(), 0);
    let found = state(&sessions, "a", 0);
    assert_eq!((found.waiting.len(), found.dropped), (4, 5), "twice 1,000 bytes, 500 bytes each");
}

#[test]
fn a_snapshot_has_all_sessions_and_changes_follow_it() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = start(folder.path(), 0);
    let sessions = Arc::new(sessions);
    parked(&sessions, "a", 0);
    sessions.open(open("b", 2), 2, 0);
    step(&sessions, 2, Step::Subscribed(subscription("t")));
    let first = published(&sessions, "1", 1);
    let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
    crate::storage::Files::with_journal(&*sessions, &mut |journal| journal.fail(&error));
    assert!(sessions.check_files().is_err());
    Storage::default().with_sessions(&sessions).maintain();
    sessions.check_files().unwrap();
    step(&sessions, 2, Step::Sent(first));
    published(&sessions, "2", 2);
    drop(sessions);
    let (sessions, _) = start(folder.path(), 0);
    assert_eq!(bodies(state(&sessions, "a", 0)), ["1", "2"]);
    let found = state(&sessions, "b", 0);
    assert_eq!((found.in_flight.len(), bodies(found)), (1, vec!["2".to_owned()]));
}
