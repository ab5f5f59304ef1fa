//! What a subscriber of a channel with a history is promised: from its position on everything, once, in order; or
//! word that this cannot be.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use tidings_hub::{NamespaceOptions, Namespaces, Request, Response, SessionId, Settings, Slot};
use tidings_wire::{Channel, Position, Publication, Topic};
use tidings_wire::{History, HistoryPage, HistoryQuery};

use crate::world::{World, settings};

fn with_history() -> Settings {
    let options = NamespaceOptions {
        history_size: 5,
        history_ttl: Duration::from_secs(60),
        history_meta_ttl: Duration::from_secs(3600),
        ..NamespaceOptions::default()
    };
    Settings { namespaces: Namespaces::new(options, []), ..settings() }
}

/// A channel at the broker: its window, and what is on its way to the shard.
struct Log {
    channel: Channel,
    epoch: u32,
    offset: u64,
    window: VecDeque<Arc<Publication>>,
    on_their_way: VecDeque<Arc<Publication>>,
    plain: u64,
}

impl Log {
    fn new() -> Self {
        let channel = Channel::new("news").unwrap();
        Self {
            channel,
            epoch: 1,
            offset: 0,
            window: VecDeque::new(),
            on_their_way: VecDeque::new(),
            plain: 0,
        }
    }

    fn position(&self) -> Position {
        Position { offset: self.offset, epoch: format!("e{}", self.epoch).as_str().into() }
    }

    fn publish(&mut self) {
        self.offset += 1;
        let mut publication = Publication::new(self.channel.clone(), self.offset.to_string());
        publication.position = Some(self.position());
        let publication = Arc::new(publication);
        self.window.push_back(Arc::clone(&publication));
        if self.window.len() > 5 {
            self.window.pop_front();
        }
        self.on_their_way.push_back(publication);
    }

    /// As anybody publishes who does not ask for a history.
    fn publish_plain(&mut self) {
        self.plain += 1;
        let publication = Publication::new(self.channel.clone(), format!("\"p{}\"", self.plain));
        self.on_their_way.push_back(Arc::new(publication));
    }

    fn page(&self, query: &HistoryQuery) -> History {
        let position = self.position();
        let begin = query.since.as_ref().map_or(0, |since| since.offset);
        let first = self.window.front().and_then(|p| p.offset()).unwrap_or(self.offset + 1);
        let known = query.since.as_ref().is_none_or(|since| {
            since.epoch == position.epoch && since.offset + 1 >= first && since.offset <= self.offset
        });
        let after = self.window.iter().filter(|p| p.offset().is_some_and(|o| o > begin)).cloned();
        if !known {
            return History::Unrecoverable(position);
        }
        let publications = after.take(query.limit.unwrap_or(usize::MAX)).collect();
        History::Page(HistoryPage { position, publications })
    }
}

/// A client, and what it may expect.
#[derive(Default)]
struct Client {
    slot: Option<Slot>,
    subscribed: bool,
    asked: bool,
    epoch: String,
    seen: u64,
    plain: Option<u64>,
    unrecovered: bool,
}

impl Client {
    fn take(&mut self, line: &Value) {
        if let Some(reply) = line.get("subscribe") {
            assert!(line.get("error").is_none());
            let epoch = reply["epoch"].as_str().expect("every reply has the position").to_owned();
            let offset = reply["offset"].as_u64().unwrap_or(0);
            let recovered = reply["recovered"].as_bool().unwrap_or(false);
            if recovered {
                assert_eq!(epoch, self.epoch);
                for publication in reply["publications"].as_array().unwrap_or(&Vec::new()) {
                    assert_eq!(
                        publication["offset"].as_u64(),
                        Some(self.seen + 1),
                        "in order, without a gap"
                    );
                    self.seen += 1;
                }
                assert_eq!(self.seen, offset, "all that was missed");
            } else {
                assert!(reply.get("publications").is_none(), "all or nothing");
                self.unrecovered = reply["was_recovering"].as_bool().unwrap_or(false);
            }
            self.epoch = epoch;
            self.seen = offset;
            self.subscribed = true;
            self.asked = false;
        }
        if let Some(publication) = line.pointer("/push/pub") {
            assert!(self.subscribed, "nothing before the answer");
            match publication["offset"].as_u64() {
                Some(offset) => {
                    assert_eq!(offset, self.seen + 1, "everything once and in order");
                    self.seen = offset;
                }
                None => {
                    let text = publication["data"].as_str().expect("a plain one").to_owned();
                    let number: u64 = text[1..].parse().expect("its number");
                    assert!(self.plain.is_none_or(|before| number == before + 1), "plain ones too");
                    self.plain = Some(number);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish,
    PublishPlain,
    Deliver(usize),
    /// The broker reads what the next question without an answer is about; the answer is under way.
    Read,
    AnswerNext,
    Come(usize),
    Cut(usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Publish),
        2 => Just(Step::PublishPlain),
        4 => (1..4usize).prop_map(Step::Deliver),
        4 => Just(Step::Read),
        4 => Just(Step::AnswerNext),
        4 => (0..4usize).prop_map(Step::Come),
        2 => (0..4usize).prop_map(Step::Cut),
        1 => (0..4usize).prop_map(Step::Leave),
    ]
}

struct Story {
    world: World,
    log: Log,
    clients: Vec<Client>,
    answers: VecDeque<(SessionId, u32, History)>,
}

impl Story {
    fn new() -> Self {
        let clients = (0..4).map(|_| Client::default()).collect();
        Self { world: World::new(with_history()), log: Log::new(), clients, answers: VecDeque::new() }
    }

    fn read(&mut self) {
        for client in &mut self.clients {
            let Some(slot) = client.slot else { continue };
            for line in self.world.output(slot).lines() {
                client.take(&serde_json::from_str(line).expect("JSON"));
            }
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Publish => self.log.publish(),
            Step::PublishPlain => self.log.publish_plain(),
            Step::Deliver(count) => {
                let count = count.min(self.log.on_their_way.len());
                let batch: Vec<_> = self.log.on_their_way.drain(..count).collect();
                self.world.fan_out(&Topic::Channel(self.log.channel.clone()), &batch);
            }
            Step::Read => {
                if let Some((id, ticket, Request::History(_, query))) = self.world.questions.pop_front() {
                    self.answers.push_back((id, ticket, self.log.page(&query)));
                }
            }
            Step::AnswerNext => {
                if let Some((id, ticket, page)) = self.answers.pop_front() {
                    self.world.with(|hub, fx| hub.respond(id, ticket, Response::History(page), fx));
                }
            }
            Step::Come(who) => self.come(who),
            Step::Cut(who) => {
                let client = &mut self.clients[who];
                if let Some(slot) = client.slot.take() {
                    self.world.close(slot);
                }
                client.subscribed = false;
                client.asked = false;
                client.plain = None;
            }
            Step::Leave(who) => {
                let client = &mut self.clients[who];
                if let Some(slot) = client.slot.filter(|_| client.subscribed) {
                    self.world.input(slot, "{\"id\":3,\"unsubscribe\":{\"channel\":\"news\"}}\n");
                    client.subscribed = false;
                    client.plain = None;
                }
            }
        }
        self.read();
    }

    fn come(&mut self, who: usize) {
        let client = &mut self.clients[who];
        if client.subscribed || client.asked {
            return;
        }
        let slot = *client.slot.get_or_insert_with(|| {
            let slot = self.world.open();
            self.world.say(slot, "{\"id\":1,\"connect\":{}}\n");
            slot
        });
        let recover = if client.epoch.is_empty() {
            String::new()
        } else {
            format!(",\"recover\":true,\"offset\":{},\"epoch\":\"{}\"", client.seen, client.epoch)
        };
        client.asked = true;
        self.world.input(
            slot,
            format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"news\",\"recoverable\":true{recover}}}}}\n"),
        );
    }

    /// Everything comes to an end: who is there must have seen all of it.
    fn finish(&mut self) {
        for who in 0..self.clients.len() {
            self.come(who);
        }
        while !self.world.questions.is_empty() || !self.answers.is_empty() {
            self.run(&Step::Read);
            self.run(&Step::AnswerNext);
        }
        self.run(&Step::Deliver(usize::MAX));
        for client in &self.clients {
            assert!(client.subscribed);
            assert_eq!(client.seen, self.log.offset, "nobody is left behind");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_races_a_subscriber_sees_everything_once_or_is_told(steps in prop::collection::vec(step(), 0..120)) {
        let mut story = Story::new();
        for step in &steps {
            story.run(step);
        }
        story.finish();
    }
}

#[test]
fn a_position_is_in_every_answer_also_of_an_empty_channel() {
    let mut story = Story::new();
    story.come(0);
    story.run(&Step::Read);
    story.run(&Step::AnswerNext);
    let client = &story.clients[0];
    assert!(client.subscribed && client.epoch == "e1" && client.seen == 0);
}

#[test]
fn a_position_that_is_not_known_any_more_is_told_at_once() {
    let mut story = Story::new();
    story.come(0);
    story.run(&Step::Read);
    story.run(&Step::AnswerNext);
    story.run(&Step::Cut(0));
    for _ in 0..9 {
        story.run(&Step::Publish);
    }
    story.run(&Step::Deliver(9));
    story.come(0);
    story.run(&Step::Read);
    story.run(&Step::AnswerNext);
    assert!(story.clients[0].unrecovered && story.clients[0].seen == 9);
    // The channel was forgotten and begins anew.
    story.run(&Step::Cut(0));
    story.log.epoch = 2;
    story.log.offset = 0;
    story.log.window.clear();
    story.come(0);
    story.run(&Step::Read);
    story.run(&Step::AnswerNext);
    assert!(story.clients[0].unrecovered && story.clients[0].epoch == "e2");
}

#[test]
fn what_is_kept_for_a_subscribe_under_way_is_bounded_and_too_much_is_a_temporary_error() {
    let mut story = Story::new();
    story.world = World::new(Settings { recovery_bytes: 64, ..with_history() });
    story.come(0);
    for _ in 0..40 {
        story.run(&Step::Publish);
    }
    story.run(&Step::Deliver(40));
    let (id, ticket, _) = story.world.questions.pop_front().expect("the history is asked for");
    let page = History::Page(HistoryPage {
        position: Position { offset: 0, epoch: "e1".into() },
        publications: vec![],
    });
    story.world.with(|hub, fx| hub.respond(id, ticket, Response::History(page), fx));
    let slot = story.clients[0].slot.unwrap();
    let answer: Value = serde_json::from_str(&story.world.output(slot)).unwrap();
    assert_eq!(
        (answer["error"]["code"].as_u64(), answer["error"]["temporary"].as_bool()),
        (Some(100), Some(true))
    );
    let forgotten: BTreeMap<&str, bool> = [("news", story.world.wanted.is_empty())].into();
    assert!(forgotten["news"], "nobody is subscribed");
}
