//! The people of a table: bounded, joined, and the same on all nodes.

use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::broadcast::{EncodedView, ViewBroadcast, ViewCursor};
use crate::node_messages::PeopleUpdate;
use crate::people::{ChangedBy, Cursor, MAX_LISTED, Person};

/// A viewer that has received a view, and its list of people.
struct Client {
    viewer: u64,
    outbox: Arc<Outbox>,
    broadcast: watch::Receiver<ViewBroadcast>,
    seen: ViewCursor,
    you: Option<String>,
    people: Vec<Value>,
    /// The number of messages about people.
    messages: usize,
}

impl Client {
    fn join(test_room: &mut TestRoom, secret: Option<&str>) -> Self {
        let (handle, outbox) = test_room.join(secret);
        let (broadcast, mut seen) = outbox.take().broadcast.expect("a broadcast");
        let first = EncodedView { frame: Bytes::new(), content: 1, viewers: 1, version: 1, change: None };
        seen.view = Some(first.viewed());
        let (viewer, people) = (handle.viewer, Vec::new());
        Self { viewer, outbox, broadcast, seen, you: None, people, messages: 0 }
    }

    /// Applies the messages that it has not received.
    fn receive(&mut self) -> &mut Self {
        let mut frames = Vec::new();
        self.seen.take(&self.broadcast.borrow_and_update(), &mut frames);
        let text: String = text(frames.into_iter().chain(self.outbox.take().frames));
        // Frames of 126 bytes and more have a longer head; messages begin with a brace.
        for part in text.split("{\"per").flat_map(|part| part.split("{\"people")) {
            let end = part.rfind('}').map_or(0, |end| end + 1);
            if let Some(person) = part[..end].strip_prefix("son\":") {
                let person: Value = serde_json::from_str(&person[..person.len() - 1]).expect("a person");
                self.people.retain(|other| other["id"] != person["id"]);
                self.people.push(person);
            } else if let Some(id) = part[..end].strip_prefix("son_left\":\"") {
                self.people
                    .retain(|other| Some(other["id"].as_str().expect("an id")) != id.strip_suffix("\"}"));
            } else if part.starts_with("\":") {
                let all: Value =
                    serde_json::from_str(&format!("{{\"people{}", &part[..end])).expect("people");
                self.people = all["people"].as_array().expect("a list").clone();
                self.you = all["you"].as_str().map(ToOwned::to_owned).or(self.you.take());
            } else {
                continue;
            }
            self.messages += 1;
        }
        self
    }

    /// The other people's names, sorted.
    fn names(&mut self) -> Vec<String> {
        self.receive();
        let mut names: Vec<_> =
            self.people.iter().map(|person| person["name"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names
    }

    fn own(&self) -> &Value {
        let you = self.you.as_deref().expect("an id");
        self.people.iter().find(|person| person["id"] == you).expect("the person itself")
    }
}

fn me(name: &str) -> Command {
    Command::Me(name.to_owned())
}

fn cell(row: u64) -> Command {
    Command::Cursor(Some(Cursor { row, column: 2, to_row: row, to_column: 2 }))
}

fn tick(test_room: &mut TestRoom) -> Vec<Effect> {
    test_room.wait(Duration::from_millis(100))
}

fn people_messages(effects: &[Effect]) -> Vec<PeopleUpdate> {
    let update = |effect: &Effect| match effect {
        Effect::Notify(status, None) if status.kind == MessageKind::People => status.people.clone(),
        _ => None,
    };
    effects.iter().filter_map(update).collect()
}

#[test]
fn people_receive_each_other_s_names_and_leave_with_their_connection() {
    let mut test_room = TestRoom::new(Record::new(Some(SECRET)), false);
    let mut owner = Client::join(&mut test_room, Some(SECRET));
    let mut other = Client::join(&mut test_room, None);
    assert_eq!(test_room.command(owner.viewer, me(" Ann\u{202E} ")).1, Ok(()));
    assert_eq!(test_room.command(other.viewer, me("Bob")).1, Ok(()));
    tick(&mut test_room);
    assert_eq!(owner.names(), ["Ann", "Bob"]);
    assert_eq!(other.names(), ["Ann", "Bob"]);
    assert_eq!((&owner.own()["name"], &owner.own()["owner"]), (&json!("Ann"), &json!(true)));
    assert_eq!((&other.own()["owner"], &other.own()["cursor"]), (&json!(false), &Value::Null));
    assert_ne!(owner.own()["color"], other.own()["color"]);
    // An empty name is replaced by a random one.
    let _ = test_room.command(other.viewer, me(" "));
    tick(&mut test_room);
    other.receive();
    assert!(other.own()["name"].as_str().is_some_and(|name| name.contains(' ')), "{}", other.own());
    test_room.request(RoomRequest::Leave(other.viewer));
    tick(&mut test_room);
    assert_eq!(owner.names(), ["Ann"]);
}

#[test]
fn cursors_are_joined_to_ten_messages_a_second_and_the_newest_counts() {
    let mut test_room = TestRoom::new(Record::new(None), true);
    let (mut first, mut second) = (Client::join(&mut test_room, None), Client::join(&mut test_room, None));
    tick(&mut test_room);
    second.receive();
    let before = second.messages;
    let mut updates = 0;
    for row in 0..100 {
        let (mut effects, outcome) = test_room.command(first.viewer, cell(row));
        assert_eq!(outcome, Ok(()));
        effects.extend(test_room.wait(Duration::from_millis(10)));
        updates += people_messages(&effects).len();
        second.receive();
    }
    tick(&mut test_room);
    let cursor = json!({"row": 99, "column": 2, "to_row": 99, "to_column": 2});
    assert_eq!(first.receive().own()["cursor"], cursor);
    second.receive();
    assert!(second.people.iter().any(|person| person["cursor"] == cursor), "{:?}", second.people);
    assert!((5..=12).contains(&(second.messages - before)), "{} messages", second.messages - before);
    assert!(updates <= 12, "{updates} messages to other nodes");
    // A viewer that does not read receives the list once.
    for row in 0..30 {
        let _ = test_room.command(first.viewer, cell(row));
        tick(&mut test_room);
    }
    let before = second.messages;
    second.receive();
    assert_eq!(second.messages - before, 1);
    let _ = test_room.command(first.viewer, Command::Cursor(None));
    tick(&mut test_room);
    assert_eq!(first.receive().own()["cursor"], Value::Null);
}

#[test]
fn the_list_of_people_is_bounded_and_a_viewer_that_acts_displaces_an_idle_one() {
    let mut test_room = TestRoom::new(Record::new(Some(SECRET)), false);
    let mut owner = Client::join(&mut test_room, Some(SECRET));
    let idle: Vec<_> = (0..MAX_LISTED + 20).map(|_| test_room.join(None).0.viewer).collect();
    let last = Client::join(&mut test_room, None).viewer;
    test_room.wait(Duration::from_secs(2));
    assert_eq!(owner.receive().people.len(), MAX_LISTED);
    assert_eq!(test_room.command(last, me("Zoe")).1, Ok(()));
    test_room.wait(Duration::from_secs(2));
    let names = owner.names();
    assert_eq!(names.len(), MAX_LISTED);
    assert!(names.contains(&"Zoe".to_owned()), "{names:?}");
    assert_eq!(owner.own()["owner"], true);
    // Those that wait are listed when others leave.
    for viewer in &idle[..50] {
        test_room.request(RoomRequest::Leave(*viewer));
    }
    test_room.wait(Duration::from_secs(2));
    assert_eq!(owner.receive().people.len(), idle.len() + 2 - 50);
}

#[test]
fn the_people_of_other_nodes_are_listed_within_a_limit_until_their_node_ends() {
    let mut test_room = TestRoom::new(Record::new(None), true);
    let mut client = Client::join(&mut test_room, None);
    let person =
        |name: &str| Arc::new(Person { name: name.into(), ..Person::random(false, std::iter::empty()) });
    let receive = |test_room: &mut TestRoom, node: u64, update: PeopleUpdate| {
        let message = NodeMessage {
            node,
            table: test_room.id.to_string(),
            kind: MessageKind::People,
            viewers: 1,
            received: 0,
            loading: None,
            record: None,
            changed_by: None,
            people: Some(update),
        };
        test_room.request(RoomRequest::NodeMessage(Box::new(message)));
        tick(test_room);
    };
    let (ann, bob) = (person("Ann"), person("Bob"));
    let all = PeopleUpdate { is_all: true, changed: vec![Arc::clone(&ann), bob], left: vec![] };
    receive(&mut test_room, 2, all);
    assert_eq!(client.names().len(), 3);
    let left = PeopleUpdate { is_all: false, changed: vec![], left: vec![ann.id.clone()] };
    receive(&mut test_room, 2, left);
    assert_eq!(client.names().len(), 2);
    assert!(client.names().contains(&"Bob".to_owned()));
    let many = (0..MAX_LISTED * 2).map(|number| person(&format!("P{number}"))).collect();
    receive(&mut test_room, 3, PeopleUpdate { is_all: true, changed: many, left: vec![] });
    assert_eq!(client.names().len(), 1 + MAX_LISTED);
    test_room.wait(Duration::from_secs(60));
    assert_eq!(client.names().len(), 1);
}

#[test]
fn the_author_of_a_change_is_the_viewer_or_the_program_that_made_it() {
    let mut test_room = TestRoom::with_file();
    let client = Client::join(&mut test_room, None);
    let _ = test_room.command(client.viewer, me("Ann"));
    let author = test_room.room.author(client.viewer).expect("an author");
    assert_eq!((author.name.as_deref(), author.by), (Some("Ann"), Actor::Viewer));
    // Another node reports its author, and an older version of the program does not.
    let newer = |version| Record {
        file: Some("f-1".into()),
        stamp: Stamp { version, node: 2 },
        version,
        ..Record::new(None)
    };
    test_room.receive(MessageKind::Changed, 1, Some(newer(900)));
    assert_eq!(test_room.room.view.changed_by, Some(ChangedBy::program(Actor::Node)));
}
