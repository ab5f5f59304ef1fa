//! Reads of a session are bounded: in number, and to one channel at a time during recovery.

use std::sync::Arc;
use std::time::Duration;

use tidings_hub::{Failure, NamespaceOptions, Namespaces, Settings, Slot};
use tidings_session::{Request, Response};
use tidings_wire::{Channel, Position, Publication, Topic};
use tidings_wire::{History, HistoryPage, HistoryQuery};

use crate::test_hub::{TestHub, settings};

fn test_hub() -> (TestHub, Slot) {
    let options = NamespaceOptions {
        history_size: 5,
        history_ttl: Duration::from_secs(60),
        history_meta_ttl: Duration::from_secs(3600),
        presence: true,
        force_recovery: true,
        ..NamespaceOptions::default()
    };
    let namespaces = Namespaces::new(options, []);
    let mut test_hub = TestHub::new(Settings { namespaces, recovery_bytes: 1_000, ..settings() });
    let slot = test_hub.open();
    test_hub.exchange(slot, "{\"id\":1,\"connect\":{}}\n");
    (test_hub, slot)
}

fn page(channel: &str, offset: u64, bytes: usize) -> History {
    let position = Position { offset, epoch: "e".into() };
    let channel = Channel::new(channel).unwrap();
    let body = format!("\"{}\"", "x".repeat(bytes));
    let publication = Publication { position: Some(position.clone()), ..Publication::new(channel, body) };
    History::Page(HistoryPage { position, publications: vec![Arc::new(publication)] })
}

/// Responds to the oldest pending request; returns its channel, and the output to the client.
fn response(test_hub: &mut TestHub, slot: Slot, bytes: usize) -> (String, String) {
    let (id, ticket, request) = test_hub.pending_requests.pop_front().expect("a request");
    let Request::History(channel, _) = &request else { panic!("{request:?}") };
    let name = channel.as_str().to_owned();
    test_hub.with(|hub, fx| hub.respond(id, ticket, Response::History(page(&name, 2, bytes)), fx));
    (name, test_hub.output(slot))
}

#[test]
fn a_session_has_few_reads_in_progress_and_later_commands_wait() {
    let (mut test_hub, slot) = test_hub();
    test_hub.exchange(slot, "{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    response(&mut test_hub, slot, 10);
    let commands: String = (3..103)
        .map(|id| match id % 3 {
            0 => format!("{{\"id\":{id},\"history\":{{\"channel\":\"news\",\"limit\":9}}}}\n"),
            1 => format!("{{\"id\":{id},\"presence\":{{\"channel\":\"news\"}}}}\n"),
            _ => format!("{{\"id\":{id},\"presence_stats\":{{\"channel\":\"news\"}}}}\n"),
        })
        .collect();
    test_hub.input(slot, commands);
    for id in 3..103 {
        assert!(test_hub.pending_requests.len() <= 4, "{} at once", test_hub.pending_requests.len());
        let (session, ticket, request) = test_hub.pending_requests.pop_front().expect("a request");
        let response = match request {
            Request::History(..) => Response::History(page("news", 2, 10)),
            Request::Presence(_) => Response::Members(Vec::new()),
            _ => Response::Presence(1, 1),
        };
        test_hub.with(|hub, fx| hub.respond(session, ticket, response, fx));
        let output = test_hub.output(slot);
        assert!(output.starts_with(&format!("{{\"id\":{id},")), "in order: {output}");
    }
    assert!(test_hub.pending_requests.is_empty());
}

#[test]
fn missed_publications_are_read_one_channel_at_a_time() {
    let (mut test_hub, slot) = test_hub();
    let subscribe = |id: u32, recover: bool| {
        let since = if recover { ",\"recover\":true,\"epoch\":\"e\",\"offset\":1" } else { "" };
        format!("{{\"id\":{id},\"subscribe\":{{\"channel\":\"c{id}\"{since}}}}}\n")
    };
    // The second one only requests its position, which reserves nothing and so does not wait.
    test_hub.input(slot, [subscribe(2, true), subscribe(3, false), subscribe(4, true)].concat());
    let channels: Vec<_> =
        test_hub.pending_requests.iter().map(|(_, _, request)| request.channel_name()).collect();
    assert_eq!(channels.len(), 2, "{channels:?}");
    let first = test_hub.pending_requests.iter().position(|(_, _, request)| request.recovers()).unwrap();
    test_hub.pending_requests.swap(0, first);
    let (channel, output) = response(&mut test_hub, slot, 10);
    assert!(channel == "c2" && output.contains("\"recovered\":true"), "{channel}: {output}");
    assert_eq!(test_hub.pending_requests.len(), 1, "the next channel is not read yet");
    assert_eq!(response(&mut test_hub, slot, 10).0, "c3");
    let (channel, output) = response(&mut test_hub, slot, 2_000);
    assert_eq!(channel, "c4");
    assert!(output.contains("\"was_recovering\":true") && !output.contains("\"recovered\":true"), "{output}");
    assert!(!output.contains("xxx"), "publications beyond the bound are not sent");
}

#[test]
fn a_topic_is_released_when_its_history_cannot_be_read() {
    let (mut test_hub, slot) = test_hub();
    let since = "\"recover\":true,\"epoch\":\"e\",\"offset\":1";
    test_hub.input(slot, format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"news\",{since}}}}}\n"));
    let topic = Topic::Channel(Channel::new("news").unwrap());
    assert!(test_hub.subscribed_topics.contains(&topic));
    let (session, ticket, _) = test_hub.pending_requests.pop_front().expect("a request");
    test_hub.with(|hub, fx| hub.respond(session, ticket, Response::Failed(Failure::Unavailable), fx));
    assert!(test_hub.output(slot).contains("\"error\""));
    assert!(!test_hub.subscribed_topics.contains(&topic), "no subscribe holds it any more");
}

/// The parts of a request that the tests inspect.
trait RequestExt {
    fn channel_name(&self) -> String;
    fn recovers(&self) -> bool;
}

impl RequestExt for Request {
    fn channel_name(&self) -> String {
        match self {
            Self::History(channel, _) => channel.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn recovers(&self) -> bool {
        matches!(self, Self::History(_, HistoryQuery { since: Some(_), max_bytes: 1_000, .. }))
    }
}

#[test]
fn a_page_of_a_history_is_bounded_in_encoded_bytes_and_the_client_can_continue() {
    let (mut test_hub, slot) = test_hub();
    test_hub.exchange(slot, "{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    response(&mut test_hub, slot, 10);
    test_hub.input(slot, "{\"id\":3,\"history\":{\"channel\":\"news\",\"limit\":9}}\n");
    let (id, ticket, _) = test_hub.pending_requests.pop_front().expect("a request");
    // 900 bytes in total, and 5,400 as JSON.
    let publications = (1..=9).map(|offset| {
        let position = Some(Position { offset, epoch: "e".into() });
        let body = vec![1; 100];
        Arc::new(Publication { position, ..Publication::new(Channel::new("news").unwrap(), body) })
    });
    let position = Position { offset: 9, epoch: "e".into() };
    let page = History::Page(HistoryPage { position, publications: publications.collect() });
    test_hub.with(|hub, fx| hub.respond(id, ticket, Response::History(page), fx));
    let output: serde_json::Value = serde_json::from_str(&test_hub.output(slot)).expect("JSON");
    let page = &output["history"];
    assert_eq!(page["publications"].as_array().map(Vec::len), Some(1), "600 bytes each, of 1,000: {output}");
    assert_eq!(page["offset"], 9, "more publications remain");
}
