//! What is read for a session is bounded: by number, and one channel after the other where it recovers.

use std::sync::Arc;
use std::time::Duration;

use tidings_hub::{Failure, NamespaceOptions, Namespaces, Request, Response, Settings, Slot};
use tidings_wire::{Channel, Position, Publication, Topic};
use tidings_wire::{History, HistoryPage, HistoryQuery};

use crate::world::{World, settings};

fn world() -> (World, Slot) {
    let options = NamespaceOptions {
        history_size: 5,
        history_ttl: Duration::from_secs(60),
        history_meta_ttl: Duration::from_secs(3600),
        presence: true,
        force_recovery: true,
        ..NamespaceOptions::default()
    };
    let namespaces = Namespaces::new(options, []);
    let mut world = World::new(Settings { namespaces, recovery_bytes: 1_000, ..settings() });
    let slot = world.open();
    world.say(slot, "{\"id\":1,\"connect\":{}}\n");
    (world, slot)
}

fn page(channel: &str, offset: u64, bytes: usize) -> History {
    let position = Position { offset, epoch: "e".into() };
    let channel = Channel::new(channel).unwrap();
    let body = format!("\"{}\"", "x".repeat(bytes));
    let publication = Publication { position: Some(position.clone()), ..Publication::new(channel, body) };
    History::Page(HistoryPage { position, publications: vec![Arc::new(publication)] })
}

/// Answers the question that was asked first; gives the channel it was about and what the client is told.
fn answer(world: &mut World, slot: Slot, bytes: usize) -> (String, String) {
    let (id, ticket, request) = world.questions.pop_front().expect("a question");
    let Request::History(channel, _) = &request else { panic!("{request:?}") };
    let name = channel.as_str().to_owned();
    world.with(|hub, fx| hub.respond(id, ticket, Response::History(page(&name, 2, bytes)), fx));
    (name, world.output(slot))
}

#[test]
fn a_session_has_few_reads_under_way_and_its_later_commands_wait() {
    let (mut world, slot) = world();
    world.say(slot, "{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    answer(&mut world, slot, 10);
    let commands: String = (3..103)
        .map(|id| match id % 3 {
            0 => format!("{{\"id\":{id},\"history\":{{\"channel\":\"news\",\"limit\":9}}}}\n"),
            1 => format!("{{\"id\":{id},\"presence\":{{\"channel\":\"news\"}}}}\n"),
            _ => format!("{{\"id\":{id},\"presence_stats\":{{\"channel\":\"news\"}}}}\n"),
        })
        .collect();
    world.input(slot, commands);
    for id in 3..103 {
        assert!(world.questions.len() <= 4, "{} at once", world.questions.len());
        let (session, ticket, request) = world.questions.pop_front().expect("a question");
        let answer = match request {
            Request::History(..) => Response::History(page("news", 2, 10)),
            Request::Presence(_) => Response::Members(Vec::new()),
            _ => Response::Presence(1, 1),
        };
        world.with(|hub, fx| hub.respond(session, ticket, answer, fx));
        let told = world.output(slot);
        assert!(told.starts_with(&format!("{{\"id\":{id},")), "in order: {told}");
    }
    assert!(world.questions.is_empty());
}

#[test]
fn what_was_missed_is_read_one_channel_after_the_other() {
    let (mut world, slot) = world();
    let subscribe = |id: u32, recover: bool| {
        let since = if recover { ",\"recover\":true,\"epoch\":\"e\",\"offset\":1" } else { "" };
        format!("{{\"id\":{id},\"subscribe\":{{\"channel\":\"c{id}\"{since}}}}}\n")
    };
    // The second only asks where it stands, which takes nothing and so waits for nobody.
    world.input(slot, [subscribe(2, true), subscribe(3, false), subscribe(4, true)].concat());
    let asked: Vec<_> = world.questions.iter().map(|(_, _, request)| request.clone_channel()).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let first = world.questions.iter().position(|(_, _, request)| request.recovers()).unwrap();
    world.questions.swap(0, first);
    let (channel, told) = answer(&mut world, slot, 10);
    assert!(channel == "c2" && told.contains("\"recovered\":true"), "{channel}: {told}");
    assert_eq!(world.questions.len(), 1, "its turn has not come");
    assert_eq!(answer(&mut world, slot, 10).0, "c3");
    let (channel, told) = answer(&mut world, slot, 2_000);
    assert_eq!(channel, "c4");
    assert!(told.contains("\"was_recovering\":true") && !told.contains("\"recovered\":true"), "{told}");
    assert!(!told.contains("xxx"), "what does not fit is not sent");
}

#[test]
fn a_topic_whose_history_cannot_be_read_is_let_go() {
    let (mut world, slot) = world();
    let since = "\"recover\":true,\"epoch\":\"e\",\"offset\":1";
    world.input(slot, format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"news\",{since}}}}}\n"));
    let topic = Topic::Channel(Channel::new("news").unwrap());
    assert!(world.wanted.contains(&topic));
    let (session, ticket, _) = world.questions.pop_front().expect("a question");
    world.with(|hub, fx| hub.respond(session, ticket, Response::Failed(Failure::Unavailable), fx));
    assert!(world.output(slot).contains("\"error\""));
    assert!(!world.wanted.contains(&topic), "nobody waits for it any more");
}

/// What the tests look at in a request.
trait ConnectionInfo {
    fn clone_channel(&self) -> String;
    fn recovers(&self) -> bool;
}

impl ConnectionInfo for Request {
    fn clone_channel(&self) -> String {
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
fn a_page_of_a_history_is_bounded_as_it_is_written_and_the_client_reads_on() {
    let (mut world, slot) = world();
    world.say(slot, "{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    answer(&mut world, slot, 10);
    world.input(slot, "{\"id\":3,\"history\":{\"channel\":\"news\",\"limit\":9}}\n");
    let (id, ticket, _) = world.questions.pop_front().expect("a question");
    // 900 bytes in all, which are 5,400 as JSON.
    let publications = (1..=9).map(|offset| {
        let position = Some(Position { offset, epoch: "e".into() });
        let body = vec![1; 100];
        Arc::new(Publication { position, ..Publication::new(Channel::new("news").unwrap(), body) })
    });
    let position = Position { offset: 9, epoch: "e".into() };
    let page = History::Page(HistoryPage { position, publications: publications.collect() });
    world.with(|hub, fx| hub.respond(id, ticket, Response::History(page), fx));
    let told: serde_json::Value = serde_json::from_str(&world.output(slot)).expect("JSON");
    let page = &told["history"];
    assert_eq!(page["publications"].as_array().map(Vec::len), Some(1), "600 bytes each, of 1,000: {told}");
    assert_eq!(page["offset"], 9, "there is more to read");
}
