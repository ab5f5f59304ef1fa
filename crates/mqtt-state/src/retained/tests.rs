use tidings_wire::{Extra, MessageProperties};

use super::*;
use crate::Storage;

const LIMITS: Limits = Limits { messages: 3, bytes: 10_000 };

fn publication(channel: &str, body: &str, expiry: Option<u32>) -> Publication {
    let message = MessageProperties { retain: true, expiry, ..MessageProperties::default() };
    let mut publication = Publication::new(Channel::new(channel).unwrap(), body.to_owned());
    publication.extra = Some(Box::new(Extra { message: Some(Box::new(message)), ..Extra::default() }));
    publication
}

fn read(retained: &Retained, filter: &str, now: Instant) -> Vec<String> {
    let mut all = Vec::new();
    retained.read(&Filter::new(filter).unwrap(), 10_000, now, |found| {
        for publication in found.unwrap() {
            all.push(format!("{}={:?}", publication.channel, publication.body));
        }
    });
    all
}

#[test]
fn the_last_message_of_each_topic_is_found_by_filters() {
    let (retained, now) = (Retained::new(LIMITS), Instant::now());
    for (topic, body) in [("a/b", "1"), ("a/c", "2"), ("a/b", "3"), ("$x/y", "4")] {
        retained.set(publication(topic, body, None), now).unwrap();
    }
    assert_eq!(read(&retained, "a/+", now), ["a/b=b\"3\"", "a/c=b\"2\""]);
    assert_eq!(read(&retained, "#", now), ["a/b=b\"3\"", "a/c=b\"2\""]);
    assert_eq!(read(&retained, "$x/#", now), ["$x/y=b\"4\""]);
    assert_eq!(read(&retained, "a/b", now), ["a/b=b\"3\""]);
    retained.set(publication("a/b", "", None), now).unwrap();
    assert_eq!(read(&retained, "a/+", now), ["a/c=b\"2\""]);
    for topic in ["a/c", "$x/y"] {
        retained.set(publication(topic, "", None), now).unwrap();
    }
    assert_eq!(retained.lock().bytes, 0);
}

#[test]
fn a_message_beyond_a_bound_is_refused_and_nothing_changes() {
    let (retained, now) = (Retained::new(LIMITS), Instant::now());
    for topic in ["a", "b", "c"] {
        retained.set(publication(topic, "x", None), now).unwrap();
    }
    let refused = |topic, body: &str| retained.set(publication(topic, body, None), now).unwrap_err();
    assert_eq!(refused("d", "x"), RetainedFull::Messages(3));
    assert_eq!(refused("a", &"x".repeat(10_000)), RetainedFull::Bytes(10_000));
    assert_eq!(read(&retained, "+", now), ["a=b\"x\"", "b=b\"x\"", "c=b\"x\""]);
    retained.set(publication("a", "", None), now).unwrap();
    retained.set(publication("d", "x", None), now).unwrap();
}

#[test]
fn a_message_expires_and_makes_room() {
    let (retained, now) = (Retained::new(LIMITS), Instant::now());
    for topic in ["a", "b", "c"] {
        retained.set(publication(topic, "x", Some(10)), now).unwrap();
    }
    let later = now + Duration::from_secs(4);
    retained.read(&Filter::new("a").unwrap(), 10_000, later, |found| {
        let message = found.unwrap()[0].extra.as_ref().unwrap().message.clone().unwrap();
        assert_eq!(message.expiry, Some(6));
    });
    let end = now + Duration::from_secs(10);
    assert_eq!(read(&retained, "#", end), [""; 0]);
    retained.set(publication("d", "x", None), end).unwrap();
    assert_eq!(retained.lock().by_topic.len(), 1);
}

#[test]
fn a_failed_publication_leaves_the_earlier_message_unless_a_later_one_came() {
    let (retained, now) = (Retained::new(LIMITS), Instant::now());
    retained.set(publication("a", "1", None), now).unwrap();
    let second = retained.set(publication("a", "2", None), now).unwrap();
    retained.undo(second);
    assert_eq!(read(&retained, "a", now), ["a=b\"1\""]);
    let third = retained.set(publication("a", "3", None), now).unwrap();
    retained.set(publication("a", "4", None), now).unwrap();
    retained.undo(third);
    assert_eq!(read(&retained, "a", now), ["a=b\"4\""]);
    let removed = retained.set(publication("a", "", None), now).unwrap();
    retained.undo(removed);
    assert_eq!(read(&retained, "a", now), ["a=b\"4\""]);
    let bytes = retained.lock().bytes;
    assert_eq!(bytes, cost(&publication("a", "4", None)));
}

#[test]
fn a_read_beyond_its_limit_fails() {
    let (retained, now) = (Retained::new(LIMITS), Instant::now());
    for topic in ["a", "b"] {
        retained.set(publication(topic, "x", None), now).unwrap();
    }
    let mut result = None;
    retained.read(&Filter::new("#").unwrap(), 300, now, |found| result = Some(found));
    assert_eq!(result, Some(Err(TooMany(300))));
}

#[test]
fn messages_are_in_the_files_with_the_rest_of_their_lifetimes() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Retained::open(LIMITS, folder.path()).unwrap();
    let (retained, now) = (open(), Instant::now());
    retained.set(publication("a", "1", None), now).unwrap();
    retained.set(publication("b", "2", Some(100)), now).unwrap();
    retained.set(publication("c", "3", None), now).unwrap();
    retained.set(publication("c", "", None), now).unwrap();
    let undone = retained.set(publication("a", "4", None), now).unwrap();
    retained.undo(undone);
    drop(retained);
    // Of the third start, the messages are in a snapshot.
    for _ in 0..2 {
        let retained = open();
        assert_eq!(read(&retained, "#", Instant::now()), ["a=b\"1\"", "b=b\"2\""]);
        retained.read(&Filter::new("b").unwrap(), 10_000, Instant::now(), |found| {
            let message = found.unwrap()[0].extra.as_ref().unwrap().message.clone().unwrap();
            assert!((90..=100).contains(&message.expiry.unwrap()), "{message:?}");
        });
        assert_eq!(read(&retained, "#", Instant::now() + Duration::from_secs(101)), ["a=b\"1\""]);
    }
    let smaller = Retained::open(Limits { messages: 1, bytes: 10_000 }, folder.path()).unwrap();
    assert_eq!(read(&smaller, "#", Instant::now()), ["a=b\"1\""]);
}

#[test]
fn a_message_that_the_files_do_not_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (retained, now) = (Retained::open(LIMITS, folder.path()).unwrap(), Instant::now());
    retained.set(publication("a", "1", None), now).unwrap();
    let error = io::Error::from(io::ErrorKind::StorageFull);
    crate::storage::Files::with_journal(&retained, &mut |journal| journal.fail(&error));
    for body in ["2", ""] {
        let refused = retained.set(publication("a", body, None), now).unwrap_err();
        assert!(refused.to_string().contains("data directory"), "{refused}");
    }
    assert_eq!(read(&retained, "#", now), ["a=b\"1\""]);
    let retained = Arc::new(retained);
    Storage::default().with_retained(&retained).maintain();
    retained.set(publication("a", "2", None), now).unwrap();
}
