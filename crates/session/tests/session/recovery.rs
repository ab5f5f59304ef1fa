//! Channels with a history: a subscriber gets every publication after its position once and in order, or a report that
//! this is not possible.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use tidings_hub::{NamespaceOptions, Namespaces, SessionId, Settings, Slot};
use tidings_session::{Request, Response};
use tidings_wire::{Channel, Position, Publication, Topic};
use tidings_wire::{History, HistoryPage, HistoryQuery};

use crate::test_hub::{TestHub, settings};

pub(crate) fn with_history() -> Settings {
    let options = NamespaceOptions {
        history_size: 5,
        history_ttl: Duration::from_secs(60),
        history_meta_ttl: Duration::from_secs(3600),
        ..NamespaceOptions::default()
    };
    Settings { namespaces: Namespaces::new(options, []), ..settings() }
}

/// A channel at the broker: its history, and its publications in transit to the shard.
struct Log {
    channel: Channel,
    epoch: u32,
    offset: u64,
    window: VecDeque<Arc<Publication>>,
    in_transit: VecDeque<Arc<Publication>>,
    plain: u64,
}

impl Log {
    fn new() -> Self {
        let channel = Channel::new("news").unwrap();
        Self { channel, epoch: 1, offset: 0, window: VecDeque::new(), in_transit: VecDeque::new(), plain: 0 }
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
        self.in_transit.push_back(publication);
    }

    /// A publication without a history.
    fn publish_plain(&mut self) {
        self.plain += 1;
        let publication = Publication::new(self.channel.clone(), format!("\"p{}\"", self.plain));
        self.in_transit.push_back(Arc::new(publication));
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

/// A client, and its expected state.
#[derive(Default)]
struct Client {
    slot: Option<Slot>,
    subscribed: bool,
    subscribing: bool,
    epoch: String,
    seen: u64,
    plain: Option<u64>,
    unrecovered: bool,
}

impl Client {
    fn receive(&mut self, line: &Value) {
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
                assert_eq!(self.seen, offset, "all missed publications");
            } else {
                assert!(reply.get("publications").is_none(), "all or nothing");
                self.unrecovered = reply["was_recovering"].as_bool().unwrap_or(false);
            }
            self.epoch = epoch;
            self.seen = offset;
            self.subscribed = true;
            self.subscribing = false;
        }
        if let Some(publication) = line.pointer("/push/pub") {
            assert!(self.subscribed, "no publication before the reply");
            match publication["offset"].as_u64() {
                Some(offset) => {
                    assert_eq!(offset, self.seen + 1, "each once and in order");
                    self.seen = offset;
                }
                None => {
                    let text = publication["data"].as_str().expect("a plain publication").to_owned();
                    let number: u64 = text[1..].parse().expect("its number");
                    assert!(
                        self.plain.is_none_or(|before| number == before + 1),
                        "plain publications as well"
                    );
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
    /// The broker reads for the oldest pending request; the response is in transit.
    Read,
    Respond,
    Subscribe(usize),
    Disconnect(usize),
    Unsubscribe(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Publish),
        2 => Just(Step::PublishPlain),
        4 => (1..4usize).prop_map(Step::Deliver),
        4 => Just(Step::Read),
        4 => Just(Step::Respond),
        4 => (0..4usize).prop_map(Step::Subscribe),
        2 => (0..4usize).prop_map(Step::Disconnect),
        1 => (0..4usize).prop_map(Step::Unsubscribe),
    ]
}

struct Scenario {
    test_hub: TestHub,
    log: Log,
    clients: Vec<Client>,
    responses: VecDeque<(SessionId, u32, History)>,
}

impl Scenario {
    fn new() -> Self {
        let clients = (0..4).map(|_| Client::default()).collect();
        Self { test_hub: TestHub::new(with_history()), log: Log::new(), clients, responses: VecDeque::new() }
    }

    fn read(&mut self) {
        for client in &mut self.clients {
            let Some(slot) = client.slot else { continue };
            for line in self.test_hub.output(slot).lines() {
                client.receive(&serde_json::from_str(line).expect("JSON"));
            }
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Publish => self.log.publish(),
            Step::PublishPlain => self.log.publish_plain(),
            Step::Deliver(count) => {
                let count = count.min(self.log.in_transit.len());
                let batch: Vec<_> = self.log.in_transit.drain(..count).collect();
                self.test_hub.fan_out(&Topic::Channel(self.log.channel.clone()), &batch);
            }
            Step::Read => {
                if let Some((id, ticket, Request::History(_, query))) =
                    self.test_hub.pending_requests.pop_front()
                {
                    self.responses.push_back((id, ticket, self.log.page(&query)));
                }
            }
            Step::Respond => {
                if let Some((id, ticket, page)) = self.responses.pop_front() {
                    self.test_hub.with(|hub, fx| hub.respond(id, ticket, Response::History(page), fx));
                }
            }
            Step::Subscribe(client_index) => self.subscribe(client_index),
            Step::Disconnect(client_index) => {
                let client = &mut self.clients[client_index];
                if let Some(slot) = client.slot.take() {
                    self.test_hub.close(slot);
                }
                client.subscribed = false;
                client.subscribing = false;
                client.plain = None;
            }
            Step::Unsubscribe(client_index) => {
                let client = &mut self.clients[client_index];
                if let Some(slot) = client.slot.filter(|_| client.subscribed) {
                    self.test_hub.input(slot, "{\"id\":3,\"unsubscribe\":{\"channel\":\"news\"}}\n");
                    client.subscribed = false;
                    client.plain = None;
                }
            }
        }
        self.read();
    }

    fn subscribe(&mut self, client_index: usize) {
        let client = &mut self.clients[client_index];
        if client.subscribed || client.subscribing {
            return;
        }
        let slot = *client.slot.get_or_insert_with(|| {
            let slot = self.test_hub.open();
            self.test_hub.exchange(slot, "{\"id\":1,\"connect\":{}}\n");
            slot
        });
        let recover = if client.epoch.is_empty() {
            String::new()
        } else {
            format!(",\"recover\":true,\"offset\":{},\"epoch\":\"{}\"", client.seen, client.epoch)
        };
        client.subscribing = true;
        self.test_hub.input(
            slot,
            format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"news\",\"recoverable\":true{recover}}}}}\n"),
        );
    }

    /// Delivers everything that is pending; then every client must have received every publication.
    fn finish(&mut self) {
        for client_index in 0..self.clients.len() {
            self.subscribe(client_index);
        }
        while !self.test_hub.pending_requests.is_empty() || !self.responses.is_empty() {
            self.run(&Step::Read);
            self.run(&Step::Respond);
        }
        self.run(&Step::Deliver(usize::MAX));
        for client in &self.clients {
            assert!(client.subscribed);
            assert_eq!(client.seen, self.log.offset, "every client has every publication");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_interleaving_delivers_each_publication_once_or_reports_a_gap(steps in prop::collection::vec(step(), 0..120)) {
        let mut scenario = Scenario::new();
        for step in &steps {
            scenario.run(step);
        }
        scenario.finish();
    }
}

#[test]
fn every_reply_contains_a_position_even_of_an_empty_channel() {
    let mut scenario = Scenario::new();
    scenario.subscribe(0);
    scenario.run(&Step::Read);
    scenario.run(&Step::Respond);
    let client = &scenario.clients[0];
    assert!(client.subscribed && client.epoch == "e1" && client.seen == 0);
}

#[test]
fn an_unknown_position_is_reported_at_once() {
    let mut scenario = Scenario::new();
    scenario.subscribe(0);
    scenario.run(&Step::Read);
    scenario.run(&Step::Respond);
    scenario.run(&Step::Disconnect(0));
    for _ in 0..9 {
        scenario.run(&Step::Publish);
    }
    scenario.run(&Step::Deliver(9));
    scenario.subscribe(0);
    scenario.run(&Step::Read);
    scenario.run(&Step::Respond);
    assert!(scenario.clients[0].unrecovered && scenario.clients[0].seen == 9);
    // The broker has lost the channel, which begins a new epoch.
    scenario.run(&Step::Disconnect(0));
    scenario.log.epoch = 2;
    scenario.log.offset = 0;
    scenario.log.window.clear();
    scenario.subscribe(0);
    scenario.run(&Step::Read);
    scenario.run(&Step::Respond);
    assert!(scenario.clients[0].unrecovered && scenario.clients[0].epoch == "e2");
}

#[test]
fn the_recording_for_a_subscribe_is_bounded_and_an_excess_is_a_temporary_error() {
    let mut scenario = Scenario::new();
    scenario.test_hub = TestHub::new(Settings { recovery_bytes: 64, ..with_history() });
    scenario.subscribe(0);
    for _ in 0..40 {
        scenario.run(&Step::Publish);
    }
    scenario.run(&Step::Deliver(40));
    let (id, ticket, _) = scenario.test_hub.pending_requests.pop_front().expect("a request for the history");
    let page = History::Page(HistoryPage {
        position: Position { offset: 0, epoch: "e1".into() },
        publications: vec![],
    });
    scenario.test_hub.with(|hub, fx| hub.respond(id, ticket, Response::History(page), fx));
    let slot = scenario.clients[0].slot.unwrap();
    let response: Value = serde_json::from_str(&scenario.test_hub.output(slot)).unwrap();
    assert_eq!(
        (response["error"]["code"].as_u64(), response["error"]["temporary"].as_bool()),
        (Some(100), Some(true))
    );
    let released: BTreeMap<&str, bool> = [("news", scenario.test_hub.subscribed_topics.is_empty())].into();
    assert!(released["news"], "the topic is released");
}
